// Package ziwotest is a Ziwo to talk to, for tests and for demonstrations: an
// http.Handler that behaves as the API of one contact center does, and a
// simulator that lives through calls as the platform does. It asks start URLs,
// walks the rules that it gets with people who answer, miss, hang up or are
// busy, and posts the records to end URLs, over real HTTP and with any fault
// that is asked for. Everything that happens follows from the seed and from
// what the servers under test answer.
//
// It is modelled on https://www.ziwo.io/api-integration-developers/ and on what
// integrators publish; where both are silent it does what seems likely, and says
// so. Nothing of it comes from a live instance. People, numbers and keys are
// invented. Everything here is safe for concurrent use.
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

// Options are what a Ziwo is made of. The zero value of each is sensible.
type Options struct {
	ContactCenter  string // "aldebaran"
	Seed           uint64
	Username       string // "admin@example.com"
	Password       string // "correct horse"
	APIKey         string // "cti-key-of-aldebaran"
	VoicemailField string // "voicemail"
	Customers      int    // 300: invented people who call
	Agents         int    // 12
	Client         *http.Client
	HistoryPage    int // the largest page of the call history; 1000
}

// Ziwo is one contact center. Make it with New; it is an http.Handler.
type Ziwo struct {
	options   Options
	mux       *http.ServeMux
	client    *http.Client
	customers []Customer
	agents    []Agent
	clock     atomic.Int64 // unix nanoseconds of virtual time; 0: the real clock

	mu       sync.Mutex
	trackers map[int]*Tracker
	nextID   int
	numbers  []Number
	tokens   map[string]bool
	logins   int
	requests map[string]int // by "GET /path/{pattern}"
	faults   []*Fault
	calls    []*Call          // every call that has ended, in the order of ending
	byCallID map[string]*Call // of those
	live     map[string]*Call // calls under way
	logs     []logEntry
	sorted   bool // calls are newest first
	begun    int  // calls of the simulations before: each call is another
	statuses map[string]int
	whispers map[string]string
}

// Tracker is a call tracker as the contact center keeps it.
type Tracker struct {
	ID              int
	Name            string
	StartRequestURL string
	StartRequestKey string
	StartTimeout    int // milliseconds; 0: 10,000
	EndRequestURL   string
	EndRequestKey   string
	EndTimeout      int
	WelcomePlayback string
	ErrorPlayback   string
	Blocked         bool
}

// Number is a number of the contact center and the tracker that it leads to.
type Number struct {
	E164    string
	Called  string // as didCalled says it
	Tracker string // by name; empty: it leads to a queue
}

// Customer is an invented person who calls.
type Customer struct {
	Name string
	E164 string
}

// Agent is an invented person who takes calls.
type Agent struct {
	ID        int
	CCLogin   string // with leading zeros
	FirstName string
	LastName  string
	Username  string
}

// New makes a contact center without trackers.
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

// Close lets go of the connections to the servers under test.
func (z *Ziwo) Close() { z.client.CloseIdleConnections() }

// Now is the time at Ziwo: that of the simulation, or the real one.
func (z *Ziwo) Now() time.Time {
	if ns := z.clock.Load(); ns != 0 {
		return time.Unix(0, ns).UTC()
	}
	return time.Now().UTC()
}

// SetNow moves virtual time, such as past the moment at which late recordings
// arrive. The zero time goes back to the real clock.
func (z *Ziwo) SetNow(t time.Time) {
	if t.IsZero() {
		z.clock.Store(0)
		return
	}
	z.clock.Store(t.UnixNano())
}

// advance moves virtual time forward only.
func (z *Ziwo) advance(t time.Time) {
	for {
		now := z.clock.Load()
		if t.UnixNano() <= now || z.clock.CompareAndSwap(now, t.UnixNano()) {
			return
		}
	}
}

// Credentials are what the API takes.
func (z *Ziwo) Credentials() (username, password, apiKey string) {
	return z.options.Username, z.options.Password, z.options.APIKey
}

// Customers are the invented people who call.
func (z *Ziwo) Customers() []Customer { return slices.Clone(z.customers) }

// Agents are the invented people who take calls.
func (z *Ziwo) Agents() []Agent { return slices.Clone(z.agents) }

// AddTracker makes a tracker as the admin API does, and returns its id.
func (z *Ziwo) AddTracker(t Tracker) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	t.ID = z.nextID
	z.nextID++
	z.trackers[t.ID] = &t
	return t.ID
}

// Trackers lists the trackers by id.
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

// AddNumber adds a number of the contact center, or leads it elsewhere.
func (z *Ziwo) AddNumber(n Number) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for i := range z.numbers {
		if z.numbers[i].Called == n.Called {
			z.numbers[i] = n
			return
		}
	}
	z.numbers = append(z.numbers, n)
}

// ExpireTokens makes every token invalid, as Ziwo does some day.
func (z *Ziwo) ExpireTokens() {
	z.mu.Lock()
	defer z.mu.Unlock()
	clear(z.tokens)
}

// Logins counts the successful ones.
func (z *Ziwo) Logins() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.logins
}

// Requests counts the requests to the API, those that failed included, by
// pattern, such as "GET /callHistory/{$}"; the empty pattern is all of them.
func (z *Ziwo) Requests(pattern string) int {
	z.mu.Lock()
	defer z.mu.Unlock()
	if pattern != "" {
		return z.requests[pattern]
	}
	all := 0
	for _, n := range z.requests {
		all += n
	}
	return all
}

// FaultKind is how the API fails.
type FaultKind string

// The faults of the API.
const (
	FaultHTML      FaultKind = "html"       // 200 with a page
	FaultEmpty     FaultKind = "empty"      // 200 with nothing
	FaultWrongJSON FaultKind = "wrong_json" // 200 with JSON that is cut off
	FaultOtherJSON FaultKind = "other_json" // 200 with JSON that is something else
	FaultRefused   FaultKind = "refused"    // 200 with result false
	Fault429       FaultKind = "429"
	Fault500       FaultKind = "500"
	FaultCut       FaultKind = "cut" // the connection breaks in the middle
	FaultHang      FaultKind = "hang"
)

// Fault makes requests to the API fail.
type Fault struct {
	Kind       FaultKind
	Path       string // prefix; empty: every request
	Times      int    // 0: until Heal
	RetryAfter string // header, such as "1"
}

// Fail adds a fault.
func (z *Ziwo) Fail(f Fault) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if f.Times == 0 {
		f.Times = -1
	}
	z.faults = append(z.faults, &f)
}

// Heal takes every fault away.
func (z *Ziwo) Heal() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.faults = nil
}

// Truth is every call that has ended, oldest first: what a server under test
// should have stored, once it has heard of everything.
func (z *Ziwo) Truth() []Call {
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

// Live is every call under way, oldest first.
func (z *Ziwo) Live() []Call {
	z.mu.Lock()
	defer z.mu.Unlock()
	out := make([]Call, 0, len(z.live))
	for _, c := range z.live {
		out = append(out, *c)
	}
	slices.SortFunc(out, func(a, b Call) int { return a.StartedAt.Compare(b.StartedAt) })
	return out
}

// AddCalls puts calls into the history without telling anybody.
func (z *Ziwo) AddCalls(calls ...Call) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, c := range calls {
		z.keep(&c)
	}
}

// keep adds a call that has ended to the history.
func (z *Ziwo) keep(c *Call) {
	delete(z.live, c.CallID)
	c.record = len(z.calls) + 1
	z.calls = append(z.calls, c)
	z.byCallID[c.CallID] = c
	z.sorted = false
}

// newestFirst is the history as the API orders it. The caller holds the lock.
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

// logEntry is one request to a tracker.
type logEntry struct {
	tracker *Tracker
	start   bool
	call    *Call
	at      time.Time
	status  int
}

func (z *Ziwo) trackerNamed(name string) *Tracker {
	for _, t := range z.trackers {
		if t.Name == name {
			return t
		}
	}
	return nil
}

// find looks a tracker up by id or by name. The caller holds the lock.
func (z *Ziwo) find(idOrName string) *Tracker {
	if id, err := strconv.Atoi(idOrName); err == nil {
		if t := z.trackers[id]; t != nil {
			return t
		}
	}
	return z.trackerNamed(idOrName)
}

// people invents them.
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

// Replace puts a tracker in the place of that with its ID, as somebody does who
// changes it by hand.
func (z *Ziwo) Replace(t Tracker) { z.put(t) }
