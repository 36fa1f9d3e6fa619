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

// decisionStore is the part of a store that CallTracker uses.
type decisionStore interface {
	RecordDecisions(ctx context.Context, decisions []storage.Decision) error
}

// counter counts events. Replicas may share it. Losing a count is acceptable.
type counter interface {
	Next(key string) uint64
	Hit(key string, window time.Duration) (hits int, closes time.Duration)
}

// CallTracker answers Ziwo's start calls and stores the records of finished
// calls. It is safe for concurrent use.
type CallTracker struct {
	Config     *ConfigController
	Store      decisionStore
	Intake     *Intake
	Counter    counter
	Customers  directory // nil disables customer lookups
	Numbers    *Numbers
	Decisions  *Queue[DecisionRecord]
	Rejections *Rejections
	Metrics    *Metrics
	Jobs       func(storage.Call) []storage.NewJob // jobs caused by a stored call; nil means none
	Now        func() time.Time
	Logger     *slog.Logger
}

// Endpoint is one of the two endpoints of a tracker. Each has its own keys.
type Endpoint string

// Endpoints of a tracker.
const (
	EndpointStartCall Endpoint = "start"
	EndpointEndCall   Endpoint = "end"
)

// Number of wrong keys that an address may send within the window.
const (
	maxWrongKeys   = 30
	wrongKeyWindow = time.Minute
)

// AuthorizedTracker is a tracker whose key was accepted, together with the
// configuration snapshot that was active at the time.
type AuthorizedTracker struct {
	snapshot *Snapshot
	lane
}

// Blocked reports whether the tracker rejects start calls.
func (l AuthorizedTracker) Blocked() bool { return l.router.Blocked() }

// Authorize finds the tracker and checks the key. Errors: *UnknownTracker,
// ErrUnauthorized, *TooManyWrongKeys. A correct key is always accepted, even from
// an address that has sent too many wrong keys.
func (h *CallTracker) Authorize(tracker string, endpoint Endpoint, key, address string) (AuthorizedTracker, error) {
	snapshot := h.Config.Current()
	if snapshot == nil {
		return AuthorizedTracker{}, &UnknownTracker{ID: tracker}
	}
	found, ok := snapshot.lanes.find(tracker)
	if !ok {
		return AuthorizedTracker{}, &UnknownTracker{ID: tracker}
	}
	keys := found.router.StartKeys()
	if endpoint == EndpointEndCall {
		keys = found.router.EndKeys()
	}
	if !keys.Admits(key) {
		return AuthorizedTracker{}, rejectKey(h.Counter, key, address)
	}
	return AuthorizedTracker{snapshot: snapshot, lane: found}, nil
}

// rejectKey returns the error for a wrong or missing key. Only wrong keys count
// toward the limit, because a missing key is not a guess.
func rejectKey(c counter, key, address string) error {
	if key == "" {
		return ErrUnauthorized
	}
	if hits, closes := c.Hit(address, wrongKeyWindow); hits > maxWrongKeys {
		return &TooManyWrongKeys{RetryAfter: closes}
	}
	return ErrUnauthorized
}

// StartAnswer is the answer to a start call.
type StartAnswer struct {
	DIDCalled string // dialed DID, exactly as received
	Decision  rules.Decision
	ID        string // decision ID
}

// Start answers a start call. It never waits for a database. It waits for a CRM
// only if a route of the tracker depends on the customer, and no longer than the
// tracker allows. A DID that the tracker does not list is answered like any other
// and flagged. The decision is recorded in the background.
//
//	@Summary		Answer where a call goes
//	@Description	Ziwo calls this endpoint when a call arrives. The body may be multipart/form-data, application/json, or application/x-www-form-urlencoded, and the fields may also be query parameters. Send the key in X-API-Key or as the HTTP Basic password.
//	@ID		startCall
//	@Tags			Ziwo
//	@Accept			mpfd,json,x-www-form-urlencoded
//	@Produce		json
//	@Param			tracker			path		string	true	"Tracker ID"
//	@Param			didCalled		formData	string	true	"Dialed number"
//	@Param			callerIDNumber	formData	string	false	"Caller number"
//	@Param			callID			formData	string	false	"Call ID assigned by Ziwo"
//	@Success		200				{object}	StartEnvelope
//	@Failure		400				{object}	ErrorEnvelope
//	@Failure		401				{object}	ErrorEnvelope
//	@Failure		403				{object}	ErrorEnvelope
//	@Failure		404				{object}	ErrorEnvelope
//	@Failure		408				{object}	ErrorEnvelope
//	@Failure		413				{object}	ErrorEnvelope
//	@Failure		429				{object}	ErrorEnvelope
//	@Failure		500				{object}	ErrorEnvelope
//	@Header			429				{integer}	Retry-After	"Seconds to wait before retrying"
//	@Security	TrackerKey
//	@Security	TrackerBasic
//	@x-any-body	true
//	@Router			/callTrackers/{tracker}/startCall [post]
func (h *CallTracker) Start(ctx context.Context, tracker AuthorizedTracker, in ziwo.Start) StartAnswer {
	facts := startFacts(in, tracker.router, h.Numbers, h.Now())
	if wait, reads := tracker.router.CustomerWait(); reads {
		facts.Caller = h.Numbers.Parse(in.Caller, tracker.router.Region())
		facts.Customer = lookUpCustomer(ctx, h.Customers, facts.Caller, wait)
	}
	decision := tracker.router.Decide(facts)
	if decision.Rotating {
		decision = decision.Turn(h.Counter.Next(tracker.router.ID() + "/" + decision.Route))
	}
	id := newID()
	h.Decisions.Add(DecisionRecord{id: id, tracker: tracker, facts: facts, rules: decision.Rules, notes: in.Notes})
	tracker.decided[decision.Index].Add(1)
	return StartAnswer{DIDCalled: in.DIDCalled, Decision: decision, ID: id}
}

// startFacts returns the facts of a start request for the routing engine. It
// parses the caller only if a condition depends on it.
func startFacts(in ziwo.Start, router *rules.Router, numbers *Numbers, now time.Time) rules.Facts {
	facts := rules.Facts{At: now, CallID: in.CallID, Request: in.Fields}
	did, listed := router.Listed(in.DIDCalled)
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

// DecisionRecord is a decision that is queued for the store.
type DecisionRecord struct {
	id      string
	tracker AuthorizedTracker
	facts   rules.Facts
	rules   []rules.Rule // after rotation
	notes   []string
}

// RecordDecisions stores decisions with their traces. A decision is a pure
// function of its facts, so the trace is built here instead of while Ziwo waits.
func (h *CallTracker) RecordDecisions(ctx context.Context, batch []DecisionRecord) error {
	records := make([]storage.Decision, len(batch))
	for i, d := range batch {
		runtime.Gosched() // let waiting calls run first
		router := d.tracker.router
		decision, trace := router.Explain(d.facts)
		caller := d.facts.Caller
		if !router.ReadsCaller() { // not parsed yet
			caller = h.Numbers.Parse(caller.Raw, router.Region())
		}
		records[i] = storage.Decision{
			ID: d.id, Tracker: router.ID(), At: d.facts.At.UTC().Truncate(time.Microsecond),
			DID: d.facts.DID.Key(), RawDID: d.facts.DID.Raw, Caller: caller.Key(), RawCaller: caller.Raw,
			CallID: d.facts.CallID, Route: decision.Route, Voicemail: decision.Voicemail, Rules: d.rules,
			Flags: slices.Concat(decision.Flags, d.notes), Trace: trace, ConfigVersion: d.tracker.snapshot.Version.Version,
		}
	}
	if err := h.Store.RecordDecisions(ctx, records); err != nil {
		return fmt.Errorf("record %d decisions: %w", len(records), err)
	}
	return nil
}

// RawReport is the unparsed body of a request that reports a call.
type RawReport struct {
	ContentType string
	Query       string
	Body        []byte
}

// Receipt describes a stored report.
type Receipt struct {
	Saved    storage.Saved // zero if the report was spooled
	Warnings []string      // for the sender
}

// End stores the record of a finished call. When it returns nil, the record is
// on disk, in the database or in the spool. A body that is not a call detail
// record is stored too, and the receipt has a warning. Errors: ErrEmptyBody,
// ErrNotStored.
//
//	@Summary		Report a finished call
//	@Description	Ziwo sends the call detail record (CDR) here when a call ends. Status 200 means that the record is on disk. A body that is not a CDR is stored too, and info contains a warning.
//	@ID		endCall
//	@Tags			Ziwo
//	@Accept			json,mpfd,x-www-form-urlencoded
//	@Produce		json
//	@Param			tracker		path		string	true	"Tracker ID"
//	@Param			body		body		object	true	"Call detail record, at the top level or under content"
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
//	@Header			429			{integer}	Retry-After	"Seconds to wait before retrying"
//	@Header			503			{integer}	Retry-After	"Seconds to wait before retrying"
//	@Security	TrackerKey
//	@Security	TrackerBasic
//	@x-any-body	true
//	@Router			/callTrackers/{tracker}/endCall [post]
func (h *CallTracker) End(ctx context.Context, tracker AuthorizedTracker, in RawReport) (Receipt, error) {
	return h.saveReport(ctx, in, storage.FromEndCall, origin{
		tracker: tracker.router.ID(), contactCenter: tracker.router.ContactCenter(), region: tracker.router.Region(), campaign: tracker.router.Campaign,
	})
}

// AuthorizeWebhook finds the contact center that a webhook key belongs to.
// Errors: ErrUnauthorized, *TooManyWrongKeys.
func (h *CallTracker) AuthorizeWebhook(key, address string) (AuthorizedWebhook, error) {
	if snapshot := h.Config.Current(); snapshot != nil {
		if contactCenter, ok := snapshot.Set.Webhook(key); ok {
			return AuthorizedWebhook{snapshot: snapshot, contactCenter: contactCenter}, nil
		}
	}
	return AuthorizedWebhook{}, rejectKey(h.Counter, key, address)
}

// AuthorizedWebhook is a contact center whose webhook key was accepted.
type AuthorizedWebhook struct {
	snapshot      *Snapshot
	contactCenter string
}

// History stores a record from Ziwo's call-history webhook in the same way as End.
//
//	@Summary		Receive a call-history record
//	@Description	Ziwo's call-history webhook sends calls here that no tracker handled. They are stored like those of endCall. The key identifies the contact center.
//	@ID		callHistory
//	@Tags			Ziwo
//	@Accept			json
//	@Produce		json
//	@Param			body		body		object	true	"Webhook action and content"
//	@Success		200			{object}	Envelope
//	@Failure		400			{object}	ErrorEnvelope
//	@Failure		401			{object}	ErrorEnvelope
//	@Failure		408			{object}	ErrorEnvelope
//	@Failure		413			{object}	ErrorEnvelope
//	@Failure		429			{object}	ErrorEnvelope
//	@Failure		500			{object}	ErrorEnvelope
//	@Failure		503			{object}	ErrorEnvelope
//	@Header			429			{integer}	Retry-After	"Seconds to wait before retrying"
//	@Header			503			{integer}	Retry-After	"Seconds to wait before retrying"
//	@Security	TrackerKey
//	@Security	TrackerBasic
//	@x-any-body	true
//	@Router			/webhooks/ziwo/callHistory [post]
func (h *CallTracker) History(ctx context.Context, webhook AuthorizedWebhook, in RawReport) (Receipt, error) {
	set := webhook.snapshot.Set
	return h.saveReport(ctx, in, storage.FromCallHistory, origin{
		contactCenter: webhook.contactCenter, region: set.Region(webhook.contactCenter),
		campaign: func(did phone.Number) string { return set.Campaign(webhook.contactCenter, did) },
	})
}

// origin holds what the sender of a record implies about its call.
type origin struct {
	tracker, contactCenter, region string
	campaign                       func(did phone.Number) string
}

func (h *CallTracker) saveReport(ctx context.Context, in RawReport, source storage.Source, from origin) (Receipt, error) {
	raw := in.Body
	if len(raw) == 0 {
		raw = []byte(in.Query)
	}
	cdr, err := ziwo.ReadCDR(in.ContentType, in.Query, in.Body)
	if errors.Is(err, ziwo.ErrEmpty) {
		return Receipt{}, ErrEmptyBody
	}
	var out Receipt
	call := h.callFromCDR(cdr, from)
	if err != nil {
		out.Warnings = []string{fmt.Sprintf("the body was stored, but it is not a call detail record: %v", err)}
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
	out.Saved, _, err = h.Intake.Accept(ctx, report)
	if err != nil {
		return Receipt{}, fmt.Errorf("store call report: %w", err)
	}
	return out, nil
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// callFromCDR returns the call that a CDR describes.
func (h *CallTracker) callFromCDR(cdr ziwo.CDR, from origin) storage.Call {
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

// newID returns a UUIDv7, which sorts by creation time.
func newID() string { return uuid.Must(uuid.NewV7()).String() }
