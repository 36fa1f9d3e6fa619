package handlers

import (
	"context"
	"fmt"
	"time"

	"calltracker/rules"
	"calltracker/storage"
)

// decisionReader is what Decisions needs of a store.
type decisionReader interface {
	Decisions(ctx context.Context, f storage.DecisionFilter, p storage.Page) ([]storage.Decision, string, error)
	Decision(ctx context.Context, id string) (storage.Decision, error)
}

// Decisions reads what was answered to start calls, and why.
type Decisions struct {
	Store  decisionReader
	Config *ConfigController
}

// DecisionView is a decision as it is shown.
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
	Call          string       `json:"call"` // id of the call that followed
}

// DecisionList is a page of decisions, newest first.
type DecisionList struct {
	Decisions []DecisionView `json:"decisions"`
	Next      string         `json:"next"`
}

// DecisionQuery narrows a list of decisions; empty fields do not.
type DecisionQuery struct {
	From, To time.Time
	Tracker  string
	DID      string // in any spelling
	Caller   string // in any spelling
	Route    string
}

// List returns a page of decisions. Errors: *Invalid, storage.ErrBadCursor.
//
//	@Summary	Start calls with their traces, newest first
//	@ID		listDecisions
//	@Tags		calls
//	@Produce	json
//	@Param		from	query		string	false	"At or after (RFC 3339)"
//	@Param		to		query		string	false	"Before (RFC 3339)"
//	@Param		tracker	query		string	false	"Tracker"
//	@Param		did		query		string	false	"Number that was dialled, in any spelling"
//	@Param		caller	query		string	false	"Caller, in any spelling"
//	@Param		route	query		string	false	"Route"
//	@Param		cursor	query		string	false	"From the page before"
//	@Param		limit	query		int		false	"1 to 1000, 50 by default"
//	@Success	200		{object}	DecisionList
//	@Failure	401		{object}	Problem
//	@Failure	422		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/decisions [get]
func (h *Decisions) List(ctx context.Context, q DecisionQuery, page storage.Page) (DecisionList, error) {
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return DecisionList{}, invalid("to", "must be after from")
	}
	decisions, next, err := h.Store.Decisions(ctx, storage.DecisionFilter{
		From: q.From, To: q.To, Tracker: q.Tracker, Route: q.Route,
		DIDs: numberSpellings(h.Config, q.DID), Callers: numberSpellings(h.Config, q.Caller),
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

// Get returns one decision; storage.ErrNotFound when there is none.
//
//	@Summary	One start call with its trace, and the call it became
//	@ID		getDecision
//	@Tags		calls
//	@Produce	json
//	@Param		id	path		string	true	"Decision"
//	@Success	200	{object}	DecisionView
//	@Failure	401	{object}	Problem
//	@Failure	404	{object}	Problem
//	@Failure	503	{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/decisions/{id} [get]
func (h *Decisions) Get(ctx context.Context, id string) (DecisionView, error) {
	d, err := h.Store.Decision(ctx, id)
	if err != nil {
		return DecisionView{}, fmt.Errorf("load decision %q: %w", shorten(id), err)
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
