// Package jobs runs work that outlives the request that caused it.
//
// A job is a row in the database. Any process may run it, at least once, until it is
// done or dead. A Runner runs jobs of the kinds it knows. A Leader runs tasks that only
// one process should run at a time. Both rely on leases, which end if a process
// disappears.
//
// The package exists because handlers and the server share its vocabulary.
package jobs

import (
	"context"
	"errors"
	"time"

	"calltracker/storage"
)

// Kind describes how jobs of one kind run. To add a kind, pass a Kind to NewRunner, and
// add jobs either in the Jobs of a storage.ReceivedCDR, in the transaction of the
// record, or with AddJobs of the store.
//
// A job may run more than once, also in other processes, so running it must be
// idempotent. It never runs twice at the same time as long as it respects its timeout.
//
// The returned error decides what happens next. After nil the job is done. After an
// error made by Permanent it is dead, and one made by RetryAfter, Delay or Continue sets
// the time of the next attempt. After any other error it is retried according to
// Backoff until MaxAttempts is reached.
type Kind struct {
	Name string

	// Run runs one attempt. Kinds with results set Lookup instead.
	Run func(ctx context.Context, j storage.Job) error

	// Lookup runs one attempt of a customer lookup. The result, unless it is nil, is
	// stored in the transaction that settles the job.
	Lookup func(ctx context.Context, j storage.Job) (*storage.LookupResult, error)

	Timeout     time.Duration // of one attempt; 0 means 30 seconds
	MaxAttempts int           // attempts before the job is dead; 0 means 10
	Backoff     Backoff       // pauses between attempts

	// Limit returns how many jobs of the kind may run now in this process. It must not
	// block. Kinds without a Limit share the workers of the Runner.
	Limit func() int
}

const (
	defaultTimeout     = 30 * time.Second
	defaultMaxAttempts = 10
)

func (k Kind) timeout() time.Duration {
	if k.Timeout > 0 {
		return k.Timeout
	}
	return defaultTimeout
}

func (k Kind) maxAttempts() int {
	if k.MaxAttempts > 0 {
		return k.MaxAttempts
	}
	return defaultMaxAttempts
}

// directive is an error that decides what happens to its job or task.
type directive struct {
	error
	permanent bool
	uncounted bool
	wait      time.Duration
	payload   []byte
}

// Unwrap returns the error itself.
func (d *directive) Unwrap() error { return d.error }

// directiveOf returns the directive in err. It is zero if there is none.
func directiveOf(err error) directive {
	var d *directive
	if errors.As(err, &d) {
		return *d
	}
	return directive{}
}

// Permanent marks an error that a retry cannot fix. The job is dead.
func Permanent(err error) error { return &directive{error: err, permanent: true} }

// RetryAfter marks an error that a retry may fix, but not before wait has passed. A
// task that returns it runs again after wait.
func RetryAfter(wait time.Duration, err error) error { return &directive{error: err, wait: wait} }

// Delay marks an error that is not the fault of the job, such as an unavailable
// upstream. The job is retried after wait, and the attempt does not count, so that a
// long outage kills no job.
func Delay(wait time.Duration, err error) error {
	return &directive{error: err, wait: wait, uncounted: true}
}

// errUnfinished is the error of Continue.
var errUnfinished = errors.New("job not finished")

// Continue ends an attempt that did part of the work. The job continues after wait with
// a payload that describes the rest. The attempt does not count.
func Continue(wait time.Duration, payload []byte) error {
	return &directive{error: errUnfinished, wait: wait, uncounted: true, payload: payload}
}
