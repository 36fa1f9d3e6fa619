package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"calltracker/storage"
)

// jobStore is the part of a store that Runner uses.
type jobStore interface {
	ClaimJobs(ctx context.Context, c storage.JobClaim) ([]storage.Job, error)
	SettleJob(ctx context.Context, j storage.Job, with storage.JobOutcome) error
	ReapJobs(ctx context.Context, now time.Time) (int, error)
}

// JobKind defines how the jobs of a kind run. To add a kind, add a JobKind to the
// Runner in package server. Add its jobs to the Jobs of a storage.ReceivedCDR, which
// stores them in the transaction of the report, or call AddJobs.
//
// Run must be idempotent: a job may run more than once, in this process and in
// others, but not concurrently while Timeout is respected. The returned error
// decides what happens to the job. After nil, the job is done. Permanent makes the
// job dead, RetryAfter sets the time of the next attempt, and Delay does the same
// without counting the attempt. After any other error, the job is retried after
// Backoff.
type JobKind struct {
	Kind        string
	Run         func(ctx context.Context, j storage.Job) error
	Timeout     time.Duration                 // of an attempt; 0 means 30 s
	MaxAttempts int                           // counted attempts; 0 means 10
	Backoff     func(tries int) time.Duration // before the next attempt, plus jitter; nil means 1 s, doubled up to 1 h
}

const (
	jobTimeout      = 30 * time.Second
	jobAttempts     = 10
	jobPollInterval = time.Second      // finds jobs of other processes and jobs that have become due
	jobReapInterval = 10 * time.Second // interval of looking for jobs whose workers are gone
	leaseMargin     = 30 * time.Second // lease time beyond the timeout, for storing the result
	settleTimeout   = 5 * time.Second
	stopTimeout     = 3 * time.Second // grace period for running jobs at shutdown
	maxJobError     = 1000            // characters of an error to store
)

func (k JobKind) timeout() time.Duration {
	if k.Timeout > 0 {
		return k.Timeout
	}
	return jobTimeout
}

func (k JobKind) attempts() int {
	if k.MaxAttempts > 0 {
		return k.MaxAttempts
	}
	return jobAttempts
}

func (k JobKind) backoff(tries int) time.Duration {
	if k.Backoff != nil {
		return k.Backoff(tries)
	}
	const steps = 12 // more than an hour
	return min(time.Second<<min(max(tries-1, 0), steps), time.Hour)
}

// jobError is an error that decides what happens to its job.
type jobError struct {
	error
	permanent bool
	uncounted bool
	wait      time.Duration
	payload   []byte
}

func (e *jobError) Unwrap() error { return e.error }

// Permanent marks an error that a retry cannot fix.
func Permanent(err error) error { return &jobError{error: err, permanent: true} }

// RetryAfter marks an error that a retry after wait may fix.
func RetryAfter(wait time.Duration, err error) error { return &jobError{error: err, wait: wait} }

// Delay marks an error that is not caused by the job, such as an unavailable
// upstream. The attempt is not counted, so a long outage does not make jobs dead.
func Delay(wait time.Duration, err error) error {
	return &jobError{error: err, wait: wait, uncounted: true}
}

// errContinue marks a job that has more work to do.
var errContinue = errors.New("job not finished")

// Continue ends an attempt that did part of the work. The job runs again after wait
// with the payload, which records the progress.
func Continue(wait time.Duration, payload []byte) error {
	return &jobError{error: errContinue, wait: wait, uncounted: true, payload: payload}
}

// Runner runs jobs, including jobs that other processes stored in the same database.
// Its fields must not change while it runs.
type Runner struct {
	Store   jobStore
	Kinds   []JobKind
	Workers int // concurrent jobs; 0 means 4
	Metrics *Metrics
	Now     func() time.Time
	Random  func() float64 // returns a number in [0, 1)
	Logger  *slog.Logger

	once sync.Once
	wake chan struct{}
}

func (r *Runner) wakeChan() chan struct{} {
	r.once.Do(func() { r.wake = make(chan struct{}, 1) })
	return r.wake
}

// Wake announces that there may be a new job. It never blocks. Without it, a new job
// is found within a second.
func (r *Runner) Wake() {
	select {
	case r.wakeChan() <- struct{}{}:
	default:
	}
}

// Run runs jobs until ctx ends. Running jobs then have 3 seconds to finish; others
// are returned to the queue without counting the attempt. Run returns nil.
func (r *Runner) Run(ctx context.Context) error {
	if len(r.Kinds) == 0 {
		return nil
	}
	kinds := make(map[string]JobKind, len(r.Kinds))
	names := make([]string, 0, len(r.Kinds))
	maxTimeout := time.Duration(0)
	for _, k := range r.Kinds {
		kinds[k.Kind] = k
		names = append(names, k.Kind)
		maxTimeout = max(maxTimeout, k.timeout())
	}
	slices.Sort(names)
	workers := r.Workers
	if workers <= 0 {
		workers = 4
	}

	// Running jobs outlive ctx for a grace period.
	runCtx, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var (
		running  sync.WaitGroup
		busy     = make(chan struct{}, workers)
		poll     = time.NewTicker(jobPollInterval)
		lastReap time.Time
		failing  bool
	)
	defer poll.Stop()
	for ctx.Err() == nil {
		now := r.Now().UTC()
		if now.Sub(lastReap) >= jobReapInterval {
			lastReap = now
			if n, err := r.reap(ctx, now); err == nil && n > 0 {
				r.Logger.LogAttrs(ctx, slog.LevelWarn, "jobs reclaimed from lost workers", slog.Int("jobs", n))
			}
		}
		freeWorkers := workers - len(busy)
		claimed, err := r.claim(ctx, storage.JobClaim{Kinds: names, Now: now, Until: now.Add(maxTimeout + leaseMargin), Limit: freeWorkers})
		if claimFailed := err != nil && ctx.Err() == nil; claimFailed != failing { // log an outage once
			failing = claimFailed
			if claimFailed {
				r.Logger.LogAttrs(ctx, slog.LevelError, "job claims failing", slog.Any("error", err))
			} else {
				r.Logger.LogAttrs(ctx, slog.LevelInfo, "job claims resumed")
			}
		}
		for _, j := range claimed {
			busy <- struct{}{} // does not block, because at most freeWorkers jobs were claimed
			running.Go(func() {
				defer r.Wake() // more jobs may be due than there were free workers
				defer func() { <-busy }()
				r.run(runCtx, kinds[j.Kind], j)
			})
		}
		select {
		case <-ctx.Done():
		case <-poll.C:
		case <-r.wakeChan():
		}
	}
	finished := make(chan struct{})
	go func() { running.Wait(); close(finished) }()
	grace := time.NewTimer(stopTimeout)
	defer grace.Stop()
	select {
	case <-finished:
	case <-grace.C:
		abort()
		<-finished
	}
	return nil
}

func (r *Runner) claim(ctx context.Context, c storage.JobClaim) ([]storage.Job, error) {
	if c.Limit <= 0 {
		return nil, nil
	}
	// Shutdown does not cancel a claim. A job claimed without receiving the response
	// would be blocked until its lease expires.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	return r.Store.ClaimJobs(ctx, c)
}

func (r *Runner) reap(ctx context.Context, now time.Time) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return r.Store.ReapJobs(ctx, now)
}

// run makes one attempt and stores its result.
func (r *Runner) run(ctx context.Context, k JobKind, j storage.Job) {
	start := r.Now()
	var err error
	if j.Attempts > k.attempts() { // every worker was lost during its attempt
		err = Permanent(errors.New("every worker was lost while running the job"))
	} else {
		attempt, cancel := context.WithTimeout(ctx, k.timeout())
		err = try(attempt, k, j)
		cancel()
	}
	stopped := err != nil && ctx.Err() != nil
	with, outcome := r.settlement(k, j, err, stopped)
	saveCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	settleErr := r.Store.SettleJob(saveCtx, j, with)
	r.Metrics.jobs.WithLabelValues(k.Kind, outcome).Inc()
	attrs := []slog.Attr{
		slog.String("kind", k.Kind), slog.String("job", j.ID), slog.Int("attempt", j.Attempts),
		slog.String("outcome", outcome), slog.Duration("took", r.Now().Sub(start)),
	}
	switch {
	case settleErr != nil:
		r.Logger.LogAttrs(saveCtx, slog.LevelError, "job result not stored; job will run again",
			append(attrs, slog.Any("error", settleErr))...)
	case outcome == "dead":
		r.Logger.LogAttrs(saveCtx, slog.LevelError, "job dead; retry it after fixing the cause", append(attrs, slog.Any("error", err))...)
	case err != nil:
		r.Logger.LogAttrs(saveCtx, slog.LevelDebug, "job will run again", append(attrs, slog.Any("error", err))...)
	}
}

// try runs a job and converts a panic to an error.
func try(ctx context.Context, k JobKind, j storage.Job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return k.Run(ctx, j)
}

// settlement decides the new state of a job after an attempt.
func (r *Runner) settlement(k JobKind, j storage.Job, err error, stopped bool) (with storage.JobOutcome, outcome string) {
	now := r.Now().UTC()
	with = storage.JobOutcome{State: storage.JobDone, Now: now}
	if err == nil {
		return with, "done"
	}
	with.State, with.Error = storage.JobWaiting, truncateError(err.Error())
	var directive *jobError
	if !errors.As(err, &directive) {
		directive = &jobError{}
	}
	with.Payload = directive.payload
	switch {
	case directive.permanent:
		with.State = storage.JobDead
		return with, "dead"
	case directive.uncounted:
		if errors.Is(err, errContinue) {
			with.Error = ""
		}
		with.Uncounted, with.RunAt = true, now.Add(directive.wait)
		return with, "delayed"
	case stopped:
		with.Uncounted, with.RunAt, with.Error = true, now, ""
		return with, "stopped"
	case j.Attempts >= k.attempts():
		with.State = storage.JobDead
		return with, "dead"
	case directive.wait > 0:
		with.RunAt = now.Add(directive.wait)
	default:
		// Jitter keeps jobs that failed together from running together again.
		wait := k.backoff(j.Attempts)
		with.RunAt = now.Add(wait + time.Duration(r.Random()*float64(wait)/2))
	}
	return with, "retry"
}

func truncateError(message string) string {
	if runes := []rune(message); len(runes) > maxJobError {
		return string(runes[:maxJobError]) + "…"
	}
	return message
}
