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

// lookupStore is the part of a store that LookupWorker uses.
type lookupStore interface {
	QueueLookups(ctx context.Context, since, now time.Time) (int, error)
	ClaimLookups(ctx context.Context, now, until time.Time, most int) ([]storage.Lookup, error)
	SettleLookups(ctx context.Context, settled []storage.LookupResult) (lost int, err error)
	RequestLookup(ctx context.Context, id string, now time.Time) (storage.Enrichment, error)
}

// customerDirectory looks up numbers in the CRMs.
type customerDirectory interface {
	Find(ctx context.Context, q crm.Query) crm.Result
	Names() []string
}

// LookupWorker looks up the customers of stored calls. It derives its work from the
// stored calls, so no lookup is lost in a crash or during a CRM outage. Replicas
// share the work.
type LookupWorker struct {
	Store     lookupStore
	Directory customerDirectory
	Now       func() time.Time
	Logger    *slog.Logger
}

// Concurrency and timing of lookups.
const (
	maxLookups         = 16               // concurrent lookups
	lookupLease        = 2 * time.Minute  // longer than lookupTimeout
	lookupSaveTimeout  = 2 * time.Second  // for storing results
	lookupTimeout      = 40 * time.Second // mostly spent waiting for request budgets
	lookupInterval     = time.Second      // delay until a new call is looked up
	lookupIdleInterval = 5 * time.Second  // without connections or without a database
	partialRetryDelay  = time.Minute      // for connections that failed while others answered
	maxLookupBackoff   = time.Minute      // while all connections fail

	// How far back to scan for calls without a lookup. The initial scan covers calls
	// that another process left; the slow scan covers calls that were committed late.
	initialScanWindow = 24 * time.Hour
	recentScanWindow  = 30 * time.Second
	slowScanWindow    = time.Hour
	slowScanInterval  = 5 * time.Minute
)

// Run looks up calls until ctx ends, and then releases unfinished lookups. It
// returns nil.
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

// scanState is the progress of scanning for calls without a lookup, and the backoff
// after the last batch.
type scanState struct {
	since, nextSlowScan time.Time
	backoff             time.Duration // 0 after an answer
}

// processBatch runs the lookups that are due, and returns how long to wait for the
// next batch.
func (h *LookupWorker) processBatch(ctx context.Context, scan *scanState) time.Duration {
	if len(h.Directory.Names()) == 0 {
		return lookupIdleInterval
	}
	now := h.Now().UTC()
	queued, err := h.Store.QueueLookups(ctx, scan.since, now)
	if err != nil {
		return h.storeFailed(ctx, err)
	}
	if queued == 0 { // the scan is complete
		scan.since = now.Add(-recentScanWindow)
		if !now.Before(scan.nextSlowScan) {
			scan.since, scan.nextSlowScan = now.Add(-slowScanWindow), now.Add(slowScanInterval)
		}
	}
	limit := maxLookups
	if scan.backoff > 0 { // all connections fail; one lookup is enough to detect a recovery
		limit = 1
	}
	claimed, err := h.Store.ClaimLookups(ctx, now, now.Add(lookupLease), limit)
	if err != nil {
		return h.storeFailed(ctx, err)
	}
	if len(claimed) == 0 {
		return lookupInterval
	}
	outcomes, answered := make([]storage.LookupResult, len(claimed)), make([]bool, len(claimed))
	var workers sync.WaitGroup
	for i, l := range claimed {
		workers.Go(func() { outcomes[i], answered[i] = h.lookUp(ctx, l) })
	}
	workers.Wait()
	// Store the results even if ctx has ended.
	saveCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookupSaveTimeout)
	defer cancel()
	if _, err := h.Store.SettleLookups(saveCtx, outcomes); err != nil { // the lookups are repeated when their lease expires
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
		h.Logger.LogAttrs(ctx, slog.LevelDebug, "lookups paused", slog.Any("error", err))
	}
	return lookupIdleInterval
}

// lookUp looks up the number of a call. answered reports whether any CRM answered.
func (h *LookupWorker) lookUp(ctx context.Context, l storage.Lookup) (outcome storage.LookupResult, answered bool) {
	findCtx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	result := h.Directory.Find(findCtx, crm.Query{Number: phone.Parse(l.Number, ""), Priority: crm.Background, SkipCache: l.SkipCache})
	outcome.Lookup, outcome.Now = l, h.Now().UTC()
	for _, m := range result.Customers {
		outcome.Customers = append(outcome.Customers, storage.Customer{Connection: m.Connection, ID: m.ID, Name: m.Name, URL: m.URL, MatchedBy: m.MatchedBy})
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
	if len(waiting) > 0 { // not counted as an attempt, because the result is not final
		state.State = storage.EnrichmentPending
		answered = len(waiting) < len(result.Answers)
		retryIn := max(result.RetryAfter(), time.Second)
		if answered {
			retryIn = max(retryIn, partialRetryDelay)
		}
		outcome.RetryAt = h.Now().UTC().Add(retryIn)
		return outcome, answered
	}
	state.Attempts++
	switch {
	case len(outcome.Customers) > 0:
		state.State = storage.EnrichmentFound
	case len(rejected) > 0:
		state.State = storage.EnrichmentFailed
	default:
		state.State = storage.EnrichmentNone
	}
	return outcome, true
}

// Enrich requests another lookup of a call's customers, bypassing caches, and
// returns the state until it runs. Errors: storage.ErrNotFound, *Invalid if no
// connection is configured.
func (h *LookupWorker) Enrich(ctx context.Context, id string) (storage.Enrichment, error) {
	state, err := h.Store.RequestLookup(ctx, id, h.Now().UTC())
	if err != nil {
		return storage.Enrichment{}, fmt.Errorf("look up call %q: %w", problem.Clip(id), err)
	}
	if len(h.Directory.Names()) == 0 {
		return storage.Enrichment{}, problem.Errorf("connections", "no CRM connection is configured")
	}
	return state.Shown(), nil
}

// LookupExpected reports whether a call without a lookup is recent enough to get
// one.
func (h *LookupWorker) LookupExpected(c storage.Call) bool {
	number := c.Caller
	if c.Direction == "outbound" {
		number = c.DID
	}
	return strings.HasPrefix(number, "+") && h.Now().Sub(c.ReceivedAt) < slowScanWindow && len(h.Directory.Names()) > 0
}
