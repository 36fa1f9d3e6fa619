package handlers

import (
	"github.com/maypok86/otter/v2"

	"calltracker/phone"
)

// Numbers remembers numbers that were read lately: the same callers and DIDs
// come again and again, and reading one by the numbering plan takes as long as
// all the rest of a decision. Make it with NewNumbers; it is safe for
// concurrent use.
type Numbers struct {
	cache *otter.Cache[numberKey, phone.Number]
}

type numberKey struct{ raw, region string }

const (
	rememberedNumbers = 100_000
	longestRemembered = 40 // bytes; longer text is no number and would fill the memory
)

// NewNumbers makes an empty memory.
func NewNumbers() *Numbers {
	return &Numbers{cache: otter.Must(&otter.Options[numberKey, phone.Number]{MaximumSize: rememberedNumbers})}
}

// Parse is phone.Parse.
func (n *Numbers) Parse(raw, region string) phone.Number {
	if raw == "" || len(raw) > longestRemembered {
		return phone.Parse(raw, region)
	}
	key := numberKey{raw, region}
	number, known := n.cache.GetIfPresent(key)
	if !known {
		number = phone.Parse(raw, region)
		n.cache.Set(key, number)
	}
	return number
}
