package startcall

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/config"
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
type Options struct {
	Customers Directory
	Rotations rotations
	Numbers   *phone.Cache
	Decisions decisionLog
	Now       func() time.Time
	Registry  prometheus.Registerer
}

// Answerer answers start calls: where a call goes. It is safe for concurrent
// use.
type Answerer struct {
	Options
	count *prometheus.CounterVec
}

// NewAnswerer returns an Answerer and registers its metrics.
func New(o Options) *Answerer {
	a := &Answerer{Options: o, count: prometheus.NewCounterVec(prometheus.CounterOpts{
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
func (a *Answerer) Answer(ctx context.Context, tracker *config.ActiveTracker, in ziwo.StartRequest) StartAnswer {
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
func FactsOf(in ziwo.StartRequest, router *rules.Router, numbers *phone.Cache, now time.Time) rules.Facts {
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

// AppendAnswer appends the answer that Ziwo receives for a decision.
func AppendAnswer(dst []byte, didCalled string, d rules.Decision, voicemailField string) []byte {
	answer := ziwo.AppendStartAnswer(dst, didCalled)
	for _, r := range d.Rules {
		answer.Rule(r.Action, r.Number, r.CallerID, r.Timeout)
	}
	return answer.End(voicemailField, d.Voicemail)
}
