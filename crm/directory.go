package crm

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"calltracker/phone"
)

// Cache stores answers and request budgets. All replicas of a server share it.
type Cache interface {
	Get(ctx context.Context, key string) ([]byte, bool)
	Set(ctx context.Context, key string, value []byte, ttl time.Duration)
	// TakeToken takes a token from the bucket under key and returns 0. If that would
	// leave fewer than leave tokens, TakeToken takes none and returns the time until it
	// can. A bucket holds at most size tokens; every is the time to refill one.
	TakeToken(ctx context.Context, key string, size int, every time.Duration, leave int) time.Duration
	// Drain empties the bucket under key until wait has passed.
	Drain(ctx context.Context, key string, size int, every, wait time.Duration)
	// TokensLeft returns the number of tokens in the budget under key.
	TokensLeft(ctx context.Context, key string, size int, every time.Duration) int
}

// Directory looks up numbers in all connections. It caches answers, shares one
// lookup among all queries for the same number, and observes request budgets. It
// stops sending queries to an account that fails, and probes it until it answers.
// A Directory is safe for concurrent use. Create it with NewDirectory. Probes are
// sent only while Run is running.
type Directory struct {
	options Options
	wake    chan struct{} // makes Run check for due probes

	mu       sync.Mutex
	accounts map[string]*account
	order    []string // names, sorted
	lookups  map[*lookup]struct{}
	closed   bool
	running  sync.WaitGroup
}

// Options configure a Directory. Only Cache is required.
type Options struct {
	Cache   Cache
	Key     []byte // secret that makes numbers unreadable in the keys of the cache
	Logger  *slog.Logger
	Observe func(connection, outcome string, took time.Duration) // called after each lookup that reached an account
}

// NewDirectory returns a directory without connections.
func NewDirectory(o Options) *Directory {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(string, string, time.Duration) {}
	}
	return &Directory{options: o, wake: make(chan struct{}, 1), accounts: map[string]*account{}, lookups: map[*lookup]struct{}{}}
}

// SetConnections replaces the connections. A connection that is already in use, as
// the same pointer, retains its state. Lookups in progress continue.
func (d *Directory) SetConnections(connections []*Connection) {
	d.mu.Lock()
	defer d.mu.Unlock()
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

// Names returns the names of the connections, sorted.
func (d *Directory) Names() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.order
}

// Find looks up a number. It never fails: the answers contain the errors of the
// connections. An interactive query returns within its wait, and does not wait for
// accounts whose circuit breaker is open.
func (d *Directory) Find(ctx context.Context, q Query) Result {
	if q.Number.E164 == "" {
		return Result{State: Skipped}
	}
	accounts := d.accountsNamed(q.Connections)
	answers := make([]Answer, len(accounts))
	var missing []int
	for i, a := range accounts {
		ok := false
		if !q.SkipCache {
			answers[i], ok = a.answers.get(q.Number.E164)
		}
		if !ok {
			missing = append(missing, i)
		}
	}
	if len(missing) > 0 {
		d.findMissing(ctx, accounts, missing, q, answers)
	}
	return newResult(answers)
}

// findMissing fills in the missing answers.
func (d *Directory) findMissing(ctx context.Context, accounts []*account, missing []int, q Query, answers []Answer) {
	if q.Priority == Interactive && q.Wait >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cmp.Or(q.Wait, DefaultWait))
		defer cancel()
	}
	lookups := make([]*lookup, len(accounts))
	for _, i := range missing {
		answers[i], lookups[i] = d.answerOrLookup(ctx, accounts[i], q)
	}
	for i, l := range lookups {
		if l != nil {
			answers[i] = d.waitFor(ctx, accounts[i], l, q)
		}
	}
}

// accountsNamed returns the accounts with these names, or all if names is nil.
func (d *Directory) accountsNamed(names []string) []*account {
	d.mu.Lock()
	defer d.mu.Unlock()
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

// answerOrLookup returns the answer of an account if one is available immediately.
// Otherwise it returns the lookup to wait for.
func (d *Directory) answerOrLookup(ctx context.Context, a *account, q Query) (Answer, *lookup) {
	var cached cacheEntry
	var ok bool
	if !q.SkipCache {
		if cached, ok = d.readCache(ctx, a, q.Number); ok && cached.isFresh() {
			answer := a.newAnswer(q.Number, cached.Customers, cached.at(), nil)
			a.answers.put(q.Number.E164, cached, answer)
			return answer, nil
		}
	}
	l, err := d.joinLookup(a, q)
	switch {
	case ok && q.Priority == Interactive: // a stale answer is better than a wait
		stale := a.newAnswer(q.Number, cached.Customers, cached.at(), nil)
		stale.Stale = true
		return stale, nil
	case err != nil:
		return a.newAnswer(q.Number, nil, time.Time{}, err), nil
	case q.Wait < 0, q.Wait > 0 && a.skipsShortWaits():
		return a.newAnswer(q.Number, nil, time.Time{}, &Error{Kind: Unavailable, Message: "no cached answer"}), nil
	}
	return Answer{}, l
}

// waitFor returns the result of a lookup, or an error if ctx ends first.
func (d *Directory) waitFor(ctx context.Context, a *account, l *lookup, q Query) Answer {
	select {
	case <-l.done:
	case <-ctx.Done():
		if !l.isDone() { // both channels may be ready
			if q.Wait > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				a.timedOut(q.Wait)
			}
			return a.newAnswer(q.Number, nil, time.Time{}, &Error{Kind: Unavailable, Message: "lookup timed out"})
		}
	}
	return a.newAnswer(q.Number, l.customers, l.at, l.err)
}

// Run probes accounts whose circuit breaker is open until ctx ends. Then it
// cancels all lookups and waits for them to end. It always returns nil. After Run
// returns, Find answers only from the cache.
func (d *Directory) Run(ctx context.Context) error {
	defer d.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.wake:
		case <-timer.C:
		}
		timer.Reset(d.startProbes())
	}
}

func (d *Directory) close() {
	d.mu.Lock()
	d.closed = true
	for l := range d.lookups {
		l.cancel()
	}
	d.mu.Unlock()
	d.running.Wait()
}

// startProbes starts all due probes and returns the time until the next one can be
// due.
func (d *Directory) startProbes() time.Duration {
	next := idleInterval
	for _, a := range d.accountsNamed(nil) {
		n, wait := a.claimProbe()
		if wait == 0 {
			d.startLookup(a, n, Background, true)
		} else {
			next = min(next, wait)
		}
	}
	return next
}

// Test checks the credentials of a connection if its driver can, then looks up a
// number. It ignores the cache and the circuit breaker. check is the error of the
// check of the credentials. ok is false if the connection does not exist.
func (d *Directory) Test(ctx context.Context, name string, n phone.Number) (check *Error, answer Answer, ok bool) {
	accounts := d.accountsNamed([]string{name})
	if len(accounts) == 0 {
		return nil, Answer{}, false
	}
	a := accounts[0]
	ctx, cancel := context.WithTimeout(ctx, 2*DefaultWait)
	defer cancel()
	if c, can := a.Client.(Checker); can {
		limit := d.newLimiter(a, newLookup(Interactive))
		if err := c.Check(context.WithValue(ctx, limiterKey{}, limit)); err != nil {
			check = asError(err)
			a.checkFailed(check)
		}
	}
	if n.E164 == "" {
		return check, Answer{Connection: name, State: Skipped}, true
	}
	l := d.startLookup(a, n, Interactive, true)
	if l == nil {
		return check, a.newAnswer(n, nil, time.Time{}, shutdownError()), true
	}
	return check, d.waitFor(ctx, a, l, Query{Number: n}), true
}
