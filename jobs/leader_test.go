package jobs

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"calltracker/storage"
)

// fakeLeases is an in-memory lease.
type fakeLeases struct {
	mu          sync.Mutex
	holder      string
	until       time.Time
	unavailable map[string]bool // replicas that cannot reach the database
}

func (l *fakeLeases) Lease(_ context.Context, _, holder string, now, until time.Time) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == holder || !l.until.After(now) {
		l.holder, l.until = holder, until
	}
	return l.holder == holder, nil
}

func (l *fakeLeases) Release(_ context.Context, _, holder string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == holder {
		l.until = time.Time{}
	}
	return nil
}

// replica is the store of one of several processes.
type replica struct {
	*fakeLeases
	name string
}

func (r replica) Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error) {
	r.mu.Lock()
	unavailable := r.unavailable[r.name]
	r.mu.Unlock()
	if unavailable {
		return false, storage.ErrUnavailable
	}
	return r.fakeLeases.Lease(ctx, name, holder, now, until)
}

func TestTasksRunOnOneReplicaAndFailOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &fakeLeases{unavailable: map[string]bool{}}
		var (
			mu     sync.Mutex
			active = map[string]bool{}
			log    bytes.Buffer
			logger = slog.New(slog.NewTextHandler(&log, nil))
		)
		running := func() (names []string) {
			mu.Lock()
			defer mu.Unlock()
			for name, yes := range active {
				if yes {
					names = append(names, name)
				}
			}
			slices.Sort(names)
			return names
		}
		start := func(name string) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			leader, err := NewLeader(LeaderOptions{Store: replica{l, name}, Now: time.Now, Logger: logger, Tasks: []Task{{
				Name: "do", Interval: time.Second, Run: func(ctx context.Context) error {
					mu.Lock()
					active[name] = true
					mu.Unlock()
					<-ctx.Done()
					mu.Lock()
					active[name] = false
					mu.Unlock()
					return nil
				},
			}}})
			if err != nil {
				t.Fatal(err)
			}
			go func() { defer close(ended); _ = leader.Run(ctx) }()
			return func() { cancel(); <-ended }
		}
		stopA := start("a")
		synctest.Wait()
		stopB := start("b")
		<-time.After(time.Minute + 2*time.Second) // fake time
		synctest.Wait()                           // including polls at the same instant
		if got := running(); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("tasks run on %v, want a", got)
		}
		// a loses the database. It stops before its lease expires, and b takes over.
		l.mu.Lock()
		l.unavailable["a"] = true
		l.mu.Unlock()
		for range 40 {
			<-time.After(500 * time.Millisecond) // fake time
			synctest.Wait()                      // including polls at the same instant
			synctest.Wait()
			if got := running(); len(got) > 1 {
				t.Fatalf("tasks run on %v concurrently", got)
			}
		}
		if got := running(); !slices.Equal(got, []string{"b"}) {
			t.Fatalf("tasks run on %v, want b", got)
		}
		l.mu.Lock()
		l.unavailable["a"] = false
		l.mu.Unlock()
		stopB()                                   // releases the lease; a acquires it at its next renewal
		<-time.After(leaderLease/3 + time.Second) // fake time
		synctest.Wait()                           // including polls at the same instant
		synctest.Wait()
		if got := running(); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("tasks run on %v, want a", got)
		}
		stopA()
	})
}

func TestFailedTasksAreRetried(t *testing.T) {
	for _, tt := range []struct {
		name     string
		interval time.Duration
		err      error
		least    time.Duration // before the second run
		most     time.Duration
	}{
		{"with backoff", time.Hour, errors.New("odd"), time.Minute, 90 * time.Second},
		{"after the requested wait", time.Hour, RetryAfter(10*time.Minute, errors.New("odd")), 10 * time.Minute, 10 * time.Minute},
		{"within the interval", time.Second, RetryAfter(10*time.Minute, errors.New("odd")), time.Second, time.Second},
		{"not if they succeed", time.Hour, nil, time.Hour, time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				runs := make(chan time.Time, 10)
				l, err := NewLeader(LeaderOptions{
					Store: &fakeLeases{}, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
					Tasks: []Task{{Name: "fail", Interval: tt.interval, Run: func(context.Context) error {
						runs <- time.Now()
						return tt.err
					}}},
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { _ = l.Run(ctx) }) // always returns nil
				first := <-runs
				if wait := (<-runs).Sub(first); wait < tt.least || wait > tt.most {
					t.Errorf("second run after %s, want %s to %s", wait, tt.least, tt.most)
				}
				cancel()
				running.Wait()
			})
		})
	}
}

func TestHeldLeaseIsExtendedUntilItIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &fakeLeases{unavailable: map[string]bool{}}
		lease := NewLease(replica{store, "a"}, "work", time.Minute, time.Now)
		other := NewLease(replica{store, "b"}, "work", time.Minute, time.Now)
		if held, err := lease.Acquire(t.Context()); err != nil || !held {
			t.Fatalf("acquired %t, %v", held, err)
		}
		held, release := lease.Hold(t.Context())
		<-time.After(10 * time.Minute) // fake time
		if got, err := other.Acquire(t.Context()); err != nil || got {
			t.Errorf("another lease of the name: %t, %v", got, err)
		}
		store.mu.Lock()
		store.unavailable["a"] = true
		store.mu.Unlock()
		<-held.Done()
		if cause := context.Cause(held); !errors.Is(cause, ErrLeaseLost) || !errors.Is(cause, storage.ErrUnavailable) {
			t.Errorf("cause %v", cause)
		}
		if got, err := other.Acquire(t.Context()); err != nil || got {
			t.Errorf("the lease ended before the context: %t, %v", got, err)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
		if got, err := other.Acquire(t.Context()); err != nil || !got {
			t.Errorf("after the release: %t, %v", got, err)
		}
	})
}
