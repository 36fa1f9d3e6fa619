package crmtest

import (
	"net/http"
	"strconv"
	"strings"
)

// Zendesk simulates Zendesk Support
// (https://developer.zendesk.com/api-reference/). It accepts Email with Token, or
// AccessToken.
type Zendesk struct {
	Upstream
	Email, Token string
	AccessToken  string
}

// ServeHTTP responds to one request.
func (z *Zendesk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if z.begin(w, r) {
		return
	}
	user, password, basic := r.BasicAuth()
	known := basic && user == z.Email+"/token" && password == z.Token ||
		z.AccessToken != "" && r.Header.Get("Authorization") == "Bearer "+z.AccessToken
	if path := strings.TrimSuffix(r.URL.Path, ".json"); path == "/api/v2/users/me" {
		if !known { // Zendesk responds to invalid credentials, too
			respond(w, http.StatusOK, object{"user": object{"id": nil, "name": "Anonymous user", "role": "end-user"}})
			return
		}
		respond(w, http.StatusOK, object{"user": object{"id": 11, "name": "Bot", "role": "admin"}})
		return
	}
	if !known {
		respond(w, http.StatusUnauthorized, object{"error": "Couldn't authenticate you"})
		return
	}
	w.Header().Set("X-Rate-Limit", "700")
	w.Header().Set("X-Rate-Limit-Remaining", "699")
	path := strings.TrimSuffix(r.URL.Path, ".json")
	switch {
	case path == "/api/v2/search":
		z.search(w, r)
	case strings.HasPrefix(path, "/api/v2/users/") && strings.HasSuffix(path, "/identities"):
		z.identities(w, strings.TrimSuffix(strings.TrimPrefix(path, "/api/v2/users/"), "/identities"))
	default:
		z.reportInvalid("unknown endpoint %s %s", r.Method, r.URL.Path)
		respond(w, http.StatusNotFound, object{"error": "RecordNotFound", "description": "Not found"})
	}
}

// search understands "role:end-user phone:*DIGITS", which matches numbers that end
// in these digits.
func (z *Zendesk) search(w http.ResponseWriter, r *http.Request) {
	end := ""
	for word := range strings.FieldsSeq(r.URL.Query().Get("query")) {
		if number, ok := strings.CutPrefix(word, "phone:"); ok {
			wildcard := strings.HasPrefix(number, "*")
			end = strings.TrimPrefix(number, "*")
			if !wildcard || digits(end) != end {
				z.reportInvalid("invalid search term %s: use * and digits", word)
			}
		} else if word != "role:end-user" && word != "type:user" {
			z.reportInvalid("unknown search term %q", word)
		}
	}
	results := []object{}
	if end != "" {
		for _, p := range z.owners(func(n string) bool { return strings.HasSuffix(digits(n), end) }, true) {
			results = append(results, zendeskUser(p))
		}
	}
	if len(results) > 0 {
		results = append(results, results[0]) // Zendesk can repeat results
	}
	respond(w, http.StatusOK, object{"results": results, "facets": nil, "next_page": nil, "previous_page": nil, "count": len(results)})
}

func (z *Zendesk) identities(w http.ResponseWriter, id string) {
	z.mutex.Lock()
	defer z.mutex.Unlock()
	list := []object{{"type": "email", "value": "someone@example.com", "primary": true}}
	for _, p := range z.people {
		if p.ID == id {
			for _, n := range append(append([]string(nil), p.Phones...), p.Shared...) {
				list = append(list, object{"type": "phone_number", "value": n, "verified": true})
			}
		}
	}
	respond(w, http.StatusOK, object{"identities": list, "next_page": nil, "count": len(list)})
}

func zendeskUser(p Person) object {
	id, _ := strconv.ParseInt(p.ID, 10, 64) // Person.ID contains only digits
	first := ""
	if all := append(append([]string(nil), p.Phones...), p.Shared...); len(all) > 0 {
		first = all[0]
	}
	return object{
		"id": id, "url": "https://example.zendesk.com/api/v2/users/" + p.ID + ".json", "name": nullable(p.Name), "email": nil, "phone": nullable(first),
		"shared_phone_number": len(p.Shared) > 0, "role": "end-user", "active": true, "tags": p.Tags, "user_fields": object{"nickname": nil},
		"organization_id": nil, "photo": nil, "result_type": "user", "something_new": object{"a": 1},
	}
}
