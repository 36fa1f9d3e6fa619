package handlers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"calltracker/crm"
	"calltracker/phone"
	"calltracker/storage"
)

// lookupStore is what Enricher needs of a store.
type lookupStore interface {
	QueueLookups(ctx context.Context, since, now time.Time) (int, error)
	ClaimLookups(ctx context.Context, now, until time.Time, most int) ([]storage.Lookup, error)
	SettleLookups(ctx context.Context, settled []storage.Settled) (lost int, err error)
	RequestLookup(ctx context.Context, id string, now time.Time) (storage.Enrichment, error)
}

// Enricher looks up whose the stored calls were. What it has to do follows from
// the calls in the store, so that nothing is lost: not by a crash, and not by a
// CRM that is away for hours. Several replicas share the work.
type LookupWorker struct {
	Store     lookupStore
	Directory directory
	Now       func() time.Time
	Logger    *slog.Logger
}

// How the work is done.
const (
	maxLookups         = 16               // look-ups at a time
	lookupLease        = 2 * time.Minute  // longer than a look-up may take
	lookupTimeout      = 40 * time.Second // most of it is waiting for budgets
	lookupInterval     = time.Second      // how soon a call is looked up
	lookupIdleInterval = 5 * time.Second  // without connections, or without a database
	partialRetryDelay  = time.Minute      // for connections that did not answer when others did
	maxLookupBackoff   = time.Minute      // at most, while nobody answers

	// How far back calls without a look-up are looked for: at the start for what
	// another process left, now and then for those that were slow to be committed.
	initialScanWindow = 24 * time.Hour
	recentScanWindow  = 30 * time.Second
	slowScanWindow    = time.Hour
	slowScanInterval  = 5 * time.Minute
)

// Run works until ctx ends, and then gives back what it has not finished. It
// always returns nil.
func (h *LookupWorker) Run(ctx context.Context) error {
	scan := scanState{since: h.Now().Add(-initialScanWindow), nextSlowScan: h.Now().Add(slowScanInterval)}
	for {
		wait := h.processBatch(ctx, &scan)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// sweep is how far calls without a look-up were looked for, and how the last
// round went.
type scanState struct {
	since, nextSlowScan time.Time
	backoff             time.Duration // 0: somebody answered
}

// round does what is due, and returns how long to wait for the next round.
func (h *LookupWorker) processBatch(ctx context.Context, scan *scanState) time.Duration {
	if len(h.Directory.Names()) == 0 {
		return lookupIdleInterval
	}
	now := h.Now().UTC()
	queued, err := h.Store.QueueLookups(ctx, scan.since, now)
	if err != nil {
		return h.storeFailed(ctx, err)
	}
	if queued == 0 { // all that there were
		scan.since = now.Add(-recentScanWindow)
		if !now.Before(scan.nextSlowScan) {
			scan.since, scan.nextSlowScan = now.Add(-slowScanWindow), now.Add(slowScanInterval)
		}
	}
	limit := maxLookups
	if scan.backoff > 0 { // nobody answered: one look-up is enough to see whether they do again
		limit = 1
	}
	claimed, err := h.Store.ClaimLookups(ctx, now, now.Add(lookupLease), limit)
	if err != nil {
		return h.storeFailed(ctx, err)
	}
	if len(claimed) == 0 {
		return lookupInterval
	}
	outcomes, answered := make([]storage.Settled, len(claimed)), make([]bool, len(claimed))
	var workers sync.WaitGroup
	for i, l := range claimed {
		workers.Go(func() { outcomes[i], answered[i] = h.lookUp(ctx, l) })
	}
	workers.Wait()
	// What was looked up is stored even when we stop meanwhile.
	saveCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if _, err := h.Store.SettleLookups(saveCtx, outcomes); err != nil { // their lease ends, and somebody does them again
		return h.storeFailed(ctx, err)
	}
	if slices.Contains(answered, true) {
		scan.backoff = 0
		return 0
	}
	scan.backoff = min(max(2*scan.backoff, time.Second), maxLookupBackoff)
	return scan.backoff
}

func (h *LookupWorker) storeFailed(ctx context.Context, err error) time.Duration {
	if ctx.Err() == nil {
		h.Logger.LogAttrs(ctx, slog.LevelDebug, "calls are not looked up now", slog.Any("error", err))
	}
	return lookupIdleInterval
}

// look looks one call's number up. answered tells whether any CRM said anything.
func (h *LookupWorker) lookUp(ctx context.Context, l storage.Lookup) (outcome storage.Settled, answered bool) {
	findCtx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	result := h.Directory.Find(findCtx, crm.Query{Number: phone.Parse(l.Number, ""), Priority: crm.Background, Anew: l.Anew})
	outcome.Lookup, outcome.Now = l, h.Now().UTC()
	for _, m := range result.Customers {
		outcome.Found = append(outcome.Found, storage.Customer{Connection: m.Connection, ID: m.ID, Name: m.Name, URL: m.URL, MatchedBy: m.MatchedBy})
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
	state := &outcome.Enrichment
	state.Error = ""
	if missing := slices.Concat(waiting, rejected); len(missing) > 0 {
		state.Error = missing[0].Connection + ": " + missing[0].Err.Message
	}
	if len(waiting) > 0 { // no attempt: nobody has said anything final about the call
		state.State = storage.EnrichmentPending
		answered = len(waiting) < len(result.Answers)
		retryIn := max(result.RetryAfter(), time.Second)
		if answered {
			retryIn = max(retryIn, partialRetryDelay)
		}
		outcome.Due = h.Now().UTC().Add(retryIn)
		return outcome, answered
	}
	state.Attempts++
	switch {
	case len(outcome.Found) > 0:
		state.State = storage.EnrichmentFound
	case len(rejected) > 0:
		state.State = storage.EnrichmentFailed
	default:
		state.State = storage.EnrichmentNone
	}
	return outcome, true
}

// Enrich looks a call's customers up again, soon and whatever is cached, and
// returns the state until then. Errors: storage.ErrNotFound, *Invalid when there
// is no connection to ask.
//
//	@Summary		Look a call's customers up again
//	@Description	Soon, and not from the cache. The state is none for a call whose number is withheld, internal or unreadable.
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
func (h *LookupWorker) Enrich(ctx context.Context, id string) (Enrichment, error) {
	state, err := h.Store.RequestLookup(ctx, id, h.Now().UTC())
	if err != nil {
		return Enrichment{}, fmt.Errorf("look up call %q: %w", shorten(id), err)
	}
	if len(h.Directory.Names()) == 0 {
		return Enrichment{}, invalid("connections", "no connection is configured that could be asked")
	}
	return viewEnrichment(state), nil
}

// Soon tells whether a call that has no look-up yet was stored so recently that
// it will get one.
func (h *LookupWorker) LookupExpected(c storage.Call) bool {
	number := c.Caller
	if c.Direction == "outbound" {
		number = c.DID
	}
	return strings.HasPrefix(number, "+") && h.Now().Sub(c.ReceivedAt) < slowScanWindow && len(h.Directory.Names()) > 0
}

func viewEnrichment(e storage.Enrichment) Enrichment {
	out := Enrichment{State: string(e.State), Attempts: e.Attempts, Error: e.Error}
	if e.State == "" {
		out.State = string(storage.EnrichmentNone)
	}
	return out
}
