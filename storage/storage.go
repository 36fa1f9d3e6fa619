// Package storage defines the records that calltracker stores and the errors that
// stores return. It is independent of any database.
//
// Times are UTC with microsecond precision, the finest that every supported
// database stores. A zero time means "none". Phone fields come in pairs: the
// field without "Raw" holds the number in E.164, or the trimmed text if the number
// could not be parsed, and is the one to search by.
package storage

import (
	"errors"
	"time"

	"calltracker/rules"
)

// Errors that every store returns, regardless of its database. Stores wrap them with
// the operation and its key; use errors.Is to test for them.
var (
	ErrNotFound    = errors.New("not found")
	ErrConflict    = errors.New("conflict with another change")
	ErrUnavailable = errors.New("database unavailable")
	ErrBadCursor   = errors.New("invalid cursor: use one that this server returned for the same list")
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
	Unreadable Result = "unreadable" // the body could not be parsed as a CDR; it is stored anyway
)

// Results lists every Result.
func Results() []Result {
	return []Result{Answered, Missed, Voicemail, Busy, Failed, Cancelled, Unreadable}
}

// Call is the stored record of one finished call. (ContactCenter, Key) is unique:
// two CDRs of the same call make one Call.
type Call struct {
	ID            string // UUIDv7, assigned by the store on the first save
	ContactCenter string
	Key           string // the callID, or a digest of the body ("sha256:…") if the CDR has none
	Tracker       string // empty if the CDR came from the call-history webhook
	CallID        string // empty if the CDR has none
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
	Route         string    // route of the decision for this call
	Decision      string    // ID of the decision for this call; empty if unknown
	Flags         []string  // anomalies of the CDR; sorted, without duplicates
	RevisedAt     time.Time // when Ziwo wrote the CDR; orders the revisions
	ReceivedAt    time.Time // when the first CDR arrived

	// Customer data. SaveCall ignores it; lookups set it.
	Customers  []Customer
	Enrichment Enrichment
}

// At returns the time by which calls are ordered and filtered: when the call
// started or, if that is unknown, when its CDR arrived.
func (c Call) At() time.Time {
	if !c.StartedAt.IsZero() {
		return c.StartedAt
	}
	return c.ReceivedAt
}

// Revision is one CDR of a call, as received.
type Revision struct {
	Number     int // 1 is the first
	ReceivedAt time.Time
	Source     Source
	Raw        []byte
}

// Source is the origin of a CDR. The zero value is invalid.
type Source string

// The sources. Ziwo sends an endCall request as soon as a call ends.
const (
	FromEndCall     Source = "endCall"
	FromCallHistory Source = "callHistory"
)

// ReceivedCDR is a call detail record as received, with the call parsed from it.
type ReceivedCDR struct {
	Call   Call // ID, Route, and Decision are ignored; the store sets them
	Source Source
	Raw    []byte
	Jobs   []NewJob // added in the same transaction, unless the CDR is an exact repeat
}

// SaveResult is the result of saving a ReceivedCDR.
type SaveResult struct {
	ID      string // call ID
	Created bool   // the CDR is the first one of its call
	Revised bool   // the CDR is a new revision of a known call; false for an exact repeat
}

// Decision is the routing engine's answer to one start call.
type Decision struct {
	ID            string // UUIDv7, assigned when the decision is made
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
	Call          string // ID of the call that followed; empty until it is known
}

// Rejection is a request that was refused, or stored although it could not be
// parsed. It contains no secrets and no values sent by the client except field
// names.
type Rejection struct {
	ID          string // UUIDv7
	At          time.Time
	Method      string
	Path        string
	Tracker     string
	Address     string // client address
	Status      int
	Reason      string // machine-readable reason, such as "wrong_key"
	Message     string // message sent to the client
	ContentType string
	UserAgent   string
	Bytes       int64 // bytes of the body that were read
}

// ConfigVersion is one complete, applied configuration document.
type ConfigVersion struct {
	Version  int64 // 1 is the first
	At       time.Time
	Author   string
	Comment  string
	Format   string // "yaml" or "json"
	Document string // as submitted, with unresolved secret references
}

// Secret is an encrypted secret. The store never sees the plain value.
type Secret struct {
	Name      string
	Sealed    []byte
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Page selects one page of a list, newest first. The zero value selects the first
// page with the default size.
type Page struct {
	Cursor string // cursor that came with the previous page; empty for the first page
	Limit  int    // 1 to MaxLimit; 0 means DefaultLimit
}

// Page sizes.
const (
	DefaultLimit = 50
	MaxLimit     = 1000
)

// CallFilter narrows a list of calls. Zero fields match everything.
type CallFilter struct {
	From, To time.Time // From <= At < To
	Tracker  string
	DIDs     []string // any of these numbers
	Callers  []string // any of these numbers
	Result   Result
	Campaign string
	Customer string // ID of a customer matched to the call
}

// DecisionFilter narrows a list of decisions. Zero fields match everything.
type DecisionFilter struct {
	From, To time.Time // From <= At < To
	Tracker  string
	DIDs     []string
	Callers  []string
	Route    string
	Open     bool // only decisions without a known call
}

// OptionalTime returns nil for the zero time, which API answers leave out.
func OptionalTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
