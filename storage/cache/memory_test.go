package cache_test

import (
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"calltracker/storage/cache"
	"calltracker/storage/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a clock that tests set.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func TestMemory(t *testing.T) {
	storetest.RunCache(t, func(*testing.T) (storetest.Cache, func(time.Duration)) {
		c := &clock{at: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
		return cache.NewMemory(c.now), c.advance
	})
}

func TestCountInWindow(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	m := cache.NewMemory(func() time.Time { return now })
	expect := func(key string, wantCount int, wantClosesIn time.Duration) {
		t.Helper()
		if count, closesIn := m.CountInWindow(key, time.Minute); count != wantCount || closesIn != wantClosesIn {
			t.Errorf("key %s at %s: count %d, closes in %s; want %d, %s", key, now.Format(time.TimeOnly), count, closesIn, wantCount, wantClosesIn)
		}
	}
	expect("a", 1, time.Minute)
	now = now.Add(59 * time.Second)
	expect("a", 2, time.Second)
	expect("b", 1, time.Minute)
	now = now.Add(time.Second)
	expect("a", 1, time.Minute)
	expect("b", 2, 59*time.Second)
	now = now.Add(-time.Hour) // a clock that was set back opens a new window
	expect("a", 1, time.Minute)
}
