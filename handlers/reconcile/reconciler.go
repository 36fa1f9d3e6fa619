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
	ClaimReconciliation(ctx context.Context, contactCenter, holder string, now, until time.Time) (bool, error)
}

// callRecorder stores calls in the same way as those of endCall and with the same
// identity, so a call from several sources is stored once.
type callRecorder interface {
	// Call returns the call that a CDR describes.
	Call(cdr ziwo.CDR, from config.Origin) storage.Call
	// Backfill stores a CDR in JSON.
	Backfill(ctx context.Context, from config.Origin, cdr []byte) (storage.SaveResult, error)
}

// Options holds the dependencies and settings of a Reconciler. All fields are required.
type Options struct {
	Clients  *ziwoclients.Clients
	Config   *config.Controller
	Recorder callRecorder
	Store    reconciliationStore
	Registry prometheus.Registerer
	Now      func() time.Time
	Logger   *slog.Logger
	Interval time.Duration // interval of scheduled reconciliations; 0 if Run is not used
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

	holder    string
	running   chan struct{} // semaphore for one run at a time
	startedAt time.Time
	lastDeep  map[string]time.Time // time of the last deep reconciliation, by contact center
}

// New returns a Reconciler and registers its metrics.
func New(o Options) *Reconciler {
	if o.Clients == nil || o.Config == nil || o.Recorder == nil || o.Store == nil || o.Registry == nil || o.Now == nil || o.Logger == nil {
		panic("reconcile.New: Clients, Config, Recorder, Store, Registry, Now, and Logger are required")
	}
	r := &Reconciler{
		clients: o.Clients, config: o.Config, recorder: o.Recorder, store: o.Store, now: o.Now, logger: o.Logger, interval: o.Interval,
		holder: storage.NewID(), running: make(chan struct{}, 1), startedAt: o.Now(), lastDeep: map[string]time.Time{},
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
	claimLease    = 10 * time.Minute    // after which another replica takes over
	minRetry      = time.Minute         // minimum delay of a retry
	maxRetry      = time.Hour           // maximum delay that Ziwo can request
	maxOpenShown  = 20                  // decision IDs listed in a result
	maxSavers     = 16                  // concurrent saves; the store commits them together
	maxLogPages   = 20                  // pages of the tracker log read per run
	logPageSize   = 1000                // entries per page
	recordTimeout = 5 * time.Second     // for storing the result
)

// Run reconciles every contact center at regular intervals until ctx ends. It records
// errors and retries.
func (r *Reconciler) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		timer.Reset(r.reconcileDue(ctx))
	}
}

// reconcileDue reconciles every contact center that is due, and returns how long to
// wait for the next run.
func (r *Reconciler) reconcileDue(ctx context.Context) time.Duration {
	wait := r.interval
	for _, name := range r.clients.Names() {
		retry, err := r.reconcileScheduled(ctx, name)
		switch {
		case ctx.Err() != nil:
			return wait
		case err != nil:
			r.logger.LogAttrs(ctx, slog.LevelWarn, "reconciliation delayed", slog.String("contact_center", name), slog.Any("error", err))
			wait = min(wait, max(minRetry, min(retry, maxRetry)))
		}
	}
	return wait
}

// reconcileScheduled reconciles a contact center unless another replica is doing so or
// has just done so.
func (r *Reconciler) reconcileScheduled(ctx context.Context, name string) (retry time.Duration, err error) {
	now := r.now()
	claimed, err := r.store.ClaimReconciliation(ctx, name, r.holder, now, now.Add(claimLease))
	if err != nil || !claimed {
		return 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
		defer cancel()
		now := r.now()
		if _, releaseErr := r.store.ClaimReconciliation(ctx, name, r.holder, now, now); releaseErr != nil {
			r.logger.LogAttrs(ctx, slog.LevelInfo, "reconciliation claim not released; it will expire", slog.Any("error", releaseErr))
		}
	}()
	reached, finished, err := r.store.LastReconciliation(ctx, name)
	if err != nil {
		return 0, err
	}
	if !finished.IsZero() && now.Sub(finished) < r.interval/2 {
		return 0, nil
	}
	from, to := r.span(name, now, reached)
	_, err = r.run(ctx, name, from, to, storage.TriggerSchedule)
	if err == nil && from.Before(to.Add(-recheckWindow)) {
		r.lastDeep[name] = now
	}
	var failure *ziwo.APIError
	if errors.As(err, &failure) {
		retry = failure.RetryAfter
	}
	return retry, err
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
// is unavailable, the run has the state delayed and there is no error. Errors: *problem.Invalid,
// storage.ErrUnavailable.
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
		run, err := r.run(ctx, name, in.From.UTC(), in.To.UTC(), storage.TriggerRequest)
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

// run reconciles a span of a contact center and records the result. Only one run is
// active at a time.
func (r *Reconciler) run(ctx context.Context, name string, from, to time.Time, trigger storage.Trigger) (storage.Reconciliation, error) {
	select {
	case r.running <- struct{}{}:
		defer func() { <-r.running }()
	case <-ctx.Done():
		return storage.Reconciliation{}, ctx.Err()
	}
	c := comparison{
		Reconciler: r, contactCenter: name, from: from, to: to, seen: map[string]bool{},
		out: storage.Reconciliation{ID: storage.NewID(), ContactCenter: name, Trigger: trigger, From: from, To: to, StartedAt: r.now().UTC().Truncate(time.Microsecond)},
		renewClaim: func(ctx context.Context) error {
			if trigger != storage.TriggerSchedule {
				return nil
			}
			now := r.now()
			_, err := r.store.ClaimReconciliation(ctx, name, r.holder, now, now.Add(claimLease))
			return err
		},
	}
	err := c.compare(ctx)
	c.out.State, c.out.EndedAt = storage.ReconciliationDone, r.now().UTC().Truncate(time.Microsecond)
	if err != nil {
		c.out.State, c.out.Error = storage.ReconciliationDelayed, ziwoclients.DelayReason(err)
	}
	if ctx.Err() != nil && trigger == storage.TriggerSchedule { // shutdown; the next start continues
		return c.out, ctx.Err()
	}
	r.count(c.out)
	level := slog.LevelDebug
	if c.out.Counts.Backfilled > 0 || c.out.Counts.Enriched > 0 || trigger == storage.TriggerRequest {
		level = slog.LevelInfo
	}
	r.logger.LogAttrs(ctx, level, "reconciled", slog.String("contact_center", name), slog.String("state", string(c.out.State)),
		slog.Time("from", from), slog.Time("to", to), slog.Int("found", c.out.Counts.Found), slog.Int("backfilled", c.out.Counts.Backfilled),
		slog.Int("enriched", c.out.Counts.Enriched), slog.Int("differing", c.out.Counts.Differing), slog.Int("unended", c.out.Counts.Unended))
	recordCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	if recordErr := r.store.RecordReconciliation(recordCtx, c.out); recordErr != nil {
		err = errors.Join(err, recordErr)
	}
	return c.out, err
}
