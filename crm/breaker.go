package crm

import (
	"errors"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"calltracker/phone"
)

const (
	failureThreshold = 3                // consecutive failures that open a breaker
	minPause         = time.Second      // from the opening to the first probe
	maxPause         = 15 * time.Second // between two probes
	idleInterval     = time.Hour        // between two checks for due probes while there is none
)

// breaker is the circuit breaker of one account. It opens after failureThreshold
// consecutive failures. While it is open, only probes reach the account, one at a
// time and with increasing pauses. The first success closes it.
//
// Lookups do not run inside the library's executor, because the executor knows
// only success and failure. A rate limit, a rejected request, and a canceled
// lookup are neither, and a test of the connection must pass an open breaker. The
// directory therefore reports the outcome of each lookup to the breaker.
//
// The mutex of the account guards a breaker.
type breaker struct {
	circuit circuitbreaker.CircuitBreaker[any]
	record  failsafe.Executor[any] // records a failure together with its error, which sets the pause
	pause   time.Duration          // current pause between probes; 0 if the breaker is closed
	probing bool                   // a probe is in progress
	suspect phone.Number           // number whose failed lookup opened the breaker; probes look it up again
}

// transition is the effect of a lookup on a breaker.
type transition int

const (
	unchanged transition = iota
	opened
	closed
)

func newBreaker() *breaker {
	b := &breaker{}
	b.circuit = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(failureThreshold).
		WithSuccessThreshold(1).
		WithDelayFunc(b.nextPause).
		Build()
	b.record = failsafe.With(b.circuit)
	return b
}

func (b *breaker) isOpen() bool { return !b.circuit.IsClosed() }

// retryAfter returns the time until the next probe: 0 if the breaker is closed, if
// the probe is due, or if it is in progress.
func (b *breaker) retryAfter() time.Duration { return b.circuit.RemainingDelay() }

// claimProbe returns 0 if the caller must send a probe now. Otherwise it returns
// the time until the next probe can be due.
func (b *breaker) claimProbe() time.Duration {
	if !b.isOpen() || b.probing {
		return idleInterval
	}
	if wait := b.retryAfter(); wait > 0 {
		return wait
	}
	b.probing = true
	return 0
}

// succeeded records a successful lookup.
func (b *breaker) succeeded() transition {
	if !b.isOpen() {
		b.circuit.RecordSuccess()
		return unchanged
	}
	b.circuit.Close()
	b.pause, b.probing = 0, false
	return closed
}

// failed records a failed lookup of n. probe reports whether the lookup started
// while the breaker was open.
func (b *breaker) failed(err *Error, n phone.Number, probe bool) transition {
	switch {
	case b.isOpen() && probe: // any failed probe keeps the breaker open
		b.circuit.HalfOpen()
		b.recordFailure(err)
		b.probing = false
	case !b.isOpen() && (err.Kind == Unavailable || err.Kind == Unauthorized):
		if b.recordFailure(err); b.isOpen() {
			b.suspect, b.probing = n, false
			return opened
		}
	}
	return unchanged
}

// recordFailure records a failure as an execution, because the library asks
// nextPause only for executions.
func (b *breaker) recordFailure(err *Error) { _ = b.record.Run(func() error { return err }) }

// nextPause returns the time from a failure that opens the breaker, or keeps it
// open, to the next probe.
func (b *breaker) nextPause(failed failsafe.ExecutionAttempt[any]) time.Duration {
	var err *Error
	if !errors.As(failed.LastError(), &err) {
		err = &Error{Kind: Unavailable}
	}
	switch {
	case b.pause > 0:
		b.pause = min(2*b.pause, maxPause)
		return max(b.pause, min(err.RetryAfter, maxPause))
	case err.Kind == Unauthorized: // lasts until an administrator changes the settings
		b.pause = maxPause
	default:
		b.pause = minPause
	}
	return b.pause
}
