package main

import (
	"net/http"
	"strings"
	"testing"

	"calltracker/handlers/calls"
	"calltracker/handlers/decisions"
	"calltracker/handlers/simulate"
	"calltracker/jobs"
	"calltracker/storage"
)

// customerRouting is a document with a tracker that routes by customer and a
// connection to the account.
func customerRouting(wait string, account *addressBookServer) string {
	return `
trackers:
  line:
    keys: {start: open, end: open}
    region: AE
    customer_wait: ` + wait + `
    routes:
      - id: vip
        when: [{field: customer.tags, op: is, value: vip}]
        dial: [{number: "0501110001"}]
      - id: unknown-caller
        when: [{field: customer.found, op: is, value: false}]
        dial: [{number: "0501110002"}]
      - id: otherwise
        voicemail: true
  plain:
    keys: {start: open, end: open}
    region: AE
    routes: [{id: all, when: [{field: caller, op: exists}], voicemail: true}, {id: otherwise}]
connections:
  a: {driver: books, settings: {base_url: "` + account.URL + `", api_key: ` + addressBookKey + `}}
`
}

// decide sends a start call and returns its recorded decision.
func (h *harness) decide(tracker, caller string) decisions.View {
	h.t.Helper()
	answer := h.startCall(tracker, "", "didCalled", "061234567", "callerIDNumber", caller).want(h.t, 200)
	var got decisions.View
	eventually(h.t, "the recorded decision", func() bool {
		r := h.get("/api/v1/decisions/" + answer.header.Get("X-Decision-Id"))
		if r.status == 200 {
			got = into[decisions.View](h.t, r)
		}
		return r.status == 200
	})
	return got
}

func TestCallsAreRoutedByCustomer(t *testing.T) {
	a := newAddressBook(t)
	h := serveWithAddressBook(t, customerRouting("2s", a)) // long enough for a busy machine
	for caller, want := range map[string]string{"0501234567": "vip", "+971501234567": "vip", "0509999999": "unknown-caller", "anonymous": "otherwise", "": "otherwise"} {
		got := h.decide("line", caller)
		if got.Route != want {
			t.Errorf("caller %q: route %s, want %s; trace %+v", caller, got.Route, want, got.Trace)
		}
		if want == "otherwise" && got.Trace[0].Reason != "customer.tags: the customer is unknown (the caller number cannot be looked up)" {
			t.Errorf("caller %q: reason %q", caller, got.Trace[0].Reason)
		}
	}
	if n := a.requests.Load(); n != 2 {
		t.Errorf("CRM received %d requests, want 2", n)
	}
}

func TestTrackerWithoutCustomerConditionsSkipsLookup(t *testing.T) {
	a := newAddressBook(t)
	h := serveWithAddressBook(t, customerRouting("2s", a))
	h.decide("plain", "0501234567")
	if n := a.requests.Load(); n != 0 {
		t.Errorf("CRM received %d requests, want 0", n)
	}
}

func TestZeroCustomerWaitUsesOnlyCachedCustomers(t *testing.T) {
	a := newAddressBook(t)
	h := serveWithAddressBook(t, customerRouting("0s", a))
	got := h.decide("line", "0501234567")
	if got.Route != "otherwise" || got.Trace[0].Reason != "customer.tags: the customer is unknown (a: no cached answer)" {
		t.Errorf("route %s, want otherwise; trace %+v", got.Route, got.Trace)
	}
	// The call starts a lookup, so a later call finds the customer in the cache.
	eventually(t, "the cached customer", func() bool {
		answer := h.startCall("line", "", "didCalled", "061234567", "callerIDNumber", "0501234567").want(t, 200)
		return strings.Contains(answer.body, "0501110001")
	})
}

func TestHangingCRMDoesNotDelayCalls(t *testing.T) {
	a := newAddressBook(t)
	a.respondWith(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	h := serveWithAddressBook(t, customerRouting("1ms", a))
	got := h.decide("line", "0501234567")
	if got.Route != "otherwise" || got.Trace[0].Reason != "customer.tags: the customer is unknown (a: lookup timed out)" {
		t.Errorf("route %s, want otherwise; trace %+v", got.Route, got.Trace)
	}
}

func TestSimulationsAndConfigTestsAcceptCustomers(t *testing.T) {
	a := newAddressBook(t)
	h := serveWithAddressBook(t, customerRouting("1ms", a)+`
tests:
  - name: VIPs use the VIP route
    tracker: line
    at: 2026-11-22T20:00:00+04:00
    call: {didCalled: "061234567", callerIDNumber: "0501234567"}
    customer: {found: true, tags: [vip]}
    expect: {route: vip}
  - name: unknown callers use their route
    tracker: line
    at: 2026-11-22T20:00:00+04:00
    call: {didCalled: "061234567", callerIDNumber: "0501234567"}
    customer: {found: false}
    expect: {route: unknown-caller}
`)
	for customer, want := range map[string]string{`,"customer":{"found":true,"tags":["vip"]}`: "vip", `,"customer":{"found":false}`: "unknown-caller", "": "otherwise"} {
		got := h.do(request{
			method: "POST", path: "/api/v1/simulate", admin: true, header: map[string]string{"Content-Type": "application/json"},
			body: `{"tracker":"line","call":{"didCalled":"061234567","callerIDNumber":"0501234567"}` + customer + `}`,
		}).want(t, 200)
		if s := into[simulate.Simulation](t, got); s.Route != want {
			t.Errorf("simulation with %q: route %s, want %s", customer, s.Route, want)
		}
	}
	if n := a.requests.Load(); n != 0 {
		t.Errorf("CRM received %d requests, want 0", n)
	}
}

func TestStoredCallsAreEnrichedWithCustomers(t *testing.T) {
	a := newAddressBook(t)
	h := serveWithAddressBook(t, addressBookDocument(a))
	h.endCall("sales", "end-key-old", `{"callID":"known","direction":"inbound","didCalled":"061234567","callerIDNumber":"0501234567"}`).want(t, 200)
	h.endCall("sales", "end-key-old", `{"callID":"no-customer","direction":"inbound","didCalled":"061234567","callerIDNumber":"0509999999"}`).want(t, 200)
	h.endCall("sales", "end-key-old", `{"callID":"withheld","direction":"inbound","didCalled":"061234567","callerIDNumber":"anonymous"}`).want(t, 200)
	byID := func() map[string]calls.View {
		out := map[string]calls.View{}
		for _, c := range h.calls("") {
			out[c.CallID] = c
		}
		return out
	}
	for _, c := range byID() {
		if s := c.Enrichment.State; c.CallID != "withheld" && s != "pending" && s != "found" && s != "none" {
			t.Errorf("call %s: enrichment state %s, want pending, found, or none", c.CallID, s)
		}
	}
	eventually(t, "the lookups of both calls", func() bool {
		calls := byID()
		return calls["known"].Enrichment.State == "found" && calls["no-customer"].Enrichment == storage.Enrichment{State: "none", Attempts: 1}
	})
	stored := byID()
	layla := storage.Customer{Connection: "a", ID: "c-1", Name: "Layla", URL: "https://books.example/c-1", MatchedBy: "phone"}
	if c := stored["known"]; len(c.Customers) != 1 || c.Customers[0] != layla || c.Enrichment.Attempts != 1 {
		t.Errorf("call with a known number: customers %+v, enrichment %+v", c.Customers, c.Enrichment)
	}
	if c := stored["withheld"]; c.Enrichment != (storage.Enrichment{State: "none"}) || len(c.Customers) != 0 {
		t.Errorf("call with a withheld number: enrichment %+v, want state none", c.Enrichment)
	}
	detail := into[calls.Detail](t, h.get("/api/v1/calls/"+stored["known"].ID).want(t, 200))
	if len(detail.Customers) != 1 || detail.Enrichment.State != "found" {
		t.Errorf("call detail %+v, want one customer", detail.View)
	}
	if got := h.calls("?customer=c-1"); len(got) != 1 || got[0].CallID != "known" {
		t.Errorf("calls of customer c-1: %+v, want one", got)
	}
	if got := h.calls("?customer=c-2"); len(got) != 0 {
		t.Errorf("calls of customer c-2: %+v, want none", got)
	}
	if csvBody := h.get("/api/v1/calls.csv?customer=c-1").want(t, 200).body; strings.Count(csvBody, "\n") != 2 || !strings.Contains(csvBody, "known") {
		t.Errorf("CSV of customer c-1: %s", csvBody)
	}

	// Layla changes her number. Enriching the call again bypasses the cache.
	a.respondWith(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`[]`)) })
	enrich := func(id string, status int) response {
		t.Helper()
		return h.do(request{method: "POST", path: "/api/v1/calls/" + id + "/enrich", admin: true}).want(t, status)
	}
	if got := into[storage.Enrichment](t, enrich(stored["known"].ID, 202)); got.State != "pending" {
		t.Errorf("enrich again: %+v, want state pending", got)
	}
	eventually(t, "the second lookup of the call", func() bool { return byID()["known"].Enrichment.State == "none" })
	if got := h.calls("?customer=c-1"); len(got) != 0 {
		t.Errorf("calls of customer c-1 after the number changed: %+v, want none", got)
	}
	if got := into[storage.Enrichment](t, enrich(stored["withheld"].ID, 202)); got.State != "none" {
		t.Errorf("enrich a withheld number: %+v, want state none", got)
	}
	enrich("0190aaaa-0000-7000-8000-000000000000", 404)

	// The same as jobs.
	list := into[jobs.List](t, h.get("/api/v1/jobs?kind=enrichment&state=done").want(t, 200))
	if len(list.Jobs) != 2 || list.Jobs[0].Key != stored["no-customer"].ID || list.Jobs[1].Key != stored["known"].ID || list.Jobs[1].Attempts != 2 {
		t.Errorf("as jobs: %+v", list.Jobs)
	}
	before := a.requests.Load()
	retried := into[jobs.View](t, h.do(request{method: "POST", path: "/api/v1/jobs/" + stored["known"].ID + "/retry", admin: true}).want(t, 200))
	if retried.State != "waiting" || retried.Kind != "enrichment" {
		t.Errorf("retried job %+v, want a waiting enrichment", retried)
	}
	eventually(t, "the lookup of the retried job", func() bool {
		return byID()["known"].Enrichment == storage.Enrichment{State: "none", Attempts: 1}
	})
	if n := a.requests.Load() - before; n != 1 {
		t.Errorf("retried job made %d requests, want 1", n)
	}
	h.do(request{method: "POST", path: "/api/v1/jobs/" + stored["withheld"].ID + "/retry", admin: true}).want(t, 404)
}

func TestCallsWithoutConnectionsAreNotEnriched(t *testing.T) {
	h := serveWithAddressBook(t, document)
	h.endCall("sales", "end-key-old", `{"callID":"known","direction":"inbound","didCalled":"061234567","callerIDNumber":"0501234567"}`).want(t, 200)
	call := h.calls("")[0]
	if call.Enrichment.State != "none" || call.Customers == nil {
		t.Errorf("call %+v, want enrichment state none and an empty list of customers", call)
	}
	h.do(request{method: "POST", path: "/api/v1/calls/" + call.ID + "/enrich", admin: true}).want(t, 422)
}
