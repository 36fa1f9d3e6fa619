package sqlstore

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"calltracker/storage"
)

// identityColumns is how many of callColumns never change: id, contact_center
// and call_key stand first.
const identityColumns = 3

const (
	callSQL = `SELECT ` + callColumns + ` FROM calls WHERE id = ?`

	insertRevisionSQL = `INSERT INTO call_revisions (of_call, number, received_us, source, sha256, raw)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (of_call, sha256) DO NOTHING`

	revisionsSQL = `SELECT number, received_us, source, raw FROM call_revisions WHERE of_call = ? ORDER BY number, sha256`
)

// insertCallSQL inserts a call unless its key is taken.
func insertCallSQL(keyed bool) string {
	columns := strings.Count(callColumns, ",") + 1
	if keyed {
		return `WITH fresh AS (INSERT INTO call_keys (call_key, contact_center, id, at_us) VALUES (?, ?, ?, ?)
				ON CONFLICT (call_key, contact_center) DO NOTHING RETURNING id)
			INSERT INTO calls (` + callColumns + `, at_us, began_us, heard_us, revisions)
			SELECT ` + typedMarks() + `, ?::bigint, ?::bigint, ?::bigint, 1 FROM fresh`
	}
	return `INSERT INTO calls (` + callColumns + `, at_us, began_us, heard_us, revisions)
		VALUES (` + marks(columns+3) + `, 1) ON CONFLICT (call_key, contact_center) DO NOTHING`
}

// typedMarks are marks for callColumns, with the types that PostgreSQL cannot
// tell where they are not next to the columns.
func typedMarks() string {
	columns := strings.Split(callColumns, ",")
	for i, column := range columns {
		columns[i] = "?::text"
		if name := strings.TrimSpace(column); strings.HasSuffix(name, "_us") || strings.HasSuffix(name, "_time") || name == "duration" {
			columns[i] = "?::bigint"
		}
	}
	return strings.Join(columns, ", ")
}

// lockKeySQL finds a call by its key, and keeps others from changing it; "" where
// writers come one after another in any case.
func lockKeySQL(keyed bool) string {
	if keyed {
		return `SELECT id, at_us FROM call_keys WHERE call_key = ? AND contact_center = ? FOR UPDATE`
	}
	return ""
}

func lockCallSQL(keyed bool) string {
	if keyed {
		return `SELECT ` + callColumns + `, revisions FROM calls WHERE id = ? AND at_us = ?`
	}
	return `SELECT ` + callColumns + `, revisions FROM calls WHERE call_key = ? AND contact_center = ?`
}

// moveKeySQL follows a call whose time has changed, and with it maybe its
// partition.
func moveKeySQL(keyed bool) string {
	if keyed {
		return `UPDATE call_keys SET at_us = ? WHERE call_key = ? AND contact_center = ?`
	}
	return ""
}

func updateCallSQL() string {
	columns := strings.Split(callColumns, ",")[identityColumns:]
	return `UPDATE calls SET ` + strings.Join(columns, ` = ?,`) + ` = ?, at_us = ?, began_us = ?, heard_us = ?, revisions = ? WHERE id = ?`
}

// SaveCall stores a body and what it says of its call; both are on disk when it
// returns. The first body of a call makes the call, another one is merged into
// it (storage.Merge), and one that came before is stored once. Reports of one
// call may be saved at the same time, here and by other processes: the call is
// unique in the database, and who comes second merges.
//
// The call is linked to the decision that it followed, if that is recorded.
func (s *Store) SaveCall(ctx context.Context, r storage.Report) (storage.Saved, error) {
	if r.Call.Key == "" {
		return storage.Saved{}, errors.New("save call: it has no key")
	}
	r.Call = tidy(r.Call)
	var saved storage.Saved
	err := s.do("save call "+r.Call.Key, func(db *database) error {
		return db.transaction(ctx, func(tx *sql.Tx) (err error) {
			saved, err = db.save(ctx, tx, r)
			return err
		})
	})
	if err != nil {
		return storage.Saved{}, err
	}
	return saved, nil
}

// save is SaveCall within a transaction.
func (db *database) save(ctx context.Context, tx *sql.Tx, r storage.Report) (storage.Saved, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return storage.Saved{}, fmt.Errorf("make id: %w", err)
	}
	call := r.Call
	call.ID, call.Decision, call.Route = id.String(), "", ""

	values, err := callValues(call)
	if err != nil {
		return storage.Saved{}, err
	}
	told, heard := began(call, r.Source)
	at := micros(call.At())
	values = append(values, at, micros(told), micros(heard))
	if db.dialect.keyed {
		values = append([]any{call.Key, call.ContactCenter, call.ID, at}, values...)
	}
	created, err := changed(db.statements.insertCall.exec(ctx, tx, values...))
	if err != nil {
		return storage.Saved{}, fmt.Errorf("insert call: %w", err)
	}
	if !created {
		return db.saveAgain(ctx, tx, r)
	}
	if _, err := db.addRevision(ctx, tx, call.ID, 1, r); err != nil {
		return storage.Saved{}, err
	}
	decision, route, err := db.claimDecision(ctx, tx, call, r.Source)
	if err != nil {
		return storage.Saved{}, err
	}
	if decision != "" {
		if _, err := db.statements.linkCall.exec(ctx, tx, decision, route, call.ID); err != nil {
			return storage.Saved{}, fmt.Errorf("link call: %w", err)
		}
	}
	return storage.Saved{ID: call.ID, Created: true}, nil
}

// saveAgain merges a report into the call that is there.
func (db *database) saveAgain(ctx context.Context, tx *sql.Tx, r storage.Report) (storage.Saved, error) {
	var revisions int
	known, err := db.lockCall(ctx, tx, r.Call.Key, r.Call.ContactCenter, &revisions)
	if err != nil {
		return storage.Saved{}, fmt.Errorf("read call: %w", err)
	}
	revised, err := db.addRevision(ctx, tx, known.ID, revisions+1, r)
	if err != nil {
		return storage.Saved{}, err
	}
	merged := storage.Complete(known, r.Call)
	if revised {
		merged = storage.Merge(known, r.Call)
		revisions++
	}
	if merged.Decision == "" {
		if merged.Decision, merged.Route, err = db.claimDecision(ctx, tx, merged, r.Source); err != nil {
			return storage.Saved{}, err
		}
	}
	saved := storage.Saved{ID: known.ID, Revised: revised}

	before, err := callValues(known)
	if err != nil {
		return storage.Saved{}, err
	}
	after, err := callValues(merged)
	if err != nil {
		return storage.Saved{}, err
	}
	if !revised && slices.Equal(before, after) {
		return saved, nil
	}
	told, heard := began(merged, r.Source)
	values := append(after[identityColumns:], micros(merged.At()), micros(told), micros(heard), revisions, merged.ID)
	if _, err := db.statements.updateCall.exec(ctx, tx, values...); err != nil {
		return storage.Saved{}, fmt.Errorf("update call: %w", err)
	}
	if at := micros(merged.At()); db.dialect.keyed && at != micros(known.At()) {
		if _, err := db.statements.moveKey.exec(ctx, tx, at, merged.Key, merged.ContactCenter); err != nil {
			return storage.Saved{}, fmt.Errorf("move key: %w", err)
		}
	}
	return saved, nil
}

// lockCall reads a call that is there and keeps other writers from it until the
// transaction ends. The row is read after the lock was had: what it was before
// another writer let go of it does not count.
func (db *database) lockCall(ctx context.Context, tx *sql.Tx, key, contactCenter string, revisions *int) (storage.Call, error) {
	row := func() *sql.Row { return db.statements.lockCall.row(ctx, tx, key, contactCenter) }
	if db.dialect.keyed {
		var (
			id string
			at int64
		)
		if err := db.statements.lockKey.row(ctx, tx, key, contactCenter).Scan(&id, &at); err != nil {
			return storage.Call{}, err
		}
		row = func() *sql.Row { return db.statements.lockCall.row(ctx, tx, id, at) }
	}
	return scanCall(row().Scan, revisions)
}

// addRevision stores a body, and tells whether it was new to the call.
func (db *database) addRevision(ctx context.Context, tx *sql.Tx, call string, number int, r storage.Report) (bool, error) {
	digest := sha256.Sum256(r.Raw)
	raw := r.Raw
	if raw == nil {
		raw = []byte{}
	}
	added, err := changed(db.statements.insertRevision.
		exec(ctx, tx, call, number, micros(r.Call.ReceivedAt), text(string(r.Source)), digest[:], raw))
	if err != nil {
		return false, fmt.Errorf("insert revision: %w", err)
	}
	return added, nil
}

// changed tells whether a statement changed any row.
func changed(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
