// Package decisions lists the stored decisions on start calls and explains one with its
// trace.
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

// decisionStore is the part of a store that Reader uses.
type decisionStore interface {
	Decisions(ctx context.Context, f storage.DecisionFilter, p storage.Page) ([]storage.Decision, string, error)
	Decision(ctx context.Context, id string) (storage.Decision, error)
}

// Reader reads stored decisions. It is safe for concurrent use.
type Reader struct {
	store  decisionStore
	config *config.Controller
}

// New returns a Reader.
func New(store decisionStore, controller *config.Controller) *Reader {
	if store == nil || controller == nil {
		panic("decisions.New: store and controller are required")
	}
	return &Reader{store: store, config: controller}
}

// View is a stored decision.
type View struct {
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
} // @name DecisionView

// List is a page of decisions, newest first.
type List struct {
	Decisions []View `json:"decisions"`
	Next      string `json:"next"`
} // @name DecisionList

// Query filters a list of decisions. Empty fields match everything.
type Query struct {
	From, To time.Time
	Tracker  string
	DID      string // in any format
	Caller   string // in any format
	Route    string
}

// List returns a page of decisions. Errors: *problem.Invalid, storage.ErrBadCursor.
func (r *Reader) List(ctx context.Context, q Query, page storage.Page) (List, error) {
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return List{}, problem.Errorf("to", "must be after from")
	}
	decisions, next, err := r.store.Decisions(ctx, storage.DecisionFilter{
		From: q.From, To: q.To, Tracker: q.Tracker, Route: q.Route,
		DIDs: r.config.NumberForms(q.DID), Callers: r.config.NumberForms(q.Caller),
	}, page)
	if err != nil {
		return List{}, fmt.Errorf("list decisions: %w", err)
	}
	out := List{Decisions: make([]View, len(decisions)), Next: next}
	for i, d := range decisions {
		out.Decisions[i] = view(d)
	}
	return out, nil
}

// Get returns a decision. It returns storage.ErrNotFound if it does not exist.
func (r *Reader) Get(ctx context.Context, id string) (View, error) {
	d, err := r.store.Decision(ctx, id)
	if err != nil {
		return View{}, fmt.Errorf("load decision %q: %w", problem.Clip(id), err)
	}
	return view(d), nil
}

func view(d storage.Decision) View {
	out := View(d)
	out.Rules = append([]rules.Rule{}, d.Rules...)
	out.Flags = append([]string{}, d.Flags...)
	out.Trace = append([]rules.Step{}, d.Trace...)
	return out
}
