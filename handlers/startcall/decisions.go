package startcall

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/rules"
	"calltracker/storage"
)

// QueuedDecision is a decision that is not stored yet.
type QueuedDecision struct {
	id      string
	tracker *config.ActiveTracker
	facts   rules.Facts
	rules   []rules.Rule // after rotation
	notes   []string
}

// decisionStore stores decisions.
type decisionStore interface {
	RecordDecisions(ctx context.Context, decisions []storage.Decision) error
}

// DecisionWriter stores decisions with their traces. It is safe for concurrent use.
type DecisionWriter struct {
	store   decisionStore
	numbers *phone.Cache
}

// NewDecisionWriter returns a DecisionWriter that stores decisions in store.
func NewDecisionWriter(store decisionStore, numbers *phone.Cache) *DecisionWriter {
	if store == nil || numbers == nil {
		panic("startcall.NewDecisionWriter: store and numbers are required")
	}
	return &DecisionWriter{store: store, numbers: numbers}
}

// Write stores a batch of decisions. It computes their traces here, and not while the
// caller waits, because a decision depends only on its facts.
func (w *DecisionWriter) Write(ctx context.Context, batch []QueuedDecision) error {
	decisions := make([]storage.Decision, len(batch))
	for i, d := range batch {
		runtime.Gosched() // start calls have priority
		router := d.tracker.Router
		decision, trace := router.Explain(d.facts)
		caller := d.facts.Caller
		if !router.ReadsCaller() { // not parsed yet
			caller = w.numbers.Parse(caller.Raw, router.Region())
		}
		decisions[i] = storage.Decision{
			ID: d.id, Tracker: router.ID(), At: d.facts.At.UTC().Truncate(time.Microsecond),
			DID: d.facts.DID.Key(), RawDID: d.facts.DID.Raw, Caller: caller.Key(), RawCaller: caller.Raw,
			CallID: d.facts.CallID, Route: decision.Route, Voicemail: decision.Voicemail, Rules: d.rules,
			Flags: slices.Concat(decision.Flags, d.notes), Trace: trace, ConfigVersion: d.tracker.Version,
		}
	}
	if err := w.store.RecordDecisions(ctx, decisions); err != nil {
		return fmt.Errorf("record %d decisions: %w", len(decisions), err)
	}
	return nil
}
