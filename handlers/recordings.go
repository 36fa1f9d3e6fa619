package handlers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"sync"
	"time"

	"calltracker/rules"
	"calltracker/storage"
	"calltracker/ziwo"
)

// RecordingCode says why there is no recording to give. The zero value is
// invalid.
type RecordingCode string

// The reasons. The first two are both "not found", and mean different things:
// come again, or do not.
const (
	RecordingPending         RecordingCode = "recording_not_yet"
	NoRecording              RecordingCode = "no_recording"
	RangeNotSatisfiable      RecordingCode = "range_not_satisfiable"
	ContactCenterUnavailable RecordingCode = "contact_center_away"
	ContactCenterFailed      RecordingCode = "contact_center_fails"
	ContactCenterUnknown     RecordingCode = "contact_center_unknown"
)

// RecordingError is why there is no recording to give. Its text is fit for
// whoever asked.
type RecordingError struct {
	Code       RecordingCode
	Message    string
	RetryAfter time.Duration // when it makes sense to ask again; 0: it does not, or nobody knows
	Size       int64         // of the recording, with NoSuchRange; 0: not known
	Err        error         // the cause, for the log; may be nil
}

func (e *RecordingError) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap is the cause.
func (e *RecordingError) Unwrap() error { return e.Err }

// Times and sizes of recordings.
const (
	// Integrators report recordings that come up to half an hour late; longer
	// than this nobody needs to wait for one that the record does not name.
	maxUnnamedDelay = time.Hour
	// What the record names may take a day, such as after an outage at Ziwo.
	maxNamedDelay = 24 * time.Hour

	minRecordingRetry = 15 * time.Second
	maxRecordingRetry = 30 * time.Minute

	recordingOpenTimeout = 25 * time.Second // for logging in and finding it
	maxRecordingBytes    = 512 << 20        // bytes: 8 hours of a call at 128 kbit/s
)

// recordingStore is what Recordings needs of a store.
type recordingStore interface {
	Call(ctx context.Context, id string) (storage.Call, []storage.Revision, error)
	Recording(ctx context.Context, call string) (storage.Recording, error)
	KeepRecording(ctx context.Context, r storage.Recording) error
	OldRecordings(ctx context.Context, f storage.OldRecordings) ([]storage.Recording, error)
	ForgetRecording(ctx context.Context, call string) error
	AddJobs(ctx context.Context, now time.Time, jobs []storage.NewJob) error
}

// Recordings gives the recordings and voicemails of calls, and keeps copies of
// them where the configuration says so. They come from Ziwo, and whoever asks
// sees nothing of how: no address, no token.
type Recordings struct {
	Store      recordingStore
	Clients    *ZiwoClients
	Config     *ConfigController
	Local      CopyStore // of the data directory
	OpenBucket func(rules.Bucket) (CopyStore, error)
	Tidy       func(now time.Time) error // removes what broken downloads have left
	Now        func() time.Time
	Logger     *slog.Logger

	mu          sync.Mutex
	openBuckets []openBucket // that were used
}

// RecordingPart is the part of a recording that is wanted, as in HTTP.
type RecordingPart struct {
	Range   string // one range, or empty for all of it; what is no range is ignored
	IfRange string // an ETag or a date: the range holds only for that
}

// Recording is a recording, or a part of one, on its way. Body must be closed.
type Recording struct {
	Body         io.ReadCloser
	Size         int64 // of Body; -1: not known
	Partial      bool
	ContentType  string // audio/…
	ContentRange string // of a part
	ETag         string // may be empty
	LastModified string // may be empty
	FileName     string
}

// Open opens the recording of a call. Errors: storage.ErrNotFound when there is
// no such call, *RecordingError.
//
//	@Summary		The recording or voicemail of a call
//	@Description	The copy that is kept, else streamed from Ziwo; with range requests. Two problems of status 404 tell apart by their code: recording_not_yet comes with Retry-After, no_recording will not change.
//	@ID				getRecording
//	@Tags			calls
//	@Produce		audio/mpeg,audio/*
//	@Param			id			path		string	true	"Call"
//	@Param			Range		header		string	false	"One range of bytes, such as bytes=0-1023"
//	@Param			If-Range	header		string	false	"ETag or date: of another recording, all of it is sent"
//	@Success		200			{file}		binary
//	@Success		206			{file}		binary
//	@Header			200,206		{string}	Accept-Ranges	"bytes"
//	@Header			206			{string}	Content-Range	"Which part"
//	@Failure		401			{object}	Problem
//	@Failure		404			{object}	Problem
//	@Header			404			{integer}	Retry-After	"Seconds, with recording_not_yet"
//	@Failure		409			{object}	Problem
//	@Failure		416			{object}	Problem
//	@Failure		502			{object}	Problem
//	@Failure		503			{object}	Problem
//	@Header			503			{integer}	Retry-After	"Seconds"
//	@Security		Bearer
//	@Router			/api/v1/calls/{id}/recording [get]
func (h *Recordings) Open(ctx context.Context, id string, part RecordingPart) (*Recording, error) {
	call, revisions, err := h.Store.Call(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("load call %q: %w", shorten(id), err)
	}
	recording, err := h.openCopy(ctx, call, part)
	var unavailable *RecordingError
	if err == nil || errors.As(err, &unavailable) {
		return recording, err
	}
	if !errors.Is(err, storage.ErrNotFound) {
		h.Logger.LogAttrs(ctx, slog.LevelWarn, "the copy of a recording cannot be read, so Ziwo is asked", slog.String("call", call.ID), slog.Any("error", err))
	}
	return h.fetch(ctx, call, revisions, part)
}

// fetch opens a recording at Ziwo. The context is for the body, too.
func (h *Recordings) fetch(ctx context.Context, call storage.Call, revisions []storage.Revision, part RecordingPart) (*Recording, error) {
	if reason := noRecordingReason(call, h.Now()); reason != "" {
		return nil, &RecordingError{Code: NoRecording, Message: reason}
	}
	client, err := h.Clients.Client(call.ContactCenter)
	if err != nil {
		return nil, &RecordingError{Code: ContactCenterUnknown, Err: err,
			Message: fmt.Sprintf("the recording is at the contact center %q, for which the configuration has no credentials", call.ContactCenter)}
	}
	query := ziwo.RecordingQuery{CallID: call.CallID}
	for _, r := range revisions {
		if number := ziwo.RecordID(r.Raw); number != "" {
			query.RecordID = number
		}
	}
	if _, ok := parseRange(part.Range); ok {
		query.Range, query.IfRange = part.Range, part.IfRange
	}
	openCtx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(recordingOpenTimeout, func() { cancel(context.DeadlineExceeded) })
	found, err := client.Recording(openCtx, query)
	if !timer.Stop() && err == nil { // it came in the same moment
		_ = found.Body.Close()
		err = &ziwo.APIError{Op: "fetch recording", Kind: ziwo.Unavailable, Err: context.DeadlineExceeded}
	}
	if err != nil {
		cancel(nil)
		return nil, h.fetchError(call, err)
	}
	if found.ContentLength > maxRecordingBytes {
		_ = found.Body.Close()
		cancel(nil)
		return nil, &RecordingError{Code: ContactCenterFailed, Message: fmt.Sprintf("the recording has %d bytes, and at most %d are passed on", found.ContentLength, maxRecordingBytes)}
	}
	return &Recording{
		Body: &limitedBody{body: found.Body, left: maxRecordingBytes, done: func() { cancel(nil) }}, Size: found.ContentLength, Partial: found.Partial,
		ContentType: found.ContentType, ContentRange: found.ContentRange, ETag: found.ETag, LastModified: found.LastModified, FileName: fileName(call, found.ContentType),
	}, nil
}

// never is why a call has no recording, and will not have one; empty when it may.
func noRecordingReason(c storage.Call, now time.Time) string {
	switch {
	case c.CallID == "":
		return "the call has no callID, by which Ziwo would know its recording"
	case c.RecordingFile != "":
		return ""
	case c.Result != storage.Answered && c.Result != storage.Voicemail:
		return "the call was not recorded: nobody answered it, and no voicemail was left"
	case callAge(c, now) > maxUnnamedDelay:
		return "the call was not recorded: its record names no recording"
	default:
		return ""
	}
}

// age is for how long the call is over.
func callAge(c storage.Call, now time.Time) time.Duration {
	for _, at := range []time.Time{c.EndedAt, c.StartedAt, c.ReceivedAt} {
		if !at.IsZero() {
			return max(0, now.Sub(at))
		}
	}
	return 0
}

// again is when to look for a late recording next: soon after the call, and the
// later the longer.
func recordingRetryDelay(old time.Duration) time.Duration {
	return min(max(old/2, minRecordingRetry), maxRecordingRetry)
}

// missed says what it means that Ziwo did not give a recording.
func (h *Recordings) fetchError(call storage.Call, err error) error {
	out := &RecordingError{Err: err}
	var failure *ziwo.APIError
	if !errors.As(err, &failure) {
		return err
	}
	old := callAge(call, h.Now())
	switch {
	case failure.Status == http.StatusRequestedRangeNotSatisfiable:
		out.Code, out.Message = RangeNotSatisfiable, "the recording does not have this range"
	case failure.Kind == ziwo.NotFound && old > maxNamedDelay:
		out.Code, out.Message = NoRecording, "Ziwo has no recording of this call, and it is too late for one to come"
	case failure.Kind == ziwo.NotFound:
		out.Code, out.Message, out.RetryAfter = RecordingPending, "the recording is not there yet; Ziwo takes a while to store it", recordingRetryDelay(old)
	case failure.Kind == ziwo.Unavailable, failure.Kind == ziwo.RateLimited:
		out.Code, out.Message, out.RetryAfter = ContactCenterUnavailable, "Ziwo does not give the recording now; try again", max(failure.RetryAfter, 5*time.Second)
	case failure.Kind == ziwo.Unauthorized:
		out.Code, out.Message = ContactCenterFailed, "Ziwo does not take the credentials of the configuration, or they may not fetch recordings"
	default:
		out.Code, out.Message = ContactCenterFailed, "what Ziwo answered is no recording; recordings.styles of the contact center may name another address"
	}
	return out
}

var unsafeFileChars = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// fileName is what a recording is called when it is saved.
func fileName(c storage.Call, contentType string) string {
	return unsafeFileChars.ReplaceAllString(c.CallID, "_") + extension(contentType)
}

// extension is how the names of files of a type end.
func extension(contentType string) string {
	switch contentType {
	case "audio/mpeg", "audio/mp3":
		return ".mp3"
	case "audio/wav", "audio/wave", "audio/x-wav":
		return ".wav"
	case "audio/ogg", "audio/opus":
		return ".ogg"
	default:
		return ".audio"
	}
}

// bounded is a body that ends with an error where it is longer than allowed.
type limitedBody struct {
	body io.ReadCloser
	left int64
	done func()
}

var errTooLong = errors.New("the recording is longer than allowed")

func (b *limitedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

func (b *limitedBody) Close() error {
	err := b.body.Close()
	b.done()
	return err
}
