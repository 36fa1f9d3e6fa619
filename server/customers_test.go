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

// routed is a document whose tracker routes by customer, with a connection.
func routed(wait string, account *bookServer) string {
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
      - id: stranger
        when: [{field: customer.found, op: is, value: false}]
        dial: [{number: "0501110002"}]
      - id: otherwise
        voicemail: true
  plain:
    keys: {start: open, end: open}
    region: AE
    routes: [{id: all, when: [{field: caller, op: exists}], voicemail: true}, {id: otherwise}]
connections:
  a: {driver: books, settings: {base_url: "` + account.URL + `", api_key: ` + booksKey + `}}
`
}

// call sends a start call and returns the decision that was recorded.
func (h *harness) call(tracker, caller string) decisions.DecisionView {
	h.t.Helper()
	answer := h.startCall(tracker, "", "didCalled", "061234567", "callerIDNumber", caller).want(h.t, 200)
	var got decisions.DecisionView
	eventually(h.t, "recording the decision", func() bool {
		r := h.get("/api/v1/decisions/" + answer.header.Get("X-Decision-Id"))
		if r.status == 200 {
			got = into[decisions.DecisionView](h.t, r)
		}
		return r.status == 200
	})
	return got
}

func TestCallsAreRoutedByCustomer(t *testing.T) {
	a := newBooks(t)
	h := serveBooks(t, routed("2s", a)) // a busy machine must not make it too late
	for caller, want := range map[string]string{"0501234567": "vip", "+971501234567": "vip", "0509999999": "stranger", "anonymous": "otherwise", "": "otherwise"} {
		got := h.call("line", caller)
		if got.Route != want {
			t.Errorf("%q went to %s, not %s: %+v", caller, got.Route, want, got.Trace)
		}
		if want == "otherwise" && got.Trace[0].Reason != "customer.tags: the customer is unknown (the caller number cannot be looked up)" {
			t.Errorf("the trace says %q", got.Trace[0].Reason)
		}
	}
	if n := a.requests.Load(); n != 2 {
		t.Errorf("%d requests for two numbers", n)
	}
}

func TestATrackerThatDoesNotLookAtCustomersAsksNobody(t *testing.T) {
	a := newBooks(t)
	h := serveBooks(t, routed("2s", a))
	h.call("plain", "0501234567")
	if n := a.requests.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestWithoutWaitingOnlyWhatIsCachedCounts(t *testing.T) {
	a := newBooks(t)
	h := serveBooks(t, routed("0s", a))
	got := h.call("line", "0501234567")
	if got.Route != "otherwise" || got.Trace[0].Reason != "customer.tags: the customer is unknown (a: no cached answer)" {
		t.Errorf("went to %s: %+v", got.Route, got.Trace)
	}
	// The call asked all the same, and the next one finds the answer.
	eventually(t, "looking the caller up behind the call", func() bool {
		answer := h.startCall("line", "", "didCalled", "061234567", "callerIDNumber", "0501234567").want(t, 200)
		return strings.Contains(answer.body, "0501110001")
	})
}

func TestAHangingCRMHoldsNoCallUp(t *testing.T) {
	a := newBooks(t)
	a.becomes(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	h := serveBooks(t, routed("1ms", a))
	got := h.call("line", "0501234567")
	if got.Route != "otherwise" || got.Trace[0].Reason != "customer.tags: the customer is unknown (a: lookup timed out)" {
		t.Errorf("went to %s: %+v", got.Route, got.Trace)
	}
}

func TestSimulationsAndTestsKnowCustomers(t *testing.T) {
	a := newBooks(t)
	h := serveBooks(t, routed("1ms", a)+`
tests:
  - name: VIPs have a line of their own
    tracker: line
    at: 2026-11-22T20:00:00+04:00
    call: {didCalled: "061234567", callerIDNumber: "0501234567"}
    customer: {found: true, tags: [vip]}
    expect: {route: vip}
  - name: strangers have another
    tracker: line
    at: 2026-11-22T20:00:00+04:00
    call: {didCalled: "061234567", callerIDNumber: "0501234567"}
    customer: {found: false}
    expect: {route: stranger}
`)
	for customer, want := range map[string]string{`,"customer":{"found":true,"tags":["vip"]}`: "vip", `,"customer":{"found":false}`: "stranger", "": "otherwise"} {
		got := h.do(request{
			method: "POST", path: "/api/v1/simulate", admin: true, header: map[string]string{"Content-Type": "application/json"},
			body: `{"tracker":"line","call":{"didCalled":"061234567","callerIDNumber":"0501234567"}` + customer + `}`,
		}).want(t, 200)
		if s := into[simulate.Simulation](t, got); s.Route != want {
			t.Errorf("with %s it is %s", customer, s.Route)
		}
	}
	if n := a.requests.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestStoredCallsGetTheirCustomers(t *testing.T) {
	a := newBooks(t)
	h := serveBooks(t, withBooks(a))
	h.endCall("sales", "end-key-old", `{"callID":"known","direction":"inbound","didCalled":"061234567","callerIDNumber":"0501234567"}`).want(t, 200)
	h.endCall("sales", "end-key-old", `{"callID":"stranger","direction":"inbound","didCalled":"061234567","callerIDNumber":"0509999999"}`).want(t, 200)
	h.endCall("sales", "end-key-old", `{"callID":"withheld","direction":"inbound","didCalled":"061234567","callerIDNumber":"anonymous"}`).want(t, 200)
	byID := func() map[string]calls.CallView {
		out := map[string]calls.CallView{}
		for _, c := range h.calls("") {
			out[c.CallID] = c
		}
		return out
	}
	for _, c := range byID() {
		if s := c.Enrichment.State; c.CallID != "withheld" && s != "pending" && s != "found" && s != "none" {
			t.Errorf("%s is %s", c.CallID, s)
		}
	}
	eventually(t, "looking the calls up", func() bool {
		calls := byID()
		return calls["known"].Enrichment.State == "found" && calls["stranger"].Enrichment == storage.Enrichment{State: "none", Attempts: 1}
	})
	stored := byID()
	layla := storage.Customer{Connection: "a", ID: "c-1", Name: "Layla", URL: "https://books.example/c-1", MatchedBy: "phone"}
	if c := stored["known"]; len(c.Customers) != 1 || c.Customers[0] != layla || c.Enrichment.Attempts != 1 {
		t.Errorf("the call is of %+v (%+v)", c.Customers, c.Enrichment)
	}
	if c := stored["withheld"]; c.Enrichment != (storage.Enrichment{State: "none"}) || len(c.Customers) != 0 {
		t.Errorf("a withheld number: %+v", c.Enrichment)
	}
	detail := into[calls.CallDetail](t, h.get("/api/v1/calls/"+stored["known"].ID).want(t, 200))
	if len(detail.Customers) != 1 || detail.Enrichment.State != "found" {
		t.Errorf("one call: %+v", detail.CallView)
	}
	if got := h.calls("?customer=c-1"); len(got) != 1 || got[0].CallID != "known" {
		t.Errorf("calls of the customer: %+v", got)
	}
	if got := h.calls("?customer=c-2"); len(got) != 0 {
		t.Errorf("calls of another: %+v", got)
	}
	if csv := h.get("/api/v1/calls.csv?customer=c-1").want(t, 200).body; strings.Count(csv, "\n") != 2 || !strings.Contains(csv, "known") {
		t.Errorf("as CSV: %s", csv)
	}

	// Layla changes her number: asked again, nothing comes from the cache.
	a.becomes(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`[]`)) })
	enrich := func(id string, status int) response {
		t.Helper()
		return h.do(request{method: "POST", path: "/api/v1/calls/" + id + "/enrich", admin: true}).want(t, status)
	}
	if got := into[storage.Enrichment](t, enrich(stored["known"].ID, 202)); got.State != "pending" {
		t.Errorf("asked again: %+v", got)
	}
	eventually(t, "looking the call up again", func() bool { return byID()["known"].Enrichment.State == "none" })
	if got := h.calls("?customer=c-1"); len(got) != 0 {
		t.Errorf("calls of the customer that is no more: %+v", got)
	}
	if got := into[storage.Enrichment](t, enrich(stored["withheld"].ID, 202)); got.State != "none" {
		t.Errorf("a withheld number, asked again: %+v", got)
	}
	enrich("0190aaaa-0000-7000-8000-000000000000", 404)

	// The same as jobs.
	list := into[jobs.Page](t, h.get("/api/v1/jobs?kind=enrichment&state=done").want(t, 200))
	if len(list.Jobs) != 2 || list.Jobs[0].Key != stored["stranger"].ID || list.Jobs[1].Key != stored["known"].ID || list.Jobs[1].Attempts != 2 {
		t.Errorf("as jobs: %+v", list.Jobs)
	}
	before := a.requests.Load()
	retried := into[jobs.View](t, h.do(request{method: "POST", path: "/api/v1/jobs/" + stored["known"].ID + "/retry", admin: true}).want(t, 200))
	if retried.State != "waiting" || retried.Kind != "enrichment" {
		t.Errorf("retried: %+v", retried)
	}
	eventually(t, "looking the call up for the job", func() bool {
		return byID()["known"].Enrichment == storage.Enrichment{State: "none", Attempts: 1}
	})
	if n := a.requests.Load() - before; n != 1 {
		t.Errorf("%d requests for a job that was retried", n)
	}
	h.do(request{method: "POST", path: "/api/v1/jobs/" + stored["withheld"].ID + "/retry", admin: true}).want(t, 404)
}

func TestWithoutConnectionsNobodyIsLookedFor(t *testing.T) {
	h := serveBooks(t, document)
	h.endCall("sales", "end-key-old", `{"callID":"known","direction":"inbound","didCalled":"061234567","callerIDNumber":"0501234567"}`).want(t, 200)
	call := h.calls("")[0]
	if call.Enrichment.State != "none" || call.Customers == nil {
		t.Errorf("the call is %+v", call)
	}
	h.do(request{method: "POST", path: "/api/v1/calls/" + call.ID + "/enrich", admin: true}).want(t, 422)
}
