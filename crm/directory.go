package crm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"calltracker/phone"
)

// Shared is what the replicas of a server share: values that were looked up
// lately, and budgets of requests (token buckets: Take returns 0 when it took a
// token, else how long until it could; a taker leaves some tokens to others).
type Shared interface {
	Get(ctx context.Context, key string) ([]byte, bool)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
	Take(ctx context.Context, key string, size int, every time.Duration, leave int) time.Duration
	Empty(ctx context.Context, key string, size int, every, wait time.Duration)
	Left(ctx context.Context, key string, size int, every time.Duration) int
}

// Times of a look-up.
const (
	// Patience is how long a person waits for an answer, all connections together.
	Patience = 1500 * time.Millisecond
	// backgroundPatience covers waiting for budgets; each request has requestTimeout.
	backgroundPatience = 30 * time.Second
	// tooLate is how many callers with little time give up in a row until others
	// like them no longer wait.
	tooLate = 3
)

// Bounds of the look-ups that one account answers at a time, so that one that
// hangs takes no memory. Background work gets half of them.
const maxFlights = 64

// Directory looks numbers up across connections. Answers are cached, equal
// questions become one, requests keep inside the budgets, and an account that
// fails is left alone until a probe finds it well. It is safe for concurrent
// use. Make it with NewDirectory; Run it, or accounts that failed stay unused.
type Directory struct {
	o    Options
	wake chan struct{} // the next probe may be due earlier

	mutex    sync.Mutex
	accounts map[string]*account
	order    []string // names, sorted
	flights  map[*flight]struct{}
	closed   bool
	running  sync.WaitGroup
}

// Options are what a Directory needs. Zero values are usable, but for Shared.
type Options struct {
	Shared  Shared
	Key     []byte // makes keys of numbers in the cache, so that they cannot be read there
	Logger  *slog.Logger
	Observe func(connection, outcome string, took time.Duration) // called once for each look-up that reached an account
}

// NewDirectory makes a directory without connections.
func NewDirectory(o Options) *Directory {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(string, string, time.Duration) {}
	}
	return &Directory{o: o, wake: make(chan struct{}, 1), accounts: map[string]*account{}, flights: map[*flight]struct{}{}}
}

// Use replaces the connections. One that was in use before and is the same
// value goes on with its state; look-ups under way end by themselves.
func (d *Directory) Use(connections []*Connection) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	accounts := make(map[string]*account, len(connections))
	d.order = d.order[:0:0]
	for _, c := range connections {
		a := d.accounts[c.Name]
		if a == nil || a.Connection != c {
			a = newAccount(c)
		}
		accounts[c.Name] = a
		d.order = append(d.order, c.Name)
	}
	slices.Sort(d.order)
	d.accounts = accounts
}

// Names lists the connections, sorted.
func (d *Directory) Names() []string {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	return d.order
}

// Priority is who asks. The zero value is a person.
type Priority int

// The priorities.
const (
	Person     Priority = iota // somebody waits: an agent, a caller
	Background                 // nobody waits; it leaves half of each budget to people and may wait for it
)

// Query is one question to a Directory.
type Query struct {
	Number      phone.Number
	Connections []string // in the order of the answers; nil for all, sorted. Unknown ones are passed over
	Priority    Priority
	// Wait is how long a person waits; 0 is Patience, below 0 takes what is cached.
	// The look-up goes on when nobody waits any more, and its answer is kept.
	Wait time.Duration
	Anew bool // do not answer from the cache
}

// State is the outcome of a look-up. The zero value is invalid.
type State string

// The outcomes.
const (
	Found   State = "found"       // one customer
	Many    State = "many"        // several
	None    State = "none"        // nobody has this number
	Skipped State = "skipped"     // it is no number of a person: withheld, internal, unreadable
	Unknown State = "unavailable" // nobody was found, and not every connection answered
)

// Result is what the connections know of a number.
type Result struct {
	State     State
	Customers []Match  // of all connections
	Answers   []Answer // one for each connection that was asked, in that order
}

// Match is a customer and where it was found.
type Match struct {
	Connection string
	Customer
}

// Answer is what one connection knows.
type Answer struct {
	Connection string
	State      State // found, many, none or unavailable
	Customers  []Customer
	At         time.Time // when the account said so
	Stale      bool      // the account said so a while ago and is asked again
	Err        *Error    // why it is unavailable, else nil
	SearchURL  string    // "" when the CRM has no page for that, or it is not on its host
	CreateURL  string    // the same
}

// Complete tells whether every connection answered.
func (r Result) Complete() bool {
	return !slices.ContainsFunc(r.Answers, func(a Answer) bool { return a.State == Unknown })
}

// RetryAfter is when to ask those again that did not answer: the shortest time
// that one of them named, or 0.
func (r Result) RetryAfter() time.Duration {
	var shortest time.Duration
	for _, a := range r.Answers {
		if a.Err != nil && a.Err.RetryAfter > 0 && (shortest == 0 || a.Err.RetryAfter < shortest) {
			shortest = a.Err.RetryAfter
		}
	}
	return shortest
}

// Find looks a number up. It never fails: what could not be asked is in the
// answers. A person gets a result within the query's time, and at once from
// accounts that are known to be away.
func (d *Directory) Find(ctx context.Context, q Query) Result {
	if q.Number.E164 == "" {
		return Result{State: Skipped}
	}
	accounts := d.pick(q.Connections)
	answers := make([]Answer, len(accounts))
	var unasked []int
	for i, a := range accounts {
		known := false
		if !q.Anew {
			answers[i], known = a.recent.get(q.Number.E164)
		}
		if !known {
			unasked = append(unasked, i)
		}
	}
	if len(unasked) > 0 {
		d.askAll(ctx, accounts, unasked, q, answers)
	}
	return resultOf(answers)
}

// askAll completes answers by those of the accounts that were not asked yet.
func (d *Directory) askAll(ctx context.Context, accounts []*account, unasked []int, q Query, answers []Answer) {
	if q.Priority == Person && q.Wait >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cmp.Or(q.Wait, Patience))
		defer cancel()
	}
	flights := make([]*flight, len(accounts))
	for _, i := range unasked {
		answers[i], flights[i] = d.ask(ctx, accounts[i], q)
	}
	for i, f := range flights {
		if f != nil {
			answers[i] = d.await(ctx, accounts[i], f, q)
		}
	}
}

func (d *Directory) pick(names []string) []*account {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if names == nil {
		names = d.order
	}
	accounts := make([]*account, 0, len(names))
	for _, name := range names {
		if a := d.accounts[name]; a != nil {
			accounts = append(accounts, a)
		}
	}
	return accounts
}

// ask answers from the cache, or joins the look-up that will answer.
func (d *Directory) ask(ctx context.Context, a *account, q Query) (Answer, *flight) {
	var kept entry
	var known bool
	if !q.Anew {
		if kept, known = d.recall(ctx, a, q.Number); known && kept.fresh() {
			answer := a.answer(q.Number, kept.customers(), kept.at(), nil)
			a.recent.put(q.Number.E164, kept, answer)
			return answer, nil
		}
	}
	f, err := d.join(a, q)
	switch {
	case known && q.Priority == Person: // better than to wait, and what is behind it is on its way
		old := a.answer(q.Number, kept.customers(), kept.at(), nil)
		old.Stale = true
		return old, nil
	case err != nil:
		return a.answer(q.Number, nil, time.Time{}, err), nil
	case q.Wait < 0, q.Wait > 0 && a.tooSlow():
		return a.answer(q.Number, nil, time.Time{}, &Error{Kind: Unavailable, Message: "nothing is known yet"}), nil
	}
	return Answer{}, f
}

func (d *Directory) await(ctx context.Context, a *account, f *flight, q Query) Answer {
	select {
	case <-f.done:
		return a.answer(q.Number, f.customers, f.at, f.err)
	default:
	}
	select {
	case <-f.done:
		return a.answer(q.Number, f.customers, f.at, f.err)
	case <-ctx.Done():
		if q.Wait > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			a.gaveUp(q.Wait)
		}
		return a.answer(q.Number, nil, time.Time{}, &Error{Kind: Unavailable, Message: "no answer in time"})
	}
}

func (a *account) answer(n phone.Number, customers []Customer, at time.Time, err *Error) Answer {
	out := Answer{Connection: a.Name, State: stateOf(len(customers)), Customers: customers, At: at, Err: err, SearchURL: a.page(a.Client.SearchURL(n))}
	if creator, ok := a.Client.(Creator); ok {
		out.CreateURL = a.page(creator.CreateURL(n))
	}
	if err != nil {
		out.State = Unknown
	}
	return out
}

func stateOf(customers int) State {
	switch customers {
	case 0:
		return None
	case 1:
		return Found
	default:
		return Many
	}
}

func resultOf(answers []Answer) Result {
	out := Result{Answers: answers}
	found := 0
	for _, a := range answers {
		found += len(a.Customers)
	}
	if found > 0 {
		out.Customers = make([]Match, 0, found)
	}
	for _, a := range answers {
		for _, c := range a.Customers {
			out.Customers = append(out.Customers, Match{Connection: a.Connection, Customer: c})
		}
	}
	out.State = stateOf(len(out.Customers))
	if out.State == None && !out.Complete() {
		out.State = Unknown
	}
	return out
}

// Run probes accounts that failed until ctx ends, then breaks off the look-ups
// under way and waits for their end. It always returns nil. Afterwards Find
// answers from the cache only.
func (d *Directory) Run(ctx context.Context) error {
	defer d.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-timer.C:
		}
		timer.Reset(d.probe())
	}
}

func (d *Directory) end() {
	d.mutex.Lock()
	d.closed = true
	for f := range d.flights {
		f.cancel()
	}
	d.mutex.Unlock()
	d.running.Wait()
}

// probe starts the probes that are due and returns when to look again.
func (d *Directory) probe() time.Duration {
	next := time.Hour // somebody wakes us earlier
	for _, a := range d.pick(nil) {
		n, wait := a.due()
		if wait == 0 {
			d.launch(a, n, Background, true)
		} else {
			next = min(next, wait)
		}
	}
	return next
}

// Test asks one connection about a number, whatever is cached and whether it is
// known to be away, after its self-check when it has one. An Error of the check
// comes back beside the answer. ok is false when there is no such connection.
func (d *Directory) Test(ctx context.Context, name string, n phone.Number) (check *Error, answer Answer, ok bool) {
	accounts := d.pick([]string{name})
	if len(accounts) == 0 {
		return nil, Answer{}, false
	}
	a := accounts[0]
	ctx, cancel := context.WithTimeout(ctx, 2*Patience)
	defer cancel()
	if c, can := a.Client.(Checker); can {
		m := &meter{directory: d, account: a, flight: newFlight(Person)}
		if err := c.Check(context.WithValue(ctx, spenderKey{}, m)); err != nil {
			check = failure(err)
			a.noted(check)
		}
	}
	if n.E164 == "" {
		return check, Answer{Connection: name, State: Skipped}, true
	}
	f := d.launch(a, n, Person, true)
	if f == nil {
		return check, a.answer(n, nil, time.Time{}, &Error{Kind: Unavailable, Message: "the server stops"}), true
	}
	return check, d.await(ctx, a, f, Query{Number: n}), true
}

// Status is how a connection does.
type Status struct {
	Name, Label, Driver string
	Open                bool          // it failed and is left alone until a probe finds it well
	RetryAfter          time.Duration // until the probe
	Limited             time.Duration // how long it takes no requests at all; 0 when it takes some
	Budgets             []BudgetStatus
	LastError           *Failure
	LastSuccess         time.Time
	Waiting             int // look-ups under way
}

// BudgetStatus is what is left of a budget.
type BudgetStatus struct {
	Name     string
	Requests int
	Per      time.Duration
	Left     int // requests that could be sent at once
	Burst    int // the most that Left can be
}

// Failure is an error and its time.
type Failure struct {
	At  time.Time
	Err *Error
}

// Status tells how each connection does, sorted by name.
func (d *Directory) Status(ctx context.Context) []Status {
	accounts := d.pick(nil)
	out := make([]Status, len(accounts))
	for i, a := range accounts {
		out[i] = a.status()
		for _, b := range a.budgets {
			out[i].Budgets = append(out[i].Budgets, BudgetStatus{
				Name: b.Name, Requests: b.Requests, Per: b.Per, Burst: b.size, Left: d.o.Shared.Left(ctx, b.key, b.size, b.every),
			})
		}
	}
	return out
}

// failure is an error of a Client as an *Error, whatever it was.
func failure(err error) *Error {
	var refused *overBudget
	if errors.As(err, &refused) {
		return &Error{Kind: RateLimited, RetryAfter: refused.wait, Message: "the budget " + refused.name + " is used up", Err: refused}
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return &Error{Kind: Unavailable, Message: "it cannot be reached", Err: err}
}

// overBudget refuses a request that there is no time to wait for.
type overBudget struct {
	name string
	wait time.Duration
}

func (e *overBudget) Error() string { return fmt.Sprintf("budget %s: wait %s", e.name, e.wait) }
