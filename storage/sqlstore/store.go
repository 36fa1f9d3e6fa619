// Package sqlstore stores calltracker's records in a SQL database: SQLite in the data
// directory, or PostgreSQL. The file dialect.go describes how the databases differ.
//
// Times are stored as BIGINT: microseconds since 1970 in UTC, 0 for "none". Every
// database sorts and compares integers in the same way, and no driver has to parse
// times. Lists (rules, trace, flags) are JSON in TEXT columns; CDR bodies and sealed
// secrets are bytes. NUL characters and invalid UTF-8 are removed from text because
// PostgreSQL rejects both.
//
// The administration (configuration, secrets, lists) uses gorm. What every call uses
// (saving calls, recording decisions, streaming calls) is written with database/sql,
// where gorm's reflection would add a third to the cost.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"calltracker/storage"
)

// Options configures a Store.
type Options struct {
	URL     string       // postgres://…; empty: SQLite in DataDir
	DataDir string       // directory of the SQLite database; created if missing
	Logger  *slog.Logger // nil: silent
}

// fileName is the name of the SQLite database in the data directory.
const fileName = "calltracker.db"

// Store is a SQL database with calltracker's records. Its methods are safe for
// concurrent use and honor their context. They return storage.ErrUnavailable before
// Prepare has succeeded, after Close, and whenever the database fails; a later call may
// succeed. The only background work is the commits for which SaveCall waits, and
// SQLite's checkpoints.
type Store struct {
	name     string // name of the database, for errors
	path     string // path of the SQLite file; empty for PostgreSQL
	postgres *pgxpool.Config
	logger   *slog.Logger

	mu      sync.Mutex // held by Prepare and Close
	closed  bool
	db      atomic.Pointer[database]
	notOpen atomic.Pointer[string] // why the database is not open; nil before the first attempt
}

// database is an open, migrated database.
type database struct {
	dialect             *dialect
	write, read         *sql.DB
	relaxed             *sql.DB       // for writes that need not survive a power failure
	writeLock           chan struct{} // holds a token while a transaction writes; nil if several may write
	pool                *pgxpool.Pool // PostgreSQL pool beneath the others; nil on SQLite
	writeGorm, readGorm *gorm.DB
	schema              *goose.Provider
	statements          statements
	checkpoints         *checkpointer // nil on PostgreSQL
	batchWriter         batchWriter
	committer           *committer
}

// CheckURL returns an error if a database URL is invalid. The error does not contain
// the password.
func CheckURL(address string) error {
	_, err := New(Options{URL: address})
	return err
}

// New checks the options and returns a Store that is not prepared. It uses neither disk
// nor network.
func New(o Options) (*Store, error) {
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if o.URL != "" {
		// The URL contains a password, so it must not appear in an error.
		u, err := url.Parse(o.URL)
		if err != nil {
			return nil, errInvalidURL
		}
		if u.Scheme != "postgres" && u.Scheme != "postgresql" {
			return nil, fmt.Errorf("unsupported scheme %q in database URL: use postgres://…, or leave the URL empty for SQLite", u.Scheme)
		}
		config, err := parsePostgres(o.URL)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%s on %s", config.ConnConfig.Database, config.ConnConfig.Host)
		return &Store{name: name, postgres: config, logger: logger}, nil
	}
	if o.DataDir == "" {
		return nil, errors.New("missing data directory for the SQLite database")
	}
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", o.DataDir, err)
	}
	path := filepath.Join(dir, fileName)
	return &Store{name: path, path: path, logger: logger}, nil
}

// Prepare opens the database and migrates its schema. If it fails, it may be called
// again; once it has succeeded, it does nothing. It returns storage.ErrSchemaNewer,
// and does not change the database, if a newer program has migrated it.
func (s *Store) Prepare(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return fmt.Errorf("prepare database: %w: closed", storage.ErrUnavailable)
	}
	if s.db.Load() != nil {
		return nil
	}
	db, err := s.open(ctx)
	if err != nil {
		err = translate(err)
		reason := strings.TrimPrefix(err.Error(), storage.ErrUnavailable.Error()+": ")
		s.notOpen.Store(&reason)
		return fmt.Errorf("prepare database %s: %w", s.name, err)
	}
	s.db.Store(db)
	return nil
}

// open opens and migrates the database. If it fails, it closes everything.
func (s *Store) open(ctx context.Context) (_ *database, err error) {
	var db *database
	if s.postgres != nil {
		db, err = openPostgres(ctx, s.postgres, s.logger)
	} else {
		db, err = openSQLite(s.path, s.logger)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, db.close())
		}
	}()
	if err := db.migrate(ctx, s.logger); err != nil {
		return nil, err
	}
	if db.dialect.hasKeyTable {
		if err := db.ensurePartitions(ctx, time.Now()); err != nil {
			return nil, err
		}
	}
	if err := db.read.PingContext(ctx); err != nil {
		return nil, err
	}
	if err := db.prepareStatements(ctx); err != nil {
		return nil, err
	}
	db.committer = newCommitter(db.writeLock, db.commitBatch)
	db.committer.gather = db.dialect.gather
	return db, nil
}

// Ready reports whether Prepare has succeeded and Close was not called.
func (s *Store) Ready() bool { return s.db.Load() != nil }

// Ping reports whether the database accepts writes. It changes nothing, so it does not
// detect a full disk.
func (s *Store) Ping(ctx context.Context) error {
	return s.do("ping database", func(db *database) error {
		return db.transaction(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM rejections WHERE id = ''`)
			return err
		})
	})
}

// SchemaVersion returns the number of the newest applied migration.
func (s *Store) SchemaVersion(ctx context.Context) (int64, error) {
	var version int64
	err := s.do("read schema version", func(db *database) (err error) {
		version, err = db.schema.GetDBVersion(ctx)
		return err
	})
	return version, err
}

// Close closes the database. Before that it waits up to ten seconds until the CDRs that
// SaveCall has accepted are saved. Other running operations may fail with
// storage.ErrUnavailable. Close may be called more than once.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	closed := "closed"
	s.notOpen.Store(&closed)
	db := s.db.Swap(nil)
	if db == nil {
		return nil
	}
	return db.close()
}

// do runs work on the open database. It wraps errors with the operation and translates
// them to the errors of package storage.
func (s *Store) do(operation string, work func(*database) error) error {
	db := s.db.Load()
	if db == nil {
		reason := "not opened yet"
		if r := s.notOpen.Load(); r != nil {
			reason = *r
		}
		return fmt.Errorf("%s: %w: %s", operation, storage.ErrUnavailable, reason)
	}
	if err := work(db); err != nil {
		return fmt.Errorf("%s: %w", operation, translate(err))
	}
	return nil
}

// transaction runs work in a transaction of the writing pool.
func (db *database) transaction(ctx context.Context, work func(*sql.Tx) error) error {
	return db.transactionOn(ctx, db.write, work)
}

// transactionOn runs work in a transaction of one of the pools that write. On SQLite it
// acquires the write lock first; otherwise writers would wait for each other by
// sleeping.
func (db *database) transactionOn(ctx context.Context, pool *sql.DB, work func(*sql.Tx) error) error {
	if db.writeLock != nil {
		select {
		case db.writeLock <- struct{}{}:
			defer func() { <-db.writeLock }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return db.transactionOnConn(ctx, pool, work)
}

// txStarter is a pool or one of its connections.
type txStarter interface {
	BeginTx(ctx context.Context, options *sql.TxOptions) (*sql.Tx, error)
	QueryRowContext(ctx context.Context, query string, values ...any) *sql.Row
}

// transactionOnConn runs work in a transaction. On SQLite the caller must hold the write
// lock.
func (db *database) transactionOnConn(ctx context.Context, conn txStarter, work func(*sql.Tx) error) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // no effect after a commit
	if err := work(tx); err != nil {
		return err
	}
	err = tx.Commit()
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		return ctx.Err() // the cause of the rollback
	}
	if err == nil && db.checkpoints != nil {
		db.checkpoints.afterCommit(ctx, conn)
	}
	return err
}

func (db *database) close() error {
	if db.committer != nil { // nil if open has failed
		db.committer.close()
	}
	var err error
	if db.checkpoints != nil {
		err = db.checkpoints.close()
	}
	err = errors.Join(err, db.read.Close(), db.relaxed.Close(), db.write.Close())
	if db.pool != nil {
		db.pool.Close()
	}
	return err
}

// openGorm opens gorm on a database. It logs nothing: callers get the errors, and
// statements would contain personal data.
func openGorm(d gorm.Dialector) (*gorm.DB, error) {
	return gorm.Open(d, &gorm.Config{
		SkipDefaultTransaction: true,
		TranslateError:         true,
		DisableAutomaticPing:   true,
		Logger:                 logger.Discard,
	})
}
