package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Limits of checkpoints.
const (
	checkpointPages        = 16_000 // log pages of 4 KiB that trigger a checkpoint; a page written repeatedly is copied once
	checkpointTimeout      = 30 * time.Second
	finalCheckpointTimeout = 2 * time.Second // for the write lock
)

// checkpointer copies commits from SQLite's write-ahead log to the database file
// (https://www.sqlite.org/wal.html, "Checkpointing"). SQLite itself would do that
// within the commit that makes the log too long, and every writer would wait for the
// disk. The checkpointer works while commits continue. It acquires the write lock
// only to copy the few pages that were added in the meantime; then SQLite starts
// again at the beginning of the log. A long read transaction prevents that, so the
// log grows until it ends.
//
// The checkpointer's goroutine runs only during a checkpoint.
type checkpointer struct {
	pool      *sql.DB // its own connection
	writeLock chan struct{}
	minPages  int // log pages that trigger a checkpoint
	logger    *slog.Logger

	mu      sync.Mutex
	cancel  context.CancelFunc // cancels the running checkpoint; nil if none
	closed  bool
	failed  bool // the last checkpoint failed, which was logged
	running sync.WaitGroup
}

func newCheckpointer(pool *sql.DB, writeLock chan struct{}, logger *slog.Logger) *checkpointer {
	return &checkpointer{pool: pool, writeLock: writeLock, minPages: checkpointPages, logger: logger}
}

// afterCommit starts a checkpoint if the log is long enough.
func (c *checkpointer) afterCommit(ctx context.Context, conn txStarter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil || c.closed {
		return
	}
	// NOOP only returns the sizes (https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
	if pages, err := checkpoint(ctx, conn, "NOOP"); err != nil || pages < c.minPages {
		return
	}
	ctx, c.cancel = context.WithTimeout(context.Background(), checkpointTimeout) // independent of the request
	c.running.Go(func() { c.run(ctx) })
}

func (c *checkpointer) run(ctx context.Context) {
	err := c.checkpointAll(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && !c.failed && !c.closed {
		c.logger.WarnContext(ctx, "SQLite checkpoint failed; the write-ahead log keeps growing", slog.Any("error", err))
	}
	c.failed = err != nil
	c.cancel()
	c.cancel = nil
}

// checkpointAll copies the log to the database file.
func (c *checkpointer) checkpointAll(ctx context.Context) error {
	if _, err := checkpoint(ctx, c.pool, "PASSIVE"); err != nil {
		return err
	}
	timer := time.NewTimer(finalCheckpointTimeout)
	defer timer.Stop()
	select {
	case c.writeLock <- struct{}{}:
		defer func() { <-c.writeLock }()
	case <-timer.C: // the next checkpoint copies the rest
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := checkpoint(ctx, c.pool, "PASSIVE")
	return err
}

// checkpoint runs one checkpoint. It returns the number of log pages that are not in
// the database file.
func checkpoint(ctx context.Context, conn txStarter, mode string) (pages int, err error) {
	var blocked, logged, done int
	if err := conn.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&blocked, &logged, &done); err != nil {
		return 0, fmt.Errorf("checkpoint: %w", err)
	}
	return logged - done, nil
}

// close cancels a running checkpoint, which loses no data.
func (c *checkpointer) close() error {
	c.mu.Lock()
	if c.closed = true; c.cancel != nil {
		c.cancel()
	}
	c.mu.Unlock()
	c.running.Wait()
	return c.pool.Close()
}
