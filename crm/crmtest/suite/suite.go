// Package suite is the behaviour that every driver of a CRM shows, run against
// CRMs of crmtest.
package suite

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"calltracker/crm"
	"calltracker/crm/crmtest"
	"calltracker/integration"
	"calltracker/phone"
)

// Subject is a driver under test, and a CRM of its kind that is made up.
type Subject struct {
	Driver   crm.Driver
	Upstream *crmtest.Upstream
	Handler  http.Handler
	Settings func(base string) integration.Settings // with good credentials
	Secret   string                                 // the name of the setting whose value must be kept secret
	Pages    string                                 // how pages for people begin
}

// Fault is one way in which a CRM fails, and what a driver makes of it.
type Fault struct {
	Name  string
	Serve http.HandlerFunc
	Kind  crm.Kind
	Wait  time.Duration // to be heeded; 0 for any
}

// Faults are all that the CRMs' documentation and their users tell of.
func Faults() []Fault {
	reply := func(status int, contentType, body string, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body)) // the client may have gone
		}
	}
	const text, page, jsonType = "text/plain", "text/html", "application/json"
	return []Fault{
		{"expired key", reply(401, jsonType, `{"errors":[{"code":"unauthorized","message":"Expired token"}]}`), crm.Unauthorized, 0},
		{"error as a text", reply(401, jsonType, `{"error":"Couldn't authenticate you"}`), crm.Unauthorized, 0},
		{"wrong key, without a body", reply(401, jsonType, ""), crm.Unauthorized, 0},
		{"payment required", reply(402, jsonType, ``), crm.Unauthorized, 0},
		{"missing role", reply(403, jsonType, `{"error":"Forbidden"}`), crm.Unauthorized, 0},
		{"missing role, as an object", reply(403, jsonType, `{"error":{"title":"Forbidden","message":"You do not have access to this page"}}`), crm.Unauthorized, 0},
		{"missing role, as a page", reply(403, page, "<html><body>Forbidden</body></html>"), crm.Unauthorized, 0},
		{"no such page", reply(404, jsonType, `{"errors":[{"status":"404","code":"not_found","title":"Not Found"}]}`), crm.Rejected, 0},
		{"error as an object", reply(400, jsonType, `{"error":{"title":"Invalid attribute","message":"no such page"}}`), crm.Rejected, 0},
		{"conflict", reply(409, jsonType, `{"error":"UpdateConflict","description":"changed meanwhile"}`), crm.Rejected, 0},
		{"invalid search", reply(422, jsonType, `{"error":"invalid","description":"Invalid search: why"}`), crm.Rejected, 0},
		{"limited, with a wait", reply(429, jsonType, `{"errors":[{"code":"rate_limited"}]}`, "Retry-After", "7"), crm.RateLimited, 7 * time.Second},
		{"limited, in plain text", reply(429, text, "You have exceeded the rate limit", "Retry-After", "3"), crm.RateLimited, 3 * time.Second},
		{"limited, as a page", reply(429, page, "<html><body>Slow down</body></html>", "Retry-After", "9"), crm.RateLimited, 9 * time.Second},
		{"limited, with a wait that cannot be read", reply(429, jsonType, `{}`, "Retry-After", "soon"), crm.RateLimited, time.Minute},
		{"limited, by the vendor's own header", reply(429, text, "", "RateLimit-Reset", "11"), crm.RateLimited, 11 * time.Second},
		{"limited, without a wait", reply(429, text, ""), crm.RateLimited, time.Minute},
		{"broken, as a page", reply(502, page, "<html><body>Bad gateway</body></html>"), crm.Unavailable, 0},
		{"broken, without a body", reply(500, jsonType, ""), crm.Unavailable, 0},
		{"search unavailable", reply(503, jsonType, `{"error":"unavailable","description":"Sorry"}`, "Retry-After", "2"), crm.Unavailable, 2 * time.Second},
		{"success without a body", reply(200, jsonType, ""), crm.Unavailable, 0},
		{"success with a page", reply(200, page, "<html>Sign in</html>"), crm.Unavailable, 0},
		{"success with a list", reply(200, jsonType, `["a"]`), crm.Unavailable, 0},
		{"sent elsewhere", reply(302, text, "", "Location", "http://elsewhere.example/"), crm.Unavailable, 0},
		{"an endless body", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(strings.Repeat(" ", 1<<16))); err != nil {
					return
				}
			}
		}, crm.Unavailable, 0},
		{"slow headers", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, crm.Unavailable, 0},
		{"a slow body", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"data":`)) // the client may have gone
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, crm.Unavailable, 0},
		{"success with an error", reply(200, jsonType, `"unavailable"`), crm.Unavailable, 0},
		{"a body that ends early", reply(200, jsonType, `{"data":[{"id":"1`, "Content-Length", "4000"), crm.Unavailable, 0},
		{"a connection that breaks", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, crm.Unavailable, 0},
		{"a connection that is reset", reset(""), crm.Unavailable, 0},
		{"a connection that is reset in the body", reset("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{"), crm.Unavailable, 0},
	}
}

// reset says something and then has the connection reset rather than closed.
func reset(said string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err) // the server of the suite can
		}
		defer func() { _ = connection.Close() }()
		_, _ = connection.Write([]byte(said)) // the client may have gone
		if tcp, ok := connection.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // what makes it a reset
		}
	}
}

// People are the customers that Run looks for.
func People() []crmtest.Person {
	return []crmtest.Person{
		{ID: "1001", Name: "Layla Haddad", Phones: []string{"+971501110001"}, Tags: []string{"vip", "arabic"}},
		{ID: "1002", Name: strings.Repeat("Long ", 200), Phones: []string{"+971501110002"}},
		{ID: "1003", Phones: []string{"+971501110003"}}, // no name
		{ID: "1004", Name: "First of two", Shared: []string{"+971501110004"}},
		{ID: "1005", Name: "Second of two", Shared: []string{"+971501110004"}},
		{ID: "1006", Name: "Another country", Phones: []string{"+966501110001"}}, // the same digits in the end
		{ID: "1007", Name: "As people write it", Phones: []string{"+971 (50) 111-0007"}},
		{ID: "1008", Name: "Twice", Phones: []string{"+971501110008"}, Shared: []string{"+971501110008"}},
	}
}

// Run tests a driver.
func Run(t *testing.T, s Subject) {
	s.Upstream.Put(People()...)
	server := httptest.NewServer(s.Handler)
	t.Cleanup(server.Close)
	settings, problems := s.Driver.CheckSettings(s.Settings(server.URL))
	if len(problems) > 0 {
		t.Fatalf("settings: %v", problems)
	}
	open := func(settings integration.Settings) crm.Client {
		connection, err := crm.Open("test", "", "", s.Driver, settings, http.DefaultTransport)
		if err != nil {
			t.Fatal(err)
		}
		return connection.Client
	}
	client := open(settings)
	t.Run("finds", func(t *testing.T) { s.finds(t, client) })
	for _, fault := range Faults() {
		t.Run(fault.Name, func(t *testing.T) { s.fails(t, client, fault, settings[s.Secret]) })
	}
	t.Run("away", func(t *testing.T) {
		gone := httptest.NewServer(s.Handler)
		gone.Close()
		away, _ := s.Driver.CheckSettings(s.Settings(gone.URL))
		if _, err := open(away).FindCustomers(t.Context(), number("0501110001")); crm.KindOf(err) != crm.Unavailable {
			t.Errorf("error %v", err)
		}
	})
	t.Run("checks its credentials", func(t *testing.T) {
		checker, ok := client.(crm.Checker)
		if !ok {
			t.Fatal("it is no crm.Checker")
		}
		if err := checker.Check(t.Context()); err != nil {
			t.Errorf("good ones: %v", err)
		}
		wrong, _ := s.Driver.CheckSettings(s.Settings(server.URL))
		wrong[s.Secret] = "another"
		if err := open(wrong).(crm.Checker).Check(t.Context()); crm.KindOf(err) != crm.Unauthorized {
			t.Errorf("wrong ones: %v", err)
		}
	})
	for _, request := range s.Upstream.Misunderstood() {
		t.Errorf("not as the CRM wants it: %s", request)
	}
}

func number(raw string) phone.Number { return phone.Parse(raw, "AE") }

func (s Subject) finds(t *testing.T, client crm.Client) {
	for raw, want := range map[string][]string{
		"0501110001": {"1001"}, "+971501110002": {"1002"}, "00971501110003": {"1003"}, "0501110004": {"1004", "1005"}, "0501119999": nil, "+966501110001": {"1006"},
		"+971501110007": {"1007"}, "+971501110008": {"1008"},
	} {
		found, err := client.FindCustomers(t.Context(), number(raw))
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		var ids []string
		for _, c := range found {
			ids = append(ids, c.ID)
			if !strings.HasPrefix(c.URL, s.Pages) || !strings.HasSuffix(c.URL, c.ID) || c.MatchedBy == "" {
				t.Errorf("%s: customer %+v", raw, c)
			}
		}
		if strings.Join(ids, " ") != strings.Join(want, " ") {
			t.Errorf("%s: found %v, want %v", raw, ids, want)
		}
	}
	if found, err := client.FindCustomers(t.Context(), number("0501110001")); err != nil || len(found) != 1 || found[0].Name != "Layla Haddad" || len(found[0].Tags) != 2 {
		t.Errorf("found %+v, %v", found, err)
	}
	if url := client.SearchURL(number("0501110001")); !strings.HasPrefix(url, s.Pages) {
		t.Errorf("search at %q", url)
	}
}

func (s Subject) fails(t *testing.T, client crm.Client, fault Fault, secret string) {
	s.Upstream.Break(fault.Serve)
	defer s.Upstream.Break(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if fault.Kind != crm.Unavailable { // these are answered at once
		ctx = t.Context()
	}
	_, err := client.FindCustomers(ctx, number("0501110001"))
	var failure *crm.Error
	if !errors.As(err, &failure) || failure.Kind != fault.Kind {
		t.Fatalf("error %v, want %s", err, fault.Kind)
	}
	if fault.Wait > 0 && failure.RetryAfter != fault.Wait {
		t.Errorf("waits %s, want %s", failure.RetryAfter, fault.Wait)
	}
	if text := err.Error(); strings.Contains(text, "501110001") || strings.Contains(text, secret) || strings.Contains(text, "<html") {
		t.Errorf("the error tells too much: %s", text)
	}
}
