// Package recordings provides the recordings and voicemails of calls. It fetches them from
// Ziwo without exposing Ziwo's URLs or tokens to clients, and copies them to the data
// directory or a bucket if configured.
package recordings

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

	"calltracker/config"
	"calltracker/handlers/ziwoclients"
	"calltracker/problem"
	"calltracker/storage"
	"calltracker/ziwo"
)

// Code is the reason why a recording is unavailable. The zero value is invalid.
type Code string

// Reasons. The first two have the same HTTP status, but only Pending is temporary.
const (
	Pending                  Code = "recording_not_yet"
	NoRecording              Code = "no_recording"
	RangeNotSatisfiable      Code = "range_not_satisfiable"
	ContactCenterUnavailable Code = "contact_center_away"
	ContactCenterFailed      Code = "contact_center_fails"
	ContactCenterUnknown     Code = "contact_center_unknown"
)

// Error reports why a recording is unavailable. Its text may be shown to the
// client.
type Error struct {
	Code       Code
	Message    string
	RetryAfter time.Duration // delay before a retry is useful; 0 if none is or it is unknown
	Size       int64         // size of the recording with RangeNotSatisfiable; 0 if unknown
	Err        error         // cause, for the log; may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Timeouts and limits of recordings.
const (
	// Integrators report recordings that arrive up to half an hour late. After this
	// time, a recording that the record does not name is not expected.
	maxUnnamedDelay = time.Hour
	// A recording that the record names may take a day, such as after an outage of Ziwo.
	maxNamedDelay = 24 * time.Hour

	minRetry = 15 * time.Second
	maxRetry = 30 * time.Minute

	openTimeout = 25 * time.Second // for logging in and opening the recording
	maxBytes    = 512 << 20        // 8 hours at 128 kbit/s
)

// recordingStore is the part of a store that Library uses.
type recordingStore interface {
	Call(ctx context.Context, id string) (storage.Call, []storage.Revision, error)
	Recording(ctx context.Context, call string) (storage.Recording, error)
	SaveRecording(ctx context.Context, r storage.Recording) error
	OldRecordings(ctx context.Context, f storage.RecordingFilter) ([]storage.Recording, error)
	DeleteRecording(ctx context.Context, call string) error
	AddJobs(ctx context.Context, now time.Time, jobs []storage.NewJob) error
}

// Options holds the dependencies of a Library. All fields are required.
type Options struct {
	Store      recordingStore
	Clients    *ziwoclients.Clients
	Config     *config.Controller
	Local      CopyStore // copies in the data directory
	OpenBucket func(config.Bucket) (CopyStore, error)
	Tidy       func(now time.Time) error // removes the remains of interrupted downloads
	Now        func() time.Time
	Logger     *slog.Logger
}

// Library opens and copies recordings. It is safe for concurrent use.
type Library struct {
	store      recordingStore
	clients    *ziwoclients.Clients
	config     *config.Controller
	local      CopyStore
	openBucket func(config.Bucket) (CopyStore, error)
	tidy       func(now time.Time) error
	now        func() time.Time
	logger     *slog.Logger

	mu      sync.Mutex
	buckets []bucket // buckets used so far
}

// New returns a Library.
func New(o Options) *Library {
	if o.Store == nil || o.Clients == nil || o.Config == nil || o.Local == nil || o.OpenBucket == nil || o.Tidy == nil || o.Now == nil || o.Logger == nil {
		panic("recordings.New: Store, Clients, Config, Local, OpenBucket, Tidy, Now, and Logger are required")
	}
	return &Library{
		store: o.Store, clients: o.Clients, config: o.Config, local: o.Local, openBucket: o.OpenBucket, tidy: o.Tidy, now: o.Now, logger: o.Logger,
	}
}

// Part selects a part of a recording by HTTP headers. The zero value is the whole
// recording.
type Part struct {
	Range   string // a single range; empty or invalid means the whole recording
	IfRange string // ETag or date for which Range applies
}

// Recording is an open recording or a part of it. The caller must close Body.
type Recording struct {
	Body         io.ReadCloser
	Size         int64 // size of Body; -1 if unknown
	Partial      bool
	ContentType  string // audio/…
	ContentRange string // set for a part
	ETag         string // may be empty
	LastModified string // may be empty
	FileName     string
}

// Open opens the copy of a recording, or else the recording at Ziwo. Errors:
// storage.ErrNotFound if the call does not exist, *Error.
func (l *Library) Open(ctx context.Context, id string, part Part) (*Recording, error) {
	call, revisions, err := l.store.Call(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("load call %q: %w", problem.Clip(id), err)
	}
	recording, err := l.openCopy(ctx, call, part)
	var unavailable *Error
	if err == nil || errors.As(err, &unavailable) {
		return recording, err
	}
	if !errors.Is(err, storage.ErrNotFound) {
		l.logger.LogAttrs(ctx, slog.LevelWarn, "recording copy unreadable; fetching from Ziwo", slog.String("call", call.ID), slog.Any("error", err))
	}
	return l.fetch(ctx, call, revisions, part)
}

// fetch opens a recording at Ziwo. The context must outlive the body.
func (l *Library) fetch(ctx context.Context, call storage.Call, revisions []storage.Revision, part Part) (*Recording, error) {
	if reason := noRecordingReason(call, l.now()); reason != "" {
		return nil, &Error{Code: NoRecording, Message: reason}
	}
	client, err := l.clients.Client(call.ContactCenter)
	if err != nil {
		return nil, &Error{Code: ContactCenterUnknown, Err: err,
			Message: fmt.Sprintf("the recording is stored at contact center %q, which has no credentials in the configuration", call.ContactCenter)}
	}
	query := ziwo.RecordingQuery{CallID: call.CallID}
	for _, r := range revisions {
		if recordID := ziwo.RecordID(r.Raw); recordID != "" {
			query.RecordID = recordID
		}
	}
	if _, ok := parseRange(part.Range); ok {
		query.Range, query.IfRange = part.Range, part.IfRange
	}
	openCtx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(openTimeout, func() { cancel(context.DeadlineExceeded) })
	found, err := client.Recording(openCtx, query)
	if !timer.Stop() && err == nil { // the timer fired when the response arrived
		_ = found.Body.Close()
		err = &ziwo.APIError{Op: "fetch recording", Kind: ziwo.Unavailable, Err: context.DeadlineExceeded}
	}
	if err != nil {
		cancel(nil)
		return nil, l.fetchError(call, err)
	}
	if found.ContentLength > maxBytes {
		_ = found.Body.Close()
		cancel(nil)
		return nil, &Error{Code: ContactCenterFailed, Message: fmt.Sprintf("the recording has %d bytes, which exceeds the limit of %d", found.ContentLength, maxBytes)}
	}
	return &Recording{
		Body: &limitedBody{body: found.Body, left: maxBytes, done: func() { cancel(nil) }}, Size: found.ContentLength, Partial: found.Partial,
		ContentType: found.ContentType, ContentRange: found.ContentRange, ETag: found.ETag, LastModified: found.LastModified, FileName: fileName(call, found.ContentType),
	}, nil
}

// noRecordingReason returns why a call has no recording, or "" if it may have one.
func noRecordingReason(c storage.Call, now time.Time) string {
	switch {
	case c.CallID == "":
		return "the call has no callID, which Ziwo requires to find its recording"
	case c.RecordingFile != "":
		return ""
	case c.Result != storage.Answered && c.Result != storage.Voicemail:
		return "the call was not recorded: it was not answered, and no voicemail was left"
	case callAge(c, now) > maxUnnamedDelay:
		return "the call was not recorded: its record names no recording"
	default:
		return ""
	}
}

// callAge returns the time since the end of a call.
func callAge(c storage.Call, now time.Time) time.Duration {
	for _, at := range []time.Time{c.EndedAt, c.StartedAt, c.ReceivedAt} {
		if !at.IsZero() {
			return max(0, now.Sub(at))
		}
	}
	return 0
}

// retryDelay returns when to check for a late recording again. The delay grows
// with the age of the call.
func retryDelay(age time.Duration) time.Duration {
	return min(max(age/2, minRetry), maxRetry)
}

// fetchError converts Ziwo's error to an error for the client.
func (l *Library) fetchError(call storage.Call, err error) error {
	out := &Error{Err: err}
	var failure *ziwo.APIError
	if !errors.As(err, &failure) {
		return err
	}
	age := callAge(call, l.now())
	switch {
	case failure.Status == http.StatusRequestedRangeNotSatisfiable:
		out.Code, out.Message = RangeNotSatisfiable, "the recording does not have this range"
	case failure.Kind == ziwo.NotFound && age > maxNamedDelay:
		out.Code, out.Message = NoRecording, "Ziwo has no recording of this call, and none is expected anymore"
	case failure.Kind == ziwo.NotFound:
		out.Code, out.Message, out.RetryAfter = Pending, "the recording is not available yet; Ziwo is still processing it", retryDelay(age)
	case failure.Kind == ziwo.Unavailable, failure.Kind == ziwo.RateLimited:
		out.Code, out.Message, out.RetryAfter = ContactCenterUnavailable, "Ziwo cannot provide the recording now; try again later", max(failure.RetryAfter, 5*time.Second)
	case failure.Kind == ziwo.Unauthorized:
		out.Code, out.Message = ContactCenterFailed, "Ziwo rejects the configured credentials, or they may not fetch recordings"
	default:
		out.Code, out.Message = ContactCenterFailed, "Ziwo's answer is not a recording; try another value of recordings.styles for the contact center"
	}
	return out
}

var unsafeFileChars = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// fileName returns the file name under which a browser saves a recording.
func fileName(c storage.Call, contentType string) string {
	return unsafeFileChars.ReplaceAllString(c.CallID, "_") + extension(contentType)
}

// extension returns the file name extension of a content type.
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

// limitedBody is a body that returns an error beyond a size limit.
type limitedBody struct {
	body io.ReadCloser
	left int64
	done func()
}

var errTooLong = errors.New("recording exceeds the size limit")

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
