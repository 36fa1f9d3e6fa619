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

// bucket is a few numbers whose hashes end alike.
type bucket struct {
	mu     sync.Mutex
	places [ways]remembered
}

// remembered is a number that was read: the text that it was read from, and its
// E.164 form behind it. Where the two do not fit it is not remembered.
type remembered struct {
	tag                   uint16 // saves looking at the text of most others; 0 when the place is free
	region, country, kind uint16 // words
	rawSize, end          uint8
	text                  [38]byte
}

const (
	ways    = 4
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
	for i := range b.places {
		if p := &b.places[i]; p.tag == tag && string(p.text[:p.rawSize]) == raw && n.words.at(p.region) == region {
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
		r := remembered{tag: tag, region: n.words.add(region), country: n.words.add(number.Country), kind: n.words.add(string(number.Type))}
		r.rawSize = uint8(copy(r.text[:], number.Raw))
		r.end = r.rawSize + uint8(copy(r.text[r.rawSize:], number.E164))
		b.put(r, int(hash>>32%ways))
	}
	return number
}

// put takes a free place, or the given one.
func (b *bucket) put(r remembered, place int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.places {
		if b.places[i].tag == 0 {
			place = i
			break
		}
	}
	b.places[place] = r
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
