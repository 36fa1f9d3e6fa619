// Package rules is the routing engine. It is pure: no I/O, no clock, no
// randomness. Compile makes an immutable Set of a Source; a Router of the Set
// decides each call from its Facts alone, and explains the decision. Simulations,
// the tests of a configuration, replays, and live calls all run the same Decide.
package rules

import (
	"slices"
	"time"

	"calltracker/phone"
)

// Router decides the calls of one tracker. It is immutable and safe for
// concurrent use.
type Router struct {
	id            string
	contactCenter string
	region        string
	dids          didIndex
	requirements  []requirements // of the routes, in their order
	routes        []route
	schedules     []*schedule    // those that the routes name
	requests      []string       // request fields that conditions read
	zone          *time.Location // of weekday, time, and date; nil if no condition reads them
	readsCaller   bool
	readsCustomer bool
}

// did is a number that the tracker lists.
type did struct {
	number   phone.Number
	campaign string
}

// didIndex holds DIDs by every usual spelling.
type didIndex map[string]*did

// find returns nil if no DID is spelled like the number.
func (x didIndex) find(n phone.Number) *did {
	if d, ok := x[n.Raw]; ok {
		return d
	}
	return x[n.Key()]
}

// ID returns the tracker's ID.
func (r *Router) ID() string { return r.id }

// ContactCenter returns the Ziwo instance that the tracker belongs to, or "".
func (r *Router) ContactCenter() string { return r.contactCenter }

// Region returns the country whose national numbers the tracker's calls use, or "".
func (r *Router) Region() string { return r.region }

// ReadsCaller reports whether a decision may depend on the caller. Otherwise, the
// caller's number need not be parsed before deciding.
func (r *Router) ReadsCaller() bool { return r.readsCaller }

// ReadsCustomer reports whether a decision may depend on the CRM's customer data.
func (r *Router) ReadsCustomer() bool { return r.readsCustomer }

// FindDID returns the number of the tracker that is usually spelled like raw. It
// does not parse raw: a number that is spelled in an unusual way is not found.
func (r *Router) FindDID(raw string) (phone.Number, bool) {
	d, ok := r.dids[raw]
	if !ok {
		return phone.Number{}, false
	}
	number := d.number
	number.Raw = raw
	return number, true
}

// Campaign returns the campaign of a DID, or "".
func (r *Router) Campaign(n phone.Number) string {
	if d := r.dids.find(n); d != nil {
		return d.campaign
	}
	return ""
}

// RouteIDs returns the IDs of the routes, in order.
func (r *Router) RouteIDs() []string {
	ids := make([]string, len(r.routes))
	for i := range r.routes {
		ids[i] = r.routes[i].id
	}
	return ids
}

var unlisted = []string{FlagDIDUnlisted}

// Decide answers a call. It always finds a route, because the last one takes
// every call. It allocates memory only to shuffle the rules of a random order.
func (r *Router) Decide(f Facts) Decision {
	decision, _ := r.decide(&f, false)
	return decision
}

// Explain is Decide with a trace: one step for each route that was tried.
func (r *Router) Explain(f Facts) (Decision, []Step) { return r.decide(&f, true) }

func (r *Router) decide(f *Facts, traced bool) (Decision, []Step) {
	e := evaluation{Facts: *f, router: r}
	var flags []string
	if d := r.dids.find(f.DID); d != nil {
		e.campaign = d.campaign
	} else {
		flags = unlisted
	}
	var trace []Step
	for i := range r.requirements {
		verdict, condition := r.requirements[i].check(&e)
		if traced {
			trace = append(trace, r.step(i, &e, verdict, condition))
		}
		if verdict == Matched {
			decision := r.routes[i].decision(f)
			decision.Flags, decision.Campaign, decision.Index = flags, e.campaign, i
			return decision, trace
		}
	}
	// Not reached: Compile rejects a tracker whose last route has conditions.
	return Decision{Rules: []Rule{}, Flags: flags, Campaign: e.campaign}, trace
}

// requirements are what a call must fulfill to take a route. They are separate from
// the route, so that skipping routes reads little memory.
type requirements struct {
	during []int // indexes of the router's schedules, of which one must be open
	when   []condition
}

// route is what happens to a call that fulfills its requirements.
type route struct {
	id       string
	outcomes []outcome // one, or one for each share
	draw     *draw     // nil if nothing is random
}

type outcome struct {
	rules     []Rule // twice in a row if they rotate: each turn is a part of them
	rotates   bool
	shuffles  bool
	voicemail bool
}

// check reports whether the call fulfills the requirements, or else the index of
// the condition that does not hold.
func (r *requirements) check(e *evaluation) (Verdict, int) {
	if len(r.during) > 0 && !slices.ContainsFunc(r.during, e.open) {
		return Closed, 0
	}
	for i := range r.when {
		if !r.when[i].holds(e) {
			return Failed, i
		}
	}
	return Matched, 0
}

// step explains the verdict on a route.
func (r *Router) step(route int, e *evaluation, verdict Verdict, condition int) Step {
	s := Step{Route: r.routes[route].id, Verdict: verdict}
	switch verdict {
	case Closed:
		for _, index := range r.requirements[route].during {
			if s.Reason != "" {
				s.Reason += "; "
			}
			s.Reason += e.router.schedules[index].whyClosed(e.At)
		}
	case Failed:
		s.Reason = r.requirements[route].when[condition].why(e)
	}
	return s
}

func (rt *route) decision(f *Facts) Decision {
	out := &rt.outcomes[0]
	var drawn uint64
	if rt.draw != nil {
		drawn = rt.draw.number(f)
		out = &rt.outcomes[rt.draw.share(drawn)]
	}
	d := Decision{Route: rt.id, Rules: out.rules, Voicemail: out.voicemail}
	switch {
	case out.rotates:
		d.Rotating, d.rotation = true, d.Rules
		return d.Turn(0)
	case out.shuffles:
		d.Rules = shuffled(d.Rules, mix(drawn))
	}
	return d
}
