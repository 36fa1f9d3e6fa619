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

// ziwoHarness is a server and a fake Ziwo that send requests to each other.
type ziwoHarness struct {
	*harness
	ziwo *ziwotest.Ziwo
}

// documentFor returns a configuration with one call tracker and one contact center,
// the fake Ziwo z whose API is at the URL api.
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

// serveWithZiwo starts a fake Ziwo and a server, and registers the server's call
// tracker and numbers at the Ziwo.
func serveWithZiwo(t *testing.T, o ziwotest.Options) *ziwoHarness {
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
	return &ziwoHarness{harness: h, ziwo: z}
}

// simulate simulates calls that start at s.From, by default 6 hours ago.
func (r *ziwoHarness) simulate(s ziwotest.Simulation) ziwotest.Report {
	r.t.Helper()
	if s.From.IsZero() {
		s.From = time.Now().UTC().Add(-6 * time.Hour).Truncate(time.Second)
	}
	report, err := r.ziwo.Simulate(r.t.Context(), s)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(report.Violations) > 0 {
		r.t.Errorf("protocol violations: %v", report.Violations)
	}
	return report
}

// reconcile reconciles the last 30 hours and returns the run of the only contact center.
func (r *ziwoHarness) reconcile(t *testing.T) reconcile.View {
	t.Helper()
	r.ziwo.SetNow(time.Now().Add(time.Hour)) // late recordings are available
	body := fmt.Sprintf(`{"from":%q,"to":%q}`, time.Now().Add(-30*time.Hour).Format(time.RFC3339), time.Now().Add(time.Hour).Format(time.RFC3339))
	list := into[reconcile.List](t, r.do(request{method: "POST", path: "/api/v1/reconciliation", body: body, admin: true,
		header: map[string]string{"Content-Type": "application/json"}}).want(t, 200))
	if len(list.Runs) != 1 {
		t.Fatalf("%d runs, want 1", len(list.Runs))
	}
	return list.Runs[0]
}

// storedCalls returns the stored calls by call ID, without test calls and unreadable
// records.
func (r *ziwoHarness) storedCalls(t *testing.T) map[string]calls.View {
	t.Helper()
	stored := map[string]calls.View{}
	for cursor := ""; ; {
		list := into[calls.List](t, r.do(request{method: "GET", path: "/api/v1/calls?limit=1000&cursor=" + url.QueryEscape(cursor), admin: true}).want(t, 200))
		for _, c := range list.Calls {
			if c.Result == "unreadable" || c.CallID == "" || c.CallID == "dummy-call-id" {
				continue
			}
			if _, duplicate := stored[c.CallID]; duplicate {
				t.Errorf("call %s is stored twice", c.CallID)
			}
			stored[c.CallID] = c
		}
		if cursor = list.Next; cursor == "" {
			return stored
		}
	}
}

// compareWithZiwo compares the stored calls with Ziwo's, field by field.
func (r *ziwoHarness) compareWithZiwo(t *testing.T) {
	t.Helper()
	stored := r.storedCalls(t)
	ended := r.ziwo.EndedCalls()
	if len(stored) != len(ended) {
		t.Errorf("%d calls stored, want %d", len(stored), len(ended))
	}
	differing := 0
	for _, want := range ended {
		got, ok := stored[want.CallID]
		if !ok {
			t.Errorf("call %s is missing", want.CallID)
			continue
		}
		if diff := cmp.Diff(jsonFields(t, want, nil), jsonFields(t, got, want)); diff != "" {
			if differing++; differing < 5 {
				t.Errorf("call %s (%s, %+v) differs (-Ziwo +stored):\n%s", want.CallID, want.Format, want.Deliveries, diff)
			}
		}
	}
	if differing > 0 {
		t.Errorf("%d of %d calls differ", differing, len(ended))
	}
}

// jsonFields returns the JSON fields of a record. If like is not nil, the result has
// only the fields that like has. A zero answeredAt becomes null, because an unanswered
// call has null in one record and the zero time in the other.
func jsonFields(t *testing.T, record, like any) map[string]any {
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
		known := jsonFields(t, like, nil)
		for name := range out {
			if _, ok := known[name]; !ok {
				delete(out, name)
			}
		}
	}
	return out
}

func TestReconciliationRepairsEveryFault(t *testing.T) {
	r := serveWithZiwo(t, ziwotest.Options{Seed: 11})
	report := r.simulate(ziwotest.Simulation{Length: 4 * time.Hour, Calls: 300, Faults: ziwotest.EveryFault(0.06)})
	lost := 0
	for _, c := range r.ziwo.EndedCalls() {
		if !c.Delivered() {
			lost++
		}
	}
	run := r.reconcile(t)
	if run.State != "done" || run.Found != 300 || run.Present+run.Backfilled != 300 || run.Enriched == 0 ||
		run.Backfilled < report.Faults["dropped"] || run.Backfilled > lost { // a record can be stored although its response came too late
		t.Errorf("run %+v; %d undelivered records, faults %v", run, lost, report.Faults)
	}
	r.compareWithZiwo(t)
	again := r.reconcile(t)
	if again.Backfilled != 0 || again.Enriched != 0 || again.Differing != 0 || again.Present != 300 {
		t.Errorf("second run %+v, want no changes", again)
	}
	for id, call := range r.storedCalls(t) {
		if want := map[string]string{"+97142345679": "outdoor"}[call.DID]; call.Campaign != want {
			t.Errorf("call %s: campaign %q, want %q", id, call.Campaign, want)
		}
	}
	list := into[reconcile.List](t, r.do(request{method: "GET", path: "/api/v1/reconciliation", admin: true}).want(t, 200))
	if len(list.Runs) != 2 || list.Runs[0].ID != again.ID || list.Runs[1].Backfilled != run.Backfilled {
		t.Errorf("listed runs %+v, want the last 2", list.Runs)
	}
}

func TestReconciliationRacesEndCall(t *testing.T) {
	r := serveWithZiwo(t, ziwotest.Options{Seed: 12})
	r.ziwo.SetNow(time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	var reconciling sync.WaitGroup
	runs := 0
	reconciling.Go(func() {
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
				t.Errorf("reconcile: %v, %v", res, err)
				return
			}
			if err := res.Body.Close(); err != nil {
				t.Error(err)
			}
			runs++
		}
	})
	r.simulate(ziwotest.Simulation{Length: time.Hour, Calls: 120, Faults: ziwotest.Faults{Duplicate: 0.3, Reorder: 0.5}})
	cancel()
	reconciling.Wait()
	if runs == 0 {
		t.Fatal("no reconciliation ran during the calls")
	}
	r.reconcile(t)
	r.compareWithZiwo(t)
}

func TestZiwoFailureDelaysOnlyReconciliation(t *testing.T) {
	for _, fault := range []ziwotest.FaultKind{
		ziwotest.FaultHTML, ziwotest.FaultEmpty, ziwotest.FaultTruncatedJSON, ziwotest.FaultUnexpectedJSON, ziwotest.FaultRejected, ziwotest.Fault429, ziwotest.Fault500,
	} {
		t.Run(string(fault), func(t *testing.T) {
			r := serveWithZiwo(t, ziwotest.Options{Seed: 13})
			r.simulate(ziwotest.Simulation{Length: time.Hour, Calls: 20, HistoryOnly: true})
			// A run does not wait for a long Retry-After. It reports the delay.
			r.ziwo.AddFault(ziwotest.Fault{Kind: fault, Path: "/callHistory", RetryAfter: "60"})
			run := r.reconcile(t)
			if run.State != "delayed" || run.Error == "" || run.Found != 0 || run.Reached != nil {
				t.Errorf("run %+v, want delayed", run)
			}
			if secret := "correct horse"; strings.Contains(run.Error, secret) || strings.Contains(r.log.String(), secret) {
				t.Error("the run or the log contains the password")
			}
			r.startCall("sales", "start-key-1", "didCalled", "042345678").want(t, 200)
			r.ziwo.ClearFaults()
			if run = r.reconcile(t); run.State != "done" || run.Backfilled != 20 {
				t.Errorf("after the recovery: run %+v, want 20 backfilled calls", run)
			}
			r.compareWithZiwo(t)
		})
	}
}

func TestReconciliationRejectsInvalidRequests(t *testing.T) {
	r := serveWithZiwo(t, ziwotest.Options{})
	for name, body := range map[string]string{
		"no period":              `{}`,
		"to before from":         `{"from":"2026-03-03T00:00:00Z","to":"2026-03-02T00:00:00Z"}`,
		"too long":               `{"from":"2026-01-01T00:00:00Z","to":"2026-03-02T00:00:00Z"}`,
		"unknown contact center": `{"from":"2026-03-01T00:00:00Z","to":"2026-03-02T00:00:00Z","contactCenter":"vega"}`,
		"unknown field":          `{"since":"2026-03-01T00:00:00Z"}`,
	} {
		res := r.do(request{method: "POST", path: "/api/v1/reconciliation", body: body, admin: true, header: map[string]string{"Content-Type": "application/json"}})
		if res.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: status %d, want 422: %s", name, res.status, res.body)
		}
	}
	r.do(request{method: "POST", path: "/api/v1/reconciliation", body: `{}`}).want(t, 401)
}

func TestReconciliationReportsDecisionsWithoutCall(t *testing.T) {
	r := serveWithZiwo(t, ziwotest.Options{})
	r.startCall("sales", "start-key-1", "didCalled", "042345678", "callID", "never-ended").want(t, 200)
	r.decisions(1) // decisions are recorded in the background
	reconciler := reconcile.New(reconcile.Options{
		Clients: r.parts.clients, Config: r.parts.config, Recorder: r.parts.recorder, Store: r.parts.store, Registry: prometheus.NewRegistry(),
		Now: func() time.Time { return time.Now().Add(2 * time.Hour) }, Logger: slog.New(slog.DiscardHandler), Interval: time.Minute,
	})
	list, err := reconciler.Reconcile(t.Context(), reconcile.Input{From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour)})
	if err != nil || list.Runs[0].Unended != 1 || len(list.Runs[0].Open) != 1 {
		t.Errorf("got %+v, %v; want one decision without a call", list, err)
	}
}

// recordingStore is a store that sends each recorded reconciliation to a channel.
type recordingStore struct {
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

func (s recordingStore) RecordReconciliation(ctx context.Context, r storage.Reconciliation) error {
	err := s.reconciliationStore.RecordReconciliation(ctx, r)
	s.recorded <- r
	return err
}

func TestScheduledReconciliationBackfillsLongOutage(t *testing.T) {
	r := serveWithZiwo(t, ziwotest.Options{Seed: 14})
	recorded := make(chan storage.Reconciliation, 10)
	now := time.Now()
	runAt := func(at time.Time) storage.Reconciliation {
		t.Helper()
		reconciler := reconcile.New(reconcile.Options{
			Clients: r.parts.clients, Config: r.parts.config, Recorder: r.parts.recorder, Store: recordingStore{r.parts.store, recorded},
			Registry: prometheus.NewRegistry(), Now: func() time.Time { return at }, Logger: slog.New(slog.DiscardHandler), Interval: time.Hour,
		})
		err := reconciler.RunScheduled(t.Context())
		run := <-recorded
		if (err != nil) != (run.State == storage.ReconciliationDelayed) {
			t.Errorf("%s: error %v", run.State, err)
		}
		return run
	}
	first := runAt(now.Add(-30 * time.Hour))
	if first.State != storage.ReconciliationDone || first.Counts.Found != 0 {
		t.Fatalf("first run %+v, want done without calls", first)
	}
	// For 20 hours, the server receives no records. Then Ziwo's API fails for a while.
	r.simulate(ziwotest.Simulation{From: now.Add(-28 * time.Hour), Length: 20 * time.Hour, Calls: 200, HistoryOnly: true})
	r.ziwo.SetNow(now)
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.Fault500, Path: "/callHistory"})
	if delayed := runAt(now.Add(-2 * time.Hour)); delayed.State != storage.ReconciliationDelayed || !delayed.Reached.IsZero() {
		t.Errorf("Ziwo failing: run %+v, want delayed", delayed)
	}
	r.ziwo.ClearFaults()
	run := runAt(now)
	if run.State != storage.ReconciliationDone || run.Counts.Backfilled != 200 || run.From.After(first.Reached) {
		t.Errorf("run %+v, want 200 calls backfilled since %v", run, first.Reached)
	}
	r.compareWithZiwo(t)
	next := runAt(now.Add(time.Hour))
	if next.Counts.Backfilled != 0 || next.To.Sub(next.From) > 6*time.Hour {
		t.Errorf("next run %+v, want no backfilled calls and at most 6 hours", next)
	}
}

// dayOfCalls is the number of calls in the day. To measure a busy day, set the
// environment variable CALLTRACKER_TEST_CALLS, for example to 50000.
const dayOfCalls = 1500

// TestReconcileDayOfCalls logs how long a day of calls takes to reconcile and limits
// the number of requests to Ziwo.
func TestReconcileDayOfCalls(t *testing.T) {
	n := dayOfCalls
	if text := os.Getenv("CALLTRACKER_TEST_CALLS"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	r := serveWithZiwo(t, ziwotest.Options{Seed: 15})
	from := time.Now().UTC().Add(-26 * time.Hour).Truncate(time.Second)
	r.simulate(ziwotest.Simulation{From: from, Length: 24 * time.Hour, Calls: n, Profile: ziwotest.BusinessDay(), HistoryOnly: true})
	for _, round := range []struct {
		name       string
		backfilled int
	}{{"missing", n}, {"present", 0}} {
		before, began := r.ziwo.Requests(""), time.Now()
		run := r.reconcile(t)
		if run.State != "done" || run.Found != n || run.Backfilled != round.backfilled || run.Differing != 0 {
			t.Fatalf("%s: run %+v, want %d calls found and %d backfilled", round.name, run, n, round.backfilled)
		}
		requests := r.ziwo.Requests("") - before
		t.Logf("%s: %d calls, %d backfilled, in %.1f s with %d requests", round.name, n, run.Backfilled, time.Since(began).Seconds(), requests)
		if limit := n/1000 + 45; requests > limit {
			t.Errorf("%s: %d requests, want at most %d", round.name, requests, limit)
		}
	}
}

func TestReconciliationMergesDifferingRecords(t *testing.T) {
	r := serveWithZiwo(t, ziwotest.Options{})
	r.ziwo.SetNow(time.Now())
	at := time.Now().UTC().Add(-3 * time.Hour).Truncate(time.Second)
	call := ziwotest.Call{
		ContactCenter: "aldebaran", Tracker: "sales", CallID: "differing", Direction: "inbound", DID: "+97142345678", RawDID: "042345678",
		Caller: "+971501234567", RawCaller: "0501234567", CallerName: "0501234567", StartedAt: at, AnsweredAt: at.Add(5 * time.Second),
		EndedAt: at.Add(30 * time.Second), Duration: 30, RingTime: 5, TalkTime: 25, Result: "answered", HangupCause: "NORMAL_CLEARING",
		HangupBy: "originator", Position: "0501112233", RecordingFile: "differing.mp3",
	}
	stamp := func(t time.Time) string { return t.Format(time.RFC3339) }
	// The endCall record is older than Ziwo's. It has fewer fields, another duration,
	// and a number in another format.
	r.endCall("sales", "end-key-1", fmt.Sprintf(`{"callID":"differing","direction":"inbound","didCalled":"+97142345678","callerIDNumber":"0501234567",
		"startedAt":%q,"answeredAt":%q,"endedAt":%q,"duration":29,"talkTime":25,"updatedAt":%q,"hangupCause":"NORMAL_CLEARING"}`,
		stamp(at), stamp(at.Add(5*time.Second)), stamp(at.Add(30*time.Second)), stamp(at.Add(30*time.Second)))).want(t, 200)
	r.ziwo.AddCalls(call)
	if run := r.reconcile(t); run.Present != 1 || run.Differing != 1 || run.Enriched != 1 || run.Backfilled != 0 {
		t.Errorf("run %+v, want 1 enriched call", run)
	}
	r.compareWithZiwo(t)
	if run := r.reconcile(t); run.Differing != 0 || run.Enriched != 0 {
		t.Errorf("next run %+v, want no changes", run)
	}
	stored := r.storedCalls(t)["differing"]
	details := into[calls.Detail](t, r.do(request{method: "GET", path: "/api/v1/calls/" + stored.ID, admin: true}).want(t, 200))
	if len(details.Revisions) != 2 || details.Revisions[1].Source != "reconciliation" {
		t.Errorf("revisions %+v, want the second from reconciliation", details.Revisions)
	}
}

// onRelease is a store that reports every lease that is released.
type onRelease struct {
	recordingStore
	released chan string
}

func (s onRelease) Release(ctx context.Context, name, holder string) error {
	err := s.recordingStore.Release(ctx, name, holder)
	s.released <- name
	return err
}

func TestOnlyOneReplicaReconciles(t *testing.T) {
	r := serveWithZiwo(t, ziwotest.Options{})
	r.ziwo.SetNow(time.Now())
	recorded, released := make(chan storage.Reconciliation, 10), make(chan string, 10)
	now := time.Now()
	for range 2 { // replicas
		reconciler := reconcile.New(reconcile.Options{
			Clients: r.parts.clients, Config: r.parts.config, Recorder: r.parts.recorder, Store: onRelease{recordingStore{r.parts.store, recorded}, released},
			Registry: prometheus.NewRegistry(), Now: func() time.Time { return now }, Logger: slog.New(slog.DiscardHandler), Interval: time.Hour,
		})
		if err := reconciler.RunScheduled(t.Context()); err != nil {
			t.Error(err)
		}
		<-released
	}
	if len(recorded) != 1 {
		t.Errorf("%d reconciliations by two replicas, want 1", len(recorded))
	}
}

// TestReconciliationsOfAContactCenterExcludeEachOther requests a reconciliation while
// another process reconciles the contact center.
func TestReconciliationsOfAContactCenterExcludeEachOther(t *testing.T) {
	r := serveWithZiwo(t, ziwotest.Options{})
	r.ziwo.SetNow(time.Now())
	lease := jobs.NewLease(r.parts.store, "reconciliation of aldebaran", time.Hour, time.Now)
	if held, err := lease.Acquire(t.Context()); err != nil || !held {
		t.Fatalf("lease: %t, %v", held, err)
	}
	_, release := lease.Hold(t.Context())
	recorded := make(chan storage.Reconciliation, 10)
	reconciler := reconcile.New(reconcile.Options{
		Clients: r.parts.clients, Config: r.parts.config, Recorder: r.parts.recorder, Store: recordingStore{r.parts.store, recorded},
		Registry: prometheus.NewRegistry(), Now: time.Now, Logger: slog.New(slog.DiscardHandler), Interval: time.Hour,
	})
	if err := reconciler.RunScheduled(t.Context()); err != nil {
		t.Error(err)
	}
	requested := make(chan error, 1)
	go func() {
		_, err := reconciler.Reconcile(t.Context(), reconcile.Input{From: time.Now().Add(-time.Hour), To: time.Now()})
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
