package storage

import "time"

// Customer is one that a CRM knew when the call was looked up.
type Customer struct {
	Connection string
	ID         string
	Name       string
	URL        string
	MatchedBy  string
}

// EnrichmentState is how far the search for a call's customers is.
type EnrichmentState string

// The states. The zero value is that nobody is looked for.
const (
	EnrichmentPending EnrichmentState = "pending"
	EnrichmentFound   EnrichmentState = "found"
	EnrichmentNone    EnrichmentState = "none"
	EnrichmentFailed  EnrichmentState = "failed"
)

// Enrichment tells how far the search for a call's customers is.
type Enrichment struct {
	State    EnrichmentState
	Attempts int    // look-ups that were answered
	Error    string // why it failed, or has to wait
}

// EnrichmentJob is the kind under which look-ups are among the jobs: one for each
// call, whose id it has, waiting while it is pending and dead when it failed.
const EnrichmentJob = "enrichment"

// Settled is what a look-up found.
type Settled struct {
	Lookup
	Found []Customer
	Due   time.Time // when it is to be looked up again; zero: never
	Now   time.Time
}

// Lookup is a number that somebody has claimed to look up, for a call.
type Lookup struct {
	Call       string // id
	Number     string // E.164
	Enrichment Enrichment
	Anew       bool      // whatever is cached
	Until      time.Time // when others may claim it
}
