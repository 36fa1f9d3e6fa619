package writebehind_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"calltracker/storage/writebehind"
)

// fakeWriter records the batches written to it.
type fakeWriter struct {
	batches [][]int
	err     error
	unblock chan struct{} // if set, writes block until it is closed
	delay   time.Duration // duration of each write
	spent   atomic.Int64  // total nanoseconds of all writes
}

func (w *fakeWriter) write(ctx context.Context, batch []int) error {
	if w.unblock != nil {
		select {
		case <-w.unblock:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	<-time.After(w.delay) // fake time
	w.spent.Add(int64(w.delay))
	if w.err != nil {
		return w.err
	}
	w.batches = append(w.batches, slices.Clone(batch))
	return nil
}

func (w *fakeWriter) all() []int { return slices.Concat(w.batches...) }

// startQueue starts a queue. The returned function stops it and waits.
func startQueue(t *testing.T, size int, w *fakeWriter) (q *writebehind.Queue[int], stop func()) {
	t.Helper()
	q = writebehind.New("test", size, slog.New(slog.DiscardHandler), w.write)
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

func TestQueueWritesBatchesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWriter{}
		q, stop := startQueue(t, 10_000, w)
		for _, n := range numbers(1200) {
			q.Add(n)
		}
		<-time.After(time.Minute) // fake time
		synctest.Wait()
		if !slices.Equal(w.all(), numbers(1200)) {
			t.Errorf("wrote %d records, want 1200 in order", len(w.all()))
		}
		for _, batch := range w.batches {
			if len(batch) > 20 { // a large batch would delay calls
				t.Errorf("batch of %d records, want at most 20", len(batch))
			}
		}
		if q.Depth() != 0 || q.Dropped() != 0 || q.Written() != 1200 {
			t.Errorf("depth %d, dropped %d, written %d", q.Depth(), q.Dropped(), q.Written())
		}
		stop()
	})
}

func TestQueueDropsRecordsWhenFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWriter{unblock: make(chan struct{})}
		q, stop := startQueue(t, 10, w)
		q.Add(0)
		synctest.Wait() // the write of the first record blocks
		for n := range 15 {
			q.Add(n + 1)
		}
		if q.Dropped() != 5 || q.Depth() != 11 {
			t.Errorf("dropped %d, depth %d; want 5 and 11", q.Dropped(), q.Depth())
		}
		close(w.unblock)
		stop()
		if !slices.Equal(w.all(), numbers(11)) {
			t.Errorf("wrote %v", w.all())
		}
	})
}

// TestQueueLimitsWritingUnderOverload adds more records than can be written, and then a
// normal load.
func TestQueueLimitsWritingUnderOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWriter{delay: 10 * time.Millisecond}
		q, stop := startQueue(t, 2_000, w)
		addFor := func(every, during time.Duration) (share float64) {
			before := w.spent.Load()
			for range during / every {
				q.Add(1)
				<-time.After(every)
			}
			synctest.Wait()
			return float64(w.spent.Load()-before) / float64(during)
		}
		if share := addFor(100*time.Microsecond, 10*time.Second); share > 0.05 {
			t.Errorf("%.0f%% of the time was spent writing under overload", 100*share)
		}
		if q.Dropped() == 0 || q.Depth() < 1_900 {
			t.Errorf("dropped %d, depth %d: the queue was not overloaded", q.Dropped(), q.Depth())
		}
		addFor(10*time.Millisecond, time.Second) // wait for the last long pauses
		dropped := q.Dropped()
		addFor(10*time.Millisecond, 10*time.Second)
		if q.Dropped() != dropped || q.Depth() > 20 {
			t.Errorf("dropped %d after the overload, depth %d", q.Dropped()-dropped, q.Depth())
		}
		stop()
	})
}

func TestQueueDrainsOnShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWriter{}
		q, stop := startQueue(t, 10_000, w)
		for _, n := range numbers(3000) {
			q.Add(n)
		}
		stop()
		if !slices.Equal(w.all(), numbers(3000)) {
			t.Errorf("wrote %d records", len(w.all()))
		}
	})
}

func TestQueueDropsFailedAndBlockedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWriter{err: errors.New("disk full")}
		q, stop := startQueue(t, 10, w)
		q.Add(1)
		<-time.After(time.Second)
		synctest.Wait()
		if q.Dropped() != 1 || q.Depth() != 0 {
			t.Errorf("dropped %d, depth %d; want 1 and 0", q.Dropped(), q.Depth())
		}
		w.err, w.unblock = nil, make(chan struct{}) // never closed
		q.Add(2)
		started := time.Now()
		stop()
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("shutdown took %s", took)
		}
		if q.Dropped() != 2 {
			t.Errorf("dropped %d, want 2", q.Dropped())
		}
	})
}
