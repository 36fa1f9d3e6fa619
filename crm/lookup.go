package crm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"calltracker/phone"
)

// backgroundTimeout bounds a background lookup, including the time that it waits
// for budgets. requestTimeout bounds each of its requests.
const backgroundTimeout = 30 * time.Second

// maxLookups is how many lookups of one account run at a time, so that an account
// that hangs does not exhaust memory. Background lookups use at most half of them.
const maxLookups = 64

// lookup is a lookup in progress. All queries for the same number of an account
// share it.
type lookup struct {
	done     chan struct{} // closed when the result is available
	promoted chan struct{} // closed when a person waits for the result
	promote  func()        // closes promoted
	cancel   context.CancelFunc

	// The result, valid after done is closed.
	customers []Customer
	at        time.Time
	err       *Error
}

func newLookup(p Priority) *lookup {
	l := &lookup{done: make(chan struct{}), promoted: make(chan struct{})}
	l.promote = sync.OnceFunc(func() { close(l.promoted) })
	if p == Interactive {
		l.promote()
	}
	return l
}

// isInteractive reports whether a person waits for the result.
func (l *lookup) isInteractive() bool {
	select {
	case <-l.promoted:
		return true
	default:
		return false
	}
}

// isDone reports whether the result is available.
func (l *lookup) isDone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// joinLookup returns the lookup in progress for the query's number, or starts one.
// It returns an error if the breaker of the account is open or if too many lookups
// are in progress.
func (d *Directory) joinLookup(a *account, q Query) (*lookup, *Error) {
	a.mu.Lock()
	if a.breaker.isOpen() {
		defer a.mu.Unlock()
		return nil, a.openError()
	}
	if l := a.lookups[q.Number.E164]; l != nil {
		a.mu.Unlock()
		if q.Priority == Interactive {
			l.promote()
		}
		return l, nil
	}
	limit := maxLookups
	if q.Priority == Background {
		limit /= 2
	}
	busy := len(a.lookups) >= limit
	a.mu.Unlock()
	if busy {
		return nil, &Error{Kind: RateLimited, RetryAfter: time.Second, Message: "too many lookups in progress"}
	}
	if l := d.startLookup(a, q.Number, q.Priority, q.SkipCache); l != nil {
		return l, nil
	}
	return nil, shutdownError()
}

func shutdownError() *Error {
	return &Error{Kind: Unavailable, Message: "the server is shutting down"}
}

// startLookup starts a lookup even if the breaker of the account is open, or joins
// the one in progress. It returns nil if the directory is closed.
func (d *Directory) startLookup(a *account, n phone.Number, p Priority, skipCache bool) *lookup {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lookups[n.E164]; l != nil {
		if p == Interactive {
			l.promote()
		}
		return l
	}
	timeout := DefaultWait
	if p == Background {
		timeout = backgroundTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	l := newLookup(p)
	l.cancel = cancel
	probe := a.breaker.isOpen()
	a.lookups[n.E164] = l
	d.lookups[l] = struct{}{}
	d.running.Go(func() {
		defer cancel()
		d.runLookup(ctx, a, l, n, probe, skipCache)
	})
	return l
}

// runLookup looks up a number, caches the answer, and wakes the queries that wait
// for it.
func (d *Directory) runLookup(ctx context.Context, a *account, l *lookup, n phone.Number, probe, skipCache bool) {
	defer func() {
		d.mu.Lock()
		delete(d.lookups, l)
		d.mu.Unlock()
		a.mu.Lock()
		delete(a.lookups, n.E164)
		a.mu.Unlock()
		close(l.done)
	}()
	if !skipCache { // another lookup may have ended since the query read the cache
		if e, ok := d.readCache(ctx, a, n); ok && e.isFresh() {
			l.customers, l.at = e.Customers, e.at()
			return
		}
	}
	limit := d.newLimiter(a, l)
	start := time.Now()
	customers, err := findCustomers(context.WithValue(ctx, limiterKey{}, limit), a.Client, n)
	if err == nil {
		l.customers, l.at = a.filterURLs(withNumber(customers, n)), time.Now()
		d.writeCache(context.WithoutCancel(ctx), a, n, l.customers, l.at)
	} else {
		l.err = asError(err)
	}
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return // the directory is closing, so the account did not fail
	}
	d.recordOutcome(a, limit, n, probe, time.Since(start), l.err)
}

func (d *Directory) newLimiter(a *account, l *lookup) *limiter {
	return &limiter{cache: d.options.Cache, buckets: a.budgets, lookup: l}
}

// findCustomers calls the client and turns a panic into an error.
func findCustomers(ctx context.Context, c Client, n phone.Number) (customers []Customer, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &Error{Kind: Unavailable, Message: "driver panicked", Err: fmt.Errorf("panic: %v", r)}
		}
	}()
	return c.FindCustomers(ctx, n)
}

// recordOutcome reports the outcome of a lookup to the breaker, the budgets, the
// metrics, and the log.
func (d *Directory) recordOutcome(a *account, limit *limiter, n phone.Number, probe bool, took time.Duration, err *Error) {
	var change transition
	outcome := "ok"
	if err == nil {
		change = a.succeeded(took)
	} else {
		outcome = string(err.Kind)
		change = a.failed(err, n, probe)
		var own *budgetError
		if err.Kind == RateLimited && !errors.As(err, &own) { // the CRM's limit, not the server's
			limit.drain(err.RetryAfter)
		}
	}
	d.options.Observe(a.Name, outcome, took)
	switch change {
	case opened:
		d.options.Logger.LogAttrs(context.Background(), slog.LevelWarn, "CRM circuit breaker opened",
			slog.String("connection", a.Name), slog.String("kind", string(err.Kind)), slog.Int("status", err.Status), slog.String("reason", err.Message))
	case closed:
		d.options.Logger.LogAttrs(context.Background(), slog.LevelInfo, "CRM circuit breaker closed", slog.String("connection", a.Name))
	}
	if change == opened || probe {
		select {
		case d.wake <- struct{}{}:
		default: // a wake-up is already pending
		}
	}
}

// withNumber returns the customers who have the number, without duplicates. A CRM
// that compares only the last digits also returns others.
func withNumber(customers []Customer, n phone.Number) []Customer {
	const limit = 50
	var out []Customer
	seen := map[string]bool{}
	for _, c := range customers {
		matches := len(c.Phones) == 0 || slices.ContainsFunc(c.Phones, func(p string) bool {
			return phone.Parse(p, n.Country).E164 == n.E164
		})
		if matches && !seen[c.ID] && len(out) < limit {
			seen[c.ID] = true
			c.Phones = nil // the customer's other numbers are no longer needed
			out = append(out, c)
		}
	}
	return out
}

// asError returns an error of a Client as an *Error.
func asError(err error) *Error {
	var own *budgetError
	if errors.As(err, &own) {
		return &Error{Kind: RateLimited, RetryAfter: own.wait, Message: "request budget " + own.name + " is exhausted", Err: own}
	}
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	return &Error{Kind: Unavailable, Message: "request failed", Err: err}
}
