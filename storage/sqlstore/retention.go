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

// Lists that retention reads, oldest first. Cursors of both are used in turn.
const (
	oldCalls     listKind = 'C'
	oldDecisions listKind = 'D'
)

// ApplyRetention runs one step of retention. It examines some of the oldest calls and,
// after the last call, some of the oldest decisions. From a call older than
// BodiesBefore it removes the CDR bodies but keeps their digests, so that an exact
// repeat is still recognized. From a call older than PersonalBefore it also removes the
// caller and the customers. It flags the changed calls. An interrupted step can be
// repeated. ApplyRetention returns storage.ErrBadCursor for an invalid cursor.
func (s *Store) ApplyRetention(ctx context.Context, step storage.RetentionStep) (result storage.RetentionResult, err error) {
	size := pageSize(step.Limit)
	err = s.do("apply retention", func(db *database) error {
		after, err := decodeCursor(oldDecisions, step.Cursor)
		if err == nil && after != nil {
			return db.stripDecisions(ctx, step.PersonalBefore, after, size, &result)
		}
		if after, err = decodeCursor(oldCalls, step.Cursor); err != nil {
			return err
		}
		return db.stripCalls(ctx, step, after, size, &result)
	})
	return result, err
}

// olderThan returns the condition for rows before a time and after a cursor, oldest
// first, with its values.
func olderThan(before time.Time, after *cursor, size int) (condition string, values []any) {
	condition, values = `at_us < ?`, []any{micros(before)}
	if after != nil {
		condition, values = condition+` AND (at_us, id) > (?, ?)`, append(values, after.at, after.id)
	}
	return condition + ` ORDER BY at_us, id LIMIT ?`, append(values, size)
}

// stripCalls removes old data from calls.
func (db *database) stripCalls(ctx context.Context, step storage.RetentionStep, after *cursor, size int, result *storage.RetentionResult) error {
	before := step.BodiesBefore
	if step.PersonalBefore.After(before) {
		before = step.PersonalBefore
	}
	condition, values := olderThan(before, after, size)
	rows, err := db.read.QueryContext(ctx, db.dialect.sql(`SELECT `+callColumns+` FROM calls WHERE `+condition), values...)
	if err != nil {
		return err
	}
	calls, err := appendRows(nil, rows, scanPlainCall)
	if err != nil {
		return err
	}
	err = db.changeRows(ctx, len(calls), func(n int) bool { return !isStripped(calls[n], step) }, func(tx *sql.Tx, n int) error {
		c := calls[n]
		flags := slices.Clone(c.Flags)
		personal := c.At().Before(step.PersonalBefore)
		if personal {
			flags = append(flags, storage.PersonalRemoved)
		}
		if personal || c.At().Before(step.BodiesBefore) {
			flags = append(flags, storage.BodiesRemoved)
		}
		slices.Sort(flags)
		if flags = slices.Compact(flags); slices.Equal(flags, c.Flags) {
			return nil
		}
		result.Calls++
		return db.stripCall(ctx, tx, c, flags, personal)
	})
	if err != nil {
		return err
	}
	switch {
	case len(calls) == size:
		result.NextCursor = callCursor(calls[size-1]).encode(oldCalls)
	case !step.PersonalBefore.IsZero():
		result.NextCursor = cursor{at: -1 << 62}.encode(oldDecisions)
	}
	return nil
}

// isStripped reports whether a call has no data left to remove.
func isStripped(c storage.Call, step storage.RetentionStep) bool {
	has := func(flag string) bool { return slices.Contains(c.Flags, flag) }
	if c.At().Before(step.PersonalBefore) {
		return has(storage.PersonalRemoved) && has(storage.BodiesRemoved)
	}
	return has(storage.BodiesRemoved)
}

// changeRows calls change for the rows that need it, all in one transaction. It starts no
// transaction if there are none.
func (db *database) changeRows(ctx context.Context, rows int, needsChange func(n int) bool, change func(tx *sql.Tx, n int) error) error {
	var work []int
	for n := range rows {
		if needsChange(n) {
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

// stripCall removes the bodies of a call and, if personal is set, its caller and
// customers. It stores the new flags.
func (db *database) stripCall(ctx context.Context, tx *sql.Tx, c storage.Call, flags []string, personal bool) error {
	encodedFlags, err := encodeList(flags)
	if err != nil {
		return err
	}
	type statement struct {
		sql    string
		values []any
	}
	statements := []statement{
		{`UPDATE calls SET flags = ? WHERE id = ? AND at_us = ?`, []any{encodedFlags, c.ID, micros(c.At())}},
		{`UPDATE call_revisions SET raw = ? WHERE of_call = ?`, []any{[]byte{}, c.ID}},
	}
	if personal {
		statements[0].sql = `UPDATE calls SET caller = '', raw_caller = '', caller_name = '', flags = ? WHERE id = ? AND at_us = ?`
		statements = append(statements,
			statement{`DELETE FROM call_customers WHERE of_call = ?`, []any{c.ID}},
			statement{`DELETE FROM call_lookups WHERE of_call = ?`, []any{c.ID}},
			statement{`DELETE FROM jobs WHERE job_key = ? AND kind = ?`, []any{c.ID, storage.EnrichmentJob}})
	}
	for _, s := range statements {
		if _, err := tx.ExecContext(ctx, db.dialect.sql(s.sql), s.values...); err != nil {
			return fmt.Errorf("strip call %s: %w", c.ID, err)
		}
	}
	return nil
}

// stripDecisions removes the callers from decisions, including the trace's reasons,
// which quote them.
func (db *database) stripDecisions(ctx context.Context, before time.Time, after *cursor, size int, result *storage.RetentionResult) error {
	condition, values := olderThan(before, after, size)
	rows, err := db.read.QueryContext(ctx, db.dialect.sql(`SELECT id, at_us, caller, raw_caller, trace FROM decisions WHERE `+condition), values...)
	if err != nil {
		return err
	}
	decisions, err := appendRows(nil, rows, func(scan func(...any) error) (r decisionRow, err error) {
		err = scan(&r.ID, &r.AtUS, &r.Caller, &r.RawCaller, &r.Trace)
		return r, err
	})
	if err != nil {
		return err
	}
	traces := make([]string, len(decisions))
	for i, r := range decisions {
		if traces[i], err = withoutReasons(r.Trace); err != nil {
			return err
		}
	}
	err = db.changeRows(ctx, len(decisions), func(n int) bool {
		return decisions[n].Caller != "" || decisions[n].RawCaller != "" || decisions[n].Trace != traces[n]
	}, func(tx *sql.Tx, n int) error {
		result.Decisions++
		_, err := tx.ExecContext(ctx, db.dialect.sql(`UPDATE decisions SET caller = '', raw_caller = '', trace = ? WHERE id = ?`), traces[n], decisions[n].ID)
		return err
	})
	if err == nil && len(decisions) == size {
		last := decisions[size-1]
		result.NextCursor = cursor{at: last.AtUS, id: last.ID}.encode(oldDecisions)
	}
	return err
}

// withoutReasons returns a trace without its reasons.
func withoutReasons(trace string) (string, error) {
	steps, err := decodeList[rules.Step](trace)
	if err != nil || len(steps) == 0 {
		return trace, err
	}
	for i := range steps {
		steps[i].Reason = ""
	}
	stripped, err := json.Marshal(steps)
	return string(stripped), err
}
