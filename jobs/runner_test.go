package jobs

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

// bench is one job on a bench: how stores behave is for storetest, here it is
// what the runner makes of it.
type bench struct {
	mu      sync.Mutex
	waiting []storage.Job
	settled []storage.JobOutcome
}

func (b *bench) ClaimJobs(_ context.Context, c storage.JobClaim) (claimed []storage.Job, _ error) {
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

func (b *bench) SettleJob(_ context.Context, j storage.Job, with storage.JobOutcome) error {
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

func (b *bench) ReapJobs(context.Context, time.Time) (int, error) { return 0, nil }

func (b *bench) add(jobs ...storage.Job) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting = append(b.waiting, jobs...)
}

func (b *bench) states() (states []storage.JobState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.settled {
		states = append(states, s.State)
	}
	return states
}

// inBubble runs a runner of one kind over its jobs, then test, and stops it.
func inBubble(t *testing.T, k JobKind, jobs int, test func(r *Runner, b *bench, stop func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{}
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

func TestRunnerTriesAgainLaterEachTime(t *testing.T) {
	var at []time.Duration
	start := time.Time{}
	k := JobKind{MaxAttempts: 4, Run: func(context.Context, storage.Job) error {
		if start.IsZero() {
			start = time.Now()
		}
		at = append(at, time.Since(start))
		return errors.New("odd")
	}}
	inBubble(t, k, 1, func(_ *Runner, b *bench, _ func()) {
		<-time.After(time.Hour) // of the bubble
		synctest.Wait()         // the looks of that same instant too
		// 1, 2 and 4 seconds, a quarter on top, found at the next look: one a second.
		if want := []time.Duration{0, 2 * time.Second, 5 * time.Second, 10 * time.Second}; !slices.Equal(at, want) {
			t.Errorf("tried after %v, want %v", at, want)
		}
		if got := b.states(); len(got) != 4 || got[3] != storage.JobDead {
			t.Errorf("became %v, want dead in the end", got)
		}
	})
}

func TestRunnerDoesWhatTheErrorSays(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want []storage.JobState
	}{
		{"permanent", Permanent(errors.New("odd")), []storage.JobState{storage.JobDead}},
		{"retry after", RetryAfter(30*time.Minute, errors.New("odd")), []storage.JobState{storage.JobWaiting, storage.JobDead}},
		{"delay", Delay(25*time.Minute, errors.New("away")), []storage.JobState{storage.JobWaiting, storage.JobWaiting, storage.JobWaiting}},
		{"continue", Continue(25*time.Minute, []byte("next")), []storage.JobState{storage.JobWaiting, storage.JobWaiting, storage.JobWaiting}},
		{"nothing", nil, []storage.JobState{storage.JobDone}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, JobKind{MaxAttempts: 2, Run: func(context.Context, storage.Job) error { return tt.err }}, 1, func(_ *Runner, b *bench, _ func()) {
				<-time.After(time.Hour) // of the bubble
				synctest.Wait()         // the looks of that same instant too
				if got := b.states(); !slices.Equal(got, tt.want) {
					t.Errorf("became %v, want %v", got, tt.want)
				}
				if tt.name == "continue" && (string(b.waiting[0].Payload) != "next" || b.settled[0].Error != "") {
					t.Errorf("waits with %+v", b.waiting[0])
				}
			})
		})
	}
}

func TestRunnerOutlivesAPanicAndADeadline(t *testing.T) {
	tries := 0
	k := JobKind{Timeout: time.Second, MaxAttempts: 2, Run: func(ctx context.Context, _ storage.Job) error {
		if tries++; tries == 1 {
			panic("odd")
		}
		<-ctx.Done()
		return ctx.Err()
	}}
	inBubble(t, k, 1, func(_ *Runner, b *bench, _ func()) {
		<-time.After(time.Minute) // of the bubble
		synctest.Wait()           // the looks of that same instant too
		if got := b.states(); !slices.Equal(got, []storage.JobState{storage.JobWaiting, storage.JobDead}) {
			t.Fatalf("became %v", got)
		}
		if !strings.Contains(b.settled[0].Error, "panic: odd") || !strings.Contains(b.settled[1].Error, "deadline") {
			t.Errorf("settled %+v", b.settled)
		}
	})
}

func TestRunnerKeepsToItsWorkersAndWakes(t *testing.T) {
	var release chan struct{} // of the bubble
	var mu sync.Mutex
	running, most := 0, 0
	k := JobKind{Run: func(context.Context, storage.Job) error {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		<-release
		mu.Lock()
		running--
		mu.Unlock()
		return nil
	}}
	inBubble(t, k, 0, func(r *Runner, b *bench, _ func()) {
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
			t.Errorf("%d run, want 2 at once", running)
		}
		mu.Unlock()
		close(release)
		synctest.Wait()
		if got := b.states(); len(got) != 5 || most != 2 {
			t.Errorf("%d jobs done by at most %d workers, want 5 by 2", len(got), most)
		}
		if waited := time.Since(before); waited != 0 {
			t.Errorf("it took the poll, %s", waited)
		}
	})
}

func TestRunnerPutsBackWhatDoesNotFinish(t *testing.T) {
	k := JobKind{Timeout: time.Hour, Run: func(ctx context.Context, _ storage.Job) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	inBubble(t, k, 1, func(_ *Runner, b *bench, stop func()) {
		synctest.Wait()
		stop()
		if len(b.settled) != 1 || b.settled[0].State != storage.JobWaiting || !b.settled[0].Uncounted {
			t.Errorf("settled %+v, want it back and uncounted", b.settled)
		}
	})
}

func TestRunnerGivesUpAJobThatNobodySurvives(t *testing.T) {
	inBubble(t, JobKind{MaxAttempts: 2, Run: func(context.Context, storage.Job) error {
		t.Error("it ran")
		return nil
	}}, 0, func(r *Runner, b *bench, _ func()) {
		b.add(storage.Job{Kind: "k", Attempts: 2}) // both times the process died
		r.Wake()
		synctest.Wait()
		if got := b.states(); !slices.Equal(got, []storage.JobState{storage.JobDead}) {
			t.Errorf("became %v, want dead", got)
		}
	})
}

// leases is a lease in memory.
type leases struct {
	mu     sync.Mutex
	holder string
	until  time.Time
	away   map[string]bool // for whom the database is away
}

func (l *leases) Lease(_ context.Context, _, holder string, now, until time.Time) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.away[holder] {
		return false, storage.ErrUnavailable
	}
	if l.holder == holder || !l.until.After(now) {
		l.holder, l.until = holder, until
	}
	return l.holder == holder, nil
}

func (l *leases) Release(_ context.Context, _, holder string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holder == holder {
		l.until = time.Time{}
	}
	return nil
}

func TestTasksAreDoneByOneAndTakenOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leases{away: map[string]bool{}}
		var (
			mu     sync.Mutex
			doing  = map[string]bool{}
			log    bytes.Buffer
			logger = slog.New(slog.NewTextHandler(&log, nil))
		)
		does := func() (names []string) {
			mu.Lock()
			defer mu.Unlock()
			for name, yes := range doing {
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
				Name: "do", Every: time.Second, Run: func(ctx context.Context) error {
					mu.Lock()
					doing[name] = true
					mu.Unlock()
					<-ctx.Done()
					mu.Lock()
					doing[name] = false
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
		<-time.After(time.Minute + 2*time.Second) // of the bubble
		synctest.Wait()                           // the looks of that same instant too
		if got := does(); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("%v do the tasks, want a", got)
		}
		// a loses the database: it stops before its lease ends, and b takes over.
		l.mu.Lock()
		l.away["a"] = true
		l.mu.Unlock()
		for range 40 {
			<-time.After(500 * time.Millisecond) // of the bubble
			synctest.Wait()                      // the looks of that same instant too
			synctest.Wait()
			if got := does(); len(got) > 1 {
				t.Fatalf("%v do the tasks at the same time", got)
			}
		}
		if got := does(); !slices.Equal(got, []string{"b"}) {
			t.Fatalf("%v do the tasks, want b", got)
		}
		l.mu.Lock()
		l.away["a"] = false
		l.mu.Unlock()
		stopB()                                   // gives the lease back: a has it at its next look
		<-time.After(leaderLease/3 + time.Second) // of the bubble
		synctest.Wait()                           // the looks of that same instant too
		synctest.Wait()
		if got := does(); !slices.Equal(got, []string{"a"}) {
			t.Fatalf("%v do the tasks, want a", got)
		}
		stopA()
	})
}
