package sqlstore

import (
	"context"
	"database/sql"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"calltracker/storage"
)

// logPages returns the number of pages in SQLite's write-ahead log.
func logPages(t *testing.T, db *database) int {
	t.Helper()
	var blocked, pages, done int
	if err := db.read.QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(NOOP)").Scan(&blocked, &pages, &done); err != nil {
		t.Fatal(err)
	}
	return pages
}

// saveUntil saves calls until done returns true, for at most a minute. It returns the
// number of calls.
func saveUntil(t *testing.T, s *Store, done func() bool) (saved int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !done() {
		saved++
		if _, err := s.SaveCall(ctx, benchCDR(saved)); err != nil {
			t.Fatal(err)
		}
	}
	return saved
}

func TestCheckpointRestartsTheLog(t *testing.T) {
	const pages = 300
	s := open(t, t.TempDir())
	db := s.db.Load()
	db.checkpoints.minPages = pages
	for range 3 {
		longest := 0
		saved := saveUntil(t, s, func() bool {
			now := logPages(t, db)
			longest = max(longest, now)
			return now < longest
		})
		if longest < pages {
			t.Errorf("the log restarted after %d pages and %d calls, want at least %d pages", longest, saved, pages)
		}
	}
}

func TestLogGrowsDuringAReadTransaction(t *testing.T) {
	s := open(t, t.TempDir())
	db := s.db.Load()
	db.checkpoints.minPages = 100
	reading, err := db.read.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var before, after int
	const count = `SELECT COUNT(*) FROM calls`
	if err := reading.QueryRowContext(t.Context(), count).Scan(&before); err != nil {
		t.Fatal(err)
	}
	longest := 0
	saveUntil(t, s, func() bool { longest = logPages(t, db); return longest > 1000 })
	if err := reading.QueryRowContext(t.Context(), count).Scan(&after); err != nil || after != before {
		t.Errorf("a read transaction sees %d calls, then %d (%v)", before, after, err)
	}
	if err := reading.Rollback(); err != nil {
		t.Fatal(err)
	}
	saveUntil(t, s, func() bool { return logPages(t, db) < longest })
}

func TestFailedCheckpointIsLoggedOnce(t *testing.T) {
	var log strings.Builder
	dir := t.TempDir()
	s, err := New(Options{DataDir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	db := s.db.Load()
	if err := db.checkpoints.pool.Close(); err != nil {
		t.Fatal(err)
	}
	db.checkpoints.minPages = 1
	for n := range int64(3) {
		if _, err := s.SaveCall(t.Context(), benchCDR(n)); err != nil {
			t.Errorf("save: %v, want no error although checkpoints fail", err)
		}
		db.checkpoints.running.Wait()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(log.String(), "SQLite checkpoint failed"); n != 1 {
		t.Errorf("failure logged %d times, want once:\n%s", n, log.String())
	}
	if left, err := os.Stat(filepath.Join(dir, fileName+"-wal")); err == nil && left.Size() > 0 {
		t.Errorf("the write-ahead log has %d bytes after Close, want none", left.Size())
	}
	again := open(t, dir)
	if calls, _, err := again.Calls(t.Context(), storage.CallFilter{}, storage.Page{}); err != nil || len(calls) != 3 {
		t.Errorf("%d calls (%v), want 3", len(calls), err)
	}
}
