package sqlstore

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"calltracker/storage/storetest"
	"calltracker/storage/storetest/postgrestest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirVariable); dir != "" {
		saveUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// open returns a prepared store on SQLite in dir. It is closed when the test ends.
func open(t testing.TB, dir string) *Store {
	t.Helper()
	s := newStore(t, dir)
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// newStore returns a store on SQLite in dir that is not prepared. It is closed when the
// test ends.
func newStore(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := New(Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestBehaviorOnPostgreSQL(t *testing.T) {
	server := postgrestest.Address(t)
	// PostgreSQL takes a second to create a database. Parallel tests use one each and
	// empty it for the tests that follow.
	stores := make(chan *Store, runtime.GOMAXPROCS(0))
	for range cap(stores) {
		stores <- openURL(t, postgrestest.Database(t, server))
	}
	storetest.Run(t, func(t *testing.T) storetest.Store {
		s := <-stores
		t.Cleanup(func() {
			empty(t, s)
			stores <- s
		})
		return s
	})
}

// empty deletes all records.
func empty(t *testing.T, s *Store) {
	t.Helper()
	db := s.db.Load()
	rows, err := db.write.QueryContext(context.WithoutCancel(t.Context()), `SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE nspname = 'public' AND relkind IN ('r', 'p') AND NOT relispartition AND relname <> 'goose_db_version' ORDER BY relname`)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = rows.Close() }()
	var statements []string
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			t.Error(err)
		}
		statements = append(statements, "DELETE FROM "+table)
	}
	if err := rows.Err(); err != nil {
		t.Error(err)
	}
	if _, err := db.write.ExecContext(context.WithoutCancel(t.Context()), strings.Join(statements, "; ")); err != nil {
		t.Error(err)
	}
}

// openURL returns a prepared store on PostgreSQL. It is closed when the test ends.
func openURL(t testing.TB, address string) *Store {
	t.Helper()
	s, err := New(Options{URL: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBehaviorOnSQLite(t *testing.T) {
	// Each test starts with a copy of the same empty database, because migrating a
	// hundred databases is slow under the race detector.
	dir := t.TempDir()
	if err := open(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	empty, err := os.ReadFile(filepath.Join(dir, fileName))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(t *testing.T) storetest.Store {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, fileName), empty, 0o600); err != nil {
			t.Fatal(err)
		}
		return open(t, dir)
	})
}
