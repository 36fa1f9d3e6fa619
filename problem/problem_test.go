package problem_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"calltracker/problem"
)

func TestString(t *testing.T) {
	for want, p := range map[string]problem.Problem{
		"3:5: trackers.sales: unknown key":          {Line: 3, Column: 5, Path: "trackers.sales", Message: "unknown key"},
		"3:5: warning: trackers.sales: not used":    {Line: 3, Column: 5, Path: "trackers.sales", Message: "not used", Warning: true},
		"trackers.sales: routes is missing":         {Path: "trackers.sales", Message: "routes is missing"},
		"1:1: the text is not UTF-8":                {Line: 1, Column: 1, Message: "the text is not UTF-8"},
		"warning: schedules.night: it never opens.": {Path: "schedules.night", Message: "it never opens.", Warning: true},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	for want, p := range map[string]problem.Problem{
		`{"line":3,"column":5,"path":"a","message":"b"}`: {Line: 3, Column: 5, Path: "a", Message: "b", Warning: true},
		`{"path":"","message":"b"}`:                      {Message: "b"},
	} {
		got, err := json.Marshal(p)
		if err != nil || string(got) != want {
			t.Errorf("got %s (%v), want %s", got, err, want)
		}
	}
}

func TestSortAndFilter(t *testing.T) {
	warning := problem.Problem{Line: 2, Column: 1, Path: "a", Message: "a", Warning: true}
	second, third := problem.Problem{Line: 2, Column: 1, Path: "b", Message: "a"}, problem.Problem{Line: 2, Column: 9, Path: "a", Message: "a"}
	first := problem.Problem{Line: 1, Column: 9, Path: "z", Message: "z"}
	list := problem.List{third, second, warning, first}
	list.Sort()
	if diff := cmp.Diff(problem.List{first, warning, second, third}, list); diff != "" {
		t.Errorf("sorted (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(problem.List{first, second, third}, list.Errors()); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(problem.List{warning}, list.Warnings()); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestInvalid(t *testing.T) {
	err := fmt.Errorf("apply: %w", problem.Errorf("limit", "%d is too large", 5000))
	invalid, ok := errors.AsType[*problem.Invalid](err)
	if !ok || err.Error() != "apply: limit: 5000 is too large" {
		t.Fatalf("got %v", err)
	}
	if diff := cmp.Diff([]string{"limit"}, invalid.Paths()); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

func TestReportUnknown(t *testing.T) {
	known := maps.Keys(map[string]bool{"office": true, "night": true})
	var r problem.Report
	r.Unknown("during[0]", "schedule", "ofice", known)
	r.Unknown("during[1]", "schedule", "weekend", known)
	want := problem.List{
		{Path: "during[0]", Message: `unknown schedule "ofice"; did you mean "office"?`},
		{Path: "during[1]", Message: `unknown schedule "weekend"`},
	}
	if diff := cmp.Diff(want, r.Problems); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A report stops at its limit, but lists all warnings.
func TestReportIsLimited(t *testing.T) {
	var r problem.Report
	for i := range problem.MaxErrors + 10 {
		r.Errorf("", "error %d", i)
	}
	r.Warnf("", "a warning")
	wrong := r.Problems.Errors()
	if len(wrong) != problem.MaxErrors || len(r.Problems.Warnings()) != 1 {
		t.Errorf("%d errors and %d warnings", len(wrong), len(r.Problems.Warnings()))
	}
	if last := wrong[len(wrong)-1].Message; !strings.Contains(last, "too many errors") {
		t.Errorf("the last error is %q", last)
	}
}

func TestClip(t *testing.T) {
	for text, want := range map[string]string{
		"short":                 "short",
		"two\nlines\tand a tab": "two lines and a tab",
		strings.Repeat("é", 60): strings.Repeat("é", 60),
		strings.Repeat("é", 61): strings.Repeat("é", 57) + "...",
	} {
		if got := problem.Clip(text); got != want {
			t.Errorf("Clip(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"caller", "caller.country", "did", "is"}
	for word, want := range map[string]string{
		"calller": "caller", "CALLER": "caller", "caler.contry": "caller.country", "dod": "did",
		"weather": "", "": "", "ip": "is", "xy": "", strings.Repeat("c", 65): "",
	} {
		if got := problem.Nearest(word, words); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}
