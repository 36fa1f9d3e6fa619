package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"calltracker/storage"
)

// leaseStore is what Lease needs of a store.
type leaseStore interface {
	Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	Release(ctx context.Context, name, holder string) error
}

// leaseTimeout limits the wait for the database.
const leaseTimeout = 3 * time.Second

// ErrLeaseLost is the cause of the end of a context that Hold returned.
var ErrLeaseLost = errors.New("lease lost to another process, or not extended in time")

// Lease is the exclusive right to do something that has a name. At most one Lease of a
// name is held at a time, among all processes that share a database. It ends unless it
// is extended. A Lease is for one goroutine at a time.
type Lease struct {
	store  leaseStore
	name   string
	holder string
	length time.Duration
	now    func() time.Time
	until  time.Time // end, if it is held
}

// NewLease returns a lease that is not held yet. If it is held and its process
// disappears, it ends after length.
func NewLease(store leaseStore, name string, length time.Duration, now func() time.Time) *Lease {
	return &Lease{store: store, name: name, holder: storage.NewID(), length: length, now: now}
}

// Acquire acquires the lease. It reports false if another Lease of this name is held.
func (l *Lease) Acquire(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseTimeout)
	defer cancel()
	now := l.now().UTC()
	held, err := l.store.Lease(ctx, l.name, l.holder, now, now.Add(l.length))
	if held && err == nil {
		l.until = now.Add(l.length)
	}
	return held, err
}

// Hold extends an acquired lease every third of its length. The returned context ends,
// with the cause ErrLeaseLost, before another process can acquire the lease. The caller
// must call release when it is done. If release returns an error, the lease ends later by
// expiring.
func (l *Lease) Hold(ctx context.Context) (held context.Context, release func() error) {
	held, cancel := context.WithCancelCause(ctx)
	var extending sync.WaitGroup
	extending.Go(func() { l.extend(held, cancel) })
	return held, func() error {
		cancel(nil)
		extending.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseTimeout)
		defer cancel()
		return l.store.Release(ctx, l.name, l.holder)
	}
}

func (l *Lease) extend(ctx context.Context, cancel context.CancelCauseFunc) {
	every := l.length / 3
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		held, err := l.Acquire(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil && !held || err != nil && !l.now().Add(every).Before(l.until) { // lost, or about to be
			cancel(errors.Join(ErrLeaseLost, err))
			return
		}
	}
}
