package reconcile

import (
	"time"

	"calltracker/storage"
)

// Input is the body of POST /api/v1/reconciliation.
type Input struct {
	From          time.Time `json:"from" validate:"required" format:"date-time" example:"2026-11-22T00:00:00Z"`
	To            time.Time `json:"to" validate:"required" format:"date-time" example:"2026-11-23T00:00:00Z"`
	ContactCenter string    `json:"contactCenter,omitempty" example:"aldebaran"` // optional; the default is all contact centers
} // @name ReconciliationInput

// View is a stored reconciliation.
type View struct {
	ID            string     `json:"id"`
	ContactCenter string     `json:"contactCenter" example:"aldebaran"`
	Trigger       string     `json:"trigger" enums:"schedule,request"`
	From          time.Time  `json:"from" format:"date-time"` // start of the span by call start time, inclusive
	To            time.Time  `json:"to" format:"date-time"`   // end of the span, exclusive
	Reached       *time.Time `json:"reached" format:"date-time" extensions:"x-nullable"`
	StartedAt     time.Time  `json:"startedAt" format:"date-time"`
	EndedAt       time.Time  `json:"endedAt" format:"date-time"`
	State         string     `json:"state" enums:"done,delayed"`
	Error         string     `json:"error"` // reason for the delay
	Notes         []string   `json:"notes"`
	Requests      int        `json:"requests"`   // requests sent to Ziwo
	Found         int        `json:"found"`      // calls in Ziwo's history
	Present       int        `json:"present"`    // calls that were already stored
	Backfilled    int        `json:"backfilled"` // missing calls that were stored
	Enriched      int        `json:"enriched"`   // stored calls that were completed
	Differing     int        `json:"differing"`  // stored calls that differ from Ziwo's record
	Unreadable    int        `json:"unreadable"` // records that could not be read
	Unended       int        `json:"unended"`    // calls that started but never ended
	Open          []string   `json:"open"`       // decision IDs of the newest unended calls
} // @name ReconciliationView

// List is a page of reconciliations, newest first.
type List struct {
	Runs []View `json:"runs"`
	Next string `json:"next"`
} // @name ReconciliationList

func view(r storage.Reconciliation) View {
	counts := r.Counts
	return View{
		ID: r.ID, ContactCenter: r.ContactCenter, Trigger: string(r.Trigger), From: r.From, To: r.To, Reached: storage.OptionalTime(r.Reached),
		StartedAt: r.StartedAt, EndedAt: r.EndedAt, State: string(r.State), Error: r.Error, Notes: append([]string{}, r.Notes...),
		Requests: counts.Requests, Found: counts.Found, Present: counts.Present, Backfilled: counts.Backfilled, Enriched: counts.Enriched, Differing: counts.Differing,
		Unreadable: counts.Unreadable, Unended: counts.Unended, Open: append([]string{}, counts.Open...),
	}
}
