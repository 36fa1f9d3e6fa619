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
	"calltracker/problem"
	"calltracker/storage"
)

// lookupStore is what Enricher needs of a store.
type lookupStore interface {
	QueueLookups(ctx context.Context, since, now time.Time) (int, error)
	ClaimLookups(ctx context.Context, now, until time.Time, most int) ([]storage.Lookup, error)
	SettleLookups(ctx context.Context, settled []storage.LookupResult) (lost int, err error)
	RequestLookup(ctx context.Context, id string, now time.Time) (storage.Enrichment, error)
}

// Enricher looks up whose the stored calls were. What it has to do follows from
// the calls in the store, so that nothing is lost: not by a crash, and not by a
// CRM that is away for hours. Several replicas share the work.
type Enricher struct {
	Store     lookupStore
	Directory directory
	Now       func() time.Time
	Logger    *slog.Logger
}

// How the work is done.
const (
	enrichers     = 16               // look-ups at a time
	lookupLease   = 2 * time.Minute  // longer than a look-up may take
	lookupTimeout = 40 * time.Second // most of it is waiting for budgets
	enrichEvery   = time.Second      // how soon a call is looked up
	enrichIdle    = 5 * time.Second  // without connections, or without a database
	againPartly   = time.Minute      // for connections that did not answer when others did
	enrichPause   = time.Minute      // at most, while nobody answers

	// How far back calls without a look-up are looked for: at the start for what
	// another process left, now and then for those that were slow to be committed.
	lookBackFirst = 24 * time.Hour
	lookBackOften = 30 * time.Second
	lookBackSlow  = time.Hour
	slowEvery     = 5 * time.Minute
)

// Run works until ctx ends, and then gives back what it has not finished. It
// always returns nil.
func (h *Enricher) Run(ctx context.Context) error {
	sweep := sweep{since: h.Now().Add(-lookBackFirst), slowAt: h.Now().Add(slowEvery)}
	for {
		wait := h.round(ctx, &sweep)
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
type sweep struct {
	since, slowAt time.Time
	pause         time.Duration // 0: somebody answered
}

// round does what is due, and returns how long to wait for the next round.
func (h *Enricher) round(ctx context.Context, s *sweep) time.Duration {
	if len(h.Directory.Names()) == 0 {
		return enrichIdle
	}
	now := h.Now().UTC()
	queued, err := h.Store.QueueLookups(ctx, s.since, now)
	if err != nil {
		return h.troubled(ctx, err)
	}
	if queued == 0 { // all that there were
		s.since = now.Add(-lookBackOften)
		if !now.Before(s.slowAt) {
			s.since, s.slowAt = now.Add(-lookBackSlow), now.Add(slowEvery)
		}
	}
	most := enrichers
	if s.pause > 0 { // nobody answered: one look-up is enough to see whether they do again
		most = 1
	}
	claimed, err := h.Store.ClaimLookups(ctx, now, now.Add(lookupLease), most)
	if err != nil {
		return h.troubled(ctx, err)
	}
	if len(claimed) == 0 {
		return enrichEvery
	}
	settled, answered := make([]storage.LookupResult, len(claimed)), make([]bool, len(claimed))
	var working sync.WaitGroup
	for i, l := range claimed {
		working.Go(func() { settled[i], answered[i] = h.look(ctx, l) })
	}
	working.Wait()
	// What was looked up is stored even when we stop meanwhile.
	storing, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTimeout)
	defer cancel()
	if _, err := h.Store.SettleLookups(storing, settled); err != nil { // their lease ends, and somebody does them again
		return h.troubled(ctx, err)
	}
	if slices.Contains(answered, true) {
		s.pause = 0
		return 0
	}
	s.pause = min(max(2*s.pause, time.Second), enrichPause)
	return s.pause
}

func (h *Enricher) troubled(ctx context.Context, err error) time.Duration {
	if ctx.Err() == nil {
		h.Logger.LogAttrs(ctx, slog.LevelDebug, "calls are not looked up now", slog.Any("error", err))
	}
	return enrichIdle
}

// look looks one call's number up. answered tells whether any CRM said anything.
func (h *Enricher) look(ctx context.Context, l storage.Lookup) (settled storage.LookupResult, answered bool) {
	asking, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	result := h.Directory.Find(asking, crm.Query{Number: phone.Parse(l.Number, ""), Priority: crm.Background, SkipCache: l.SkipCache})
	settled.Lookup, settled.Now = l, h.Now().UTC()
	for _, m := range result.Customers {
		settled.Customers = append(settled.Customers, storage.Customer{Connection: m.Connection, ID: m.ID, Name: m.Name, URL: m.URL, MatchedBy: m.MatchedBy})
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
	state := &settled.Enrichment
	state.Error = ""
	if missing := slices.Concat(waiting, rejected); len(missing) > 0 {
		state.Error = missing[0].Connection + ": " + missing[0].Err.Message
	}
	if len(waiting) > 0 { // no attempt: nobody has said anything final about the call
		state.State = storage.EnrichmentPending
		answered = len(waiting) < len(result.Answers)
		again := max(result.RetryAfter(), time.Second)
		if answered {
			again = max(again, againPartly)
		}
		settled.RetryAt = h.Now().UTC().Add(again)
		return settled, answered
	}
	state.Attempts++
	switch {
	case len(settled.Customers) > 0:
		state.State = storage.EnrichmentFound
	case len(rejected) > 0:
		state.State = storage.EnrichmentFailed
	default:
		state.State = storage.EnrichmentNone
	}
	return settled, true
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
func (h *Enricher) Enrich(ctx context.Context, id string) (Enrichment, error) {
	state, err := h.Store.RequestLookup(ctx, id, h.Now().UTC())
	if err != nil {
		return Enrichment{}, fmt.Errorf("look up call %q: %w", problem.Clip(id), err)
	}
	if len(h.Directory.Names()) == 0 {
		return Enrichment{}, problem.Errorf("connections", "no connection is configured that could be asked")
	}
	return viewEnrichment(state), nil
}

// Soon tells whether a call that has no look-up yet was stored so recently that
// it will get one.
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
