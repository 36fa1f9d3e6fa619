package crm

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// tokenBucket is a budget as a token bucket. It allows a burst of one tenth of the
// budget and refills evenly, so that no period exceeds the whole budget.
type tokenBucket struct {
	Budget
	key     string        // in the cache
	size    int           // tokens in a full bucket
	every   time.Duration // time to refill one token
	reserve int           // tokens that background lookups leave to interactive ones
}

func newTokenBucket(connection string, b Budget) tokenBucket {
	size := max(b.Requests/10, 1)
	return tokenBucket{
		Budget: b, key: "crm/" + connection + "/" + b.Name, size: size,
		every: b.Per / time.Duration(max(b.Requests-size, 1)), reserve: size / 2,
	}
}

// limiter holds back the requests of one lookup until the budgets of the account
// allow them.
type limiter struct {
	cache   Cache
	buckets []tokenBucket
	lookup  *lookup

	mu   sync.Mutex
	used []tokenBucket // buckets that the lookup's requests counted against
}

// limiterKey is the context key of the *limiter of a request.
type limiterKey struct{}

// wait takes a token from each budget that the request counts against. A
// background lookup waits for tokens. Once a person waits for the same answer, the
// lookup may use the reserve. If there is not enough time to wait, wait returns a
// *budgetError.
func (l *limiter) wait(ctx context.Context, req *http.Request) error {
	for _, b := range l.buckets {
		if b.Counts != nil && !b.Counts(req) {
			continue
		}
		l.mu.Lock()
		l.used = append(l.used, b)
		l.mu.Unlock()
		if err := l.waitFor(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (l *limiter) waitFor(ctx context.Context, b tokenBucket) error {
	for {
		reserve, promoted := b.reserve, l.lookup.promoted
		if l.lookup.isInteractive() {
			reserve, promoted = 0, nil
		}
		wait := l.cache.TakeToken(ctx, b.key, b.size, b.every, reserve)
		if wait <= 0 {
			return nil
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return &budgetError{name: b.Name, wait: wait}
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-promoted:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return &budgetError{name: b.Name, wait: wait}
		}
	}
}

// How long the requests to an account pause after a rate limit.
const (
	defaultDrain = 5 * time.Second // if the CRM specified no delay
	maxDrain     = 15 * time.Minute
)

// drain empties the budgets that the lookup used, so that no request follows
// within the given time.
func (l *limiter) drain(wait time.Duration) {
	if wait <= 0 {
		wait = defaultDrain
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.used {
		l.cache.Drain(context.Background(), b.key, b.size, b.every, min(wait, maxDrain))
	}
}

// budgetError reports that a request was not sent, because its budget is
// exhausted for longer than the request can wait.
type budgetError struct {
	name string
	wait time.Duration
}

func (e *budgetError) Error() string {
	return fmt.Sprintf("budget %s exhausted: next request in %s", e.name, e.wait)
}
