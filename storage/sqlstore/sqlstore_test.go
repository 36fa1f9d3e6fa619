package sqlstore

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"calltracker/storage/storetest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirVariable); dir != "" {
		saveUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// open is a prepared store in dir, closed when the test ends.
func open(t testing.TB, dir string) *Store {
	t.Helper()
	s := unprepared(t, dir)
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func unprepared(t testing.TB, dir string) *Store {
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

func TestBehaviour(t *testing.T) {
	// Each test starts with a copy of one empty database: migrating a hundred
	// of them takes most of the time under the race detector.
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
