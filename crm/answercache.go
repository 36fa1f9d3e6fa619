package crm

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash/maphash"
	"sync/atomic"
	"time"

	"calltracker/phone"
)

// Ages of cached answers. A fresh answer is used as it is. A stale answer is used
// while a lookup refreshes it. Answers without customers expire sooner, so that a
// new customer is found soon.
const (
	freshFound = 5 * time.Minute
	staleFound = 12 * time.Hour
	freshNone  = 30 * time.Second
	staleNone  = 5 * time.Minute
)

// cacheEntry is an answer in the shared cache.
type cacheEntry struct {
	AtMillis  int64      `json:"at"`
	Customers []Customer `json:"found"`
}

func (e cacheEntry) at() time.Time { return time.UnixMilli(e.AtMillis).UTC() }

func (e cacheEntry) isFresh() bool {
	age := time.Since(e.at())
	if len(e.Customers) == 0 {
		return age < freshNone
	}
	return age < freshFound
}

// readCache returns the answer of an account from the shared cache.
func (d *Directory) readCache(ctx context.Context, a *account, n phone.Number) (cacheEntry, bool) {
	text, ok := d.options.Cache.Get(ctx, d.cacheKey(a, n))
	if !ok {
		return cacheEntry{}, false
	}
	var e cacheEntry
	if err := json.Unmarshal(text, &e); err != nil { // another program wrote it
		return cacheEntry{}, false
	}
	e.Customers = a.filterURLs(e.Customers) // other programs can write to the cache
	return e, true
}

// writeCache stores an answer in the shared cache and in the account.
func (d *Directory) writeCache(ctx context.Context, a *account, n phone.Number, customers []Customer, at time.Time) {
	e := cacheEntry{AtMillis: at.UnixMilli(), Customers: customers}
	a.answers.put(n.E164, e, a.newAnswer(n, customers, e.at(), nil))
	text, err := json.Marshal(e)
	if err != nil {
		return // cannot happen: strings always encode
	}
	ttl := staleFound
	if len(customers) == 0 {
		ttl = staleNone
	}
	d.options.Cache.Set(ctx, d.cacheKey(a, n), text, ttl)
}

// cacheKey returns the key of an answer in the shared cache. It does not reveal
// the number.
func (d *Directory) cacheKey(a *account, n phone.Number) string {
	mac := hmac.New(sha256.New, d.options.Key)
	mac.Write([]byte(a.Fingerprint))
	mac.Write([]byte{0})
	mac.Write([]byte(n.E164))
	return "crm/" + a.Name + "/" + hex.EncodeToString(mac.Sum(nil)[:16])
}

const (
	answerSlots = 1 << 12
	// localTTL is how long an account reuses an answer without reading the shared
	// cache, where another replica may have stored a newer one.
	localTTL = 5 * time.Second
)

// answerCache holds the latest answers of one account in this process. While a
// phone rings, each page that shows the call asks for the same number. A new
// answer replaces the one in its slot, regardless of the number. It is safe for
// concurrent use.
type answerCache struct {
	seed  maphash.Seed
	slots [answerSlots]atomic.Pointer[cachedAnswer]
}

type cachedAnswer struct {
	number string
	answer Answer
	entry  cacheEntry
	stored time.Time
}

func newAnswerCache() *answerCache { return &answerCache{seed: maphash.MakeSeed()} }

func (c *answerCache) slot(number string) *atomic.Pointer[cachedAnswer] {
	return &c.slots[maphash.String(c.seed, number)%answerSlots]
}

// get returns the answer for a number in E.164 format if it is fresh.
func (c *answerCache) get(number string) (Answer, bool) {
	found := c.slot(number).Load()
	if found == nil || found.number != number || time.Since(found.stored) >= localTTL || !found.entry.isFresh() {
		return Answer{}, false
	}
	return found.answer, true
}

// put stores an answer. The caller must not change it later.
func (c *answerCache) put(number string, e cacheEntry, a Answer) {
	c.slot(number).Store(&cachedAnswer{number: number, answer: a, entry: e, stored: time.Now()})
}
