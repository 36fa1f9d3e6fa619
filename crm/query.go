package crm

import (
	"slices"
	"time"

	"calltracker/phone"
)

// DefaultWait is how long an interactive query waits for an answer, all
// connections together.
const DefaultWait = 1500 * time.Millisecond

// Priority is the urgency of a query. The zero value is Interactive.
type Priority int

// The priorities.
const (
	Interactive Priority = iota // a person waits for the answer
	Background                  // leaves half of each budget to interactive queries, and may wait for the other half
)

// Query is one question to a Directory.
type Query struct {
	Number phone.Number
	// Connections are the names of the connections to ask, in the order of the answers.
	// Unknown names are ignored. nil means all connections, sorted by name.
	Connections []string
	Priority    Priority
	// Wait is how long an interactive query waits. 0 means DefaultWait. A negative
	// value means not to wait: only cached answers are returned. The lookup continues
	// after the wait, and its answer is cached.
	Wait      time.Duration
	SkipCache bool // ask the CRM even if an answer is cached
}

// State is the outcome of a query. The zero value is invalid.
type State string

// The outcomes.
const (
	Found   State = "found"       // one customer
	Many    State = "many"        // several customers
	None    State = "none"        // no customer has the number
	Skipped State = "skipped"     // not a number that can be looked up: withheld, internal, or invalid
	Unknown State = "unavailable" // no customer was found, and at least one connection did not answer
)

// Result is the answer to a query.
type Result struct {
	State     State
	Customers []Match  // from all connections
	Answers   []Answer // one for each connection in the query, in the same order
}

// Match is a customer and the connection that found it.
type Match struct {
	Connection string
	Customer
}

// Answer is the answer of one connection.
type Answer struct {
	Connection string
	State      State // Found, Many, None, or Unknown
	Customers  []Customer
	At         time.Time // when the CRM answered
	Stale      bool      // the answer is old, and a lookup is refreshing it
	Err        *Error    // set if State is Unknown
	SearchURL  string    // "" if the CRM has no search page, or the page is on another host
	CreateURL  string    // "" if the account has no page for this, or the page is on another host
}

// Complete reports whether every connection answered.
func (r Result) Complete() bool {
	return !slices.ContainsFunc(r.Answers, func(a Answer) bool { return a.State == Unknown })
}

// RetryAfter returns when to repeat the query: the shortest time that a connection
// without an answer named, or 0 if none did.
func (r Result) RetryAfter() time.Duration {
	var shortest time.Duration
	for _, a := range r.Answers {
		if a.Err != nil && a.Err.RetryAfter > 0 && (shortest == 0 || a.Err.RetryAfter < shortest) {
			shortest = a.Err.RetryAfter
		}
	}
	return shortest
}

func (a *account) newAnswer(n phone.Number, customers []Customer, at time.Time, err *Error) Answer {
	out := Answer{Connection: a.Name, State: stateOf(len(customers)), Customers: customers, At: at, Err: err, SearchURL: a.ownURL(a.Client.SearchURL(n))}
	if creator, ok := a.Client.(Creator); ok {
		out.CreateURL = a.ownURL(creator.CreateURL(n))
	}
	if err != nil {
		out.State = Unknown
	}
	return out
}

func stateOf(customers int) State {
	switch customers {
	case 0:
		return None
	case 1:
		return Found
	default:
		return Many
	}
}

func newResult(answers []Answer) Result {
	out := Result{Answers: answers}
	found := 0
	for _, a := range answers {
		found += len(a.Customers)
	}
	if found > 0 {
		out.Customers = make([]Match, 0, found)
	}
	for _, a := range answers {
		for _, c := range a.Customers {
			out.Customers = append(out.Customers, Match{Connection: a.Connection, Customer: c})
		}
	}
	out.State = stateOf(len(out.Customers))
	if out.State == None && !out.Complete() {
		out.State = Unknown
	}
	return out
}
