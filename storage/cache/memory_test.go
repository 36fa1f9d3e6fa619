package cache_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"calltracker/storage/cache"
)

func TestNextCountsEachKeyOnItsOwn(t *testing.T) {
	m := cache.NewMemory(time.Now)
	if got := []uint64{m.Next("a"), m.Next("a"), m.Next("b"), m.Next("a")}; !slices.Equal(got, []uint64{0, 1, 0, 2}) {
		t.Errorf("a, a, b, a counted %v", got)
	}
}

func TestNextGivesEachNumberOnceToConcurrentCallers(t *testing.T) {
	m := cache.NewMemory(time.Now)
	const callers, each = 16, 500
	numbers := make(chan uint64, callers*each)
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range each {
				numbers <- m.Next("key")
			}
		})
	}
	all.Wait()
	close(numbers)
	seen := map[uint64]bool{}
	for n := range numbers {
		if seen[n] || n >= callers*each {
			t.Fatalf("number %d came twice or is too high", n)
		}
		seen[n] = true
	}
}

func TestHitCountsWithinItsWindow(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	m := cache.NewMemory(func() time.Time { return now })
	hit := func(key string, wantHits int, wantCloses time.Duration) {
		t.Helper()
		if hits, closes := m.Hit(key, time.Minute); hits != wantHits || closes != wantCloses {
			t.Errorf("at %s, %s: %d hits, closes in %s; want %d, %s", now.Format(time.TimeOnly), key, hits, closes, wantHits, wantCloses)
		}
	}
	hit("a", 1, time.Minute)
	now = now.Add(59 * time.Second)
	hit("a", 2, time.Second)
	hit("b", 1, time.Minute)
	now = now.Add(time.Second)
	hit("a", 1, time.Minute)
	hit("b", 2, 59*time.Second)
	now = now.Add(-time.Hour) // a clock that was set back opens a new window
	hit("a", 1, time.Minute)
}
