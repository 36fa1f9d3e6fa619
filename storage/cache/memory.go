// Package cache holds what is good to share and safe to lose: counters that
// routes rotate by, and counts of wrong keys. Nothing is correct only because
// of it.
package cache

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Memory keeps everything in this process. It is safe for concurrent use. Make
// it with NewMemory.
type Memory struct {
	counters sync.Map // string to *atomic.Uint64; as many as the configuration has rotating routes
	windows  *otter.Cache[string, *window]
	now      func() time.Time
}

type window struct {
	mutex sync.Mutex
	since time.Time
	hits  int
}

// maxWindows bounds the memory that strangers can take by calling from many
// addresses; the least used are forgotten.
const maxWindows = 100_000

// NewMemory makes an empty cache. now is the clock, time.Now outside of tests.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{
		windows: otter.Must(&otter.Options[string, *window]{MaximumSize: maxWindows}),
		now:     now,
	}
}

// Next counts from 0, one further with each call, for each key.
func (m *Memory) Next(key string) uint64 {
	counter, known := m.counters.Load(key)
	if !known {
		counter, _ = m.counters.LoadOrStore(key, new(atomic.Uint64))
	}
	return counter.(*atomic.Uint64).Add(1) - 1
}

// Hit counts one more hit on key and returns how many there were in the window
// that the first of them opened, and how long until it closes.
func (m *Memory) Hit(key string, length time.Duration) (hits int, closes time.Duration) {
	w, known := m.windows.GetIfPresent(key)
	if !known {
		w, _ = m.windows.SetIfAbsent(key, &window{})
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	now := m.now()
	if now.Sub(w.since) >= length || now.Before(w.since) {
		w.since, w.hits = now, 0
	}
	w.hits++
	return w.hits, w.since.Add(length).Sub(now)
}
