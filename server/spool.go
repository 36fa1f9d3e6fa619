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
	spoolCheckTTL = time.Second // a check writes to the disk, so /readyz must not make one each time
)

// localSpool is the spool in the data directory. If the spool cannot be opened,
// because the disk is full or another process uses it, the server runs without it,
// and localSpool tries again until it succeeds. It is safe for concurrent use.
type localSpool struct {
	options spool.Options
	logger  *slog.Logger
	open    atomic.Pointer[spool.Spool]

	mu        sync.Mutex
	closed    bool
	failure   error // why the spool is not open
	checked   error // result of the last check
	checkedAt time.Time
}

var errSpoolNotOpen = errors.New("the spool is not open")

// newLocalSpool opens the spool in dir. If that fails, Run tries again.
func newLocalSpool(dir string, logger *slog.Logger) *localSpool {
	l := &localSpool{options: spool.Options{Dir: dir, Logger: logger}, logger: logger}
	if err := l.tryOpen(); err != nil {
		logger.Error("spool unavailable; retrying in the background", slog.Any("error", err))
	}
	return l
}

// tryOpen opens the spool, unless it is already open or has been closed.
func (l *localSpool) tryOpen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.open.Load() != nil {
		return nil
	}
	opened, err := spool.Open(l.options)
	l.failure = err
	if err == nil {
		l.open.Store(opened)
	}
	return err
}

// Append writes a record to the disk and flushes it.
func (l *localSpool) Append(ctx context.Context, record []byte) error {
	if s := l.open.Load(); s != nil {
		return s.Append(ctx, record)
	}
	return errSpoolNotOpen
}

// Run passes spooled records to store until ctx ends. The remaining records stay
// on the disk.
func (l *localSpool) Run(ctx context.Context, store func(context.Context, [][]byte) error) error {
	retry := time.NewTicker(spoolRetry)
	defer retry.Stop()
	for l.open.Load() == nil {
		select {
		case <-ctx.Done():
			return nil
		case <-retry.C:
		}
		if err := l.tryOpen(); err == nil {
			l.logger.Info("spool available")
		}
	}
	err := l.open.Load().Drain(ctx, func(ctx context.Context, records [][]byte) error {
		err := store(ctx, records)
		if errors.Is(err, endcall.ErrUnstorable) {
			return fmt.Errorf("%w: %w", spool.ErrRejected, err)
		}
		return err
	})
	if err != nil {
		l.logger.Error("spool draining stopped", slog.Any("error", err))
	}
	return err
}

// Check returns the reason why a record cannot be spooled now, or nil. The result
// may be a second old.
func (l *localSpool) Check() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.open.Load()
	if s == nil {
		if l.failure == nil { // closed
			return errSpoolNotOpen
		}
		return fmt.Errorf("%w: %w", errSpoolNotOpen, l.failure)
	}
	if now := time.Now(); l.checkedAt.IsZero() || now.Sub(l.checkedAt) >= spoolCheckTTL {
		l.checked, l.checkedAt = s.Check(), now
	}
	return l.checked
}

// Stats returns the state of the spool. It is zero while the spool is not open.
func (l *localSpool) Stats() spool.Stats {
	if s := l.open.Load(); s != nil {
		return s.Stats()
	}
	return spool.Stats{}
}

// Close closes the spool and stops further attempts to open it.
func (l *localSpool) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if s := l.open.Load(); s != nil {
		return s.Close()
	}
	return nil
}
