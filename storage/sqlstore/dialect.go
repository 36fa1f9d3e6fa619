package sqlstore

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

// dialect is what the databases do not have in common. Statements are written
// with "?" for values.
type dialect struct {
	name  string // of the twins among the migrations
	goose goose.Dialect

	// sessions: several programs may start on the database at once.
	sessions bool

	// numbered: values are $1, $2 and not "?".
	numbered bool

	// keyed: calls are unique by the table call_keys, and not by themselves.
	keyed bool

	// lanes is how many batches of calls are committed at the same time, at most
	// (committer).
	lanes int

	// gather is a step of waiting for the next batch (committer).
	gather time.Duration

	// unindexed writes a column so that a condition on it does not choose an index.
	unindexed func(column string) string
}

// sql writes a statement for the database.
func (d *dialect) sql(statement string) string {
	if !d.numbered {
		return statement
	}
	var out strings.Builder
	n := 0
	for {
		before, after, more := strings.Cut(statement, "?")
		out.WriteString(before)
		if !more {
			return out.String()
		}
		n++
		out.WriteByte('$')
		out.WriteString(strconv.Itoa(n))
		statement = after
	}
}

// query is a statement of the paths that every call takes, in the database's
// own writing. SQLite's are prepared; pgx remembers its own by their text.
type query struct {
	text     string
	prepared *sql.Stmt // nil where the driver remembers statements
}

// runner is a transaction, or the session of one.
type runner interface {
	ExecContext(ctx context.Context, query string, values ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, values ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, values ...any) *sql.Row
	StmtContext(ctx context.Context, statement *sql.Stmt) *sql.Stmt
}

func (q query) exec(ctx context.Context, tx runner, values ...any) (sql.Result, error) {
	if q.prepared != nil {
		return tx.StmtContext(ctx, q.prepared).ExecContext(ctx, values...)
	}
	return tx.ExecContext(ctx, q.text, values...)
}

func (q query) row(ctx context.Context, tx runner, values ...any) *sql.Row {
	if q.prepared != nil {
		return tx.StmtContext(ctx, q.prepared).QueryRowContext(ctx, values...)
	}
	return tx.QueryRowContext(ctx, q.text, values...)
}

// each gives every row of an answer to use.
func (q query) each(ctx context.Context, tx runner, use func(scan func(...any) error) error, values ...any) error {
	var (
		rows *sql.Rows
		err  error
	)
	if q.prepared != nil {
		rows, err = tx.StmtContext(ctx, q.prepared).QueryContext(ctx, values...)
	} else {
		rows, err = tx.QueryContext(ctx, q.text, values...)
	}
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := use(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (q query) rowOn(ctx context.Context, pool *sql.DB, values ...any) *sql.Row {
	if q.prepared != nil {
		return q.prepared.QueryRowContext(ctx, values...)
	}
	return pool.QueryRowContext(ctx, q.text, values...)
}

func (q query) rowsOn(ctx context.Context, pool *sql.DB, values ...any) (*sql.Rows, error) {
	if q.prepared != nil {
		return q.prepared.QueryContext(ctx, values...)
	}
	return pool.QueryContext(ctx, q.text, values...)
}
