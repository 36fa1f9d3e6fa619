package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Sizes and times of checkpoints.
const (
	checkpointPages = 16_000 // of 4 KiB, in the log; a page that was written again and again goes into the file once
	checkpointLimit = 30 * time.Second
	lastStepLimit   = 2 * time.Second // to get the turn
)

// checkpointer brings what commits have written into SQLite's write-ahead log
// from there into the database file (https://www.sqlite.org/wal.html,
// "Checkpointing"). SQLite itself would do it within the commit that makes the
// log too long, and everybody would wait for the disk meanwhile. This one does it
// beside the commits, and takes the turn only for the few pages that came in
// while it worked: then the log is used from its beginning again. A reader that
// looks at an old state for long, makes the log grow for as long.
//
// Its goroutine lives as long as there is something to do.
type checkpointer struct {
	pool   *sql.DB // a connection of its own
	turn   chan struct{}
	pages  int // from which on
	logger *slog.Logger

	mu      sync.Mutex
	cancel  context.CancelFunc // of the one under way, else nil
	closed  bool
	failed  bool // the last time: told once
	running sync.WaitGroup
}

func newCheckpointer(pool *sql.DB, turn chan struct{}, logger *slog.Logger) *checkpointer {
	return &checkpointer{pool: pool, turn: turn, pages: checkpointPages, logger: logger}
}

// committed looks at the log after a commit.
func (c *checkpointer) committed(ctx context.Context, on connector) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil || c.closed {
		return
	}
	// NOOP only tells (https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
	if waiting, err := checkpoint(ctx, on, "NOOP"); err != nil || waiting < c.pages {
		return
	}
	ctx, c.cancel = context.WithTimeout(context.Background(), checkpointLimit) // of no request
	c.running.Go(func() { c.run(ctx) })
}

func (c *checkpointer) run(ctx context.Context) {
	err := c.bring(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil && !c.failed && !c.closed {
		c.logger.WarnContext(ctx, "what was committed stays in SQLite's log, which grows", slog.Any("error", err))
	}
	c.failed = err != nil
	c.cancel()
	c.cancel = nil
}

func (c *checkpointer) bring(ctx context.Context) error {
	if _, err := checkpoint(ctx, c.pool, "PASSIVE"); err != nil {
		return err
	}
	limit := time.NewTimer(lastStepLimit)
	defer limit.Stop()
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-limit.C: // most of it is done, the rest is for the next time
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	_, err := checkpoint(ctx, c.pool, "PASSIVE")
	return err
}

// checkpoint does one, and tells how many pages of the log are not in the file.
func checkpoint(ctx context.Context, on connector, mode string) (waiting int, err error) {
	var blocked, logged, done int
	if err := on.QueryRowContext(ctx, "PRAGMA wal_checkpoint("+mode+")").Scan(&blocked, &logged, &done); err != nil {
		return 0, fmt.Errorf("checkpoint: %w", err)
	}
	return logged - done, nil
}

// close stops a checkpoint that is under way; nothing is lost by that.
func (c *checkpointer) close() error {
	c.mu.Lock()
	if c.closed = true; c.cancel != nil {
		c.cancel()
	}
	c.mu.Unlock()
	c.running.Wait()
	return c.pool.Close()
}
