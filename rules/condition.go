package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"calltracker/phone"
)

// condition is a compiled Condition. It is immutable.
type condition struct {
	field   string // as written, for the trace
	of      fact
	request string // lower-case name of a request.<name>
	op      Op
	not     bool
	words   []string            // what to compare with, in the form that the fact has
	set     map[string]struct{} // the same, when there are many
	days    []int               // dates to compare with
	pattern *regexp.Regexp
	low     int // between: both ends included, but the end of a time
	high    int
	zone    int    // index of the router's zone, for weekday, time and date
	says    string // what it asks for: "be in AE, SA"
}

// fact is what a condition looks at.
type fact int

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

// manyWords is where a map look-up starts to beat comparing one by one.
const manyWords = 8

// operators says which comparisons make sense for a fact.
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

// ofCaller tells whether the fact is read from the caller's number.
func (f fact) ofCaller() bool { return f == factCaller || f == factCountry || f == factType }

// evaluation is one decision in the making: the facts and what was worked out
// from them. It lives on the stack.
type evaluation struct {
	*Facts
	router    *Router
	campaign  string
	schedules [32]int8 // by index in the router: 0 not looked at, 1 open, -1 closed
	clocks    [4]struct {
		read bool
		wallClock
	}
}

func (e *evaluation) open(index int) bool {
	if index >= len(e.schedules) {
		return e.router.schedules[index].open(e.At)
	}
	if e.schedules[index] == 0 {
		e.schedules[index] = -1
		if e.router.schedules[index].open(e.At) {
			e.schedules[index] = 1
		}
	}
	return e.schedules[index] > 0
}

func (e *evaluation) clock(zone int) wallClock {
	if zone >= len(e.clocks) {
		return readClock(e.At, e.router.zones[zone])
	}
	c := &e.clocks[zone]
	if !c.read {
		c.read, c.wallClock = true, readClock(e.At, e.router.zones[zone])
	}
	return c.wallClock
}

// holds evaluates the condition. A fact that is not there never holds, inverted
// or not; only "exists" asks about that.
func (c *condition) holds(e *evaluation) bool {
	if c.op == OpExists {
		return c.given(e) != c.not
	}
	if !c.given(e) {
		return false
	}
	return c.compare(e) != c.not
}

// given tells whether the fact is there at all.
func (c *condition) given(e *evaluation) bool {
	switch c.of {
	case factDID:
		return e.DID.Given()
	case factCaller:
		return e.Caller.Given() && e.Caller.Type != phone.Withheld
	case factType:
		return e.Caller.Given()
	case factCountry:
		return e.Caller.Country != ""
	case factCampaign:
		return e.campaign != ""
	case factFound, factTags:
		return e.Customer != nil
	case factConnection:
		return e.Customer != nil && e.Customer.Connection != ""
	case factRequest:
		_, sent := e.Request[c.request]
		return sent
	default:
		return true
	}
}

func (c *condition) compare(e *evaluation) bool {
	switch c.of {
	case factWeekday:
		day := int(e.clock(c.zone).weekday)
		if c.op == OpBetween {
			return within(day, c.low, c.high)
		}
		return c.word(string(weekdays[day]))
	case factTime:
		minute := int(e.clock(c.zone).minute)
		if c.low < c.high {
			return c.low <= minute && minute < c.high
		}
		return c.low <= minute || minute < c.high
	case factDate:
		date := e.clock(c.zone).date
		if c.op == OpBetween {
			return c.low <= date.ordinal() && date.ordinal() <= c.high
		}
		return slices.Contains(c.days, date.ordinal())
	case factTags:
		return slices.ContainsFunc(e.Customer.Tags, c.word)
	case factRequest:
		if c.op == OpBetween {
			number, err := strconv.ParseFloat(strings.TrimSpace(e.Request[c.request]), 64)
			return err == nil && float64(c.low) <= number && number <= float64(c.high)
		}
	}
	return c.word(c.value(e))
}

// value is the fact as text, in the form in which words are compiled.
func (c *condition) value(e *evaluation) string {
	switch c.of {
	case factDID:
		return e.DID.Key()
	case factCaller:
		return e.Caller.Key()
	case factCountry:
		return e.Caller.Country
	case factType:
		return string(e.Caller.Type)
	case factCampaign:
		return e.campaign
	case factFound:
		return strconv.FormatBool(e.Customer.Found)
	case factConnection:
		return e.Customer.Connection
	case factRequest:
		return e.Request[c.request]
	default:
		return ""
	}
}

func (c *condition) word(value string) bool {
	switch c.op {
	case OpIs, OpIn:
		if c.set != nil {
			_, in := c.set[value]
			return in
		}
		return slices.Contains(c.words, value)
	case OpPrefix:
		for _, w := range c.words {
			if strings.HasPrefix(value, w) {
				return true
			}
		}
	case OpSuffix:
		for _, w := range c.words {
			if strings.HasSuffix(value, w) {
				return true
			}
		}
	case OpContains:
		for _, w := range c.words {
			if strings.Contains(value, w) {
				return true
			}
		}
	case OpMatches:
		return c.pattern.MatchString(value)
	}
	return false
}

// within is between on a wheel: fri to mon passes over the weekend.
func within(value, low, high int) bool {
	if low <= high {
		return low <= value && value <= high
	}
	return value >= low || value <= high
}

// why says in words why the condition does not hold.
func (c *condition) why(e *evaluation) string {
	if c.op != OpExists && !c.given(e) {
		return c.field + ": " + c.absent(e)
	}
	shown := ""
	switch c.of {
	case factWeekday:
		shown = string(weekdays[e.clock(c.zone).weekday])
	case factTime:
		shown = e.clock(c.zone).minute.String()
	case factDate:
		shown = e.clock(c.zone).date.String()
	case factTags:
		if e.Customer != nil {
			shown = "[" + strings.Join(e.Customer.Tags, ", ") + "]"
		}
	default:
		if c.given(e) {
			shown = clip(c.value(e))
		}
	}
	must := "must"
	if c.not {
		must = "must not"
	}
	if c.op == OpExists && !c.not {
		return c.field + ": " + c.absent(e)
	}
	return fmt.Sprintf("%s: %s, %s %s", c.field, shown, must, c.says)
}

// absent says in words why the fact is not there.
func (c *condition) absent(e *evaluation) string {
	switch {
	case c.of.ofCaller() && !e.Caller.Given():
		return "no caller was sent"
	case c.of.ofCaller() && e.Caller.Type == phone.Withheld:
		return "the caller withheld the number"
	case c.of == factCountry:
		return "the country of the caller is not known"
	case c.of == factCampaign:
		return "the number dialled has no campaign"
	case c.of == factFound, c.of == factTags, c.of == factConnection:
		return "no customer known"
	case c.of == factRequest:
		return "it was not sent"
	default:
		return "it is not known"
	}
}

// condition compiles one condition of a tracker.
func (c *compiler) condition(t *trackerCompiler, doc Condition, path string) (condition, bool) {
	of, request := factOf(doc.Field)
	if of == 0 {
		if doc.Field != "" || !c.reported(path) {
			names := []string{"request."}
			for _, f := range factNames {
				names = append(names, f.name)
			}
			hint := "; known are " + strings.Join(names[1:], ", ") + " and request.<name>"
			if near := nearest(doc.Field, names); near != "" && near != doc.Field {
				hint = fmt.Sprintf("; did you mean %q?", near)
			}
			c.fail(path+".field", "unknown field %q%s", doc.Field, hint)
		}
		return condition{}, false
	}
	if doc.Op == "" && c.reported(path) {
		return condition{}, false
	}
	if !slices.Contains(operators[of], doc.Op) {
		c.fail(path+".op", "%s cannot be compared by %q; it takes %s", doc.Field, doc.Op, list(operators[of]))
		return condition{}, false
	}
	out := condition{field: doc.Field, of: of, request: request, op: doc.Op, not: doc.Not}
	t.readsCaller = t.readsCaller || of.ofCaller()
	values, ok := c.values(doc, path)
	if !ok {
		return condition{}, false
	}
	if of == factWeekday || of == factTime || of == factDate {
		out.zone = t.conditionZone()
	}
	before := len(c.problems)
	c.compareWith(t, &out, values, path)
	out.says = says(doc.Op, values)
	return out, len(c.problems) == before
}

// values checks how many values the operator takes.
func (c *compiler) values(doc Condition, path string) ([]Value, bool) {
	values := doc.Values
	if doc.Value != nil {
		if values != nil {
			c.fail(path, "write value or values, not both")
			return nil, false
		}
		values = []Value{*doc.Value}
	}
	switch {
	case doc.Op == OpExists && len(values) > 0:
		c.fail(path, `"exists" takes no value`)
	case doc.Op == OpExists:
		return nil, true
	case len(values) == 0:
		c.fail(path, "%q needs a value", doc.Op)
	case doc.Op == OpBetween && len(values) != 2:
		c.fail(path, `"between" takes two values, the first and the last`)
	case (doc.Op == OpIs || doc.Op == OpMatches) && len(values) != 1:
		c.fail(path, "%q takes one value; use \"in\" for several", doc.Op)
	default:
		return values, true
	}
	return nil, false
}

// says is what the condition asks of its fact, after "must" or "must not".
func says(op Op, values []Value) string {
	words := make([]string, len(values))
	for i, v := range values {
		words[i] = v.Text
	}
	all := clip(strings.Join(words, ", "))
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
		return "be between " + clip(words[0]) + " and " + clip(words[1])
	default:
		return "be sent"
	}
}

// compareWith brings the values into the form of the fact.
func (c *compiler) compareWith(t *trackerCompiler, out *condition, values []Value, path string) {
	switch out.op {
	case OpExists:
		return
	case OpMatches:
		// On its own first: the brackets around it must not be closed by its own.
		_, err := regexp.Compile(values[0].Text)
		if err == nil {
			out.pattern, err = regexp.Compile(`^(?:` + values[0].Text + `)$`)
		}
		if err != nil {
			c.fail(path, "%q is no regular expression: %s", clip(values[0].Text), clip(err.Error()))
		}
		return
	case OpBetween:
		c.between(out, values, path)
		return
	}
	for _, v := range values {
		if v.Text == "" && c.reported(path) {
			continue // it could not be read or resolved, and matches nothing
		}
		if v.Text == "" {
			c.fail(path, "a value is empty; it would match everything or nothing")
			return
		}
		word, problem := wordFor(out, v, t.doc.Region, c.phone)
		if problem != "" {
			c.fail(path, "%s", problem)
			return
		}
		out.words = append(out.words, word)
		if date, err := ParseDate(word); err == nil && out.of == factDate {
			out.days = append(out.days, date.ordinal())
		}
	}
	if (out.op == OpIs || out.op == OpIn) && len(out.words) > manyWords {
		out.set = make(map[string]struct{}, len(out.words))
		for _, w := range out.words {
			out.set[w] = struct{}{}
		}
	}
}

// wordFor is a value in the form of its fact, or what is wrong with it.
func wordFor(out *condition, v Value, region string, parse func(raw, region string) phone.Number) (word, problem string) {
	switch out.of {
	case factDID, factCaller:
		if !v.quoted {
			return "", fmt.Sprintf("write the number in quotes, or its leading zeros get lost: %q", v.Text)
		}
		switch out.op {
		case OpPrefix:
			word = phone.Prefix(v.Text, region)
		case OpSuffix, OpContains:
			word = strings.Map(digitOnly, v.Text)
		default:
			word = parse(v.Text, region).Key()
		}
		if word == "" { // it would match every number
			return "", fmt.Sprintf("%q has no digits to compare with", clip(v.Text))
		}
		return word, ""
	case factCountry:
		country := strings.ToUpper(v.Text)
		if !phone.KnownRegion(country) {
			return "", fmt.Sprintf("%q is no country code; use two letters such as AE", clip(v.Text))
		}
		return country, ""
	case factType:
		if !slices.Contains(phone.Types(), phone.Type(v.Text)) {
			return "", fmt.Sprintf("%q is no type of number; use %s", clip(v.Text), list(phone.Types()))
		}
	case factWeekday:
		if _, ok := Weekday(v.Text).number(); !ok {
			return "", fmt.Sprintf("%q is no weekday; use %s", clip(v.Text), list(weekdays))
		}
	case factDate:
		if _, err := ParseDate(v.Text); err != nil {
			return "", err.Error()
		}
	case factFound:
		if v.Text != "true" && v.Text != "false" {
			return "", fmt.Sprintf("%s is true or false, not %q", out.field, clip(v.Text))
		}
	}
	return v.Text, ""
}

func digitOnly(r rune) rune {
	if r >= '0' && r <= '9' {
		return r
	}
	return -1
}

func (c *compiler) between(out *condition, values []Value, path string) {
	read := func(v Value) (int, error) {
		switch out.of {
		case factWeekday:
			day, ok := Weekday(v.Text).number()
			if !ok {
				return 0, fmt.Errorf("%q is no weekday; use %s", clip(v.Text), list(weekdays))
			}
			return int(day), nil
		case factTime:
			clock, err := ParseClock(v.Text)
			return int(clock), err
		case factDate:
			date, err := ParseDate(v.Text)
			return date.ordinal(), err
		default:
			number, err := strconv.Atoi(v.Text)
			if err != nil {
				return 0, fmt.Errorf("%q is no whole number", clip(v.Text))
			}
			return number, nil
		}
	}
	var errLow, errHigh error
	out.low, errLow = read(values[0])
	out.high, errHigh = read(values[1])
	for _, err := range []error{errLow, errHigh} {
		if err != nil {
			c.fail(path, "%s", err)
		}
	}
	if errLow != nil || errHigh != nil {
		return
	}
	wraps := out.of == factWeekday || out.of == factTime
	if out.high < out.low && !wraps || out.of == factTime && out.low == out.high {
		c.fail(path, "nothing is between %s and %s", values[0].Text, values[1].Text)
	}
}

func list[T ~string](words []T) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return strings.Join(out, ", ")
}
