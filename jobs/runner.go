package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/storage"
)

// jobStore is the part of a store that Runner uses.
type jobStore interface {
	ClaimJobs(ctx context.Context, c storage.JobClaim) ([]storage.Job, error)
	SettleJobs(ctx context.Context, settlements []storage.JobSettlement) (lost []string, err error)
	ReapJobs(ctx context.Context, now time.Time) (int, error)
}

// RunnerOptions are the dependencies of a Runner.
type RunnerOptions struct {
	Store    jobStore
	Kinds    []Kind
	Workers  int // jobs of kinds without a Limit that run at the same time; 0 means 4
	Registry prometheus.Registerer
	Now      func() time.Time
	Logger   *slog.Logger
}

// Runner runs jobs, including those that other processes added. It is safe for
// concurrent use.
type Runner struct {
	store    jobStore
	kinds    map[string]Kind
	pools    []*pool
	attempts *prometheus.CounterVec
	now      func() time.Time
	logger   *slog.Logger
	wake     chan struct{}
}

const (
	defaultWorkers = 4
	pollInterval   = time.Second      // finds jobs that other processes added, and jobs that become due
	reapInterval   = 10 * time.Second // finds jobs of lost workers
	leaseMargin    = 30 * time.Second // time that a lease continues after the timeout, for storing the outcome
	storeTimeout   = 5 * time.Second
	stopTimeout    = 3 * time.Second // time that running jobs get when the runner stops
	maxErrorLength = 1000            // longest stored error, in characters

	// Outcomes are stored in batches, which saves transactions.
	settleDelay = 50 * time.Millisecond // wait for other running jobs to finish
	maxSettled  = 100
)

// NewRunner returns a Runner and registers its metrics. It returns an error if a
// dependency is missing or a kind is incomplete.
func NewRunner(o RunnerOptions) (*Runner, error) {
	if o.Store == nil || o.Registry == nil || o.Now == nil || o.Logger == nil {
		return nil, errors.New("job runner has no store, registry, clock, or logger")
	}
	r := &Runner{
		store: o.Store, kinds: make(map[string]Kind, len(o.Kinds)), now: o.Now, logger: o.Logger, wake: make(chan struct{}, 1),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_job_tries_total", Help: "Attempts to run jobs, by kind and outcome: done, retry, delayed, stopped, or dead.",
		}, []string{"kind", "outcome"}),
	}
	workers := cmp.Or(o.Workers, defaultWorkers)
	shared := &pool{limit: func() int { return workers }}
	for _, k := range o.Kinds {
		if k.Name == "" || (k.Run == nil) == (k.Lookup == nil) {
			return nil, fmt.Errorf("job kind %q has no name, or not exactly one function", k.Name)
		}
		if _, exists := r.kinds[k.Name]; exists {
			return nil, fmt.Errorf("two job kinds are named %q", k.Name)
		}
		r.kinds[k.Name] = k
		if k.Limit != nil {
			r.pools = append(r.pools, &pool{kinds: []string{k.Name}, lease: k.timeout() + leaseMargin, limit: k.Limit})
			continue
		}
		shared.kinds = append(shared.kinds, k.Name)
		shared.lease = max(shared.lease, k.timeout()+leaseMargin)
	}
	if len(shared.kinds) > 0 {
		r.pools = append(r.pools, shared)
	}
	return r, o.Registry.Register(r.attempts)
}

// pool is a set of kinds that share a limit.
type pool struct {
	kinds []string
	lease time.Duration
	limit func() int
}

// Wake makes the runner look for jobs now instead of within a second. It never blocks.
func (r *Runner) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Run runs jobs until ctx ends. Running jobs then have 3 seconds to finish; the others
// are returned to the queue, and their attempt does not count. Run returns nil.
func (r *Runner) Run(ctx context.Context) error {
	running, cut := context.WithCancel(context.WithoutCancel(ctx)) // running jobs outlive ctx for a moment
	defer cut()
	w := &workers{Runner: r, busy: make(map[*pool]int, len(r.pools)), finished: make(chan attempt)}
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	for ctx.Err() == nil {
		w.reap(ctx)
		for _, p := range r.pools {
			for _, j := range w.claim(ctx, p) {
				w.start(running, p, j)
			}
		}
		select {
		case <-ctx.Done():
		case <-poll.C:
		case <-r.wake:
		case a := <-w.finished:
			w.settle(ctx, w.gather(a))
		}
	}
	defer time.AfterFunc(stopTimeout, cut).Stop()
	for w.total > 0 {
		w.settle(ctx, w.gather(<-w.finished))
	}
	w.goroutines.Wait()
	return nil
}

// workers is the state of Run.
type workers struct {
	*Runner
	goroutines sync.WaitGroup
	finished   chan attempt
	busy       map[*pool]int // running jobs
	total      int           // running jobs of all pools
	lastReap   time.Time
	failing    bool // jobs cannot be claimed
}

// attempt is a finished attempt of a job.
type attempt struct {
	pool    *pool
	kind    Kind
	job     storage.Job
	took    time.Duration
	result  *storage.LookupResult
	err     error
	stopped bool // interrupted because the runner stops
}

// reap periodically returns jobs of lost workers to the queue.
func (w *workers) reap(ctx context.Context) {
	now := w.now().UTC()
	if now.Sub(w.lastReap) < reapInterval {
		return
	}
	w.lastReap = now
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if n, err := w.store.ReapJobs(ctx, now); err == nil && n > 0 {
		w.logger.LogAttrs(ctx, slog.LevelWarn, "jobs of lost workers returned to the queue", slog.Int("jobs", n))
	}
}

// claim claims as many jobs as the pool may run now.
func (w *workers) claim(ctx context.Context, p *pool) []storage.Job {
	free := p.limit() - w.busy[p]
	if free <= 0 || ctx.Err() != nil {
		return nil
	}
	// A claim that shutdown interrupts would block its jobs until the lease ends.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	now := w.now().UTC()
	claimed, err := w.store.ClaimJobs(ctx, storage.JobClaim{Kinds: p.kinds, Now: now, Until: now.Add(p.lease), Limit: free})
	if failing := err != nil; failing != w.failing { // log an outage once
		w.failing = failing
		if failing {
			w.logger.LogAttrs(ctx, slog.LevelError, "job claims failing", slog.Any("error", err))
		} else {
			w.logger.LogAttrs(ctx, slog.LevelInfo, "job claims resumed")
		}
	}
	return claimed
}

// start runs one attempt of a claimed job.
func (w *workers) start(ctx context.Context, p *pool, j storage.Job) {
	w.busy[p]++
	w.total++
	w.goroutines.Go(func() {
		a := attempt{pool: p, kind: w.kinds[j.Kind], job: j}
		began := w.now()
		if j.Attempts > a.kind.maxAttempts() { // the processes that ran it crashed
			a.err = Permanent(errors.New("every process that ran the job crashed"))
		} else {
			ctx, cancel := context.WithTimeout(ctx, a.kind.timeout())
			a.result, a.err = runAttempt(ctx, a.kind, j)
			cancel()
		}
		a.stopped = a.err != nil && ctx.Err() != nil
		a.took = w.now().Sub(began)
		w.finished <- a
	})
}

// runAttempt runs an attempt. A panic fails the attempt only.
func runAttempt(ctx context.Context, k Kind, j storage.Job) (result *storage.LookupResult, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	if k.Lookup != nil {
		return k.Lookup(ctx, j)
	}
	return nil, k.Run(ctx, j)
}

// gather returns a with the attempts that finish soon after it.
func (w *workers) gather(a attempt) []attempt {
	batch := []attempt{a}
	late := time.NewTimer(settleDelay)
	defer late.Stop()
	for len(batch) < min(w.total, maxSettled) {
		select {
		case a := <-w.finished:
			batch = append(batch, a)
		case <-late.C:
			return batch
		}
	}
	return batch
}

// settle stores the outcomes of attempts in one transaction.
func (w *workers) settle(ctx context.Context, batch []attempt) {
	settlements, outcomes := make([]storage.JobSettlement, len(batch)), make([]string, len(batch))
	for n, a := range batch {
		w.busy[a.pool]--
		w.total--
		settlements[n].Job = a.job
		settlements[n].Outcome, outcomes[n] = w.outcome(a)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	lost, err := w.store.SettleJobs(ctx, settlements)
	for n, a := range batch {
		w.attempts.WithLabelValues(a.kind.Name, outcomes[n]).Inc()
		unsettled := err
		if err == nil && slices.Contains(lost, a.job.ID) {
			unsettled = errLeaseEnded
		}
		w.log(ctx, a, outcomes[n], unsettled)
	}
}

var errLeaseEnded = errors.New("the lease ended before the outcome was stored")

// log logs a finished attempt. unsettled is the error of storing its outcome.
func (w *workers) log(ctx context.Context, a attempt, outcome string, unsettled error) {
	if a.err == nil && unsettled == nil {
		return
	}
	attrs := []slog.Attr{
		slog.String("kind", a.kind.Name), slog.String("job", a.job.ID), slog.Int("attempt", a.job.Attempts),
		slog.String("outcome", outcome), slog.Duration("took", a.took),
	}
	switch {
	case unsettled != nil:
		w.logger.LogAttrs(ctx, slog.LevelError, "job outcome not stored; the job will run again", append(attrs, slog.Any("error", unsettled))...)
	case outcome == "dead":
		w.logger.LogAttrs(ctx, slog.LevelError, "job dead; retry it after fixing the cause", append(attrs, slog.Any("error", a.err))...)
	default:
		w.logger.LogAttrs(ctx, slog.LevelDebug, "job will run again", append(attrs, slog.Any("error", a.err))...)
	}
}

// outcome decides what happens to a job after an attempt, and names it for logs and
// metrics.
func (r *Runner) outcome(a attempt) (o storage.JobOutcome, name string) {
	now := r.now().UTC()
	o = storage.JobOutcome{State: storage.JobDone, Lookup: a.result, Now: now}
	if a.err == nil {
		return o, "done"
	}
	o.State, o.Error = storage.JobWaiting, clip(a.err.Error())
	d := directiveOf(a.err)
	o.Payload = d.payload
	switch {
	case d.permanent:
		o.State = storage.JobDead
		return o, "dead"
	case d.uncounted:
		if errors.Is(a.err, errUnfinished) {
			o.Error = ""
		}
		o.Uncounted, o.RunAt = true, now.Add(d.wait)
		return o, "delayed"
	case a.stopped:
		o.Uncounted, o.RunAt, o.Error = true, now, ""
		return o, "stopped"
	case a.job.Attempts >= a.kind.maxAttempts():
		o.State = storage.JobDead
		return o, "dead"
	default:
		o.RunAt = now.Add(cmp.Or(d.wait, a.kind.Backoff.Pause(a.job.Attempts)))
		return o, "retry"
	}
}

// clip shortens an error message.
func clip(message string) string {
	if runes := []rune(message); len(runes) > maxErrorLength {
		return string(runes[:maxErrorLength]) + "…"
	}
	return message
}
