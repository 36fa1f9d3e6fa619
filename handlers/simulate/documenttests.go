package simulate

import (
	"fmt"
	"slices"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/problem"
	"calltracker/rules"
)

// TestResult is the result of a test in a document.
type TestResult struct {
	Name         string       `json:"name"`
	Line, Column int          `json:"-"`
	Failures     []string     `json:"failures"` // empty if the test passed
	Trace        []rules.Step `json:"trace"`
}

// RunTests runs the tests of a document.
func RunTests(doc *config.Document, set *rules.Set) []TestResult {
	numbers := phone.NewCache()
	results := make([]TestResult, len(doc.Tests))
	for i, test := range doc.Tests {
		results[i] = TestResult{Name: test.Name}
		results[i].Line, results[i].Column = doc.Position(fmt.Sprintf("tests[%d]", i))
		call := make(map[string]any, len(test.Call))
		for name, value := range test.Call {
			call[name] = value.Text
		}
		start, err := parseStart(call)
		if err != nil {
			results[i].Failures = []string{err.Error()}
			continue
		}
		router, _ := set.Router(test.Tracker) // compiling has checked that it exists
		got := simulate(router, start, numbers, test.At, (*CustomerFacts)(test.Customer).facts(), "")
		results[i].Trace = got.Trace
		results[i].Failures = unmetExpectations(test.Expect, got)
	}
	return results
}

func unmetExpectations(want config.Expectation, got Simulation) []string {
	var out []string
	if want.Route != nil && *want.Route != got.Route {
		out = append(out, fmt.Sprintf("expected route %q, got %q", *want.Route, got.Route))
	}
	if want.Voicemail != nil && *want.Voicemail != got.Voicemail {
		out = append(out, fmt.Sprintf("expected voicemail %t, got %t", *want.Voicemail, got.Voicemail))
	}
	if want.Numbers != nil {
		numbers := make([]string, len(got.Rules))
		for i, r := range got.Rules {
			numbers[i] = r.Number
		}
		if !slices.Equal(*want.Numbers, numbers) {
			out = append(out, fmt.Sprintf("expected numbers %q, got %q", *want.Numbers, numbers))
		}
	}
	return out
}

// FailedTests returns the failed tests of a document as field errors.
func FailedTests(doc *config.Document, set *rules.Set) problem.List {
	var out problem.List
	for i, r := range RunTests(doc, set) {
		for _, failure := range r.Failures {
			out = append(out, problem.Problem{
				Line: r.Line, Column: r.Column, Path: fmt.Sprintf("tests[%d]", i),
				Message: fmt.Sprintf("test %q failed: %s", r.Name, failure),
			})
		}
	}
	return out
}
