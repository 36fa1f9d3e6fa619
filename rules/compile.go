package rules

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"calltracker/phone"
)

// Driver is what the engine knows of one kind of CRM: its name, and what is wrong
// with the settings of a connection.
type Driver struct {
	Name    string
	Secrets []string // the settings that are secret
	Check   func(settings map[string]string) []SettingProblem
}

// SettingProblem is one thing wrong with a setting of a connection. It quotes no
// value.
type SettingProblem struct{ Setting, Message string }

// Load parses and compiles a document. The Set is nil when there are errors;
// there may be warnings beside a Set. Without drivers, the settings of
// connections are not looked at.
func Load(text []byte, format Format, resolve Resolver, drivers ...Driver) (*Set, Problems) {
	doc, problems := Parse(text, format, resolve)
	if len(problems.Errors()) >= maxProblems {
		return nil, problems // what the rest means would only be guessed
	}
	set, more := compile(doc, problems, drivers)
	if len(more.Errors()) > 0 {
		return nil, more
	}
	return set, more
}

// Compile checks what a document means and makes it ready to decide. Every
// problem is reported. The Set is nil when there are errors.
func Compile(doc *Document) (*Set, Problems) {
	set, problems := compile(doc, nil, nil)
	if len(problems.Errors()) > 0 {
		return nil, problems
	}
	return set, problems
}

// compile adds what it finds to the problems of reading, so that a value that
// could not be read is not complained of twice.
func compile(doc *Document, found Problems, drivers []Driver) (*Set, Problems) {
	c := &compiler{
		doc: doc, problems: found, zones: map[string]*time.Location{}, phones: map[numberKey]phone.Number{},
		usedCalendars: map[string]bool{}, usedSchedules: map[string]bool{}, schedules: map[string]*schedule{}, schedulePlaces: map[string]uint32{},
		bad: map[string]bool{}, drivers: map[string]Driver{}, writer: newWriter(),
	}
	for _, p := range found {
		c.bad[p.Path] = true
		for path := parent(p.Path); path != ""; path = parent(path) {
			if _, known := c.bad[path]; known {
				break
			}
			c.bad[path] = false
		}
	}
	for _, d := range drivers {
		c.drivers[d.Name] = d
	}
	for _, name := range keysOf(doc.Schedules) {
		c.schedules[name] = c.schedule(name, doc.Schedules[name])
		c.schedulePlaces[name] = add(&c.tables.schedules, c.schedules[name]).from
	}
	c.set = &Set{doc: doc, routers: make(map[string]*Router, len(doc.Trackers)), schedules: c.schedules}
	routers := make([]Router, len(doc.Trackers))
	for i, name := range keysOf(doc.Trackers) {
		c.set.routers[name] = &routers[i]
		c.tracker(name, doc.Trackers[name], &routers[i])
	}
	c.finish()
	c.contactCenters()
	c.sites()
	c.connections()
	c.tests()
	c.unused()
	c.sharedNumbers()
	c.problems.sort()
	for i := range doc.Tests {
		c.set.testPlaces = append(c.set.testPlaces, doc.place(fmt.Sprintf("tests[%d]", i)))
	}
	c.set.doc = slim(doc)
	return c.set, c.problems
}

// slim is the document without what it is compiled into: large documents would
// fill the memory twice, and every collection of garbage would look through it.
func slim(doc *Document) *Document {
	doc.places = nil
	out := *doc
	out.Trackers = make(map[string]Tracker, len(doc.Trackers))
	for id, t := range doc.Trackers {
		t.Routes = nil
		out.Trackers[id] = t
	}
	return &out
}

type compiler struct {
	*writer
	doc            *Document
	set            *Set
	problems       Problems
	errors         int             // among the problems, that compiling added
	bad            map[string]bool // paths that could not be read: true; what they are in: false
	zones          map[string]*time.Location
	schedules      map[string]*schedule
	schedulePlaces map[string]uint32 // in the tables
	usedCalendars  map[string]bool
	usedSchedules  map[string]bool
	phones         map[numberKey]phone.Number
	drivers        map[string]Driver
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

func (c *compiler) fail(path, format string, args ...any) { c.add(false, path, format, args...) }
func (c *compiler) warn(path, format string, args ...any) { c.add(true, path, format, args...) }

func (c *compiler) add(warning bool, path, format string, args ...any) {
	if !warning {
		c.errors++
	}
	at := c.doc.place(path)
	p := Problem{Line: at.line, Column: at.column, Path: path, Message: fmt.Sprintf(format, args...), Warning: warning}
	if !warning && c.errors >= maxProblems {
		if c.errors > maxProblems {
			return
		}
		p.Path, p.Message = "", "there are more problems than these"
	}
	c.problems = append(c.problems, p)
}

// reported tells whether path, or anything in it, could not be read.
func (c *compiler) reported(path string) bool {
	_, known := c.bad[path]
	return known
}

// unknown reports a name that is not among those that are known.
func unknown[V any](c *compiler, path, what, name string, known map[string]V) {
	const most = 100 // hints; a document with more slips is wrong in another way
	hint := ""
	if c.errors < most {
		if near := nearest(name, keysOf(known)); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
	}
	c.fail(path, "unknown %s %q%s", what, clip(name), hint)
}

func keysOf[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// usualCustomerWait is how long calls wait for the CRMs unless a tracker says otherwise.
const usualCustomerWait = 150 * time.Millisecond

// reserved is the id of the demonstration endpoints that Ziwo documents.
const reserved = "example"

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
	*router = Router{tables: c.tables, id: c.ofOne(id), region: c.ofMany(doc.Region), blocked: doc.Blocked}
	if id == reserved {
		c.fail(t.path, "%q is reserved for Ziwo's demonstration endpoints; choose another id", id)
	}
	if doc.Region != "" && !phone.KnownRegion(doc.Region) && !c.reported(t.path+".region") {
		c.fail(t.path+".region", "%q is no country; use two capital letters such as AE", clip(doc.Region))
	}
	if doc.Timezone != "" {
		c.zone(doc.Timezone, t.path+".timezone")
	}
	t.contactCenter()
	t.router.start = t.keys("start", doc.Keys.Start)
	t.router.end = t.keys("end", doc.Keys.End)
	if doc.CallerID != "" {
		t.dialable(t.path+".caller_id", doc.CallerID)
	}
	t.numbers()
	router.rules.from = uint32(len(c.rules))
	t.routes()
	router.schedules, router.requests = put(c.writer, t.schedules), put(c.writer, t.requests)
	router.until, router.rules.size = uint32(len(c.memory)), uint32(len(c.rules))-router.rules.from
	router.readsCaller, router.readsCustomer = t.readsCaller, t.readsCustomer
	t.router.customerWait = usualCustomerWait
	if doc.CustomerWait != nil {
		t.router.customerWait = time.Duration(*doc.CustomerWait)
		if !t.readsCustomer && !c.reported(t.path+".customer_wait") {
			c.warn(t.path+".customer_wait", "no route of this tracker looks at the customer, so no call waits")
		}
	}
}

// contactCenter is the named one, or the only one there is: else a call that
// comes by the webhook as well would be two calls.
func (t *trackerCompiler) contactCenter() {
	name, known := t.doc.ContactCenter, t.compiler.doc.ContactCenters
	if _, ok := known[name]; name != "" && !ok {
		unknown(t.compiler, t.path+".contact_center", "contact center", name, known)
	}
	if name == "" && len(known) == 1 {
		name = keysOf(known)[0]
	}
	t.router.contactCenter = t.ofMany(name)
}

func (t *trackerCompiler) keys(which string, doc KeyList) uint32 {
	path := t.path + ".keys." + which
	ring := KeyRing{open: doc.Open}
	if doc.Open {
		t.warn(path, "no key is asked: anyone who knows the address can send %s calls", which)
		return t.ring(ring)
	}
	if len(doc.Keys) == 0 && !t.reported(t.path+".keys") && !t.bad[t.path] {
		t.warn(path, "there is no %s key, so every %s call is refused; give a list of keys, or the word open", which, which)
	}
	for i, key := range doc.Keys {
		at := fmt.Sprintf("%s[%d]", path, i)
		if key.Literal() {
			t.warn(at, "the key stands in the document; ${env:NAME} or ${secret:NAME} keeps it out")
		}
		ring.add(key.Reveal())
	}
	return t.ring(ring)
}

func (r *KeyRing) add(key string) {
	if key != "" { // an empty key would let everyone in
		r.hashes = append(r.hashes, sha256.Sum256([]byte(key)))
	}
}

// KeyRing is the keys that open one door. The zero value opens to nobody. It is
// immutable and safe for concurrent use.
type KeyRing struct {
	open   bool
	hashes [][sha256.Size]byte
}

// Open tells whether no key is asked at all.
func (r KeyRing) Open() bool { return r.open }

// Admits tells whether key is one of the ring's. It takes the same time for
// every wrong key of a length.
func (r KeyRing) Admits(key string) bool {
	if r.open {
		return true
	}
	hash := sha256.Sum256([]byte(key))
	admitted := 0
	for i := range r.hashes {
		admitted |= subtle.ConstantTimeCompare(hash[:], r.hashes[i][:])
	}
	return admitted == 1
}

var dialable = regexp.MustCompile(`^(\+?[0-9]{1,20}|agent-[0-9]{1,10})$`)

// dialable warns of what Ziwo's own dialer would not take, and refuses what
// cannot have been meant.
func (t *trackerCompiler) dialable(path, number string) {
	switch {
	case number == "" || t.reported(path):
	case strings.ContainsFunc(number, func(r rune) bool { return r < ' ' || r == 0x7f }) || len(number) > 64:
		t.fail(path, "%q is no number", clip(number))
	case !dialable.MatchString(number):
		t.warn(path, "%q is not only digits, with a + at most; Ziwo may not dial it", clip(number))
	}
}

func (t *trackerCompiler) numbers() {
	t.dids = make(map[string]*listed, 4*len(t.doc.Numbers))
	seen := map[string]int{}
	var all []*listed
	for i, doc := range t.doc.Numbers {
		path := fmt.Sprintf("%s.numbers[%d]", t.path, i)
		if doc.DID == "" {
			if !t.reported(path) {
				t.fail(path, "the number is empty")
			}
			continue
		}
		number := t.phone(doc.DID, t.doc.Region)
		if first, twice := seen[number.Key()]; twice {
			t.fail(path, "%s is listed twice; the first is numbers[%d]", clip(doc.DID), first)
			continue
		}
		seen[number.Key()] = i
		if number.E164 == "" {
			hint := ""
			if t.doc.Region == "" {
				hint = "; set region, or write it with + and the country code"
			}
			t.warn(path, "%s is no number that can be read%s; it matches only as it is written", clip(doc.DID), hint)
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
			t.fail(path+".id", "route %q is here twice; the first is routes[%d]", clip(doc.ID), first)
		case !identifier.MatchString(doc.ID):
			t.fail(path+".id", "%q is no name: use up to 64 letters, digits, dots, dashes or underscores", clip(doc.ID))
		default:
			seen[doc.ID] = i
		}
		routes = append(routes, t.route(doc, path))
	}
	t.router.routes = put(t.writer, routes)
	n := len(t.doc.Routes)
	if n == 0 && !t.reported(t.path) {
		t.fail(t.path, "routes is missing")
	}
	if n > 0 {
		if last := t.doc.Routes[n-1]; len(last.During) > 0 || len(last.When) > 0 {
			t.fail(fmt.Sprintf("%s.routes[%d]", t.path, n-1), "the last route must take every call: it can have neither during nor when")
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
			if !t.reported(at) {
				unknown(t.compiler, at, "schedule", name, t.compiler.schedules)
			}
			continue
		}
		t.usedSchedules[name] = true
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
		if len(doc.Dial) == 0 && !doc.Voicemail && !t.reported(path) {
			t.warn(path, "this route rings nobody and has no voicemail")
		}
		return out
	}
	if doc.Dial != nil || doc.Order != "" {
		t.fail(path, "a route has dial or split, not both; order goes into the shares")
	}
	var outcomes []outcome
	var weights []uint64
	for i, share := range doc.Split {
		at := fmt.Sprintf("%s.split[%d]", path, i)
		outcomes = append(outcomes, t.outcome(share.Dial, share.Order, share.Voicemail || doc.Voicemail, at))
		drawn.total += uint64(max(share.Weight, 0))
		weights = append(weights, drawn.total)
		if len(share.Dial) == 0 && !share.Voicemail && !doc.Voicemail && !t.reported(at) {
			t.warn(at, "this share rings nobody and has no voicemail")
		}
	}
	out.outcomes, drawn.weights = put(t.writer, outcomes), put(t.writer, weights)
	out.lots = put(t.writer, []lots{drawn})
	if drawn.total == 0 && !t.reported(path+".split") {
		t.fail(path+".split", "the weights add up to nothing; at least one must be over 0")
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
			t.warn(at+".timeout", "%d s is a long time to listen to a ringing phone (over %d s)", seconds, longRing)
		}
		t.dialable(at+".number", d.Number)
		if d.CallerID != "" {
			t.dialable(at+".caller_id", d.CallerID)
		}
		if listed, loop := t.dids[t.phone(d.Number, t.doc.Region).Key()]; loop && d.Number != "" {
			t.warn(at+".number", "this is the tracker's own number %s: the call would come back here", listed.number.Raw)
		}
		rules = append(rules, Rule{
			Action: ActionCall, Number: d.Number, CallerID: cmp.Or(d.CallerID, t.doc.CallerID), Timeout: seconds,
		})
	}
	if total > longAttempt {
		t.warn(path+".dial", "all numbers together ring for %d s (over %d s)", total, longAttempt)
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
		unsure[later] = t.reported(path(later))
		for earlier := range later {
			e, l := &t.doc.Routes[earlier], &t.doc.Routes[later]
			if !unsure[earlier] && !unsure[later] && hides(e, l) {
				t.warn(path(later), "route %q never gets a call: %q before it takes all of them", l.ID, e.ID)
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
		t.warn(t.path, "weekday, time and date are read in UTC; set timezone")
	}
	t.router.zone = location
}

// unused warns of what nothing refers to.
func (c *compiler) unused() {
	for _, name := range keysOf(c.doc.Schedules) {
		if !c.usedSchedules[name] {
			c.warn("schedules."+name, "nothing uses schedule %q", name)
		}
	}
	for _, name := range keysOf(c.doc.Calendars) {
		if !c.usedCalendars[name] {
			c.warn("calendars."+name, "nothing uses calendar %q", name)
		}
	}
}

// sharedNumbers warns of a DID in two trackers: Ziwo links a number to one.
func (c *compiler) sharedNumbers() {
	owner := map[string]string{}
	for _, id := range keysOf(c.doc.Trackers) {
		for i, doc := range c.doc.Trackers[id].Numbers {
			key := c.phone(doc.DID, c.doc.Trackers[id].Region).Key()
			if first, taken := owner[key]; taken && first != id && key != "" {
				c.warn(fmt.Sprintf("trackers.%s.numbers[%d]", id, i), "%s is listed by tracker %q as well", clip(doc.DID), first)
				continue
			}
			owner[key] = id
		}
	}
}
