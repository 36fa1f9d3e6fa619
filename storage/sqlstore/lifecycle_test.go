package sqlstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"calltracker/storage"
	"calltracker/storage/storetest"
)

func TestNewChecksOptions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options Options
		want    string // part of the error; empty for none
	}{
		{"SQLite", Options{DataDir: "data"}, ""},
		{"no directory", Options{}, "missing data directory"},
		{"PostgreSQL", Options{URL: "postgres://u:hunter2@db/calls"}, ""},
		{"PostgreSQL with a bad port", Options{URL: "postgres://u:hunter2@db:port/calls"}, "invalid database URL"},
		{"PostgreSQL with a bad option", Options{URL: "postgres://u:hunter2@db/calls?sslmode=perhaps"}, "sslmode is invalid"},
		{"another database", Options{URL: "mysql://u:hunter2@db/calls", DataDir: "data"}, `scheme "mysql"`},
		{"no scheme", Options{URL: "calls.db", DataDir: "data"}, `scheme ""`},
		{"not a URL", Options{URL: "\x7f:", DataDir: "data"}, "invalid database URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.options)
			if tt.want == "" {
				if err != nil {
					t.Errorf("error %v, want none", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that contains %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error contains the password: %v", err)
			}
		})
	}
}

func TestNewTouchesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	newStore(t, dir)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("stat of the data directory: %v, want os.ErrNotExist", err)
	}
}

func TestUnavailableUnlessPrepared(t *testing.T) {
	check := func(t *testing.T, s *Store) {
		t.Helper()
		if s.Ready() {
			t.Error("ready")
		}
		for name, err := range storetest.ErrorsByMethod(t.Context(), s) {
			if !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%s: %v, want storage.ErrUnavailable", name, err)
			}
		}
	}
	s := newStore(t, t.TempDir())
	t.Run("before Prepare", func(t *testing.T) { check(t, s) })
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Prepare(t.Context()); err != nil {
		t.Errorf("second Prepare: %v, want no error", err)
	}
	if !s.Ready() {
		t.Error("not ready")
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		t.Run("after Close", func(t *testing.T) { check(t, s) })
	}
	if err := s.Prepare(t.Context()); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("prepare after Close: %v, want storage.ErrUnavailable", err)
	}
}

func TestRecordsSurviveClose(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?c#d%20e", "data") // characters with a meaning in URIs
	s := open(t, dir)
	saved, err := s.SaveCall(t.Context(), benchCDR(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, fileName)); err != nil {
		t.Error(err)
	}
	again := open(t, dir)
	if call, _, err := again.Call(t.Context(), saved.ID); err != nil || call.Key != benchCDR(1).Call.Key {
		t.Errorf("call %+v, %v; want the saved one", call, err)
	}
}

func TestMigrationIsLogged(t *testing.T) {
	var log bytes.Buffer
	dir := t.TempDir()
	var version int64
	for range 2 { // the second Prepare has nothing to migrate
		s, err := New(Options{DataDir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if version, err = s.SchemaVersion(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "schema migrated"); n != 1 || !strings.Contains(log.String(), fmt.Sprintf("from=0 to=%d\n", version)) {
		t.Errorf("migration logged %d times, want once:\n%s", n, log.String())
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	version, err := s.SchemaVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.db.Load().write.ExecContext(t.Context(),
		`INSERT INTO goose_db_version (version_id, is_applied) VALUES (?, ?)`, version+1, true)
	if err != nil {
		t.Fatal(err)
	}
	older := newStore(t, dir)
	err = older.Prepare(t.Context())
	if !errors.Is(err, storage.ErrSchemaNewer) || errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("prepare: %v, want storage.ErrSchemaNewer", err)
	}
	if want := fmt.Sprintf("version is %d, this program supports %d", version+1, version); err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("prepare: %v, want an error with both versions", err)
	}
	if older.Ready() {
		t.Error("ready")
	}
}

func TestPrepareSucceedsAfterRepair(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(dir string) error
		repair func(dir string) error
	}{
		{
			"file in place of the directory",
			func(dir string) error { return os.WriteFile(dir, nil, 0o600) },
			os.Remove,
		},
		{
			"directory in place of the file",
			func(dir string) error { return os.MkdirAll(filepath.Join(dir, fileName), 0o700) },
			func(dir string) error { return os.Remove(filepath.Join(dir, fileName)) },
		},
		{
			"file is not a database",
			func(dir string) error {
				return errors.Join(os.Mkdir(dir, 0o700),
					os.WriteFile(filepath.Join(dir, fileName), bytes.Repeat([]byte("no database "), 1000), 0o600))
			},
			func(dir string) error { return os.Remove(filepath.Join(dir, fileName)) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "data")
			if err := tt.damage(dir); err != nil {
				t.Fatal(err)
			}
			s := newStore(t, dir)
			for range 2 {
				if err := s.Prepare(t.Context()); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), dir) {
					t.Errorf("prepare: %v, want storage.ErrUnavailable with the path", err)
				}
			}
			if _, err := s.SchemaVersion(t.Context()); err == nil || strings.Contains(err.Error(), "not opened yet") {
				t.Errorf("schema version: %v, want the reason why the database is not open", err)
			}
			if err := tt.repair(dir); err != nil {
				t.Fatal(err)
			}
			if err := s.Prepare(t.Context()); err != nil {
				t.Errorf("prepare after repair: %v", err)
			}
			if err := s.Ping(t.Context()); err != nil {
				t.Errorf("ping: %v", err)
			}
		})
	}
}

// TestTranslation provokes errors of the driver, which it does not let others create.
func TestTranslation(t *testing.T) {
	cdr := benchCDR(1)
	cdr.Raw = make([]byte, 1<<20)
	for _, tt := range []struct {
		name    string
		provoke func(t *testing.T, db *database)
		restore func(t *testing.T, db *database)
	}{
		{
			"full",
			func(t *testing.T, db *database) { run(t, db, "PRAGMA max_page_count = 60") },
			func(t *testing.T, db *database) { run(t, db, "PRAGMA max_page_count = 100000") },
		},
		{
			"read-only",
			func(t *testing.T, db *database) { run(t, db, "PRAGMA query_only = 1") },
			func(t *testing.T, db *database) { run(t, db, "PRAGMA query_only = 0") },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, t.TempDir())
			tt.provoke(t, s.db.Load())
			if _, err := s.SaveCall(t.Context(), cdr); !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("save: %v, want storage.ErrUnavailable", err)
			}
			tt.restore(t, s.db.Load())
			if saved, err := s.SaveCall(t.Context(), cdr); err != nil || !saved.Created {
				t.Errorf("save after recovery: %+v, %v; want created", saved, err)
			}
		})
	}

	t.Run("locked by another process", func(t *testing.T) {
		dir := t.TempDir()
		s, other := open(t, dir), open(t, dir)
		run(t, s.db.Load(), "PRAGMA busy_timeout = 0")
		lock, err := other.db.Load().write.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.SaveCall(t.Context(), cdr); !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "SQLITE_BUSY") {
			t.Errorf("save: %v, want storage.ErrUnavailable with the cause", err)
		}
		if err := s.Ping(t.Context()); !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("ping: %v, want storage.ErrUnavailable", err)
		}
		if _, _, err := s.Calls(t.Context(), storage.CallFilter{}, storage.Page{}); err != nil {
			t.Errorf("list calls while locked: %v, want no error", err)
		}
		if err := lock.Rollback(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.SaveCall(t.Context(), cdr); err != nil {
			t.Errorf("save after unlock: %v", err)
		}
	})

	t.Run("pool closed", func(t *testing.T) {
		s := open(t, t.TempDir())
		if err := s.db.Load().close(); err != nil {
			t.Fatal(err)
		}
		for name, err := range storetest.ErrorsByMethod(t.Context(), s) {
			if !errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("%s: %v, want storage.ErrUnavailable", name, err)
			}
		}
	})

	t.Run("rolled back at the deadline", func(t *testing.T) {
		s := open(t, t.TempDir())
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		err := s.do("wait", func(db *database) error {
			return db.transaction(ctx, func(tx *sql.Tx) error {
				var err error
				for err == nil { // until database/sql has rolled back
					_, err = tx.ExecContext(context.WithoutCancel(ctx), "DELETE FROM secrets")
				}
				return nil
			})
		})
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("error %v, want storage.ErrUnavailable", err)
		}
	})

	t.Run("unique", func(t *testing.T) {
		db := open(t, t.TempDir()).db.Load()
		row := configRow{Version: 1}
		if err := db.writeGorm.WithContext(t.Context()).Create(&row).Error; err != nil {
			t.Fatal(err)
		}
		if err := db.writeGorm.WithContext(t.Context()).Create(&row).Error; !errors.Is(err, gorm.ErrDuplicatedKey) {
			t.Errorf("second create: %v, want gorm.ErrDuplicatedKey", err)
		}
	})

	t.Run("invalid SQL is not an outage", func(t *testing.T) {
		db := open(t, t.TempDir()).db.Load()
		_, err := db.read.ExecContext(t.Context(), "SELECT no_such_column")
		if err = translate(err); err == nil || errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("error %v, want one other than storage.ErrUnavailable", err)
		}
	})
}

func run(t *testing.T, db *database, statement string) {
	t.Helper()
	if _, err := db.write.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}
