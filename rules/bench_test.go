package rules_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/rules"
	"calltracker/rules/rulestest"
)

// condition returns a condition, of a different kind for each i, that does not hold
// for benchmarkCall. None is a pattern: patterns take memory from a pool that the
// race detector empties at random.
func condition(i int) string {
	kinds := []string{
		`{field: did, op: is, value: "+9714400%04d"}`,
		`{field: caller, op: in, values: ["+97150100%04[1]d", "+97150200%04[1]d"]}`,
		`{field: caller, op: prefix, values: ["+4420%04d"]}`,
		`{field: caller.country, op: in, values: [SA, OM, QA]} # %d`,
		`{field: caller.type, op: is, value: toll_free} # %d`,
		`{field: time, op: between, values: ["22:00", "23:00"]} # %d`,
		`{field: weekday, op: in, values: [sat, sun]} # %d`,
		`{field: date, op: in, values: [2026-12-02, 2026-12-03]} # %d`,
		`{field: campaign, op: is, value: outdoor-%d}`,
		`{field: customer.tags, op: is, value: tag-%d}`,
		`{field: request.language, op: is, value: l-%d}`,
		`{field: request.score, op: between, values: [90, 1%02d]}`,
	}
	return fmt.Sprintf(kinds[i%len(kinds)], i%100)
}

// manyRoutes returns a document with trackers of which only the last route takes
// benchmarkCall.
func manyRoutes(trackers, routes int) string {
	var b strings.Builder
	b.WriteString("schedules:\n  night: {timezone: Asia/Dubai, open: [{days: [mon], from: \"22:00\", to: \"23:00\"}]}\ntrackers:\n")
	for t := range trackers {
		fmt.Fprintf(&b, "  tracker-%d:\n    keys: {start: [\"${env:START}\"], end: [\"${env:END}\"]}\n    region: AE\n    caller_id: \"042789900\"\n    numbers: [\"+9714%07d\"]\n    routes:\n", t, 3_000_000+t)
		for r := range routes - 1 {
			during := ""
			if r%10 == 9 {
				during = "        during: [night]\n"
			}
			fmt.Fprintf(&b, "      - id: route-%d\n%s        when:\n          - %s\n        dial:\n          - {number: \"050%07d\", timeout: 15s}\n", r, during, condition(r), r)
		}
		b.WriteString("      - id: otherwise\n        voicemail: true\n")
	}
	return b.String()
}

// benchmarkCall returns a call for which no condition of manyRoutes holds.
func benchmarkCall() rules.Facts {
	return rules.Facts{
		At:  time.Date(2026, time.November, 23, 8, 0, 0, 0, time.UTC),
		DID: phone.Parse("043000000", "AE"), Caller: phone.Parse("0561234567", "AE"), CallID: "5d3c1c9e-0000-4000-8000-000000000001",
		Request:  map[string]string{"didcalled": "043000000", "language": "ar", "score": "50"},
		Customer: &rules.Customer{Found: true, Connection: "shop", Tags: []string{"new"}},
	}
}

// Decide does not allocate memory.
func TestDecideDoesNotAllocate(t *testing.T) {
	set := mustLoad(t, manyRoutes(1, 1000), config.YAML)
	many, _ := set.Router("tracker-0")
	spread := mustLoad(t, string(rulestest.ReadFile(t, "testdata/golden/spread/document.yaml")), config.YAML)
	splits, _ := spread.Router("line")
	split := benchmarkCall()
	split.DID = phone.Parse("042001000", "AE")
	noCallID := split
	noCallID.CallID = ""
	unlisted := benchmarkCall()
	unlisted.DID = phone.Parse("reception", "AE")
	tests := map[string]struct {
		router *rules.Router
		facts  rules.Facts
		route  string
	}{
		"a thousand routes":       {many, benchmarkCall(), "otherwise"},
		"an unlisted DID":         {many, unlisted, "otherwise"},
		"a split":                 {splits, split, "split"},
		"a split without call id": {splits, noCallID, "split"},
		"only the time":           {many, rules.Facts{At: split.At}, "otherwise"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var decision rules.Decision
			allocations := testing.AllocsPerRun(100, func() { decision = tt.router.Decide(tt.facts).Turn(1) })
			if allocations != 0 {
				t.Errorf("%.0f allocations", allocations)
			}
			if decision.Route != tt.route {
				t.Errorf("got route %q, want %q", decision.Route, tt.route)
			}
		})
	}
}

func BenchmarkDecideNoMatch(b *testing.B) {
	set := mustLoad(b, manyRoutes(1, 1000), config.YAML)
	router, _ := set.Router("tracker-0")
	facts := benchmarkCall()
	b.ReportAllocs()
	for b.Loop() {
		if router.Decide(facts).Route != "otherwise" {
			b.Fatal("another route took the call")
		}
	}
}

// The time of a call must not grow much with the number of trackers.
func BenchmarkDecide(b *testing.B) {
	for _, trackers := range []int{10, 1_000, 10_000} {
		set := mustLoad(b, manyRoutes(trackers, 20), config.YAML)
		ids := set.Trackers()
		facts := benchmarkCall()
		b.Run(fmt.Sprint(trackers, " trackers"), func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				// Visit all trackers in turn, so that none stays in the CPU cache.
				router, ok := set.Router(ids[i*7919%len(ids)])
				if !ok {
					b.Fatal("no router")
				}
				if router.Decide(facts).Route != "otherwise" {
					b.Fatal("another route took the call")
				}
			}
		})
	}
}

func BenchmarkExplain(b *testing.B) {
	set := mustLoad(b, manyRoutes(1, 20), config.YAML)
	router, _ := set.Router("tracker-0")
	facts := benchmarkCall()
	b.ReportAllocs()
	for b.Loop() {
		router.Explain(facts)
	}
}

func BenchmarkLoad(b *testing.B) {
	asYAML := manyRoutes(1_000, 20)
	asJSON, err := config.Convert([]byte(asYAML), config.YAML, config.JSON)
	if err != nil {
		b.Fatal(err)
	}
	for format, text := range map[config.Format]string{config.YAML: asYAML, config.JSON: string(asJSON)} {
		b.Run(string(format), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				mustLoad(b, text, format)
			}
		})
	}
}
