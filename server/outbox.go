package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"calltracker/handlers"
	"calltracker/storage/spool"
)

// Times of the spool.
const (
	reopenSpool = 2 * time.Second
	checkedFor  = time.Second // a check writes to the disk, and anybody may ask /readyz
)

// outbox is the spool in the data directory. When it cannot be opened, because
// the disk is full or another process has it, calls are served without it, and
// it is tried again and again.
type outbox struct {
	options spool.Options
	logger  *slog.Logger
	open    atomic.Pointer[spool.Spool]

	mu        sync.Mutex
	closed    bool
	failure   error // why it is not open
	checked   error
	checkedAt time.Time
}

var errSpoolNotOpen = errors.New("the spool is not open")

func newOutbox(dir string, logger *slog.Logger) *outbox {
	o := &outbox{options: spool.Options{Dir: dir, Logger: logger}, logger: logger}
	if err := o.tryOpen(); err != nil {
		logger.Error("the spool cannot be used yet; trying again in the background", slog.Any("error", err))
	}
	return o
}

func (o *outbox) tryOpen() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || o.open.Load() != nil {
		return nil
	}
	opened, err := spool.Open(o.options)
	o.failure = err
	if err == nil {
		o.open.Store(opened)
	}
	return err
}

// Append flushes a record to the disk.
func (o *outbox) Append(ctx context.Context, record []byte) error {
	if s := o.open.Load(); s != nil {
		return s.Append(ctx, record)
	}
	return errSpoolNotOpen
}

// Run hands what is spooled to keep until ctx ends. What is left stays on the
// disk.
func (o *outbox) Run(ctx context.Context, keep func(context.Context, [][]byte) error) error {
	retry := time.NewTicker(reopenSpool)
	defer retry.Stop()
	for o.open.Load() == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-retry.C:
		}
		if err := o.tryOpen(); err == nil {
			o.logger.Info("the spool is in use now")
		}
	}
	return o.open.Load().Drain(ctx, func(ctx context.Context, records [][]byte) error {
		err := keep(ctx, records)
		if errors.Is(err, handlers.ErrUnstorable) {
			return fmt.Errorf("%w: %w", spool.ErrRejected, err)
		}
		return err
	})
}

// Check tells why a record could not be spooled now. The answer may be a second
// old.
func (o *outbox) Check() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.open.Load()
	if s == nil {
		return errors.Join(errSpoolNotOpen, o.failure)
	}
	if now := time.Now(); o.checkedAt.IsZero() || now.Sub(o.checkedAt) >= checkedFor {
		o.checked, o.checkedAt = s.Check(), now
	}
	return o.checked
}

// Stats are zero while it is not open.
func (o *outbox) Stats() spool.Stats {
	if s := o.open.Load(); s != nil {
		return s.Stats()
	}
	return spool.Stats{}
}

func (o *outbox) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if s := o.open.Load(); s != nil {
		return s.Close()
	}
	return nil
}
