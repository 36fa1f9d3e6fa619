package handlers

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"
)

// leaseStore is the part of a store that Tasks uses.
type leaseStore interface {
	Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	Release(ctx context.Context, name, holder string) error
}

// Task is a periodic task that only the leader runs. It must be idempotent, because
// two replicas may run it when the leader changes.
type Task struct {
	Name     string
	Interval time.Duration
	Run      func(ctx context.Context) error
}

// Tasks runs periodic tasks while this process is the leader, which is the replica
// that holds the lease. Another replica takes over within 20 seconds of a crash of
// the leader, and within 5 seconds of a shutdown.
type Tasks struct {
	Store  leaseStore
	Holder string // unique to this process
	List   []Task
	Lease  time.Duration // lease duration, renewed three times as often; 0 means 15 s
	Now    func() time.Time
	Logger *slog.Logger
}

const (
	leaderLease    = 15 * time.Second
	leaseTimeout   = 3 * time.Second // for the database
	taskTimeout    = time.Minute
	tasksLeaseName = "tasks"
)

// Run runs the tasks while this process is the leader, until ctx ends. It returns
// nil.
func (t *Tasks) Run(ctx context.Context) error {
	duration := cmp.Or(t.Lease, leaderLease)
	renewInterval := duration / 3
	renew := time.NewTicker(renewInterval)
	defer renew.Stop()
	var (
		stopTasks = func() {} // stops the tasks and waits for them
		until     time.Time   // end of the lease; zero unless this process is the leader
	)
	for {
		now := t.Now().UTC()
		leading, err := t.lease(ctx, now, now.Add(duration))
		switch {
		case err == nil && leading:
			if until.IsZero() {
				t.Logger.LogAttrs(ctx, slog.LevelInfo, "leadership acquired")
				stopTasks = t.lead(ctx)
			}
			until = now.Add(duration)
		case !until.IsZero() && (err == nil || t.Now().Add(renewInterval).After(until)): // lost, or about to expire
			t.Logger.LogAttrs(ctx, slog.LevelWarn, "leadership lost", slog.Any("error", err))
			stopTasks()
			until = time.Time{}
		}
		select {
		case <-ctx.Done():
			if !until.IsZero() {
				stopTasks()
				t.release(ctx)
			}
			return nil
		case <-renew.C:
		}
	}
}

func (t *Tasks) lease(ctx context.Context, now, until time.Time) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	return t.Store.Lease(ctx, tasksLeaseName, t.Holder, now, until)
}

func (t *Tasks) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
	defer cancel()
	if err := t.Store.Release(ctx, tasksLeaseName, t.Holder); err != nil { // the lease expires on its own
		t.Logger.LogAttrs(ctx, slog.LevelInfo, "leader lease not released", slog.Any("error", err))
	}
}

// lead starts the tasks. The returned function stops them and waits.
func (t *Tasks) lead(ctx context.Context) func() {
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	for _, task := range t.List {
		tasks.Go(func() { t.repeat(ctx, task) })
	}
	return func() {
		cancel()
		tasks.Wait()
	}
}

func (t *Tasks) repeat(ctx context.Context, task Task) {
	ticker := time.NewTicker(task.Interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, taskTimeout)
		if err := task.Run(attempt); err != nil && ctx.Err() == nil {
			t.Logger.LogAttrs(ctx, slog.LevelError, "task failed; it will run again", slog.String("task", task.Name), slog.Any("error", err))
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}
