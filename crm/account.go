package crm

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"calltracker/phone"
)

// The circuit breaker of an account.
const (
	tolerated   = 3 // failures in a row until it is left alone
	firstPause  = time.Second
	longestWait = 15 * time.Second // between two probes
)

// account is a connection and how it does.
type account struct {
	*Connection
	budgets []bucket
	recent  *memory

	mutex   sync.Mutex
	flights map[string]*flight // by number
	open    bool               // left alone
	failed  int                // in a row
	pause   time.Duration      // between probes
	probeAt time.Time          // zero while a probe is under way
	suspect phone.Number       // what failed last, to be asked again
	late    int                // callers with little time who gave up in a row
	lateBy  time.Duration      // and how long they waited
	last    Failure            // Err nil: none yet
	well    time.Time          // the last success
}

// bucket is a budget as a token bucket: a tenth of it may be spent at once and
// the rest comes back evenly, so that no span of time sees more than all of it.
type bucket struct {
	Budget
	key     string
	size    int
	every   time.Duration
	reserve int // background work leaves so many to people
}

func newAccount(c *Connection) *account {
	a := &account{Connection: c, recent: newMemory(), flights: map[string]*flight{}}
	for _, b := range c.Driver.Budgets {
		size := max(b.Requests/10, 1)
		a.budgets = append(a.budgets, bucket{
			Budget: b, key: "crm/" + c.Name + "/" + b.Name, size: size,
			every: b.Per / time.Duration(max(b.Requests-size, 1)), reserve: size / 2,
		})
	}
	return a
}

// due tells whether a probe has to be sent now (0), and about which number, or
// how long until then.
func (a *account) due() (phone.Number, time.Duration) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if !a.open || a.probeAt.IsZero() {
		return phone.Number{}, time.Hour
	}
	if wait := time.Until(a.probeAt); wait > 0 {
		return phone.Number{}, wait
	}
	a.probeAt = time.Time{}
	return a.suspect, 0
}

// tooSlow tells whether callers with little time need not wait.
func (a *account) tooSlow() bool {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return a.late >= tooLate
}

func (a *account) gaveUp(waited time.Duration) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.late++
	a.lateBy = max(a.lateBy, waited)
}

// change is what became of an account after a look-up.
type change int

const (
	same change = iota
	opened
	closed
)

// succeeded notes an answer.
func (a *account) succeeded(took time.Duration) change {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.well, a.failed = time.Now(), 0
	if took < a.lateBy {
		a.late, a.lateBy = 0, 0
	}
	if !a.open {
		return same
	}
	a.open, a.pause = false, 0
	return closed
}

// failure notes a failure that may be the account's; probe tells whether it was
// that of a probe.
func (a *account) failure(err *Error, n phone.Number, probe bool) change {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.note(err)
	serious := err.Kind == Unavailable || err.Kind == Unauthorized
	if serious {
		a.failed++
	}
	switch {
	case a.open && probe:
		a.pause = min(2*a.pause, longestWait)
		a.probeAt = time.Now().Add(max(a.pause, min(err.RetryAfter, longestWait)))
	case !a.open && serious && a.failed >= tolerated:
		a.open, a.suspect, a.pause = true, n, firstPause
		if err.Kind == Unauthorized { // that takes somebody to mend
			a.pause = longestWait
		}
		a.probeAt = time.Now().Add(a.pause)
		return opened
	}
	return same
}

// noted is note for those who do not hold the mutex.
func (a *account) noted(err *Error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.note(err)
}

// note keeps an error for those who look after the connection. That we asked no
// further is none.
func (a *account) note(err *Error) {
	var own *overBudget
	if !errors.As(err, &own) {
		a.last = Failure{At: time.Now(), Err: err}
	}
}

func (a *account) status() Status {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	s := Status{Name: a.Name, Label: a.Label, Driver: a.Driver.Name, Open: a.open, LastSuccess: a.well, Waiting: len(a.flights)}
	if a.last.Err != nil {
		last := a.last
		s.LastError = &last
	}
	if a.open && !a.probeAt.IsZero() {
		s.RetryAfter = max(time.Until(a.probeAt), 0)
	}
	return s
}

// away is the answer of an account that is left alone.
func (a *account) away() *Error {
	return &Error{
		Kind: Unavailable, RetryAfter: max(time.Until(a.probeAt), firstPause),
		Message: fmt.Sprintf("it failed %d times in a row and is left alone until it answers a probe", a.failed), Err: a.last.Err,
	}
}
