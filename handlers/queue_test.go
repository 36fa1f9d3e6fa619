package handlers_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"calltracker/handlers"
)

// recorder is a place to write to.
type recorder struct {
	batches [][]int
	fail    error
	stall   chan struct{} // when it is set, writing waits for it
	takes   time.Duration // of each write
	spent   atomic.Int64  // nanoseconds in all of them
}

func (r *recorder) write(ctx context.Context, batch []int) error {
	if r.stall != nil {
		select {
		case <-r.stall:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	<-time.After(r.takes) // in the time of the bubble
	r.spent.Add(int64(r.takes))
	if r.fail != nil {
		return r.fail
	}
	r.batches = append(r.batches, slices.Clone(batch))
	return nil
}

func (r *recorder) all() []int { return slices.Concat(r.batches...) }

// running starts a queue and returns what stops it and waits.
func running(t *testing.T, size int, r *recorder) (q *handlers.Queue[int], stop func()) {
	t.Helper()
	q = handlers.NewQueue("test", size, slog.New(slog.DiscardHandler), r.write)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	return q, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func numbers(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func TestQueueWritesInOrderAndInBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		q, stop := running(t, 10_000, r)
		for _, n := range numbers(1200) {
			q.Add(n)
		}
		<-time.After(time.Minute) // in the time of the bubble
		synctest.Wait()
		if !slices.Equal(r.all(), numbers(1200)) {
			t.Errorf("wrote %d records", len(r.all()))
		}
		for _, batch := range r.batches {
			if len(batch) > 20 { // a large one would hold up calls
				t.Errorf("a batch of %d records", len(batch))
			}
		}
		if q.Depth() != 0 || q.Dropped() != 0 || q.Written() != 1200 {
			t.Errorf("depth %d, dropped %d, written %d", q.Depth(), q.Dropped(), q.Written())
		}
		stop()
	})
}

func TestQueueDropsAndCountsWhenItIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{stall: make(chan struct{})}
		q, stop := running(t, 10, r)
		q.Add(0)
		synctest.Wait() // it is being written, and stalls
		for n := range 15 {
			q.Add(n + 1)
		}
		if q.Dropped() != 5 || q.Depth() != 11 {
			t.Errorf("dropped %d, depth %d; want 5 and 11", q.Dropped(), q.Depth())
		}
		close(r.stall)
		stop()
		if !slices.Equal(r.all(), numbers(11)) {
			t.Errorf("wrote %v", r.all())
		}
	})
}

// TestQueueLeavesTheMachineToCallsInAFlood offers more than can be written, and
// then what an ordinary day brings.
func TestQueueLeavesTheMachineToCallsInAFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{takes: 10 * time.Millisecond}
		q, stop := running(t, 2_000, r)
		offer := func(every, during time.Duration) (share float64) {
			before := r.spent.Load()
			for range during / every {
				q.Add(1)
				<-time.After(every)
			}
			synctest.Wait()
			return float64(r.spent.Load()-before) / float64(during)
		}
		if share := offer(100*time.Microsecond, 10*time.Second); share > 0.05 {
			t.Errorf("%.0f %% of the time went to writing in a flood", 100*share)
		}
		if q.Dropped() == 0 || q.Depth() < 1_900 {
			t.Errorf("dropped %d, depth %d: that was no flood", q.Dropped(), q.Depth())
		}
		offer(10*time.Millisecond, time.Second) // its last pauses
		dropped := q.Dropped()
		offer(10*time.Millisecond, 10*time.Second)
		if q.Dropped() != dropped || q.Depth() > 20 {
			t.Errorf("dropped %d after the flood, depth %d", q.Dropped()-dropped, q.Depth())
		}
		stop()
	})
}

func TestQueueWritesWhatIsLeftWhenItStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		q, stop := running(t, 10_000, r)
		for _, n := range numbers(3000) {
			q.Add(n)
		}
		stop()
		if !slices.Equal(r.all(), numbers(3000)) {
			t.Errorf("wrote %d records", len(r.all()))
		}
	})
}

func TestQueueGivesUpOnWritesThatFailOrHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{fail: errors.New("disk full")}
		q, stop := running(t, 10, r)
		q.Add(1)
		<-time.After(time.Second)
		synctest.Wait()
		if q.Dropped() != 1 || q.Depth() != 0 {
			t.Errorf("dropped %d, depth %d; want 1 and 0", q.Dropped(), q.Depth())
		}
		r.fail, r.stall = nil, make(chan struct{}) // never closed
		q.Add(2)
		started := time.Now()
		stop()
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("stopping took %s", took)
		}
		if q.Dropped() != 2 {
			t.Errorf("dropped %d, want 2", q.Dropped())
		}
	})
}
