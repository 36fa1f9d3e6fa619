package crm

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"calltracker/phone"
)

// flight is one look-up under way, and whoever waits for it.
type flight struct {
	done   chan struct{}
	urgent chan struct{} // closed when a person waits
	hurry  func()
	cancel context.CancelFunc

	// The answer, once done is closed.
	customers []Customer
	at        time.Time
	err       *Error
}

func newFlight(p Priority) *flight {
	f := &flight{done: make(chan struct{}), urgent: make(chan struct{})}
	f.hurry = sync.OnceFunc(func() { close(f.urgent) })
	if p == Person {
		f.hurry()
	}
	return f
}

func (f *flight) isUrgent() bool {
	select {
	case <-f.urgent:
		return true
	default:
		return false
	}
}

// join finds the look-up of a number that is under way, or starts one.
func (d *Directory) join(a *account, q Query) (*flight, *Error) {
	a.mutex.Lock()
	if a.open {
		defer a.mutex.Unlock()
		return nil, a.away()
	}
	if f := a.flights[q.Number.E164]; f != nil {
		a.mutex.Unlock()
		if q.Priority == Person {
			f.hurry()
		}
		return f, nil
	}
	most := maxFlights
	if q.Priority == Background {
		most /= 2
	}
	busy := len(a.flights) >= most
	a.mutex.Unlock()
	if busy {
		return nil, &Error{Kind: RateLimited, RetryAfter: time.Second, Message: "too many look-ups are under way"}
	}
	if f := d.launch(a, q.Number, q.Priority, q.Anew); f != nil {
		return f, nil
	}
	return nil, &Error{Kind: Unavailable, Message: "the server stops"}
}

// launch starts a look-up, or joins one that somebody else has just started. It
// returns nil when the directory has ended.
func (d *Directory) launch(a *account, n phone.Number, p Priority, anew bool) *flight {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.closed {
		return nil
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if f := a.flights[n.E164]; f != nil {
		if p == Person {
			f.hurry()
		}
		return f
	}
	limit := Patience
	if p == Background {
		limit = backgroundPatience
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	f := newFlight(p)
	f.cancel = cancel
	probe := a.open
	a.flights[n.E164] = f
	d.flights[f] = struct{}{}
	d.running.Go(func() {
		defer cancel()
		d.fly(ctx, a, f, n, probe, anew)
	})
	return f
}

// fly looks a number up, keeps the answer and tells those who wait.
func (d *Directory) fly(ctx context.Context, a *account, f *flight, n phone.Number, probe, anew bool) {
	defer func() {
		d.mutex.Lock()
		delete(d.flights, f)
		d.mutex.Unlock()
		a.mutex.Lock()
		delete(a.flights, n.E164)
		a.mutex.Unlock()
		close(f.done)
	}()
	if !anew { // it may have been answered between asking the cache and coming here
		if kept, known := d.recall(ctx, a, n); known && kept.fresh() {
			f.customers, f.at = kept.customers(), kept.at()
			return
		}
	}
	m := &meter{directory: d, account: a, flight: f}
	start := time.Now()
	customers, err := find(context.WithValue(ctx, spenderKey{}, m), a.Client, n)
	if err == nil {
		f.customers, f.at = a.withPages(owners(customers, n)), time.Now()
		d.keep(context.WithoutCancel(ctx), a, n, f.customers, f.at)
	} else {
		f.err = failure(err)
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return // we stop, which says nothing of the account
	}
	d.settle(a, m, n, probe, time.Since(start), f.err)
}

// find asks a client. One that panics has failed; the server goes on.
func find(ctx context.Context, c Client, n phone.Number) (customers []Customer, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &Error{Kind: Unavailable, Message: "its driver broke", Err: fmt.Errorf("panic: %v", r)}
		}
	}()
	return c.FindCustomers(ctx, n)
}

// settle notes how a look-up ended: for the breaker, the budgets and the log.
func (d *Directory) settle(a *account, m *meter, n phone.Number, probe bool, took time.Duration, err *Error) {
	var changed change
	outcome := "ok"
	if err == nil {
		changed = a.succeeded(took)
	} else {
		outcome = string(err.Kind)
		changed = a.failure(err, n, probe)
		var own *overBudget
		if err.Kind == RateLimited && !errors.As(err, &own) { // the account refused, not we
			m.empty(err.RetryAfter)
		}
	}
	d.o.Observe(a.Name, outcome, took)
	switch changed {
	case opened:
		d.o.Logger.LogAttrs(context.Background(), slog.LevelWarn, "a CRM fails and is left alone until it answers a probe",
			slog.String("connection", a.Name), slog.String("kind", string(err.Kind)), slog.Int("status", err.Status), slog.String("reason", err.Message))
	case closed:
		d.o.Logger.LogAttrs(context.Background(), slog.LevelInfo, "a CRM answers again", slog.String("connection", a.Name))
	}
	if changed == opened || probe {
		select {
		case d.wake <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// owners are the customers that have the number, each once: a CRM that compares
// only the last digits answers with others, too.
func owners(customers []Customer, n phone.Number) []Customer {
	const most = 50
	var out []Customer
	seen := map[string]bool{}
	for _, c := range customers {
		owns := len(c.Phones) == 0 || slices.ContainsFunc(c.Phones, func(p string) bool {
			return phone.Parse(p, n.Country).E164 == n.E164
		})
		if owns && !seen[c.ID] && len(out) < most {
			seen[c.ID] = true
			c.Phones = nil // other numbers are nobody's business from here on
			out = append(out, c)
		}
	}
	return out
}

// How long an answer is good without asking, and how long it is better than none
// while it is asked for again. A customer who is new should be found soon.
const (
	freshFound = 5 * time.Minute
	staleFound = 12 * time.Hour
	freshNone  = 30 * time.Second
	staleNone  = 5 * time.Minute
)

// entry is an answer in the cache.
type entry struct {
	AtMillis int64      `json:"at"`
	Found    []Customer `json:"found"`
}

func (e entry) at() time.Time { return time.UnixMilli(e.AtMillis).UTC() }

func (e entry) customers() []Customer { return e.Found }

func (e entry) fresh() bool {
	age := time.Since(e.at())
	if len(e.Found) == 0 {
		return age < freshNone
	}
	return age < freshFound
}

func (d *Directory) recall(ctx context.Context, a *account, n phone.Number) (entry, bool) {
	bytes, known := d.o.Shared.Get(ctx, d.key(a, n))
	if !known {
		return entry{}, false
	}
	var e entry
	if err := json.Unmarshal(bytes, &e); err != nil { // not ours
		return entry{}, false
	}
	e.Found = a.withPages(e.Found) // whoever else writes to the cache sends no browser anywhere
	return e, true
}

func (d *Directory) keep(ctx context.Context, a *account, n phone.Number, customers []Customer, at time.Time) {
	kept := entry{AtMillis: at.UnixMilli(), Found: customers}
	a.recent.put(n.E164, kept, a.answer(n, customers, kept.at(), nil))
	bytes, err := json.Marshal(kept)
	if err != nil {
		return // texts cannot fail
	}
	ttl := staleFound
	if len(customers) == 0 {
		ttl = staleNone
	}
	d.o.Shared.Set(ctx, d.key(a, n), bytes, ttl)
}

// key is where an answer is kept. The number cannot be read from it.
func (d *Directory) key(a *account, n phone.Number) string {
	mac := hmac.New(sha256.New, d.o.Key)
	mac.Write([]byte(a.Fingerprint))
	mac.Write([]byte{0})
	mac.Write([]byte(n.E164))
	return "crm/" + a.Name + "/" + hex.EncodeToString(mac.Sum(nil)[:16])
}

// meter pays for the requests of one look-up.
type meter struct {
	directory *Directory
	account   *account
	flight    *flight

	mutex sync.Mutex
	spent []bucket
}

// spend takes a token of each budget that the request counts against. Background
// work waits for them and is let ahead as soon as a person waits for the same
// answer. The error is *overBudget when there is no time to wait.
func (m *meter) spend(ctx context.Context, req *http.Request) error {
	for _, b := range m.account.budgets {
		if b.Counts != nil && !b.Counts(req) {
			continue
		}
		m.mutex.Lock()
		m.spent = append(m.spent, b)
		m.mutex.Unlock()
		if err := m.take(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (m *meter) take(ctx context.Context, b bucket) error {
	for {
		leave, urgent := b.reserve, m.flight.urgent
		if m.flight.isUrgent() {
			leave, urgent = 0, nil
		}
		wait := m.directory.o.Shared.Take(ctx, b.key, b.size, b.every, leave)
		if wait <= 0 {
			return nil
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return &overBudget{name: b.Name, wait: wait}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-urgent:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return &overBudget{name: b.Name, wait: wait}
		}
	}
}

// How long an account is left alone that said "too many" without saying for how
// long, and at most.
const (
	usualLimit   = 5 * time.Second
	longestLimit = 15 * time.Minute
)

// empty leaves the budgets that this look-up used without a token.
func (m *meter) empty(wait time.Duration) {
	if wait <= 0 {
		wait = usualLimit
	}
	m.mutex.Lock()
	defer m.mutex.Unlock()
	for _, b := range m.spent {
		m.directory.o.Shared.Empty(context.Background(), b.key, b.size, b.every, min(wait, longestLimit))
	}
}
