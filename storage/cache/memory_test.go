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

// clock is one that tests set.
type clock struct {
	mutex sync.Mutex
	at    time.Time
}

func (c *clock) now() time.Time {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.at = c.at.Add(d)
}

func TestMemory(t *testing.T) {
	storetest.RunCache(t, func(*testing.T) (storetest.Cache, func(time.Duration)) {
		c := &clock{at: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
		return cache.NewMemory(c.now), c.pass
	})
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
