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

// Numbers of rows per statement. SQLite runs one statement with several rows faster
// than several statements. The remaining rows use statements for a single row.
const (
	insertRows = 8
	lookupRows = 16
)

// insertOrFail keeps the partial effect of a statement that fails, which is safe
// because the transaction is rolled back. To undo a single statement, SQLite would
// have to copy every page before changing it
// (https://www.sqlite.org/lang_conflict.html).
const insertOrFail = `INSERT OR FAIL INTO `

const hasBodySQL = `SELECT 1 FROM call_revisions WHERE of_call = ? AND sha256 = ?`

// sqliteBatch is the batchWriter for SQLite. It locks no rows because SQLite runs one
// writing transaction at a time.
type sqliteBatch struct{ db *database }

// callsByKeySQL reads n calls by contact center and key.
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

// tuples returns "(?, ?), (?, ?)" for n rows with the given number of columns.
func tuples(n, columns int) string {
	return strings.TrimSuffix(strings.Repeat(`(`+placeholders(columns)+`), `, n), `, `)
}

func (b sqliteBatch) load(ctx context.Context, tx *transaction, calls []*batchCall) error {
	s := &b.db.statements
	byIdentity := make(map[callIdentity]*batchCall, len(calls))
	for _, c := range calls {
		byIdentity[c.identity()] = c
	}
	for chunk := range slices.Chunk(calls, lookupRows) {
		search := s.callByKey
		if len(chunk) > 1 {
			search = s.callsByKey
		}
		var keys []any
		for _, c := range chunk {
			keys = append(keys, c.call.Key, c.call.ContactCenter)
		}
		for len(chunk) > 1 && len(keys) < 2*lookupRows { // fill up with a repeated key, which finds nothing new
			keys = append(keys, chunk[0].call.Key, chunk[0].call.ContactCenter)
		}
		err := search.each(ctx, tx, eachCall(func(call storage.Call, revisions int) {
			byIdentity[callIdentity{call.Key, call.ContactCenter}].setStored(call, revisions)
		}), keys...)
		if err != nil {
			return err
		}
	}
	for _, c := range calls {
		if c.isNew {
			continue
		}
		for _, r := range c.requests {
			var one int
			err := s.hasBody.row(ctx, tx, c.call.ID, r.digest[:]).Scan(&one)
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
			c.digests[r.digest] = err == nil
		}
	}
	return nil
}

func (b sqliteBatch) inTransaction(ctx context.Context, conn *sql.Conn, work func(*transaction) error) error {
	return b.db.transactionOnConn(ctx, conn, func(tx *sql.Tx) error { return work(&transaction{runner: tx}) })
}

func (b sqliteBatch) link(ctx context.Context, tx *transaction, calls []*batchCall) error {
	for _, c := range calls {
		reported, estimated := startTimes(c.call, c.source)
		d, err := b.db.claimDecision(ctx, tx, c.call, reported, estimated)
		if err != nil {
			return err
		}
		if d.id != "" {
			c.setDecision(d)
		}
	}
	return nil
}

func (b sqliteBatch) insert(ctx context.Context, tx *transaction, newCalls, calls []*batchCall, jobs []jobInsert) error {
	if err := b.insertCalls(ctx, tx, newCalls); err != nil {
		return fmt.Errorf("insert calls: %w", err)
	}
	if err := b.insertRevisions(ctx, tx, calls); err != nil {
		return fmt.Errorf("insert revisions: %w", err)
	}
	return b.db.insertJobs(ctx, tx, jobs)
}

func (b sqliteBatch) insertCalls(ctx context.Context, tx runner, calls []*batchCall) error {
	rows := make([][]any, len(calls))
	for i, c := range calls {
		var err error
		if rows[i], err = c.rowValues(); err != nil {
			return err
		}
	}
	return insertAll(ctx, tx, rows, b.db.statements.insertCalls, b.db.statements.insertCall)
}

func (b sqliteBatch) insertRevisions(ctx context.Context, tx runner, calls []*batchCall) error {
	var rows [][]any
	for _, c := range calls {
		for _, r := range c.newRevisions {
			rows = append(rows, r.values(c.call.ID))
		}
	}
	return insertAll(ctx, tx, rows, b.db.statements.insertRevisions, b.db.statements.insertRevision)
}

// insertAll inserts rows, insertRows at a time with the statement multi and the
// remaining ones with the statement single.
func insertAll(ctx context.Context, tx runner, rows [][]any, multi, single query) error {
	for ; len(rows) >= insertRows; rows = rows[insertRows:] {
		if _, err := multi.exec(ctx, tx, slices.Concat(rows[:insertRows]...)...); err != nil {
			return err
		}
	}
	for _, row := range rows {
		if _, err := single.exec(ctx, tx, row...); err != nil {
			return err
		}
	}
	return nil
}
