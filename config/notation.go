package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"calltracker/problem"
	"calltracker/rules"
)

// special decodes the types that have a special notation. It reports
// whether target is one of them.
func (d *decoder) special(n *node, target any, path string) bool {
	switch target := target.(type) {
	case *rules.Date:
		d.date(n, target, path)
	case *rules.Holiday:
		d.holiday(n, target, path)
	case *rules.Clock:
		d.clock(n, target, path)
	case *rules.Weekday:
		choose(d, n, target, path, rules.Weekdays())
	case *rules.Op:
		choose(d, n, target, path, rules.Ops())
	case *rules.Order:
		choose(d, n, target, path, rules.Orders())
	case *rules.Seconds:
		d.seconds(n, target, path)
	case *rules.Value:
		d.value(n, target, path)
	case *rules.DID:
		d.did(n, target, path)
	case *time.Time:
		d.instant(n, target, path)
	case *Wait:
		d.wait(n, target, path)
	case *Secret:
		d.secret(n, target, path)
	case *Setting:
		d.setting(n, target, path)
	case *KeyList:
		d.keyList(n, target, path)
	case *RecordingStyle:
		choose(d, n, target, path, recordingStyles())
	case *Translation:
		d.translation(n, target, path)
	case *WebCallback:
		d.webCallback(n, target, path)
	default:
		return false
	}
	return true
}

func (d *decoder) date(n *node, to *rules.Date, path string) {
	if n.kind != kindText {
		d.report(n, path, "expected a date like 2026-12-02, found %s", n.found())
		return
	}
	date, err := rules.ParseDate(n.text)
	if err != nil {
		d.report(n, path, "%s", err)
		return
	}
	*to = date
}

// holiday reads a date, or {from, to, name}.
func (d *decoder) holiday(n *node, to *rules.Holiday, path string) {
	if n.kind != kindMapping {
		d.date(n, &to.From, path)
		to.To = to.From
		return
	}
	d.structure(n, reflect.ValueOf(to).Elem(), path)
	if to.To == (rules.Date{}) {
		to.To = to.From
	}
	if to.To.Compare(to.From) < 0 {
		d.report(n, path, "the last day %s is before the first day %s", to.To, to.From)
	}
}

func (d *decoder) clock(n *node, to *rules.Clock, path string) {
	if n.kind != kindText {
		d.report(n, path, `expected a time of day like "09:00", found %s`, n.found())
		return
	}
	clock, err := rules.ParseClock(n.text)
	if err != nil {
		d.report(n, path, "%s", err)
		return
	}
	*to = clock
}

func choose[T ~string](d *decoder, n *node, to *T, path string, choices []T) {
	if n.kind == kindText && slices.Contains(choices, T(n.text)) {
		*to = T(n.text)
		return
	}
	names := make([]string, len(choices))
	for i, c := range choices {
		names[i] = string(c)
	}
	d.report(n, path, "expected one of %s, found %s", strings.Join(names, ", "), n.found())
}

func (d *decoder) seconds(n *node, to *rules.Seconds, path string) {
	const longest = time.Hour // longer ones are usually milliseconds
	if n.kind == kindNumber {
		d.report(n, path, "expected a duration with a unit, found %s; write %ss", n.found(), n.text)
		return
	}
	if n.kind != kindText {
		d.report(n, path, "expected a duration like 20s, found %s", n.found())
		return
	}
	duration, err := time.ParseDuration(n.text)
	switch {
	case err != nil:
		d.report(n, path, "invalid duration %q: write it as 20s or 1m30s", problem.Clip(n.text))
	case duration < time.Second || duration > longest:
		d.report(n, path, "%s is out of range: use 1s to 1h", n.text)
	case duration%time.Second != 0:
		d.report(n, path, "invalid duration %s: Ziwo takes whole seconds", n.text)
	default:
		*to = rules.Seconds(duration / time.Second)
	}
}

func (d *decoder) wait(n *node, to *Wait, path string) {
	const longest = 2 * time.Second // Ziwo's own limit does not allow more
	if n.kind != kindText && (n.kind != kindNumber || n.text != "0") {
		d.report(n, path, "expected a duration like 150ms, found %s", n.found())
		return
	}
	duration, err := time.ParseDuration(n.text)
	switch {
	case err != nil:
		d.report(n, path, "invalid duration %q: write it as 150ms or 0s", problem.Clip(n.text))
	case duration < 0 || duration > longest:
		d.report(n, path, "%s is out of range: use 0s to %s", n.text, longest)
	default:
		*to = Wait(duration)
	}
}

func (d *decoder) instant(n *node, to *time.Time, path string) {
	if n.kind != kindText {
		d.want(n, kindText, path)
		return
	}
	at, err := time.Parse(time.RFC3339, n.text)
	if err != nil {
		d.report(n, path, "invalid time %q: use RFC 3339, such as 2026-11-22T20:00:00+04:00", problem.Clip(n.text))
		return
	}
	*to = at
}

func (d *decoder) secret(n *node, to *Secret, path string) {
	switch n.kind {
	case kindText:
	case kindNumber, kindBool:
		d.report(n, path, "expected text, found %s; write it in quotes", n.kind) // without the value
		return
	default:
		d.want(n, kindText, path)
		return
	}
	value, referred := d.expand(n, path, true)
	*to = Secret{value: value, literal: !referred && value != ""}
}

func (d *decoder) setting(n *node, to *Setting, path string) {
	if n.kind == kindNumber || n.kind == kindBool {
		to.Secret = Secret{value: n.text, literal: true}
		return
	}
	d.secret(n, &to.Secret, path)
}

func (d *decoder) value(n *node, to *rules.Value, path string) {
	switch n.kind {
	case kindText:
		to.Text, _ = d.expand(n, path, false)
	case kindNumber, kindBool:
		to.Text, to.Unquoted = n.text, true
	default:
		d.report(n, path, "expected text, a number, true, or false, found %s", n.found())
	}
}

func (d *decoder) keyList(n *node, to *KeyList, path string) {
	switch n.kind {
	case kindText:
		if n.text == "open" {
			to.Open = true
			return
		}
		d.report(n, path, `expected a list of keys, or the word "open"; write ["…"]`)
	case kindList:
		to.Keys = make([]Secret, len(n.items))
		for i, item := range n.items {
			d.decode(item, reflect.ValueOf(&to.Keys[i]).Elem(), fmt.Sprintf("%s[%d]", path, i))
		}
	case kindNull:
	default:
		d.report(n, path, `expected a list of keys, or the word "open", found %s`, n.found())
	}
}

// did reads a number, or {did, label, campaign}.
func (d *decoder) did(n *node, to *rules.DID, path string) {
	if n.kind != kindMapping {
		to.DID = d.text(n, path)
		return
	}
	d.structure(n, reflect.ValueOf(to).Elem(), path)
}

func (d *decoder) translation(n *node, to *Translation, path string) {
	if n.kind != kindMapping {
		to.Text = d.text(n, path)
		return
	}
	to.Texts = map[string]string{}
	d.eachKey(n, path, func(key, value *node, at string) { to.Texts[key.text] = d.text(value, at) })
}

// webCallback reads the documented keys strictly and passes all others through:
// Ziwo may add keys to its script.
func (d *decoder) webCallback(n *node, to *WebCallback, path string) {
	if !d.want(n, kindMapping, path) {
		return
	}
	documented := &node{kind: kindMapping, at: n.at}
	known := d.fieldsOf(reflect.TypeFor[WebCallback]())
	d.eachKey(n, path, func(key, value *node, at string) {
		if slices.ContainsFunc(known, func(f field) bool { return f.name == key.text }) {
			documented.keys, documented.items = append(documented.keys, key), append(documented.items, value)
			return
		}
		if to.Other == nil {
			to.Other = map[string]any{}
		}
		d.resolveAll(value, at)
		to.Other[key.text] = value.any()
	})
	d.structure(documented, reflect.ValueOf(to).Elem(), path)
}

// any returns the node as encoding/json would decode it.
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
