package rules

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"calltracker/phone"
	"calltracker/problem"
)

// Compile checks the source and makes it ready to decide. It reports every
// problem, without lines and columns. The Set is nil if there are errors.
func Compile(source Source) (*Set, problem.List) {
	c := &compiler{
		Source: source, zones: map[string]*time.Location{}, phones: map[numberKey]phone.Number{},
		schedules: map[string]*schedule{},
	}
	for _, name := range sortedKeys(source.Schedules) {
		c.schedules[name] = c.schedule(name, source.Schedules[name])
	}
	routers := make(map[string]*Router, len(source.Trackers))
	for _, id := range sortedKeys(source.Trackers) {
		routers[id] = c.tracker(id, source.Trackers[id])
	}
	c.warnSharedNumbers()
	if len(c.Problems.Errors()) > 0 {
		return nil, c.Problems
	}
	return newSet(routers, c.schedules), c.Problems
}

type compiler struct {
	Source
	problem.Report
	zones     map[string]*time.Location
	schedules map[string]*schedule
	phones    map[numberKey]phone.Number
}

type numberKey struct{ raw, region string }

// phone parses a number. It parses each number only once, because many routes name
// the same ones.
func (c *compiler) phone(raw, region string) phone.Number {
	key := numberKey{raw, region}
	n, known := c.phones[key]
	if !known {
		n = phone.Parse(raw, region)
		c.phones[key] = n
	}
	return n
}

// incomplete reports whether the value at path, or a part of it, could not be
// read.
func (c *compiler) incomplete(path string) bool { return c.Incomplete != nil && c.Incomplete(path) }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// trackerCompiler compiles one tracker.
type trackerCompiler struct {
	*compiler
	doc        Tracker
	path       string
	router     *Router
	scheduleAt map[string]int // index in the router
	requestAt  map[string]int // index in the router

	// Backing arrays for all routes. With thousands of trackers, a call finds little of
	// a tracker in the CPU cache, and the garbage collector visits every object: few
	// large objects cost less than many small ones.
	conditions []condition
	texts      []conditionText
	words      []string
	outcomes   []outcome
	rules      []Rule
}

// allocate makes the backing arrays, large enough that they never grow.
func (t *trackerCompiler) allocate() {
	conditions, words, outcomes, rules := 0, 0, 0, 0
	steps := func(dial []Dial, order Order) {
		outcomes++
		rules += len(dial)
		if order == Rotate {
			rules += len(dial)
		}
	}
	for _, r := range t.doc.Routes {
		conditions += len(r.When)
		for _, c := range r.When {
			words += max(len(c.Values), 1)
		}
		if r.Split == nil {
			steps(r.Dial, r.Order)
		}
		for _, share := range r.Split {
			steps(share.Dial, share.Order)
		}
	}
	t.conditions, t.texts, t.words = make([]condition, 0, conditions), make([]conditionText, 0, conditions), make([]string, 0, words)
	t.outcomes, t.rules = make([]outcome, 0, outcomes), make([]Rule, 0, rules)
	t.router.requirements, t.router.routes = make([]requirements, 0, len(t.doc.Routes)), make([]route, 0, len(t.doc.Routes))
}

func (c *compiler) tracker(id string, doc Tracker) *Router {
	t := &trackerCompiler{
		compiler: c, doc: doc, path: "trackers." + id, scheduleAt: map[string]int{}, requestAt: map[string]int{},
		router: &Router{id: id, contactCenter: doc.ContactCenter, region: doc.Region},
	}
	if doc.Region != "" && !phone.KnownRegion(doc.Region) && !c.incomplete(t.path+".region") {
		c.Errorf(t.path+".region", "invalid country %q: use two capital letters such as AE", problem.Clip(doc.Region))
	}
	if doc.Timezone != "" {
		c.zone(doc.Timezone, t.path+".timezone")
	}
	t.checkDialable(t.path+".caller_id", doc.CallerID)
	t.numbers()
	t.routes()
	return t.router
}

var dialable = regexp.MustCompile(`^(\+?[0-9]{1,20}|agent-[0-9]{1,10})$`)

// checkDialable reports a number that Ziwo may not dial: as an error if it cannot
// be a number at all, otherwise as a warning. It ignores an empty number.
func (t *trackerCompiler) checkDialable(path, number string) {
	switch {
	case number == "" || t.incomplete(path):
	case strings.ContainsFunc(number, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(number) > 64:
		t.Errorf(path, "invalid phone number %q: use only digits, with or without a leading +", problem.Clip(number))
	case !dialable.MatchString(number):
		t.Warnf(path, "Ziwo may not dial %q: use only digits, with or without a leading +", problem.Clip(number))
	}
}

func (t *trackerCompiler) numbers() {
	seen := map[string]int{}
	var all []*did
	for i, doc := range t.doc.Numbers {
		path := fmt.Sprintf("%s.numbers[%d]", t.path, i)
		if doc.DID == "" {
			if !t.incomplete(path) {
				t.Errorf(path, "the number is empty")
			}
			continue
		}
		number := t.phone(doc.DID, t.doc.Region)
		if first, twice := seen[number.Key()]; twice {
			t.Errorf(path, "%s is already listed as numbers[%d]", problem.Clip(doc.DID), first)
			continue
		}
		seen[number.Key()] = i
		if number.E164 == "" {
			hint := ""
			if t.doc.Region == "" {
				hint = ": set region, or write the number with + and the country code"
			}
			t.Warnf(path, "cannot parse phone number %q, so it matches only this exact spelling%s", problem.Clip(doc.DID), hint)
		}
		all = append(all, &did{number: number, campaign: doc.Campaign})
	}
	t.router.dids = t.spellings(all)
}

// spellings indexes the DIDs by the forms in which Ziwo may send them, so that the
// DID of most calls need not be parsed. The spelling in the document takes
// precedence. A form of two DIDs is left out; such a DID is parsed.
func (t *trackerCompiler) spellings(all []*did) didIndex {
	const perDID = 5 // spellings of a typical DID
	out := make(didIndex, perDID*len(all))
	for _, d := range all {
		out[d.number.Raw], out[d.number.Key()] = d, d
	}
	claimed := map[string]*did{}
	for _, d := range all {
		digits, public := strings.CutPrefix(d.number.E164, "+")
		if !public {
			continue
		}
		forms := []string{digits, "00" + digits}
		// In the tracker's region, the national form of another country is invalid or
		// another number.
		if national := d.number.National(); t.doc.Region == "" || t.phone(national, t.doc.Region).E164 == d.number.E164 {
			forms = append(forms, national)
		}
		for _, form := range forms {
			if first, twice := claimed[form]; twice && first != d {
				claimed[form] = nil
				continue
			}
			claimed[form] = d
		}
	}
	for form, d := range claimed {
		if _, written := out[form]; d != nil && !written {
			out[form] = d
		}
	}
	return out
}

func (t *trackerCompiler) routes() {
	seen := map[string]int{}
	t.allocate()
	for i, doc := range t.doc.Routes {
		path := fmt.Sprintf("%s.routes[%d]", t.path, i)
		switch first, twice := seen[doc.ID]; {
		case doc.ID == "":
		case twice:
			t.Errorf(path+".id", "duplicate route id %q: routes[%d] has it already", problem.Clip(doc.ID), first)
		case !ValidName(doc.ID):
			t.Errorf(path+".id", "invalid name %q: use up to 64 letters, digits, dots, dashes and underscores, with a letter or digit first", problem.Clip(doc.ID))
		default:
			seen[doc.ID] = i
		}
		t.router.requirements = append(t.router.requirements, t.requirements(doc, path))
		t.router.routes = append(t.router.routes, t.route(doc, path))
	}
	t.joinText()
	n := len(t.doc.Routes)
	if n == 0 && !t.incomplete(t.path) {
		t.Errorf(t.path, "routes is missing")
	}
	if n > 0 {
		if last := t.doc.Routes[n-1]; len(last.During) > 0 || len(last.When) > 0 {
			t.Errorf(fmt.Sprintf("%s.routes[%d]", t.path, n-1), "the last route must take every call: remove its during and when")
		}
	}
	t.warnHiddenRoutes()
}

// joinText moves all text of the routes into one string.
func (t *trackerCompiler) joinText() {
	var parts []*string
	for i := range t.words {
		parts = append(parts, &t.words[i])
	}
	for i := range t.rules {
		parts = append(parts, &t.rules[i].Number, &t.rules[i].CallerID)
	}
	for i := range t.router.routes {
		parts = append(parts, &t.router.routes[i].id)
	}
	for i := range t.texts {
		parts = append(parts, &t.texts[i].field, &t.texts[i].requirement)
	}
	var joined strings.Builder
	for _, part := range parts {
		joined.WriteString(*part)
	}
	text := joined.String()
	for _, part := range parts {
		*part, text = text[:len(*part)], text[len(*part):]
	}
}

func (t *trackerCompiler) requirements(doc Route, path string) requirements {
	out := requirements{during: t.during(doc, path)}
	first := len(t.conditions)
	for i, when := range doc.When {
		if compiled, ok := t.condition(when, fmt.Sprintf("%s.when[%d]", path, i)); ok {
			t.conditions = append(t.conditions, compiled)
		}
	}
	out.when = t.conditions[first:len(t.conditions):len(t.conditions)]
	return out
}

func (t *trackerCompiler) route(doc Route, path string) route {
	out := route{id: doc.ID}
	if doc.Split != nil || doc.Order == Random {
		t.router.readsCaller = true // the draw depends on it
		out.draw = &draw{salt: hashText(hashSeed, t.router.id+"/"+doc.ID)}
	}
	first := len(t.outcomes)
	if doc.Split == nil {
		t.outcomes = append(t.outcomes, t.outcome(doc.Dial, doc.Order, doc.Voicemail, path))
		out.outcomes = t.outcomes[first:len(t.outcomes):len(t.outcomes)]
		if len(doc.Dial) == 0 && !doc.Voicemail && !t.incomplete(path) {
			t.Warnf(path, "this route has neither numbers nor voicemail")
		}
		return out
	}
	if doc.Dial != nil || doc.Order != "" {
		t.Errorf(path, "a route has either dial or split: move dial and order into the shares")
	}
	total := uint64(0)
	for i, share := range doc.Split {
		at := fmt.Sprintf("%s.split[%d]", path, i)
		t.outcomes = append(t.outcomes, t.outcome(share.Dial, share.Order, share.Voicemail || doc.Voicemail, at))
		total += uint64(max(share.Weight, 0))
		out.draw.weights = append(out.draw.weights, total)
		if len(share.Dial) == 0 && !share.Voicemail && !doc.Voicemail && !t.incomplete(at) {
			t.Warnf(at, "this share has neither numbers nor voicemail")
		}
	}
	out.outcomes = t.outcomes[first:len(t.outcomes):len(t.outcomes)]
	if total == 0 && !t.incomplete(path+".split") {
		t.Errorf(path+".split", "all weights are 0: at least one must be greater")
	}
	return out
}

// during returns the router's indexes of the schedules that the route names.
func (t *trackerCompiler) during(doc Route, path string) []int {
	var out []int
	for i, name := range doc.During {
		at := fmt.Sprintf("%s.during[%d]", path, i)
		schedule, ok := t.schedules[name]
		if !ok {
			if !t.incomplete(at) {
				t.Unknown(at, "schedule", name, maps.Keys(t.schedules))
			}
			continue
		}
		index, known := t.scheduleAt[name]
		if !known {
			index = len(t.router.schedules)
			t.scheduleAt[name] = index
			t.router.schedules = append(t.router.schedules, schedule)
		}
		out = append(out, index)
	}
	return out
}

// Limits of ring times. If they are exceeded, callers may hang up first.
const (
	longRing    = 120 // seconds for one number
	longRoute   = 300 // seconds for all numbers of a route
	defaultRing = 20  // seconds if the document names none
)

func (t *trackerCompiler) outcome(dial []Dial, order Order, voicemail bool, path string) outcome {
	first, total := len(t.rules), 0
	for i, d := range dial {
		at := fmt.Sprintf("%s.dial[%d]", path, i)
		seconds := int(cmp.Or(d.Timeout, defaultRing))
		if total += seconds; seconds > longRing {
			t.Warnf(at+".timeout", "a ring time of %d s is over %d s: callers may hang up first", seconds, longRing)
		}
		t.checkDialable(at+".number", d.Number)
		t.checkDialable(at+".caller_id", d.CallerID)
		if own, loop := t.router.dids[t.phone(d.Number, t.doc.Region).Key()]; loop && d.Number != "" {
			t.Warnf(at+".number", "%s is a number of this tracker: the call would come back to it", own.number.Raw)
		}
		t.rules = append(t.rules, Rule{
			Action: ActionCall, Number: d.Number, CallerID: cmp.Or(d.CallerID, t.doc.CallerID), Timeout: seconds,
		})
	}
	if total > longRoute {
		t.Warnf(path+".dial", "a total ring time of %d s is over %d s: callers may hang up first", total, longRoute)
	}
	if order == Rotate {
		t.rules = append(t.rules, t.rules[first:]...)
	}
	return outcome{rules: t.rules[first:len(t.rules):len(t.rules)], rotates: order == Rotate, shuffles: order == Random, voicemail: voicemail}
}

// warnHiddenRoutes warns about routes that get no call, because an earlier one takes every
// call that they would take.
func (t *trackerCompiler) warnHiddenRoutes() {
	const most = 2000 // routes to compare with each other
	path := func(i int) string { return fmt.Sprintf("%s.routes[%d]", t.path, i) }
	unsure := make([]bool, min(len(t.doc.Routes), most)) // some of its conditions could not be read
	for later := range unsure {
		unsure[later] = t.incomplete(path(later))
		for earlier := range later {
			e, l := &t.doc.Routes[earlier], &t.doc.Routes[later]
			if !unsure[earlier] && !unsure[later] && hides(e, l) {
				t.Warnf(path(later), "route %q never gets a call: route %q before it takes them all", l.ID, e.ID)
				break
			}
		}
	}
}

// hides reports whether earlier takes every call that later would take.
func hides(earlier, later *Route) bool {
	if len(earlier.During) > 0 {
		if len(later.During) == 0 {
			return false
		}
		for _, s := range later.During {
			if !slices.Contains(earlier.During, s) {
				return false
			}
		}
	}
	for i := range earlier.When {
		if !slices.ContainsFunc(later.When, func(l Condition) bool { return implies(&l, &earlier.When[i]) }) {
			return false
		}
	}
	return true
}

// implies reports whether b holds whenever a does. It recognizes only simple cases.
func implies(a, b *Condition) bool {
	if a.Field != b.Field || a.Not != b.Not {
		return false
	}
	av, bv := a.all(), b.all()
	if a.Op == b.Op && slices.Equal(av, bv) {
		return true
	}
	among := func(op Op) bool { return op == OpIs || op == OpIn }
	if !among(a.Op) || !among(b.Op) {
		return false
	}
	if a.Not {
		av, bv = bv, av
	}
	for _, v := range av {
		if !slices.Contains(bv, v) {
			return false
		}
	}
	return true
}

func (c *Condition) all() []string {
	var out []string
	if c.Value != nil {
		out = append(out, c.Value.Text)
	}
	for _, v := range c.Values {
		out = append(out, v.Text)
	}
	return out
}

// setZone sets the zone of the tracker's weekday, time, and date: its own, or else
// that of the schedules.
func (t *trackerCompiler) setZone() {
	if t.router.zone != nil {
		return
	}
	location, known := t.commonZone()
	if t.doc.Timezone != "" {
		location = cmp.Or(t.zones[t.doc.Timezone], time.UTC) // an unknown zone has been reported
	} else if !known {
		t.Warnf(t.path, "conditions on weekday, time, and date use UTC: set timezone")
	}
	t.router.zone = location
}

// warnSharedNumbers warns about DIDs that two trackers list.
func (c *compiler) warnSharedNumbers() {
	owner := map[string]string{}
	for _, id := range sortedKeys(c.Trackers) {
		for i, doc := range c.Trackers[id].Numbers {
			key := c.phone(doc.DID, c.Trackers[id].Region).Key()
			if first, taken := owner[key]; taken && first != id && key != "" {
				c.Warnf(fmt.Sprintf("trackers.%s.numbers[%d]", id, i), "%s is also listed by tracker %q: Ziwo links a number to only one tracker", problem.Clip(doc.DID), first)
				continue
			}
			owner[key] = id
		}
	}
}
