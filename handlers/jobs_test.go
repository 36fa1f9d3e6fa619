package handlers

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/storage"
)

// fakeJobStore is a minimal store. Package storetest tests the behavior of stores; the
// tests here test the runner.
type fakeJobStore struct {
	mu      sync.Mutex
	waiting []storage.Job
	settled []storage.JobOutcome
}

func (b *fakeJobStore) ClaimJobs(_ context.Context, c storage.JobClaim) (claimed []storage.Job, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = slices.DeleteFunc(b.waiting, func(j storage.Job) bool {
		due := len(claimed) < c.Limit && !j.RunAt.After(c.Now) && slices.Contains(c.Kinds, j.Kind)
		if due {
			j.Attempts++
			claimed = append(claimed, j)
		}
		return due
	})
	return claimed, nil
}

func (b *fakeJobStore) SettleJob(_ context.Context, j storage.Job, with storage.JobOutcome) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settled = append(b.settled, with)
	if with.State == storage.JobWaiting {
		if with.Uncounted {
			j.Attempts--
		}
		j.RunAt = with.RunAt
		if with.Payload != nil {
			j.Payload = with.Payload
		}
		b.waiting = append(b.waiting, j)
	}
	return nil
}

func (b *fakeJobStore) ReapJobs(context.Context, time.Time) (int, error) { return 0, nil }

func (b *fakeJobStore) add(jobs ...storage.Job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, jobs...)
}

func (b *fakeJobStore) states() (states []storage.JobState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.settled {
		states = append(states, s.State)
	}
	return states
}

// runJobs starts a runner for jobs of one kind in a synctest bubble, calls test, and
// stops the runner.
func runJobs(t *testing.T, k JobKind, jobs int, test func(r *Runner, b *fakeJobStore, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &fakeJobStore{}
		k.Kind = "k"
		r := &Runner{
			Store: b, Kinds: []JobKind{k}, Workers: 2, Metrics: NewMetrics(prometheus.NewRegistry()), Now: time.Now,
			Random: func() float64 { return 0.5 }, Logger: slog.New(slog.DiscardHandler),
		}
		for range jobs {
			b.add(storage.Job{Kind: "k"})
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
		}()
		stop := func() { cancel(); <-ended }
		defer stop()
		test(r, b, stop)
	})
}

func TestRunnerBacksOff(t *testing.T) {
	var at []time.Duration
	start := time.Time{}
	k := JobKind{MaxAttempts: 4, Run: func(context.Context, storage.Job) error {
		if start.IsZero() {
			start = time.Now()
		}
		at = append(at, time.Since(start))
		return errors.New("odd")
	}}
	runJobs(t, k, 1, func(_ *Runner, b *fakeJobStore, _ func()) {
		<-time.After(time.Hour) // fake time
		synctest.Wait()         // including polls at the same instant
		// Backoff of 1, 2, and 4 s plus 25% jitter, rounded up to the poll interval of 1 s.
		if want := []time.Duration{0, 2 * time.Second, 5 * time.Second, 10 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("attempts after %v, want %v", at, want)
		}
		if got := b.states(); len(got) != 4 || got[3] != storage.JobDead {
			t.Errorf("states %v, want dead last", got)
		}
	})
}

func TestRunnerFollowsError(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want []storage.JobState
	}{
		{"permanent", Permanent(errors.New("odd")), []storage.JobState{storage.JobDead}},
		{"retry after", RetryAfter(30*time.Minute, errors.New("odd")), []storage.JobState{storage.JobWaiting, storage.JobDead}},
		{"delay", Delay(25*time.Minute, errors.New("unavailable")), []storage.JobState{storage.JobWaiting, storage.JobWaiting, storage.JobWaiting}},
		{"continue", Continue(25*time.Minute, []byte("next")), []storage.JobState{storage.JobWaiting, storage.JobWaiting, storage.JobWaiting}},
		{"nothing", nil, []storage.JobState{storage.JobDone}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			runJobs(t, JobKind{MaxAttempts: 2, Run: func(context.Context, storage.Job) error { return tt.err }}, 1, func(_ *Runner, b *fakeJobStore, _ func()) {
				<-time.After(time.Hour) // fake time
				synctest.Wait()         // including polls at the same instant
				if got := b.states(); !slices.Equal(got, tt.want) {
					t.Errorf("states %v, want %v", got, tt.want)
				}
				if tt.name == "continue" && (string(b.waiting[0].Payload) != "next" || b.settled[0].Error != "") {
					t.Errorf("waiting job %+v", b.waiting[0])
				}
			})
		})
	}
}

func TestRunnerSurvivesPanicAndDeadline(t *testing.T) {
	tries := 0
	k := JobKind{Timeout: time.Second, MaxAttempts: 2, Run: func(ctx context.Context, _ storage.Job) error {
		if tries++; tries == 1 {
			panic("odd")
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	runJobs(t, k, 1, func(_ *Runner, b *fakeJobStore, _ func()) {
		<-time.After(time.Minute) // fake time
		synctest.Wait()           // including polls at the same instant
		if got := b.states(); !slices.Equal(got, []storage.JobState{storage.JobWaiting, storage.JobDead}) {
			t.Fatalf("states %v", got)
		}
		if !strings.Contains(b.settled[0].Error, "panic: odd") || !strings.Contains(b.settled[1].Error, "deadline") {
			t.Errorf("settled %+v", b.settled)
		}
	})
}

func TestRunnerLimitsWorkersAndWakes(t *testing.T) {
	var release chan struct{} // created in the bubble
	var mu sync.Mutex
	running, peak := 0, 0
	k := JobKind{Run: func(context.Context, storage.Job) error {
		mu.Lock()
		running++
		peak = max(peak, running)
		mu.Unlock()
		<-release
		mu.Lock()
		running--
		mu.Unlock()
		return nil
	}}
	runJobs(t, k, 0, func(r *Runner, b *fakeJobStore, _ func()) {
		release = make(chan struct{})
		synctest.Wait()
		before := time.Now()
		for range 5 {
			b.add(storage.Job{Kind: "k"})
		}
		r.Wake()
		synctest.Wait()
		mu.Lock()
		if running != 2 {
			t.Errorf("%d jobs running, want 2", running)
		}
		mu.Unlock()
		close(release)
		synctest.Wait()
		if got := b.states(); len(got) != 5 || peak != 2 {
			t.Errorf("%d jobs done by at most %d workers, want 5 by 2", len(got), peak)
		}
		if waited := time.Since(before); waited != 0 {
			t.Errorf("jobs waited %s for the next poll", waited)
		}
	})
}

func TestRunnerReturnsUnfinishedJobs(t *testing.T) {
	k := JobKind{Timeout: time.Hour, Run: func(ctx context.Context, _ storage.Job) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	runJobs(t, k, 1, func(_ *Runner, b *fakeJobStore, stop func()) {
		synctest.Wait()
		stop()
		if len(b.settled) != 1 || b.settled[0].State != storage.JobWaiting || !b.settled[0].Uncounted {
			t.Errorf("settled %+v, want waiting and uncounted", b.settled)
		}
	})
}

func TestRunnerGivesUpAfterLostWorkers(t *testing.T) {
	runJobs(t, JobKind{MaxAttempts: 2, Run: func(context.Context, storage.Job) error {
		t.Error("job ran")
		return nil
	}}, 0, func(r *Runner, b *fakeJobStore, _ func()) {
		b.add(storage.Job{Kind: "k", Attempts: 2}) // two workers were lost
		r.Wake()
		synctest.Wait()
		if got := b.states(); !slices.Equal(got, []storage.JobState{storage.JobDead}) {
			t.Errorf("states %v, want dead", got)
		}
	})
}

// fakeLeases is an in-memory lease.
type fakeLeases struct {
	mu          sync.Mutex
	holder      string
	until       time.Time
	unavailable map[string]bool // holders that cannot reach the database
}

func (l *fakeLeases) Lease(_ context.Context, _, holder string, now, until time.Time) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unavailable[holder] {
		return false, storage.ErrUnavailable
	}
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
			tasks := &Tasks{Store: l, Holder: name, Now: time.Now, Logger: logger, List: []Task{{
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
			}}}
			go func() { defer close(ended); _ = tasks.Run(ctx) }()
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
