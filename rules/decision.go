package rules

import (
	"time"

	"calltracker/phone"
)

// Rule is one step that Ziwo follows: ring Number for Timeout seconds, showing
// CallerID to whoever is called.
type Rule struct {
	Action   string `json:"action"`
	Number   string `json:"number"`
	CallerID string `json:"callerID"`
	Timeout  int    `json:"timeout"` // seconds
}

// ActionCall is the only action that Ziwo documents
// (https://www.ziwo.io/api-integration-developers/).
const ActionCall = "call"

// Verdict is what became of one route. The zero value is invalid.
type Verdict string

// The verdicts of a trace.
const (
	Matched Verdict = "matched" // every condition held: the call went here
	Closed  Verdict = "closed"  // none of the schedules of "during" was open
	Failed  Verdict = "failed"  // a condition of "when" did not hold
)

// Step is one line of a trace: a route that was tried, and why it was or was
// not taken.
type Step struct {
	Route   string  `json:"route"`
	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason"`
}

// Flags of a decision: things worth knowing that did not change the answer.
const (
	FlagDIDUnlisted = "did_unlisted" // the tracker does not list the DID
)

// Facts is all that a decision may depend on.
type Facts struct {
	At       time.Time         // the instant of the call
	DID      phone.Number      // the number that was dialled
	Caller   phone.Number      // zero when Ziwo sent none
	CallID   string            // empty when Ziwo sent none
	Request  map[string]string // every field that Ziwo sent, under lower-case names; may be nil
	Customer *Customer         // nil when nobody was looked up
}

// known tells whether a CRM has said who the caller is.
func (f *Facts) known() bool { return f.Customer != nil && f.Customer.Unknown == "" }

// Customer is what a CRM knew of the caller.
type Customer struct {
	Found      bool
	Connection string
	Tags       []string
	Unknown    string // why nobody knows, such as an answer that came too late; the rest is nothing then
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

	twice []Rule
}

// Turn returns the decision of a rotating route for the nth call that it takes,
// counted from 0: each call starts one number further. Other decisions do not
// change.
func (d Decision) Turn(n uint64) Decision {
	if each := len(d.twice) / 2; each > 0 {
		first := int(n % uint64(each))
		d.Rules = d.twice[first : first+each : first+each]
	}
	return d
}
