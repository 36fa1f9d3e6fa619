package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"calltracker/rules"
	"calltracker/storage"
)

// Lists of what retention goes through, oldest first. They are told apart by
// their cursors.
const (
	oldCalls     listKind = 'C'
	oldDecisions listKind = 'D'
)

// Forget does one step of retention: it looks at a few of the oldest calls, and
// after all calls at a few of the oldest decisions. From a call whose bodies are
// old it takes the bodies, and keeps their digests, so that a repeat is still
// known as one; from one whose personal fields are old also who called, and which
// customers that were. Flags of the call tell. It takes little at a time and does
// nothing twice: a step that was broken off is repeated. It returns
// storage.ErrBadCursor for a cursor that is not its own.
func (s *Store) ApplyRetention(ctx context.Context, f storage.RetentionStep) (done storage.RetentionResult, err error) {
	size := pageSize(f.Limit)
	err = s.do("forget", func(db *database) error {
		after, err := decodeCursor(oldDecisions, f.Cursor)
		if err == nil && after != nil {
			return db.forgetDecisions(ctx, f.PersonalBefore, after, size, &done)
		}
		if after, err = decodeCursor(oldCalls, f.Cursor); err != nil {
			return err
		}
		return db.forgetCalls(ctx, f, after, size, &done)
	})
	return done, err
}

// oldest is a condition for rows before an instant, after a cursor.
func oldest(before time.Time, after *cursor, size int) (condition string, values []any) {
	condition, values = `at_us < ?`, []any{micros(before)}
	if after != nil {
		condition, values = condition+` AND (at_us, id) > (?, ?)`, append(values, after.at, after.id)
	}
	return condition + ` ORDER BY at_us, id LIMIT ?`, append(values, size)
}

func (db *database) forgetCalls(ctx context.Context, f storage.RetentionStep, after *cursor, size int, done *storage.RetentionResult) error {
	before := f.BodiesBefore
	if f.PersonalBefore.After(before) {
		before = f.PersonalBefore
	}
	condition, values := oldest(before, after, size)
	rows, err := db.read.QueryContext(ctx, db.dialect.sql(`SELECT `+callColumns+` FROM calls WHERE `+condition), values...)
	if err != nil {
		return err
	}
	calls, err := appendCalls(nil, rows)
	if err != nil {
		return err
	}
	err = db.together(ctx, len(calls), func(tx *sql.Tx, n int) error {
		c := calls[n]
		flags := slices.Clone(c.Flags)
		personal := c.At().Before(f.PersonalBefore)
		if personal {
			flags = append(flags, storage.PersonalRemoved)
		}
		if personal || c.At().Before(f.BodiesBefore) {
			flags = append(flags, storage.BodiesRemoved)
		}
		slices.Sort(flags)
		if flags = slices.Compact(flags); slices.Equal(flags, c.Flags) {
			return nil
		}
		done.Calls++
		return db.forgetCall(ctx, tx, c, flags, personal)
	}, func(n int) bool { return !forgotten(calls[n], f) })
	if err != nil {
		return err
	}
	switch {
	case len(calls) == size:
		done.NextCursor = placeOfCall(calls[size-1]).encode(oldCalls)
	case !f.PersonalBefore.IsZero():
		done.NextCursor = cursor{at: -1 << 62}.encode(oldDecisions)
	}
	return nil
}

// forgotten tells whether nothing is left to take from a call.
func forgotten(c storage.Call, f storage.RetentionStep) bool {
	has := func(flag string) bool { return slices.Contains(c.Flags, flag) }
	if c.At().Before(f.PersonalBefore) {
		return has(storage.PersonalRemoved) && has(storage.BodiesRemoved)
	}
	return has(storage.BodiesRemoved)
}

// together changes rows in one transaction, and none without need.
func (db *database) together(ctx context.Context, rows int, change func(tx *sql.Tx, n int) error, needed func(n int) bool) error {
	var work []int
	for n := range rows {
		if needed(n) {
			work = append(work, n)
		}
	}
	if len(work) == 0 {
		return nil
	}
	return db.transaction(ctx, func(tx *sql.Tx) error {
		for _, n := range work {
			if err := change(tx, n); err != nil {
				return err
			}
		}
		return nil
	})
}

func (db *database) forgetCall(ctx context.Context, tx *sql.Tx, c storage.Call, flags []string, personal bool) error {
	text, err := list(flags)
	if err != nil {
		return err
	}
	type step struct {
		sql    string
		values []any
	}
	steps := []step{
		{`UPDATE calls SET flags = ? WHERE id = ? AND at_us = ?`, []any{text, c.ID, micros(c.At())}},
		{`UPDATE call_revisions SET raw = ? WHERE of_call = ?`, []any{[]byte{}, c.ID}},
	}
	if personal {
		steps[0].sql = `UPDATE calls SET caller = '', raw_caller = '', caller_name = '', flags = ? WHERE id = ? AND at_us = ?`
		steps = append(steps, step{`DELETE FROM call_customers WHERE of_call = ?`, []any{c.ID}},
			step{`DELETE FROM call_lookups WHERE of_call = ?`, []any{c.ID}})
	}
	for _, s := range steps {
		if _, err := tx.ExecContext(ctx, db.dialect.sql(s.sql), s.values...); err != nil {
			return fmt.Errorf("forget call %s: %w", c.ID, err)
		}
	}
	return nil
}

func (db *database) forgetDecisions(ctx context.Context, before time.Time, after *cursor, size int, done *storage.RetentionResult) error {
	condition, values := oldest(before, after, size)
	rows, err := db.read.QueryContext(ctx, db.dialect.sql(`SELECT id, at_us, caller, raw_caller, trace FROM decisions WHERE `+condition), values...)
	if err != nil {
		return err
	}
	var found []decisionRow
	err = func() error {
		defer func() { _ = rows.Close() }()
		for rows.Next() {
			var r decisionRow
			if err := rows.Scan(&r.ID, &r.AtUS, &r.Caller, &r.RawCaller, &r.Trace); err != nil {
				return err
			}
			found = append(found, r)
		}
		return rows.Err()
	}()
	if err != nil {
		return err
	}
	bare := make([]string, len(found))
	for i, r := range found {
		if bare[i], err = withoutReasons(r.Trace); err != nil {
			return err
		}
	}
	err = db.together(ctx, len(found), func(tx *sql.Tx, n int) error {
		done.Decisions++
		_, err := tx.ExecContext(ctx, db.dialect.sql(`UPDATE decisions SET caller = '', raw_caller = '', trace = ? WHERE id = ?`), bare[n], found[n].ID)
		return err
	}, func(n int) bool {
		return found[n].Caller != "" || found[n].RawCaller != "" || found[n].Trace != bare[n]
	})
	if err == nil && len(found) == size {
		last := found[size-1]
		done.NextCursor = cursor{at: last.AtUS, id: last.ID}.encode(oldDecisions)
	}
	return err
}

// withoutReasons is a trace without the reasons, which quote the caller.
func withoutReasons(trace string) (string, error) {
	steps, err := unlist[rules.Step](trace)
	if err != nil || len(steps) == 0 {
		return trace, err
	}
	for i := range steps {
		steps[i].Reason = ""
	}
	bare, err := json.Marshal(steps)
	return string(bare), err
}
