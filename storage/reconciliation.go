package storage

import "time"

// FromReconciliation is the source of a CDR that reconciliation read from Ziwo's
// call list, either because no other CDR arrived or to complete one that did.
const FromReconciliation Source = "reconciliation"

// Reconciliation is one comparison of the stored calls with those that Ziwo lists
// for a contact center.
type Reconciliation struct {
	ID            string // UUIDv7
	ContactCenter string
	Trigger       Trigger
	From, To      time.Time // covers calls that started in [From, To)
	Reached       time.Time // every call in [From, Reached) was compared; zero: none
	StartedAt     time.Time
	EndedAt       time.Time
	State         ReconciliationState
	Error         string // why it is delayed; empty when it is done
	Notes         []string
	Counts        ReconciliationCounts
}

// ReconciliationCounts are the results of a Reconciliation. Present plus
// Backfilled is the number of calls that Ziwo listed.
type ReconciliationCounts struct {
	Requests   int      `json:"requests"`   // requests to Ziwo
	Found      int      `json:"found"`      // calls that Ziwo listed
	Present    int      `json:"present"`    // listed calls that were already stored
	Backfilled int      `json:"backfilled"` // listed calls that were missing and are now stored
	Enriched   int      `json:"enriched"`   // present calls that gained data
	Differing  int      `json:"differing"`  // present calls whose data differs from Ziwo's
	Unreadable int      `json:"unreadable"` // listed entries that could not be read
	Unended    int      `json:"unended"`    // decisions without a finished call
	Open       []string `json:"open"`       // IDs of the newest of those decisions
}

// Trigger is the reason for a reconciliation. The zero value is invalid.
type Trigger string

// The triggers.
const (
	TriggerSchedule Trigger = "schedule"
	TriggerRequest  Trigger = "request"
)

// ReconciliationState is the outcome of a reconciliation. The zero value is
// invalid.
type ReconciliationState string

// The reconciliation states.
const (
	ReconciliationDone    ReconciliationState = "done"
	ReconciliationDelayed ReconciliationState = "delayed" // Ziwo or the database was unavailable; the next reconciliation continues
)
