// Package crm is the contract between the server and a CRM: what a driver
// implements, how it reports failures, and which settings it takes. It does not depend on any
// particular CRM. Directory looks up phone numbers in all configured accounts.
package crm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"calltracker/integration"
	"calltracker/phone"
)

// Client makes requests to one CRM account. It is safe for concurrent use. Its
// errors are of type *Error.
type Client interface {
	// FindCustomers returns the customers who have the number. It returns no error
	// if there are none.
	FindCustomers(ctx context.Context, n phone.Number) ([]Customer, error)
	// SearchURL returns the page on which an agent can search for the number, or ""
	// if the CRM has none.
	SearchURL(n phone.Number) string
}

// Checker is a Client that can check its credentials without looking up a number.
type Checker interface {
	// Check returns nil if the credentials are valid, otherwise an *Error.
	Check(ctx context.Context) error
}

// Creator is a Client that can link to the page on which an agent adds a customer.
type Creator interface {
	// CreateURL returns the page that adds a customer with the number, or "" if the
	// account has none.
	CreateURL(n phone.Number) string
}

// Customer is a person in a CRM.
type Customer struct {
	ID        string   `json:"id"`
	Name      string   `json:"name"`
	URL       string   `json:"url"`              // page on which agents open the customer; "" if there is none
	MatchedBy string   `json:"matchedBy"`        // customer field that holds the number
	Phones    []string `json:"phones,omitempty"` // the customer's numbers as the CRM stores them
	Tags      []string `json:"tags,omitempty"`
}

// Kind is the kind of a CRM failure. The zero value is invalid.
type Kind string

// The kinds of failure.
const (
	Unavailable  Kind = "unavailable"  // unreachable, too slow, or broken: try again later
	RateLimited  Kind = "rate_limited" // too many requests: try again after RetryAfter
	Unauthorized Kind = "unauthorized" // invalid credentials or missing permissions: the settings must change
	Rejected     Kind = "rejected"     // invalid request: do not try again
)

// Error is a failure of a CRM. Its message contains no customer data and no
// credentials.
type Error struct {
	Kind       Kind
	RetryAfter time.Duration // 0 if the CRM specified no delay
	Status     int           // HTTP status; 0 if there was no response
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

// KindOf returns the kind of an error of a Client. It returns Unavailable for an
// error that is not an *Error, such as context.Canceled.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Unavailable
}

// Driver describes one kind of CRM. Because its settings are data, a new driver
// needs no migration, form, or handler.
type Driver struct {
	Name, Label string
	Fields      integration.Fields
	Budgets     []Budget // request limits of the CRM; nil means 300 requests per minute
	// BudgetsFor returns the budgets if they depend on the settings. If it is nil,
	// Budgets applies.
	BudgetsFor func(integration.Settings) []Budget
	// AgentURL returns the URL where agents open the account. The server links to no
	// page on another host. If it is nil, the server links to no page.
	AgentURL func(integration.Settings) string
	// Validate returns the problems of settings whose fields are all valid. It may be
	// nil.
	Validate func(integration.Settings) []integration.Problem
	Open     func(integration.Settings, *http.Client) (Client, error)
}

// CheckSettings returns the settings with defaults filled in, and every problem
// in them, in the order of the fields.
func (d Driver) CheckSettings(given integration.Settings) (integration.Settings, []integration.Problem) {
	complete, problems := d.Fields.Check(d.Name, given)
	if len(problems) > 0 {
		return complete, problems
	}
	if page := complete[createURL]; page != "" && d.AgentURL != nil && !strings.EqualFold(pageHost(page), pageHost(d.AgentURL(complete))) {
		problems = append(problems, integration.Problem{
			Field: createURL, Message: fmt.Sprintf("invalid %s for %s: use %s", createURL, d.Name, CreateURLField().Help),
		})
	}
	if d.Validate != nil {
		problems = append(problems, d.Validate(complete)...)
	}
	return complete, problems
}

// Budget is the number of requests that a CRM accepts in any period of a given
// length.
type Budget struct {
	Name     string // such as "organization" or "search"
	Requests int
	Per      time.Duration
	// Counts reports whether a request counts against the budget. If it is nil, every
	// request counts.
	Counts func(*http.Request) bool
}
