package decisions

import (
	"context"
	"fmt"
	"time"

	"calltracker/config"
	"calltracker/problem"
	"calltracker/rules"
	"calltracker/storage"
)

// decisionReader is the part of a store that Decisions uses.
type decisionReader interface {
	Decisions(ctx context.Context, f storage.DecisionFilter, p storage.Page) ([]storage.Decision, string, error)
	Decision(ctx context.Context, id string) (storage.Decision, error)
}

// Decisions reads the stored decisions on start calls.
type Decisions struct {
	Options
}

// DecisionsOptions are what Decisions is made from. All fields are required.
type Options struct {
	Store  decisionReader
	Config *config.Controller
}

// NewDecisions returns Decisions.
func New(o Options) *Decisions { return &Decisions{Options: o} }

// DecisionView is a stored decision.
type DecisionView struct {
	ID            string       `json:"id"`
	Tracker       string       `json:"tracker" example:"sales"`
	At            time.Time    `json:"at" format:"date-time"`
	DID           string       `json:"did" example:"+97161234567"`
	RawDID        string       `json:"rawDid" example:"061234567"`
	Caller        string       `json:"caller"`
	RawCaller     string       `json:"rawCaller"`
	CallID        string       `json:"callID"`
	Route         string       `json:"route" example:"office-hours"`
	Voicemail     bool         `json:"voicemail"`
	Rules         []rules.Rule `json:"rules"`
	Flags         []string     `json:"flags"`
	Trace         []rules.Step `json:"trace"`
	ConfigVersion int64        `json:"configVersion"`
	Call          string       `json:"call"` // ID of the resulting call
}

// DecisionList is a page of decisions, newest first.
type DecisionList struct {
	Decisions []DecisionView `json:"decisions"`
	Next      string         `json:"next"`
}

// DecisionQuery filters a list of decisions. Empty fields match everything.
type DecisionQuery struct {
	From, To time.Time
	Tracker  string
	DID      string // in any format
	Caller   string // in any format
	Route    string
}

// List returns a page of decisions. Errors: *Invalid, storage.ErrBadCursor.
func (h *Decisions) List(ctx context.Context, q DecisionQuery, page storage.Page) (DecisionList, error) {
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return DecisionList{}, problem.Errorf("to", "must be after from")
	}
	decisions, next, err := h.Store.Decisions(ctx, storage.DecisionFilter{
		From: q.From, To: q.To, Tracker: q.Tracker, Route: q.Route,
		DIDs: h.Config.NumberForms(q.DID), Callers: h.Config.NumberForms(q.Caller),
	}, page)
	if err != nil {
		return DecisionList{}, fmt.Errorf("list decisions: %w", err)
	}
	out := DecisionList{Decisions: make([]DecisionView, len(decisions)), Next: next}
	for i, d := range decisions {
		out.Decisions[i] = viewDecision(d)
	}
	return out, nil
}

// Get returns a decision. It returns storage.ErrNotFound if it does not exist.
func (h *Decisions) Get(ctx context.Context, id string) (DecisionView, error) {
	d, err := h.Store.Decision(ctx, id)
	if err != nil {
		return DecisionView{}, fmt.Errorf("load decision %q: %w", problem.Clip(id), err)
	}
	return viewDecision(d), nil
}

func viewDecision(d storage.Decision) DecisionView {
	view := DecisionView(d)
	view.Rules = append([]rules.Rule{}, d.Rules...)
	view.Flags = append([]string{}, d.Flags...)
	view.Trace = append([]rules.Step{}, d.Trace...)
	return view
}
