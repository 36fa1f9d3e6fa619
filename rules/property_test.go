package rules_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/rules"
	"calltracker/rules/rulestest"
)

type object = map[string]any

var (
	someNumbers = []string{"061234567", "+97143001234", "0097126001234", "97143001235", "8004444", "0501234567", "+33176431400", "00442079460000", "reception"}
	someZones   = []string{"Asia/Dubai", "Europe/London", "America/St_Johns", "Pacific/Apia", "UTC"}
	someDays    = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	someWords   = []string{"a", "ar", "gold", "x-1", "é"}
)

func pick[T any](t *rapid.T, label string, from ...T) T {
	return rapid.SampledFrom(from).Draw(t, label)
}

func some[T any](t *rapid.T, label string, from []T) []T {
	return rapid.SliceOfN(rapid.SampledFrom(from), 1, 3).Draw(t, label)
}

// drawDocument draws a valid document of one tracker, "t".
func drawDocument(t *rapid.T) object {
	schedules, during := object{}, []string{}
	for i := range rapid.IntRange(0, 3).Draw(t, "schedules") {
		name := fmt.Sprint("s", i)
		during = append(during, name)
		windows := []object{}
		for _, day := range rapid.SliceOfNDistinct(rapid.SampledFrom(someDays), 1, 7, rapid.ID).Draw(t, "days") {
			from := rapid.IntRange(0, 23).Draw(t, "from")
			windows = append(windows, object{"days": []string{day}, "from": fmt.Sprintf("%02d:00", from), "to": fmt.Sprintf("%02d:59", from)})
		}
		schedules[name] = object{"timezone": pick(t, "zone", someZones...), "open": windows, "closed": []string{"c"}}
	}
	tracker := object{
		"keys": object{"start": "open", "end": "open"}, "region": pick(t, "region", "AE", "FR", "US", "IT"),
		"caller_id": "042789900", "timezone": pick(t, "zone", someZones...), "blocked": rapid.Bool().Draw(t, "blocked"),
		"numbers": []any{pick(t, "did", someNumbers...)},
	}
	routes := []object{}
	for i := range rapid.IntRange(0, 6).Draw(t, "routes") {
		route := drawOutcome(t)
		route["id"] = fmt.Sprint("r", i)
		if len(during) > 0 && rapid.Bool().Draw(t, "has schedules") {
			route["during"] = some(t, "during", during)
		}
		if rapid.Bool().Draw(t, "has conditions") {
			route["when"] = rapid.SliceOfN(rapid.Custom(drawCondition), 1, 3).Draw(t, "when")
		}
		routes = append(routes, route)
	}
	last := drawOutcome(t)
	last["id"] = "last"
	tracker["routes"] = append(routes, last)
	return object{"calendars": object{"c": []any{"2026-11-23", object{"from": "2026-12-30", "to": "2027-01-02"}}}, "schedules": schedules, "trackers": object{"t": tracker}}
}

func drawOutcome(t *rapid.T) object {
	dial := rapid.Custom(func(t *rapid.T) []object {
		out := []object{}
		for range rapid.IntRange(0, 4).Draw(t, "dial") {
			step := object{"number": pick(t, "number", someNumbers...)}
			if rapid.Bool().Draw(t, "has timeout") {
				step["timeout"] = pick(t, "timeout", "1s", "20s", "1h")
			}
			out = append(out, step)
		}
		return out
	})
	out := object{"voicemail": rapid.Bool().Draw(t, "voicemail")}
	if rapid.Bool().Draw(t, "is split") {
		shares := []object{{"weight": 1}}
		for range rapid.IntRange(0, 3).Draw(t, "shares") {
			shares = append(shares, object{"weight": rapid.IntRange(0, 100).Draw(t, "weight"), "dial": dial.Draw(t, "dial"), "order": pick(t, "order", "listed", "rotate", "random")})
		}
		out["split"] = shares
		return out
	}
	out["dial"], out["order"] = dial.Draw(t, "dial"), pick(t, "order", "listed", "rotate", "random")
	return out
}

func drawCondition(t *rapid.T) object {
	text := []string{"is", "in", "prefix", "suffix", "contains", "matches", "exists"}
	kinds := map[string]struct{ ops, values []string }{
		"did":                 {text, someNumbers[:8]},
		"caller":              {text, someNumbers[:8]},
		"caller.country":      {[]string{"is", "in", "exists"}, []string{"AE", "FR", "GB"}},
		"caller.type":         {[]string{"is", "in", "exists"}, []string{"mobile", "fixed_line", "withheld", "internal"}},
		"weekday":             {[]string{"is", "in", "between"}, someDays},
		"time":                {[]string{"between"}, []string{"00:00", "09:00", "18:30", "24:00"}},
		"date":                {[]string{"is", "in"}, []string{"2026-11-22", "2026-11-23", "2028-02-29"}},
		"campaign":            {text, someWords},
		"customer.found":      {[]string{"is", "exists"}, []string{"true", "false"}},
		"customer.tags":       {text, someWords},
		"customer.connection": {[]string{"is", "in", "exists"}, someWords},
		"request.lang":        {text, someWords},
	}
	field := rapid.SampledFrom(slices.Sorted(maps.Keys(kinds))).Draw(t, "field")
	kind := kinds[field]
	c := object{"field": field, "op": pick(t, "op", kind.ops...), "not": rapid.Bool().Draw(t, "not")}
	switch c["op"] {
	case "exists":
	case "is":
		c["value"] = pick(t, "value", kind.values...)
	case "matches":
		c["value"] = pick(t, "pattern", ".*", `\+971\d+`, "a|b", "[a-z]?")
	case "between":
		c["values"] = rapid.SliceOfNDistinct(rapid.SampledFrom(kind.values), 2, 2, rapid.ID).Draw(t, "between")
	default:
		c["values"] = some(t, "values", kind.values)
	}
	return c
}

func drawFacts(t *rapid.T, region string) rules.Facts {
	number := rapid.OneOf(rapid.Just(""), rapid.SampledFrom(someNumbers), rapid.SampledFrom([]string{"anonymous", "0026", "agent-0029", "12x"}), rapid.String())
	f := rules.Facts{
		At:     time.Unix(rapid.Int64Range(1.7e9, 1.9e9).Draw(t, "at"), 0),
		DID:    phone.Parse(number.Draw(t, "did"), region),
		Caller: phone.Parse(number.Draw(t, "caller"), region),
		CallID: rapid.OneOf(rapid.Just(""), rapid.String()).Draw(t, "callID"),
	}
	if rapid.Bool().Draw(t, "has fields") {
		f.Request = map[string]string{"lang": rapid.OneOf(rapid.SampledFrom(someWords), rapid.String()).Draw(t, "lang")}
	}
	if rapid.Bool().Draw(t, "has customer") {
		f.Customer = &rules.Customer{Found: rapid.Bool().Draw(t, "found"), Connection: pick(t, "connection", "", "a", "gold"), Tags: some(t, "tags", someWords)}
	}
	return f
}

// load loads a drawn document from YAML or JSON.
func load(t *rapid.T, doc object) *rules.Set {
	text, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	format := pick(t, "format", config.JSON, config.YAML)
	if text, err = config.Convert(text, config.JSON, format); err != nil {
		t.Fatal(err)
	}
	_, set, problems := config.Load(text, format, nil)
	if set == nil {
		t.Fatalf("%v\n%s", problems.Errors(), text)
	}
	return set
}

func TestDecideAlwaysAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := drawDocument(t)
		set := load(t, doc)
		router, ok := set.Router("t")
		if !ok {
			t.Fatal("no router")
		}
		for range 5 {
			rulestest.Check(t, router, drawFacts(t, router.Region()))
		}
	})
}

// Compiling a document twice makes the same decisions: none depends on the order of
// a map.
func TestCompilingIsDeterministic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		doc := drawDocument(t)
		first, second := load(t, doc), load(t, doc)
		a, _ := first.Router("t")
		b, _ := second.Router("t")
		for range 5 {
			facts := drawFacts(t, a.Region())
			decisionA, traceA := a.Explain(facts)
			decisionB, traceB := b.Explain(facts)
			if diff := cmp.Diff(rulestest.Describe(decisionA), rulestest.Describe(decisionB)); diff != "" {
				t.Fatal(diff)
			}
			if diff := cmp.Diff(traceA, traceB); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

// An evaluation reads more request fields than it caches.
func TestManyRequestFields(t *testing.T) {
	const fields = 40
	routes := []object{}
	for i := range fields {
		for _, value := range []int{50, 60} {
			routes = append(routes, object{"id": fmt.Sprint("f", i, "-", value), "voicemail": true, "when": []object{
				{"field": fmt.Sprint("request.f", i), "op": "exists"},
				{"field": fmt.Sprint("request.f", fields-1-i), "op": "exists", "not": true},
				{"field": fmt.Sprint("request.f", i), "op": "between", "values": []int{value, value + 5}},
			}})
		}
	}
	text, err := json.Marshal(object{"trackers": object{"t": object{
		"keys": object{"start": "open", "end": "open"}, "routes": append(routes, object{"id": "otherwise", "voicemail": true}),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	router, _ := mustLoad(t, string(text), config.JSON).Router("t")
	for i := range fields {
		field := fmt.Sprint("f", i)
		for sent, want := range map[string]string{"50": field + "-50", "65": field + "-60", "66": "otherwise", "": "otherwise"} {
			if got := router.Decide(rules.Facts{Request: map[string]string{field: sent}}).Route; got != want {
				t.Errorf("%s=%s: got route %q, want %q", field, sent, got, want)
			}
		}
	}
}

func TestConcurrentDecisions(t *testing.T) {
	set := mustLoad(t, string(rulestest.ReadFile(t, "testdata/golden/spread/document.yaml")), config.YAML)
	router, _ := set.Router("line")
	facts := func(i int) rules.Facts {
		return rules.Facts{CallID: fmt.Sprint(i), DID: phone.Parse("042001002", "AE")}
	}
	want := make([]string, 100)
	for i := range want {
		want[i] = rulestest.Describe(router.Decide(facts(i)))
	}
	t.Run("group", func(t *testing.T) {
		for worker := range 4 {
			t.Run(fmt.Sprint(worker), func(t *testing.T) {
				t.Parallel()
				for i := range want {
					if got := rulestest.Describe(router.Decide(facts(i))); got != want[i] {
						t.Errorf("call %d: got %s, want %s", i, got, want[i])
					}
				}
			})
		}
	})
}
