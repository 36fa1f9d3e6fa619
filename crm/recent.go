package crm

import (
	"hash/maphash"
	"sync/atomic"
	"time"
)

// Bounds of what an account remembers beside the shared cache.
const (
	memorySize = 1 << 12 // numbers
	// trusted is how long an answer is given without asking the shared cache,
	// where another replica may have left a newer one.
	trusted = 5 * time.Second
)

// memory is the answers that were given lately, ready to be given again: while a
// phone rings, every page that shows it asks for the same number. A new one
// takes the place of any that has the same slot. It is safe for concurrent use.
type memory struct {
	seed  maphash.Seed
	slots [memorySize]atomic.Pointer[remembered]
}

type remembered struct {
	number string
	answer Answer
	entry  entry
	read   time.Time
}

func newMemory() *memory { return &memory{seed: maphash.MakeSeed()} }

func (m *memory) slot(number string) *atomic.Pointer[remembered] {
	return &m.slots[maphash.String(m.seed, number)%memorySize]
}

// get is the answer for a number in E.164, unless it is no longer fresh.
func (m *memory) get(number string) (Answer, bool) {
	r := m.slot(number).Load()
	if r == nil || r.number != number || time.Since(r.read) >= trusted || !r.entry.fresh() {
		return Answer{}, false
	}
	return r.answer, true
}

// put remembers an answer that must not be changed any more.
func (m *memory) put(number string, e entry, a Answer) {
	m.slot(number).Store(&remembered{number: number, answer: a, entry: e, read: time.Now()})
}
