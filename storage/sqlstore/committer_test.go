package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"calltracker/storage"
)

// recordingCommitter commits to nowhere, a second for each batch, and notes the
// keys of each.
func recordingCommitter(turn chan struct{}) (*committer, func() [][]string) {
	var batches [][]string
	commit := func(ctx context.Context, batch []*pending) {
		var keys []string
		for _, p := range batch {
			keys = append(keys, p.report.Call.Key)
		}
		batches = append(batches, keys)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		for _, p := range batch {
			p.saved, p.err = storage.SaveResult{ID: p.report.Call.Key}, ctx.Err()
		}
	}
	return newCommitter(1, turn, commit), func() [][]string { return batches }
}

func keyed(n int) storage.ReceivedCDR {
	return storage.ReceivedCDR{Call: storage.Call{Key: fmt.Sprint(n)}}
}

func TestCommitterGathersWhileItCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, batches := recordingCommitter(nil)
		started := time.Now()
		answers := make(chan error, batchReports+10)
		send := func(n int) {
			go func() {
				saved, err := c.save(t.Context(), keyed(n))
				if err == nil && saved.ID != fmt.Sprint(n) {
					err = fmt.Errorf("%d was answered for %s", n, saved.ID)
				}
				answers <- err
			}()
			synctest.Wait()
		}
		for n := range batchReports + 10 {
			send(n)
		}
		for range cap(answers) {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		var sizes []int
		var order []string
		for _, batch := range batches() {
			sizes, order = append(sizes, len(batch)), append(order, batch...)
		}
		if want := []int{1, batchReports, 9}; !slices.Equal(sizes, want) {
			t.Errorf("batches of %v, want %v", sizes, want)
		}
		for n, key := range order {
			if key != fmt.Sprint(n) {
				t.Fatalf("committed %s at place %d, want the order of arrival", key, n)
			}
		}
		if took := time.Since(started); took != 3*time.Second {
			t.Errorf("took %v, want 3s: one alone waits for nobody", took)
		}
		c.close()
	})
}

func TestCommitterBoundsTheBytesOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := make(chan struct{}, 1)
		turn <- struct{}{} // until all have arrived
		c, batches := recordingCommitter(turn)
		for _, size := range []int{batchBytes + 1, batchBytes - 1, 1, 1} {
			r := keyed(size)
			r.Raw = make([]byte, size)
			go func() { _, _ = c.save(t.Context(), r) }()
			synctest.Wait()
		}
		<-turn
		c.close()
		want := [][]string{{fmt.Sprint(batchBytes + 1)}, {fmt.Sprint(batchBytes - 1), "1"}, {"1"}}
		if got := batches(); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("batches %v, want %v", got, want)
		}
	})
}

// One batch after the other, as long as they are quick; a slow one holds nobody
// up for longer than the patience.
func TestCommitterLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const quick = patience / 10
		release := make(chan struct{})
		type commit struct {
			key    string
			began  time.Duration
			beside int
		}
		var commits []commit
		var running atomic.Int32
		started := time.Now()
		c := newCommitter(2, nil, func(_ context.Context, batch []*pending) {
			key := batch[0].report.Call.Key
			commits = append(commits, commit{key, time.Since(started), int(running.Add(1)) - 1})
			if key == "0" {
				<-release
			} else {
				<-time.After(quick)
			}
			running.Add(-1)
		})
		send := func(n int) {
			go func() { _, _ = c.save(t.Context(), keyed(n)) }()
			synctest.Wait()
		}
		send(0)
		send(1) // until patience is over
		<-time.After(patience + quick/2)
		send(2) // until 1 is committed
		<-time.After(quick)
		send(3) // until 2 is committed
		<-time.After(2 * quick)
		send(4) // at once: there is only 0 beside it
		close(release)
		synctest.Wait()
		send(5)
		send(6) // with 5, although 0 has left its lane
		c.close()
		want := []commit{
			{"0", 0, 0}, {"1", patience, 1}, {"2", patience + quick, 1}, {"3", patience + 2*quick, 1},
			{"4", patience + 7*quick/2, 1}, {"5", patience + 9*quick/2, 0},
		}
		if !slices.Equal(commits, want) {
			t.Errorf("commits %v, want %v", commits, want)
		}
	})
}

func TestCommitterLetsGoAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, batches := recordingCommitter(nil)
		started := time.Now()
		results := make(chan error, 3)
		for n, limit := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, time.Hour} {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				_, err := c.save(ctx, keyed(n))
				if n < 2 && time.Since(started) != limit {
					err = fmt.Errorf("answered after %v, want %v", time.Since(started), limit)
				}
				results <- err
			}()
			synctest.Wait()
		}
		// The first is alone in its batch, which ends with it; the batch of the
		// second goes on for the third.
		for _, want := range []error{context.DeadlineExceeded, context.DeadlineExceeded, nil} {
			if err := <-results; !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
		}
		if got, want := batches(), [][]string{{"0"}, {"1", "2"}}; !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("batches %v, want %v", got, want)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.save(ctx, keyed(9)); !errors.Is(err, context.Canceled) || len(batches()) != 2 {
			t.Errorf("save with a cancelled context: %v, %d batches", err, len(batches()))
		}
		c.close()
	})
}

func TestCommitterForgetsWhoLeftTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turn := make(chan struct{}, 1)
		turn <- struct{}{}
		c, batches := recordingCommitter(turn)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		for n := range 3 {
			go func() {
				if n != 1 {
					_, _ = c.save(t.Context(), keyed(n))
					return
				}
				_, err := c.save(ctx, keyed(n))
				left <- err
			}()
			synctest.Wait()
		}
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
		<-turn
		c.close()
		if got, want := batches(), [][]string{{"0", "2"}}; !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("batches %v, want %v", got, want)
		}
	})
}

func TestCommitterDrainsAndGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hangs := newCommitter(1, nil, func(ctx context.Context, batch []*pending) {
			<-ctx.Done()
			for _, p := range batch {
				p.err = ctx.Err()
			}
		})
		for name, tt := range map[string]struct {
			c    *committer
			want time.Duration
			err  error
		}{
			"answers":  {first(recordingCommitter(nil)), 2 * time.Second, nil},
			"does not": {hangs, drainLimit, context.Canceled},
		} {
			started := time.Now()
			results := make(chan error, 2)
			for n := range 2 {
				go func() {
					_, err := tt.c.save(t.Context(), keyed(n))
					results <- err
				}()
				synctest.Wait()
			}
			tt.c.close()
			if took := time.Since(started); took != tt.want {
				t.Errorf("a database that %s: closed after %v, want %v", name, took, tt.want)
			}
			for range 2 {
				if err := <-results; !errors.Is(err, tt.err) {
					t.Errorf("a database that %s: error %v, want %v", name, err, tt.err)
				}
			}
			if _, err := tt.c.save(t.Context(), keyed(2)); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("save when closed: %v, want storage.ErrUnavailable", err)
			}
		}
	})
}

func first(c *committer, _ func() [][]string) *committer { return c }

func TestCommitterGathersAfterACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, batches := recordingCommitter(nil)
		c.gather = 10 * time.Millisecond
		started := time.Now()
		answers := make(chan error, 4)
		send := func(n int) {
			go func() {
				_, err := c.save(t.Context(), keyed(n))
				answers <- err
			}()
			synctest.Wait()
		}
		send(0)
		if err := <-answers; err != nil || time.Since(started) != time.Second {
			t.Errorf("answered after %v (%v), want 1s: the first waits for nobody", time.Since(started), err)
		}
		for n := range 3 { // each within a step
			send(n + 1)
			<-time.After(6 * time.Millisecond) // of the bubble
		}
		for range 3 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		if got := batches(); len(got) != 2 || len(got[1]) != 3 {
			t.Errorf("batches %v, want the first alone and the others together", got)
		}
		c.close()
	})
}
