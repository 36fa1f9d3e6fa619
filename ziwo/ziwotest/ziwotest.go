// Package ziwotest simulates Ziwo for tests and demonstrations. It has two parts: an
// http.Handler that behaves like the API of one contact center, and a simulator that
// behaves like the platform during calls. The simulator sends start calls, follows
// the rules in the answers with people who answer, miss the call, hang up or are
// busy, and posts CDRs. It uses real HTTP and can inject faults. A simulation
// depends only on its seed and on the answers of the servers under test.
//
// The package follows https://www.ziwo.io/api-integration-developers/ and what
// integrators of Ziwo publish. Where both are silent, it does what seems likely and
// documents the guess. It has not been compared with a live instance. People,
// numbers and keys are invented. All methods are safe for concurrent use.
package ziwotest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Options configures a Ziwo. Every field may be zero.
type Options struct {
	ContactCenter  string // default "aldebaran"
	Seed           uint64
	Username       string // default "admin@example.com"
	Password       string // default "correct horse"
	APIKey         string // default "cti-key-of-<ContactCenter>"
	VoicemailField string // default "voicemail"
	Customers      int    // number of invented callers; default 300
	Agents         int    // number of invented agents; default 12
	Client         *http.Client
	HistoryPage    int // largest page of the call history; default 1000
}

// Ziwo is a simulated contact center. New creates it. It is an http.Handler.
type Ziwo struct {
	options   Options
	mux       *http.ServeMux
	client    *http.Client
	customers []Customer
	agents    []Agent
	clock     atomic.Int64 // virtual time in Unix nanoseconds; 0 is the real clock

	mu           sync.Mutex
	trackers     map[int]*Tracker
	nextID       int
	numbers      []Number
	tokens       map[string]bool
	logins       int
	requests     map[string]int // number of requests by "GET /path/{pattern}"
	faults       []*Fault
	calls        []*Call          // all calls that have ended, in the order of ending
	byCallID     map[string]*Call // calls by CallID
	live         map[string]*Call // calls in progress
	logs         []logEntry
	sorted       bool // whether calls are newest first
	callsStarted int  // number of calls in earlier simulations
	statuses     map[string]int
	whispers     map[string]string
}

// Tracker is a call tracker of the contact center.
type Tracker struct {
	ID              int
	Name            string
	StartRequestURL string
	StartRequestKey string
	StartTimeout    int // milliseconds; default 10,000
	EndRequestURL   string
	EndRequestKey   string
	EndTimeout      int // milliseconds; default 10,000
	WelcomePlayback string
	ErrorPlayback   string
	Blocked         bool
}

// Number is a number of the contact center and its destination.
type Number struct {
	E164      string
	DIDCalled string // value of didCalled
	Tracker   string // name of the tracker; empty means a queue
}

// Customer is an invented caller.
type Customer struct {
	Name string
	E164 string
}

// Agent is an invented agent.
type Agent struct {
	ID        int
	CCLogin   string // with leading zeros
	FirstName string
	LastName  string
	Username  string
}

// New returns a contact center without trackers.
func New(o Options) *Ziwo {
	fill := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	fill(&o.ContactCenter, "aldebaran")
	fill(&o.Username, "admin@example.com")
	fill(&o.Password, "correct horse")
	fill(&o.APIKey, "cti-key-of-"+o.ContactCenter)
	fill(&o.VoicemailField, "voicemail")
	if o.Customers <= 0 {
		o.Customers = 300
	}
	if o.Agents <= 0 {
		o.Agents = 12
	}
	if o.HistoryPage <= 0 {
		o.HistoryPage = 1000
	}
	z := &Ziwo{
		options: o, client: o.Client, nextID: 1,
		trackers: map[int]*Tracker{}, tokens: map[string]bool{}, requests: map[string]int{},
		byCallID: map[string]*Call{}, live: map[string]*Call{}, statuses: map[string]int{}, whispers: map[string]string{},
	}
	if z.client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		const connections = 256
		transport.MaxIdleConns, transport.MaxIdleConnsPerHost = connections, connections
		z.client = &http.Client{Transport: transport}
	}
	z.customers, z.agents = people(rand.New(rand.NewPCG(o.Seed, 1)), o.Customers, o.Agents)
	z.mux = z.routes()
	return z
}

// Close closes idle connections to the servers under test.
func (z *Ziwo) Close() { z.client.CloseIdleConnections() }

// Now returns the time at Ziwo: virtual time if it is set, or else the real time.
func (z *Ziwo) Now() time.Time {
	if ns := z.clock.Load(); ns != 0 {
		return time.Unix(0, ns).UTC()
	}
	return time.Now().UTC()
}

// SetNow sets the virtual time, for example to the time when late recordings exist.
// The zero time switches to the real clock.
func (z *Ziwo) SetNow(t time.Time) {
	if t.IsZero() {
		z.clock.Store(0)
		return
	}
	z.clock.Store(t.UnixNano())
}

// advance sets the virtual time to t unless it is later already.
func (z *Ziwo) advance(t time.Time) {
	for {
		now := z.clock.Load()
		if t.UnixNano() <= now || z.clock.CompareAndSwap(now, t.UnixNano()) {
			return
		}
	}
}

// Credentials returns the credentials that the API accepts.
func (z *Ziwo) Credentials() (username, password, apiKey string) {
	return z.options.Username, z.options.Password, z.options.APIKey
}

// Customers returns the invented callers.
func (z *Ziwo) Customers() []Customer { return slices.Clone(z.customers) }

// Agents returns the invented agents.
func (z *Ziwo) Agents() []Agent { return slices.Clone(z.agents) }

// AddTracker adds a tracker, like the admin API, and returns its ID.
func (z *Ziwo) AddTracker(t Tracker) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	t.ID = z.nextID
	z.nextID++
	z.trackers[t.ID] = &t
	return t.ID
}

// Trackers returns the trackers in the order of their IDs.
func (z *Ziwo) Trackers() []Tracker {
	z.mu.Lock()
	defer z.mu.Unlock()
	out := make([]Tracker, 0, len(z.trackers))
	for _, t := range z.trackers {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(a, b Tracker) int { return a.ID - b.ID })
	return out
}

// AddNumber adds a number, or replaces the number with the same DIDCalled.
func (z *Ziwo) AddNumber(n Number) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for i := range z.numbers {
		if z.numbers[i].DIDCalled == n.DIDCalled {
			z.numbers[i] = n
			return
		}
	}
	z.numbers = append(z.numbers, n)
}

// ExpireTokens invalidates every token.
func (z *Ziwo) ExpireTokens() {
	z.mu.Lock()
	defer z.mu.Unlock()
	clear(z.tokens)
}

// Logins returns the number of successful logins.
func (z *Ziwo) Logins() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.logins
}

// Requests returns the number of API requests that match pattern, such as
// "GET /callHistory/{$}", including failed ones. The empty pattern matches all.
func (z *Ziwo) Requests(pattern string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	if pattern != "" {
		return z.requests[pattern]
	}
	total := 0
	for _, n := range z.requests {
		total += n
	}
	return total
}

// FaultKind is a kind of fault of the API.
type FaultKind string

// The faults of the API.
const (
	FaultHTML           FaultKind = "html"            // status 200 with an HTML page
	FaultEmpty          FaultKind = "empty"           // status 200 with an empty body
	FaultTruncatedJSON  FaultKind = "truncated_json"  // status 200 with truncated JSON
	FaultUnexpectedJSON FaultKind = "unexpected_json" // status 200 with a JSON string
	FaultRejected       FaultKind = "rejected"        // status 200 with result false
	Fault429            FaultKind = "429"             // status 429
	Fault500            FaultKind = "500"             // status 500
	FaultAbort          FaultKind = "abort"           // the connection breaks in the middle of the response
	FaultHang           FaultKind = "hang"            // no response
)

// Fault is a fault of API requests.
type Fault struct {
	Kind       FaultKind
	Path       string // prefix of the path; empty matches every request
	Times      int    // number of requests that fail; 0 means until ClearFaults
	RetryAfter string // Retry-After header, such as "1"
}

// AddFault adds a fault.
func (z *Ziwo) AddFault(f Fault) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if f.Times == 0 {
		f.Times = -1
	}
	z.faults = append(z.faults, &f)
}

// ClearFaults removes every fault.
func (z *Ziwo) ClearFaults() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.faults = nil
}

// EndedCalls returns every call that has ended, oldest first. A server under test
// should store exactly these calls once it has received or backfilled all CDRs.
func (z *Ziwo) EndedCalls() []Call {
	now := z.Now()
	z.mu.Lock()
	defer z.mu.Unlock()
	out := make([]Call, 0, len(z.calls))
	for _, c := range z.calls {
		if !c.EndedAt.After(now) {
			out = append(out, *c)
		}
	}
	slices.SortFunc(out, func(a, b Call) int {
		if c := a.StartedAt.Compare(b.StartedAt); c != 0 {
			return c
		}
		if a.CallID < b.CallID {
			return -1
		}
		return 1
	})
	return out
}

// LiveCalls returns every call in progress, oldest first.
func (z *Ziwo) LiveCalls() []Call {
	z.mu.Lock()
	defer z.mu.Unlock()
	out := make([]Call, 0, len(z.live))
	for _, c := range z.live {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Call) int { return a.StartedAt.Compare(b.StartedAt) })
	return out
}

// AddCalls adds calls to the history without sending requests to a tracker.
func (z *Ziwo) AddCalls(calls ...Call) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, c := range calls {
		z.addToHistory(&c)
	}
}

// addToHistory adds a call to the history. It requires z.mu.
func (z *Ziwo) addToHistory(c *Call) {
	delete(z.live, c.CallID)
	c.record = len(z.calls) + 1
	z.calls = append(z.calls, c)
	z.byCallID[c.CallID] = c
	z.sorted = false
}

// newestFirst returns the history in the order of the API. It requires z.mu.
func (z *Ziwo) newestFirst() []*Call {
	if !z.sorted {
		slices.SortStableFunc(z.calls, func(a, b *Call) int {
			if c := b.StartedAt.Compare(a.StartedAt); c != 0 {
				return c
			}
			return b.record - a.record
		})
		z.sorted = true
	}
	return z.calls
}

// logEntry records one request to a tracker.
type logEntry struct {
	tracker *Tracker
	start   bool
	call    *Call
	at      time.Time
	status  int
}

// trackerByName returns a tracker by name, or nil. It requires z.mu.
func (z *Ziwo) trackerByName(name string) *Tracker {
	for _, t := range z.trackers {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// trackerByIDOrName returns a tracker by ID or by name, or nil. It requires z.mu.
func (z *Ziwo) trackerByIDOrName(idOrName string) *Tracker {
	if id, err := strconv.Atoi(idOrName); err == nil {
		if t := z.trackers[id]; t != nil {
			return t
		}
	}
	return z.trackerByName(idOrName)
}

// people invents callers and agents.
func people(rng *rand.Rand, customers, agents int) ([]Customer, []Agent) {
	first := []string{
		"Amal", "Bilal", "Chiara", "Dalia", "Emre", "Farah", "Gita", "Hamad", "Ines", "Jad", "Karim", "Lina", "Mona", "Nabil",
		"Omar", "Priya", "Qasim", "Rania", "Samir", "Tala", "Umar", "Vera", "Walid", "Yara", "Zain",
	}
	last := []string{
		"Abdallah", "Baptiste", "Chowdhury", "Darwish", "Elmasry", "Fontaine", "Ghanem", "Haddad", "Ibrahim", "Jaber",
		"Khoury", "Lefevre", "Mansour", "Nasser", "Obeid", "Pillai", "Qureshi", "Rahman", "Saleh", "Tanaka", "Verma", "Younes",
	}
	name := func() (string, string) { return first[rng.IntN(len(first))], last[rng.IntN(len(last))] }
	seen := map[string]bool{}
	number := func() string {
		for {
			var n string
			switch rng.IntN(10) {
			case 0:
				n = fmt.Sprintf("+9665%08d", rng.IntN(1e8)) // Saudi mobile
			case 1:
				n = fmt.Sprintf("+336%08d", 10_000_000+rng.IntN(8e7)) // French mobile
			default:
				n = fmt.Sprintf("+9715%d%07d", []int{0, 2, 4, 5, 6, 8}[rng.IntN(6)], 2_000_000+rng.IntN(8e6))
			}
			if !seen[n] {
				seen[n] = true
				return n
			}
		}
	}
	var c []Customer
	for range customers {
		f, l := name()
		c = append(c, Customer{Name: f + " " + l, E164: number()})
	}
	var a []Agent
	for i := range agents {
		f, l := name()
		a = append(a, Agent{ID: i + 1, CCLogin: fmt.Sprintf("%04d", i+11), FirstName: f, LastName: l, Username: fmt.Sprintf("agent%d@example.com", i+1)})
	}
	return c, a
}

// ReplaceTracker replaces the tracker with the ID of t, like a manual change in
// Ziwo.
func (z *Ziwo) ReplaceTracker(t Tracker) { z.saveTracker(t) }
