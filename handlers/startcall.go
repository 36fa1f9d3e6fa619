package handlers

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/phone"
	"calltracker/rules"
	"calltracker/storage"
	"calltracker/ziwo"
)

// rotations counts the calls of routes whose order is rotate.
type rotations interface {
	// Next returns how often it was called for key before, as far as is known.
	Next(key string) uint64
}

// decisionLog takes decisions to be recorded. Add never waits.
type decisionLog interface {
	Add(DecisionRecord)
}

// AnswererOptions are what an Answerer is made from. All fields are required.
type AnswererOptions struct {
	Customers directory
	Rotations rotations
	Numbers   *Numbers
	Decisions decisionLog
	Now       func() time.Time
	Registry  prometheus.Registerer
}

// Answerer answers start calls: where a call goes. It is safe for concurrent
// use.
type Answerer struct {
	AnswererOptions
	count *prometheus.CounterVec
}

// NewAnswerer returns an Answerer and registers its metrics.
func NewAnswerer(o AnswererOptions) *Answerer {
	a := &Answerer{AnswererOptions: o, count: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "calltracker_decisions_total", Help: "Start calls answered, by tracker and route.",
	}, []string{"tracker", "route"})}
	o.Registry.MustRegister(a.count)
	return a
}

// StartAnswer is the answer to a start call.
type StartAnswer struct {
	DIDCalled string // exactly as Ziwo sent it
	Decision  rules.Decision
	ID        string // of the decision
}

// Answer decides where a call goes. It does no database I/O. It waits for a
// customer lookup only if a route of the tracker has a condition on the
// customer, and then no longer than the tracker allows. A DID that the tracker
// does not list is routed like any other, and flagged. The decision is recorded
// in the background.
//
//	@Summary		Ziwo asks where a call goes
//	@Description	Also takes application/json, x-www-form-urlencoded and query parameters. The key goes into X-API-Key or is the password of HTTP Basic.
//	@ID		startCall
//	@Tags			Ziwo
//	@Accept			mpfd,json,x-www-form-urlencoded
//	@Produce		json
//	@Param			tracker			path		string	true	"Tracker"
//	@Param			didCalled		formData	string	true	"The number that was dialled"
//	@Param			callerIDNumber	formData	string	false	"The caller"
//	@Param			callID			formData	string	false	"Ziwo's id of the call"
//	@Success		200				{object}	StartEnvelope
//	@Failure		400				{object}	ErrorEnvelope
//	@Failure		401				{object}	ErrorEnvelope
//	@Failure		403				{object}	ErrorEnvelope
//	@Failure		404				{object}	ErrorEnvelope
//	@Failure		408				{object}	ErrorEnvelope
//	@Failure		413				{object}	ErrorEnvelope
//	@Failure		429				{object}	ErrorEnvelope
//	@Failure		500				{object}	ErrorEnvelope
//	@Header			429				{integer}	Retry-After	"Seconds"
//	@Security	TrackerKey
//	@Security	TrackerBasic
//	@x-any-body	true
//	@Router			/callTrackers/{tracker}/startCall [post]
func (a *Answerer) Answer(ctx context.Context, tracker *ActiveTracker, in ziwo.StartRequest) StartAnswer {
	router := tracker.Router
	facts := FactsOf(in, router, a.Numbers, a.Now())
	if router.ReadsCustomer() {
		facts.Caller = a.Numbers.Parse(in.Caller, router.Region())
		facts.Customer = lookUpCustomer(ctx, a.Customers, facts.Caller, tracker.CustomerTimeout)
	}
	decision := router.Decide(facts)
	if decision.Rotating {
		decision = decision.Turn(a.Rotations.Next(router.ID() + "/" + decision.Route))
	}
	id := storage.NewID()
	a.Decisions.Add(DecisionRecord{id: id, tracker: tracker, facts: facts, rules: decision.Rules, notes: in.Notes})
	a.count.WithLabelValues(router.ID(), decision.Route).Inc()
	return StartAnswer{DIDCalled: in.DIDCalled, Decision: decision, ID: id}
}

// FactsOf returns the facts of a start request. The caller is parsed only if a
// condition of the tracker reads it.
func FactsOf(in ziwo.StartRequest, router *rules.Router, numbers *Numbers, now time.Time) rules.Facts {
	facts := rules.Facts{At: now, CallID: in.CallID, Request: in.Fields}
	did, listed := router.FindDID(in.DIDCalled)
	if !listed {
		did = numbers.Parse(in.DIDCalled, router.Region())
	}
	facts.DID = did
	facts.Caller = phone.Number{Raw: in.Caller}
	if router.ReadsCaller() {
		facts.Caller = numbers.Parse(in.Caller, router.Region())
	}
	return facts
}

// DecisionRecord is a decision that is yet to be stored.
type DecisionRecord struct {
	id      string
	tracker *ActiveTracker
	facts   rules.Facts
	rules   []rules.Rule // after rotation
	notes   []string
}

// decisionStore stores decisions.
type decisionStore interface {
	RecordDecisions(ctx context.Context, decisions []storage.Decision) error
}

// DecisionWriter stores decisions with their traces. It is safe for concurrent
// use.
type DecisionWriter struct {
	store   decisionStore
	numbers *Numbers
}

// NewDecisionWriter returns a DecisionWriter that stores decisions in store.
func NewDecisionWriter(store decisionStore, numbers *Numbers) *DecisionWriter {
	return &DecisionWriter{store: store, numbers: numbers}
}

// Write stores a batch of decisions. A decision depends on its facts alone, so
// its trace is computed here and not while the caller waits.
func (w *DecisionWriter) Write(ctx context.Context, batch []DecisionRecord) error {
	records := make([]storage.Decision, len(batch))
	for i, d := range batch {
		runtime.Gosched() // start calls go first
		router := d.tracker.Router
		decision, trace := router.Explain(d.facts)
		caller := d.facts.Caller
		if !router.ReadsCaller() { // not parsed yet
			caller = w.numbers.Parse(caller.Raw, router.Region())
		}
		records[i] = storage.Decision{
			ID: d.id, Tracker: router.ID(), At: d.facts.At.UTC().Truncate(time.Microsecond),
			DID: d.facts.DID.Key(), RawDID: d.facts.DID.Raw, Caller: caller.Key(), RawCaller: caller.Raw,
			CallID: d.facts.CallID, Route: decision.Route, Voicemail: decision.Voicemail, Rules: d.rules,
			Flags: slices.Concat(decision.Flags, d.notes), Trace: trace, ConfigVersion: d.tracker.Version,
		}
	}
	if err := w.store.RecordDecisions(ctx, records); err != nil {
		return fmt.Errorf("record %d decisions: %w", len(records), err)
	}
	return nil
}
