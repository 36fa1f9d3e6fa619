// Package reconcile compares the stored calls with Ziwo's call history and backfills
// missing CDRs.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/config"
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

// callRecorder stores calls in the same way as those of endCall and with the same
// identity, so a call from several sources is stored once.
type callRecorder interface {
	// Call returns the call that a CDR describes.
	Call(cdr ziwo.CDR, from config.Origin) storage.Call
	// Backfill stores a CDR in JSON.
	Backfill(ctx context.Context, from config.Origin, cdr []byte) (storage.SaveResult, error)
}

// Options holds the dependencies and settings of a Reconciler. All fields are required
// except Interval.
type Options struct {
	Clients  *ziwoclients.Clients
	Config   *config.Controller
	Recorder callRecorder
	Store    reconciliationStore
	Registry prometheus.Registerer
	Now      func() time.Time
	Logger   *slog.Logger
	Interval time.Duration // interval of scheduled reconciliations; required for Task
}

// Reconciler compares the stored calls with Ziwo's call history, stores missing calls,
// and completes incomplete ones. It is safe for concurrent use.
type Reconciler struct {
	clients  *ziwoclients.Clients
	config   *config.Controller
	recorder callRecorder
	store    reconciliationStore
	now      func() time.Time
	logger   *slog.Logger
	interval time.Duration

	runs       *prometheus.CounterVec
	calls      *prometheus.CounterVec
	reconciled *prometheus.GaugeVec

	startedAt time.Time
	lastDeep  map[string]time.Time // time of the last deep reconciliation, by contact center; used only by RunScheduled
}

// New returns a Reconciler and registers its metrics.
func New(o Options) *Reconciler {
	if o.Clients == nil || o.Config == nil || o.Recorder == nil || o.Store == nil || o.Registry == nil || o.Now == nil || o.Logger == nil {
		panic("reconcile.New: Clients, Config, Recorder, Store, Registry, Now, and Logger are required")
	}
	r := &Reconciler{
		clients: o.Clients, config: o.Config, recorder: o.Recorder, store: o.Store, now: o.Now, logger: o.Logger, interval: o.Interval,
		startedAt: o.Now(), lastDeep: map[string]time.Time{},
	}
	r.runs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "calltracker_reconciliations_total", Help: "Comparisons with Ziwo's call history, by contact center and state.",
	}, []string{"contact_center", "state"})
	r.calls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "calltracker_reconciled_calls_total", Help: "Calls that reconciliation backfilled, enriched, or found to differ, by contact center and kind.",
	}, []string{"contact_center", "kind"})
	r.reconciled = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "calltracker_reconciled_until_seconds", Help: "Unix time up to which calls are reconciled with Ziwo's history, by contact center.",
	}, []string{"contact_center"})
	o.Registry.MustRegister(r.runs, r.calls, r.reconciled)
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
	settleDelay   = 30 * time.Second    // age at which calls are compared; Ziwo may still be sending newer CDRs
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
	maxOpenShown  = 20                  // decision IDs listed in a result
	maxSavers     = 16                  // concurrent saves; the store commits them together
	maxLogPages   = 20                  // pages of the tracker log read per run
	logPageSize   = 1000                // entries per page
	recordTimeout = 5 * time.Second     // for storing the result
)

// Task returns the task that reconciles every contact center on schedule.
func (r *Reconciler) Task() jobs.Task {
	return jobs.Task{Name: "reconcile calls", Interval: r.interval, Timeout: taskTimeout, Run: r.RunScheduled}
}

// RunScheduled reconciles every contact center, except those that are being reconciled or
// have just been reconciled. It must not be called concurrently.
func (r *Reconciler) RunScheduled(ctx context.Context) error {
	var failures []error
	retry := maxRetry
	for _, name := range r.clients.Names() {
		err := r.runIfDue(ctx, name)
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

// runIfDue reconciles a contact center, unless it is being reconciled or has just been
// reconciled.
func (r *Reconciler) runIfDue(ctx context.Context, name string) error {
	lease := r.lease(name)
	if held, err := lease.Acquire(ctx); err != nil || !held {
		return err
	}
	ctx, release := lease.Hold(ctx)
	defer r.release(ctx, release)
	now := r.now()
	reached, finished, err := r.store.LastReconciliation(ctx, name)
	if err != nil {
		return err
	}
	if !finished.IsZero() && now.Sub(finished) < r.interval/2 {
		return nil
	}
	from, to := r.span(name, now, reached)
	_, err = r.run(ctx, name, from, to, storage.TriggerSchedule)
	if err == nil && from.Before(to.Add(-recheckWindow)) {
		r.lastDeep[name] = now
	}
	return err
}

// runRequested waits until no other reconciliation of a contact center is running, and then
// reconciles a span of it.
func (r *Reconciler) runRequested(ctx context.Context, name string, from, to time.Time) (storage.Reconciliation, error) {
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
	return jobs.NewLease(r.store, "reconciliation of "+name, leaseLength, r.now)
}

func (r *Reconciler) release(ctx context.Context, release func() error) {
	if err := release(); err != nil { // the lease expires anyway
		r.logger.LogAttrs(ctx, slog.LevelInfo, "reconciliation lease not released; it will expire", slog.Any("error", err))
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

// List returns a page of reconciliations, newest first.
func (r *Reconciler) List(ctx context.Context, page storage.Page) (List, error) {
	runs, next, err := r.store.Reconciliations(ctx, page)
	if err != nil {
		return List{}, fmt.Errorf("list reconciliations: %w", err)
	}
	out := List{Runs: make([]View, len(runs)), Next: next}
	for i, run := range runs {
		out.Runs[i] = view(run)
	}
	return out, nil
}

// Reconcile compares a span immediately and returns one run per contact center. If Ziwo
// is unavailable, the run has the state delayed and there is no error. Errors:
// *problem.Invalid, storage.ErrUnavailable.
func (r *Reconciler) Reconcile(ctx context.Context, in Input) (List, error) {
	if err := problem.Validate(in); err != nil {
		return List{}, err
	}
	names := r.clients.Names()
	switch {
	case !in.From.Before(in.To):
		return List{}, problem.Errorf("to", "must be after from")
	case in.To.Sub(in.From) > maxWindow:
		return List{}, problem.Errorf("from", "is more than 31 days before to; split the span")
	case in.ContactCenter != "" && !slices.Contains(names, in.ContactCenter):
		return List{}, problem.Errorf("contactCenter", "contact center %q is unknown or has no credentials", problem.Clip(in.ContactCenter))
	case in.ContactCenter != "":
		names = []string{in.ContactCenter}
	case len(names) == 0:
		return List{}, problem.Errorf("contactCenter", "no contact center with credentials is configured")
	}
	out := List{Runs: []View{}}
	for _, name := range names {
		run, err := r.runRequested(ctx, name, in.From.UTC(), in.To.UTC())
		if errors.Is(err, storage.ErrUnavailable) {
			return List{}, err
		}
		if ctx.Err() != nil {
			return List{}, ctx.Err()
		}
		out.Runs = append(out.Runs, view(run))
	}
	return out, nil
}

// run reconciles a span of a contact center, which must be leased, and records the
// result.
func (r *Reconciler) run(ctx context.Context, name string, from, to time.Time, trigger storage.Trigger) (storage.Reconciliation, error) {
	c := comparison{
		Reconciler: r, contactCenter: name, from: from, to: to, seen: map[string]bool{},
		result: storage.Reconciliation{ID: storage.NewID(), ContactCenter: name, Trigger: trigger, From: from, To: to, StartedAt: r.now().UTC().Truncate(time.Microsecond)},
	}
	err := c.compare(ctx)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	c.result.State, c.result.EndedAt = storage.ReconciliationDone, r.now().UTC().Truncate(time.Microsecond)
	if err != nil {
		c.result.State, c.result.Error = storage.ReconciliationDelayed, ziwoclients.DelayReason(err)
	}
	if errors.Is(ctx.Err(), context.Canceled) && trigger == storage.TriggerSchedule { // shutdown, or lease lost; the next run continues
		return c.result, err
	}
	r.count(c.result)
	level := slog.LevelDebug
	if c.result.Counts.Backfilled > 0 || c.result.Counts.Enriched > 0 || trigger == storage.TriggerRequest {
		level = slog.LevelInfo
	}
	r.logger.LogAttrs(ctx, level, "reconciled", slog.String("contact_center", name), slog.String("state", string(c.result.State)),
		slog.Time("from", from), slog.Time("to", to), slog.Int("found", c.result.Counts.Found), slog.Int("backfilled", c.result.Counts.Backfilled),
		slog.Int("enriched", c.result.Counts.Enriched), slog.Int("differing", c.result.Counts.Differing), slog.Int("unended", c.result.Counts.Unended))
	recordCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if recordErr := r.store.RecordReconciliation(recordCtx, c.result); recordErr != nil {
		err = errors.Join(err, recordErr)
	}
	return c.result, err
}
