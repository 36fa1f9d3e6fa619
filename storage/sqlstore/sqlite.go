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

// This file is all that knows SQLite.

// sqliteDialect: SQLite knows no row locks and needs none, since its writing
// transactions come one after another. Without statistics it takes all indexes
// to be equally good, and would walk all calls of a tracker for the two of one
// caller (https://www.sqlite.org/optoverview.html, "Disqualifying WHERE Clause
// Terms Using Unary +").
var sqliteDialect = dialect{
	name: "sqlite", goose: goose.DialectSQLite3, lanes: 1, gather: gatherStep,
	unindexed: func(column string) string { return "+" + column },
}

// readers is the size of the reading pool.
const readers = 4

// openSQLite opens the file at path, which it makes, readable by its owner
// only, with its folder.
//
// One connection writes: SQLite has one writer at a time in any case, and
// waiting for it in Go is fairer than in its busy handler. Readers have a pool
// of their own, which WAL keeps from waiting for the writer.
func openSQLite(path string, logger *slog.Logger) (*database, error) {
	if err := makeFile(path); err != nil {
		return nil, fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	write, err := sql.Open("sqlite", dsn(path, durable))
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	record, err := sql.Open("sqlite", dsn(path, lenient))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	record.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn(path, readOnly))
	if err != nil {
		return nil, errors.Join(err, record.Close(), write.Close())
	}
	read.SetMaxOpenConns(readers)
	read.SetMaxIdleConns(readers)

	check, err := sql.Open("sqlite", dsn(path, durable))
	if err != nil {
		return nil, errors.Join(err, read.Close(), record.Close(), write.Close())
	}
	check.SetMaxOpenConns(1)

	db := &database{dialect: &sqliteDialect, write: write, record: record, read: read, turn: make(chan struct{}, 1)}
	db.checkpoints = newCheckpointer(check, db.turn, logger)
	db.batch = sqliteBatch{db}
	if db.writeGorm, err = openGorm(dialector{write}); err == nil {
		db.readGorm, err = openGorm(dialector{read})
	}
	if err != nil {
		return nil, errors.Join(err, db.close())
	}
	return db, nil
}

func makeFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// Only ever a new file: closing one that SQLite has open in this process
	// would drop its locks (https://www.sqlite.org/howtocorrupt.html, 2.2).
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// The kinds of connection.
type access int

const (
	durable access = iota // what is committed is on disk
	lenient               // a power failure may take back the last commits, a crash of the program none
	readOnly
)

// dsn names the file for a kind of connection (https://www.sqlite.org/uri.html).
// Durable is FULL, because in WAL mode anything less may forget the last commits
// when the power fails (https://www.sqlite.org/pragma.html#pragma_synchronous).
// A writer waits for another program's lock less long than a record may take: SQLite
// does not hear of deadlines meanwhile. Checkpoints are for the checkpointer. Writers remember 16 MiB: with less they would
// write pages that are to change again, and read them back. What a statement may have to take back stays in memory.
func dsn(path string, kind access) string {
	settings := url.Values{"mode": {"rw"}, "_txlock": {"immediate"}}
	pragmas := []string{"journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(0)", "busy_timeout(1500)", "foreign_keys(1)",
		"cache_size(-16384)", "temp_store(MEMORY)"}
	switch kind {
	case readOnly:
		settings = url.Values{"mode": {"ro"}}
		pragmas = []string{"query_only(1)", "busy_timeout(5000)"}
	case lenient:
		pragmas[1] = "synchronous(NORMAL)"
	}
	settings["_pragma"] = pragmas
	uri := url.URL{Scheme: "file", Path: filepath.ToSlash(path), RawQuery: settings.Encode()}
	return uri.String()
}

// dialector tells gorm how to write SQL for SQLite. gorm.io/driver/sqlite is
// not used because it brings a second, cgo driver into the build and translates
// that one's error codes, not those of modernc.org/sqlite.
type dialector struct{ pool *sql.DB }

func (dialector) Name() string { return "sqlite" }

func (d dialector) Initialize(db *gorm.DB) error {
	db.ConnPool = d.pool
	callbacks.RegisterDefaultCallbacks(db, &callbacks.Config{})
	return nil
}

// Migrator is nil: the schema is numbered SQL, gorm never changes it.
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

// Explain leaves the values out, since they are personal data.
func (dialector) Explain(sql string, _ ...any) string { return sql }

// Translate is how gorm asks for its own errors (TranslateError).
func (dialector) Translate(err error) error { return translate(err) }

// translateSQLite gives SQLite's result codes
// (https://www.sqlite.org/rescode.html) the meaning that callers act on. A
// damaged file counts as unavailable: nothing is wrong with the record, and it
// can be kept elsewhere until the file is mended.
func translateSQLite(err error) error {
	var failure *sqlite.Error
	if !errors.As(err, &failure) {
		return err
	}
	code := failure.Code()
	if code == sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY || code == sqlite3.SQLITE_CONSTRAINT_UNIQUE {
		return fmt.Errorf("%w: %w", gorm.ErrDuplicatedKey, err)
	}
	const primary = 0xff // the rest of an extended code says more of the same
	switch code & primary {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT,
		sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_NOLFS,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN,
		sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%w: %w", storage.ErrUnavailable, err)
	}
	return err
}
