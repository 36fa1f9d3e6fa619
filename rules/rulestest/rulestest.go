// Package rulestest checks decisions in tests: what must hold for every
// configuration and every call.
package rulestest

import (
	"fmt"
	"strings"

	"calltracker/rules"
)

// fataler is a *testing.T or a *rapid.T.
type fataler interface {
	Fatalf(format string, args ...any)
}

// Check fails the test unless everything holds that is true of every decision.
func Check(t fataler, router *rules.Router, facts rules.Facts) {
	ids := router.RouteIDs()
	decision, trace := router.Explain(facts)
	if len(trace) == 0 || len(trace) > len(ids) {
		t.Fatalf("%d steps for %d routes", len(trace), len(ids))
	}
	for i, step := range trace {
		last := i == len(trace)-1
		switch {
		case step.Route != ids[i]:
			t.Fatalf("step %d is about %q, must be %q", i, step.Route, ids[i])
		case last != (step.Verdict == rules.Matched):
			t.Fatalf("step %d of %d is %q", i, len(trace), step.Verdict)
		case !last && step.Verdict != rules.Closed && step.Verdict != rules.Failed:
			t.Fatalf("step %d is %q", i, step.Verdict)
		case last != (step.Reason == ""):
			t.Fatalf("step %d (%s) has the reason %q", i, step.Verdict, step.Reason)
		}
	}
	if decision.Route != trace[len(trace)-1].Route {
		t.Fatalf("the route is %q, the trace ends with %q", decision.Route, trace[len(trace)-1].Route)
	}
	if decision.Rules == nil {
		t.Fatalf("no rules at all")
	}
	for _, r := range decision.Rules {
		if r.Action != rules.ActionCall || r.Number == "" || r.Timeout < 1 {
			t.Fatalf("a rule that Ziwo cannot follow: %+v", r)
		}
	}
	for range 2 { // the second time as the first
		if got, want := Describe(router.Decide(facts)), Describe(decision); got != want {
			t.Fatalf("Decide returned\n%sExplain returned\n%s", got, want)
		}
	}
	for n := range uint64(4) {
		if got := len(decision.Turn(n).Rules); got != len(decision.Rules) {
			t.Fatalf("turn %d has %d rules instead of %d", n, got, len(decision.Rules))
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
		out.WriteString("   no rules at all\n")
	}
	return out.String()
}
