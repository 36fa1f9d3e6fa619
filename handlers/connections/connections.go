package connections

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"calltracker/config"
	"calltracker/crm"
	"calltracker/integration"
	"calltracker/phone"
	"calltracker/problem"
	"calltracker/storage"
)

// Connections opens the CRM accounts of the active configuration. An account stays
// open across configuration changes that do not change its settings.
type Connections struct {
	Options

	mu      sync.Mutex
	current connectionSet
}

// ConnectionsOptions are what Connections is made from. All fields are required unless their comment says otherwise.
type Options struct {
	CRMs      []crm.Driver
	Directory *crm.Directory
	Transport http.RoundTripper // nil means http.DefaultTransport
	Now       func() time.Time
}

// NewConnections returns Connections.
func New(o Options) *Connections { return &Connections{Options: o} }

// connectionSet holds the accounts of one document.
type connectionSet struct {
	open   []*crm.Connection
	failed map[string]ConnectionView // accounts that cannot be opened
	region string                    // of the trackers, if they share one
}

// Drivers returns the drivers that a document is validated against.
func (h *Connections) Drivers() []config.Driver { return ConfigDrivers(h.CRMs) }

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
// function that puts them into use, and an error for each account that cannot be
// opened.
func (h *Connections) Prepare(doc *config.Document) (activate func(), problems problem.List) {
	out := connectionSet{failed: map[string]ConnectionView{}, region: sharedRegion(doc)}
	h.mu.Lock()
	defer h.mu.Unlock()
	var failed problem.List
	for _, name := range slices.Sorted(maps.Keys(doc.Connections)) {
		c := doc.Connections[name]
		settings := integration.Settings{}
		for key, value := range c.Settings {
			settings[key] = value.Reveal()
		}
		opened, err := h.openConnection(name, c, settings)
		if err != nil {
			failed = append(failed, problem.Problem{Path: "connections." + name, Message: err.Error()})
			out.failed[name] = ConnectionView{
				Name: name, Label: c.Label, Driver: c.Driver, State: "misconfigured", Breaker: "closed", Budgets: []BudgetView{},
				LastError: &ConnectionError{At: h.Now().UTC(), Kind: "misconfigured", Message: err.Error()},
			}
			continue
		}
		out.open = append(out.open, opened)
	}
	return func() { h.use(out) }, failed
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

func (h *Connections) openConnection(name string, c config.Connection, settings integration.Settings) (*crm.Connection, error) {
	i := slices.IndexFunc(h.CRMs, func(d crm.Driver) bool { return d.Name == c.Driver })
	if i < 0 {
		return nil, fmt.Errorf("unknown driver %q", problem.Clip(c.Driver))
	}
	complete, problems := h.CRMs[i].CheckSettings(settings)
	if len(problems) > 0 {
		return nil, fmt.Errorf("%s", problems[0].Message) // package config has already reported all problems with their positions
	}
	text, err := json.Marshal([]any{c.Driver, c.Label, complete})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	fingerprint := hex.EncodeToString(sum[:])
	for _, open := range h.current.open {
		if open.Name == name && open.Fingerprint == fingerprint {
			return open, nil
		}
	}
	return crm.Open(name, c.Label, fingerprint, h.CRMs[i], complete, h.Transport)
}

// use replaces the accounts in use with prepared ones.
func (h *Connections) use(prepared connectionSet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.current = prepared
	h.Directory.SetConnections(prepared.open)
}

// ConnectionView is a CRM account and its state.
type ConnectionView struct {
	Name            string           `json:"name" example:"kustomer"`
	Label           string           `json:"label"`
	Driver          string           `json:"driver" example:"kustomer"`
	State           string           `json:"state" enums:"ok,unused,limited,failing,misconfigured"`
	Breaker         string           `json:"breaker" enums:"closed,open"` // open: requests are paused until a probe succeeds
	RetryAfter      int              `json:"retryAfter"`                  // seconds until the next probe; 0 while the breaker is closed
	Budgets         []BudgetView     `json:"budgets"`
	LookupsUnderWay int              `json:"lookupsUnderWay"`
	LastSuccess     *time.Time       `json:"lastSuccess" format:"date-time" extensions:"x-nullable"`
	LastError       *ConnectionError `json:"lastError" extensions:"x-nullable"`
}

// BudgetView is the state of a request budget.
type BudgetView struct {
	Name     string `json:"name" example:"search"`
	Requests int    `json:"requests" example:"100"` // maximum number of requests in any period of the given seconds
	Seconds  int    `json:"seconds" example:"60"`
	Left     int    `json:"left"`  // requests that can be sent now
	Burst    int    `json:"burst"` // maximum value of left
}

// ConnectionError is the last error of an account.
type ConnectionError struct {
	At      time.Time `json:"at" format:"date-time"`
	Kind    string    `json:"kind" enums:"unavailable,rate_limited,unauthorized,rejected,misconfigured"`
	Status  int       `json:"status"` // HTTP status; 0 if there was no response
	Message string    `json:"message"`
}

// ConnectionList lists the accounts by name.
type ConnectionList struct {
	Connections []ConnectionView `json:"connections"`
}

// List returns the state of each connection, sorted by name.
func (h *Connections) List(ctx context.Context) (ConnectionList, error) {
	h.mu.Lock()
	failed := slices.Collect(maps.Values(h.current.failed))
	h.mu.Unlock()
	out := ConnectionList{Connections: append([]ConnectionView{}, failed...)}
	for _, s := range h.Directory.Status(ctx) {
		out.Connections = append(out.Connections, viewConnection(s))
	}
	slices.SortFunc(out.Connections, func(a, b ConnectionView) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out, nil
}

func viewConnection(s crm.Status) ConnectionView {
	out := ConnectionView{
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

func viewFailure(f *crm.Failure) *ConnectionError {
	if f == nil {
		return nil
	}
	return &ConnectionError{At: f.At.UTC().Truncate(time.Millisecond), Kind: string(f.Err.Kind), Status: f.Err.Status, Message: f.Err.Message}
}

func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// ConnectionTestInput is the body of POST /api/v1/connections/{name}/test.
type ConnectionTestInput struct {
	Number string `json:"number,omitempty" validate:"max=64" example:"+971501234567"` // number to look up; if empty, only the credentials are checked
}

// ConnectionTest is the result of testing a connection.
type ConnectionTest struct {
	OK           bool               `json:"ok"`
	Check        *ConnectionError   `json:"check" extensions:"x-nullable"`                     // error of the credentials check; null if it succeeded or the driver has none
	State        string             `json:"state" enums:"found,many,none,skipped,unavailable"` // result of the lookup
	Customers    []storage.Customer `json:"customers"`
	SearchURL    string             `json:"searchUrl"`
	Error        *ConnectionError   `json:"error" extensions:"x-nullable"` // error of the lookup
	Milliseconds int                `json:"milliseconds"`
}

// Test sends requests to an account, regardless of its cached results and state. It
// returns storage.ErrNotFound if the connection does not exist.
func (h *Connections) Test(ctx context.Context, name string, in ConnectionTestInput) (ConnectionTest, error) {
	if err := problem.Validate(in); err != nil {
		return ConnectionTest{}, err
	}
	h.mu.Lock()
	failed, hasFailed := h.current.failed[name]
	h.mu.Unlock()
	out := ConnectionTest{Customers: []storage.Customer{}}
	if hasFailed {
		out.State, out.Check = string(crm.Unknown), failed.LastError
		return out, nil
	}
	number := h.parseNumber(in.Number)
	if in.Number != "" && number.E164 == "" {
		return ConnectionTest{}, problem.Errorf("number", "is not a valid phone number; use a format such as +971501234567")
	}
	start := h.Now()
	check, answer, ok := h.Directory.Test(ctx, name, number)
	if !ok {
		return ConnectionTest{}, fmt.Errorf("connection %q: %w", problem.Clip(name), storage.ErrNotFound)
	}
	now := h.Now()
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
func (h *Connections) parseNumber(text string) phone.Number {
	h.mu.Lock()
	defer h.mu.Unlock()
	return phone.Parse(text, h.current.region)
}
