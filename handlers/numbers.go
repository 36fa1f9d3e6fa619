package handlers

import (
	"hash/maphash"
	"sync/atomic"

	"calltracker/phone"
)

// Numbers remembers numbers that were read lately: the same callers and DIDs
// come again and again, and reading one by the numbering plan takes as long as
// all the rest of a decision. A new number takes the place of any that shares
// its bucket: looking for the least useful of all, as a cache with a policy
// does, would cost more than half of reading it again. Make it with NewNumbers;
// it is safe for concurrent use.
type Numbers struct {
	seed    maphash.Seed
	buckets []bucket
}

// bucket is a cache line of numbers whose hashes begin alike. Tags only save
// looking at the others: a number is known by its text.
type bucket struct {
	tags    [ways]atomic.Uint32
	numbers [ways]atomic.Pointer[remembered]
}

type remembered struct {
	raw, region string
	number      phone.Number
}

const (
	ways              = 4
	buckets           = 1 << 16
	longestRemembered = 40 // bytes; longer text is no number and would fill the memory
)

// NewNumbers makes an empty memory.
func NewNumbers() *Numbers {
	return &Numbers{seed: maphash.MakeSeed(), buckets: make([]bucket, buckets)}
}

// Parse is phone.Parse.
func (n *Numbers) Parse(raw, region string) phone.Number {
	if raw == "" || len(raw) > longestRemembered {
		return phone.Parse(raw, region)
	}
	hash := maphash.String(n.seed, raw)
	b := &n.buckets[hash%buckets]
	tag := uint32(hash>>32) | 1 // never that of an empty place
	place := int(hash >> 20 % ways)
	for i := range ways {
		switch b.tags[i].Load() {
		case tag:
			if known := b.numbers[i].Load(); known != nil && known.raw == raw && known.region == region {
				return known.number
			}
		case 0:
			place = i
		}
	}
	read := &remembered{raw, region, phone.Parse(raw, region)}
	b.numbers[place].Store(read)
	b.tags[place].Store(tag)
	return read.number
}
