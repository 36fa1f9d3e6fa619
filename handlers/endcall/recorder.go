// Package endcall stores the CDRs of finished calls. A CDR is safe on disk before Ziwo
// gets an answer: in the database, or in the spool while the database is unavailable.
package endcall

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/storage"
	"calltracker/ziwo"
)

// ErrEmptyBody rejects a request without a CDR.
var ErrEmptyBody = errors.New("empty body: send the CDR")

// jobSource returns the jobs that a call causes, such as the copy of its recording.
type jobSource interface {
	Jobs(storage.Call) []storage.NewJob
}

// Recorder converts CDRs to calls and stores them. It is safe for concurrent use.
type Recorder struct {
	intake  *Intake
	jobs    jobSource
	numbers *phone.Cache
	now     func() time.Time
}

// NewRecorder returns a Recorder that stores calls through intake, together with their
// jobs.
func NewRecorder(intake *Intake, jobs jobSource, numbers *phone.Cache, now func() time.Time) *Recorder {
	if intake == nil || jobs == nil || numbers == nil || now == nil {
		panic("endcall.NewRecorder: intake, jobs, numbers, and now are required")
	}
	return &Recorder{intake: intake, jobs: jobs, numbers: numbers, now: now}
}

// Request is a request that reports a call, exactly as it was received.
type Request struct {
	ContentType string
	Query       string
	Body        []byte
}

// Receipt is the result of storing a CDR.
type Receipt struct {
	Saved    storage.SaveResult // zero if the CDR went to the spool
	Warnings []string           // for the sender
}

// End stores the CDR of a finished call. When it returns without an error, the CDR is
// safe on disk, in the database or in the spool. A body that is not a CDR is stored too,
// and the receipt has a warning. Errors: ErrEmptyBody, ErrNotStored.
func (r *Recorder) End(ctx context.Context, tracker *config.ActiveTracker, in Request) (Receipt, error) {
	return r.record(ctx, in, storage.FromEndCall, tracker.Origin())
}

// History stores a CDR from Ziwo's call-history webhook in the same way as End.
func (r *Recorder) History(ctx context.Context, from config.Origin, in Request) (Receipt, error) {
	return r.record(ctx, in, storage.FromCallHistory, from)
}

// Backfill stores a CDR that was missing or incomplete, as JSON, in the same way as End.
func (r *Recorder) Backfill(ctx context.Context, from config.Origin, cdr []byte) (storage.SaveResult, error) {
	receipt, err := r.record(ctx, Request{ContentType: "application/json", Body: cdr}, storage.FromReconciliation, from)
	return receipt.Saved, err
}

func (r *Recorder) record(ctx context.Context, in Request, source storage.Source, from config.Origin) (Receipt, error) {
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
		receipt.Warnings = []string{fmt.Sprintf("the body was stored, but cannot be used: %v", err)}
		call = storage.Call{Tracker: from.Tracker, ContactCenter: from.ContactCenter, Result: storage.Unreadable}
	}
	if call.CallID == "" {
		call.Key = "sha256:" + digest(raw)
	}
	call.ReceivedAt = r.now().UTC().Truncate(time.Microsecond)
	receipt.Saved, _, err = r.intake.Accept(ctx, storage.ReceivedCDR{Call: call, Source: source, Raw: raw, Jobs: r.jobs.Jobs(call)})
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
func (r *Recorder) Call(cdr ziwo.CDR, from config.Origin) storage.Call {
	did := r.numbers.Parse(cdr.DIDCalled, from.Region)
	caller := r.numbers.Parse(cdr.CallerNumber, from.Region)
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
