// Package sqlstore keeps calltracker's records in a SQL database: SQLite in the
// data directory, or PostgreSQL. What only one of them does stands in sqlite.go
// and postgres.go, and what they do not have in common in dialect.go.
//
// Instants are stored as BIGINT, microseconds since 1970 in UTC with 0 for
// "none": every database sorts and compares those alike, and no driver has to
// read a time back from text. Lists (rules, trace, flags) are JSON in TEXT
// columns, bodies and sealed secrets are bytes. Text loses NUL characters and
// invalid UTF-8 on its way in, since PostgreSQL refuses both.
//
// gorm serves the administration: configuration, secrets, lists. Where every
// call passes (saving calls, recording decisions, streaming calls) the
// connection underneath is used, because gorm's reflection costs a third there.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"calltracker/storage"
)

// Options say where the records are.
type Options struct {
	URL     string       // postgres://…; empty: a SQLite file in DataDir
	DataDir string       // made when it is missing, for SQLite
	Logger  *slog.Logger // nil: silent
}

// fileName is the SQLite database in the data directory.
const fileName = "calltracker.db"

// Store keeps records. Its methods are safe for concurrent use, honour their
// context, and return storage.ErrUnavailable before Prepare has succeeded,
// after Close, and whenever the database does not do its part; a later call
// may succeed. Nothing runs in the background but the commits that SaveCall
// waits for, and SQLite's checkpoints.
type Store struct {
	name     string // of the database, for messages
	path     string // of the SQLite file; empty for PostgreSQL
	postgres *pgxpool.Config
	logger   *slog.Logger

	mu     sync.Mutex // held by Prepare and Close
	closed bool
	db     atomic.Pointer[database]
}

// database is an open, migrated database.
type database struct {
	dialect             *dialect
	write, read         *sql.DB
	record              *sql.DB       // for what need not survive a power failure
	turn                chan struct{} // holds a token while a transaction writes; nil where many may
	pool                *pgxpool.Pool // under all of them, on PostgreSQL
	writeGorm, readGorm *gorm.DB
	schema              *goose.Provider
	statements          statements
	checkpoints         *checkpointer // nil on PostgreSQL
	batch               batcher
	committer           *committer
}

// CheckURL tells what is wrong with the URL of a database. Its errors show no
// password.
func CheckURL(address string) error {
	_, err := New(Options{URL: address})
	return err
}

// New checks the options. It touches neither disk nor network: that is for
// Prepare.
func New(o Options) (*Store, error) {
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	if o.URL != "" {
		// Never the URL itself in an error: it holds a password.
		u, err := url.Parse(o.URL)
		if err != nil {
			return nil, errUnreadableURL
		}
		if u.Scheme != "postgres" && u.Scheme != "postgresql" {
			return nil, fmt.Errorf("database URL with scheme %q is not supported: write postgres://…, or leave it empty for SQLite", u.Scheme)
		}
		config, err := parsePostgres(o.URL)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%s on %s", config.ConnConfig.Database, config.ConnConfig.Host)
		return &Store{name: name, postgres: config, logger: logger}, nil
	}
	if o.DataDir == "" {
		return nil, errors.New("no data directory for the SQLite database")
	}
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", o.DataDir, err)
	}
	path := filepath.Join(dir, fileName)
	return &Store{name: path, path: path, logger: logger}, nil
}

// Prepare opens the database and brings its schema up to date. After a failure
// it may be called again; after a success it does nothing. It returns
// storage.ErrSchemaNewer when the database was written by a newer program,
// which it leaves untouched.
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
		return fmt.Errorf("prepare database %s: %w", s.name, translate(err))
	}
	s.db.Store(db)
	return nil
}

// open opens, migrates and makes ready. Nothing stays open after a failure.
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
	if db.dialect.keyed {
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
	db.committer = newCommitter(db.dialect.lanes, db.turn, db.commitBatch)
	db.committer.gather = db.dialect.gather
	return db, nil
}

// Ready tells whether Prepare has succeeded and Close was not called.
func (s *Store) Ready() bool { return s.db.Load() != nil }

// Ping asks whether the database would take a write now. It writes nothing, so
// a disk that is full shows only with the next real write.
func (s *Store) Ping(ctx context.Context) error {
	return s.do("ping database", func(db *database) error {
		return db.transaction(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `DELETE FROM rejections WHERE id = ''`)
			return err
		})
	})
}

// SchemaVersion is the number of the newest migration that was applied.
func (s *Store) SchemaVersion(ctx context.Context) (int64, error) {
	var version int64
	err := s.do("read schema version", func(db *database) (err error) {
		version, err = db.schema.GetDBVersion(ctx)
		return err
	})
	return version, err
}

// Close closes the database, once the calls that SaveCall accepted are saved or
// ten seconds are over. What else is running may fail with
// storage.ErrUnavailable. Closing twice does no harm.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	db := s.db.Swap(nil)
	if db == nil {
		return nil
	}
	return db.close()
}

// do runs work on the open database and says what failed, in the vocabulary of
// package storage.
func (s *Store) do(doing string, work func(*database) error) error {
	db := s.db.Load()
	if db == nil {
		return fmt.Errorf("%s: %w: not prepared, or closed", doing, storage.ErrUnavailable)
	}
	if err := work(db); err != nil {
		return fmt.Errorf("%s: %w", doing, translate(err))
	}
	return nil
}

// transaction commits what work did, or nothing of it, on disk.
func (db *database) transaction(ctx context.Context, work func(*sql.Tx) error) error {
	return db.transactionOn(ctx, db.write, work)
}

// transactionOn is transaction on one of the writing pools. SQLite's take turns:
// left to themselves they would wait for each other by sleeping.
func (db *database) transactionOn(ctx context.Context, pool *sql.DB, work func(*sql.Tx) error) error {
	if db.turn != nil {
		select {
		case db.turn <- struct{}{}:
			defer func() { <-db.turn }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return db.committed(ctx, pool, work)
}

// A connector is a pool, or one connection of it.
type connector interface {
	BeginTx(ctx context.Context, options *sql.TxOptions) (*sql.Tx, error)
	QueryRowContext(ctx context.Context, query string, values ...any) *sql.Row
}

// committed is transactionOn for who has the turn.
func (db *database) committed(ctx context.Context, on connector, work func(*sql.Tx) error) error {
	tx, err := on.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if err := work(tx); err != nil {
		return err
	}
	err = tx.Commit()
	if errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil {
		return ctx.Err() // it was rolled back for that reason
	}
	if err == nil && db.checkpoints != nil {
		db.checkpoints.committed(ctx, on)
	}
	return err
}

func (db *database) close() error {
	if db.committer != nil { // else it was never made ready
		db.committer.close()
	}
	var err error
	if db.checkpoints != nil {
		err = db.checkpoints.close()
	}
	err = errors.Join(err, db.read.Close(), db.record.Close(), db.write.Close())
	if db.pool != nil {
		db.pool.Close()
	}
	return err
}

// openGorm puts gorm over a database. It logs nothing: errors go to the caller, and
// statements would show personal data.
func openGorm(d gorm.Dialector) (*gorm.DB, error) {
	return gorm.Open(d, &gorm.Config{
		SkipDefaultTransaction: true,
		TranslateError:         true,
		DisableAutomaticPing:   true,
		Logger:                 logger.Discard,
	})
}
