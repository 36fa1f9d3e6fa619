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

// logged is how many pages are in SQLite's log.
func logged(t *testing.T, db *database) int {
	t.Helper()
	var blocked, pages, done int
	if err := db.read.QueryRowContext(t.Context(), "PRAGMA wal_checkpoint(NOOP)").Scan(&blocked, &pages, &done); err != nil {
		t.Fatal(err)
	}
	return pages
}

// saveUntil saves calls until done says so, in bounded time, and returns how many.
func saveUntil(t *testing.T, s *Store, done func() bool) (saved int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !done() {
		saved++
		if _, err := s.SaveCall(ctx, benchReport(saved)); err != nil {
			t.Fatal(err)
		}
	}
	return saved
}

func TestLogIsUsedAgain(t *testing.T) {
	const pages = 300
	s := open(t, t.TempDir())
	db := s.db.Load()
	db.checkpoints.pages = pages
	for range 3 {
		longest := 0
		saved := saveUntil(t, s, func() bool {
			now := logged(t, db)
			longest = max(longest, now)
			return now < longest
		})
		if longest < pages {
			t.Errorf("the log began again after %d pages and %d calls, want %d pages or more", longest, saved, pages)
		}
	}
}

func TestLogWaitsForAReader(t *testing.T) {
	s := open(t, t.TempDir())
	db := s.db.Load()
	db.checkpoints.pages = 100
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
	saveUntil(t, s, func() bool { longest = logged(t, db); return longest > 1000 })
	if err := reading.QueryRowContext(t.Context(), count).Scan(&after); err != nil || after != before {
		t.Errorf("a reader sees %d calls and then %d (%v)", before, after, err)
	}
	if err := reading.Rollback(); err != nil {
		t.Fatal(err)
	}
	saveUntil(t, s, func() bool { return logged(t, db) < longest })
}

func TestCheckpointThatFailsIsTold(t *testing.T) {
	var told strings.Builder
	dir := t.TempDir()
	s, err := New(Options{DataDir: dir, Logger: slog.New(slog.NewTextHandler(&told, nil))})
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
	db.checkpoints.pages = 1
	for n := range int64(3) {
		if _, err := s.SaveCall(t.Context(), benchReport(n)); err != nil {
			t.Errorf("save: %v, want that calls are saved all the same", err)
		}
		db.checkpoints.running.Wait()
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if n := strings.Count(told.String(), "stays in SQLite's log"); n != 1 {
		t.Errorf("told %d times, want once: %s", n, told.String())
	}
	if left, err := os.Stat(filepath.Join(dir, fileName+"-wal")); err == nil && left.Size() > 0 {
		t.Errorf("the log is there after closing, with %d bytes", left.Size())
	}
	again := open(t, dir)
	if calls, _, err := again.Calls(t.Context(), storage.CallFilter{}, storage.Page{}); err != nil || len(calls) != 3 {
		t.Errorf("%d calls (%v), want 3", len(calls), err)
	}
}
