package storage

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

// The enrichment states. A lookup is pending while its job is waiting or running, and
// failed if the job is dead. The zero value means that no lookup was requested.
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

// EnrichmentJob is the kind of the jobs that look up the customers of calls. A call has
// at most one of them. The ID and the key of the job are the ID of the call.
const EnrichmentJob = "enrichment"

// LookupResult is what an attempt of a lookup found. It replaces the customers that
// earlier attempts found.
type LookupResult struct {
	Customers []Customer
	Error     string // why some CRMs have no answer
}
