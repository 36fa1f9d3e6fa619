// Package rules is the routing engine. It is pure: no I/O, no clock, no
// randomness. Compile makes an immutable Set of a Source; a Router of the Set
// decides each call from its Facts alone, and explains the decision. Simulations,
// the tests of a configuration, replays and live calls all run the same Decide.
package rules

import (
	"runtime"
	"slices"
	"time"

	"calltracker/phone"
)

// Set is a compiled document. It is immutable and safe for concurrent use.
type Set struct {
	routers   map[string]*Router
	schedules map[string]*schedule
}

// Router finds the router of a tracker; the cost does not grow with their number.
func (s *Set) Router(tracker string) (*Router, bool) {
	r, ok := s.routers[tracker]
	return r, ok
}

// Trackers lists the ids of all trackers, sorted.
func (s *Set) Trackers() []string { return sortedKeys(s.routers) }

// Region is how the trackers of a contact centre read national numbers, when
// they agree, else "".
func (s *Set) Region(contactCenter string) string {
	region, first := "", true
	for _, r := range s.routers {
		switch {
		case r.ContactCenter() != contactCenter:
		case first:
			region, first = r.Region(), false
		case region != r.Region():
			return ""
		}
	}
	return region
}

// Regions lists the regions of all trackers, sorted.
func (s *Set) Regions() []string {
	seen := map[string]bool{}
	for _, r := range s.routers {
		if region := r.Region(); region != "" {
			seen[region] = true
		}
	}
	return sortedKeys(seen)
}

// Campaign is that of a DID of any tracker of a contact centre, or "".
func (s *Set) Campaign(contactCenter string, n phone.Number) string {
	for _, id := range s.Trackers() {
		if r := s.routers[id]; r.ContactCenter() == contactCenter {
			if d := r.did(n); d != nil {
				return r.tables.text(d.campaign)
			}
		}
	}
	return ""
}

// Router decides the calls of one tracker. It is immutable and safe for
// concurrent use. What every call reads stands first, as in all that it leads
// to: a tracker's calls come seldom enough that all of it has left the
// processor's cache. The first line of that has what all calls need.
type Router struct {
	tables        *tables
	id            word
	region        word
	spellings     list[spelling]
	dids          list[did]
	routes        list[route]
	until         uint32         // the end of all that the memory has of the tracker
	schedules     list[uint32]   // of the tables'
	requests      list[word]     // names of the request's fields that conditions read
	zone          *time.Location // of weekday, time and date; nil when no condition reads them
	contactCenter word
	rules         run // of all routes
	readsCaller   bool
	readsCustomer bool
}

type route struct {
	during   list[uint32] // indexes of the router's schedules
	when     list[condition]
	outcomes list[outcome] // one, or one for each share
	lots     list[lots]    // one when something is drawn, else none
	id       word
}

// lots are what calls draw that are split or ring in a random order.
type lots struct {
	weights list[uint64] // of the shares, added up so far
	total   uint64
	salt    uint64 // makes the splits of two routes independent
}

type outcome struct {
	rules     run // and the rules again, when they rotate: each turn is a part of it
	rotates   bool
	shuffles  bool
	voicemail bool
}

// Decision is where a call goes. Its slices belong to the Set and must not be
// changed.
type Decision struct {
	Route     string
	Rules     []Rule // never nil
	Voicemail bool
	Flags     []string
	Campaign  string // of the DID
	Index     int    // of the route in its tracker, from 0
	Rotating  bool   // the route goes through its numbers in turn: see Turn

	twice []Rule
}

// Turn is the decision of a rotating route for the nth call that it takes,
// counted from 0: each call starts one number further. Other decisions stay as
// they are.
func (d Decision) Turn(n uint64) Decision {
	if each := len(d.twice) / 2; each > 0 {
		first := int(n % uint64(each))
		d.Rules = d.twice[first : first+each : first+each]
	}
	return d
}

// ID is the tracker's id.
func (r *Router) ID() string { return r.tables.text(r.id) }

// ContactCenter is the Ziwo instance that the tracker belongs to, or "".
func (r *Router) ContactCenter() string { return r.tables.text(r.contactCenter) }

// Region is how national numbers are read, or "".
func (r *Router) Region() string { return r.tables.text(r.region) }

// ReadsCaller tells whether a decision may depend on the caller: when none does,
// there is no need to parse the number before deciding.
func (r *Router) ReadsCaller() bool { return r.readsCaller }

// ReadsCustomer reports whether a decision may depend on who the caller is.
func (r *Router) ReadsCustomer() bool { return r.readsCustomer }

// Listed finds a number of the tracker by a usual spelling without parsing it.
func (r *Router) Listed(raw string) (phone.Number, bool) {
	d := r.find(raw)
	if d == nil {
		return phone.Number{}, false
	}
	return r.tables.number(d, raw), true
}

// ReadAhead is for when a decision is near. It reads what the tables hold of the
// tracker, so that the processor waits for all of it at once, and not at each
// step of the decision anew.
func (r *Router) ReadAhead() {
	const line, mostBytes, mostRules = 64, 2 << 10, 32 // the first routes get most calls
	own := r.tables.memory[r.id.at:r.until]
	sum := 0
	for at := 0; at < min(len(own), mostBytes); at += line {
		sum += int(own[at])
	}
	rules := part(r.tables.rules, r.rules)
	for i := range rules[:min(len(rules), mostRules)] {
		sum += rules[i].Timeout
	}
	runtime.KeepAlive(sum) // or nothing would be read
}

// Campaign is that of a DID, or "".
func (r *Router) Campaign(n phone.Number) string {
	if d := r.did(n); d != nil {
		return r.tables.text(d.campaign)
	}
	return ""
}

// RouteIDs lists the routes in their order.
func (r *Router) RouteIDs() []string {
	routes := entries(r.tables, r.routes)
	ids := make([]string, len(routes))
	for i := range routes {
		ids[i] = r.tables.text(routes[i].id)
	}
	return ids
}

func (r *Router) did(n phone.Number) *did {
	if d := r.find(n.Raw); d != nil {
		return d
	}
	return r.find(n.Key())
}

var unlisted = []string{FlagDIDUnlisted}

// Decide answers a call. It never fails, since the last route takes every call,
// and allocates nothing but the shuffled rules of a random order.
func (r *Router) Decide(f Facts) Decision {
	decision, _ := r.decide(&f, false)
	return decision
}

// Explain is Decide with its trace: one step for each route that was tried.
func (r *Router) Explain(f Facts) (Decision, []Step) { return r.decide(&f, true) }

func (r *Router) decide(f *Facts, traced bool) (Decision, []Step) {
	e := evaluation{Facts: *f, router: r}
	var flags []string
	if d := r.did(f.DID); d != nil {
		e.campaign = r.tables.text(d.campaign)
	} else {
		flags = unlisted
	}
	var trace []Step
	routes := entries(r.tables, r.routes)
	for i := range routes {
		candidate := &routes[i]
		verdict, condition := candidate.try(&e)
		if traced {
			trace = append(trace, candidate.step(&e, verdict, condition))
		}
		if verdict == Matched {
			decision := candidate.decision(r.tables, f)
			decision.Flags, decision.Campaign, decision.Index = flags, e.campaign, i
			return decision, trace
		}
	}
	// Not reached: compile refuses a tracker whose last route has conditions.
	return Decision{Rules: []Rule{}, Flags: flags, Campaign: e.campaign}, trace
}

// try tells whether the route takes the call, and which condition kept it from that.
func (rt *route) try(e *evaluation) (Verdict, int) {
	if rt.during.size > 0 && !slices.ContainsFunc(entries(e.router.tables, rt.during), e.open) {
		return Closed, 0
	}
	when := entries(e.router.tables, rt.when)
	for i := range when {
		if !when[i].holds(e) {
			return Failed, i
		}
	}
	return Matched, 0
}

func (rt *route) step(e *evaluation, verdict Verdict, condition int) Step {
	t := e.router.tables
	s := Step{Route: t.text(rt.id), Verdict: verdict}
	switch verdict {
	case Closed:
		for _, index := range entries(t, rt.during) {
			if s.Reason != "" {
				s.Reason += "; "
			}
			s.Reason += e.router.schedule(index).whyClosed(e.At)
		}
	case Failed:
		s.Reason = entries(t, rt.when)[condition].why(e)
	}
	return s
}

func (rt *route) decision(t *tables, f *Facts) Decision {
	outcomes := entries(t, rt.outcomes)
	out := &outcomes[0]
	var lot uint64
	for _, drawn := range entries(t, rt.lots) {
		lot = drawLot(drawn.salt, f)
		for i, end := range entries(t, drawn.weights) {
			if lot%drawn.total < end {
				out = &outcomes[i]
				break
			}
		}
	}
	d := Decision{Route: t.text(rt.id), Rules: part(t.rules, out.rules), Voicemail: out.voicemail}
	switch {
	case out.rotates:
		d.Rotating, d.twice = true, d.Rules
		return d.Turn(0)
	case out.shuffles:
		d.Rules = shuffled(d.Rules, mix(lot))
	}
	return d
}

// schedule is one of those that routes of the router name.
func (r *Router) schedule(index uint32) *schedule {
	return r.tables.schedules[entries(r.tables, r.schedules)[index]]
}

// drawLot turns what identifies a call into a number that is as good as
// random, so that a retry and a replay of the call draw the same one.
func drawLot(salt uint64, f *Facts) uint64 {
	h := salt
	if f.CallID != "" {
		h = hashText(h, f.CallID)
	} else {
		h = hashText(h, f.Caller.Key())
		h = hashText(h, f.DID.Key())
		for second, i := uint64(f.At.Unix()), 0; i < 8; i++ {
			h = hashByte(h, byte(second>>(8*i)))
		}
	}
	return mix(h)
}

// FNV-1a, http://www.isthe.com/chongo/tech/comp/fnv/.
const hashSeed, hashPrime = uint64(14695981039346656037), uint64(1099511628211)

func hashByte(h uint64, b byte) uint64 { return (h ^ uint64(b)) * hashPrime }

func hashText(h uint64, s string) uint64 {
	for i := range len(s) {
		h = hashByte(h, s[i])
	}
	return hashByte(h, 0xff) // so that "ab"+"c" is not "a"+"bc"
}

// mix spreads every bit over all others; FNV's low bits are poor
// (the finalizer of splitmix64, https://prng.di.unimi.it/splitmix64.c).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// shuffled is a copy in an order that the seed decides (Fisher-Yates).
func shuffled(rules []Rule, seed uint64) []Rule {
	out := slices.Clone(rules)
	for i := len(out) - 1; i > 0; i-- {
		seed = mix(seed + 0x9e3779b97f4a7c15)
		j := seed % uint64(i+1)
		out[i], out[j] = out[j], out[i]
	}
	return out
}
