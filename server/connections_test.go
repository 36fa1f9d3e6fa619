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

// books is a CRM for tests of the server, over real HTTP.
var books = crm.Driver{
	Name: "books", Label: "Address books",
	Fields: integration.Fields{
		{Name: "base_url", Label: "address", Help: "https://host", Required: true, Pattern: `https?://.+`},
		{Name: "api_key", Label: "key", Required: true, Secret: true},
	},
	Budgets:  []crm.Budget{{Name: "requests", Requests: 600, Per: time.Minute}},
	AgentURL: func(integration.Settings) string { return "https://books.example" },
	Open: func(s integration.Settings, h *http.Client) (crm.Client, error) {
		return &booksClient{base: s["base_url"], key: s["api_key"], http: h}, nil
	},
}

type booksClient struct {
	base, key string
	http      *http.Client
}

func (c *booksClient) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return &crm.Error{Kind: crm.Rejected, Err: err}
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	res, err := c.http.Do(req)
	if err != nil {
		return &crm.Error{Kind: crm.Unavailable, Message: "it cannot be reached", Err: err}
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
		if err := json.NewDecoder(res.Body).Decode(into); err != nil {
			return &crm.Error{Kind: crm.Unavailable, Err: err}
		}
		return nil
	case http.StatusUnauthorized:
		return &crm.Error{Kind: crm.Unauthorized, Status: 401, Message: "the key is wrong"}
	default:
		return &crm.Error{Kind: crm.Unavailable, Status: res.StatusCode, Message: "it is broken"}
	}
}

func (c *booksClient) FindCustomers(ctx context.Context, n phone.Number) ([]crm.Customer, error) {
	var customers []crm.Customer
	err := c.get(ctx, "/find?n="+url.QueryEscape(n.E164), &customers)
	return customers, err
}

func (c *booksClient) Check(ctx context.Context) error { return c.get(ctx, "/check", new(any)) }

func (c *booksClient) SearchURL(n phone.Number) string {
	return "https://books.example/search?n=" + url.QueryEscape(n.E164)
}

// bookServer is an account of books: Layla has 050 123 4567.
type bookServer struct {
	*httptest.Server
	requests atomic.Int64
	answer   atomic.Pointer[http.HandlerFunc] // nil: as it should
}

const booksKey = "books-key-7c21"

func newBooks(t *testing.T) *bookServer {
	t.Helper()
	b := &bookServer{}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b.requests.Add(1)
		answer := b.answer.Load()
		switch {
		case answer != nil:
			(*answer)(w, r)
		case r.Header.Get("Authorization") != "Bearer "+booksKey:
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

func (b *bookServer) becomes(answer http.HandlerFunc) { b.answer.Store(&answer) }

// withBooks is the usual document and a connection to each account.
func withBooks(accounts ...*bookServer) string {
	text := document + "connections:\n"
	for i, b := range accounts {
		name := string(rune('a' + i))
		text += "  " + name + ": {driver: books, label: Shelf " + name + ", settings: {base_url: \"" + b.URL + "\", api_key: " + booksKey + "}}\n"
	}
	return text
}

// serveBooks starts a server that knows the driver.
func serveBooks(t *testing.T, document string) *harness {
	t.Helper()
	return serveWith(t, t.TempDir(), document, func(set *settings) { set.drivers = []crm.Driver{books} })
}

func (h *harness) connections() []connections.ConnectionView {
	h.t.Helper()
	got := h.get("/api/v1/connections").want(h.t, 200)
	if strings.Contains(got.body, booksKey) {
		h.t.Errorf("the key is shown: %s", got.body)
	}
	return into[connections.ConnectionList](h.t, got).Connections
}

func (h *harness) testConnection(name, body string) response {
	h.t.Helper()
	return h.do(request{
		method: "POST", path: "/api/v1/connections/" + name + "/test", admin: true, body: body,
		header: map[string]string{"Content-Type": "application/json"},
	})
}

func TestConnectionsAreListedAndTested(t *testing.T) {
	a, b := newBooks(t), newBooks(t)
	h := serveBooks(t, withBooks(a, b))
	list := h.connections()
	if len(list) != 2 || list[0].Name != "a" || list[0].Label != "Shelf a" || list[0].State != "unused" || list[0].Breaker != "closed" ||
		len(list[0].Budgets) != 1 || list[0].Budgets[0] != (connections.BudgetView{Name: "requests", Requests: 600, Seconds: 60, Left: 60, Burst: 60}) {
		t.Errorf("connections: %+v", list)
	}
	got := into[connections.ConnectionTest](t, h.testConnection("a", `{"number":"050 123 4567"}`).want(t, 200))
	if !got.OK || got.State != "found" || len(got.Customers) != 1 ||
		got.Customers[0] != (storage.Customer{Connection: "a", ID: "c-1", Name: "Layla", URL: "https://books.example/c-1", MatchedBy: "phone"}) {
		t.Errorf("a test found %+v", got)
	}
	if got := into[connections.ConnectionTest](t, h.testConnection("a", `{"number":"+971509999999"}`).want(t, 200)); !got.OK || got.State != "none" || got.SearchURL == "" {
		t.Errorf("a test of another number: %+v", got)
	}
	if got := into[connections.ConnectionTest](t, h.testConnection("a", `{}`).want(t, 200)); !got.OK || got.State != "skipped" {
		t.Errorf("a test without a number: %+v", got)
	}
	h.testConnection("a", `{"number":"0026"}`).want(t, 422)
	h.testConnection("c", `{}`).want(t, 404)
	if list := h.connections(); list[0].State != "ok" || list[0].LastSuccess == nil || list[1].State != "unused" {
		t.Errorf("after a success: %+v", list)
	}

	b.becomes(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	for range 3 {
		got := into[connections.ConnectionTest](t, h.testConnection("b", `{"number":"+971501234567"}`).want(t, 200))
		if got.OK || got.State != "unavailable" || got.Error == nil || got.Error.Status != 502 || got.Check == nil {
			t.Errorf("a test of a broken account: %+v", got)
		}
	}
	if list := h.connections(); list[1].State != "failing" || list[1].Breaker != "open" || list[1].LastError == nil || list[1].LastError.Kind != "unavailable" {
		t.Errorf("a broken account: %+v", list[1])
	}
	body := h.do(request{method: "GET", path: "/metrics"}).body
	for _, line := range []string{
		`calltracker_crm_lookups_total{connection="a",outcome="ok"} 2`, `calltracker_crm_breaker_open{connection="b"} 1`,
		`calltracker_crm_breaker_open{connection="a"} 0`, `calltracker_crm_budget_left{budget="requests",connection="a"}`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("no %s in the metrics", line)
		}
	}
	b.answer.Store(nil)
	if got := into[connections.ConnectionTest](t, h.testConnection("b", `{"number":"+971501234567"}`).want(t, 200)); !got.OK {
		t.Errorf("a test of an account that is well again: %+v", got)
	}
	if list := h.connections(); list[1].State != "ok" || list[1].Breaker != "closed" {
		t.Errorf("an account that answered a test: %+v", list[1])
	}
	if strings.Contains(h.log.String(), booksKey) {
		t.Error("the key is in the log")
	}
}

func TestAWrongKeyIsTold(t *testing.T) {
	h := serveBooks(t, strings.Replace(withBooks(newBooks(t)), booksKey, "wrong", 1))
	got := into[connections.ConnectionTest](t, h.testConnection("a", `{"number":"+971501234567"}`).want(t, 200))
	if got.OK || got.Check == nil || got.Check.Kind != "unauthorized" || got.Check.Message != "the key is wrong" {
		t.Errorf("found %+v", got)
	}
}

func TestConnectionsFollowTheConfiguration(t *testing.T) {
	a, b := newBooks(t), newBooks(t)
	h := serveBooks(t, withBooks(a))
	h.testConnection("a", `{"number":"+971501234567"}`).want(t, 200)
	put := func(text string, status int) response {
		t.Helper()
		return h.putConfig("", "*", "application/yaml", text).want(t, status)
	}
	put(withBooks(a, b)+"# more\n", 200)
	if list := h.connections(); len(list) != 2 || list[0].LastSuccess == nil {
		t.Errorf("an account whose settings stay was opened again: %+v", list)
	}
	put(strings.Replace(withBooks(a), a.URL, b.URL, 1), 200)
	if list := h.connections(); len(list) != 1 || list[0].LastSuccess != nil {
		t.Errorf("other settings, and the same account: %+v", list)
	}
	before := b.requests.Load()
	h.testConnection("a", `{"number":"+971501234567"}`).want(t, 200)
	if b.requests.Load() == before {
		t.Error("the new account was not asked")
	}
	put(document, 200)
	if list := h.connections(); len(list) != 0 {
		t.Errorf("left over: %+v", list)
	}
	bad := put(document+"connections:\n  a:\n    driver: books\n    settings:\n      base_url: ftp://x\n      colour: red\n", 422)
	problem := into[httpapi.Problem](t, bad)
	want := map[string]string{
		"connections.a.settings.base_url": "invalid base_url for books: use https://host",
		"connections.a.settings.api_key":  "books requires api_key (key)",
		"connections.a.settings.colour":   "unknown setting for books: use base_url, api_key",
	}
	for _, e := range problem.Errors {
		if want[e.Path] == e.Message && e.Line > 0 && e.Column > 0 {
			delete(want, e.Path)
		}
	}
	if len(want) > 0 {
		t.Errorf("not told of %v in %s", want, bad.body)
	}
}

// TestAConnectionThatCannotBeUsedStopsNoCalls: a server that starts without the
// secret of a CRM answers calls all the same.
func TestAConnectionThatCannotBeUsedStopsNoCalls(t *testing.T) {
	t.Setenv("BOOKS_KEY", booksKey)
	dir, a := t.TempDir(), newBooks(t)
	knows := func(set *settings) { set.drivers = []crm.Driver{books} }
	h := serveWith(t, dir, strings.Replace(withBooks(a), booksKey, `"${env:BOOKS_KEY}"`, 1), knows)
	h.stop()
	t.Setenv("BOOKS_KEY", "")
	h = serveWith(t, dir, "", knows)
	h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	if list := h.connections(); len(list) != 1 || list[0].State != "misconfigured" || list[0].LastError == nil {
		t.Errorf("connections: %+v", list)
	}
	if got := into[connections.ConnectionTest](t, h.testConnection("a", `{"number":"+971501234567"}`).want(t, 200)); got.OK || got.Check == nil {
		t.Errorf("a test of it: %+v", got)
	}
}
