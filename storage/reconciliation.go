package storage

import "time"

// FromReconciliation is the source of a body that was read from Ziwo's own
// records, because no other had come or to complete it.
const FromReconciliation Source = "reconciliation"

// Reconciliation is one comparison of the stored calls with those of a contact
// center.
type Reconciliation struct {
	ID            string // UUIDv7
	ContactCenter string
	Trigger       Trigger
	From, To      time.Time // From <= start of the call < To
	Reached       time.Time // up to here, from From on, every call was compared; zero when none was
	StartedAt     time.Time
	EndedAt       time.Time
	State         ReconciliationState
	Error         string // why it is delayed; empty when it is done
	Notes         []string
	Figures       Figures
}

// Figures are what a Reconciliation found. Ziwo's calls are Present + Backfilled.
type Figures struct {
	Requests   int      `json:"requests"`   // to Ziwo
	Found      int      `json:"found"`      // calls at Ziwo
	Present    int      `json:"present"`    // of those, calls that were here
	Backfilled int      `json:"backfilled"` // and that were not, and are now
	Enriched   int      `json:"enriched"`   // present ones that were completed
	Differing  int      `json:"differing"`  // present ones of which Ziwo tells another story
	Unreadable int      `json:"unreadable"` // records of Ziwo that are none
	Unended    int      `json:"unended"`    // decisions whose call never ended
	Open       []string `json:"open"`       // the newest of those, by id
}

// Trigger says why a reconciliation was made. The zero value is invalid.
type Trigger string

// The triggers.
const (
	Scheduled Trigger = "schedule"
	Requested Trigger = "request"
)

// ReconciliationState says how one ended. The zero value is invalid.
type ReconciliationState string

// The states.
const (
	ReconciliationDone    ReconciliationState = "done"
	ReconciliationDelayed ReconciliationState = "delayed" // Ziwo, or the database, could not be used; the next one goes on
)
