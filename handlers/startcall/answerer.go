// Package startcall answers start calls: Ziwo asks where to route a call while the caller
// waits. The answer needs no database, and the decision is recorded in the background.
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

// rotationCounter counts the calls of routes whose order is rotate.
type rotationCounter interface {
	// Next returns the number of previous calls of Next for key. It may be too low after
	// an outage of the counter.
	Next(key string) uint64
}

// decisionQueue queues decisions to be recorded. Add never blocks.
type decisionQueue interface {
	Add(QueuedDecision)
}

// Options holds the dependencies of an Answerer. All fields are required.
type Options struct {
	Customers customerDirectory
	Rotations rotationCounter
	Numbers   *phone.Cache
	Decisions decisionQueue
	Now       func() time.Time
	Registry  prometheus.Registerer
}

// Answerer answers start calls. It is safe for concurrent use.
type Answerer struct {
	customers customerDirectory
	rotations rotationCounter
	numbers   *phone.Cache
	decisions decisionQueue
	now       func() time.Time
	count     *prometheus.CounterVec
}

// New returns an Answerer and registers its metrics.
func New(o Options) *Answerer {
	if o.Customers == nil || o.Rotations == nil || o.Numbers == nil || o.Decisions == nil || o.Now == nil || o.Registry == nil {
		panic("startcall.New: Customers, Rotations, Numbers, Decisions, Now, and Registry are required")
	}
	a := &Answerer{
		customers: o.Customers, rotations: o.Rotations, numbers: o.Numbers, decisions: o.Decisions, now: o.Now,
		count: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_decisions_total", Help: "Start calls answered, by tracker and route.",
		}, []string{"tracker", "route"}),
	}
	o.Registry.MustRegister(a.count)
	return a
}

// Answer is the answer to a start call.
type Answer struct {
	DIDCalled string // exactly as Ziwo sent it
	Decision  rules.Decision
	ID        string // decision ID
}

// Answer decides where to route a call. It does no database I/O. It waits for a customer
// lookup only if a route of the tracker has a condition on the customer, and only as long
// as the tracker allows. A DID that the tracker does not list is routed like any other
// and flagged.
func (a *Answerer) Answer(ctx context.Context, tracker *config.ActiveTracker, in ziwo.StartRequest) Answer {
	router := tracker.Router
	facts := FactsOf(in, router, a.numbers, a.now())
	if router.ReadsCustomer() {
		facts.Caller = a.numbers.Parse(in.Caller, router.Region())
		facts.Customer = lookUpCustomer(ctx, a.customers, facts.Caller, tracker.CustomerTimeout)
	}
	decision := router.Decide(facts)
	if decision.Rotating {
		decision = decision.Turn(a.rotations.Next(router.ID() + "/" + decision.Route))
	}
	id := storage.NewID()
	a.decisions.Add(QueuedDecision{id: id, tracker: tracker, facts: facts, rules: decision.Rules, notes: in.Notes})
	a.count.WithLabelValues(router.ID(), decision.Route).Inc()
	return Answer{DIDCalled: in.DIDCalled, Decision: decision, ID: id}
}

// FactsOf returns the facts of a start request. It parses the caller only if a condition
// of the tracker reads it.
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

// AppendAnswer appends the answer in the format of Ziwo. voicemailField is the name of
// the voicemail flag; an empty name omits it.
func AppendAnswer(dst []byte, didCalled string, d rules.Decision, voicemailField string) []byte {
	answer := ziwo.AppendStartAnswer(dst, didCalled)
	for _, r := range d.Rules {
		answer.Rule(r.Action, r.Number, r.CallerID, r.Timeout)
	}
	return answer.End(voicemailField, d.Voicemail)
}
