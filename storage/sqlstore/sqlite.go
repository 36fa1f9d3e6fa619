package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/pressly/goose/v3"
	"gorm.io/gorm"
	"gorm.io/gorm/callbacks"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"calltracker/storage"
)

// This file, sqlitebatch.go and checkpoint.go contain everything specific to SQLite.

// sqliteDialect describes SQLite. It has no row locks and needs none, since it runs one
// writing transaction at a time. Without statistics, its query planner assumes that
// all indexes are equally good, and would read all calls of a tracker to find two of
// one caller (https://www.sqlite.org/optoverview.html, "Disqualifying WHERE Clause
// Terms Using Unary +").
var sqliteDialect = dialect{
	name: "sqlite", goose: goose.DialectSQLite3, gather: gatherStep,
	unindexed: func(column string) string { return "+" + column },
}

// readConnections is the size of the reading pool.
const readConnections = 4

// openSQLite opens the database file at path. If necessary, it creates the file and its
// directory, accessible by the owner only.
//
// The writing pool has one connection: SQLite has only one writer at a time, and
// waiting for it in Go is fairer than in SQLite's busy handler. Readers have their own
// pool; with the write-ahead log they do not wait for the writer.
func openSQLite(path string, logger *slog.Logger) (*database, error) {
	if err := createFile(path); err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	write, err := sql.Open("sqlite", dsn(path, durable))
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	relaxedPool, err := sql.Open("sqlite", dsn(path, relaxed))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	relaxedPool.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn(path, readOnly))
	if err != nil {
		return nil, errors.Join(err, relaxedPool.Close(), write.Close())
	}
	read.SetMaxOpenConns(readConnections)
	read.SetMaxIdleConns(readConnections)

	checkpointPool, err := sql.Open("sqlite", dsn(path, durable))
	if err != nil {
		return nil, errors.Join(err, read.Close(), relaxedPool.Close(), write.Close())
	}
	checkpointPool.SetMaxOpenConns(1)

	db := &database{dialect: &sqliteDialect, write: write, relaxed: relaxedPool, read: read, writeLock: make(chan struct{}, 1)}
	db.checkpoints = newCheckpointer(checkpointPool, db.writeLock, logger)
	db.batchWriter = sqliteBatch{db}
	if db.writeGorm, err = openGorm(dialector{write}); err == nil {
		db.readGorm, err = openGorm(dialector{read})
	}
	if err != nil {
		return nil, errors.Join(err, db.close())
	}
	return db, nil
}

func createFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// Open only a new file: closing a file that SQLite has open in this process
	// would release SQLite's locks (https://www.sqlite.org/howtocorrupt.html, 2.2).
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// access is a kind of connection.
type access int

const (
	durable access = iota // a commit is on disk when it returns
	relaxed               // a power failure may lose the last commits, a crash of the program does not
	readOnly
)

// dsn returns the data source name for a kind of connection
// (https://www.sqlite.org/uri.html). Durable connections use synchronous=FULL, because
// in WAL mode anything less may lose the last commits in a power failure
// (https://www.sqlite.org/pragma.html#pragma_synchronous).
//
// A writer waits for another process's lock for less time than a CDR may take to save,
// because SQLite ignores context deadlines while it waits. Automatic checkpoints are
// off; the checkpointer replaces them. Writers have a cache of 16 MiB: with a smaller
// one they would write pages that change again soon, and read them back. Rollback data
// of single statements stays in memory.
func dsn(path string, kind access) string {
	settings := url.Values{"mode": {"rw"}, "_txlock": {"immediate"}}
	pragmas := []string{"journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(0)", "busy_timeout(1500)", "foreign_keys(1)",
		"cache_size(-16384)", "temp_store(MEMORY)"}
	switch kind {
	case readOnly:
		settings = url.Values{"mode": {"ro"}}
		pragmas = []string{"query_only(1)", "busy_timeout(5000)"}
	case relaxed:
		pragmas[1] = "synchronous(NORMAL)"
	}
	settings["_pragma"] = pragmas
	uri := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: settings.Encode()}
	return uri.String()
}

// dialector is the gorm dialector for SQLite. gorm.io/driver/sqlite is not used because
// it adds a second, cgo driver to the build and translates the error codes of that
// driver instead of those of modernc.org/sqlite.
type dialector struct{ pool *sql.DB }

func (dialector) Name() string { return "sqlite" }

func (d dialector) Initialize(db *gorm.DB) error {
	db.ConnPool = d.pool
	callbacks.RegisterDefaultCallbacks(db, &callbacks.Config{})
	return nil
}

// Migrator returns nil, because the numbered migrations define the schema, not gorm.
func (dialector) Migrator(*gorm.DB) gorm.Migrator { return nil }

func (dialector) DataTypeOf(field *schema.Field) string { return string(field.DataType) }

func (dialector) DefaultValueOf(*schema.Field) clause.Expression { return clause.Expr{SQL: "NULL"} }

func (dialector) BindVarTo(w clause.Writer, _ *gorm.Statement, _ any) { _ = w.WriteByte('?') }

func (dialector) QuoteTo(w clause.Writer, name string) {
	for i, part := range strings.Split(name, ".") {
		if i > 0 {
			_ = w.WriteByte('.')
		}
		_, _ = w.WriteString(`"` + strings.ReplaceAll(part, `"`, `""`) + `"`)
	}
}

// Explain returns the statement without its values, which are personal data.
func (dialector) Explain(sql string, _ ...any) string { return sql }

// Translate implements gorm.ErrorTranslator.
func (dialector) Translate(err error) error { return translate(err) }

// translateSQLite wraps an error according to its SQLite result code
// (https://www.sqlite.org/rescode.html). A corrupt database counts as unavailable: the
// record is valid, and the spool can hold it until the database is repaired.
func translateSQLite(err error) error {
	var sqliteError *sqlite.Error
	if !errors.As(err, &sqliteError) {
		return err
	}
	code := sqliteError.Code()
	if code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY || code == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return fmt.Errorf("%w: %w", gorm.ErrDuplicatedKey, err)
	}
	const primary = 0xff // mask of the primary code within an extended code
	switch code & primary {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT,
		sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_NOLFS,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN:
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w: the file is damaged; restore a backup", storage.ErrUnavailable, err)
	}
	return err
}
