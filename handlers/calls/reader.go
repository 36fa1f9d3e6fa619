// Package calls lists the stored calls and shows one with the CDRs that reported it.
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

// callStore is the part of a store that Reader uses.
type callStore interface {
	Calls(ctx context.Context, f storage.CallFilter, p storage.Page) ([]storage.Call, string, error)
	Call(ctx context.Context, id string) (storage.Call, []storage.Revision, error)
	EachCall(ctx context.Context, f storage.CallFilter, visit func(storage.Call) error) error
}

// Reader reads stored calls. It is safe for concurrent use.
type Reader struct {
	store          callStore
	config         *config.Controller
	lookupExpected func(storage.Call) bool
}

// New returns a Reader. lookupExpected reports whether a call without a customer lookup
// will get one.
func New(store callStore, controller *config.Controller, lookupExpected func(storage.Call) bool) *Reader {
	if store == nil || controller == nil || lookupExpected == nil {
		panic("calls.New: store, controller, and lookupExpected are required")
	}
	return &Reader{store: store, config: controller, lookupExpected: lookupExpected}
}

// View is a stored call. Unknown times are null.
type View struct {
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
} // @name CallView

// List is a page of calls, newest first.
type List struct {
	Calls []View `json:"calls"`
	Next  string `json:"next"`
} // @name CallList

// Detail is a call with the bodies that reported it.
type Detail struct {
	View
	Raw       json.RawMessage `json:"raw" swaggertype:"object"` // newest body, with secrets masked
	Revisions []Revision      `json:"revisions"`
} // @name CallDetail

// Revision is a body that reported a call, with secrets masked.
type Revision struct {
	Number     int             `json:"number"`
	ReceivedAt time.Time       `json:"receivedAt" format:"date-time"`
	Source     string          `json:"source" enums:"endCall,callHistory,reconciliation"`
	Raw        json.RawMessage `json:"raw" swaggertype:"object"`
} // @name RevisionView

// Query filters a list of calls. Empty fields match everything.
type Query struct {
	From, To time.Time
	Tracker  string
	DID      string // in any format
	Caller   string // in any format
	Result   string
	Campaign string
	Customer string
}

// List returns a page of calls. Errors: *problem.Invalid, storage.ErrBadCursor.
func (r *Reader) List(ctx context.Context, q Query, page storage.Page) (List, error) {
	filter, err := r.filter(q)
	if err != nil {
		return List{}, err
	}
	calls, next, err := r.store.Calls(ctx, filter, page)
	if err != nil {
		return List{}, fmt.Errorf("list calls: %w", err)
	}
	out := List{Calls: make([]View, len(calls)), Next: next}
	for i, c := range calls {
		out.Calls[i] = r.view(c)
	}
	return out, nil
}

// Each calls visit for every call of a query, newest first. Errors: *problem.Invalid, and
// those of visit.
func (r *Reader) Each(ctx context.Context, q Query, visit func(View) error) error {
	filter, err := r.filter(q)
	if err != nil {
		return err
	}
	if err := r.store.EachCall(ctx, filter, func(c storage.Call) error { return visit(r.view(c)) }); err != nil {
		return fmt.Errorf("read calls: %w", err)
	}
	return nil
}

// Get returns a call. It returns storage.ErrNotFound if the call does not exist.
func (r *Reader) Get(ctx context.Context, id string) (Detail, error) {
	call, revisions, err := r.store.Call(ctx, id)
	if err != nil {
		return Detail{}, fmt.Errorf("load call %q: %w", problem.Clip(id), err)
	}
	out := Detail{View: r.view(call), Raw: json.RawMessage("null"), Revisions: make([]Revision, len(revisions))}
	for i, revision := range revisions {
		out.Revisions[i] = Revision{
			Number: revision.Number, ReceivedAt: revision.ReceivedAt, Source: string(revision.Source), Raw: ziwo.MaskSecrets(revision.Raw),
		}
	}
	if n := len(out.Revisions); n > 0 {
		out.Raw = out.Revisions[n-1].Raw
	}
	return out, nil
}

// filter converts a query to a store filter.
func (r *Reader) filter(q Query) (f storage.CallFilter, err error) {
	if q.Result != "" && !slices.Contains(storage.Results(), storage.Result(q.Result)) {
		return f, problem.Errorf("result", "invalid result %q: use one of %v", problem.Clip(q.Result), storage.Results())
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return f, problem.Errorf("to", "must be after from")
	}
	f = storage.CallFilter{
		From: q.From, To: q.To, Tracker: q.Tracker, DIDs: r.config.NumberForms(q.DID), Callers: r.config.NumberForms(q.Caller),
		Result: storage.Result(q.Result), Campaign: q.Campaign, Customer: q.Customer,
	}
	return f, nil
}

func (r *Reader) view(c storage.Call) View {
	out := View{
		ID: c.ID, ContactCenter: c.ContactCenter, Tracker: c.Tracker, CallID: c.CallID, Direction: c.Direction,
		DID: c.DID, RawDID: c.RawDID, Caller: c.Caller, RawCaller: c.RawCaller, CallerName: c.CallerName,
		StartedAt: storage.OptionalTime(c.StartedAt), AnsweredAt: storage.OptionalTime(c.AnsweredAt), EndedAt: storage.OptionalTime(c.EndedAt),
		Duration: c.Duration, RingTime: c.RingTime, TalkTime: c.TalkTime, HoldTime: c.HoldTime,
		Result: string(c.Result), HangupCause: c.HangupCause, HangupBy: c.HangupBy,
		Agent: c.Agent, Position: c.Position, RecordingFile: c.RecordingFile, Campaign: c.Campaign,
		Route: c.Route, Decision: c.Decision, Flags: append([]string{}, c.Flags...), ReceivedAt: c.ReceivedAt,
		Customers: append([]storage.Customer{}, c.Customers...), Enrichment: c.Enrichment.Shown(),
	}
	if c.Enrichment.State == "" && r.lookupExpected(c) {
		out.Enrichment.State = storage.EnrichmentPending
	}
	return out
}
