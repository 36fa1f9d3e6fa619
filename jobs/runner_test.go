package jobs

import (
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
	batches []int // sizes
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

func (b *fakeJobStore) SettleJobs(_ context.Context, settlements []storage.JobSettlement) (lost []string, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batches = append(b.batches, len(settlements))
	for _, s := range settlements {
		j, with := s.Job, s.Outcome
		b.settled = append(b.settled, with)
		if with.State != storage.JobWaiting {
			continue
		}
		if with.Uncounted {
			j.Attempts--
		}
		j.RunAt = with.RunAt
		if with.Payload != nil {
			j.Payload = with.Payload
		}
		b.waiting = append(b.waiting, j)
	}
	return nil, nil
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
func runJobs(t *testing.T, k Kind, jobs int, test func(r *Runner, b *fakeJobStore, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &fakeJobStore{}
		k.Name = "k"
		k.Backoff.Random = func() float64 { return 0.5 }
		r, err := NewRunner(RunnerOptions{
			Store: b, Kinds: []Kind{k}, Workers: 2, Registry: prometheus.NewRegistry(), Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
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
	k := Kind{MaxAttempts: 4, Run: func(context.Context, storage.Job) error {
		if start.IsZero() {
			start = time.Now()
		}
		at = append(at, time.Since(start))
		return errors.New("odd")
	}}
	runJobs(t, k, 1, func(_ *Runner, b *fakeJobStore, _ func()) {
		<-time.After(time.Hour) // fake time
		synctest.Wait()         // including polls at the same instant
		// Pauses of 1, 2, and 4 s plus 25% jitter, rounded up to the poll interval of 1 s.
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
			runJobs(t, Kind{MaxAttempts: 2, Run: func(context.Context, storage.Job) error { return tt.err }}, 1, func(_ *Runner, b *fakeJobStore, _ func()) {
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
	k := Kind{Timeout: time.Second, MaxAttempts: 2, Run: func(ctx context.Context, _ storage.Job) error {
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
	k := Kind{Run: func(context.Context, storage.Job) error {
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
	k := Kind{Timeout: time.Hour, Run: func(ctx context.Context, _ storage.Job) error {
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
	runJobs(t, Kind{MaxAttempts: 2, Run: func(context.Context, storage.Job) error {
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

// TestRunnerRespectsLimit changes the limit of a kind while jobs are waiting.
func TestRunnerRespectsLimit(t *testing.T) {
	var (
		mu             sync.Mutex
		limit, running int
		release        chan struct{} // made in the bubble
	)
	set := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		limit = n
	}
	current := func() int {
		mu.Lock()
		defer mu.Unlock()
		return running
	}
	k := Kind{
		Limit: func() int {
			mu.Lock()
			defer mu.Unlock()
			return limit
		},
		Run: func(context.Context, storage.Job) error {
			mu.Lock()
			running++
			mu.Unlock()
			<-release
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		},
	}
	runJobs(t, k, 20, func(r *Runner, b *fakeJobStore, _ func()) {
		release = make(chan struct{})
		for _, n := range []int{0, 1, 16} { // 16 is more than the workers of the other kinds
			set(n)
			r.Wake()
			synctest.Wait()
			if got := current(); got != n {
				t.Errorf("%d jobs are running, want %d", got, n)
			}
		}
		set(0)
		close(release)
		<-time.After(time.Minute) // fake time
		synctest.Wait()
		if got := b.states(); len(got) != 16 {
			t.Errorf("%d jobs are done, want 16", len(got))
		}
		if len(b.batches) != 1 {
			t.Errorf("settled in batches of %v, want one batch", b.batches)
		}
	})
}

// TestRunnerSettlesSlowJobsSeparately checks that a job is settled soon after it has
// finished, even if others take much longer.
func TestRunnerSettlesSlowJobsSeparately(t *testing.T) {
	k := Kind{Timeout: time.Hour, Run: func(_ context.Context, j storage.Job) error {
		if j.Key == "slow" {
			<-time.After(time.Minute) // fake time
		}
		return nil
	}}
	runJobs(t, k, 0, func(r *Runner, b *fakeJobStore, _ func()) {
		synctest.Wait()
		b.add(storage.Job{Kind: "k", Key: "slow"}, storage.Job{Kind: "k", Key: "fast"})
		r.Wake()
		<-time.After(time.Second) // fake time
		synctest.Wait()
		if got := b.states(); len(got) != 1 {
			t.Errorf("%d jobs are settled, want 1", len(got))
		}
		<-time.After(time.Minute) // fake time
		synctest.Wait()
		if got := b.states(); len(got) != 2 {
			t.Errorf("%d jobs are settled, want 2", len(got))
		}
	})
}

// TestRunnerSettlesLookupsWithResults checks which outcomes carry the result of a lookup.
func TestRunnerSettlesLookupsWithResults(t *testing.T) {
	result := &storage.LookupResult{Customers: []storage.Customer{{ID: "c-1"}}}
	for name, err := range map[string]error{
		"done": nil, "postponed": Delay(time.Hour, errors.New("unavailable")), "dead": Permanent(errors.New("rejected")),
	} {
		t.Run(name, func(t *testing.T) {
			k := Kind{Lookup: func(context.Context, storage.Job) (*storage.LookupResult, error) { return result, err }}
			runJobs(t, k, 1, func(_ *Runner, b *fakeJobStore, _ func()) {
				synctest.Wait()
				if len(b.settled) != 1 || b.settled[0].Lookup != result {
					t.Errorf("settled %+v, want the result", b.settled)
				}
			})
		})
	}
}

func TestNewRunnerChecksOptions(t *testing.T) {
	run := func(context.Context, storage.Job) error { return nil }
	lookup := func(context.Context, storage.Job) (*storage.LookupResult, error) { return &storage.LookupResult{}, nil }
	for name, tt := range map[string]struct {
		edit func(*RunnerOptions)
		ok   bool
	}{
		"complete":      {func(*RunnerOptions) {}, true},
		"no store":      {func(o *RunnerOptions) { o.Store = nil }, false},
		"no registry":   {func(o *RunnerOptions) { o.Registry = nil }, false},
		"no clock":      {func(o *RunnerOptions) { o.Now = nil }, false},
		"no logger":     {func(o *RunnerOptions) { o.Logger = nil }, false},
		"unnamed kind":  {func(o *RunnerOptions) { o.Kinds = []Kind{{Run: run}} }, false},
		"no function":   {func(o *RunnerOptions) { o.Kinds = []Kind{{Name: "k"}} }, false},
		"two functions": {func(o *RunnerOptions) { o.Kinds = []Kind{{Name: "k", Run: run, Lookup: lookup}} }, false},
		"same kind":     {func(o *RunnerOptions) { o.Kinds = []Kind{{Name: "k", Run: run}, {Name: "k", Run: run}} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := RunnerOptions{
				Store: &fakeJobStore{}, Kinds: []Kind{{Name: "k", Run: run}}, Registry: prometheus.NewRegistry(), Now: time.Now,
				Logger: slog.New(slog.DiscardHandler),
			}
			tt.edit(&o)
			if _, err := NewRunner(o); (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestBackoffDoublesUpToTheLongest(t *testing.T) {
	random := 0.0
	b := Backoff{First: time.Second, Longest: 5 * time.Second, Random: func() float64 { return random }}
	for failures, want := range []time.Duration{time.Second, time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
		if got := b.Pause(failures); got != want {
			t.Errorf("pause %s after %d failures, want %s", got, failures, want)
		}
	}
	if got := (Backoff{}).Pause(1_000_000); got < time.Hour || got > 90*time.Minute {
		t.Errorf("longest default pause %s, want an hour and up to half of it", got)
	}
	random = 0.5
	if got, want := b.Pause(3), 5*time.Second; got != want {
		t.Errorf("pause %s with jitter, want %s", got, want)
	}
}
