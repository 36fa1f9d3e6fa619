package phone

import (
	"strings"

	"github.com/maypok86/otter/v2"
)

// Limits of the cache of numbers.
const (
	maxNumbers      = 100_000
	maxNumberLength = 40 // in bytes; longer texts are parsed each time
)

// Cache parses phone numbers and caches the results: the same callers and DIDs
// recur, and parsing a number takes as long as the rest of a decision. It is safe
// for concurrent use. Create it with NewCache.
type Cache struct {
	cache *otter.Cache[numberKey, Number]
}

type numberKey struct{ raw, region string }

// NewCache returns an empty cache.
func NewCache() *Cache {
	return &Cache{cache: otter.Must(&otter.Options[numberKey, Number]{MaximumSize: maxNumbers})}
}

// Parse returns the same result as the function [Parse].
func (c *Cache) Parse(raw, region string) Number {
	if raw == "" || len(raw) > maxNumberLength {
		return Parse(raw, region)
	}
	if number, ok := c.cache.GetIfPresent(numberKey{raw, region}); ok {
		return number
	}
	raw = strings.Clone(raw) // the cache must not keep the request that raw is a part of
	number := Parse(raw, region)
	c.cache.Set(numberKey{raw, region}, number)
	return number
}
