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

// fakeCommitter returns a committer whose commits take a second and store nothing,
// and a function that returns the call keys of each batch.
func fakeCommitter(writeLock chan struct{}) (*committer, func() [][]string) {
	var batches [][]string
	commit := func(ctx context.Context, batch []*saveRequest) {
		var keys []string
		for _, r := range batch {
			keys = append(keys, r.cdr.Call.Key)
		}
		batches = append(batches, keys)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		for _, r := range batch {
			r.result, r.err = storage.SaveResult{ID: r.cdr.Call.Key}, ctx.Err()
		}
	}
	return newCommitter(writeLock, commit), func() [][]string { return batches }
}

// cdrWithKey returns a CDR of the call with key n.
func cdrWithKey(n int) storage.ReceivedCDR {
	return storage.ReceivedCDR{Call: storage.Call{Key: fmt.Sprint(n)}}
}

func TestCommitterGathersDuringACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, batches := fakeCommitter(nil)
		started := time.Now()
		results := make(chan error, maxBatchRequests+10)
		send := func(n int) {
			go func() {
				result, err := c.save(t.Context(), cdrWithKey(n))
				if err == nil && result.ID != fmt.Sprint(n) {
					err = fmt.Errorf("request %d got the result of %s", n, result.ID)
				}
				results <- err
			}()
			synctest.Wait()
		}
		for n := range maxBatchRequests + 10 {
			send(n)
		}
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		var sizes []int
		var order []string
		for _, batch := range batches() {
			sizes, order = append(sizes, len(batch)), append(order, batch...)
		}
		if want := []int{1, maxBatchRequests, 9}; !slices.Equal(sizes, want) {
			t.Errorf("batch sizes %v, want %v", sizes, want)
		}
		for n, key := range order {
			if key != fmt.Sprint(n) {
				t.Fatalf("request %s was committed in position %d, want the order of arrival", key, n)
			}
		}
		if took := time.Since(started); took != 3*time.Second {
			t.Errorf("took %v, want 3s: a single request is committed immediately", took)
		}
		c.close()
	})
}

func TestCommitterLimitsBatchBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writeLock := make(chan struct{}, 1)
		writeLock <- struct{}{} // until all requests have arrived
		c, batches := fakeCommitter(writeLock)
		for _, size := range []int{maxBatchBytes + 1, maxBatchBytes - 1, 1, 1} {
			cdr := cdrWithKey(size)
			cdr.Raw = make([]byte, size)
			go func() { _, _ = c.save(t.Context(), cdr) }()
			synctest.Wait()
		}
		<-writeLock
		c.close()
		want := [][]string{{fmt.Sprint(maxBatchBytes + 1)}, {fmt.Sprint(maxBatchBytes - 1), "1"}, {"1"}}
		if got := batches(); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("batches %v, want %v", got, want)
		}
	})
}

// TestCommitterCommitsOneBatchAtATime checks that commits never overlap, however
// long one takes, and that a slow commit makes the next batch larger.
func TestCommitterCommitsOneBatchAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			quick = 10 * time.Millisecond
			slow  = 10 * time.Second
		)
		type commit struct {
			keys    string
			started time.Duration
		}
		var commits []commit
		var running atomic.Int32
		started := time.Now()
		c := newCommitter(nil, func(_ context.Context, batch []*saveRequest) {
			if n := running.Add(1); n != 1 {
				t.Errorf("%d commits at the same time, want 1", n)
			}
			var keys string
			for _, r := range batch {
				keys += r.cdr.Call.Key
			}
			commits = append(commits, commit{keys, time.Since(started)})
			if keys == "0" {
				<-time.After(slow)
			} else {
				<-time.After(quick)
			}
			running.Add(-1)
		})
		send := func(n int) {
			go func() { _, _ = c.save(t.Context(), cdrWithKey(n)) }()
			synctest.Wait()
		}
		send(0)
		for n := range 4 { // all during the commit of 0
			send(n + 1)
			<-time.After(slow / 5)
		}
		<-time.After(slow/5 + quick/2)
		send(5) // during the commit of 1 to 4
		<-time.After(10 * quick)
		send(6) // when there is no commit
		c.close()
		want := []commit{{"0", 0}, {"1234", slow}, {"5", slow + quick}, {"6", slow + 10*quick + quick/2}}
		if !slices.Equal(commits, want) {
			t.Errorf("commits %v, want %v", commits, want)
		}
	})
}

// TestCommitterRecoversFromAHangingCommit checks that during a commit that hangs every
// request returns at its own deadline, so that its CDR can be spooled in time, and
// that commits continue once all requests of the hanging batch have returned.
func TestCommitterRecoversFromAHangingCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const deadline = 2 * time.Second
		var batches []string
		c := newCommitter(nil, func(ctx context.Context, batch []*saveRequest) {
			var keys string
			for _, r := range batch {
				keys += r.cdr.Call.Key
			}
			batches = append(batches, keys)
			if keys == "0" {
				<-ctx.Done() // hangs until it is canceled
			}
			for _, r := range batch {
				r.err = ctx.Err()
			}
		})
		type outcome struct {
			key  int
			took time.Duration
			err  error
		}
		outcomes := make(chan outcome, 4)
		send := func(n int, deadline time.Duration) {
			go func() {
				started := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), deadline)
				defer cancel()
				_, err := c.save(ctx, cdrWithKey(n))
				outcomes <- outcome{n, time.Since(started), err}
			}()
			synctest.Wait()
		}
		send(0, deadline)
		send(1, deadline/2) // leaves before the commit is canceled
		<-time.After(deadline / 4)
		send(2, deadline)
		send(3, deadline)
		for _, want := range []outcome{
			{1, deadline / 2, context.DeadlineExceeded},
			{0, deadline, context.DeadlineExceeded},
			{2, deadline * 3 / 4, nil}, // as soon as 0 has left
			{3, deadline * 3 / 4, nil},
		} {
			got := <-outcomes
			if want.err == nil { // 2 and 3 may return in any order
				want.key = got.key
			}
			if got.key != want.key || got.took != want.took || !errors.Is(got.err, want.err) {
				t.Errorf("outcome %v, want %v", got, want)
			}
		}
		if want := []string{"0", "23"}; !slices.Equal(batches, want) {
			t.Errorf("batches %v, want %v", batches, want)
		}
		c.close()
	})
}

func TestCommitterReturnsAtTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, batches := fakeCommitter(nil)
		started := time.Now()
		results := make(chan error, 3)
		for n, limit := range []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, time.Hour} {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				_, err := c.save(ctx, cdrWithKey(n))
				if n < 2 && time.Since(started) != limit {
					err = fmt.Errorf("returned after %v, want %v", time.Since(started), limit)
				}
				results <- err
			}()
			synctest.Wait()
		}
		// The first request is alone in its batch, which is canceled with it. The
		// second one leaves its batch, which continues for the third one.
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
		if _, err := c.save(ctx, cdrWithKey(9)); !errors.Is(err, context.Canceled) || len(batches()) != 2 {
			t.Errorf("save with a canceled context: %v, %d batches", err, len(batches()))
		}
		c.close()
	})
}

func TestCommitterDropsWithdrawnRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		writeLock := make(chan struct{}, 1)
		writeLock <- struct{}{}
		c, batches := fakeCommitter(writeLock)
		ctx, cancel := context.WithCancel(t.Context())
		withdrawn := make(chan error)
		for n := range 3 {
			go func() {
				if n != 1 {
					_, _ = c.save(t.Context(), cdrWithKey(n))
					return
				}
				_, err := c.save(ctx, cdrWithKey(n))
				withdrawn <- err
			}()
			synctest.Wait()
		}
		cancel()
		if err := <-withdrawn; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
		<-writeLock
		c.close()
		if got, want := batches(), [][]string{{"0", "2"}}; !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("batches %v, want %v", got, want)
		}
	})
}

func TestCommitterDrainsAndGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		working, _ := fakeCommitter(nil)
		hanging := newCommitter(nil, func(ctx context.Context, batch []*saveRequest) {
			<-ctx.Done()
			for _, r := range batch {
				r.err = ctx.Err()
			}
		})
		for name, tt := range map[string]struct {
			c    *committer
			want time.Duration
			err  error
		}{
			"working database": {working, 2 * time.Second, nil},
			"hanging database": {hanging, drainTimeout, context.Canceled},
		} {
			started := time.Now()
			results := make(chan error, 2)
			for n := range 2 {
				go func() {
					_, err := tt.c.save(t.Context(), cdrWithKey(n))
					results <- err
				}()
				synctest.Wait()
			}
			tt.c.close()
			if took := time.Since(started); took != tt.want {
				t.Errorf("%s: closed after %v, want %v", name, took, tt.want)
			}
			for range 2 {
				if err := <-results; !errors.Is(err, tt.err) {
					t.Errorf("%s: error %v, want %v", name, err, tt.err)
				}
			}
			if _, err := tt.c.save(t.Context(), cdrWithKey(2)); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%s: save after close: %v, want storage.ErrUnavailable", name, err)
			}
		}
	})
}

func TestCommitterGathersAfterACommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, batches := fakeCommitter(nil)
		c.gather = 10 * time.Millisecond
		started := time.Now()
		results := make(chan error, 4)
		send := func(n int) {
			go func() {
				_, err := c.save(t.Context(), cdrWithKey(n))
				results <- err
			}()
			synctest.Wait()
		}
		send(0)
		if err := <-results; err != nil || time.Since(started) != time.Second {
			t.Errorf("returned after %v (%v), want 1s: the first request is committed immediately", time.Since(started), err)
		}
		for n := range 3 { // one request in each step
			send(n + 1)
			<-time.After(6 * time.Millisecond) // simulated time
		}
		for range 3 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if got := batches(); len(got) != 2 || len(got[1]) != 3 {
			t.Errorf("batches %v, want the first request alone and the others together", got)
		}
		c.close()
	})
}
