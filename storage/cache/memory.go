// Package cache holds what is good to share and safe to lose: counters that
// routes rotate by, counts of wrong keys, what a CRM said lately, and budgets of
// requests. Nothing is correct only because of it. Memory keeps it in this
// process; Redis shares it between replicas, and is Memory whenever Redis is
// away.
package cache

import (
	"context"
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
	values   *otter.Cache[string, value]
	budgets  sync.Map // string to *budget; as many as the configuration has connections
	now      func() time.Time
}

type window struct {
	mutex         sync.Mutex
	opens, closes time.Time
	hits          int
}

type value struct {
	bytes   []byte
	written time.Time
	expires time.Time
}

// budget is a token bucket as one instant: when it will be full again if nobody
// takes anything. Each token taken moves that instant further away by the time
// that one token needs to come back.
type budget struct {
	mutex sync.Mutex
	full  time.Time
}

// Bounds of the memory: by the windows that strangers can open by calling from
// many addresses, and by the values. The least used are forgotten.
const (
	maxWindows    = 100_000
	maxValueBytes = 64 << 20
	valueOverhead = 200 // about what the map takes for an entry
)

// NewMemory makes an empty cache. now is the clock, time.Now outside of tests.
func NewMemory(now func() time.Time) *Memory {
	return &Memory{
		windows: otter.Must(&otter.Options[string, *window]{MaximumSize: maxWindows}),
		values: otter.Must(&otter.Options[string, value]{
			MaximumWeight: maxValueBytes,
			Weigher:       func(key string, v value) uint32 { return uint32(len(key) + len(v.bytes) + valueOverhead) },
		}),
		now: now,
	}
}

// Next counts from 0, one further with each call, for each key.
func (m *Memory) Next(key string) uint64 { return m.counter(key).Add(1) - 1 }

func (m *Memory) counter(key string) *atomic.Uint64 {
	counter, known := m.counters.Load(key)
	if !known {
		counter, _ = m.counters.LoadOrStore(key, new(atomic.Uint64))
	}
	return counter.(*atomic.Uint64)
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
	if !now.Before(w.closes) || now.Before(w.opens) { // it closed, or the clock was set back
		w.opens, w.closes, w.hits = now, now.Add(length), 0
	}
	w.hits++
	return w.hits, w.closes.Sub(now)
}

// Get returns what Set left under key, unless its time is over or it had to make
// room. The bytes must not be changed.
func (m *Memory) Get(_ context.Context, key string) ([]byte, bool) {
	v, known := m.get(key)
	return v.bytes, known
}

func (m *Memory) get(key string) (value, bool) {
	v, known := m.values.GetIfPresent(key)
	if !known || !m.now().Before(v.expires) {
		return value{}, false
	}
	return v, true
}

// Set keeps bytes under key for ttl. They must not be changed afterwards. A ttl
// of 0 or less forgets the key.
func (m *Memory) Set(_ context.Context, key string, bytes []byte, ttl time.Duration) {
	if ttl <= 0 {
		m.values.Invalidate(key)
		return
	}
	now := m.now()
	m.values.Set(key, value{bytes: bytes, written: now, expires: now.Add(ttl)})
}

// TakeToken takes one token from the budget under key and returns 0, or takes nothing
// and returns how long until it could. The budget holds at most size tokens and
// one comes back each time that every has passed; it starts full. A taker that
// leaves some tokens to others gets one only when as many remain.
func (m *Memory) TakeToken(_ context.Context, key string, size int, every time.Duration, leave int) time.Duration {
	b := m.budget(key)
	b.mutex.Lock()
	defer b.mutex.Unlock()
	now := m.now()
	after := later(b.full, now).Add(every)
	if wait := after.Sub(now) - time.Duration(size-leave)*every; wait > 0 {
		return wait
	}
	b.full = after
	return 0
}

// Drain leaves the budget under key without a token for the time that is given:
// the other side said to wait. It never shortens an earlier wait.
func (m *Memory) Drain(_ context.Context, key string, size int, every, wait time.Duration) {
	if wait <= 0 {
		return
	}
	b := m.budget(key)
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.full = later(b.full, m.now().Add(wait+time.Duration(size-1)*every))
}

// TokensLeft is how many tokens the budget under key holds.
func (m *Memory) TokensLeft(_ context.Context, key string, size int, every time.Duration) int {
	b := m.budget(key)
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return left(later(b.full, m.now()).Sub(m.now()), size, every)
}

// left is the number of tokens in a budget that will be full after debt.
func left(debt time.Duration, size int, every time.Duration) int {
	return max(0, size-int((debt+every-1)/every))
}

func (m *Memory) budget(key string) *budget {
	b, known := m.budgets.Load(key)
	if !known {
		b, _ = m.budgets.LoadOrStore(key, new(budget))
	}
	return b.(*budget)
}

// know takes over what Redis said of a budget, for the time when it is away.
func (m *Memory) know(key string, debt time.Duration) {
	b := m.budget(key)
	b.mutex.Lock()
	defer b.mutex.Unlock()
	b.full = m.now().Add(debt)
}

// caughtUp takes over how far Redis counted, so that a rotation goes on from
// there when it is away.
func (m *Memory) caughtUp(key string, next uint64) {
	counter := m.counter(key)
	for {
		known := counter.Load()
		if known >= next || counter.CompareAndSwap(known, next) {
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
