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
		schedules: map[string]*schedule{}, schedulePlaces: map[string]uint32{}, writer: newWriter(),
	}
	for _, name := range sortedKeys(source.Schedules) {
		c.schedules[name] = c.schedule(name, source.Schedules[name])
		c.schedulePlaces[name] = add(&c.tables.schedules, c.schedules[name]).from
	}
	set := &Set{routers: make(map[string]*Router, len(source.Trackers)), schedules: c.schedules}
	routers := make([]Router, len(source.Trackers))
	for i, id := range sortedKeys(source.Trackers) {
		set.routers[id] = &routers[i]
		c.tracker(id, source.Trackers[id], &routers[i])
	}
	c.finish()
	c.sharedNumbers()
	if len(c.Problems.Errors()) > 0 {
		return nil, c.Problems
	}
	return set, c.Problems
}

type compiler struct {
	Source
	problem.Report
	*writer
	zones          map[string]*time.Location
	schedules      map[string]*schedule
	schedulePlaces map[string]uint32 // in the tables
	phones         map[numberKey]phone.Number
}

type numberKey struct{ raw, region string }

// phone parses a number once per document: many routes name the same ones.
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
	id            string
	doc           Tracker
	path          string
	router        *Router
	scheduleAt    map[string]int // index in the router
	schedules     []uint32       // in the tables
	requestAt     map[string]int // index in the router
	requests      []word
	dids          map[string]*listed // under every usual spelling
	readsCaller   bool
	readsCustomer bool
}

// listed is a number of the tracker.
type listed struct {
	index    uint32 // among them
	number   phone.Number
	campaign string
}

func (c *compiler) tracker(id string, doc Tracker, router *Router) {
	t := &trackerCompiler{
		compiler: c, id: id, doc: doc, path: "trackers." + id, scheduleAt: map[string]int{}, requestAt: map[string]int{}, router: router,
	}
	clear(c.own)
	*router = Router{tables: c.tables, id: c.ofOne(id), region: c.ofMany(doc.Region), contactCenter: c.ofMany(doc.ContactCenter)}
	if doc.Region != "" && !phone.KnownRegion(doc.Region) && !c.incomplete(t.path+".region") {
		c.Errorf(t.path+".region", "%q is no country; use two capital letters such as AE", problem.Clip(doc.Region))
	}
	if doc.Timezone != "" {
		c.zone(doc.Timezone, t.path+".timezone")
	}
	if doc.CallerID != "" {
		t.dialable(t.path+".caller_id", doc.CallerID)
	}
	t.numbers()
	router.rules.from = uint32(len(c.rules))
	t.routes()
	router.schedules, router.requests = put(c.writer, t.schedules), put(c.writer, t.requests)
	router.until, router.rules.size = uint32(len(c.memory)), uint32(len(c.rules))-router.rules.from
	router.readsCaller, router.readsCustomer = t.readsCaller, t.readsCustomer
}

var dialable = regexp.MustCompile(`^(\+?[0-9]{1,20}|agent-[0-9]{1,10})$`)

// dialable warns of what Ziwo's own dialer would not take, and refuses what
// cannot have been meant.
func (t *trackerCompiler) dialable(path, number string) {
	switch {
	case number == "" || t.incomplete(path):
	case strings.ContainsFunc(number, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(number) > 64:
		t.Errorf(path, "%q is no number", problem.Clip(number))
	case !dialable.MatchString(number):
		t.Warnf(path, "%q is not only digits, with a + at most; Ziwo may not dial it", problem.Clip(number))
	}
}

func (t *trackerCompiler) numbers() {
	t.dids = make(map[string]*listed, 4*len(t.doc.Numbers))
	seen := map[string]int{}
	var all []*listed
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
			t.Errorf(path, "%s is listed twice; the first is numbers[%d]", problem.Clip(doc.DID), first)
			continue
		}
		seen[number.Key()] = i
		if number.E164 == "" {
			hint := ""
			if t.doc.Region == "" {
				hint = "; set region, or write it with + and the country code"
			}
			t.Warnf(path, "%s is no number that can be read%s; it matches only as it is written", problem.Clip(doc.DID), hint)
		}
		all = append(all, &listed{index: uint32(len(all)), number: number, campaign: doc.Campaign})
	}
	t.forms(all)
	t.router.spellings = t.spellings(t.dids)
	dids := make([]did, len(all))
	for i, d := range all {
		n := d.number
		dids[i] = did{
			e164: t.ofOne(n.E164), country: t.ofMany(n.Country), kind: t.ofMany(string(n.Type)), campaign: t.ofMany(d.campaign),
		}
	}
	t.router.dids = put(t.writer, dids)
}

// forms lists each DID under the forms in which Ziwo may send it, so that
// the usual call needs no parsing. How the document writes it comes first, and a
// form that two DIDs could have is neither's: it is parsed when it comes.
func (t *trackerCompiler) forms(all []*listed) {
	for _, d := range all {
		t.dids[d.number.Raw], t.dids[d.number.Key()] = d, d
	}
	claimed := map[string]*listed{}
	for _, d := range all {
		digits, public := strings.CutPrefix(d.number.E164, "+")
		if !public {
			continue
		}
		forms := []string{digits, "00" + digits}
		// The national form of another country is no number, or another one, here.
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
		if _, written := t.dids[form]; d != nil && !written {
			t.dids[form] = d
		}
	}
}

func (t *trackerCompiler) routes() {
	seen := map[string]int{}
	routes := make([]route, 0, len(t.doc.Routes))
	for i, doc := range t.doc.Routes {
		path := fmt.Sprintf("%s.routes[%d]", t.path, i)
		switch first, twice := seen[doc.ID]; {
		case doc.ID == "":
		case twice:
			t.Errorf(path+".id", "route %q is here twice; the first is routes[%d]", problem.Clip(doc.ID), first)
		case !ValidName(doc.ID):
			t.Errorf(path+".id", "%q is no name: use up to 64 letters, digits, dots, dashes or underscores", problem.Clip(doc.ID))
		default:
			seen[doc.ID] = i
		}
		routes = append(routes, t.route(doc, path))
	}
	t.router.routes = put(t.writer, routes)
	n := len(t.doc.Routes)
	if n == 0 && !t.incomplete(t.path) {
		t.Errorf(t.path, "routes is missing")
	}
	if n > 0 {
		if last := t.doc.Routes[n-1]; len(last.During) > 0 || len(last.When) > 0 {
			t.Errorf(fmt.Sprintf("%s.routes[%d]", t.path, n-1), "the last route must take every call: it can have neither during nor when")
		}
	}
	t.hidden()
}

func (t *trackerCompiler) route(doc Route, path string) route {
	out := route{id: t.ofMany(doc.ID)}
	drawn := lots{salt: hashText(hashSeed, t.id+"/"+doc.ID)}
	var during []uint32
	for i, name := range doc.During {
		at := fmt.Sprintf("%s.during[%d]", path, i)
		place, ok := t.schedulePlaces[name]
		if !ok {
			if !t.incomplete(at) {
				t.Unknown(at, "schedule", name, maps.Keys(t.compiler.schedules))
			}
			continue
		}
		index, known := t.scheduleAt[name]
		if !known {
			index = len(t.schedules)
			t.scheduleAt[name] = index
			t.schedules = append(t.schedules, place)
		}
		during = append(during, uint32(index))
	}
	out.during = put(t.writer, during)
	var when []condition
	for i, condition := range doc.When {
		if compiled, ok := t.condition(t, condition, fmt.Sprintf("%s.when[%d]", path, i)); ok {
			when = append(when, compiled)
		}
	}
	out.when = put(t.writer, when)
	if doc.Split != nil || doc.Order == Random {
		t.readsCaller = true // the lot is drawn from it
	}
	if doc.Split == nil {
		out.outcomes = put(t.writer, []outcome{t.outcome(doc.Dial, doc.Order, doc.Voicemail, path)})
		if doc.Order == Random {
			out.lots = put(t.writer, []lots{drawn})
		}
		if len(doc.Dial) == 0 && !doc.Voicemail && !t.incomplete(path) {
			t.Warnf(path, "this route rings nobody and has no voicemail")
		}
		return out
	}
	if doc.Dial != nil || doc.Order != "" {
		t.Errorf(path, "a route has dial or split, not both; order goes into the shares")
	}
	var outcomes []outcome
	var weights []uint64
	for i, share := range doc.Split {
		at := fmt.Sprintf("%s.split[%d]", path, i)
		outcomes = append(outcomes, t.outcome(share.Dial, share.Order, share.Voicemail || doc.Voicemail, at))
		drawn.total += uint64(max(share.Weight, 0))
		weights = append(weights, drawn.total)
		if len(share.Dial) == 0 && !share.Voicemail && !doc.Voicemail && !t.incomplete(at) {
			t.Warnf(at, "this share rings nobody and has no voicemail")
		}
	}
	out.outcomes, drawn.weights = put(t.writer, outcomes), put(t.writer, weights)
	out.lots = put(t.writer, []lots{drawn})
	if drawn.total == 0 && !t.incomplete(path+".split") {
		t.Errorf(path+".split", "the weights add up to nothing; at least one must be over 0")
	}
	return out
}

// Limits over which a caller hardly waits.
const (
	longRing    = 120 // seconds for one number
	longAttempt = 300 // seconds for all numbers of a route
	usualRing   = 20  // seconds when the document does not say
)

func (t *trackerCompiler) outcome(dial []Dial, order Order, voicemail bool, path string) outcome {
	rules := make([]Rule, 0, len(dial))
	total := 0
	for i, d := range dial {
		at := fmt.Sprintf("%s.dial[%d]", path, i)
		seconds := int(cmp.Or(d.Timeout, usualRing))
		if total += seconds; seconds > longRing {
			t.Warnf(at+".timeout", "%d s is a long time to listen to a ringing phone (over %d s)", seconds, longRing)
		}
		t.dialable(at+".number", d.Number)
		if d.CallerID != "" {
			t.dialable(at+".caller_id", d.CallerID)
		}
		if listed, loop := t.dids[t.phone(d.Number, t.doc.Region).Key()]; loop && d.Number != "" {
			t.Warnf(at+".number", "this is the tracker's own number %s: the call would come back here", listed.number.Raw)
		}
		rules = append(rules, Rule{
			Action: ActionCall, Number: d.Number, CallerID: cmp.Or(d.CallerID, t.doc.CallerID), Timeout: seconds,
		})
	}
	if total > longAttempt {
		t.Warnf(path+".dial", "all numbers together ring for %d s (over %d s)", total, longAttempt)
	}
	if order == Rotate {
		rules = slices.Concat(rules, rules)
	}
	return outcome{rules: t.ringing(rules), rotates: order == Rotate, shuffles: order == Random, voicemail: voicemail}
}

// hidden warns of routes that can never be reached, since an earlier one takes
// every call that they would take.
func (t *trackerCompiler) hidden() {
	const most = 2000 // every route is held against every earlier one
	path := func(i int) string { return fmt.Sprintf("%s.routes[%d]", t.path, i) }
	unsure := make([]bool, min(len(t.doc.Routes), most)) // not all of its conditions could be read
	for later := range unsure {
		unsure[later] = t.incomplete(path(later))
		for earlier := range later {
			e, l := &t.doc.Routes[earlier], &t.doc.Routes[later]
			if !unsure[earlier] && !unsure[later] && hides(e, l) {
				t.Warnf(path(later), "route %q never gets a call: %q before it takes all of them", l.ID, e.ID)
				break
			}
		}
	}
}

// hides tells whether whatever later takes, earlier takes as well.
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

// implies tells whether b holds whenever a does, as far as that is plain to see.
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

// readClock sets the zone in which this tracker's weekday, time and date are
// meant: its own, else that of the schedules.
func (t *trackerCompiler) readClock() {
	if t.router.zone != nil {
		return
	}
	location, known := t.commonZone()
	if t.doc.Timezone != "" {
		location = cmp.Or(t.zones[t.doc.Timezone], time.UTC) // an unknown one has been reported
	} else if !known {
		t.Warnf(t.path, "weekday, time and date are read in UTC; set timezone")
	}
	t.router.zone = location
}

// sharedNumbers warns of a DID in two trackers: Ziwo links a number to one.
func (c *compiler) sharedNumbers() {
	owner := map[string]string{}
	for _, id := range sortedKeys(c.Trackers) {
		for i, doc := range c.Trackers[id].Numbers {
			key := c.phone(doc.DID, c.Trackers[id].Region).Key()
			if first, taken := owner[key]; taken && first != id && key != "" {
				c.Warnf(fmt.Sprintf("trackers.%s.numbers[%d]", id, i), "%s is listed by tracker %q as well", problem.Clip(doc.DID), first)
				continue
			}
			owner[key] = id
		}
	}
}
