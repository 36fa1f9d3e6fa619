package crm

import (
	"context"
	"time"
)

// Status is the current condition of a connection.
type Status struct {
	Name, Label, Driver string
	Open                bool          // the circuit breaker is open: requests are paused until a probe succeeds
	RetryAfter          time.Duration // time until the next probe
	Budgets             []BudgetStatus
	LastError           *Failure // nil if there was none
	LastSuccess         time.Time
	PendingLookups      int // lookups in progress
}

// BudgetStatus is the current state of a budget.
type BudgetStatus struct {
	Name     string
	Requests int
	Per      time.Duration
	Left     int // requests that can be sent immediately
	Burst    int // maximum of Left
}

// Failure is an error and its time.
type Failure struct {
	At  time.Time
	Err *Error
}

// Status returns the status of every connection, sorted by name.
func (d *Directory) Status(ctx context.Context) []Status {
	accounts := d.accountsNamed(nil)
	out := make([]Status, len(accounts))
	for i, a := range accounts {
		out[i] = a.status()
		for _, b := range a.budgets {
			out[i].Budgets = append(out[i].Budgets, BudgetStatus{
				Name: b.Name, Requests: b.Requests, Per: b.Per, Burst: b.size, Left: d.options.Cache.TokensLeft(ctx, b.key, b.size, b.every),
			})
		}
	}
	return out
}
