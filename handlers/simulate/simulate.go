package simulate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"calltracker/config"
	"calltracker/handlers/startcall"
	"calltracker/phone"
	"calltracker/problem"
	"calltracker/rules"
	"calltracker/ziwo"
)

// Simulator decides calls without side effects.
type Simulator struct {
	Options
}

// SimulatorOptions are what a Simulator is made from. All fields are required.
type Options struct {
	Config         *config.Controller
	Numbers        *phone.Cache
	VoicemailField string // field in the answer; empty omits it
	Now            func() time.Time
}

// NewSimulator returns a Simulator.
func New(o Options) *Simulator { return &Simulator{Options: o} }

// SimulateInput is a call to simulate.
type Input struct {
	Tracker  string         `json:"tracker" validate:"required" example:"sales"`
	At       *time.Time     `json:"at,omitempty" format:"date-time" example:"2026-11-22T20:00:00+04:00"` // time of the call; defaults to now
	Call     map[string]any `json:"call" validate:"required" swaggertype:"object"`                       // Ziwo's request fields, such as didCalled and callerIDNumber
	Customer *CustomerFacts `json:"customer,omitempty"`                                                  // customer facts; the CRMs are not queried
	Document string         `json:"document,omitempty"`                                                  // YAML or JSON document to use instead of the active one
} // @name SimulateInput

// CustomerFacts holds the customer data that routes depend on.
type CustomerFacts struct {
	Found      bool     `json:"found"`
	Connection string   `json:"connection,omitempty" example:"kustomer"`
	Tags       []string `json:"tags,omitempty" example:"vip"`
}

func (c *CustomerFacts) facts() *rules.Customer {
	if c == nil {
		return nil
	}
	return &rules.Customer{Found: c.Found, Connection: c.Connection, Tags: c.Tags}
}

// Simulation is the result of simulating a call.
type Simulation struct {
	Route     string          `json:"route"`
	Rules     []rules.Rule    `json:"rules"`
	Voicemail bool            `json:"voicemail"`
	Flags     []string        `json:"flags"`
	Trace     []rules.Step    `json:"trace"`
	Answer    json.RawMessage `json:"answer" swaggertype:"object"` // answer that Ziwo would receive
}

// Simulate decides a call without recording it. Errors: *Invalid, ErrNoConfig.
func (h *Simulator) Simulate(in Input) (Simulation, error) {
	if err := problem.Validate(in); err != nil {
		return Simulation{}, err
	}
	set, err := h.set(in.Document)
	if err != nil {
		return Simulation{}, err
	}
	return h.SimulateIn(set, in)
}

// SimulateIn decides a call with the given rules and ignores the document of the input.
func (h *Simulator) SimulateIn(set *rules.Set, in Input) (Simulation, error) {
	router, ok := set.Router(in.Tracker)
	if !ok {
		return Simulation{}, problem.Errorf("tracker", "unknown tracker %q", problem.Clip(in.Tracker))
	}
	start, err := parseStart(in.Call)
	if err != nil {
		return Simulation{}, err
	}
	at := h.Now()
	if in.At != nil {
		at = *in.At
	}
	return simulate(router, start, h.Numbers, at, in.Customer.facts(), h.VoicemailField), nil
}

func (h *Simulator) set(document string) (*rules.Set, error) {
	if document == "" {
		snapshot := h.Config.Current()
		if snapshot == nil {
			return nil, config.ErrNoConfig
		}
		return snapshot.Set, nil
	}
	format := config.YAML
	if bytes.HasPrefix(bytes.TrimSpace([]byte(document)), []byte("{")) {
		format = config.JSON
	}
	// A simulation does not use keys, so references stay unresolved.
	_, set, problems := config.Load([]byte(document), format, nil)
	if set == nil {
		return nil, &problem.Invalid{Problems: problems.Errors()}
	}
	return set, nil
}

// parseStart parses a call in the same way as a start request, so that a simulation
// accepts the same field names.
func parseStart(call map[string]any) (ziwo.StartRequest, error) {
	body, err := json.Marshal(call)
	if err != nil {
		return ziwo.StartRequest{}, problem.Errorf("call", "%v", err)
	}
	start, err := ziwo.ParseStartRequest("application/json", "", body)
	switch {
	case errors.Is(err, ziwo.ErrNoDID):
		return ziwo.StartRequest{}, problem.Errorf("call.didCalled", "is missing")
	case err != nil:
		return ziwo.StartRequest{}, problem.Errorf("call", "%v", err)
	}
	return start, nil
}

func simulate(router *rules.Router, start ziwo.StartRequest, numbers *phone.Cache, at time.Time, customer *rules.Customer, voicemailField string) Simulation {
	facts := startcall.FactsOf(start, router, numbers, at)
	facts.Customer = customer
	decision, trace := router.Explain(facts)
	return Simulation{
		Route: decision.Route, Rules: decision.Rules, Voicemail: decision.Voicemail,
		Flags: append([]string{}, slices.Concat(decision.Flags, start.Notes)...), Trace: trace,
		Answer: startcall.AppendAnswer(nil, start.DIDCalled, decision, voicemailField),
	}
}

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
