package main

import (
	"net/http"
	"strings"
	"testing"

	"calltracker/handlers"
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
func (h *harness) call(tracker, caller string) handlers.DecisionView {
	h.t.Helper()
	answer := h.startCall(tracker, "", "didCalled", "061234567", "callerIDNumber", caller).want(h.t, 200)
	var got handlers.DecisionView
	eventually(h.t, "recording the decision", func() bool {
		r := h.get("/api/v1/decisions/" + answer.header.Get("X-Decision-Id"))
		if r.status == 200 {
			got = into[handlers.DecisionView](h.t, r)
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
		if want == "otherwise" && got.Trace[0].Reason != "customer.tags: no customer known (the caller has no number to look up)" {
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
	if got.Route != "otherwise" || got.Trace[0].Reason != "customer.tags: no customer known (a: nothing is known yet)" {
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
	if got.Route != "otherwise" || got.Trace[0].Reason != "customer.tags: no customer known (a: no answer in time)" {
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
		if s := into[handlers.Simulation](t, got); s.Route != want {
			t.Errorf("with %s it is %s", customer, s.Route)
		}
	}
	if n := a.requests.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}
