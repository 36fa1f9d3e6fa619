package sqlstore

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
)

// dialect describes how a database differs from the others. Statements use "?" for
// values.
type dialect struct {
	name  string // suffix of the migrations for this database only
	goose goose.Dialect

	// shared is true if several processes may use the database at the same time.
	shared bool

	// numberedValues is true if values are written $1, $2 instead of "?".
	numberedValues bool

	// hasKeyTable is true if the table call_keys makes calls unique, instead of an
	// index of the table calls.
	hasKeyTable bool

	// gather is committer.gather.
	gather time.Duration

	// unindexed returns an expression for a column that keeps the query planner from
	// using an index for it.
	unindexed func(column string) string
}

// sql returns a statement in the syntax of the database.
func (d *dialect) sql(statement string) string {
	if !d.numberedValues {
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

// query is a statement that every call uses, in the syntax of the database. It is
// prepared in SQLite; pgx prepares and caches statements itself.
type query struct {
	text     string
	prepared *sql.Stmt // nil if the driver caches statements
}

// runner is a transaction or the connection that it uses.
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

// each calls use for every row of the result.
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
