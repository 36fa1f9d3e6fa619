package phone

import (
	"strings"

	"github.com/maypok86/otter/v2"
)

// Limits of a Cache.
const (
	maxNumbers      = 100_000
	maxNumberLength = 40 // in bytes; longer texts are not cached
)

// Cache parses phone numbers and caches the results. The same callers and DIDs recur, and
// parsing a number takes as long as the rest of a routing decision. Create a Cache with
// NewCache. It is safe for concurrent use.
type Cache struct {
	numbers *otter.Cache[numberKey, Number]
}

type numberKey struct{ raw, region string }

// NewCache returns an empty cache.
func NewCache() *Cache {
	return &Cache{numbers: otter.Must(&otter.Options[numberKey, Number]{MaximumSize: maxNumbers})}
}

// Parse returns the same result as the function Parse.
func (c *Cache) Parse(raw, region string) Number {
	if raw == "" || len(raw) > maxNumberLength {
		return Parse(raw, region)
	}
	if number, ok := c.numbers.GetIfPresent(numberKey{raw, region}); ok {
		return number
	}
	raw = strings.Clone(raw) // raw may be part of a request, which must not stay in memory
	number := Parse(raw, region)
	c.numbers.Set(numberKey{raw, region}, number)
	return number
}
