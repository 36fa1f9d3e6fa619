package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"calltracker/phone"
	"calltracker/problem"
)

// condition is a compiled Condition.
type condition struct {
	of     fact
	by     comparison
	not    bool
	days   uint8    // weekdays to compare with, a bit for each time.Weekday
	slot   int32    // of the fact in the evaluation, if it is compared as text
	words  []string // to compare with, in the form of the fact
	limits limits   // to compare with by range
	rare   *rareOperands
	text   *conditionText
}

// limits are the ends of a range. Both are part of it, except the end of a time.
type limits struct{ low, high int64 }

// rareOperands are the values that only a few conditions compare with.
type rareOperands struct {
	set     map[string]struct{} // the words if there are many
	pattern *regexp.Regexp
	dates   []Date
}

// conditionText is how a trace describes a condition.
type conditionText struct {
	field       string // as written
	requirement string // "be in AE, SA"
}

// comparison is an Op as a small integer.
type comparison uint8

const (
	byEquality comparison = iota + 1
	bySet
	byPrefix
	bySuffix
	byContent
	byPattern
	byRange
	byPresence
)

var comparisons = map[Op]comparison{
	OpIs: byEquality, OpIn: byEquality, OpPrefix: byPrefix, OpSuffix: bySuffix, OpContains: byContent,
	OpMatches: byPattern, OpBetween: byRange, OpExists: byPresence,
}

// fact is what a condition compares.
type fact uint8

const (
	factDID fact = iota + 1
	factCaller
	factCountry
	factType
	factWeekday
	factTime
	factDate
	factCampaign
	factFound
	factTags
	factConnection
	factRequest
)

// manyWords is the number of words above which a map lookup beats comparing them
// one by one.
const manyWords = 8

// operators lists the operators that each fact supports.
var operators = map[fact][]Op{
	factDID:        {OpIs, OpIn, OpPrefix, OpSuffix, OpContains, OpMatches, OpExists},
	factCaller:     {OpIs, OpIn, OpPrefix, OpSuffix, OpContains, OpMatches, OpExists},
	factCountry:    {OpIs, OpIn, OpExists},
	factType:       {OpIs, OpIn, OpExists},
	factWeekday:    {OpIs, OpIn, OpBetween},
	factTime:       {OpBetween},
	factDate:       {OpIs, OpIn, OpBetween},
	factCampaign:   {OpIs, OpIn, OpPrefix, OpSuffix, OpContains, OpMatches, OpExists},
	factFound:      {OpIs, OpExists},
	factTags:       {OpIs, OpIn, OpPrefix, OpSuffix, OpContains, OpMatches, OpExists},
	factConnection: {OpIs, OpIn, OpExists},
	factRequest:    {OpIs, OpIn, OpPrefix, OpSuffix, OpContains, OpMatches, OpBetween, OpExists},
}

var factNames = []struct {
	name string
	fact fact
}{
	{"did", factDID},
	{"caller", factCaller},
	{"caller.country", factCountry},
	{"caller.type", factType},
	{"weekday", factWeekday},
	{"time", factTime},
	{"date", factDate},
	{"campaign", factCampaign},
	{"customer.found", factFound},
	{"customer.tags", factTags},
	{"customer.connection", factConnection},
}

func factOf(field string) (fact, string) {
	for _, f := range factNames {
		if f.name == field {
			return f.fact, ""
		}
	}
	if name, ok := strings.CutPrefix(field, "request."); ok && name != "" {
		return factRequest, strings.ToLower(name)
	}
	return 0, ""
}

// ofCaller reports whether the fact is derived from the caller's number.
func (f fact) ofCaller() bool { return f == factCaller || f == factCountry || f == factType }

// ReadsCustomer reports whether the condition depends on what a CRM knows about
// the caller.
func (c Condition) ReadsCustomer() bool {
	f, _ := factOf(c.Field)
	return f.ofCustomer()
}

// ofCustomer reports whether the fact comes from a CRM.
func (f fact) ofCustomer() bool { return f == factFound || f == factTags || f == factConnection }

// evaluation is one decision in progress: the facts and what was derived from
// them. It contains the facts and not a pointer to them so that it stays on the
// stack.
type evaluation struct {
	Facts
	router    *Router
	campaign  string
	texts     [12]textFact // by slot
	schedules [32]presence // whether it is open, by index in the router
	clock     wallClock
	clockRead bool
}

// textFact is a fact that is compared as text.
type textFact struct {
	text  string
	state presence
}

// presence is a boolean that is computed once. The zero value means "not yet".
type presence uint8

const (
	absent presence = iota + 1
	present
)

// slots are the facts that are compared as text, in the order in which the
// evaluation stores them. The fields of the request follow.
var slots = [...]fact{factDID, factCaller, factCountry, factType, factCampaign, factFound, factConnection}

// fact returns the text in a slot. Slots beyond the last are read each time.
func (e *evaluation) fact(slot int32) textFact {
	if int(slot) >= len(e.texts) {
		return e.read(slot)
	}
	if e.texts[slot].state == 0 {
		e.texts[slot] = e.read(slot)
	}
	return e.texts[slot]
}

// read derives the text in a slot from the facts, in the form in which words are
// compiled.
func (e *evaluation) read(slot int32) textFact {
	var text string
	there := true
	if int(slot) >= len(slots) {
		text, there = e.Request[e.router.requests[int(slot)-len(slots)]]
	} else {
		switch slots[slot] {
		case factDID:
			text, there = e.DID.Key(), e.DID.Given()
		case factCaller:
			text, there = e.Caller.Key(), e.Caller.Given() && e.Caller.Type != phone.Withheld
		case factCountry:
			text, there = e.Caller.Country, e.Caller.Country != ""
		case factType:
			text, there = string(e.Caller.Type), e.Caller.Given()
		case factCampaign:
			text, there = e.campaign, e.campaign != ""
		case factFound:
			if there = e.known(); there {
				text = strconv.FormatBool(e.Customer.Found)
			}
		case factConnection:
			if e.known() {
				text = e.Customer.Connection
			}
			there = text != ""
		}
	}
	if there {
		return textFact{text, present}
	}
	return textFact{state: absent}
}

// open reports whether the router's schedule with the index is open.
func (e *evaluation) open(index int) bool {
	if index >= len(e.schedules) {
		return e.router.schedules[index].open(e.At)
	}
	if e.schedules[index] == 0 {
		e.schedules[index] = absent
		if e.router.schedules[index].open(e.At) {
			e.schedules[index] = present
		}
	}
	return e.schedules[index] == present
}

// now returns the wall clock in the tracker's zone.
func (e *evaluation) now() *wallClock {
	if !e.clockRead {
		e.clockRead, e.clock = true, readClock(e.At, e.router.zone)
	}
	return &e.clock
}

// holds reports whether the condition holds. If the fact is absent, no condition
// but "exists" holds, even if it is inverted.
func (c *condition) holds(e *evaluation) bool {
	switch c.of {
	case factWeekday, factTime, factDate:
		return c.comparesClock(e) != c.not
	case factTags:
		switch {
		case c.by == byPresence:
			return e.known() != c.not
		case !e.known():
			return false
		}
		return slices.ContainsFunc(e.Customer.Tags, func(tag string) bool { return c.compares(tag) }) != c.not
	default:
		f := e.fact(c.slot)
		switch {
		case c.by == byPresence:
			return (f.state == present) != c.not
		case f.state == absent:
			return false
		case c.by == byRange:
			return c.limits.contain(f.text) != c.not
		}
		return c.compares(f.text) != c.not
	}
}

func (c *condition) comparesClock(e *evaluation) bool {
	now := e.now()
	switch c.of {
	case factWeekday:
		return c.days>>now.weekday&1 == 1
	case factTime:
		minute := int64(now.minute)
		if c.limits.low < c.limits.high {
			return c.limits.low <= minute && minute < c.limits.high
		}
		return c.limits.low <= minute || minute < c.limits.high
	default:
		if c.by == byRange {
			date := int64(now.date.ordinal())
			return c.limits.low <= date && date <= c.limits.high
		}
		return slices.Contains(c.rare.dates, now.date)
	}
}

// contain reports whether text is a number within the limits.
func (l limits) contain(text string) bool {
	number, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return err == nil && float64(l.low) <= number && number <= float64(l.high)
}

// compares reports whether text compares with one of the words.
func (c *condition) compares(text string) bool {
	switch c.by {
	case bySet:
		_, in := c.rare.set[text]
		return in
	case byPattern:
		return c.rare.pattern.MatchString(text)
	}
	for _, word := range c.words {
		switch c.by {
		case byEquality:
			if text == word {
				return true
			}
		case byPrefix:
			if strings.HasPrefix(text, word) {
				return true
			}
		case bySuffix:
			if strings.HasSuffix(text, word) {
				return true
			}
		case byContent:
			if strings.Contains(text, word) {
				return true
			}
		}
	}
	return false
}

// within reports whether a value is in a range that may wrap around: fri to mon
// contains the weekend.
func within(value, low, high int64) bool {
	if low <= high {
		return low <= value && value <= high
	}
	return value >= low || value <= high
}

// why explains why the condition does not hold.
func (c *condition) why(e *evaluation) string {
	field := c.text.field
	var shown string
	switch c.of {
	case factWeekday:
		shown = string(weekdays[e.now().weekday])
	case factTime:
		shown = e.now().minute.String()
	case factDate:
		shown = e.now().date.String()
	case factTags:
		if !e.known() {
			return field + ": " + c.absent(e)
		}
		shown = "[" + strings.Join(e.Customer.Tags, ", ") + "]"
	default:
		f := e.fact(c.slot)
		if f.state == absent {
			return field + ": " + c.absent(e)
		}
		shown = problem.Clip(f.text)
	}
	must := "must"
	if c.not {
		must = "must not"
	}
	return fmt.Sprintf("%s: %s, %s %s", field, shown, must, c.text.requirement)
}

// absent explains why the fact is absent.
func (c *condition) absent(e *evaluation) string {
	switch {
	case c.of.ofCaller() && !e.Caller.Given():
		return "no caller was sent"
	case c.of.ofCaller() && e.Caller.Type == phone.Withheld:
		return "the caller withheld the number"
	case c.of == factCountry:
		return "the caller's country is unknown"
	case c.of == factCampaign:
		return "the dialed number has no campaign"
	case c.of.ofCustomer() && e.Customer != nil && e.Customer.Unknown != "":
		return "the customer is unknown (" + e.Customer.Unknown + ")"
	case c.of.ofCustomer():
		return "the customer is unknown"
	case c.of == factRequest:
		return "not sent"
	default:
		return "unknown"
	}
}

// condition compiles one condition of a tracker.
func (t *trackerCompiler) condition(doc Condition, path string) (condition, bool) {
	of, request := factOf(doc.Field)
	if of == 0 {
		if doc.Field != "" || !t.incomplete(path) {
			names := []string{"request."}
			for _, f := range factNames {
				names = append(names, f.name)
			}
			hint := ": use " + strings.Join(names[1:], ", ") + " or request.<name>"
			if similar := problem.Nearest(doc.Field, names); similar != "" && similar != doc.Field {
				hint = fmt.Sprintf("; did you mean %q?", similar)
			}
			t.Errorf(path+".field", "unknown field %q%s", problem.Clip(doc.Field), hint)
		}
		return condition{}, false
	}
	if doc.Op == "" && t.incomplete(path) {
		return condition{}, false
	}
	if !slices.Contains(operators[of], doc.Op) {
		t.Errorf(path+".op", "invalid operator %q for %s: use %s", doc.Op, doc.Field, joined(operators[of]))
		return condition{}, false
	}
	out := condition{of: of, by: comparisons[doc.Op], not: doc.Not, slot: t.slot(of, request)}
	t.router.readsCaller = t.router.readsCaller || of.ofCaller()
	t.router.readsCustomer = t.router.readsCustomer || of.ofCustomer()
	values, ok := t.values(doc, path)
	if !ok {
		return condition{}, false
	}
	if of == factWeekday || of == factTime || of == factDate {
		t.setZone()
	}
	before := len(t.Problems)
	t.compareWith(&out, doc.Op, values, path)
	t.texts = append(t.texts, conditionText{field: doc.Field, requirement: requirement(doc.Op, values)})
	out.text = &t.texts[len(t.texts)-1]
	return out, len(t.Problems) == before
}

// values checks how many values the operator takes.
func (t *trackerCompiler) values(doc Condition, path string) ([]Value, bool) {
	values := doc.Values
	if doc.Value != nil {
		if values != nil {
			t.Errorf(path, "use either value or values")
			return nil, false
		}
		values = []Value{*doc.Value}
	}
	switch {
	case doc.Op == OpExists && len(values) > 0:
		t.Errorf(path, `operator "exists" takes no value`)
	case doc.Op == OpExists:
		return nil, true
	case len(values) == 0:
		t.Errorf(path, "operator %q needs a value", doc.Op)
	case doc.Op == OpBetween && len(values) != 2:
		t.Errorf(path, `operator "between" takes two values, the first and the last`)
	case (doc.Op == OpIs || doc.Op == OpMatches) && len(values) != 1:
		t.Errorf(path, "operator %q takes one value: use \"in\" for several", doc.Op)
	default:
		return values, true
	}
	return nil, false
}

// requirement returns what the fact must be, to follow "must" or "must not".
func requirement(op Op, values []Value) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = v.Text
	}
	all := problem.Clip(strings.Join(words, ", "))
	switch op {
	case OpIs:
		return "be " + all
	case OpIn:
		return "be in " + all
	case OpPrefix:
		return "begin with " + all
	case OpSuffix:
		return "end with " + all
	case OpContains:
		return "contain " + all
	case OpMatches:
		return "match " + all
	case OpBetween:
		return "be between " + problem.Clip(words[0]) + " and " + problem.Clip(words[1])
	default:
		return "be sent"
	}
}

// slot returns the slot of a fact in the evaluation.
func (t *trackerCompiler) slot(of fact, request string) int32 {
	if of != factRequest {
		return int32(max(slices.Index(slots[:], of), 0)) // 0 for facts that are not compared as text
	}
	i, known := t.requestAt[request]
	if !known {
		i = len(t.router.requests)
		t.requestAt[request] = i
		t.router.requests = append(t.router.requests, request)
	}
	return int32(len(slots) + i)
}

// compareWith sets what the condition compares with: the values in the form of the
// fact.
func (t *trackerCompiler) compareWith(out *condition, op Op, values []Value, path string) {
	switch op {
	case OpExists:
		return
	case OpMatches:
		// Compile it alone first: it must not close the group that is put around it.
		_, err := regexp.Compile(values[0].Text)
		if err == nil {
			var pattern *regexp.Regexp
			pattern, err = regexp.Compile(`^(?:` + values[0].Text + `)$`)
			out.rare = &rareOperands{pattern: pattern}
		}
		if err != nil {
			t.Errorf(path, "invalid regular expression %q: %s", problem.Clip(values[0].Text), problem.Clip(err.Error()))
		}
		return
	case OpBetween:
		t.between(out, values, path)
		return
	}
	first := len(t.words)
	var dates []Date
	for _, v := range values {
		if v.Text == "" && t.incomplete(path) {
			continue // could not be read or resolved, and matches nothing
		}
		if v.Text == "" {
			t.Errorf(path, "a value is empty: it would match every call or none")
			return
		}
		text, err := wordFor(out, op, v, t.doc.Region, t.phone)
		if err != nil {
			t.Errorf(path, "%s", err)
			return
		}
		switch out.of {
		case factWeekday:
			day, _ := Weekday(text).number()
			out.days |= 1 << day
		case factDate:
			date, _ := ParseDate(text)
			dates = append(dates, date)
		default:
			t.words = append(t.words, text)
		}
	}
	words := t.words[first:len(t.words):len(t.words)]
	switch {
	case dates != nil:
		out.rare = &rareOperands{dates: dates}
	case out.by == byEquality && len(words) > manyWords:
		set := make(map[string]struct{}, len(words))
		for _, w := range words {
			set[w] = struct{}{}
		}
		out.by, out.rare = bySet, &rareOperands{set: set}
	default:
		out.words = words
	}
}

// wordFor returns a value in the form of its fact.
func wordFor(out *condition, op Op, v Value, region string, parse func(raw, region string) phone.Number) (text string, err error) {
	switch out.of {
	case factDID, factCaller:
		if v.Unquoted {
			return "", fmt.Errorf("write the number in quotes to keep its leading zeros: %q", v.Text)
		}
		switch op {
		case OpPrefix:
			text = phone.E164Prefix(v.Text, region)
		case OpSuffix, OpContains:
			text = strings.Map(digitOnly, v.Text)
		default:
			text = parse(v.Text, region).Key()
		}
		if text == "" { // would match every number
			return "", fmt.Errorf("invalid phone number %q: it has no digits", problem.Clip(v.Text))
		}
		return text, nil
	case factCountry:
		country := strings.ToUpper(v.Text)
		if !phone.KnownRegion(country) {
			return "", fmt.Errorf("invalid country %q: use two letters such as AE", problem.Clip(v.Text))
		}
		return country, nil
	case factType:
		if !slices.Contains(phone.Types(), phone.Type(v.Text)) {
			return "", fmt.Errorf("invalid number type %q: use one of %s", problem.Clip(v.Text), joined(phone.Types()))
		}
	case factWeekday:
		if _, ok := Weekday(v.Text).number(); !ok {
			return "", fmt.Errorf("invalid weekday %q: use one of %s", problem.Clip(v.Text), joined(weekdays))
		}
	case factDate:
		if _, err := ParseDate(v.Text); err != nil {
			return "", err
		}
	case factFound:
		if v.Text != "true" && v.Text != "false" {
			return "", fmt.Errorf("invalid value %q: customer.found is true or false", problem.Clip(v.Text))
		}
	}
	return v.Text, nil
}

func digitOnly(r rune) rune {
	if r >= '0' && r <= '9' {
		return r
	}
	return -1
}

func (t *trackerCompiler) between(out *condition, values []Value, path string) {
	read := func(v Value) (int64, error) {
		switch out.of {
		case factWeekday:
			day, ok := Weekday(v.Text).number()
			if !ok {
				return 0, fmt.Errorf("invalid weekday %q: use one of %s", problem.Clip(v.Text), joined(weekdays))
			}
			return int64(day), nil
		case factTime:
			clock, err := ParseClock(v.Text)
			return int64(clock), err
		case factDate:
			date, err := ParseDate(v.Text)
			return int64(date.ordinal()), err
		default:
			number, err := strconv.ParseInt(v.Text, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("invalid number %q: use a whole number", problem.Clip(v.Text))
			}
			return number, nil
		}
	}
	low, errLow := read(values[0])
	high, errHigh := read(values[1])
	for _, err := range []error{errLow, errHigh} {
		if err != nil {
			t.Errorf(path, "%s", err)
		}
	}
	if errLow != nil || errHigh != nil {
		return
	}
	wraps := out.of == factWeekday || out.of == factTime
	if high < low && !wraps || out.of == factTime && low == high {
		t.Errorf(path, "nothing is between %s and %s", values[0].Text, values[1].Text)
	}
	for day := range int64(len(weekdays)) {
		if out.of == factWeekday && within(day, low, high) {
			out.days |= 1 << day
		}
	}
	out.limits = limits{low, high}
}

func joined[T ~string](words []T) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}
