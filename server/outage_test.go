package main

import (
	"net/http/httptest"
	"testing"
	"time"

	"calltracker/handlers/reconcile"
	"calltracker/ziwo/ziwotest"
)

// TestServerOutageIsBackfilled stops the server while Ziwo handles an hour of calls:
// no start call is answered and no record is received. After the restart, the server
// backfills every call automatically.
func TestServerOutageIsBackfilled(t *testing.T) {
	z := ziwotest.New(ziwotest.Options{Seed: 16})
	t.Cleanup(z.Close)
	api := httptest.NewServer(z)
	t.Cleanup(api.Close)
	dir := t.TempDir()
	everySecond := func(set *settings) { set.reconcileEvery = time.Second }
	runs := func(h *harness) []reconcile.View {
		return into[reconcile.List](t, h.get("/api/v1/reconciliation").want(t, 200)).Runs
	}
	h := serveWith(t, dir, documentFor(z, api.URL), everySecond)
	eventually(t, "the first reconciliation", func() bool { return len(runs(h)) > 0 })
	before := len(runs(h))
	z.AddTracker(ziwotest.Tracker{
		Name: "sales", StartRequestURL: h.base + "/callTrackers/sales/startCall", StartRequestKey: "start-key-1",
		EndRequestURL: h.base + "/callTrackers/sales/endCall", EndRequestKey: "end-key-1",
	})
	z.AddNumber(ziwotest.Number{E164: "+97142345678", DIDCalled: "042345678", Tracker: "sales"})
	h.stop()

	const calls = 150
	report, err := z.Simulate(t.Context(), ziwotest.Simulation{From: time.Now().Add(-70 * time.Minute), Length: time.Hour, Calls: calls})
	if err != nil {
		t.Fatal(err)
	}
	if report.Starts[0] != calls || report.Ends[0] != calls { // status 0: no response
		t.Fatalf("calls during the outage: %+v, want no responses", report)
	}
	z.SetNow(time.Time{})
	restarted := serveWith(t, dir, "", everySecond)
	backfilled := 0
	eventually(t, "the backfill", func() bool {
		backfilled = 0
		for _, run := range runs(restarted) {
			backfilled += run.Backfilled
		}
		return backfilled > 0
	})
	if backfilled != calls {
		t.Errorf("%d calls backfilled, want %d", backfilled, calls)
	}
	if len(runs(restarted)) <= before {
		t.Error("no reconciliation ran after the restart")
	}
	(&ziwoHarness{harness: restarted, ziwo: z}).compareWithZiwo(t)
	t.Logf("one-hour outage: %d calls, 0 answered, %d backfilled after the restart", calls, backfilled)
}
