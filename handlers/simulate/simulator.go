// Package simulate decides calls without recording anything: for administrators who try
// out a configuration, and for the tests in a configuration document.
package simulate

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"calltracker/config"
	"calltracker/handlers/startcall"
	"calltracker/phone"
	"calltracker/problem"
	"calltracker/rules"
	"calltracker/ziwo"
)

// Simulator simulates calls. It is safe for concurrent use.
type Simulator struct {
	config         *config.Controller
	numbers        *phone.Cache
	voicemailField string
	now            func() time.Time
}

// New returns a Simulator for the active configuration. voicemailField is the name of the
// voicemail flag in answers; an empty name omits it.
func New(controller *config.Controller, numbers *phone.Cache, voicemailField string, now func() time.Time) *Simulator {
	if controller == nil || numbers == nil || now == nil {
		panic("simulate.New: controller, numbers, and now are required")
	}
	return &Simulator{config: controller, numbers: numbers, voicemailField: voicemailField, now: now}
}

// Input is a call to simulate.
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

// Simulate decides a call with the document of the input or the active configuration.
// Errors: *problem.Invalid, config.ErrNoConfig.
func (s *Simulator) Simulate(in Input) (Simulation, error) {
	if err := problem.Validate(in); err != nil {
		return Simulation{}, err
	}
	set, err := s.rules(in.Document)
	if err != nil {
		return Simulation{}, err
	}
	if in.At == nil {
		now := s.now()
		in.At = &now
	}
	return Decide(set, in, s.numbers, s.voicemailField)
}

// Decide decides a call with the given rules. It requires the time of the call, and
// ignores the document of the input. Errors: *problem.Invalid.
func Decide(set *rules.Set, in Input, numbers *phone.Cache, voicemailField string) (Simulation, error) {
	router, ok := set.Router(in.Tracker)
	if !ok {
		return Simulation{}, problem.Errorf("tracker", "unknown tracker %q", problem.Clip(in.Tracker))
	}
	start, err := parseStart(in.Call)
	if err != nil {
		return Simulation{}, err
	}
	return simulate(router, start, numbers, *in.At, in.Customer.facts(), voicemailField), nil
}

func (s *Simulator) rules(document string) (*rules.Set, error) {
	if document == "" {
		snapshot := s.config.Current()
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
