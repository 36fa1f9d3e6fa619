package rules

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"calltracker/problem"
)

// Source is the input of Compile: the part of a configuration that decides where
// calls go. Paths of problems begin with "calendars.",
// "schedules.", or "trackers." and a name. The tags of the types name the keys
// of the document and describe them for editors.
type Source struct {
	Calendars map[string]Calendar
	Schedules map[string]Schedule
	Trackers  map[string]Tracker

	// Incomplete reports whether the value at a path, or a part of it, could not
	// be read. Compile does not report what is missing there. It may be nil.
	Incomplete func(path string) bool
}

// Calendar is a list of days on which a schedule is closed.
type Calendar []Holiday

// Holiday is a day or a span of days, both ends included.
type Holiday struct {
	From Date   `json:"from" jsonschema:"required"`
	To   Date   `json:"to" jsonschema_description:"Last day; the same as from by default."`
	Name string `json:"name"`
}

// Schedule defines opening hours in one time zone.
type Schedule struct {
	Timezone string   `json:"timezone" jsonschema:"required" jsonschema_description:"IANA name, such as Asia/Dubai."`
	Open     []Window `json:"open" jsonschema_description:"Opening hours; windows must not overlap."`
	Closed   []string `json:"closed" jsonschema_description:"Calendars; on their days the schedule is closed all day. A window past midnight belongs to the day it starts on."`
}

// Window is a daily time span. It ends on the next day if To is not after From.
type Window struct {
	Days []Weekday `json:"days" jsonschema:"required,minItems=1"`
	From Clock     `json:"from" jsonschema:"required"`
	To   Clock     `json:"to" jsonschema:"required"`
}

// Tracker specifies how the calls of one call tracker are routed.
type Tracker struct {
	ContactCenter string  // Ziwo instance of the tracker, or ""
	Region        string  // country of national numbers, such as AE, or ""
	Timezone      string  // for conditions on weekday, time, and date; "" for that of the schedules
	Numbers       []DID   // DIDs of the tracker
	CallerID      string  // number shown to destinations unless a dial step names another
	Routes        []Route // the first that matches takes the call; the last has no conditions
}

// DID is a number that callers dial.
type DID struct {
	DID      string `json:"did" jsonschema:"required"`
	Label    string `json:"label"`
	Campaign string `json:"campaign"`
}

// Route is one entry of a tracker's list. A route without During and When takes
// every call.
type Route struct {
	ID        string      `json:"id" jsonschema:"required"`
	During    []string    `json:"during" jsonschema_description:"Schedules; at least one of them must be open."`
	When      []Condition `json:"when" jsonschema_description:"Conditions; all of them must hold."`
	Dial      []Dial      `json:"dial" jsonschema_description:"Numbers to ring, one after the other."`
	Order     Order       `json:"order" jsonschema_description:"listed (default), rotate (each call starts at the next number), or random."`
	Voicemail bool        `json:"voicemail" jsonschema_description:"Send the caller to voicemail if no number answers."`
	Split     []Share     `json:"split" jsonschema_description:"Shares of the calls; the same call always gets the same share."`
}

// Dial is one number to ring.
type Dial struct {
	Number   string  `json:"number" jsonschema:"required" jsonschema_description:"Sent to Ziwo exactly as written."`
	Timeout  Seconds `json:"timeout" jsonschema_description:"Ring time; 20s by default."`
	CallerID string  `json:"caller_id" jsonschema_description:"Number shown to this destination."`
}

// Share is one part of a split.
type Share struct {
	Weight    int    `json:"weight" jsonschema:"required,minimum=0,maximum=1000000"`
	Dial      []Dial `json:"dial"`
	Order     Order  `json:"order"`
	Voicemail bool   `json:"voicemail"`
}

// Condition compares one fact of a call with Value or Values.
type Condition struct {
	Field  string  `json:"field" jsonschema:"required" jsonschema_description:"did, caller, caller.country, caller.type, weekday, time, date, campaign, customer.found, customer.tags, customer.connection or request.<name>."`
	Op     Op      `json:"op" jsonschema:"required"`
	Value  *Value  `json:"value"`
	Values []Value `json:"values"`
	Not    bool    `json:"not" jsonschema_description:"Invert the comparison. A fact that is absent still does not match."`
}

// Value is one word that a condition compares with: text, a number, true, or
// false, as written.
type Value struct {
	Text     string
	Unquoted bool // written as a number, true, or false, so leading zeros may be lost
}

// Op is how a condition compares. The zero value is invalid.
type Op string

// The operators.
const (
	OpIs       Op = "is"
	OpIn       Op = "in"
	OpPrefix   Op = "prefix"
	OpSuffix   Op = "suffix"
	OpContains Op = "contains"
	OpExists   Op = "exists"
	OpMatches  Op = "matches"
	OpBetween  Op = "between"
)

// Ops returns all operators.
func Ops() []Op {
	return []Op{OpIs, OpIn, OpPrefix, OpSuffix, OpContains, OpExists, OpMatches, OpBetween}
}

// Order is the order in which a route rings its numbers. The zero value is
// Listed.
type Order string

// The orders.
const (
	Listed Order = "listed"
	Rotate Order = "rotate"
	Random Order = "random"
)

// Orders returns all orders.
func Orders() []Order { return []Order{Listed, Rotate, Random} }

// Seconds is a duration in whole seconds. Zero is "not given".
type Seconds int

// Date is a calendar date without a zone. The zero value is no date.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// ParseDate reads "2026-12-02".
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, fmt.Errorf("invalid date %q: write it as YYYY-MM-DD, such as 2026-12-02", problem.Clip(s))
	}
	return dateOf(t), nil
}

func dateOf(t time.Time) Date {
	y, m, d := t.Date()
	return Date{y, m, d}
}

// Compare returns a negative number if d is before other, zero if they are the
// same, and a positive number if d is after it.
func (d Date) Compare(other Date) int { return d.ordinal() - other.ordinal() }

// ordinal returns a number that orders dates.
func (d Date) ordinal() int { return (d.Year*12+int(d.Month))*31 + d.Day }

// before returns the day before.
func (d Date) before() Date {
	return dateOf(time.Date(d.Year, d.Month, d.Day-1, 12, 0, 0, 0, time.UTC))
}

func (d Date) weekday() time.Weekday {
	return time.Date(d.Year, d.Month, d.Day, 12, 0, 0, 0, time.UTC).Weekday()
}

// String returns the date as "2026-12-02".
func (d Date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day) }

// Clock is a time of day in minutes since midnight; 24:00 is 1440.
type Clock int

const midnight Clock = 24 * 60

// ParseClock reads "09:00"; "24:00" is the end of the day.
func ParseClock(s string) (Clock, error) {
	if s == "24:00" {
		return midnight, nil
	}
	t, err := time.Parse("15:04", s)
	if err != nil || len(s) != len("15:04") {
		return 0, fmt.Errorf("invalid time of day %q: write it as HH:MM, such as 09:00", problem.Clip(s))
	}
	return Clock(t.Hour()*60 + t.Minute()), nil
}

// String returns the time as "09:00".
func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", int(c)/60, int(c)%60) }

// Weekday is "mon" to "sun".
type Weekday string

// weekdays is indexed by time.Weekday.
var weekdays = []Weekday{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// Weekdays returns the days of the week from Monday on.
func Weekdays() []Weekday { return append(slices.Clone(weekdays[1:]), weekdays[0]) }

func (w Weekday) number() (time.Weekday, bool) {
	i := slices.Index(weekdays, w)
	return time.Weekday(i), i >= 0
}

var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ValidName reports whether s can be the name of a tracker, a route, a schedule
// and the like: names appear in URLs, paths, and metrics.
func ValidName(s string) bool { return validName.MatchString(s) }
