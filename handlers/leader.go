package handlers

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"
)

// leaser is what Tasks needs of a store.
type leaseStore interface {
	Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	Release(ctx context.Context, name, holder string) error
}

// Task is something that one replica does for all, again and again. It may be
// done twice around a change of the leader, so it must be good to repeat.
type Task struct {
	Name  string
	Every time.Duration
	Run   func(ctx context.Context) error
}

// Tasks does tasks while this process is the leader: the one that holds the
// lease. Another one takes over within 20 seconds when it is gone, and within 5
// when it was stopped.
type Tasks struct {
	Store  leaseStore
	Holder string // of this process alone
	List   []Task
	Lease  time.Duration // how long one lasts; it is renewed thrice in that time. 0 for 15 seconds
	Now    func() time.Time
	Logger *slog.Logger
}

const (
	leaderLease    = 15 * time.Second
	leaseTimeout   = 3 * time.Second // for the database
	taskTimeout    = time.Minute
	tasksLeaseName = "tasks"
)

// Run does the tasks whenever this process leads, until ctx ends. It returns nil.
func (t *Tasks) Run(ctx context.Context) error {
	duration := cmp.Or(t.Lease, leaderLease)
	renewInterval := duration / 3
	renew := time.NewTicker(renewInterval)
	defer renew.Stop()
	var (
		stopTasks = func() {} // stops the tasks and waits for them
		until     time.Time   // zero while another one leads
	)
	for {
		now := t.Now().UTC()
		held, err := t.lease(ctx, now, now.Add(duration))
		switch {
		case err == nil && held:
			if until.IsZero() {
				t.Logger.LogAttrs(ctx, slog.LevelInfo, "this process does the tasks of all")
				stopTasks = t.lead(ctx)
			}
			until = now.Add(duration)
		case !until.IsZero() && (err == nil || t.Now().Add(renewInterval).After(until)): // lost, or about to be
			t.Logger.LogAttrs(ctx, slog.LevelWarn, "this process leaves the tasks of all to others", slog.Any("error", err))
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
	if err := t.Store.Release(ctx, tasksLeaseName, t.Holder); err != nil { // then it ends by itself
		t.Logger.LogAttrs(ctx, slog.LevelInfo, "the lease was not given back", slog.Any("error", err))
	}
}

// lead starts every task; the function that it returns stops them and waits.
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
	ticker := time.NewTicker(task.Every)
	defer ticker.Stop()
	for ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, taskTimeout)
		if err := task.Run(attempt); err != nil && ctx.Err() == nil {
			t.Logger.LogAttrs(ctx, slog.LevelError, "a task failed; it comes again", slog.String("task", task.Name), slog.Any("error", err))
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}
