package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/config"
	"calltracker/handlers/endcall"
	"calltracker/handlers/ziwoclients"
	"calltracker/jobs"
	"calltracker/problem"
	"calltracker/storage"
	"calltracker/ziwo"
)

// reconciliationStore is the part of a store that Reconciler uses.
type reconciliationStore interface {
	CallsByKey(ctx context.Context, contactCenters, keys []string) ([]storage.Call, error)
	OpenDecisions(ctx context.Context, trackers []string, from, to time.Time, limit int) (int, []string, error)
	RecordReconciliation(ctx context.Context, r storage.Reconciliation) error
	Reconciliations(ctx context.Context, p storage.Page) ([]storage.Reconciliation, string, error)
	LastReconciliation(ctx context.Context, contactCenter string) (reached, done time.Time, err error)
	Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	Release(ctx context.Context, name, holder string) error
}

// Reconciler compares the stored calls with Ziwo's call history, stores missing calls,
// and completes incomplete ones. Calls are saved in the same way as those of endCall and
// with the same identity, so a call from several sources is stored once. Create a
// Reconciler with NewReconciler. It is safe for concurrent use.
type Reconciler struct {
	Options

	runs       *prometheus.CounterVec
	calls      *prometheus.CounterVec
	reconciled *prometheus.GaugeVec

	startedAt time.Time
	lastDeep  map[string]time.Time // time of the last deep reconciliation, by contact center; used by Scheduled alone
}

// ReconcilerOptions are what a Reconciler is made from. All fields are required.
type Options struct {
	Clients  *ziwoclients.Clients
	Config   *config.Controller
	Calls    *endcall.Recorder
	Store    reconciliationStore
	Registry prometheus.Registerer
	Now      func() time.Time
	Logger   *slog.Logger
	Interval time.Duration // interval of scheduled reconciliations
}

// NewReconciler returns a Reconciler and registers its metrics.
func New(o Options) *Reconciler {
	r := &Reconciler{Options: o, startedAt: o.Now(), lastDeep: map[string]time.Time{}}
	r.runs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "calltracker_reconciliations_total", Help: "Comparisons with Ziwo's call history, by contact center and state.",
	}, []string{"contact_center", "state"})
	r.calls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "calltracker_reconciled_calls_total", Help: "Calls that reconciliation backfilled, enriched, or found to differ, by contact center and kind.",
	}, []string{"contact_center", "kind"})
	r.reconciled = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "calltracker_reconciled_until_seconds", Help: "Unix time up to which calls are reconciled with Ziwo's history, by contact center.",
	}, []string{"contact_center"})
	r.Registry.MustRegister(r.runs, r.calls, r.reconciled)
	return r
}

// count counts a finished reconciliation.
func (r *Reconciler) count(done storage.Reconciliation) {
	r.runs.WithLabelValues(done.ContactCenter, string(done.State)).Inc()
	for kind, n := range map[string]int{"backfilled": done.Counts.Backfilled, "enriched": done.Counts.Enriched, "differing": done.Counts.Differing} {
		r.calls.WithLabelValues(done.ContactCenter, kind).Add(float64(n))
	}
	if done.Trigger == storage.TriggerSchedule && !done.Reached.IsZero() {
		r.reconciled.WithLabelValues(done.ContactCenter).Set(float64(done.Reached.Unix()))
	}
}

// Time spans and limits. Ziwo's history is queried by start time and contains calls
// that have ended.
const (
	settleDelay   = 30 * time.Second    // age at which calls are compared; newer records may still be on their way
	recheckWindow = 4 * time.Hour       // overlap with the last run, for long calls and late recordings
	firstWindow   = 24 * time.Hour      // span of the first run
	deepWindow    = 48 * time.Hour      // span of the daily deep run
	maxWindow     = 31 * 24 * time.Hour // maximum span
	sliceLength   = 24 * time.Hour      // span compared between two progress records
	unendedAfter  = time.Hour           // age at which a started call without a record counts as unended
	leaseLength   = 30 * time.Second    // of a contact center, extended while it is being reconciled
	leaseRetry    = time.Second         // interval of attempts to lease a contact center on request
	taskTimeout   = 6 * time.Hour       // of a scheduled run; the next one continues
	minRetry      = time.Minute         // minimum delay of a retry that Ziwo can request
	maxRetry      = time.Hour           // maximum delay of a retry that Ziwo can request
	maxOpenShown  = 20                  // decision IDs listed in the figures
	maxSavers     = 16                  // concurrent saves; the store commits them together
	maxLogPages   = 20                  // pages of the tracker log read per run
	logPageSize   = 1000                // entries per page
	recordTimeout = 5 * time.Second     // for storing the result
)

// Task returns the task that reconciles every contact center on schedule.
func (r *Reconciler) Task() jobs.Task {
	return jobs.Task{Name: "reconcile calls", Interval: r.Interval, Timeout: taskTimeout, Run: r.Scheduled}
}

// Scheduled reconciles every contact center, except those that are being reconciled or
// just were. It is for one goroutine at a time.
func (r *Reconciler) Scheduled(ctx context.Context) error {
	var failures []error
	retry := maxRetry
	for _, name := range r.Clients.Names() {
		err := r.scheduled(ctx, name)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			continue
		}
		failures = append(failures, fmt.Errorf("reconcile contact center %q: %w", name, err))
		var failure *ziwo.APIError
		if errors.As(err, &failure) {
			retry = min(retry, failure.RetryAfter)
		} else {
			retry = 0
		}
	}
	err := errors.Join(failures...)
	if err != nil && retry >= minRetry { // otherwise the task is retried with its own pauses
		return jobs.RetryAfter(retry, err)
	}
	return err
}

// scheduled reconciles one contact center, unless it is being reconciled or just was.
func (r *Reconciler) scheduled(ctx context.Context, name string) error {
	lease := r.lease(name)
	if held, err := lease.Acquire(ctx); err != nil || !held {
		return err
	}
	ctx, release := lease.Hold(ctx)
	defer r.release(ctx, release)
	now := r.Now()
	reached, finished, err := r.Store.LastReconciliation(ctx, name)
	if err != nil {
		return err
	}
	if !finished.IsZero() && now.Sub(finished) < r.Interval/2 {
		return nil
	}
	from, to := r.span(name, now, reached)
	_, err = r.run(ctx, name, from, to, storage.TriggerSchedule)
	if err == nil && from.Before(to.Add(-recheckWindow)) {
		r.lastDeep[name] = now
	}
	return err
}

// requested reconciles a span of one contact center, once no other reconciliation of it
// is running.
func (r *Reconciler) requested(ctx context.Context, name string, from, to time.Time) (storage.Reconciliation, error) {
	lease := r.lease(name)
	retry := time.NewTicker(leaseRetry)
	defer retry.Stop()
	for {
		held, err := lease.Acquire(ctx)
		if err != nil {
			return storage.Reconciliation{}, err
		}
		if held {
			break
		}
		select {
		case <-ctx.Done():
			return storage.Reconciliation{}, ctx.Err()
		case <-retry.C:
		}
	}
	ctx, release := lease.Hold(ctx)
	defer r.release(ctx, release)
	return r.run(ctx, name, from, to, storage.TriggerRequest)
}

// lease returns the lease under which a contact center is reconciled.
func (r *Reconciler) lease(name string) *jobs.Lease {
	return jobs.NewLease(r.Store, "reconciliation of "+name, leaseLength, r.Now)
}

func (r *Reconciler) release(ctx context.Context, release func() error) {
	if err := release(); err != nil { // it ends anyway
		r.Logger.LogAttrs(ctx, slog.LevelInfo, "release of the reconciliation's lease failed", slog.Any("error", err))
	}
}

// span returns the span of a scheduled reconciliation. It starts where the last run
// ended, minus an overlap for calls that have changed since.
func (r *Reconciler) span(name string, now, reached time.Time) (from, to time.Time) {
	to = now.Add(-settleDelay).UTC().Truncate(time.Second)
	from = to.Add(-recheckWindow)
	lastDeep, ok := r.lastDeep[name]
	if !ok {
		lastDeep = r.startedAt
	}
	switch {
	case reached.IsZero():
		from = to.Add(-firstWindow)
	case reached.Before(to):
		from = reached.Add(-recheckWindow)
	}
	if now.Sub(lastDeep) >= sliceLength && from.After(to.Add(-deepWindow)) {
		from = to.Add(-deepWindow)
	}
	if from.Before(to.Add(-maxWindow)) {
		from = to.Add(-maxWindow)
	}
	return from, to
}

// comparison is a running reconciliation.
type comparison struct {
	*Reconciler
	snapshot      *config.Snapshot
	contactCenter string
	client        *ziwo.Client
	trackers      []*config.ActiveTracker // of the contact center
	from, to      time.Time
	out           storage.Reconciliation
	seen          map[string]bool // callIDs already compared
}

// run reconciles a span of a contact center, which must be leased, and records the
// result.
func (r *Reconciler) run(ctx context.Context, name string, from, to time.Time, trigger storage.Trigger) (storage.Reconciliation, error) {
	c := comparison{
		Reconciler: r, contactCenter: name, from: from, to: to, seen: map[string]bool{},
		out: storage.Reconciliation{ID: storage.NewID(), ContactCenter: name, Trigger: trigger, From: from, To: to, StartedAt: r.Now().UTC().Truncate(time.Microsecond)},
	}
	err := c.compare(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	c.out.State, c.out.EndedAt = storage.ReconciliationDone, r.Now().UTC().Truncate(time.Microsecond)
	if err != nil {
		c.out.State, c.out.Error = storage.ReconciliationDelayed, ziwoclients.DelayReason(err)
	}
	if errors.Is(ctx.Err(), context.Canceled) && trigger == storage.TriggerSchedule { // shutdown, or lease lost; the next run continues
		return c.out, err
	}
	r.count(c.out)
	level := slog.LevelDebug
	if c.out.Counts.Backfilled > 0 || c.out.Counts.Enriched > 0 || trigger == storage.TriggerRequest {
		level = slog.LevelInfo
	}
	r.Logger.LogAttrs(ctx, level, "reconciled", slog.String("contact_center", name), slog.String("state", string(c.out.State)),
		slog.Time("from", from), slog.Time("to", to), slog.Int("found", c.out.Counts.Found), slog.Int("backfilled", c.out.Counts.Backfilled),
		slog.Int("enriched", c.out.Counts.Enriched), slog.Int("differing", c.out.Counts.Differing), slog.Int("unended", c.out.Counts.Unended))
	recordCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if recordErr := r.Store.RecordReconciliation(recordCtx, c.out); recordErr != nil {
		err = errors.Join(err, recordErr)
	}
	return c.out, err
}

// compare compares the span slice by slice, oldest first, so that an error loses only
// the last slice.
func (c *comparison) compare(ctx context.Context) error {
	snapshot := c.Config.Current()
	if snapshot == nil {
		return config.ErrNoConfig
	}
	c.snapshot = snapshot
	client, err := c.Clients.Client(c.contactCenter)
	if err != nil {
		return err
	}
	c.client = client
	var trackers []string
	for _, id := range snapshot.Set.Trackers() {
		if tracker := snapshot.Trackers[id]; tracker.Router.ContactCenter() == c.contactCenter {
			c.trackers = append(c.trackers, tracker)
			trackers = append(trackers, id)
		}
	}
	figures := &c.out.Counts
	for at := c.from; at.Before(c.to); {
		next := at.Add(sliceLength)
		if next.After(c.to) || c.to.Sub(next) < time.Hour { // avoid a request for a short remainder
			next = c.to
		}
		walk, err := client.WalkHistory(ctx, at, next, func(page []ziwo.HistoryRecord) error { return c.comparePage(ctx, page) })
		figures.Requests += walk.Requests
		figures.Unreadable += walk.Unreadable
		if err != nil {
			return err
		}
		at, c.out.Reached = next, next
	}
	open := func() (err error) {
		figures.Unended, figures.Open, err = c.Store.OpenDecisions(ctx, trackers, c.from, minTime(c.to, c.Now().Add(-unendedAfter)), maxOpenShown)
		return err
	}
	if err := open(); err != nil {
		return err
	}
	if len(trackers) == 0 || figures.Unended == 0 && c.out.Trigger == storage.TriggerSchedule {
		return nil
	}
	// Calls that are missing in the history may be in the tracker log.
	if err := c.compareLogs(ctx); err != nil {
		if ctx.Err() != nil || errors.Is(err, storage.ErrUnavailable) {
			return err
		}
		c.out.Notes = append(c.out.Notes, "the call tracker log was not read: "+ziwoclients.DelayReason(err))
	}
	return open()
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// compareLogs searches the call tracker log for records. It reads a limited number of
// pages, newest first as far as Ziwo sorts them.
func (c *comparison) compareLogs(ctx context.Context) error {
	for start, pages := 0, 0; pages < maxLogPages; pages++ {
		entries, total, err := c.client.TrackerLogs(ctx, ziwo.LogQuery{From: c.from, To: c.to.AddDate(0, 0, 1), Start: start, Size: logPageSize})
		c.out.Counts.Requests++
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return nil
		}
		var records []ziwo.HistoryRecord
		for _, e := range entries {
			if e.CDR == nil || c.seen[e.CallID] || e.CDR.StartedAt.Before(c.from) || !e.CDR.StartedAt.Before(c.to) {
				continue
			}
			records = append(records, ziwo.HistoryRecord{CDR: *e.CDR, Raw: e.Raw})
		}
		if err := c.comparePage(ctx, records); err != nil {
			return err
		}
		start += len(entries)
		first, last := entries[0].At, entries[len(entries)-1].At
		if total >= 0 && start >= total || !last.IsZero() && !last.After(first) && last.Before(c.from) {
			return nil
		}
	}
	c.out.Notes = append(c.out.Notes, fmt.Sprintf("only the first %d entries of the call tracker log were read", maxLogPages*logPageSize))
	return nil
}

// ziwoCall is a call in Ziwo's history.
type ziwoCall struct {
	call   storage.Call
	from   config.Origin
	record ziwo.HistoryRecord
}

// comparePage compares a page of Ziwo's records with the stored calls.
func (c *comparison) comparePage(ctx context.Context, records []ziwo.HistoryRecord) error {
	var (
		calls []ziwoCall
		keys  []string
	)
	for _, record := range records {
		id := record.CDR.CallID
		if id == "" {
			c.out.Counts.Unreadable++
			continue
		}
		if c.seen[id] { // the record moved to the next page between requests
			continue
		}
		c.seen[id] = true
		from := c.origin(record.CDR)
		calls = append(calls, ziwoCall{c.Calls.Call(record.CDR, from), from, record})
		keys = append(keys, id)
	}
	if len(calls) == 0 {
		return nil
	}
	stored, err := c.Store.CallsByKey(ctx, []string{c.contactCenter, ""}, keys)
	if err != nil {
		return err
	}
	storedByKey := make(map[string]storage.Call, len(stored))
	for _, call := range stored {
		if other, ok := storedByKey[call.Key]; !ok || other.ContactCenter != c.contactCenter {
			storedByKey[call.Key] = call
		}
	}
	c.out.Counts.Found += len(calls)
	var missing, improved []ziwoCall
	for _, t := range calls {
		call, ok := storedByKey[t.call.Key]
		if !ok {
			missing = append(missing, t)
			continue
		}
		c.out.Counts.Present++
		enriches, differs, changes := compareCalls(call, t.call)
		if differs {
			c.out.Counts.Differing++
		}
		if enriches {
			c.out.Counts.Enriched++
		}
		if enriches || changes {
			t.from.ContactCenter = call.ContactCenter
			improved = append(improved, t)
		}
	}
	created, err := c.save(ctx, missing)
	c.out.Counts.Backfilled += created
	if err != nil {
		return err
	}
	c.out.Counts.Present += len(missing) - created // stored by another request in the meantime
	_, err = c.save(ctx, improved)
	return err
}

// save stores calls concurrently and returns how many were new.
func (c *comparison) save(ctx context.Context, calls []ziwoCall) (created int, err error) {
	var (
		saves sync.WaitGroup
		mu    sync.Mutex
		slots = make(chan struct{}, maxSavers)
	)
	for _, t := range calls {
		slots <- struct{}{}
		mu.Lock()
		failed := err != nil
		mu.Unlock()
		if failed || ctx.Err() != nil {
			<-slots
			break
		}
		saves.Go(func() {
			defer func() { <-slots }()
			receipt, saveErr := c.Calls.Record(ctx, endcall.Request{ContentType: "application/json", Body: t.record.Raw}, storage.FromReconciliation, t.from)
			mu.Lock()
			defer mu.Unlock()
			if saveErr != nil && err == nil {
				err = saveErr
			}
			if receipt.Saved.Created {
				created++
			}
		})
	}
	saves.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return created, err
}

// origin returns the tracker that handled a call, as endCall determines it, so that the
// call has the same identity from both sources.
func (c *comparison) origin(cdr ziwo.CDR) config.Origin {
	if tracker, ok := c.snapshot.Trackers[cdr.Tracker]; ok && (tracker.Router.ContactCenter() == c.contactCenter || tracker.Router.ContactCenter() == "") {
		return tracker.Origin()
	}
	if cdr.Direction == "inbound" || cdr.Direction == "" {
		for _, tracker := range c.trackers {
			if _, listed := tracker.Router.FindDID(cdr.DIDCalled); listed {
				return tracker.Origin()
			}
		}
	}
	return c.snapshot.Origin(c.contactCenter)
}

// compareCalls reports whether a record of Ziwo completes a stored call, whether the two
// differ, and whether saving the record would change the call. It ignores number formats
// and receive times.
func compareCalls(known, reported storage.Call) (enriches, differs, changes bool) {
	reported.ID, reported.Key, reported.ContactCenter = known.ID, known.Key, known.ContactCenter
	reported.Decision, reported.Route = known.Decision, known.Route
	before := comparableFields(known)
	preferStored, preferReported := comparableFields(storage.FillBlanks(known, reported)), comparableFields(storage.FillBlanks(reported, known))
	return !reflect.DeepEqual(before, preferStored), !reflect.DeepEqual(preferStored, preferReported),
		!reflect.DeepEqual(before, comparableFields(storage.Merge(known, reported)))
}

func comparableFields(c storage.Call) storage.Call {
	c.RawDID, c.RawCaller, c.Flags = "", "", nil
	c.RevisedAt, c.ReceivedAt = time.Time{}, time.Time{}
	return c
}

// ReconciliationInput is the body of POST /api/v1/reconciliation.
type ReconciliationInput struct {
	From          time.Time `json:"from" validate:"required" format:"date-time" example:"2026-11-22T00:00:00Z"`
	To            time.Time `json:"to" validate:"required" format:"date-time" example:"2026-11-23T00:00:00Z"`
	ContactCenter string    `json:"contactCenter,omitempty" example:"aldebaran"` // optional; the default is all contact centers
}

// ReconciliationView is a stored reconciliation.
type ReconciliationView struct {
	ID            string     `json:"id"`
	ContactCenter string     `json:"contactCenter" example:"aldebaran"`
	Trigger       string     `json:"trigger" enums:"schedule,request"`
	From          time.Time  `json:"from" format:"date-time"` // start of the span by call start time, inclusive
	To            time.Time  `json:"to" format:"date-time"`   // end of the span, exclusive
	Reached       *time.Time `json:"reached" format:"date-time" extensions:"x-nullable"`
	StartedAt     time.Time  `json:"startedAt" format:"date-time"`
	EndedAt       time.Time  `json:"endedAt" format:"date-time"`
	State         string     `json:"state" enums:"done,delayed"`
	Error         string     `json:"error"` // reason for the delay
	Notes         []string   `json:"notes"`
	Requests      int        `json:"requests"`   // requests sent to Ziwo
	Found         int        `json:"found"`      // calls in Ziwo's history
	Present       int        `json:"present"`    // calls that were already stored
	Backfilled    int        `json:"backfilled"` // missing calls that were stored
	Enriched      int        `json:"enriched"`   // stored calls that were completed
	Differing     int        `json:"differing"`  // stored calls that differ from Ziwo's record
	Unreadable    int        `json:"unreadable"` // records that could not be read
	Unended       int        `json:"unended"`    // calls that started but never ended
	Open          []string   `json:"open"`       // decision IDs of the newest unended calls
}

// ReconciliationList is a page of reconciliations, newest first.
type ReconciliationList struct {
	Runs []ReconciliationView `json:"runs"`
	Next string               `json:"next"`
}

func viewReconciliation(r storage.Reconciliation) ReconciliationView {
	f := r.Counts
	return ReconciliationView{
		ID: r.ID, ContactCenter: r.ContactCenter, Trigger: string(r.Trigger), From: r.From, To: r.To, Reached: storage.OptionalTime(r.Reached),
		StartedAt: r.StartedAt, EndedAt: r.EndedAt, State: string(r.State), Error: r.Error, Notes: append([]string{}, r.Notes...),
		Requests: f.Requests, Found: f.Found, Present: f.Present, Backfilled: f.Backfilled, Enriched: f.Enriched, Differing: f.Differing,
		Unreadable: f.Unreadable, Unended: f.Unended, Open: append([]string{}, f.Open...),
	}
}

// List returns a page of reconciliations, newest first.
func (r *Reconciler) List(ctx context.Context, page storage.Page) (ReconciliationList, error) {
	runs, next, err := r.Store.Reconciliations(ctx, page)
	if err != nil {
		return ReconciliationList{}, fmt.Errorf("list reconciliations: %w", err)
	}
	out := ReconciliationList{Runs: make([]ReconciliationView, len(runs)), Next: next}
	for i, run := range runs {
		out.Runs[i] = viewReconciliation(run)
	}
	return out, nil
}

// Reconcile compares a span immediately and returns one run per contact center. If Ziwo
// is unavailable, the run has the state delayed and there is no error. Errors: *Invalid,
// storage.ErrUnavailable.
func (r *Reconciler) Reconcile(ctx context.Context, in ReconciliationInput) (ReconciliationList, error) {
	if err := problem.Validate(in); err != nil {
		return ReconciliationList{}, err
	}
	names := r.Clients.Names()
	switch {
	case !in.From.Before(in.To):
		return ReconciliationList{}, problem.Errorf("to", "must be after from")
	case in.To.Sub(in.From) > maxWindow:
		return ReconciliationList{}, problem.Errorf("from", "is more than 31 days before to; split the span")
	case in.ContactCenter != "" && !slices.Contains(names, in.ContactCenter):
		return ReconciliationList{}, problem.Errorf("contactCenter", "contact center %q is unknown or has no credentials", problem.Clip(in.ContactCenter))
	case in.ContactCenter != "":
		names = []string{in.ContactCenter}
	case len(names) == 0:
		return ReconciliationList{}, problem.Errorf("contactCenter", "no contact center with credentials is configured")
	}
	out := ReconciliationList{Runs: []ReconciliationView{}}
	for _, name := range names {
		run, err := r.requested(ctx, name, in.From.UTC(), in.To.UTC())
		if errors.Is(err, storage.ErrUnavailable) {
			return ReconciliationList{}, err
		}
		if ctx.Err() != nil {
			return ReconciliationList{}, ctx.Err()
		}
		out.Runs = append(out.Runs, viewReconciliation(run))
	}
	return out, nil
}
