// Package cache holds state that is useful to share and safe to lose: the
// counters of rotating routes, counts of invalid keys, recent CRM answers, and
// request budgets. Correctness never depends on it. Memory keeps this state in the
// process. Redis shares it between replicas, and falls back to a Memory while the
// Redis server is unavailable.
package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"
)

// Memory keeps everything in the process. It is safe for concurrent use. Create
// it with NewMemory.
type Memory struct {
	counters sync.Map // string to *atomic.Uint64, one for each rotating route
	windows  *otter.Cache[string, *window]
	values   *otter.Cache[string, value]
	budgets  sync.Map // string to *budget, one for each connection
	now      func() time.Time
}

type window struct {
	mu            sync.Mutex
	opens, closes time.Time
	count         int
}

type value struct {
	content []byte
	expires time.Time
}

// budget is a token bucket, stored as the instant at which it will be full again.
// Each token that is taken delays that instant by the time to regain one token.
type budget struct {
	mu     sync.Mutex
	fullAt time.Time
}

// Memory limits. Windows are limited because clients without a valid key open
// them: one for each address. At a limit, the least recently used entries are evicted.
const (
	maxWindows    = 100_000
	maxValueBytes = 64 << 20
	valueOverhead = 200 // approximate size of an entry in the map
)

// NewMemory returns an empty cache. now is the clock, time.Now except in tests.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{
		windows: otter.Must(&otter.Options[string, *window]{MaximumSize: maxWindows}),
		values: otter.Must(&otter.Options[string, value]{
			MaximumWeight: maxValueBytes,
			Weigher:       func(key string, v value) uint32 { return uint32(len(key) + len(v.content) + valueOverhead) },
		}),
		now: now,
	}
}

// Next returns 0 on the first call for a key, and one more on each further call.
func (m *Memory) Next(key string) uint64 { return m.counter(key).Add(1) - 1 }

func (m *Memory) counter(key string) *atomic.Uint64 {
	counter, ok := m.counters.Load(key)
	if !ok {
		counter, _ = m.counters.LoadOrStore(key, new(atomic.Uint64))
	}
	return counter.(*atomic.Uint64)
}

// CountInWindow counts an event under key. It returns the number of events in the
// current window, and the time until the window closes. The first event opens a
// window of the given length.
func (m *Memory) CountInWindow(key string, length time.Duration) (count int, closesIn time.Duration) {
	w, ok := m.windows.GetIfPresent(key)
	if !ok {
		w, _ = m.windows.SetIfAbsent(key, &window{})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := m.now()
	if !now.Before(w.closes) || now.Before(w.opens) { // the window closed, or the clock was set back
		w.opens, w.closes, w.count = now, now.Add(length), 0
	}
	w.count++
	return w.count, w.closes.Sub(now)
}

// Get returns the value that Set stored under key. It reports false if the value
// expired or was evicted. The caller must not modify the value.
func (m *Memory) Get(_ context.Context, key string) ([]byte, bool) {
	v, ok := m.values.GetIfPresent(key)
	if !ok || !m.now().Before(v.expires) {
		return nil, false
	}
	return v.content, true
}

// Set stores a value under key for ttl. The caller must not modify the value
// after that. If ttl is 0 or less, Set deletes the key.
func (m *Memory) Set(_ context.Context, key string, content []byte, ttl time.Duration) {
	if ttl <= 0 {
		m.values.Invalidate(key)
		return
	}
	m.values.Set(key, value{content: content, expires: m.now().Add(ttl)})
}

// TakeToken takes one token from the budget under key and returns 0. If no token is
// available, it takes none and returns the time until one is. A budget holds at
// most size tokens, starts full, and regains one token per interval every.
// TakeToken leaves the last leave tokens to other callers.
func (m *Memory) TakeToken(_ context.Context, key string, size int, every time.Duration, leave int) time.Duration {
	b := m.budget(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	now := m.now()
	fullAt := later(b.fullAt, now).Add(every)
	if wait := fullAt.Sub(now) - time.Duration(size-leave)*every; wait > 0 {
		return wait
	}
	b.fullAt = fullAt
	return 0
}

// Drain leaves the budget under key without tokens for the duration wait, which
// the upstream asked for. It never shortens an earlier wait.
func (m *Memory) Drain(_ context.Context, key string, size int, every, wait time.Duration) {
	if wait <= 0 {
		return
	}
	b := m.budget(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fullAt = later(b.fullAt, m.now().Add(wait+time.Duration(size-1)*every))
}

// TokensLeft returns the number of tokens in the budget under key.
func (m *Memory) TokensLeft(_ context.Context, key string, size int, every time.Duration) int {
	b := m.budget(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	return tokens(later(b.fullAt, m.now()).Sub(m.now()), size, every)
}

// tokens returns the number of tokens in a budget that will be full after untilFull.
func tokens(untilFull time.Duration, size int, every time.Duration) int {
	return max(0, size-int((untilFull+every-1)/every))
}

func (m *Memory) budget(key string) *budget {
	b, ok := m.budgets.Load(key)
	if !ok {
		b, _ = m.budgets.LoadOrStore(key, new(budget))
	}
	return b.(*budget)
}

// copyBudget copies the state of a budget from Redis, so that it continues from
// there while Redis is unavailable.
func (m *Memory) copyBudget(key string, untilFull time.Duration) {
	b := m.budget(key)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fullAt = m.now().Add(untilFull)
}

// copyCounter copies the state of a counter from Redis, so that a rotation
// continues from there while Redis is unavailable.
func (m *Memory) copyCounter(key string, next uint64) {
	counter := m.counter(key)
	for {
		current := counter.Load()
		if current >= next || counter.CompareAndSwap(current, next) {
			return
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
