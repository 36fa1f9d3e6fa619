package rules

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

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
		return Date{}, fmt.Errorf("%q is no date; write it like 2026-12-02", clip(s))
	}
	return dateOf(t), nil
}

func dateOf(t time.Time) Date {
	y, m, d := t.Date()
	return Date{y, m, d}
}

// Compare orders dates.
func (d Date) Compare(other Date) int { return d.ordinal() - other.ordinal() }

// ordinal grows by at least one from a date to any later one.
func (d Date) ordinal() int { return (d.Year*12+int(d.Month))*31 + d.Day }

// before is the calendar day before, by the calendar and not by 24 hours.
func (d Date) before() Date {
	return dateOf(time.Date(d.Year, d.Month, d.Day-1, 12, 0, 0, 0, time.UTC))
}

func (d Date) weekday() time.Weekday {
	return time.Date(d.Year, d.Month, d.Day, 12, 0, 0, 0, time.UTC).Weekday()
}

// String is "2026-12-02".
func (d Date) String() string { return fmt.Sprintf("%04d-%02d-%02d", d.Year, d.Month, d.Day) }

func (d *Date) decodeNode(dec *decoder, n *node, path string) {
	if n.kind != kindText {
		dec.report(n, path, "expected a date like 2026-12-02, found %s", n.found())
		return
	}
	date, err := ParseDate(n.text)
	if err != nil {
		dec.report(n, path, "%s", err)
		return
	}
	*d = date
}

func (h *Holiday) decodeNode(dec *decoder, n *node, path string) {
	if n.kind != kindMapping {
		h.From.decodeNode(dec, n, path)
		h.To = h.From
		return
	}
	type plain Holiday
	decodeAs[plain](dec, n, (*plain)(h), path)
	if h.To == (Date{}) {
		h.To = h.From
	}
	if h.To.Compare(h.From) < 0 {
		dec.report(n, path, "it ends (%s) before it begins (%s)", h.To, h.From)
	}
}

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
		return 0, fmt.Errorf("%q is no time of day; write it like 09:00", clip(s))
	}
	return Clock(t.Hour()*60 + t.Minute()), nil
}

// String is "09:00".
func (c Clock) String() string { return fmt.Sprintf("%02d:%02d", int(c)/60, int(c)%60) }

func (c *Clock) decodeNode(dec *decoder, n *node, path string) {
	if n.kind != kindText {
		dec.report(n, path, `expected a time of day like "09:00", found %s`, n.found())
		return
	}
	clock, err := ParseClock(n.text)
	if err != nil {
		dec.report(n, path, "%s", err)
		return
	}
	*c = clock
}

// Weekday is mon, tue, wed, thu, fri, sat or sun. The zero value is invalid.
type Weekday string

// weekdays are in the order of time.Weekday.
var weekdays = []Weekday{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

func (w Weekday) number() (time.Weekday, bool) {
	i := slices.Index(weekdays, w)
	return time.Weekday(i), i >= 0
}

func (w *Weekday) decodeNode(dec *decoder, n *node, path string) {
	choose(dec, n, path, w, "mon", "tue", "wed", "thu", "fri", "sat", "sun")
}

func (o *Op) decodeNode(dec *decoder, n *node, path string) {
	choose(dec, n, path, o, OpIs, OpIn, OpPrefix, OpSuffix, OpContains, OpExists, OpMatches, OpBetween)
}

func (o *Order) decodeNode(dec *decoder, n *node, path string) {
	choose(dec, n, path, o, Listed, Rotate, Random)
}

func (s *RecordingStyle) decodeNode(dec *decoder, n *node, path string) {
	choose(dec, n, path, s, Surveillance, SignedURL, History, Static)
}

func choose[T ~string](dec *decoder, n *node, path string, into *T, choices ...T) {
	if n.kind == kindText && slices.Contains(choices, T(n.text)) {
		*into = T(n.text)
		return
	}
	names := make([]string, len(choices))
	for i, c := range choices {
		names[i] = string(c)
	}
	dec.report(n, path, "expected one of %s, found %s", strings.Join(names, ", "), n.found())
}

// Seconds is a duration of whole seconds, written like 20s or 1m30s. Zero is
// "not given".
type Seconds int

// longest keeps milliseconds that were meant as seconds out.
const longest = time.Hour

func (s *Seconds) decodeNode(dec *decoder, n *node, path string) {
	if n.kind == kindNumber {
		dec.report(n, path, "expected a duration with its unit, found %s; write %ss", n.found(), n.text)
		return
	}
	if n.kind != kindText {
		dec.report(n, path, "expected a duration like 20s, found %s", n.found())
		return
	}
	duration, err := time.ParseDuration(n.text)
	switch {
	case err != nil:
		dec.report(n, path, "%q is no duration; write it like 20s or 1m30s", clip(n.text))
	case duration < time.Second || duration > longest:
		dec.report(n, path, "%s is out of range; it must be from 1s to 1h", n.text)
	case duration%time.Second != 0:
		dec.report(n, path, "%s: Ziwo counts whole seconds", n.text)
	default:
		*s = Seconds(duration / time.Second)
	}
}

// Wait is how long a call may wait for something, written like 150ms.
type Wait time.Duration

// longestWait is as long as Ziwo may be kept waiting beside all the rest.
const longestWait = 2 * time.Second

func (w *Wait) decodeNode(dec *decoder, n *node, path string) {
	if n.kind != kindText && (n.kind != kindNumber || n.text != "0") {
		dec.report(n, path, "expected a duration like 150ms, found %s", n.found())
		return
	}
	duration, err := time.ParseDuration(n.text)
	switch {
	case err != nil:
		dec.report(n, path, "%q is no duration; write it like 150ms or 0s", clip(n.text))
	case duration < 0 || duration > longestWait:
		dec.report(n, path, "%s is out of range; it must be from 0s to %s", n.text, longestWait)
	default:
		*w = Wait(duration)
	}
}

// Secret is a value that is kept out of answers and logs: it prints as "***".
// The zero value is empty.
type Secret struct {
	value   string
	literal bool
}

// NewSecret makes a secret of a value, for documents that are built by hand.
func NewSecret(value string) Secret { return Secret{value: value} }

// Reveal is the value itself; empty when its reference could not be resolved.
func (s Secret) Reveal() string { return s.value }

// Literal tells whether the value stands in the document itself.
func (s Secret) Literal() bool { return s.literal }

// String hides the value.
func (s Secret) String() string { return "***" }

// LogValue hides the value.
func (s Secret) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalJSON hides the value.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }

func (s *Secret) decodeNode(dec *decoder, n *node, path string) {
	switch n.kind {
	case kindText:
	case kindNumber, kindBool:
		dec.report(n, path, "expected text, found %s; write it in quotes", n.kind) // without the value
		return
	default:
		dec.want(n, kindText, path)
		return
	}
	value, referred := dec.expand(n, path, true)
	*s = Secret{value: value, literal: !referred && value != ""}
}

// Setting is one setting of a connection: text, a number, true or false. It may
// be a secret, so it is treated as one.
type Setting struct{ Secret }

func (s *Setting) decodeNode(dec *decoder, n *node, path string) {
	if n.kind == kindNumber || n.kind == kindBool {
		s.Secret = Secret{value: n.text, literal: true}
		return
	}
	s.Secret.decodeNode(dec, n, path)
}

// Value is one word that a condition compares with: text, a number, true or
// false, as it is written.
type Value struct {
	Text   string
	quoted bool // it was written as text, so no leading zero got lost
}

// Text makes a Value, for documents that are built by hand.
func Text(s string) Value { return Value{Text: s, quoted: true} }

func (v *Value) decodeNode(dec *decoder, n *node, path string) {
	switch n.kind {
	case kindText:
		v.Text, _ = dec.expand(n, path, false)
		v.quoted = true
	case kindNumber, kindBool:
		v.Text = n.text
	default:
		dec.report(n, path, "expected a text, a number, true or false, found %s", n.found())
	}
}

func (k *KeyList) decodeNode(dec *decoder, n *node, path string) {
	switch n.kind {
	case kindText:
		if n.text == "open" {
			k.Open = true
			return
		}
		dec.report(n, path, `expected a list of keys, or the word "open"; write ["…"]`)
	case kindList:
		k.Keys = make([]Secret, len(n.items))
		for i, item := range n.items {
			at := fmt.Sprintf("%s[%d]", path, i)
			dec.doc.places[at] = item.at
			k.Keys[i].decodeNode(dec, item, at)
		}
	case kindNull:
	default:
		dec.report(n, path, `expected a list of keys, or the word "open", found %s`, n.found())
	}
}

func (t *DID) decodeNode(dec *decoder, n *node, path string) {
	if n.kind != kindMapping {
		t.DID = dec.text(n, path)
		return
	}
	type plain DID
	decodeAs[plain](dec, n, (*plain)(t), path)
}

func (t *Translation) decodeNode(dec *decoder, n *node, path string) {
	if n.kind != kindMapping {
		t.Text = dec.text(n, path)
		return
	}
	t.Texts = map[string]string{}
	dec.eachKey(n, path, func(key, value *node, at string) { t.Texts[key.text] = dec.text(value, at) })
}

// decodeNode takes the documented keys strictly and lets all others through,
// since Ziwo's script may learn new ones.
func (w *WebCallback) decodeNode(dec *decoder, n *node, path string) {
	if !dec.want(n, kindMapping, path) {
		return
	}
	type plain WebCallback
	documented := &node{kind: kindMapping, at: n.at}
	known := dec.fieldsOf(reflect.TypeFor[plain]())
	dec.eachKey(n, path, func(key, value *node, at string) {
		if slices.ContainsFunc(known, func(f field) bool { return f.name == key.text }) {
			documented.keys, documented.items = append(documented.keys, key), append(documented.items, value)
			return
		}
		if w.Other == nil {
			w.Other = map[string]any{}
		}
		dec.resolveAll(value, at)
		w.Other[key.text] = value.any()
	})
	other := w.Other
	decodeAs[plain](dec, documented, (*plain)(w), path)
	w.Other = other
}

// any is a node as encoding/json would have it.
func (n *node) any() any {
	switch n.kind {
	case kindText:
		return n.text
	case kindBool:
		return n.text == "true"
	case kindNumber:
		if json.Valid([]byte(n.text)) {
			return json.Number(n.text)
		}
		if f, err := strconv.ParseFloat(n.text, 64); err == nil {
			return f
		}
		return n.text
	case kindList:
		out := make([]any, len(n.items))
		for i, item := range n.items {
			out[i] = item.any()
		}
		return out
	case kindMapping:
		out := make(map[string]any, len(n.keys))
		for i, key := range n.keys {
			out[key.text] = n.items[i].any()
		}
		return out
	default:
		return nil
	}
}
