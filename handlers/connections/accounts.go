// Package connections opens the CRM accounts that the configuration names, reports their
// state, and tests them.
package connections

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"calltracker/config"
	"calltracker/crm"
	"calltracker/integration"
	"calltracker/phone"
	"calltracker/problem"
	"calltracker/storage"
)

// Accounts opens the CRM accounts of the active configuration. An account stays open
// across configuration changes that do not change its settings. Accounts is safe for
// concurrent use.
type Accounts struct {
	drivers   []crm.Driver
	directory *crm.Directory
	transport http.RoundTripper
	now       func() time.Time

	mu      sync.Mutex
	current accountSet
}

// New returns Accounts that opens accounts of the given CRM drivers and puts them into
// use in directory. If transport is nil, http.DefaultTransport is used.
func New(drivers []crm.Driver, directory *crm.Directory, transport http.RoundTripper, now func() time.Time) *Accounts {
	if directory == nil || now == nil {
		panic("connections.New: directory and now are required")
	}
	return &Accounts{drivers: drivers, directory: directory, transport: transport, now: now}
}

// accountSet holds the accounts of one document.
type accountSet struct {
	open   []*crm.Connection
	failed map[string]View // accounts that cannot be opened
	region string          // of the trackers, if they share one
}

// Drivers returns the drivers that a document is validated against.
func (a *Accounts) Drivers() []config.Driver { return ConfigDrivers(a.drivers) }

// ConfigDrivers converts CRM drivers to the form that package config validates the
// settings of connections against.
func ConfigDrivers(drivers []crm.Driver) []config.Driver {
	out := make([]config.Driver, len(drivers))
	for i, d := range drivers {
		out[i] = config.Driver{Name: d.Name, Check: func(settings map[string]string) []config.SettingProblem {
			_, problems := d.CheckSettings(settings)
			found := make([]config.SettingProblem, len(problems))
			for i, p := range problems {
				found[i] = config.SettingProblem{Setting: p.Field, Message: p.Message}
			}
			return found
		}, Secrets: d.Fields.Secrets()}
	}
	return out
}

// Prepare opens the accounts of a document without using them yet. It returns the
// function that puts them into use, and a problem for each account that cannot be
// opened.
func (a *Accounts) Prepare(doc *config.Document) (activate func(), problems problem.List) {
	prepared := accountSet{failed: map[string]View{}, region: sharedRegion(doc)}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(doc.Connections)) {
		c := doc.Connections[name]
		settings := integration.Settings{}
		for key, value := range c.Settings {
			settings[key] = value.Reveal()
		}
		opened, err := a.open(name, c, settings)
		if err != nil {
			problems = append(problems, problem.Problem{Path: "connections." + name, Message: err.Error()})
			prepared.failed[name] = View{
				Name: name, Label: c.Label, Driver: c.Driver, State: "misconfigured", Breaker: "closed", Budgets: []BudgetView{},
				LastError: &FailureView{At: a.now().UTC(), Kind: "misconfigured", Message: err.Error()},
			}
			continue
		}
		prepared.open = append(prepared.open, opened)
	}
	return func() { a.use(prepared) }, problems
}

// sharedRegion returns the region of the trackers if all have the same one.
func sharedRegion(doc *config.Document) string {
	shared := ""
	for _, tracker := range doc.Trackers {
		switch {
		case tracker.Region == "":
		case shared == "":
			shared = tracker.Region
		case shared != tracker.Region:
			return ""
		}
	}
	return shared
}

func (a *Accounts) open(name string, c config.Connection, settings integration.Settings) (*crm.Connection, error) {
	i := slices.IndexFunc(a.drivers, func(d crm.Driver) bool { return d.Name == c.Driver })
	if i < 0 {
		return nil, fmt.Errorf("unknown driver %q", problem.Clip(c.Driver))
	}
	complete, invalid := a.drivers[i].CheckSettings(settings)
	if len(invalid) > 0 {
		return nil, errors.New(invalid[0].Message) // package config has already reported all problems with their positions
	}
	text, err := json.Marshal([]any{c.Driver, c.Label, complete})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	fingerprint := hex.EncodeToString(sum[:])
	for _, account := range a.current.open {
		if account.Name == name && account.Fingerprint == fingerprint {
			return account, nil
		}
	}
	return crm.Open(name, c.Label, fingerprint, a.drivers[i], complete, a.transport)
}

// use replaces the accounts in use with prepared ones.
func (a *Accounts) use(prepared accountSet) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current = prepared
	a.directory.SetConnections(prepared.open)
}

// View is a CRM account and its state.
type View struct {
	Name            string       `json:"name" example:"kustomer"`
	Label           string       `json:"label"`
	Driver          string       `json:"driver" example:"kustomer"`
	State           string       `json:"state" enums:"ok,unused,limited,failing,misconfigured"`
	Breaker         string       `json:"breaker" enums:"closed,open"` // open: requests are paused until a probe succeeds
	RetryAfter      int          `json:"retryAfter"`                  // seconds until the next probe; 0 while the breaker is closed
	Budgets         []BudgetView `json:"budgets"`
	LookupsUnderWay int          `json:"lookupsUnderWay"`
	LastSuccess     *time.Time   `json:"lastSuccess" format:"date-time" extensions:"x-nullable"`
	LastError       *FailureView `json:"lastError" extensions:"x-nullable"`
} // @name ConnectionView

// BudgetView is the state of a request budget.
type BudgetView struct {
	Name     string `json:"name" example:"search"`
	Requests int    `json:"requests" example:"100"` // maximum number of requests in any period of the given seconds
	Seconds  int    `json:"seconds" example:"60"`
	Left     int    `json:"left"`  // requests that can be sent now
	Burst    int    `json:"burst"` // maximum value of left
}

// FailureView is a failed request to an account.
type FailureView struct {
	At      time.Time `json:"at" format:"date-time"`
	Kind    string    `json:"kind" enums:"unavailable,rate_limited,unauthorized,rejected,misconfigured"`
	Status  int       `json:"status"` // HTTP status; 0 if there was no response
	Message string    `json:"message"`
} // @name ConnectionError

// List lists the accounts by name.
type List struct {
	Connections []View `json:"connections"`
} // @name ConnectionList

// List returns the state of each connection, sorted by name.
func (a *Accounts) List(ctx context.Context) (List, error) {
	a.mu.Lock()
	failed := slices.Collect(maps.Values(a.current.failed))
	a.mu.Unlock()
	out := List{Connections: append([]View{}, failed...)}
	for _, s := range a.directory.Status(ctx) {
		out.Connections = append(out.Connections, view(s))
	}
	slices.SortFunc(out.Connections, func(x, y View) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}

func view(s crm.Status) View {
	out := View{
		Name: s.Name, Label: s.Label, Driver: s.Driver, State: "ok", Breaker: "closed", Budgets: []BudgetView{},
		LookupsUnderWay: s.PendingLookups, LastSuccess: storage.OptionalTime(s.LastSuccess.UTC()), LastError: viewFailure(s.LastError),
	}
	exhausted := false
	for _, b := range s.Budgets {
		out.Budgets = append(out.Budgets, BudgetView{Name: b.Name, Requests: b.Requests, Seconds: wholeSeconds(b.Per), Left: b.Left, Burst: b.Burst})
		exhausted = exhausted || b.Left == 0
	}
	failedLast := s.LastError != nil && s.LastError.At.After(s.LastSuccess)
	switch {
	case s.Open:
		out.State, out.Breaker, out.RetryAfter = "failing", "open", max(wholeSeconds(s.RetryAfter), 1)
	case failedLast && s.LastError.Err.Kind != crm.RateLimited:
		out.State = "failing"
	case exhausted:
		out.State = "limited"
	case s.LastSuccess.IsZero():
		out.State = "unused"
	}
	return out
}

func viewFailure(f *crm.Failure) *FailureView {
	if f == nil {
		return nil
	}
	return &FailureView{At: f.At.UTC().Truncate(time.Millisecond), Kind: string(f.Err.Kind), Status: f.Err.Status, Message: f.Err.Message}
}

func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// TestInput is the body of POST /api/v1/connections/{name}/test.
type TestInput struct {
	Number string `json:"number,omitempty" validate:"max=64" example:"+971501234567"` // number to look up; if empty, only the credentials are checked
} // @name ConnectionTestInput

// TestResult is the result of testing an account.
type TestResult struct {
	OK           bool               `json:"ok"`
	Check        *FailureView       `json:"check" extensions:"x-nullable"`                     // error of the credentials check; null if it succeeded or the driver has none
	State        string             `json:"state" enums:"found,many,none,skipped,unavailable"` // result of the lookup
	Customers    []storage.Customer `json:"customers"`
	SearchURL    string             `json:"searchUrl"`
	Error        *FailureView       `json:"error" extensions:"x-nullable"` // error of the lookup
	Milliseconds int                `json:"milliseconds"`
} // @name ConnectionTest

// Test sends requests to an account, regardless of its cached results and state. Errors:
// *problem.Invalid, and storage.ErrNotFound if the connection does not exist.
func (a *Accounts) Test(ctx context.Context, name string, in TestInput) (TestResult, error) {
	if err := problem.Validate(in); err != nil {
		return TestResult{}, err
	}
	a.mu.Lock()
	failed, hasFailed := a.current.failed[name]
	a.mu.Unlock()
	out := TestResult{Customers: []storage.Customer{}}
	if hasFailed {
		out.State, out.Check = string(crm.Unknown), failed.LastError
		return out, nil
	}
	number := a.parseNumber(in.Number)
	if in.Number != "" && number.E164 == "" {
		return TestResult{}, problem.Errorf("number", "is not a valid phone number; use a format such as +971501234567")
	}
	start := a.now()
	check, answer, ok := a.directory.Test(ctx, name, number)
	if !ok {
		return TestResult{}, fmt.Errorf("connection %q: %w", problem.Clip(name), storage.ErrNotFound)
	}
	now := a.now()
	out.State, out.SearchURL, out.Milliseconds = string(answer.State), answer.SearchURL, int(now.Sub(start).Milliseconds())
	for _, c := range answer.Customers {
		out.Customers = append(out.Customers, storage.Customer{Connection: name, ID: c.ID, Name: c.Name, URL: c.URL, MatchedBy: c.MatchedBy})
	}
	if check != nil {
		out.Check = viewFailure(&crm.Failure{At: now, Err: check})
	}
	if answer.Err != nil {
		out.Error = viewFailure(&crm.Failure{At: now, Err: answer.Err})
	}
	out.OK = check == nil && answer.Err == nil
	return out, nil
}

// parseNumber parses a number for the region of the trackers, if they share one.
func (a *Accounts) parseNumber(text string) phone.Number {
	a.mu.Lock()
	defer a.mu.Unlock()
	return phone.Parse(text, a.current.region)
}
