package calls

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"calltracker/config"
	"calltracker/problem"
	"calltracker/storage"
	"calltracker/ziwo"
)

// callReader is the part of a store that Calls uses.
type callReader interface {
	Calls(ctx context.Context, f storage.CallFilter, p storage.Page) ([]storage.Call, string, error)
	Call(ctx context.Context, id string) (storage.Call, []storage.Revision, error)
	EachCall(ctx context.Context, f storage.CallFilter, visit func(storage.Call) error) error
}

// Calls reads stored calls.
type Calls struct {
	Options
}

// CallsOptions are what Calls is made from. All fields are required.
type Options struct {
	Store          callReader
	Config         *config.Controller
	LookupExpected func(storage.Call) bool // reports whether a call without a lookup will get one; nil means never
}

// NewCalls returns Calls.
func New(o Options) *Calls { return &Calls{Options: o} }

// CallView is a stored call. Unknown times are null.
type CallView struct {
	ID            string             `json:"id"`
	ContactCenter string             `json:"contactCenter"`
	Tracker       string             `json:"tracker" example:"sales"`
	CallID        string             `json:"callID"`
	Direction     string             `json:"direction" example:"inbound"`
	DID           string             `json:"did" example:"+97161234567"`
	RawDID        string             `json:"rawDid" example:"061234567"`
	Caller        string             `json:"caller" example:"+971501234567"`
	RawCaller     string             `json:"rawCaller" example:"0501234567"`
	CallerName    string             `json:"callerName"`
	StartedAt     *time.Time         `json:"startedAt" format:"date-time" extensions:"x-nullable"`
	AnsweredAt    *time.Time         `json:"answeredAt" format:"date-time" extensions:"x-nullable"`
	EndedAt       *time.Time         `json:"endedAt" format:"date-time" extensions:"x-nullable"`
	Duration      int                `json:"duration"` // seconds, including ringing
	RingTime      int                `json:"ringTime"` // seconds
	TalkTime      int                `json:"talkTime"` // seconds
	HoldTime      int                `json:"holdTime"` // seconds
	Result        string             `json:"result" enums:"answered,missed,voicemail,busy,failed,cancelled,unreadable"`
	HangupCause   string             `json:"hangupCause"`
	HangupBy      string             `json:"hangupBy"`
	Agent         string             `json:"agent"`
	Position      string             `json:"position"`
	RecordingFile string             `json:"recordingFile"`
	Campaign      string             `json:"campaign"`
	Route         string             `json:"route"`
	Decision      string             `json:"decision"` // ID of the decision that the call followed
	Flags         []string           `json:"flags"`    // irregularities in the record
	ReceivedAt    time.Time          `json:"receivedAt" format:"date-time"`
	Customers     []storage.Customer `json:"customers"`
	Enrichment    storage.Enrichment `json:"enrichment"`
}

// CallList is a page of calls, newest first.
type CallList struct {
	Calls []CallView `json:"calls"`
	Next  string     `json:"next"`
}

// CallDetail is a call with the bodies that reported it.
type CallDetail struct {
	CallView
	Raw       json.RawMessage `json:"raw" swaggertype:"object"` // newest body, with secrets masked
	Revisions []RevisionView  `json:"revisions"`
}

// RevisionView is a body that reported a call, with secrets masked.
type RevisionView struct {
	Number     int             `json:"number"`
	ReceivedAt time.Time       `json:"receivedAt" format:"date-time"`
	Source     string          `json:"source" enums:"endCall,callHistory,reconciliation"`
	Raw        json.RawMessage `json:"raw" swaggertype:"object"`
}

// CallQuery filters a list of calls. Empty fields match everything.
type CallQuery struct {
	From, To time.Time
	Tracker  string
	DID      string // in any format
	Caller   string // in any format
	Result   string
	Campaign string
	Customer string
}

// List returns a page of calls. Errors: *Invalid, storage.ErrBadCursor.
func (h *Calls) List(ctx context.Context, q CallQuery, page storage.Page) (CallList, error) {
	filter, err := h.filter(q)
	if err != nil {
		return CallList{}, err
	}
	calls, next, err := h.Store.Calls(ctx, filter, page)
	if err != nil {
		return CallList{}, fmt.Errorf("list calls: %w", err)
	}
	out := CallList{Calls: make([]CallView, len(calls)), Next: next}
	for i, c := range calls {
		out.Calls[i] = h.view(c)
	}
	return out, nil
}

// Each calls visit for every call of a query, newest first. Errors: *Invalid, and
// those of visit.
func (h *Calls) Each(ctx context.Context, q CallQuery, visit func(CallView) error) error {
	filter, err := h.filter(q)
	if err != nil {
		return err
	}
	if err := h.Store.EachCall(ctx, filter, func(c storage.Call) error { return visit(h.view(c)) }); err != nil {
		return fmt.Errorf("read calls: %w", err)
	}
	return nil
}

// Get returns a call. It returns storage.ErrNotFound if the call does not exist.
func (h *Calls) Get(ctx context.Context, id string) (CallDetail, error) {
	call, revisions, err := h.Store.Call(ctx, id)
	if err != nil {
		return CallDetail{}, fmt.Errorf("load call %q: %w", problem.Clip(id), err)
	}
	out := CallDetail{CallView: h.view(call), Raw: json.RawMessage("null"), Revisions: make([]RevisionView, len(revisions))}
	for i, r := range revisions {
		out.Revisions[i] = RevisionView{Number: r.Number, ReceivedAt: r.ReceivedAt, Source: string(r.Source), Raw: ziwo.MaskSecrets(r.Raw)}
	}
	if n := len(out.Revisions); n > 0 {
		out.Raw = out.Revisions[n-1].Raw
	}
	return out, nil
}

// filter converts a query to a store filter.
func (h *Calls) filter(q CallQuery) (f storage.CallFilter, err error) {
	if q.Result != "" && !slices.Contains(storage.Results(), storage.Result(q.Result)) {
		return f, problem.Errorf("result", "invalid result %q: use one of %v", problem.Clip(q.Result), storage.Results())
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return f, problem.Errorf("to", "must be after from")
	}
	f = storage.CallFilter{
		From: q.From, To: q.To, Tracker: q.Tracker, DIDs: h.Config.NumberForms(q.DID), Callers: h.Config.NumberForms(q.Caller),
		Result: storage.Result(q.Result), Campaign: q.Campaign, Customer: q.Customer,
	}
	return f, nil
}

func (h *Calls) view(c storage.Call) CallView {
	out := CallView{
		ID: c.ID, ContactCenter: c.ContactCenter, Tracker: c.Tracker, CallID: c.CallID, Direction: c.Direction,
		DID: c.DID, RawDID: c.RawDID, Caller: c.Caller, RawCaller: c.RawCaller, CallerName: c.CallerName,
		StartedAt: storage.OptionalTime(c.StartedAt), AnsweredAt: storage.OptionalTime(c.AnsweredAt), EndedAt: storage.OptionalTime(c.EndedAt),
		Duration: c.Duration, RingTime: c.RingTime, TalkTime: c.TalkTime, HoldTime: c.HoldTime,
		Result: string(c.Result), HangupCause: c.HangupCause, HangupBy: c.HangupBy,
		Agent: c.Agent, Position: c.Position, RecordingFile: c.RecordingFile, Campaign: c.Campaign,
		Route: c.Route, Decision: c.Decision, Flags: append([]string{}, c.Flags...), ReceivedAt: c.ReceivedAt,
		Customers: append([]storage.Customer{}, c.Customers...), Enrichment: c.Enrichment.Shown(),
	}
	if c.Enrichment.State == "" && h.LookupExpected != nil && h.LookupExpected(c) {
		out.Enrichment.State = storage.EnrichmentPending
	}
	return out
}
