package handlers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"

	"calltracker/phone"
	"calltracker/rules"
	"calltracker/storage"
	"calltracker/ziwo"
)

// callStore is what CallTracker needs of a store.
type callStore interface {
	RecordDecisions(ctx context.Context, decisions []storage.Decision) error
}

// counter counts what is good to share and safe to lose.
type counter interface {
	Next(key string) uint64
	Hit(key string, window time.Duration) (hits int, closes time.Duration)
}

// CallTracker answers what Ziwo asks: where a call goes, and whether its record
// is safe. It is safe for concurrent use.
type CallTracker struct {
	Config     *Config
	Store      callStore
	Keeper     *Keeper
	Counter    counter
	Customers  directory // nil: nobody is looked up
	Numbers    *Numbers
	Decisions  *Queue[Decided]
	Rejections *Rejections
	Metrics    *Metrics
	Jobs       func(storage.Call) []storage.NewJob // that a call causes; nil: none
	Now        func() time.Time
	Logger     *slog.Logger
}

// Side is one of the two endpoints of a tracker; they have their own keys.
type Side string

// The endpoints of a tracker.
const (
	StartSide Side = "start"
	EndSide   Side = "end"
)

// Wrong keys that one address may send before it has to wait.
const (
	wrongKeys      = 30
	wrongKeyWindow = time.Minute
)

// Line is a tracker whose key was right, in the configuration of that moment.
type Line struct {
	live *Live
	*liveTracker
}

// Blocked tells whether the tracker takes no start calls.
func (l Line) Blocked() bool { return l.blocked }

// Admit finds the tracker and checks the key. Errors: *UnknownTracker,
// ErrUnauthorized, *TooManyWrongKeys. A right key is never refused for another's
// wrong ones.
func (h *CallTracker) Admit(tracker string, side Side, key, address string) (Line, error) {
	live := h.Config.Live()
	if live == nil {
		return Line{}, &UnknownTracker{ID: tracker}
	}
	tracked, ok := live.trackers[tracker]
	if !ok {
		return Line{}, &UnknownTracker{ID: tracker}
	}
	keys := tracked.startKeys
	if side == EndSide {
		keys = tracked.endKeys
	}
	if !keys.Admits(key) {
		return Line{}, wrongKey(h.Counter, key, address)
	}
	return Line{live, tracked}, nil
}

// wrongKey is the error for a key that was wrong or missing. Only wrong ones
// count: nobody guesses by sending none.
func wrongKey(c counter, key, address string) error {
	if key == "" {
		return ErrUnauthorized
	}
	if hits, closes := c.Hit(address, wrongKeyWindow); hits > wrongKeys {
		return &TooManyWrongKeys{RetryAfter: closes}
	}
	return ErrUnauthorized
}

// StartAnswer is where a call goes.
type StartAnswer struct {
	DIDCalled string // byte for byte as it came
	Decision  rules.Decision
	ID        string // of the decision
}

// Start answers a start call. It never waits for a database, and for a CRM only
// when a route of the tracker looks at the customer, for as long as the tracker
// allows. A DID that the tracker does not list is answered like any other, and
// flagged. The decision is recorded in the background.
//
//	@Summary		Ziwo asks where a call goes
//	@Description	Also takes application/json, x-www-form-urlencoded and query parameters. The key goes into X-API-Key or is the password of HTTP Basic.
//	@ID		startCall
//	@Tags			Ziwo
//	@Accept			mpfd,json,x-www-form-urlencoded
//	@Produce		json
//	@Param			tracker			path		string	true	"Tracker"
//	@Param			didCalled		formData	string	true	"The number that was dialled"
//	@Param			callerIDNumber	formData	string	false	"The caller"
//	@Param			callID			formData	string	false	"Ziwo's id of the call"
//	@Success		200				{object}	StartEnvelope
//	@Failure		400				{object}	ErrorEnvelope
//	@Failure		401				{object}	ErrorEnvelope
//	@Failure		403				{object}	ErrorEnvelope
//	@Failure		404				{object}	ErrorEnvelope
//	@Failure		408				{object}	ErrorEnvelope
//	@Failure		413				{object}	ErrorEnvelope
//	@Failure		429				{object}	ErrorEnvelope
//	@Failure		500				{object}	ErrorEnvelope
//	@Header			429				{integer}	Retry-After	"Seconds"
//	@Security	TrackerKey
//	@Security	TrackerBasic
//	@x-any-body	true
//	@Router			/callTrackers/{tracker}/startCall [post]
func (h *CallTracker) Start(ctx context.Context, line Line, in ziwo.Start) StartAnswer {
	facts := factsOf(in, line.router, h.Numbers, h.Now())
	if line.router.ReadsCustomer() {
		facts.Caller = h.Numbers.Parse(in.Caller, line.router.Region())
		facts.Customer = customerOf(ctx, h.Customers, facts.Caller, line.customerTimeout)
	}
	decision := line.router.Decide(facts)
	if decision.Rotating {
		decision = decision.Turn(h.Counter.Next(line.router.ID() + "/" + decision.Route))
	}
	id := newID()
	h.Decisions.Offer(Decided{id: id, line: line, facts: facts, rules: decision.Rules, notes: in.Notes})
	line.decided[decision.Index].Add(1)
	return StartAnswer{DIDCalled: in.DIDCalled, Decision: decision, ID: id}
}

// factsOf is what a start request tells the engine. The caller is parsed only
// when a condition looks at it.
func factsOf(in ziwo.Start, router *rules.Router, numbers *Numbers, now time.Time) rules.Facts {
	facts := rules.Facts{At: now, CallID: in.CallID, Request: in.Fields}
	did, listed := router.FindDID(in.DIDCalled)
	if !listed {
		did = numbers.Parse(in.DIDCalled, router.Region())
	}
	facts.DID = did
	facts.Caller = phone.Number{Raw: in.Caller}
	if router.ReadsCaller() {
		facts.Caller = numbers.Parse(in.Caller, router.Region())
	}
	return facts
}

// Decided is a decision on its way into the store.
type Decided struct {
	id    string
	line  Line
	facts rules.Facts
	rules []rules.Rule // after a rotation
	notes []string
}

// RecordDecisions stores decisions with their traces. A decision is a pure
// function of its facts, so the trace is made here and not while the caller
// waits.
func (h *CallTracker) RecordDecisions(ctx context.Context, batch []Decided) error {
	records := make([]storage.Decision, len(batch))
	for i, d := range batch {
		runtime.Gosched() // calls that wait go first
		router := d.line.router
		decision, trace := router.Explain(d.facts)
		caller := d.facts.Caller
		if !router.ReadsCaller() { // it was not parsed yet
			caller = h.Numbers.Parse(caller.Raw, router.Region())
		}
		records[i] = storage.Decision{
			ID: d.id, Tracker: router.ID(), At: d.facts.At.UTC().Truncate(time.Microsecond),
			DID: d.facts.DID.Key(), RawDID: d.facts.DID.Raw, Caller: caller.Key(), RawCaller: caller.Raw,
			CallID: d.facts.CallID, Route: decision.Route, Voicemail: decision.Voicemail, Rules: d.rules,
			Flags: slices.Concat(decision.Flags, d.notes), Trace: trace, ConfigVersion: d.line.live.Version.Version,
		}
	}
	if err := h.Store.RecordDecisions(ctx, records); err != nil {
		return fmt.Errorf("record %d decisions: %w", len(records), err)
	}
	return nil
}

// Record is a body that reports a call, as it came.
type Record struct {
	ContentType string
	Query       string
	Body        []byte
}

// Kept tells what became of a Record.
type Kept struct {
	Saved    storage.Saved // zero when it was spooled
	Warnings []string      // for the sender
}

// End keeps the record of a finished call; when it returns without an error,
// the record is safe on disk: in the database, or in the spool. A body that is no
// record is kept as well and warned of. Errors: ErrEmptyBody, ErrNotKept.
//
//	@Summary		Ziwo reports a finished call
//	@Description	200 means that the record is safe on disk. A body that is no call record is kept as well, with a warning in info.
//	@ID		endCall
//	@Tags			Ziwo
//	@Accept			json,mpfd,x-www-form-urlencoded
//	@Produce		json
//	@Param			tracker		path		string	true	"Tracker"
//	@Param			body		body		object	true	"Call detail record, bare or under content"
//	@Success		200			{object}	Envelope
//	@Failure		400			{object}	ErrorEnvelope
//	@Failure		401			{object}	ErrorEnvelope
//	@Failure		403			{object}	ErrorEnvelope
//	@Failure		404			{object}	ErrorEnvelope
//	@Failure		408			{object}	ErrorEnvelope
//	@Failure		413			{object}	ErrorEnvelope
//	@Failure		429			{object}	ErrorEnvelope
//	@Failure		500			{object}	ErrorEnvelope
//	@Failure		503			{object}	ErrorEnvelope
//	@Header			429			{integer}	Retry-After	"Seconds"
//	@Header			503			{integer}	Retry-After	"Seconds"
//	@Security	TrackerKey
//	@Security	TrackerBasic
//	@x-any-body	true
//	@Router			/callTrackers/{tracker}/endCall [post]
func (h *CallTracker) End(ctx context.Context, line Line, in Record) (Kept, error) {
	return h.keep(ctx, in, storage.FromEndCall, origin{
		tracker: line.router.ID(), contactCenter: line.router.ContactCenter(), region: line.router.Region(), campaign: line.router.Campaign,
	})
}

// AdmitWebhook finds the contact centre that a webhook's key belongs to. Errors:
// ErrUnauthorized, *TooManyWrongKeys.
func (h *CallTracker) AdmitWebhook(key, address string) (WebhookLine, error) {
	if live := h.Config.Live(); live != nil {
		if contactCenter, ok := live.WebhookKeys.ContactCenter(key); ok {
			return WebhookLine{live: live, contactCenter: contactCenter}, nil
		}
	}
	return WebhookLine{}, wrongKey(h.Counter, key, address)
}

// WebhookLine is a contact centre whose webhook key was right.
type WebhookLine struct {
	live          *Live
	contactCenter string
}

// History keeps a record that came by Ziwo's call-history webhook, as End does.
//
//	@Summary		Ziwo's call-history webhook
//	@Description	For calls that no tracker saw; stored like those of endCall. The key tells the contact center.
//	@ID		callHistory
//	@Tags			Ziwo
//	@Accept			json
//	@Produce		json
//	@Param			body		body		object	true	"Action and content"
//	@Success		200			{object}	Envelope
//	@Failure		400			{object}	ErrorEnvelope
//	@Failure		401			{object}	ErrorEnvelope
//	@Failure		408			{object}	ErrorEnvelope
//	@Failure		413			{object}	ErrorEnvelope
//	@Failure		429			{object}	ErrorEnvelope
//	@Failure		500			{object}	ErrorEnvelope
//	@Failure		503			{object}	ErrorEnvelope
//	@Header			429			{integer}	Retry-After	"Seconds"
//	@Header			503			{integer}	Retry-After	"Seconds"
//	@Security	TrackerKey
//	@Security	TrackerBasic
//	@x-any-body	true
//	@Router			/webhooks/ziwo/callHistory [post]
func (h *CallTracker) History(ctx context.Context, line WebhookLine, in Record) (Kept, error) {
	set := line.live.Set
	return h.keep(ctx, in, storage.FromCallHistory, origin{
		contactCenter: line.contactCenter, region: set.Region(line.contactCenter),
		campaign: func(did phone.Number) string { return set.Campaign(line.contactCenter, did) },
	})
}

// origin is what the sender of a record tells about its call.
type origin struct {
	tracker, contactCenter, region string
	campaign                       func(did phone.Number) string
}

func (h *CallTracker) keep(ctx context.Context, in Record, source storage.Source, from origin) (Kept, error) {
	raw := in.Body
	if len(raw) == 0 {
		raw = []byte(in.Query)
	}
	cdr, err := ziwo.ReadCDR(in.ContentType, in.Query, in.Body)
	if errors.Is(err, ziwo.ErrEmpty) {
		return Kept{}, ErrEmptyBody
	}
	var out Kept
	call := h.callOf(cdr, from)
	if err != nil {
		out.Warnings = []string{fmt.Sprintf("the body was kept, but it is no call record: %v", err)}
		call = storage.Call{Tracker: from.tracker, ContactCenter: from.contactCenter, Result: storage.Unreadable}
	}
	if call.CallID == "" {
		call.Key = "sha256:" + digest(raw)
	}
	call.ReceivedAt = h.Now().UTC().Truncate(time.Microsecond)
	report := storage.Report{Call: call, Source: source, Raw: raw}
	if h.Jobs != nil {
		report.Jobs = h.Jobs(call)
	}
	out.Saved, _, err = h.Keeper.Keep(ctx, report)
	if err != nil {
		return Kept{}, fmt.Errorf("keep call: %w", err)
	}
	return out, nil
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// callOf is the call that a CDR tells of.
func (h *CallTracker) callOf(cdr ziwo.CDR, from origin) storage.Call {
	did := h.Numbers.Parse(cdr.DIDCalled, from.region)
	caller := h.Numbers.Parse(cdr.CallerNumber, from.region)
	return storage.Call{
		ContactCenter: from.contactCenter, Key: cdr.CallID, Tracker: from.tracker, CallID: cdr.CallID, Direction: cdr.Direction,
		DID: did.Key(), RawDID: cdr.DIDCalled, Caller: caller.Key(), RawCaller: cdr.CallerNumber, CallerName: cdr.CallerName,
		StartedAt: cdr.StartedAt, AnsweredAt: cdr.AnsweredAt, EndedAt: cdr.EndedAt,
		Duration: cdr.Duration, RingTime: cdr.RingTime, TalkTime: cdr.TalkTime, HoldTime: cdr.HoldTime,
		Result: storage.Result(cdr.Outcome), HangupCause: cdr.HangupCause, HangupBy: cdr.HangupBy,
		Agent: cdr.Agent, Position: cdr.Position, RecordingFile: cdr.RecordingFile,
		Campaign: from.campaign(did), Flags: cdr.Notes, RevisedAt: cdr.UpdatedAt,
	}
}

// newID is a UUIDv7: sortable by time, made without asking anyone.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
