package main

import (
	"net/http/httptest"
	"testing"
	"time"

	"calltracker/handlers/reconcile"
	"calltracker/ziwo/ziwotest"
)

// TestAnHourWithoutAServerIsClosedByItself has the server off while Ziwo goes on:
// no start call is answered and no record taken. Once it is back, everything is
// fetched without anybody asking.
func TestAnHourWithoutAServerIsClosedByItself(t *testing.T) {
	z := ziwotest.New(ziwotest.Options{Seed: 16})
	t.Cleanup(z.Close)
	api := httptest.NewServer(z)
	t.Cleanup(api.Close)
	dir := t.TempDir()
	often := func(set *settings) { set.reconcileEvery = time.Second }
	runs := func(h *harness) []reconcile.ReconciliationView {
		return into[reconcile.ReconciliationList](t, h.get("/api/v1/reconciliation").want(t, 200)).Runs
	}
	h := serveWith(t, dir, documentFor(z, api.URL), often)
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
	if report.Starts[0] != calls || report.Ends[0] != calls { // no answers
		t.Fatalf("somebody answered: %+v", report)
	}
	z.SetNow(time.Time{})
	back := serveWith(t, dir, "", often)
	backfilled := 0
	eventually(t, "fetching", func() bool {
		backfilled = 0
		for _, run := range runs(back) {
			backfilled += run.Backfilled
		}
		return backfilled > 0
	})
	if backfilled != calls {
		t.Errorf("%d calls were fetched, want %d", backfilled, calls)
	}
	if len(runs(back)) <= before {
		t.Error("no reconciliation ran")
	}
	(&reconciled{harness: back, ziwo: z}).equalTruth(t)
	t.Logf("off for an hour of calls: happened %d, answered 0, fetched once it was back %d", calls, backfilled)
}
