package crm

import (
	"errors"
	"sync"
	"time"

	"calltracker/phone"
)

// maxTimeouts is how many short waits for an account time out in a row before
// others with a short wait skip it.
const maxTimeouts = 3

// account is a connection and its current condition.
type account struct {
	*Connection
	budgets []tokenBucket
	answers *answerCache

	mu             sync.Mutex
	lookups        map[string]*lookup // in progress, by number
	breaker        *breaker
	timeouts       int           // consecutive short waits that timed out
	longestTimeout time.Duration // longest of these waits
	lastFailure    Failure       // Err is nil if there was none
	lastSuccess    time.Time
}

func newAccount(c *Connection) *account {
	a := &account{Connection: c, answers: newAnswerCache(), lookups: map[string]*lookup{}, breaker: newBreaker()}
	for _, b := range c.Driver.Budgets {
		a.budgets = append(a.budgets, newTokenBucket(c.Name, b))
	}
	return a
}

// claimProbe returns the number to probe with and 0 if the caller must send a
// probe now. Otherwise it returns the time until the next probe can be due.
func (a *account) claimProbe() (phone.Number, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.breaker.suspect, a.breaker.claimProbe()
}

// skipsShortWaits reports whether a query with a short wait should not wait for
// the account.
func (a *account) skipsShortWaits() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.timeouts >= maxTimeouts
}

// timedOut records that a short wait ended without an answer.
func (a *account) timedOut(wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.timeouts++
	a.longestTimeout = max(a.longestTimeout, wait)
}

// succeeded records a lookup that got an answer.
func (a *account) succeeded(took time.Duration) transition {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastSuccess = time.Now()
	if took < a.longestTimeout {
		a.timeouts, a.longestTimeout = 0, 0
	}
	return a.breaker.succeeded()
}

// failed records a failed lookup of n. probe reports whether the lookup started
// while the breaker was open.
func (a *account) failed(err *Error, n phone.Number, probe bool) transition {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.setLastFailure(err)
	return a.breaker.failed(err, n, probe)
}

// checkFailed records a failed check of the credentials.
func (a *account) checkFailed(err *Error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.setLastFailure(err)
}

// setLastFailure stores an error for the status, unless the server's own budget
// caused it.
func (a *account) setLastFailure(err *Error) {
	var own *budgetError
	if !errors.As(err, &own) {
		a.lastFailure = Failure{At: time.Now(), Err: err}
	}
}

func (a *account) status() Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := Status{
		Name: a.Name, Label: a.Label, Driver: a.Driver.Name, Open: a.breaker.isOpen(), RetryAfter: a.breaker.retryAfter(),
		LastSuccess: a.lastSuccess, PendingLookups: len(a.lookups),
	}
	if a.lastFailure.Err != nil {
		last := a.lastFailure
		s.LastError = &last
	}
	return s
}

// openError returns the error of a query while the breaker is open. The caller
// holds the mutex.
func (a *account) openError() *Error {
	return &Error{
		Kind: Unavailable, RetryAfter: max(a.breaker.retryAfter(), minPause),
		Message: "too many consecutive failures: requests are paused until a probe succeeds", Err: a.lastFailure.Err,
	}
}
