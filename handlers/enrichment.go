package handlers

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

// lookupStore is what Enricher needs of a store.
type lookupStore interface {
	QueueLookups(ctx context.Context, since, now time.Time) (int, error)
	LookupNumber(ctx context.Context, call string) (string, error)
	RequestLookup(ctx context.Context, id string, now time.Time) (storage.Enrichment, error)
}

// EnricherOptions are the dependencies of an Enricher.
type EnricherOptions struct {
	Store     lookupStore
	Directory directory
	Now       func() time.Time
}

// Enricher looks up the customers of stored calls. Queue adds a job for each call that
// needs a lookup, and Kind runs these jobs. Which calls need one follows from the stored
// calls, so saving a call costs nothing and no lookup is lost. Enricher is safe for
// concurrent use, except that Queue is for one goroutine at a time.
type Enricher struct {
	EnricherOptions

	// Progress of Queue.
	since  time.Time // calls saved before have their lookups
	slowAt time.Time // when to check for calls that were committed late

	mu       sync.Mutex
	failures int       // consecutive lookups that no CRM answered
	retryAt  time.Time // while failures is not 0: when to send the next lookup
}

// NewEnricher returns an Enricher.
func NewEnricher(o EnricherOptions) *Enricher {
	now := o.Now()
	return &Enricher{EnricherOptions: o, since: now.Add(-lookBackFirst), slowAt: now.Add(slowEvery)}
}

const (
	maxLookups     = 16               // at the same time
	lookupTimeout  = 40 * time.Second // mostly spent waiting for the request budgets
	lookupAttempts = 1000             // rejected lookups are dead at once, and requests add up
	retryPartly    = time.Minute      // for CRMs that did not answer when others did

	// How far back Queue looks for calls without a lookup: at first, for those that
	// another process left; then for new ones; and sometimes for those that were
	// committed late.
	lookBackFirst = 24 * time.Hour
	lookBackOften = 30 * time.Second
	lookBackSlow  = time.Hour
	slowEvery     = 5 * time.Minute
)

// lookupBackoff are the pauses of all lookups while no CRM answers.
var lookupBackoff = jobs.Backoff{First: time.Second, Longest: 40 * time.Second}

// Queue adds a job for each call that has a customer's public number and no lookup, and
// returns how many it added. It adds none without connections.
func (h *Enricher) Queue(ctx context.Context) (int, error) {
	if len(h.Directory.Names()) == 0 {
		return 0, nil
	}
	now := h.Now().UTC()
	queued, err := h.Store.QueueLookups(ctx, h.since, now)
	if err != nil {
		return 0, fmt.Errorf("queue lookups: %w", err)
	}
	if queued == 0 { // there are no others
		h.since = now.Add(-lookBackOften)
		if !now.Before(h.slowAt) {
			h.since, h.slowAt = now.Add(-lookBackSlow), now.Add(slowEvery)
		}
	}
	return queued, nil
}

// Kind returns the kind of the jobs that look calls up.
func (h *Enricher) Kind() jobs.Kind {
	return jobs.Kind{
		Name: storage.EnrichmentJob, Lookup: h.lookUp, Limit: h.limit, Timeout: lookupTimeout, MaxAttempts: lookupAttempts,
	}
}

// limit returns how many lookups may run now. While no CRM answers, one at a time
// checks whether they do again, with pauses.
func (h *Enricher) limit() int {
	if len(h.Directory.Names()) == 0 {
		return 0
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.failures == 0:
		return maxLookups
	case h.Now().Before(h.retryAt):
		return 0
	default:
		return 1
	}
}

// record records whether any CRM answered a lookup.
func (h *Enricher) record(answered bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.Now()
	switch {
	case answered:
		h.failures = 0
	case h.failures == 0 || !now.Before(h.retryAt): // lookups that fail together count once
		h.failures++
		h.retryAt = now.Add(lookupBackoff.Pause(h.failures))
	}
}

// lookUp looks up the customer's number of one call.
func (h *Enricher) lookUp(ctx context.Context, j storage.Job) (*storage.LookupResult, error) {
	number, err := h.Store.LookupNumber(ctx, j.Key)
	switch {
	case errors.Is(err, storage.ErrNotFound) || err == nil && number == "": // removed by retention
		return nil, nil
	case err != nil:
		return nil, jobs.Delay(time.Minute, err)
	}
	result := h.Directory.Find(ctx, crm.Query{Number: phone.Parse(number, ""), Priority: crm.Background, SkipCache: j.SkipCache})
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
			wait = max(wait, retryPartly)
		}
		return found, jobs.Delay(wait, errors.New(found.Error))
	case len(rejected) > 0 && len(found.Customers) == 0:
		return found, jobs.Permanent(errors.New(found.Error))
	default:
		return found, nil
	}
}

// Enrich requests another lookup of a call, without the cache, and returns its state
// until then. It returns storage.ErrNotFound for an unknown call, and a
// *problem.Invalid if there is no connection.
//
//	@Summary		Look up the customers of a call again
//	@Description	The lookup runs in the background and does not use the cache. The state is none if the number of the call is withheld, internal or invalid.
//	@ID		enrichCall
//	@Tags			calls
//	@Produce		json
//	@Param			id	path		string	true	"Call"
//	@Success		202	{object}	Enrichment
//	@Failure		401	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Failure		422	{object}	Problem
//	@Failure		503	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/calls/{id}/enrich [post]
func (h *Enricher) Enrich(ctx context.Context, id string) (Enrichment, error) {
	state, err := h.Store.RequestLookup(ctx, id, h.Now().UTC())
	if err != nil {
		return Enrichment{}, fmt.Errorf("look up call %q: %w", problem.Clip(id), err)
	}
	if len(h.Directory.Names()) == 0 {
		return Enrichment{}, problem.Errorf("connections", "no connection is configured")
	}
	return viewEnrichment(state), nil
}

// Soon reports whether a call without a lookup was saved so recently that it will get
// one.
func (h *Enricher) Soon(c storage.Call) bool {
	number := c.Caller
	if c.Direction == "outbound" {
		number = c.DID
	}
	return strings.HasPrefix(number, "+") && h.Now().Sub(c.ReceivedAt) < lookBackSlow && len(h.Directory.Names()) > 0
}

func viewEnrichment(e storage.Enrichment) Enrichment {
	out := Enrichment{State: string(e.State), Attempts: e.Attempts, Error: e.Error}
	if e.State == "" {
		out.State = string(storage.EnrichmentNone)
	}
	return out
}
