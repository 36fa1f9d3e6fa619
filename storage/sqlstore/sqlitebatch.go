package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"calltracker/storage"
)

// Rows of one statement. A statement of several rows costs SQLite less than as
// many statements; what is left over goes one by one.
const (
	insertRows = 8
	searchRows = 16
)

// insertOrFail leaves of a statement that fails what it has done: the transaction
// is rolled back in any case, and to take back a statement alone SQLite would have
// to copy every page before it changes it (https://www.sqlite.org/lang_conflict.html).
const insertOrFail = `INSERT OR FAIL INTO `

const hasBodySQL = `SELECT 1 FROM call_revisions WHERE of_call = ? AND sha256 = ?`

// sqliteBatch has no rows to lock: its transactions come one after another.
type sqliteBatch struct{ db *database }

// callsByKeySQL reads n calls by their keys.
func callsByKeySQL(n int) string {
	return `SELECT ` + callColumns + `, revisions FROM calls WHERE (call_key, contact_center) IN (VALUES ` + tuples(n, 2) + `)`
}

func insertCallsSQL(n int) string {
	const more = `, at_us, began_us, heard_us, revisions`
	return insertOrFail + `calls (` + callColumns + more + `) VALUES ` + tuples(n, strings.Count(callColumns+more, ",")+1)
}

func insertRevisionsSQL(n int) string {
	const columns = `of_call, number, received_us, source, sha256, raw`
	return insertOrFail + `call_revisions (` + columns + `) VALUES ` + tuples(n, strings.Count(columns, ",")+1)
}

// tuples is "(?, ?), (?, ?)" for n rows of so many columns.
func tuples(n, columns int) string {
	return strings.TrimSuffix(strings.Repeat(`(`+marks(columns)+`), `, n), `, `)
}

func (b sqliteBatch) reserve(ctx context.Context, tx *transaction, calls []*saving) error {
	s := &b.db.statements
	type identity struct{ key, contactCenter string }
	byKey := make(map[identity]*saving, len(calls))
	for _, c := range calls {
		byKey[identity{c.call.Key, c.call.ContactCenter}] = c
	}
	for chunk := range slices.Chunk(calls, searchRows) {
		search := s.callByKey
		if len(chunk) > 1 {
			search = s.callsByKey
		}
		var keys []any
		for _, c := range chunk {
			keys = append(keys, c.call.Key, c.call.ContactCenter)
		}
		for len(chunk) > 1 && len(keys) < 2*searchRows { // the same again finds nothing more
			keys = append(keys, chunk[0].call.Key, chunk[0].call.ContactCenter)
		}
		err := search.each(ctx, tx, known(func(call storage.Call, revisions int) {
			byKey[identity{call.Key, call.ContactCenter}].found(call, revisions)
		}), keys...)
		if err != nil {
			return err
		}
	}
	for _, c := range calls {
		if c.fresh {
			continue
		}
		for _, p := range c.reports {
			var one int
			err := s.hasBody.row(ctx, tx, c.call.ID, p.digest[:]).Scan(&one)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			c.bodies[p.digest] = err == nil
		}
	}
	return nil
}

func (b sqliteBatch) within(ctx context.Context, on *sql.Conn, work func(*transaction) error) error {
	return b.db.committed(ctx, on, func(tx *sql.Tx) error { return work(&transaction{runner: tx}) })
}

func (b sqliteBatch) link(ctx context.Context, tx *transaction, calls []*saving) error {
	for _, c := range calls {
		decision, route, err := b.db.claimDecision(ctx, tx, c.call, c.source)
		if err != nil {
			return err
		}
		if decision != "" {
			c.linked(decision, route)
		}
	}
	return nil
}

func (b sqliteBatch) insert(ctx context.Context, tx *transaction, fresh, calls []*saving, jobs []jobInsert) error {
	if err := b.insertCalls(ctx, tx, fresh); err != nil {
		return fmt.Errorf("insert calls: %w", err)
	}
	if err := b.insertBodies(ctx, tx, calls); err != nil {
		return fmt.Errorf("insert revisions: %w", err)
	}
	return b.db.insertJobs(ctx, tx, jobs)
}

func (b sqliteBatch) insertCalls(ctx context.Context, tx runner, calls []*saving) error {
	rows := make([][]any, len(calls))
	for i, c := range calls {
		var err error
		if rows[i], err = c.rowValues(); err != nil {
			return err
		}
	}
	return insertSome(ctx, tx, rows, b.db.statements.insertCalls, b.db.statements.insertCall)
}

func (b sqliteBatch) insertBodies(ctx context.Context, tx runner, calls []*saving) error {
	var rows [][]any
	for _, c := range calls {
		for _, r := range c.added {
			rows = append(rows, r.values(c.call.ID))
		}
	}
	return insertSome(ctx, tx, rows, b.db.statements.insertRevisions, b.db.statements.insertRevision)
}

// insertSome inserts rows with a statement for insertRows of them, and the rest
// with one for a single row.
func insertSome(ctx context.Context, tx runner, rows [][]any, several, one query) error {
	for ; len(rows) >= insertRows; rows = rows[insertRows:] {
		if _, err := several.exec(ctx, tx, slices.Concat(rows[:insertRows]...)...); err != nil {
			return err
		}
	}
	for _, row := range rows {
		if _, err := one.exec(ctx, tx, row...); err != nil {
			return err
		}
	}
	return nil
}
