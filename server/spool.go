package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"calltracker/handlers/endcall"
	"calltracker/storage/spool"
)

const (
	spoolRetry    = 2 * time.Second
	spoolCheckTTL = time.Second // a check writes to the disk, and any client may call /readyz
)

// spoolOpener is the spool in the data directory. While the spool cannot be
// opened, because the disk is full or another process has it, the server runs
// without it and spoolOpener keeps trying. It is safe for concurrent use.
type spoolOpener struct {
	options spool.Options
	logger  *slog.Logger
	open    atomic.Pointer[spool.Spool]

	mu        sync.Mutex
	closed    bool
	failure   error // why the spool is not open
	checked   error
	checkedAt time.Time
}

var errSpoolNotOpen = errors.New("the spool is not open")

func newSpoolOpener(dir string, logger *slog.Logger) *spoolOpener {
	o := &spoolOpener{options: spool.Options{Dir: dir, Logger: logger}, logger: logger}
	if err := o.tryOpen(); err != nil {
		logger.Error("spool unavailable; retrying in the background", slog.Any("error", err))
	}
	return o
}

func (o *spoolOpener) tryOpen() error {
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

// Append writes a record to the disk and flushes it.
func (o *spoolOpener) Append(ctx context.Context, record []byte) error {
	if s := o.open.Load(); s != nil {
		return s.Append(ctx, record)
	}
	return errSpoolNotOpen
}

// Run passes spooled records to store until ctx ends. The remaining records stay
// on the disk.
func (o *spoolOpener) Run(ctx context.Context, store func(context.Context, [][]byte) error) error {
	retry := time.NewTicker(spoolRetry)
	defer retry.Stop()
	for o.open.Load() == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-retry.C:
		}
		if err := o.tryOpen(); err == nil {
			o.logger.Info("spool available")
		}
	}
	err := o.open.Load().Drain(ctx, func(ctx context.Context, records [][]byte) error {
		err := store(ctx, records)
		if errors.Is(err, endcall.ErrUnstorable) {
			return fmt.Errorf("%w: %w", spool.ErrRejected, err)
		}
		return err
	})
	if err != nil {
		o.logger.Error("spool draining stopped", slog.Any("error", err))
	}
	return err
}

// Check returns the reason why a record cannot be spooled now, or nil. The result
// may be a second old.
func (o *spoolOpener) Check() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.open.Load()
	if s == nil {
		return errors.Join(errSpoolNotOpen, o.failure)
	}
	if now := time.Now(); o.checkedAt.IsZero() || now.Sub(o.checkedAt) >= spoolCheckTTL {
		o.checked, o.checkedAt = s.Check(), now
	}
	return o.checked
}

// Stats returns the state of the spool. It is zero while the spool is not open.
func (o *spoolOpener) Stats() spool.Stats {
	if s := o.open.Load(); s != nil {
		return s.Stats()
	}
	return spool.Stats{}
}

// Close closes the spool and stops further attempts to open it.
func (o *spoolOpener) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if s := o.open.Load(); s != nil {
		return s.Close()
	}
	return nil
}
