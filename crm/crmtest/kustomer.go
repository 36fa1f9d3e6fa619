package crmtest

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

// Kustomer simulates Kustomer (https://developer.kustomer.com).
type Kustomer struct {
	Upstream
	Key    string // valid API key
	AsList bool   // respond to the exact lookup with a list of one, as some clients have seen
}

// ServeHTTP responds to one request.
func (k *Kustomer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if k.begin(w, r) {
		return
	}
	fail := func(status int, code, message string) {
		respond(w, status, object{"errors": []object{{"code": code, "message": message, "meta": object{}}}})
	}
	if r.Header.Get("Authorization") != "Bearer "+k.Key {
		fail(http.StatusUnauthorized, "unauthorized", "Expired token")
		return
	}
	w.Header().Set("X-Ratelimit-Limit", "1000")
	w.Header().Set("X-Ratelimit-Remaining", "999")
	switch number, exact := strings.CutPrefix(r.URL.Path, "/v1/customers/phone="); {
	case exact && r.Method == http.MethodGet:
		if !strings.Contains(r.RequestURI, "phone=%2B") {
			k.reportInvalid("unencoded + in %s", r.RequestURI)
		}
		found := k.owners(func(p string) bool { return p == number }, false)
		if len(found) == 0 {
			respond(w, http.StatusNotFound, object{"errors": []object{{
				"status": "404", "code": "not_found", "title": "Not Found", "detail": "no customer " + number, "source": object{"pointer": "/phone"}, "meta": object{},
			}}})
			return
		}
		if k.AsList {
			respond(w, http.StatusOK, object{"data": []object{kustomerObject(found[0])}})
			return
		}
		respond(w, http.StatusOK, object{"data": kustomerObject(found[0])})
	case r.URL.Path == "/v1/customers/search" && r.Method == http.MethodPost:
		k.search(w, r, fail)
	case r.URL.Path == "/v1/auth/tokens/current":
		respond(w, http.StatusOK, object{"data": object{"type": "token", "id": "5f1e", "attributes": object{"name": "calltracker"}}})
	default:
		k.reportInvalid("unknown endpoint %s %s", r.Method, r.URL.Path)
		fail(http.StatusNotFound, "not_found", "no such endpoint")
	}
}

// searchable matches the numbers that the search accepts.
var searchable = regexp.MustCompile(`^\+?[1-9]\d{1,14}$`)

func (k *Kustomer) search(w http.ResponseWriter, r *http.Request, fail func(int, string, string)) {
	var query struct {
		QueryContext string                         `json:"queryContext"`
		Or           []map[string]map[string]string `json:"or"`
	}
	if err := json.NewDecoder(r.Body).Decode(&query); err != nil || query.QueryContext != "customer" {
		k.reportInvalid("invalid search: want queryContext customer")
		fail(http.StatusBadRequest, "bad_request", "Invalid request body or parameters.")
		return
	}
	var found []object
	for _, criterion := range query.Or {
		for attribute, condition := range criterion {
			number := condition["equals"]
			if !searchable.MatchString(number) {
				fail(http.StatusBadRequest, "bad_request", "Invalid request body or parameters.")
				return
			}
			matches := func(p string) bool { return digits(p) == digits(number) }
			shared := attribute == "customer_shared_phone"
			for _, p := range k.owners(matches, shared) {
				found = append(found, kustomerObject(p)) // a customer can match both criteria
			}
		}
	}
	respond(w, http.StatusOK, object{
		"meta": object{"pageSize": 20, "page": 1, "total": len(found), "totalPages": 1}, "links": object{"next": nil}, "data": found,
	})
}

func kustomerObject(p Person) object {
	phones := func(numbers []string) []object {
		out := []object{}
		for _, n := range numbers {
			out = append(out, object{"phone": n, "verified": true, "type": "mobile", "id": nil})
		}
		return out
	}
	tags := p.Tags
	if tags == nil {
		tags = []string{}
	}
	return object{
		"type": "customer", "id": p.ID,
		"attributes": object{
			"name": nullable(p.Name), "displayName": nullable(p.Name), "phones": phones(p.Phones), "sharedPhones": phones(p.Shared),
			"emails": []object{}, "tags": tags, "deleted": false, "preview": object{}, "custom": object{"visitsNum": 3}, "birthdayAt": nil, "somethingNew": []int{1},
		},
		"relationships": object{"org": object{"data": object{"type": "org", "id": "9"}}},
		"links":         object{"self": "/v1/customers/" + p.ID},
	}
}
