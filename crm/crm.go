// Package crm is the contract of a CRM: what the server asks of one, how one
// fails, and what it takes to configure one. It knows nothing of any one CRM.
// Directory looks a number up across the configured accounts.
package crm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"calltracker/phone"
)

// Client speaks to one CRM account. It is safe for concurrent use and reports
// failures as *Error.
type Client interface {
	// FindCustomers returns the customers that own the number; none is not an error.
	FindCustomers(ctx context.Context, n phone.Number) ([]Customer, error)
	// SearchURL is the page on which a person would go on looking for the number.
	SearchURL(n phone.Number) string
}

// Checker is a Client that can tell whether its credentials are good without
// looking anybody up.
type Checker interface {
	// Check returns nil, or an *Error that says what to mend.
	Check(ctx context.Context) error
}

// Creator is a Client that has a page on which a person adds a customer with the
// number; "" when it has none.
type Creator interface {
	CreateURL(n phone.Number) string
}

// Customer is a person that a CRM knows.
type Customer struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	URL       string   `json:"url"`              // where people open the customer; empty when there is no such page
	MatchedBy string   `json:"matchedBy"`        // which of the customer's fields holds the number
	Phones    []string `json:"phones,omitempty"` // as the CRM holds them, to be compared with the number
	Tags      []string `json:"tags,omitempty"`
}

// Kind is how a CRM failed: what to do about it depends on that. The zero value
// is invalid.
type Kind string

// The kinds of failure.
const (
	Unavailable  Kind = "unavailable"  // it cannot be reached, is too slow or broken: try again later
	RateLimited  Kind = "rate_limited" // we asked too much: try again after RetryAfter
	Unauthorized Kind = "unauthorized" // the credentials are wrong or may not do this: somebody has to mend the settings
	Rejected     Kind = "rejected"     // it does not take this request, and never will
)

// Error is a failure of a CRM. Its message names no customer and no credentials.
type Error struct {
	Kind       Kind
	RetryAfter time.Duration // 0: it did not say
	Status     int           // of HTTP; 0 when there was no answer
	Message    string
	Err        error
}

func (e *Error) Error() string {
	text := string(e.Kind)
	if e.Status != 0 {
		text = fmt.Sprintf("%s (HTTP %d)", text, e.Status)
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of an error of a Client: Unavailable for one that is no
// *Error, such as a context that ended.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unavailable
}

// Driver is all that the server knows about one kind of CRM. Settings are data:
// no migration, no form, no handler.
type Driver struct {
	Name, Label string
	Fields      []Field  // validates, documents, redacts, draws the form
	Budgets     []Budget // what the CRM allows; empty: 300 requests a minute
	// BudgetsFor are the budgets where they depend on the settings; nil: Budgets.
	BudgetsFor func(Settings) []Budget
	// Pages is the address below which people open the account: no page on another
	// host is ever opened for it. nil: there are no pages.
	Pages func(Settings) string
	// Validate tells what is wrong with settings that fit their fields; nil: nothing.
	Validate func(Settings) []Problem
	Open     func(Settings, *http.Client) (Client, error)
}

// Budget is how many requests a CRM takes, at most, in any span of time.
type Budget struct {
	Name     string // such as "organisation" or "search"
	Requests int
	Per      time.Duration
	// Counts tells which requests count against it; nil is every request.
	Counts func(*http.Request) bool
}
