package storetest

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Cache is the set of methods that the server needs of a cache.
type Cache interface {
	Next(key string) uint64
	CountInWindow(key string, window time.Duration) (hits int, closes time.Duration)
	Get(ctx context.Context, key string) ([]byte, bool)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
	TakeToken(ctx context.Context, key string, size int, every time.Duration, leave int) time.Duration
	Drain(ctx context.Context, key string, size int, every, wait time.Duration)
	TokensLeft(ctx context.Context, key string, size int, every time.Duration) int
}

// RunCache tests the caches that open returns. Each must be empty, and open must
// register a cleanup that closes it. wait lets time pass for the cache. Tests that do
// not wait use durations longer than any test, so that they pass on a slow machine.
func RunCache(t *testing.T, open func(t *testing.T) (c Cache, wait func(time.Duration))) {
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, c Cache, wait func(time.Duration))
	}{
		{"counters are separate for each key", cacheCountsKeysApart},
		{"counters return each number once to concurrent callers", cacheCountsOnce},
		{"hits are counted within their window", cacheCountsHits},
		{"a closed window starts again", cacheWindowCloses},
		{"values are returned as they were set", cacheKeepsValues},
		{"values expire", cacheForgetsValues},
		{"a budget is full at first and limited to its size", budgetHolds},
		{"a budget refills one token at a time", budgetRefills},
		{"a budget never holds more than its size", budgetIsCapped},
		{"reserved tokens are left to other callers", budgetReserves},
		{"a refused caller takes no token", budgetRefusalIsFree},
		{"concurrent callers take each token once", budgetIsShared},
		{"an emptied budget refuses callers until the wait is over", budgetEmpties},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, wait := open(t)
			tt.run(t, c, wait)
		})
	}
}

func cacheCountsKeysApart(t *testing.T, c Cache, _ func(time.Duration)) {
	if got := []uint64{c.Next("a"), c.Next("a"), c.Next("b"), c.Next("a")}; !slices.Equal(got, []uint64{0, 1, 0, 2}) {
		t.Errorf("a, a, b, a counted %v", got)
	}
}

func cacheCountsOnce(t *testing.T, c Cache, _ func(time.Duration)) {
	const callers, each = 8, 50
	numbers := make(chan uint64, callers*each)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range each {
				numbers <- c.Next("key")
			}
		})
	}
	all.Wait()
	close(numbers)
	seen := map[uint64]bool{}
	for n := range numbers {
		if seen[n] || n >= callers*each {
			t.Fatalf("number %d was returned twice or is too high", n)
		}
		seen[n] = true
	}
}

func cacheCountsHits(t *testing.T, c Cache, _ func(time.Duration)) {
	for want := 1; want <= 3; want++ {
		hits, closes := c.CountInWindow("a", time.Hour)
		if hits != want || closes <= 0 || closes > time.Hour {
			t.Errorf("hit %d counted as %d, closes in %s", want, hits, closes)
		}
	}
	if hits, _ := c.CountInWindow("b", time.Hour); hits != 1 {
		t.Errorf("the first hit of another key counted as %d", hits)
	}
}

func cacheWindowCloses(t *testing.T, c Cache, wait func(time.Duration)) {
	c.CountInWindow("a", 20*time.Millisecond)
	wait(40 * time.Millisecond)
	if hits, _ := c.CountInWindow("a", time.Hour); hits != 1 {
		t.Errorf("the first hit of a new window counted as %d", hits)
	}
}

func cacheKeepsValues(t *testing.T, c Cache, _ func(time.Duration)) {
	want := func(key string, value []byte, known bool) {
		t.Helper()
		if got, ok := c.Get(t.Context(), key); ok != known || !bytes.Equal(got, value) {
			t.Errorf("%s is %q, %t; want %q, %t", key, got, ok, value, known)
		}
	}
	want("a", nil, false)
	binary := []byte("\x00\xff\r\n€")
	c.Set(t.Context(), "a", binary, time.Hour)
	c.Set(t.Context(), "none", []byte{}, time.Hour)
	want("a", binary, true)
	want("none", nil, true) // an empty value is a value
	want("b", nil, false)
	c.Set(t.Context(), "a", []byte("again"), time.Hour)
	want("a", []byte("again"), true)
	c.Set(t.Context(), "a", nil, 0)
	want("a", nil, false)
}

func cacheForgetsValues(t *testing.T, c Cache, wait func(time.Duration)) {
	c.Set(t.Context(), "short", []byte("x"), 20*time.Millisecond)
	c.Set(t.Context(), "long", []byte("y"), time.Hour)
	wait(40 * time.Millisecond)
	if got, ok := c.Get(t.Context(), "short"); ok {
		t.Errorf("value %q did not expire", got)
	}
	if _, ok := c.Get(t.Context(), "long"); !ok {
		t.Error("a value expired early")
	}
}

func budgetHolds(t *testing.T, c Cache, _ func(time.Duration)) {
	const size = 3
	for n := range size {
		if left := c.TokensLeft(t.Context(), "a", size, time.Hour); left != size-n {
			t.Errorf("%d left after taking %d", left, n)
		}
		if wait := c.TakeToken(t.Context(), "a", size, time.Hour, 0); wait != 0 {
			t.Fatalf("token %d has to wait %s", n, wait)
		}
	}
	if wait := c.TakeToken(t.Context(), "a", size, time.Hour, 0); wait <= 0 || wait > time.Hour {
		t.Errorf("token beyond the size has to wait %s", wait)
	}
	if left := c.TokensLeft(t.Context(), "a", size, time.Hour); left != 0 {
		t.Errorf("%d left after taking all", left)
	}
	if wait := c.TakeToken(t.Context(), "b", size, time.Hour, 0); wait != 0 {
		t.Errorf("another budget has to wait %s", wait)
	}
}

func budgetRefills(t *testing.T, c Cache, wait func(time.Duration)) {
	const every = 30 * time.Millisecond
	var blocked time.Duration
	for blocked == 0 { // until the budget is empty
		blocked = c.TakeToken(t.Context(), "a", 2, every, 0)
	}
	if blocked > every {
		t.Errorf("the next token comes in %s, want at most %s", blocked, every)
	}
	wait(blocked + time.Millisecond)
	if again := c.TakeToken(t.Context(), "a", 2, every, 0); again != 0 {
		t.Errorf("after the wait the caller has to wait %s", again)
	}
}

func budgetIsCapped(t *testing.T, c Cache, wait func(time.Duration)) {
	c.TakeToken(t.Context(), "a", 2, time.Millisecond, 0)
	wait(30 * time.Millisecond)
	if left := c.TokensLeft(t.Context(), "a", 2, time.Hour); left != 2 {
		t.Errorf("%d tokens in a budget of 2", left)
	}
}

func budgetReserves(t *testing.T, c Cache, _ func(time.Duration)) {
	const size, leave = 5, 2
	taken := 0
	for c.TakeToken(t.Context(), "a", size, time.Hour, leave) == 0 {
		taken++
	}
	if taken != size-leave {
		t.Errorf("took %d of %d tokens with %d reserved", taken, size, leave)
	}
	for range leave {
		if wait := c.TakeToken(t.Context(), "a", size, time.Hour, 0); wait != 0 {
			t.Errorf("a reserved token has to wait %s", wait)
		}
	}
	if wait := c.TakeToken(t.Context(), "a", size, time.Hour, leave); wait <= 2*time.Hour || wait > 3*time.Hour {
		t.Errorf("empty budget with %d reserved tokens has a wait of %s", leave, wait)
	}
}

func budgetRefusalIsFree(t *testing.T, c Cache, _ func(time.Duration)) {
	c.TakeToken(t.Context(), "a", 1, time.Hour, 0)
	first := c.TakeToken(t.Context(), "a", 1, time.Hour, 0)
	for range 20 {
		c.TakeToken(t.Context(), "a", 1, time.Hour, 0)
	}
	if wait := c.TakeToken(t.Context(), "a", 1, time.Hour, 0); wait > first {
		t.Errorf("the wait grew from %s to %s by refused calls", first, wait)
	}
}

func budgetIsShared(t *testing.T, c Cache, _ func(time.Duration)) {
	const size = 100
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range size / 4 {
				if c.TakeToken(t.Context(), "a", size, time.Hour, 0) == 0 {
					taken.Add(1)
				}
			}
		})
	}
	all.Wait()
	if taken.Load() != size {
		t.Errorf("%d of %d tokens were taken", taken.Load(), size)
	}
}

func budgetEmpties(t *testing.T, c Cache, wait func(time.Duration)) {
	c.Drain(t.Context(), "a", 10, time.Millisecond, time.Hour)
	if left := c.TokensLeft(t.Context(), "a", 10, time.Millisecond); left != 0 {
		t.Errorf("%d left after it was emptied", left)
	}
	if blocked := c.TakeToken(t.Context(), "a", 10, time.Millisecond, 0); blocked <= 59*time.Minute || blocked > time.Hour {
		t.Errorf("wait %s, want an hour", blocked)
	}
	c.Drain(t.Context(), "a", 10, time.Millisecond, time.Minute)
	if blocked := c.TakeToken(t.Context(), "a", 10, time.Millisecond, 0); blocked <= 59*time.Minute {
		t.Errorf("a shorter wait replaced the longer one: %s", blocked)
	}
	c.Drain(t.Context(), "b", 10, time.Hour, 20*time.Millisecond)
	wait(40 * time.Millisecond)
	if blocked := c.TakeToken(t.Context(), "b", 10, time.Hour, 0); blocked != 0 {
		t.Errorf("wait %s after the blocked period, want none", blocked)
	}
	c.Drain(t.Context(), "c", 10, time.Hour, 0)
	if left := c.TokensLeft(t.Context(), "c", 10, time.Hour); left != 10 {
		t.Errorf("%d left after Empty without a wait, want all", left)
	}
}
