package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"calltracker/crm"
	"calltracker/handlers/connections"
	"calltracker/integration"
	"calltracker/phone"
	"calltracker/server/httpapi"
	"calltracker/storage"
)

// addressBook is a minimal CRM driver that calls an addressBookServer over HTTP.
var addressBook = crm.Driver{
	Name: "books", Label: "Address book",
	Fields: integration.Fields{
		{Name: "base_url", Label: "address", Help: "https://host", Required: true, Pattern: `https?://.+`},
		{Name: "api_key", Label: "key", Required: true, Secret: true},
	},
	Budgets:  []crm.Budget{{Name: "requests", Requests: 600, Per: time.Minute}},
	AgentURL: func(integration.Settings) string { return "https://books.example" },
	Open: func(s integration.Settings, h *http.Client) (crm.Client, error) {
		return &addressBookClient{base: s["base_url"], key: s["api_key"], http: h}, nil
	},
}

type addressBookClient struct {
	base, key string
	http      *http.Client
}

func (c *addressBookClient) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return &crm.Error{Kind: crm.Rejected, Err: err}
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	res, err := c.http.Do(req)
	if err != nil {
		return &crm.Error{Kind: crm.Unavailable, Message: "unreachable", Err: err}
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
		if err := json.NewDecoder(res.Body).Decode(into); err != nil {
			return &crm.Error{Kind: crm.Unavailable, Err: err}
		}
		return nil
	case http.StatusUnauthorized:
		return &crm.Error{Kind: crm.Unauthorized, Status: 401, Message: "wrong key"}
	default:
		return &crm.Error{Kind: crm.Unavailable, Status: res.StatusCode, Message: "server error"}
	}
}

func (c *addressBookClient) FindCustomers(ctx context.Context, n phone.Number) ([]crm.Customer, error) {
	var customers []crm.Customer
	err := c.get(ctx, "/find?n="+url.QueryEscape(n.E164), &customers)
	return customers, err
}

func (c *addressBookClient) Check(ctx context.Context) error { return c.get(ctx, "/check", new(any)) }

func (c *addressBookClient) SearchURL(n phone.Number) string {
	return "https://books.example/search?n=" + url.QueryEscape(n.E164)
}

// addressBookServer is an account of the addressBook CRM. Its only customer is Layla,
// whose number is 050 123 4567.
type addressBookServer struct {
	*httptest.Server
	requests atomic.Int64
	handler  atomic.Pointer[http.HandlerFunc] // replaces the default answers unless nil
}

const addressBookKey = "books-key-7c21"

func newAddressBook(t *testing.T) *addressBookServer {
	t.Helper()
	b := &addressBookServer{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.requests.Add(1)
		handler := b.handler.Load()
		switch {
		case handler != nil:
			(*handler)(w, r)
		case r.Header.Get("Authorization") != "Bearer "+addressBookKey:
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Query().Get("n") == "+971501234567":
			_, _ = w.Write([]byte(`[{"id":"c-1","name":"Layla","url":"https://books.example/c-1","matchedBy":"phone","phones":["0501234567"],"tags":["vip"]}]`))
		default:
			_, _ = w.Write([]byte(`[]`))
		}
	}))
	t.Cleanup(b.Close)
	return b
}

// respondWith makes handler answer all requests from now on.
func (b *addressBookServer) respondWith(handler http.HandlerFunc) { b.handler.Store(&handler) }

// addressBookDocument is document plus a connection to each account, named a, b, and so on.
func addressBookDocument(accounts ...*addressBookServer) string {
	text := document + "connections:\n"
	for i, b := range accounts {
		name := string(rune('a' + i))
		text += "  " + name + ": {driver: books, label: Account " + name + ", settings: {base_url: \"" + b.URL + "\", api_key: " + addressBookKey + "}}\n"
	}
	return text
}

// serveWithAddressBook starts a server with the addressBook driver.
func serveWithAddressBook(t *testing.T, document string) *harness {
	t.Helper()
	return serveWith(t, t.TempDir(), document, func(set *settings) { set.drivers = []crm.Driver{addressBook} })
}

// connections lists the connections and checks that the list contains no key.
func (h *harness) connections() []connections.View {
	h.t.Helper()
	got := h.get("/api/v1/connections").want(h.t, 200)
	if strings.Contains(got.body, addressBookKey) {
		h.t.Errorf("list contains the key: %s", got.body)
	}
	return into[connections.List](h.t, got).Connections
}

func (h *harness) testConnection(name, body string) response {
	h.t.Helper()
	return h.do(request{
		method: "POST", path: "/api/v1/connections/" + name + "/test", admin: true, body: body,
		header: map[string]string{"Content-Type": "application/json"},
	})
}

func TestConnectionsAreListedAndTested(t *testing.T) {
	a, b := newAddressBook(t), newAddressBook(t)
	h := serveWithAddressBook(t, addressBookDocument(a, b))
	list := h.connections()
	if len(list) != 2 || list[0].Name != "a" || list[0].Label != "Account a" || list[0].State != "unused" || list[0].Breaker != "closed" ||
		len(list[0].Budgets) != 1 || list[0].Budgets[0] != (connections.BudgetView{Name: "requests", Requests: 600, Seconds: 60, Left: 60, Burst: 60}) {
		t.Errorf("connections %+v, want a with its label and a full budget, and b, both unused", list)
	}
	got := into[connections.TestResult](t, h.testConnection("a", `{"number":"050 123 4567"}`).want(t, 200))
	if !got.OK || got.State != "found" || len(got.Customers) != 1 ||
		got.Customers[0] != (storage.Customer{Connection: "a", ID: "c-1", Name: "Layla", URL: "https://books.example/c-1", MatchedBy: "phone"}) {
		t.Errorf("test with Layla's number: %+v", got)
	}
	if got := into[connections.TestResult](t, h.testConnection("a", `{"number":"+971509999999"}`).want(t, 200)); !got.OK || got.State != "none" || got.SearchURL == "" {
		t.Errorf("test with an unknown number: %+v", got)
	}
	if got := into[connections.TestResult](t, h.testConnection("a", `{}`).want(t, 200)); !got.OK || got.State != "skipped" {
		t.Errorf("test without a number: %+v", got)
	}
	h.testConnection("a", `{"number":"0026"}`).want(t, 422)
	h.testConnection("c", `{}`).want(t, 404)
	if list := h.connections(); list[0].State != "ok" || list[0].LastSuccess == nil || list[1].State != "unused" {
		t.Errorf("connections after a successful test: %+v", list)
	}

	b.respondWith(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	for range 3 {
		got := into[connections.TestResult](t, h.testConnection("b", `{"number":"+971501234567"}`).want(t, 200))
		if got.OK || got.State != "unavailable" || got.Error == nil || got.Error.Status != 502 || got.Check == nil {
			t.Errorf("test of a failing account: %+v", got)
		}
	}
	if list := h.connections(); list[1].State != "failing" || list[1].Breaker != "open" || list[1].LastError == nil || list[1].LastError.Kind != "unavailable" {
		t.Errorf("connection of a failing account: %+v", list[1])
	}
	body := h.do(request{method: "GET", path: "/metrics"}).body
	for _, line := range []string{
		`calltracker_crm_lookups_total{connection="a",outcome="ok"} 2`, `calltracker_crm_breaker_open{connection="b"} 1`,
		`calltracker_crm_breaker_open{connection="a"} 0`, `calltracker_crm_budget_left{budget="requests",connection="a"}`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("metrics do not contain %s", line)
		}
	}
	b.handler.Store(nil)
	if got := into[connections.TestResult](t, h.testConnection("b", `{"number":"+971501234567"}`).want(t, 200)); !got.OK {
		t.Errorf("test of a recovered account: %+v", got)
	}
	if list := h.connections(); list[1].State != "ok" || list[1].Breaker != "closed" {
		t.Errorf("connection after recovery: %+v", list[1])
	}
	if strings.Contains(h.log.String(), addressBookKey) {
		t.Error("log contains the key")
	}
}

func TestConnectionTestReportsWrongKey(t *testing.T) {
	h := serveWithAddressBook(t, strings.Replace(addressBookDocument(newAddressBook(t)), addressBookKey, "wrong", 1))
	got := into[connections.TestResult](t, h.testConnection("a", `{"number":"+971501234567"}`).want(t, 200))
	if got.OK || got.Check == nil || got.Check.Kind != "unauthorized" || got.Check.Message != "wrong key" {
		t.Errorf("test result %+v, want an unauthorized check", got)
	}
}

func TestConnectionsFollowTheConfiguration(t *testing.T) {
	a, b := newAddressBook(t), newAddressBook(t)
	h := serveWithAddressBook(t, addressBookDocument(a))
	h.testConnection("a", `{"number":"+971501234567"}`).want(t, 200)
	put := func(text string, status int) response {
		t.Helper()
		return h.putConfig("", "*", "application/yaml", text).want(t, status)
	}
	put(addressBookDocument(a, b)+"# more\n", 200)
	if list := h.connections(); len(list) != 2 || list[0].LastSuccess == nil {
		t.Errorf("connections after adding b: %+v, want a with its last success", list)
	}
	put(strings.Replace(addressBookDocument(a), a.URL, b.URL, 1), 200)
	if list := h.connections(); len(list) != 1 || list[0].LastSuccess != nil {
		t.Errorf("connections after changing the settings of a: %+v, want a without a last success", list)
	}
	before := b.requests.Load()
	h.testConnection("a", `{"number":"+971501234567"}`).want(t, 200)
	if b.requests.Load() == before {
		t.Error("new account received no request")
	}
	put(document, 200)
	if list := h.connections(); len(list) != 0 {
		t.Errorf("connections %+v, want none", list)
	}
	bad := put(document+"connections:\n  a:\n    driver: books\n    settings:\n      base_url: ftp://x\n      shade: red\n", 422)
	problem := into[httpapi.Problem](t, bad)
	want := map[string]string{
		"connections.a.settings.base_url": "invalid base_url for books: use https://host",
		"connections.a.settings.api_key":  "books requires api_key (key)",
		"connections.a.settings.shade":    "unknown setting for books: use base_url, api_key",
	}
	for _, e := range problem.Errors {
		if want[e.Path] == e.Message && e.Line > 0 && e.Column > 0 {
			delete(want, e.Path)
		}
	}
	if len(want) > 0 {
		t.Errorf("missing problems %v in %s", want, bad.body)
	}
}

// TestMisconfiguredConnectionDoesNotBlockCalls starts a server without the secret
// of a CRM. The server must still answer calls.
func TestMisconfiguredConnectionDoesNotBlockCalls(t *testing.T) {
	t.Setenv("BOOKS_KEY", addressBookKey)
	dir, a := t.TempDir(), newAddressBook(t)
	withDriver := func(set *settings) { set.drivers = []crm.Driver{addressBook} }
	h := serveWith(t, dir, strings.Replace(addressBookDocument(a), addressBookKey, `"${env:BOOKS_KEY}"`, 1), withDriver)
	h.stop()
	t.Setenv("BOOKS_KEY", "")
	h = serveWith(t, dir, "", withDriver)
	h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	if list := h.connections(); len(list) != 1 || list[0].State != "misconfigured" || list[0].LastError == nil {
		t.Errorf("connections %+v, want one that is misconfigured", list)
	}
	if got := into[connections.TestResult](t, h.testConnection("a", `{"number":"+971501234567"}`).want(t, 200)); got.OK || got.Check == nil {
		t.Errorf("test of a misconfigured connection: %+v", got)
	}
}
