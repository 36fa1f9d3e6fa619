// Package lookup looks up the customers of stored calls.
package lookup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"calltracker/crm"
	"calltracker/jobs"
	"calltracker/phone"
	"calltracker/problem"
	"calltracker/storage"
)

// store is the part of a store that Lookups uses.
type store interface {
	QueueLookups(ctx context.Context, since, now time.Time) (int, error)
	LookupNumber(ctx context.Context, call string) (string, error)
	RequestLookup(ctx context.Context, id string, now time.Time) (storage.Enrichment, error)
}

// directory is the part of crm.Directory that Lookups uses.
type directory interface {
	Find(ctx context.Context, q crm.Query) crm.Result
	Names() []string
}

// Lookups looks up the customers of stored calls. Queue adds a job for each call that
// needs a lookup, and Kind runs these jobs. Which calls need one follows from the stored
// calls, so saving a call costs nothing and no lookup is lost. It is safe for
// concurrent use, except that Queue is for one goroutine at a time.
type Lookups struct {
	store     store
	directory directory
	now       func() time.Time

	// Progress of Queue.
	since        time.Time // calls saved before have their lookups
	nextSlowScan time.Time // when to check for calls that were committed late

	mu       sync.Mutex
	failures int       // consecutive lookups that no CRM answered
	retryAt  time.Time // while failures is not 0: when to send the next lookup
}

// New returns Lookups that reads calls from store and looks up their customers in
// directory.
func New(store store, directory directory, now func() time.Time) *Lookups {
	if store == nil || directory == nil || now == nil {
		panic("lookup.New: store, directory, and now are required")
	}
	at := now()
	return &Lookups{
		store: store, directory: directory, now: now,
		since: at.Add(-initialScanWindow), nextSlowScan: at.Add(slowScanInterval),
	}
}

const (
	maxLookups        = 16               // at the same time
	lookupTimeout     = 40 * time.Second // mostly spent waiting for the request budgets
	lookupAttempts    = 1000             // delays do not count, but each requested lookup does
	partialRetryDelay = time.Minute      // for CRMs that did not answer when others did

	// How far back Queue looks for calls without a lookup: at first, for those that
	// another process left; then for new ones; and sometimes for those that were
	// committed late.
	initialScanWindow = 24 * time.Hour
	recentScanWindow  = 30 * time.Second
	slowScanWindow    = time.Hour
	slowScanInterval  = 5 * time.Minute
)

// lookupBackoff are the pauses of all lookups while no CRM answers.
var lookupBackoff = jobs.Backoff{First: time.Second, Longest: 40 * time.Second}

// Queue adds a job for each call that has a customer's public number and no lookup, and
// returns how many it added. It adds none without connections.
func (h *Lookups) Queue(ctx context.Context) (queued int, err error) {
	if len(h.directory.Names()) == 0 {
		return 0, nil
	}
	now := h.now().UTC()
	for {
		n, err := h.store.QueueLookups(ctx, h.since, now)
		queued += n
		if err != nil {
			return queued, fmt.Errorf("queue lookups: %w", err)
		}
		if n == 0 {
			break
		}
	}
	h.since = now.Add(-recentScanWindow)
	if !now.Before(h.nextSlowScan) {
		h.since, h.nextSlowScan = now.Add(-slowScanWindow), now.Add(slowScanInterval)
	}
	return queued, nil
}

// Kind returns the kind of the jobs that look calls up.
func (h *Lookups) Kind() jobs.Kind {
	return jobs.Kind{
		Name: storage.EnrichmentJob, Lookup: h.lookUp, Limit: h.limit, Timeout: lookupTimeout, MaxAttempts: lookupAttempts,
	}
}

// limit returns how many lookups may run now. While no CRM answers, one at a time
// checks whether they do again, with pauses.
func (h *Lookups) limit() int {
	if len(h.directory.Names()) == 0 {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.failures == 0:
		return maxLookups
	case h.now().Before(h.retryAt):
		return 0
	default:
		return 1
	}
}

// record records whether any CRM answered a lookup.
func (h *Lookups) record(answered bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	switch {
	case answered:
		h.failures = 0
	case h.failures == 0 || !now.Before(h.retryAt): // lookups that fail together count once
		h.failures++
		h.retryAt = now.Add(lookupBackoff.Pause(h.failures))
	}
}

// lookUp looks up the customer's number of one call.
func (h *Lookups) lookUp(ctx context.Context, j storage.Job) (*storage.LookupResult, error) {
	number, err := h.store.LookupNumber(ctx, j.Key)
	switch {
	case errors.Is(err, storage.ErrNotFound) || err == nil && number == "": // removed by retention
		return &storage.LookupResult{}, nil
	case err != nil:
		return nil, jobs.Delay(time.Minute, err)
	}
	result := h.directory.Find(ctx, crm.Query{Number: phone.Parse(number, ""), Priority: crm.Background, SkipCache: j.SkipCache})
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, ctx.Err()
	}
	var waiting, rejected []crm.Answer
	for _, a := range result.Answers {
		switch {
		case a.State != crm.Unknown:
		case a.Err.Kind == crm.Rejected:
			rejected = append(rejected, a)
		default:
			waiting = append(waiting, a)
		}
	}
	found := &storage.LookupResult{}
	for _, m := range result.Customers {
		found.Customers = append(found.Customers, storage.Customer{Connection: m.Connection, ID: m.ID, Name: m.Name, URL: m.URL, MatchedBy: m.MatchedBy})
	}
	if missing := slices.Concat(waiting, rejected); len(missing) > 0 {
		found.Error = missing[0].Connection + ": " + missing[0].Err.Message
	}
	answered := len(waiting) == 0 || len(waiting) < len(result.Answers)
	h.record(answered)
	switch {
	case len(waiting) > 0: // the attempt does not count, because the result is not final
		wait := max(result.RetryAfter(), time.Second)
		if answered {
			wait = max(wait, partialRetryDelay)
		}
		return found, jobs.Delay(wait, errors.New(found.Error))
	case len(rejected) > 0 && len(found.Customers) == 0:
		return found, jobs.Permanent(errors.New(found.Error))
	default:
		return found, nil
	}
}

// Enrich requests another lookup of a call's customers, bypassing caches, and
// returns the state until it runs. Errors: storage.ErrNotFound, *problem.Invalid if no
// connection is configured.
func (h *Lookups) Enrich(ctx context.Context, id string) (storage.Enrichment, error) {
	state, err := h.store.RequestLookup(ctx, id, h.now().UTC())
	if err != nil {
		return storage.Enrichment{}, fmt.Errorf("look up call %q: %w", problem.Clip(id), err)
	}
	if len(h.directory.Names()) == 0 {
		return storage.Enrichment{}, problem.Errorf("connections", "no CRM connection is configured")
	}
	return state.Shown(), nil
}

// LookupExpected reports whether a call without a lookup is recent enough to get
// one.
func (h *Lookups) LookupExpected(c storage.Call) bool {
	number := c.Caller
	if c.Direction == "outbound" {
		number = c.DID
	}
	return strings.HasPrefix(number, "+") && h.now().Sub(c.ReceivedAt) < slowScanWindow && len(h.directory.Names()) > 0
}
