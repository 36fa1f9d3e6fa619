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

	lockCallSQL = `SELECT ` + callColumns + `, revisions FROM calls WHERE call_key = ? AND contact_center = ?` + lockRow

	insertRevisionSQL = `INSERT INTO call_revisions (of_call, number, received_us, source, sha256, raw)
		VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (of_call, sha256) DO NOTHING`

	revisionsSQL = `SELECT number, received_us, source, raw FROM call_revisions WHERE of_call = ? ORDER BY number, sha256`
)

func insertCallSQL() string {
	columns := strings.Count(callColumns, ",") + 1
	return `INSERT INTO calls (` + callColumns + `, at_us, began_us, heard_us, revisions)
		VALUES (` + marks(columns+3) + `, 1) ON CONFLICT (call_key, contact_center) DO NOTHING`
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
	created, err := changed(tx.StmtContext(ctx, db.statements.insertCall).
		ExecContext(ctx, append(values, micros(call.At()), micros(told), micros(heard))...))
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
		if _, err := tx.StmtContext(ctx, db.statements.linkCall).ExecContext(ctx, decision, route, call.ID); err != nil {
			return storage.Saved{}, fmt.Errorf("link call: %w", err)
		}
	}
	return storage.Saved{ID: call.ID, Created: true}, nil
}

// saveAgain merges a report into the call that is there.
func (db *database) saveAgain(ctx context.Context, tx *sql.Tx, r storage.Report) (storage.Saved, error) {
	var revisions int
	row := tx.StmtContext(ctx, db.statements.lockCall).QueryRowContext(ctx, r.Call.Key, r.Call.ContactCenter)
	known, err := scanCall(row.Scan, &revisions)
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
	if _, err := tx.StmtContext(ctx, db.statements.updateCall).ExecContext(ctx, values...); err != nil {
		return storage.Saved{}, fmt.Errorf("update call: %w", err)
	}
	return saved, nil
}

// addRevision stores a body, and tells whether it was new to the call.
func (db *database) addRevision(ctx context.Context, tx *sql.Tx, call string, number int, r storage.Report) (bool, error) {
	digest := sha256.Sum256(r.Raw)
	raw := r.Raw
	if raw == nil {
		raw = []byte{}
	}
	added, err := changed(tx.StmtContext(ctx, db.statements.insertRevision).
		ExecContext(ctx, call, number, micros(r.Call.ReceivedAt), text(string(r.Source)), digest[:], raw))
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
