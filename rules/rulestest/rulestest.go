// Package rulestest provides what the tests of packages rules and config share: the
// checks of every decision, and golden files.
package rulestest

import (
	"fmt"
	"strings"

	"calltracker/rules"
)

// testingT is a *testing.T or a *rapid.T.
type testingT interface {
	Fatalf(format string, args ...any)
}

// Check decides a call and fails the test unless the decision and its trace are
// well-formed.
func Check(t testingT, router *rules.Router, facts rules.Facts) {
	ids := router.RouteIDs()
	decision, trace := router.Explain(facts)
	if len(trace) == 0 || len(trace) > len(ids) {
		t.Fatalf("%d steps for %d routes", len(trace), len(ids))
	}
	for i, step := range trace {
		last := i == len(trace)-1
		switch {
		case step.Route != ids[i]:
			t.Fatalf("step %d has route %q, want %q", i, step.Route, ids[i])
		case last != (step.Verdict == rules.Matched):
			t.Fatalf("step %d of %d has verdict %q", i, len(trace), step.Verdict)
		case !last && step.Verdict != rules.Closed && step.Verdict != rules.Failed:
			t.Fatalf("step %d has verdict %q", i, step.Verdict)
		case last != (step.Reason == ""):
			t.Fatalf("step %d (%s) has the reason %q", i, step.Verdict, step.Reason)
		}
	}
	if decision.Route != trace[len(trace)-1].Route {
		t.Fatalf("got route %q, but the trace ends with %q", decision.Route, trace[len(trace)-1].Route)
	}
	if decision.Rules == nil {
		t.Fatalf("Rules is nil")
	}
	for _, r := range decision.Rules {
		if r.Action != rules.ActionCall || r.Number == "" || r.Timeout < 1 {
			t.Fatalf("Ziwo cannot follow the rule %+v", r)
		}
	}
	for range 2 {
		if got, want := Describe(router.Decide(facts)), Describe(decision); got != want {
			t.Fatalf("Decide returned\n%sExplain returned\n%s", got, want)
		}
	}
	for n := range uint64(4) {
		if got := len(decision.Turn(n).Rules); got != len(decision.Rules) {
			t.Fatalf("turn %d has %d rules, want %d", n, got, len(decision.Rules))
		}
	}
}

// Describe returns a decision as text, for comparisons and golden files.
func Describe(d rules.Decision) string {
	var out strings.Builder
	out.WriteString("-> " + d.Route)
	if d.Voicemail {
		out.WriteString(", voicemail")
	}
	if d.Rotating {
		out.WriteString(", rotating")
	}
	if d.Campaign != "" {
		out.WriteString(", campaign " + d.Campaign)
	}
	for _, flag := range d.Flags {
		out.WriteString(", " + flag)
	}
	out.WriteByte('\n')
	for _, r := range d.Rules {
		fmt.Fprintf(&out, "   %s %s as %q for %d s\n", r.Action, r.Number, r.CallerID, r.Timeout)
	}
	if d.Rules == nil {
		out.WriteString("   Rules is nil\n")
	}
	return out.String()
}
