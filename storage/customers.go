package storage

import "time"

// Customer is a customer that a CRM returned when the call was looked up.
type Customer struct {
	Connection string `json:"connection"`
	ID         string `json:"id"`
	Name       string `json:"name"`
	URL        string `json:"url"`
	MatchedBy  string `json:"matchedBy"`
} // @name CustomerView

// EnrichmentState is the progress of a call's customer lookup.
type EnrichmentState string

// The enrichment states. The zero value means that no lookup was requested.
const (
	EnrichmentPending EnrichmentState = "pending"
	EnrichmentFound   EnrichmentState = "found"
	EnrichmentNone    EnrichmentState = "none"
	EnrichmentFailed  EnrichmentState = "failed"
)

// Enrichment describes the progress of a call's customer lookup.
type Enrichment struct {
	State    EnrichmentState `json:"state" enums:"pending,found,none,failed"`
	Attempts int             `json:"attempts"` // lookups that the CRMs answered
	Error    string          `json:"error"`    // why the lookup failed or was postponed
}

// Shown returns e as API answers show it: a call without a lookup has the state
// EnrichmentNone.
func (e Enrichment) Shown() Enrichment {
	if e.State == "" {
		e.State = EnrichmentNone
	}
	return e
}

// EnrichmentJob is the kind under which lookups are listed as jobs. A call has at
// most one lookup job, and the job's ID is the ID of the call. A pending lookup is
// a waiting job; a failed lookup is a dead job.
const EnrichmentJob = "enrichment"

// LookupResult is the outcome of a claimed lookup.
type LookupResult struct {
	Lookup
	Customers []Customer
	RetryAt   time.Time // when to look the number up again; zero: never
	Now       time.Time
}

// Lookup is a claimed customer lookup: one number of one call.
type Lookup struct {
	Call       string // call ID
	Number     string // E.164
	Enrichment Enrichment
	SkipCache  bool      // the lookup must not be answered from the cache
	Until      time.Time // end of the claim; then another worker may claim the lookup
}
