// Package storage holds the records that calltracker keeps, and what a store
// says when it cannot do what it was asked. It knows no database.
//
// Instants are UTC with microseconds at most, since that is what every database
// keeps; a zero time means "none". Phone fields come in pairs: the one without
// "Raw" is the E.164 form where the number could be read and the trimmed text
// where not, so that it can be searched by.
package storage

import (
	"errors"
	"time"

	"calltracker/rules"
)

// What went wrong, whatever the database. Stores wrap these with the operation
// and its key; use errors.Is.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("changed meanwhile")
	ErrUnavailable = errors.New("database unavailable")
	ErrBadCursor   = errors.New("cursor is not one that this server gave out")
	ErrSchemaNewer = errors.New("database schema is newer than this program")
)

// Result is how a call ended. The zero value is invalid.
type Result string

// The results of a call.
const (
	Answered   Result = "answered"
	Missed     Result = "missed"
	Voicemail  Result = "voicemail"
	Busy       Result = "busy"
	Failed     Result = "failed"
	Cancelled  Result = "cancelled"
	Unreadable Result = "unreadable" // a body that is no CDR, kept all the same
)

// Results lists every Result.
func Results() []Result {
	return []Result{Answered, Missed, Voicemail, Busy, Failed, Cancelled, Unreadable}
}

// Call is the stored record of one finished call. (ContactCenter, Key) is
// unique: the same call reported twice is one Call.
type Call struct {
	ID            string // UUIDv7, given by the store on the first save
	ContactCenter string
	Key           string // the callID; a digest of the body ("sha256:…") when there is none
	Tracker       string // empty when it came by the call-history webhook
	CallID        string // empty when the CDR had none
	Direction     string
	DID           string
	RawDID        string
	Caller        string
	RawCaller     string
	CallerName    string
	StartedAt     time.Time
	AnsweredAt    time.Time
	EndedAt       time.Time
	Duration      int // seconds from start to end, ringing included
	RingTime      int // seconds
	TalkTime      int // seconds
	HoldTime      int // seconds
	Result        Result
	HangupCause   string
	HangupBy      string
	Agent         string
	Position      string
	RecordingFile string
	Campaign      string
	Route         string    // of the decision that this call followed
	Decision      string    // its id; empty when none is known
	Flags         []string  // what was odd about the CDR; sorted, unique
	RevisedAt     time.Time // the CDR's own time of writing, orders its revisions
	ReceivedAt    time.Time // when the first body came

	// What SaveCall does not store: whose call it was.
	Customers  []Customer
	Enrichment Enrichment
}

// At is the instant by which calls are ordered and filtered: when the call
// started, else when its record came.
func (c Call) At() time.Time {
	if !c.StartedAt.IsZero() {
		return c.StartedAt
	}
	return c.ReceivedAt
}

// Revision is one body that reported a call, as it came.
type Revision struct {
	Number     int // 1 is the first
	ReceivedAt time.Time
	Source     Source
	Raw        []byte
}

// Source says where a body came from. The zero value is invalid.
type Source string

// The sources. Ziwo sends endCall the moment a call ends.
const (
	FromEndCall     Source = "endCall"
	FromCallHistory Source = "callHistory"
)

// Report is a body that reports a call, with what was read from it.
type Report struct {
	Call   Call // without ID, Route and Decision: the store finds those
	Source Source
	Raw    []byte
	Jobs   []NewJob // made with the first body of the call and with every one that brings news, never with a repeat
}

// Saved tells what became of a Report.
type Saved struct {
	ID      string
	Created bool // the first body of its call
	Revised bool // another body of a known call, kept as a revision; false for an exact repeat
}

// Decision is what the engine answered to one start call.
type Decision struct {
	ID            string // UUIDv7, given by whoever decided
	Tracker       string
	At            time.Time
	DID           string
	RawDID        string
	Caller        string
	RawCaller     string
	CallID        string
	Route         string
	Voicemail     bool
	Rules         []rules.Rule
	Flags         []string
	Trace         []rules.Step
	ConfigVersion int64
	Call          string // id of the call that followed; empty until it is known
}

// Rejection is a request that was refused, or kept without being understood.
// It holds no secret and no value that the client sent but names of fields.
type Rejection struct {
	ID          string // UUIDv7
	At          time.Time
	Method      string
	Path        string
	Tracker     string
	Address     string // of the client
	Status      int
	Reason      string // a fixed word, such as "wrong_key"
	Message     string // what the client was told
	ContentType string
	UserAgent   string
	Bytes       int64 // of the body, as far as it was read
}

// ConfigVersion is one applied configuration document, whole.
type ConfigVersion struct {
	Version  int64 // 1 is the first
	At       time.Time
	Author   string
	Comment  string
	Format   string // "yaml" or "json"
	Document string // as it was sent, references unresolved
}

// Secret is a stored secret, sealed: the store never sees its value.
type Secret struct {
	Name      string
	Sealed    []byte
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Page says which part of a list to read, newest first. The zero value is the
// first page with the store's default size.
type Page struct {
	Cursor string // from the page before; empty for the first
	Limit  int    // 1 to MaxLimit; 0 means DefaultLimit
}

// Sizes of a page.
const (
	DefaultLimit = 50
	MaxLimit     = 1000
)

// CallFilter narrows a list of calls. Zero fields do not narrow.
type CallFilter struct {
	From, To time.Time // From <= At < To
	Tracker  string
	DIDs     []string // any of these
	Callers  []string // any of these
	Result   Result
	Campaign string
	Customer string // id of a customer that the call was found to be of
}

// DecisionFilter narrows a list of decisions. Zero fields do not narrow.
type DecisionFilter struct {
	From, To time.Time // From <= At < To
	Tracker  string
	DIDs     []string
	Callers  []string
	Route    string
	Open     bool // only those whose call is not known
}
