package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Task is work that one process, the leader, repeats. It may run twice around a change of
// the leader, so running it must be idempotent.
type Task struct {
	Name     string
	Interval time.Duration // between the end of a run and the next run
	Timeout  time.Duration // of one run; 0 means 1 minute

	// Run runs the task once. After an error it is retried sooner than after Interval if the wait of
	// RetryAfter, or otherwise a backoff that starts with a minute, is shorter.
	Run func(ctx context.Context) error
}

// LeaderOptions are the dependencies of a Leader.
type LeaderOptions struct {
	Store  leaseStore
	Tasks  []Task
	Lease  time.Duration // duration of the lease, which is extended every third of it; 0 means 15 seconds
	Now    func() time.Time
	Logger *slog.Logger
}

// Leader runs tasks while this process holds the lease of the leader. If the leader
// disappears, another process takes over within 20 seconds; if it stops, within 5.
type Leader struct {
	tasks  []Task
	lease  *Lease
	length time.Duration
	logger *slog.Logger
}

const (
	leaderLease        = 15 * time.Second
	leaderLeaseName    = "tasks"
	defaultTaskTimeout = time.Minute
)

// taskBackoff are the pauses after a task has failed.
var taskBackoff = Backoff{First: time.Minute}

// NewLeader returns a Leader. It returns an error if a dependency is missing or a task
// is incomplete.
func NewLeader(o LeaderOptions) (*Leader, error) {
	if o.Store == nil || o.Now == nil || o.Logger == nil {
		return nil, errors.New("leader has no store, clock, or logger")
	}
	for _, t := range o.Tasks {
		if t.Name == "" || t.Interval <= 0 || t.Run == nil {
			return nil, fmt.Errorf("task %q has no name, interval, or function", t.Name)
		}
	}
	length := cmp.Or(o.Lease, leaderLease)
	return &Leader{
		tasks: o.Tasks, lease: NewLease(o.Store, leaderLeaseName, length, o.Now), length: length, logger: o.Logger,
	}, nil
}

// Run runs the tasks whenever this process is the leader, until ctx ends. It returns
// nil.
func (l *Leader) Run(ctx context.Context) error {
	again := time.NewTicker(l.length / 3)
	defer again.Stop()
	for ctx.Err() == nil {
		if held, err := l.lease.Acquire(ctx); err == nil && held {
			l.lead(ctx)
		}
		select {
		case <-ctx.Done():
		case <-again.C:
		}
	}
	return nil
}

// lead runs the tasks until ctx ends or the lease is lost.
func (l *Leader) lead(ctx context.Context) {
	leading, release := l.lease.Hold(ctx)
	l.logger.LogAttrs(ctx, slog.LevelInfo, "leadership acquired")
	var running sync.WaitGroup
	for _, t := range l.tasks {
		running.Go(func() { l.repeat(leading, t) })
	}
	running.Wait()
	<-leading.Done() // there may be no tasks
	if ctx.Err() == nil {
		l.logger.LogAttrs(ctx, slog.LevelWarn, "leadership lost", slog.Any("error", context.Cause(leading)))
	}
	if err := release(); err != nil { // it ends anyway
		l.logger.LogAttrs(ctx, slog.LevelInfo, "leader lease not released", slog.Any("error", err))
	}
}

// repeat runs a task until ctx ends.
func (l *Leader) repeat(ctx context.Context, t Task) {
	failures := 0
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		err := runTask(ctx, t)
		if ctx.Err() != nil {
			return
		}
		wait := t.Interval
		switch {
		case err != nil:
			failures++
			level := slog.LevelError
			if failures > 1 { // log an outage once
				level = slog.LevelDebug
			}
			wait = min(wait, cmp.Or(directiveOf(err).wait, taskBackoff.Pause(failures)))
			l.logger.LogAttrs(ctx, level, "task failed", slog.String("task", t.Name), slog.Any("error", err), slog.Duration("retry_in", wait))
		case failures > 0:
			l.logger.LogAttrs(ctx, slog.LevelInfo, "task recovered", slog.String("task", t.Name), slog.Int("failures", failures))
			failures = 0
		}
		pause.Reset(wait)
	}
}

func runTask(ctx context.Context, t Task) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(t.Timeout, defaultTaskTimeout))
	defer cancel()
	return t.Run(ctx)
}
