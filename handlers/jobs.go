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

// jobStore is what Runner needs of a store.
type jobStore interface {
	ClaimJobs(ctx context.Context, c storage.JobClaim) ([]storage.Job, error)
	SettleJob(ctx context.Context, j storage.Job, with storage.Settlement) error
	ReapJobs(ctx context.Context, now time.Time) (int, error)
}

// JobKind is how jobs of one kind are run. To add a kind, put a JobKind into the
// list that package server gives to the Runner, and its jobs into the Jobs of a
// storage.Report (then they are made in the transaction of the record) or into
// the store with AddJobs.
//
// Run may be called more than once for a job, here and by other processes, but
// never twice at the same time while Timeout is kept: it must be good to repeat.
// What it returns decides: nil is done; an error made by Permanent kills the job,
// by RetryAfter sets the time of the next try, by Delay does the same without
// counting this one; any other is tried again after Backoff.
type JobKind struct {
	Kind        string
	Run         func(ctx context.Context, j storage.Job) error
	Timeout     time.Duration                 // of one try; 0 means 30 s
	MaxAttempts int                           // tries that count; 0 means 10
	Backoff     func(tries int) time.Duration // before the next one, jitter comes on top; nil: 1 s, doubled up to an hour
}

const (
	jobTimeout      = 30 * time.Second
	jobAttempts     = 10
	jobPollInterval = time.Second      // for jobs of others, and those whose time has come
	jobReapInterval = 10 * time.Second // how often jobs of workers that went away are looked for
	leaseMargin     = 30 * time.Second // of a lease beyond the timeout, to say what became of the job
	settleTimeout   = 5 * time.Second
	stopTimeout     = 3 * time.Second // for jobs under way when the runner is stopped
	maxJobError     = 1000            // characters that are kept of an error
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
	const steps = 12 // an hour and more
	return min(time.Second<<min(max(tries-1, 0), steps), time.Hour)
}

// jobError is an error with what should become of its job.
type jobError struct {
	error
	permanent bool
	uncounted bool
	wait      time.Duration
	payload   []byte
}

func (e *jobError) Unwrap() error { return e.error }

// Permanent marks an error that no other try would mend.
func Permanent(err error) error { return &jobError{error: err, permanent: true} }

// RetryAfter marks an error that another try may mend, but not before.
func RetryAfter(wait time.Duration, err error) error { return &jobError{error: err, wait: wait} }

// Delay marks an error that says nothing about the job, such as an upstream that
// is away: the try does not count, so that hours of it kill no job.
func Delay(wait time.Duration, err error) error {
	return &jobError{error: err, wait: wait, uncounted: true}
}

// errMore is why a job that has not finished goes on later.
var errContinue = errors.New("there is more to do")

// Continue is for a job that did a part of its work: it goes on after wait, with
// another payload that says from where.
func Continue(wait time.Duration, payload []byte) error {
	return &jobError{error: errContinue, wait: wait, uncounted: true, payload: payload}
}

// Runner runs jobs, those of other processes on the same database included.
// Make it with its fields; Kinds do not change once it runs.
type Runner struct {
	Store   jobStore
	Kinds   []JobKind
	Workers int // jobs at the same time; 0 means 4
	Metrics *Metrics
	Now     func() time.Time
	Random  func() float64 // from 0 up to 1
	Logger  *slog.Logger

	once sync.Once
	wake chan struct{}
}

func (r *Runner) wakeChan() chan struct{} {
	r.once.Do(func() { r.wake = make(chan struct{}, 1) })
	return r.wake
}

// Wake tells that there may be a new job. It never waits; without it a job is
// found within a second.
func (r *Runner) Wake() {
	select {
	case r.wakeChan() <- struct{}{}:
	default:
	}
}

// Run runs jobs until ctx ends. Then those that are under way have 3 seconds to
// finish; what does not is put back, uncounted. It returns nil.
func (r *Runner) Run(ctx context.Context) error {
	if len(r.Kinds) == 0 {
		return nil
	}
	kinds := make(map[string]JobKind, len(r.Kinds))
	names := make([]string, 0, len(r.Kinds))
	longest := time.Duration(0)
	for _, k := range r.Kinds {
		kinds[k.Kind] = k
		names = append(names, k.Kind)
		longest = max(longest, k.timeout())
	}
	slices.Sort(names)
	workers := r.Workers
	if workers <= 0 {
		workers = 4
	}

	// Jobs under way outlive ctx for a moment.
	running, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	var (
		jobs     sync.WaitGroup
		free     = make(chan struct{}, workers)
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
				r.Logger.LogAttrs(ctx, slog.LevelWarn, "jobs of workers that went away are taken over", slog.Int("jobs", n))
			}
		}
		freeWorkers := workers - len(free)
		claimed, err := r.claim(ctx, storage.JobClaim{Kinds: names, Now: now, Until: now.Add(longest + leaseMargin), Limit: freeWorkers})
		if claimFailed := err != nil && ctx.Err() == nil; claimFailed != failing { // an outage is one message
			failing = claimFailed
			if claimFailed {
				r.Logger.LogAttrs(ctx, slog.LevelError, "jobs cannot be claimed", slog.Any("error", err))
			} else {
				r.Logger.LogAttrs(ctx, slog.LevelInfo, "jobs are claimed again")
			}
		}
		for _, j := range claimed {
			free <- struct{}{} // there is room for as many as were claimed
			jobs.Go(func() {
				defer r.Wake() // there may be more than there was room for
				defer func() { <-free }()
				r.run(running, kinds[j.Kind], j)
			})
		}
		select {
		case <-ctx.Done():
		case <-poll.C:
		case <-r.wakeChan():
		}
	}
	finished := make(chan struct{})
	go func() { jobs.Wait(); close(finished) }()
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
	// Not cut off by a stop: jobs that were claimed without being heard of would
	// wait for the end of their lease.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	return r.Store.ClaimJobs(ctx, c)
}

func (r *Runner) reap(ctx context.Context, now time.Time) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, settleTimeout)
	defer cancel()
	return r.Store.ReapJobs(ctx, now)
}

// run does one try and says what became of it.
func (r *Runner) run(ctx context.Context, k JobKind, j storage.Job) {
	start := r.Now()
	var err error
	if j.Attempts > k.attempts() { // its workers went away, all of them
		err = Permanent(errors.New("no process lived through it"))
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
		r.Logger.LogAttrs(saveCtx, slog.LevelError, "what became of a job could not be stored; it will run again",
			append(attrs, slog.Any("error", settleErr))...)
	case outcome == "dead":
		r.Logger.LogAttrs(saveCtx, slog.LevelError, "a job is dead; retry it when its reason is mended", append(attrs, slog.Any("error", err))...)
	case err != nil:
		r.Logger.LogAttrs(saveCtx, slog.LevelDebug, "a job will run again", append(attrs, slog.Any("error", err))...)
	}
}

// try runs a job; a panic is its failure and nobody else's.
func try(ctx context.Context, k JobKind, j storage.Job) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return k.Run(ctx, j)
}

// settlement decides what becomes of a job after a try.
func (r *Runner) settlement(k JobKind, j storage.Job, err error, stopped bool) (with storage.Settlement, outcome string) {
	now := r.Now().UTC()
	with = storage.Settlement{State: storage.JobDone, Now: now}
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
		// Jobs that failed together do not come back together.
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
