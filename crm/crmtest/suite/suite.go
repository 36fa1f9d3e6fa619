// Package suite contains the tests that every CRM driver must pass. They run
// against the simulated CRMs of package crmtest.
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

// Subject is a driver under test and the simulated CRM that it connects to.
type Subject struct {
	Driver   crm.Driver
	Upstream *crmtest.Upstream
	Handler  http.Handler
	Settings func(base string) integration.Settings // settings with valid credentials
	Secret   string                                 // name of a setting with credentials; errors must not contain its value
	Pages    string                                 // prefix of all pages for agents
}

// Fault is a failure of a CRM and the error that a driver must return for it.
type Fault struct {
	Name       string
	Serve      http.HandlerFunc
	Kind       crm.Kind
	RetryAfter time.Duration // of the error; 0 accepts any value
}

// Faults returns the failures that the documentation of the CRMs describes or that
// their users report.
func Faults() []Fault {
	respond := func(status int, contentType, body string, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body)) // the client may have disconnected
		}
	}
	const text, page, jsonType = "text/plain", "text/html", "application/json"
	return []Fault{
		{"expired key", respond(401, jsonType, `{"errors":[{"code":"unauthorized","message":"Expired token"}]}`), crm.Unauthorized, 0},
		{"error as a string", respond(401, jsonType, `{"error":"Couldn't authenticate you"}`), crm.Unauthorized, 0},
		{"wrong key, without a body", respond(401, jsonType, ""), crm.Unauthorized, 0},
		{"payment required", respond(402, jsonType, ``), crm.Unauthorized, 0},
		{"missing role", respond(403, jsonType, `{"error":"Forbidden"}`), crm.Unauthorized, 0},
		{"missing role, as an object", respond(403, jsonType, `{"error":{"title":"Forbidden","message":"You do not have access to this page"}}`), crm.Unauthorized, 0},
		{"missing role, as HTML", respond(403, page, "<html><body>Forbidden</body></html>"), crm.Unauthorized, 0},
		{"not found", respond(404, jsonType, `{"errors":[{"status":"404","code":"not_found","title":"Not Found"}]}`), crm.Rejected, 0},
		{"error as an object", respond(400, jsonType, `{"error":{"title":"Invalid attribute","message":"unknown page"}}`), crm.Rejected, 0},
		{"conflict", respond(409, jsonType, `{"error":"UpdateConflict","description":"changed meanwhile"}`), crm.Rejected, 0},
		{"invalid search", respond(422, jsonType, `{"error":"invalid","description":"Invalid search: why"}`), crm.Rejected, 0},
		{"rate limited, with Retry-After", respond(429, jsonType, `{"errors":[{"code":"rate_limited"}]}`, "Retry-After", "7"), crm.RateLimited, 7 * time.Second},
		{"rate limited, as plain text", respond(429, text, "You have exceeded the rate limit", "Retry-After", "3"), crm.RateLimited, 3 * time.Second},
		{"rate limited, as HTML", respond(429, page, "<html><body>Slow down</body></html>", "Retry-After", "9"), crm.RateLimited, 9 * time.Second},
		{"rate limited, with an invalid Retry-After", respond(429, jsonType, `{}`, "Retry-After", "soon"), crm.RateLimited, time.Minute},
		{"rate limited, with the vendor's header", respond(429, text, "", "RateLimit-Reset", "11"), crm.RateLimited, 11 * time.Second},
		{"rate limited, without Retry-After", respond(429, text, ""), crm.RateLimited, time.Minute},
		{"server error, as HTML", respond(502, page, "<html><body>Bad gateway</body></html>"), crm.Unavailable, 0},
		{"server error, without a body", respond(500, jsonType, ""), crm.Unavailable, 0},
		{"search unavailable", respond(503, jsonType, `{"error":"unavailable","description":"Sorry"}`, "Retry-After", "2"), crm.Unavailable, 2 * time.Second},
		{"success without a body", respond(200, jsonType, ""), crm.Unavailable, 0},
		{"success with HTML", respond(200, page, "<html>Sign in</html>"), crm.Unavailable, 0},
		{"success with a list", respond(200, jsonType, `["a"]`), crm.Unavailable, 0},
		{"redirect", respond(302, text, "", "Location", "http://elsewhere.example/"), crm.Unavailable, 0},
		{"an endless body", func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(strings.Repeat(" ", 1<<16))); err != nil {
					return
				}
			}
		}, crm.Unavailable, 0},
		{"slow headers", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, crm.Unavailable, 0},
		{"a slow body", func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"data":`)) // the client may have disconnected
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, crm.Unavailable, 0},
		{"success with an error", respond(200, jsonType, `"unavailable"`), crm.Unavailable, 0},
		{"a truncated body", respond(200, jsonType, `{"data":[{"id":"1`, "Content-Length", "4000"), crm.Unavailable, 0},
		{"an aborted connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, crm.Unavailable, 0},
		{"a reset connection", reset(""), crm.Unavailable, 0},
		{"a connection reset in the body", reset("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n{"), crm.Unavailable, 0},
	}
}

// reset sends text and then resets the connection.
func reset(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err) // httptest.Server supports it
		}
		defer func() { _ = connection.Close() }()
		_, _ = connection.Write([]byte(text)) // the client may have disconnected
		if tcp, ok := connection.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // makes Close send a reset
		}
	}
}

// People returns the customers that Run looks up.
func People() []crmtest.Person {
	return []crmtest.Person{
		{ID: "1001", Name: "Layla Haddad", Phones: []string{"+971501110001"}, Tags: []string{"vip", "arabic"}},
		{ID: "1002", Name: strings.Repeat("Long ", 200), Phones: []string{"+971501110002"}},
		{ID: "1003", Phones: []string{"+971501110003"}}, // no name
		{ID: "1004", Name: "First of two", Shared: []string{"+971501110004"}},
		{ID: "1005", Name: "Second of two", Shared: []string{"+971501110004"}},
		{ID: "1006", Name: "Another country", Phones: []string{"+966501110001"}}, // ends in the same digits
		{ID: "1007", Name: "Formatted", Phones: []string{"+971 (50) 111-0007"}},
		{ID: "1008", Name: "Twice", Phones: []string{"+971501110008"}, Shared: []string{"+971501110008"}},
	}
}

// Run runs the tests for one driver.
func Run(t *testing.T, s Subject) {
	s.Upstream.Add(People()...)
	server := httptest.NewServer(s.Handler)
	t.Cleanup(server.Close)
	settings, problems := s.Driver.CheckSettings(s.Settings(server.URL))
	if len(problems) > 0 {
		t.Fatalf("CheckSettings: %v", problems)
	}
	open := func(settings integration.Settings) crm.Client {
		connection, err := crm.Open("test", "", "", s.Driver, settings, http.DefaultTransport)
		if err != nil {
			t.Fatal(err)
		}
		return connection.Client
	}
	client := open(settings)
	t.Run("lookup", func(t *testing.T) { s.testLookup(t, client) })
	for _, fault := range Faults() {
		t.Run(fault.Name, func(t *testing.T) { s.testFault(t, client, fault, settings[s.Secret]) })
	}
	t.Run("connection refused", func(t *testing.T) {
		stopped := httptest.NewServer(s.Handler)
		stopped.Close()
		settings, _ := s.Driver.CheckSettings(s.Settings(stopped.URL))
		if _, err := open(settings).FindCustomers(t.Context(), number("0501110001")); crm.KindOf(err) != crm.Unavailable {
			t.Errorf("FindCustomers() error = %v, want kind unavailable", err)
		}
	})
	t.Run("credentials check", func(t *testing.T) {
		checker, ok := client.(crm.Checker)
		if !ok {
			t.Fatal("the client does not implement crm.Checker")
		}
		if err := checker.Check(t.Context()); err != nil {
			t.Errorf("Check() with valid credentials = %v, want nil", err)
		}
		wrong, _ := s.Driver.CheckSettings(s.Settings(server.URL))
		wrong[s.Secret] = "invalid"
		if err := open(wrong).(crm.Checker).Check(t.Context()); crm.KindOf(err) != crm.Unauthorized {
			t.Errorf("Check() with invalid credentials = %v, want kind unauthorized", err)
		}
	})
	for _, request := range s.Upstream.InvalidRequests() {
		t.Errorf("invalid request: %s", request)
	}
}

func number(raw string) phone.Number { return phone.Parse(raw, "AE") }

func (s Subject) testLookup(t *testing.T, client crm.Client) {
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
				t.Errorf("%s: invalid URL or MatchedBy: %+v", raw, c)
			}
		}
		if strings.Join(ids, " ") != strings.Join(want, " ") {
			t.Errorf("%s: found %v, want %v", raw, ids, want)
		}
	}
	if found, err := client.FindCustomers(t.Context(), number("0501110001")); err != nil || len(found) != 1 || found[0].Name != "Layla Haddad" || len(found[0].Tags) != 2 {
		t.Errorf("FindCustomers() = %+v, %v, want Layla Haddad with two tags", found, err)
	}
	if got := client.SearchURL(number("0501110001")); !strings.HasPrefix(got, s.Pages) {
		t.Errorf("SearchURL() = %q, want prefix %q", got, s.Pages)
	}
}

func (s Subject) testFault(t *testing.T, client crm.Client, fault Fault, secret string) {
	s.Upstream.SetFault(fault.Serve)
	defer s.Upstream.SetFault(nil)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if fault.Kind != crm.Unavailable { // the CRM responds immediately
		ctx = t.Context()
	}
	_, err := client.FindCustomers(ctx, number("0501110001"))
	var failure *crm.Error
	if !errors.As(err, &failure) || failure.Kind != fault.Kind {
		t.Fatalf("FindCustomers() error = %v, want kind %s", err, fault.Kind)
	}
	if fault.RetryAfter > 0 && failure.RetryAfter != fault.RetryAfter {
		t.Errorf("RetryAfter = %s, want %s", failure.RetryAfter, fault.RetryAfter)
	}
	if text := err.Error(); strings.Contains(text, "501110001") || strings.Contains(text, secret) || strings.Contains(text, "<html") {
		t.Errorf("error contains the number, the credentials, or HTML: %s", text)
	}
}
