package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"calltracker/handlers/calls"
	"calltracker/handlers/reconcile"
	"calltracker/jobs"
	"calltracker/storage"
	"calltracker/ziwo/ziwotest"
)

// reconciled is a server and a Ziwo that know each other.
type reconciled struct {
	*harness
	ziwo *ziwotest.Ziwo
}

// documentFor is a document with a tracker at a Ziwo.
func documentFor(z *ziwotest.Ziwo, api string) string {
	username, password, key := z.Credentials()
	return fmt.Sprintf(`
contact_centers:
  aldebaran: {api: %q, username: %q, password: %q, api_key: %q, webhook_keys: [hook-key-1]}
trackers:
  sales:
    keys: {start: [start-key-1], end: [end-key-1]}
    region: AE
    numbers: ["042345678", {did: "042345679", campaign: outdoor}]
    caller_id: "042223344"
    routes:
      - id: all
        dial: [{number: "0501112233", timeout: 12s}, {number: "045556677", timeout: 20s}]
        voicemail: true
`, api, username, password, key)
}

func withZiwo(t *testing.T, o ziwotest.Options) *reconciled {
	t.Helper()
	z := ziwotest.New(o)
	t.Cleanup(z.Close)
	api := httptest.NewServer(z)
	t.Cleanup(api.Close)
	h := serve(t, documentFor(z, api.URL))
	z.AddTracker(ziwotest.Tracker{
		Name: "sales", StartRequestURL: h.base + "/callTrackers/sales/startCall", StartRequestKey: "start-key-1",
		EndRequestURL: h.base + "/callTrackers/sales/endCall", EndRequestKey: "end-key-1",
	})
	z.AddNumber(ziwotest.Number{E164: "+97142345678", DIDCalled: "042345678", Tracker: "sales"})
	z.AddNumber(ziwotest.Number{E164: "+97142345679", DIDCalled: "042345679", Tracker: "sales"})
	return &reconciled{harness: h, ziwo: z}
}

// live simulates calls that started some hours ago.
func (r *reconciled) live(s ziwotest.Simulation) ziwotest.Report {
	r.t.Helper()
	if s.From.IsZero() {
		s.From = time.Now().UTC().Add(-6 * time.Hour).Truncate(time.Second)
	}
	report, err := r.ziwo.Simulate(r.t.Context(), s)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(report.Violations) > 0 {
		r.t.Errorf("Ziwo could not follow: %v", report.Violations)
	}
	return report
}

// reconcile compares everything and returns the figures of the only contact center.
func (r *reconciled) reconcile(t *testing.T) reconcile.ReconciliationView {
	t.Helper()
	r.ziwo.SetNow(time.Now().Add(time.Hour)) // late recordings are there
	body := fmt.Sprintf(`{"from":%q,"to":%q}`, time.Now().Add(-30*time.Hour).Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339))
	list := into[reconcile.ReconciliationList](t, r.do(request{method: "POST", path: "/api/v1/reconciliation", body: body, admin: true,
		header: map[string]string{"Content-Type": "application/json"}}).want(t, 200))
	if len(list.Runs) != 1 {
		t.Fatalf("%d runs", len(list.Runs))
	}
	return list.Runs[0]
}

// stored reads every stored call that is one.
func (r *reconciled) stored(t *testing.T) map[string]calls.CallView {
	t.Helper()
	stored := map[string]calls.CallView{}
	for cursor := ""; ; {
		list := into[calls.CallList](t, r.do(request{method: "GET", path: "/api/v1/calls?limit=1000&cursor=" + url.QueryEscape(cursor), admin: true}).want(t, 200))
		for _, c := range list.Calls {
			if c.Result == "unreadable" || c.CallID == "" || c.CallID == "dummy-call-id" {
				continue
			}
			if _, twice := stored[c.CallID]; twice {
				t.Errorf("call %s is stored twice", c.CallID)
			}
			stored[c.CallID] = c
		}
		if cursor = list.Next; cursor == "" {
			return stored
		}
	}
}

// equalTruth compares the stored calls with Ziwo's, field by field.
func (r *reconciled) equalTruth(t *testing.T) {
	t.Helper()
	stored := r.stored(t)
	truth := r.ziwo.EndedCalls()
	if len(stored) != len(truth) {
		t.Errorf("%d calls are stored, %d happened", len(stored), len(truth))
	}
	wrong := 0
	for _, want := range truth {
		got, ok := stored[want.CallID]
		if !ok {
			t.Errorf("call %s is missing", want.CallID)
			continue
		}
		if diff := cmp.Diff(fields(t, want, nil), fields(t, got, want)); diff != "" {
			if wrong++; wrong < 5 {
				t.Errorf("call %s (%s, %+v) differs (-truth +stored):\n%s", want.CallID, want.Format, want.Deliveries, diff)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d calls differ", wrong, len(truth))
	}
}

// fields is a record as JSON names and values; only those that like has, when it
// is given. An instant that is not there is null in one and the zero time in the
// other, and how a number was written may differ between two records of a call.
func fields(t *testing.T, record, like any) map[string]any {
	t.Helper()
	text, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	if out["answeredAt"] == "0001-01-01T00:00:00Z" {
		out["answeredAt"] = nil
	}
	if like != nil {
		known := fields(t, like, nil)
		for name := range out {
			if _, ok := known[name]; !ok {
				delete(out, name)
			}
		}
	}
	return out
}

func TestReconciliationClosesEveryGapThatFaultsLeave(t *testing.T) {
	r := withZiwo(t, ziwotest.Options{Seed: 11})
	report := r.live(ziwotest.Simulation{Length: 4 * time.Hour, Calls: 300, Faults: ziwotest.EveryFault(0.06)})
	lost := 0
	for _, c := range r.ziwo.EndedCalls() {
		if !c.Delivered() {
			lost++
		}
	}
	run := r.reconcile(t)
	if run.State != "done" || run.Found != 300 || run.Present+run.Backfilled != 300 || run.Enriched == 0 ||
		run.Backfilled < report.Faults["dropped"] || run.Backfilled > lost { // a record may be safe although its answer came too late
		t.Errorf("%d were lost, and the run is %+v (%v)", lost, run, report.Faults)
	}
	r.equalTruth(t)
	again := r.reconcile(t)
	if again.Backfilled != 0 || again.Enriched != 0 || again.Differing != 0 || again.Present != 300 {
		t.Errorf("the second run still found something: %+v", again)
	}
	for id, call := range r.stored(t) {
		if want := map[string]string{"+97142345679": "outdoor"}[call.DID]; call.Campaign != want {
			t.Errorf("call %s has the campaign %q", id, call.Campaign)
		}
	}
	list := into[reconcile.ReconciliationList](t, r.do(request{method: "GET", path: "/api/v1/reconciliation", admin: true}).want(t, 200))
	if len(list.Runs) != 2 || list.Runs[0].ID != again.ID || list.Runs[1].Backfilled != run.Backfilled {
		t.Errorf("the last runs are %+v", list.Runs)
	}
}

func TestReconciliationRacesEndCall(t *testing.T) {
	r := withZiwo(t, ziwotest.Options{Seed: 12})
	r.ziwo.SetNow(time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	var compared sync.WaitGroup
	runs := 0
	compared.Go(func() {
		for ctx.Err() == nil {
			body := fmt.Sprintf(`{"from":%q,"to":%q}`, time.Now().Add(-30*time.Hour).Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.base+"/api/v1/reconciliation", strings.NewReader(body))
			if err != nil {
				t.Error(err)
				return
			}
			req.Header.Set("Authorization", "Bearer "+r.token)
			res, err := http.DefaultClient.Do(req)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("%v, %v", res, err)
				return
			}
			if err := res.Body.Close(); err != nil {
				t.Error(err)
			}
			runs++
		}
	})
	r.live(ziwotest.Simulation{Length: time.Hour, Calls: 120, Faults: ziwotest.Faults{Duplicate: 0.3, Reorder: 0.5}})
	cancel()
	compared.Wait()
	if runs == 0 {
		t.Fatal("nothing raced")
	}
	r.reconcile(t)
	r.equalTruth(t)
}

func TestAZiwoThatIsIllDelaysReconciliationOnly(t *testing.T) {
	for _, fault := range []ziwotest.FaultKind{
		ziwotest.FaultHTML, ziwotest.FaultEmpty, ziwotest.FaultTruncatedJSON, ziwotest.FaultUnexpectedJSON, ziwotest.FaultRejected, ziwotest.Fault429, ziwotest.Fault500,
	} {
		t.Run(string(fault), func(t *testing.T) {
			r := withZiwo(t, ziwotest.Options{Seed: 13})
			r.live(ziwotest.Simulation{Length: time.Hour, Calls: 20, HistoryOnly: true})
			// A longer wait is not waited for but told.
			r.ziwo.AddFault(ziwotest.Fault{Kind: fault, Path: "/callHistory", RetryAfter: "60"})
			run := r.reconcile(t)
			if run.State != "delayed" || run.Error == "" || run.Found != 0 || run.Reached != nil {
				t.Errorf("the run is %+v", run)
			}
			if secret := "correct horse"; strings.Contains(run.Error, secret) || strings.Contains(r.log.String(), secret) {
				t.Error("the password is told")
			}
			r.startCall("sales", "start-key-1", "didCalled", "042345678").want(t, 200)
			r.ziwo.ClearFaults()
			if run = r.reconcile(t); run.State != "done" || run.Backfilled != 20 {
				t.Errorf("and when it was well again: %+v", run)
			}
			r.equalTruth(t)
		})
	}
}

func TestReconciliationIsAskedForProperly(t *testing.T) {
	r := withZiwo(t, ziwotest.Options{})
	for name, body := range map[string]string{
		"nothing":          `{}`,
		"backwards":        `{"from":"2026-03-03T00:00:00Z","to":"2026-03-02T00:00:00Z"}`,
		"too long":         `{"from":"2026-01-01T00:00:00Z","to":"2026-03-02T00:00:00Z"}`,
		"another center":   `{"from":"2026-03-01T00:00:00Z","to":"2026-03-02T00:00:00Z","contactCenter":"vega"}`,
		"an unknown field": `{"since":"2026-03-01T00:00:00Z"}`,
	} {
		res := r.do(request{method: "POST", path: "/api/v1/reconciliation", body: body, admin: true, header: map[string]string{"Content-Type": "application/json"}})
		if res.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, res.status, res.body)
		}
	}
	r.do(request{method: "POST", path: "/api/v1/reconciliation", body: `{}`}).want(t, 401)
}

func TestDecisionsWithoutACallAreTold(t *testing.T) {
	r := withZiwo(t, ziwotest.Options{})
	r.startCall("sales", "start-key-1", "didCalled", "042345678", "callID", "never-ended").want(t, 200)
	r.decisions(1) // it is recorded in the background
	reconciler := reconcile.New(reconcile.Options{
		Clients: r.parts.clients, Config: r.parts.config, Calls: r.parts.recorder, Store: r.parts.store, Registry: newRegistry(),
		Now: func() time.Time { return time.Now().Add(2 * time.Hour) }, Logger: slog.New(slog.DiscardHandler), Interval: time.Minute,
	})
	list, err := reconciler.Reconcile(t.Context(), reconcile.ReconciliationInput{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour)})
	if err != nil || list.Runs[0].Unended != 1 || len(list.Runs[0].Open) != 1 {
		t.Errorf("%+v, %v", list, err)
	}
}

// signalling is a store that tells of every reconciliation that is written down.
type signalling struct {
	reconciliationStore
	recorded chan storage.Reconciliation
}

type reconciliationStore interface {
	CallsByKey(ctx context.Context, contactCenters, keys []string) ([]storage.Call, error)
	OpenDecisions(ctx context.Context, trackers []string, from, to time.Time, limit int) (int, []string, error)
	RecordReconciliation(ctx context.Context, r storage.Reconciliation) error
	Reconciliations(ctx context.Context, p storage.Page) ([]storage.Reconciliation, string, error)
	LastReconciliation(ctx context.Context, contactCenter string) (reached, done time.Time, err error)
	Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	Release(ctx context.Context, name, holder string) error
}

func (s signalling) RecordReconciliation(ctx context.Context, r storage.Reconciliation) error {
	err := s.reconciliationStore.RecordReconciliation(ctx, r)
	s.recorded <- r
	return err
}

func TestAnOutageOfHoursIsClosedByItself(t *testing.T) {
	r := withZiwo(t, ziwotest.Options{Seed: 14})
	recorded := make(chan storage.Reconciliation, 10)
	now := time.Now()
	scheduled := func(at time.Time) storage.Reconciliation {
		t.Helper()
		reconciler := reconcile.New(reconcile.Options{
			Clients: r.parts.clients, Config: r.parts.config, Calls: r.parts.recorder, Store: signalling{r.parts.store, recorded},
			Registry: newRegistry(), Now: func() time.Time { return at }, Logger: slog.New(slog.DiscardHandler), Interval: time.Hour,
		})
		err := reconciler.Scheduled(t.Context())
		run := <-recorded
		if (err != nil) != (run.State == storage.ReconciliationDelayed) {
			t.Errorf("%s: error %v", run.State, err)
		}
		return run
	}
	first := scheduled(now.Add(-30 * time.Hour))
	if first.State != storage.ReconciliationDone || first.Counts.Found != 0 {
		t.Fatalf("the first run is %+v", first)
	}
	// 20 hours in which the server hears of nothing, and Ziwo is ill for a while.
	r.live(ziwotest.Simulation{From: now.Add(-28 * time.Hour), Length: 20 * time.Hour, Calls: 200, HistoryOnly: true})
	r.ziwo.SetNow(now)
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.Fault500, Path: "/callHistory"})
	if ill := scheduled(now.Add(-2 * time.Hour)); ill.State != storage.ReconciliationDelayed || !ill.Reached.IsZero() {
		t.Errorf("with an ill Ziwo the run is %+v", ill)
	}
	r.ziwo.ClearFaults()
	run := scheduled(now)
	if run.State != storage.ReconciliationDone || run.Counts.Backfilled != 200 || run.From.After(first.Reached) {
		t.Errorf("the run is %+v", run)
	}
	r.equalTruth(t)
	next := scheduled(now.Add(time.Hour))
	if next.Counts.Backfilled != 0 || next.To.Sub(next.From) > 6*time.Hour {
		t.Errorf("and the next one is %+v", next)
	}
}

// dayOfCalls is how many calls the day has. CALLTRACKER_TEST_CALLS=50000 makes a
// measurement of the test.
const dayOfCalls = 1500

// TestADayOfCallsIsReconciled prints how long a day takes, and holds how many
// requests it costs Ziwo.
func TestADayOfCallsIsReconciled(t *testing.T) {
	calls := dayOfCalls
	if text := os.Getenv("CALLTRACKER_TEST_CALLS"); text != "" {
		var err error
		if calls, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	r := withZiwo(t, ziwotest.Options{Seed: 15})
	from := time.Now().UTC().Add(-26 * time.Hour).Truncate(time.Second)
	r.live(ziwotest.Simulation{From: from, Length: 24 * time.Hour, Calls: calls, Profile: ziwotest.BusinessDay(), HistoryOnly: true})
	for _, round := range []struct {
		name       string
		backfilled int
	}{{"missing", calls}, {"present", 0}} {
		before, began := r.ziwo.Requests(""), time.Now()
		run := r.reconcile(t)
		if run.State != "done" || run.Found != calls || run.Backfilled != round.backfilled || run.Differing != 0 {
			t.Fatalf("%s: %+v", round.name, run)
		}
		requests := r.ziwo.Requests("") - before
		t.Logf("%s: %d calls, %d of them stored, in %.1f s with %d requests", round.name, calls, run.Backfilled, time.Since(began).Seconds(), requests)
		if most := calls/1000 + 45; requests > most {
			t.Errorf("%d requests, want at most %d", requests, most)
		}
	}
}

func newRegistry() *prometheus.Registry { return prometheus.NewRegistry() }

func TestTwoStoriesOfOneCall(t *testing.T) {
	r := withZiwo(t, ziwotest.Options{})
	r.ziwo.SetNow(time.Now())
	at := time.Now().UTC().Add(-3 * time.Hour).Truncate(time.Second)
	call := ziwotest.Call{
		ContactCenter: "aldebaran", Tracker: "sales", CallID: "told-twice", Direction: "inbound", DID: "+97142345678", RawDID: "042345678",
		Caller: "+971501234567", RawCaller: "0501234567", CallerName: "0501234567", StartedAt: at, AnsweredAt: at.Add(5 * time.Second),
		EndedAt: at.Add(30 * time.Second), Duration: 30, RingTime: 5, TalkTime: 25, Result: "answered", HangupCause: "NORMAL_CLEARING",
		HangupBy: "originator", Position: "0501112233", RecordingFile: "told-twice.mp3",
	}
	stamp := func(t time.Time) string { return t.Format(time.RFC3339) }
	// The end call knew less, had a number written in another way and another
	// duration, and was written earlier.
	r.endCall("sales", "end-key-1", fmt.Sprintf(`{"callID":"told-twice","direction":"inbound","didCalled":"+97142345678","callerIDNumber":"0501234567",
		"startedAt":%q,"answeredAt":%q,"endedAt":%q,"duration":29,"talkTime":25,"updatedAt":%q,"hangupCause":"NORMAL_CLEARING"}`,
		stamp(at), stamp(at.Add(5*time.Second)), stamp(at.Add(30*time.Second)), stamp(at.Add(30*time.Second)))).want(t, 200)
	r.ziwo.AddCalls(call)
	if run := r.reconcile(t); run.Present != 1 || run.Differing != 1 || run.Enriched != 1 || run.Backfilled != 0 {
		t.Errorf("the run is %+v", run)
	}
	r.equalTruth(t)
	if run := r.reconcile(t); run.Differing != 0 || run.Enriched != 0 {
		t.Errorf("the next run is %+v", run)
	}
	stored := r.stored(t)["told-twice"]
	details := into[calls.CallDetail](t, r.do(request{method: "GET", path: "/api/v1/calls/" + stored.ID, admin: true}).want(t, 200))
	if len(details.Revisions) != 2 || details.Revisions[1].Source != "reconciliation" {
		t.Errorf("revisions are %+v", details.Revisions)
	}
}

// onRelease is a store that reports every lease that is released.
type onRelease struct {
	signalling
	released chan string
}

func (s onRelease) Release(ctx context.Context, name, holder string) error {
	err := s.signalling.Release(ctx, name, holder)
	s.released <- name
	return err
}

func TestOneReplicaReconciles(t *testing.T) {
	r := withZiwo(t, ziwotest.Options{})
	r.ziwo.SetNow(time.Now())
	recorded, released := make(chan storage.Reconciliation, 10), make(chan string, 10)
	now := time.Now()
	for range 2 { // replicas
		reconciler := reconcile.New(reconcile.Options{
			Clients: r.parts.clients, Config: r.parts.config, Calls: r.parts.recorder, Store: onRelease{signalling{r.parts.store, recorded}, released},
			Registry: newRegistry(), Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler), Interval: time.Hour,
		})
		if err := reconciler.Scheduled(t.Context()); err != nil {
			t.Error(err)
		}
		<-released
	}
	if len(recorded) != 1 {
		t.Errorf("two replicas reconciled %d times", len(recorded))
	}
}

// TestReconciliationsOfAContactCenterExcludeEachOther requests a reconciliation while
// another process reconciles the contact center.
func TestReconciliationsOfAContactCenterExcludeEachOther(t *testing.T) {
	r := withZiwo(t, ziwotest.Options{})
	r.ziwo.SetNow(time.Now())
	lease := jobs.NewLease(r.parts.store, "reconciliation of aldebaran", time.Hour, time.Now)
	if held, err := lease.Acquire(t.Context()); err != nil || !held {
		t.Fatalf("lease: %t, %v", held, err)
	}
	_, release := lease.Hold(t.Context())
	recorded := make(chan storage.Reconciliation, 10)
	reconciler := reconcile.New(reconcile.Options{
		Clients: r.parts.clients, Config: r.parts.config, Calls: r.parts.recorder, Store: signalling{r.parts.store, recorded},
		Registry: newRegistry(), Now: time.Now, Logger: slog.New(slog.DiscardHandler), Interval: time.Hour,
	})
	if err := reconciler.Scheduled(t.Context()); err != nil {
		t.Error(err)
	}
	requested := make(chan error, 1)
	go func() {
		_, err := reconciler.Reconcile(t.Context(), reconcile.ReconciliationInput{From: time.Now().Add(-time.Hour), To: time.Now()})
		requested <- err
	}()
	if len(recorded) != 0 {
		t.Errorf("%d reconciliations ran during another", len(recorded))
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := <-requested; err != nil || len(recorded) != 1 {
		t.Errorf("%d reconciliations after the other, %v; want 1", len(recorded), err)
	}
}
