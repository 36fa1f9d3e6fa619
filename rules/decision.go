package rules

import (
	"time"

	"calltracker/phone"
)

// Rule is one step that Ziwo follows: ring Number for Timeout seconds and show
// CallerID there.
type Rule struct {
	Action   string `json:"action"`
	Number   string `json:"number"`
	CallerID string `json:"callerID"`
	Timeout  int    `json:"timeout"` // seconds
}

// ActionCall is the only action that Ziwo documents
// (https://www.ziwo.io/api-integration-developers/).
const ActionCall = "call"

// Verdict is the outcome of trying one route. The zero value is invalid.
type Verdict string

// The verdicts of a trace.
const (
	Matched Verdict = "matched" // the route took the call
	Closed  Verdict = "closed"  // all schedules of "during" were closed
	Failed  Verdict = "failed"  // a condition of "when" did not hold
)

// Step is one line of a trace: a route that was tried, and why it did not take
// the call.
type Step struct {
	Route   string  `json:"route"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
}

// Flags of a decision. They do not change the answer.
const (
	FlagDIDUnlisted = "did_unlisted" // the tracker does not list the DID
)

// Facts is everything that a decision depends on.
type Facts struct {
	At       time.Time         // of the call
	DID      phone.Number      // number that was dialed
	Caller   phone.Number      // zero if Ziwo sent none
	CallID   string            // empty if Ziwo sent none
	Request  map[string]string // all fields that Ziwo sent, by lower-case name; may be nil
	Customer *Customer         // nil if no lookup was made
}

// known reports whether a CRM has answered.
func (f *Facts) known() bool { return f.Customer != nil && f.Customer.Unknown == "" }

// Customer is what a CRM knows about the caller.
type Customer struct {
	Found      bool
	Connection string
	Tags       []string
	Unknown    string // why there is no answer, such as a timeout; the other fields are empty then
}

// Decision is where a call goes. Its slices belong to the Set and must not be
// changed.
type Decision struct {
	Route     string
	Rules     []Rule // never nil
	Voicemail bool
	Flags     []string
	Campaign  string // of the DID
	Index     int    // of the route in its tracker, from 0
	Rotating  bool   // the route rings its numbers in turn: see Turn

	rotation []Rule // the rules twice in a row: each turn is a part of them
}

// Turn returns the decision of a rotating route for the nth call that it takes,
// counted from 0: each call starts at the next number. Other decisions do not
// change.
func (d Decision) Turn(n uint64) Decision {
	if each := len(d.rotation) / 2; each > 0 {
		first := int(n % uint64(each))
		d.Rules = d.rotation[first : first+each : first+each]
	}
	return d
}
