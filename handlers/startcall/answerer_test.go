package startcall_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"calltracker/config"
	"calltracker/crm"
	"calltracker/handlers/startcall"
	"calltracker/phone"
	"calltracker/rules"
	"calltracker/storage"
	"calltracker/ziwo"
)

const document = `
connections:
  desk: {driver: kustomer}
trackers:
  sales:
    keys: {start: open, end: open}
    region: AE
    numbers: ["061234567"]
    customer_wait: 150ms
    routes:
      - id: vip
        when: [{field: customer.tags, op: is, value: vip}]
        dial: [{number: "0500000001"}, {number: "0500000002"}]
        order: rotate
      - id: otherwise
        voicemail: true
`

// fakeCustomers is a CRM directory in which one number belongs to a VIP.
type fakeCustomers struct {
	vip   string
	waits []time.Duration // of each lookup
}

func (f *fakeCustomers) Names() []string { return []string{"desk"} }

func (f *fakeCustomers) Find(_ context.Context, q crm.Query) crm.Result {
	f.waits = append(f.waits, q.Wait)
	if q.Number.E164 != f.vip {
		return crm.Result{State: crm.None}
	}
	return crm.Result{State: crm.Found, Customers: []crm.Match{{Connection: "desk", Customer: crm.Customer{ID: "1", Tags: []string{"vip"}}}}}
}

// fakeRotation counts the calls of one route.
type fakeRotation struct{ calls uint64 }

func (f *fakeRotation) Next(string) uint64 {
	f.calls++
	return f.calls - 1
}

// fakeQueue holds the queued decisions.
type fakeQueue struct{ records []startcall.QueuedDecision }

func (f *fakeQueue) Add(r startcall.QueuedDecision) { f.records = append(f.records, r) }

// fakeStore holds the stored decisions.
type fakeStore struct{ decisions []storage.Decision }

func (f *fakeStore) RecordDecisions(_ context.Context, decisions []storage.Decision) error {
	f.decisions = append(f.decisions, decisions...)
	return nil
}

func TestAnswerRoutesAndRecords(t *testing.T) {
	_, set, problems := config.Load([]byte(document), config.YAML, nil)
	if set == nil {
		t.Fatal(problems)
	}
	router, _ := set.Router("sales")
	tracker := &config.ActiveTracker{Version: 7, Router: router, CustomerTimeout: 150 * time.Millisecond}
	numbers := phone.NewCache()
	customers, queue := &fakeCustomers{vip: "+971501234567"}, &fakeQueue{}
	noon := time.Date(2026, time.April, 14, 12, 0, 0, 0, time.UTC)
	answerer := startcall.New(startcall.Options{
		Customers: customers, Rotations: &fakeRotation{}, Numbers: numbers, Decisions: queue,
		Now: func() time.Time { return noon }, Registry: prometheus.NewRegistry(),
	})
	answer := func(caller string) startcall.Answer {
		return answerer.Answer(t.Context(), tracker, ziwo.StartRequest{DIDCalled: "061234567", Caller: caller, CallID: "c-1"})
	}
	dialed := func(a startcall.Answer) (out []string) {
		for _, r := range a.Decision.Rules {
			out = append(out, r.Number)
		}
		return out
	}

	first, second, other := answer("0501234567"), answer("0501234567"), answer("0509999999")
	if diff := cmp.Diff([]string{"0500000001", "0500000002"}, dialed(first)); diff != "" || first.Decision.Route != "vip" || first.DIDCalled != "061234567" {
		t.Errorf("first call of the VIP: %+v (-want +got):\n%s", first, diff)
	}
	if diff := cmp.Diff([]string{"0500000002", "0500000001"}, dialed(second)); diff != "" {
		t.Errorf("second call of the VIP (-want +got):\n%s", diff)
	}
	if other.Decision.Route != "otherwise" || !other.Decision.Voicemail {
		t.Errorf("call of another caller: %+v", other)
	}
	if want := []time.Duration{tracker.CustomerTimeout, tracker.CustomerTimeout, tracker.CustomerTimeout}; !cmp.Equal(want, customers.waits) {
		t.Errorf("lookups waited %v, want %v", customers.waits, want)
	}

	store := &fakeStore{}
	if err := startcall.NewDecisionWriter(store, numbers).Write(t.Context(), queue.records); err != nil {
		t.Fatal(err)
	}
	if len(store.decisions) != 3 {
		t.Fatalf("stored %d decisions, want 3", len(store.decisions))
	}
	got := store.decisions[1]
	if len(got.Trace) == 0 {
		t.Error("the stored decision has no trace")
	}
	got.Trace = nil
	want := storage.Decision{
		ID: second.ID, Tracker: "sales", At: noon, DID: "+97161234567", RawDID: "061234567", Caller: "+971501234567", RawCaller: "0501234567",
		CallID: "c-1", Route: "vip", Rules: second.Decision.Rules, ConfigVersion: 7,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stored decision (-want +got):\n%s", diff)
	}
}

func TestAppendAnswer(t *testing.T) {
	decision := rules.Decision{Rules: []rules.Rule{{Action: rules.ActionCall, Number: "0501112233", Timeout: 10}}, Voicemail: true}
	got := string(startcall.AppendAnswer(nil, "061234567", decision, "voicemail"))
	want := `{"result":true,"content":{"didCalled":"061234567","rules":[{"action":"call","number":"0501112233","callerID":"","timeout":10}],"voicemail":true},"info":{}}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
