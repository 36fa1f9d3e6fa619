package handlers

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"calltracker/phone"
)

// Numbers remembers numbers that were read lately: the same callers and DIDs
// come again and again, and reading one by the numbering plan takes as long as
// all the rest of a decision. A new number takes the place of another that shares
// its bucket: looking for the least useful of all, as a cache with a policy
// does, would cost more than half of reading it again. Nothing in a bucket points
// anywhere, so that a hundred thousand numbers are no work for the garbage
// collector, which has calls wait. Make it with NewNumbers; it is safe for
// concurrent use.
type Numbers struct {
	seed    maphash.Seed
	buckets []bucket
	words   words
}

// bucket is a few numbers whose hashes end alike. Tags save looking at most of
// the others; a number is known by its text.
type bucket struct {
	mu     sync.Mutex
	tags   [ways]uint16 // 0 where the place is free
	places [ways]remembered
}

// remembered is a number that was read: the text that it was read from, and its
// E.164 form behind it. Where the two do not fit it is not remembered.
type remembered struct {
	region, country, kind uint16 // words
	rawSize, end          uint8
	text                  [40]byte
}

const (
	ways    = 8
	buckets = 1 << 15
)

// NewNumbers makes an empty memory.
func NewNumbers() *Numbers {
	return &Numbers{seed: maphash.MakeSeed(), buckets: make([]bucket, buckets)}
}

// Parse is phone.Parse.
func (n *Numbers) Parse(raw, region string) phone.Number {
	if raw == "" || len(raw) > len(remembered{}.text) {
		return phone.Parse(raw, region)
	}
	hash := maphash.String(n.seed, raw)
	b := &n.buckets[hash%buckets]
	tag := uint16(hash>>48) | 1
	b.mu.Lock()
	for i := range b.tags {
		if p := &b.places[i]; b.tags[i] == tag && string(p.text[:p.rawSize]) == raw && n.words.at(p.region) == region {
			number := phone.Number{Raw: raw, Country: n.words.at(p.country), Type: phone.Type(n.words.at(p.kind))}
			if p.end > p.rawSize {
				number.E164 = string(p.text[p.rawSize:p.end])
			}
			b.mu.Unlock()
			return number
		}
	}
	b.mu.Unlock()
	number := phone.Parse(raw, region)
	if len(number.Raw)+len(number.E164) <= len(remembered{}.text) {
		r := remembered{region: n.words.add(region), country: n.words.add(number.Country), kind: n.words.add(string(number.Type))}
		r.rawSize = uint8(copy(r.text[:], number.Raw))
		r.end = r.rawSize + uint8(copy(r.text[r.rawSize:], number.E164))
		b.put(tag, r, int(hash>>32%ways))
	}
	return number
}

// put takes a free place, or the given one.
func (b *bucket) put(tag uint16, r remembered, place int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if free := slices.Index(b.tags[:], 0); free >= 0 {
		place = free
	}
	b.tags[place], b.places[place] = tag, r
}

// words gives each of the few texts that very many numbers have in common
// (regions, countries, types) a number. The zero value is ready.
type words struct {
	mu    sync.Mutex
	known atomic.Pointer[[]string]
}

// at is the text that add has given this number.
func (w *words) at(i uint16) string { return (*w.known.Load())[i] }

func (w *words) add(text string) uint16 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var known []string
	if now := w.known.Load(); now != nil {
		known = *now
	}
	if i := slices.Index(known, text); i >= 0 {
		return uint16(i)
	}
	known = append(slices.Clone(known), text)
	w.known.Store(&known)
	return uint16(len(known) - 1)
}
