package crmtest

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
)

// Kustomer answers like Kustomer (https://developer.kustomer.com). Key is the
// API key that it takes.
type Kustomer struct {
	Upstream
	Key    string
	AsList bool // the exact look-up answers a list of one, as some clients have seen
}

// ServeHTTP answers one request.
func (k *Kustomer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if k.begin(w, r) {
		return
	}
	refuse := func(status int, code, message string) {
		answer(w, status, object{"errors": []object{{"code": code, "message": message, "meta": object{}}}})
	}
	if r.Header.Get("Authorization") != "Bearer "+k.Key {
		refuse(http.StatusUnauthorized, "unauthorized", "Expired token")
		return
	}
	w.Header().Set("X-Ratelimit-Limit", "1000")
	w.Header().Set("X-Ratelimit-Remaining", "999")
	switch number, exact := strings.CutPrefix(r.URL.Path, "/v1/customers/phone="); {
	case exact && r.Method == http.MethodGet:
		if !strings.Contains(r.RequestURI, "phone=%2B") {
			k.complain("the + of the number is not encoded: %s", r.RequestURI)
		}
		found := k.owners(func(p string) bool { return p == number }, false)
		if len(found) == 0 {
			answer(w, http.StatusNotFound, object{"errors": []object{{
				"status": "404", "code": "not_found", "title": "Not Found", "detail": "no customer " + number, "source": object{"pointer": "/phone"}, "meta": object{},
			}}})
			return
		}
		if k.AsList {
			answer(w, http.StatusOK, object{"data": []object{kustomerObject(found[0])}})
			return
		}
		answer(w, http.StatusOK, object{"data": kustomerObject(found[0])})
	case r.URL.Path == "/v1/customers/search" && r.Method == http.MethodPost:
		k.search(w, r, refuse)
	case r.URL.Path == "/v1/auth/tokens/current":
		answer(w, http.StatusOK, object{"data": object{"type": "token", "id": "5f1e", "attributes": object{"name": "calltracker"}}})
	default:
		k.complain("there is no %s %s", r.Method, r.URL.Path)
		refuse(http.StatusNotFound, "not_found", "no such endpoint")
	}
}

// searchable is how the search wants numbers written.
var searchable = regexp.MustCompile(`^\+?[1-9]\d{1,14}$`)

func (k *Kustomer) search(w http.ResponseWriter, r *http.Request, refuse func(int, string, string)) {
	var query struct {
		QueryContext string                         `json:"queryContext"`
		Or           []map[string]map[string]string `json:"or"`
	}
	if err := json.NewDecoder(r.Body).Decode(&query); err != nil || query.QueryContext != "customer" {
		k.complain("this is no search for customers")
		refuse(http.StatusBadRequest, "bad_request", "Invalid request body or parameters.")
		return
	}
	var found []object
	for _, criterion := range query.Or {
		for attribute, condition := range criterion {
			number := condition["equals"]
			if !searchable.MatchString(number) {
				refuse(http.StatusBadRequest, "bad_request", "Invalid request body or parameters.")
				return
			}
			fits := func(p string) bool { return digits(p) == digits(number) }
			shared := attribute == "customer_shared_phone"
			for _, p := range k.owners(fits, shared) {
				found = append(found, kustomerObject(p)) // twice for who has it both ways
			}
		}
	}
	answer(w, http.StatusOK, object{
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
