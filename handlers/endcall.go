package handlers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"calltracker/storage"
	"calltracker/ziwo"
)

// ErrEmptyBody is the error of a request without a record.
var ErrEmptyBody = errors.New("empty body: send the CDR")

// callJobs returns the jobs that a call causes, such as the copy of its
// recording.
type callJobs interface {
	Jobs(storage.Call) []storage.NewJob
}

// RecorderOptions are what a Recorder is made from. All fields are required.
type RecorderOptions struct {
	Intake  *Intake
	Jobs    callJobs
	Numbers *Numbers
	Now     func() time.Time
}

// Recorder stores the CDRs of finished calls. It is safe for concurrent use.
type Recorder struct{ RecorderOptions }

// NewRecorder returns a Recorder.
func NewRecorder(o RecorderOptions) *Recorder { return &Recorder{o} }

// EndRequest is a request that reports a call, exactly as it was received.
type EndRequest struct {
	ContentType string
	Query       string
	Body        []byte
}

// Receipt says what was stored for an EndRequest.
type Receipt struct {
	Saved    storage.SaveResult // zero if the record went to the spool
	Warnings []string           // for the sender
}

// End stores the CDR of a finished call. When it returns without an error, the
// record is safe on disk, in the database or in the spool. A body that is not a
// CDR is stored too, and the receipt has a warning. Errors: ErrEmptyBody,
// ErrNotKept.
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
func (r *Recorder) End(ctx context.Context, tracker *ActiveTracker, in EndRequest) (Receipt, error) {
	return r.Record(ctx, in, storage.FromEndCall, tracker.Origin())
}

// History stores a CDR from Ziwo's call-history webhook in the same way as End.
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
func (r *Recorder) History(ctx context.Context, from Origin, in EndRequest) (Receipt, error) {
	return r.Record(ctx, in, storage.FromCallHistory, from)
}

// Record stores a CDR in the same way as End, whatever its source.
func (r *Recorder) Record(ctx context.Context, in EndRequest, source storage.Source, from Origin) (Receipt, error) {
	raw := in.Body
	if len(raw) == 0 {
		raw = []byte(in.Query)
	}
	cdr, err := ziwo.ParseCDR(in.ContentType, in.Query, in.Body)
	if errors.Is(err, ziwo.ErrEmptyBody) {
		return Receipt{}, ErrEmptyBody
	}
	var receipt Receipt
	call := r.Call(cdr, from)
	if err != nil {
		receipt.Warnings = []string{fmt.Sprintf("the body was stored, but it is not a CDR: %v", err)}
		call = storage.Call{Tracker: from.Tracker, ContactCenter: from.ContactCenter, Result: storage.Unreadable}
	}
	if call.CallID == "" {
		call.Key = "sha256:" + digest(raw)
	}
	call.ReceivedAt = r.Now().UTC().Truncate(time.Microsecond)
	receipt.Saved, _, err = r.Intake.Accept(ctx, storage.ReceivedCDR{Call: call, Source: source, Raw: raw, Jobs: r.Jobs.Jobs(call)})
	if err != nil {
		return Receipt{}, fmt.Errorf("store CDR: %w", err)
	}
	return receipt, nil
}

func digest(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// Call returns the call that a CDR describes.
func (r *Recorder) Call(cdr ziwo.CDR, from Origin) storage.Call {
	did := r.Numbers.Parse(cdr.DIDCalled, from.Region)
	caller := r.Numbers.Parse(cdr.CallerNumber, from.Region)
	return storage.Call{
		ContactCenter: from.ContactCenter, Key: cdr.CallID, Tracker: from.Tracker, CallID: cdr.CallID, Direction: cdr.Direction,
		DID: did.Key(), RawDID: cdr.DIDCalled, Caller: caller.Key(), RawCaller: cdr.CallerNumber, CallerName: cdr.CallerName,
		StartedAt: cdr.StartedAt, AnsweredAt: cdr.AnsweredAt, EndedAt: cdr.EndedAt,
		Duration: cdr.Duration, RingTime: cdr.RingTime, TalkTime: cdr.TalkTime, HoldTime: cdr.HoldTime,
		Result: storage.Result(cdr.Outcome), HangupCause: cdr.HangupCause, HangupBy: cdr.HangupBy,
		Agent: cdr.Agent, Position: cdr.Position, RecordingFile: cdr.RecordingFile,
		Campaign: from.Campaign(did), Flags: cdr.Notes, RevisedAt: cdr.UpdatedAt,
	}
}
