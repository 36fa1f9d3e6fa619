package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"calltracker/storage"
)

// identityColumns is how many of callColumns never change: id, contact_center
// and call_key stand first.
const identityColumns = 3

const (
	callSQL = `SELECT ` + callColumns + ` FROM calls WHERE id = ?`

	revisionsSQL = `SELECT number, received_us, source, raw FROM call_revisions WHERE of_call = ? ORDER BY number, sha256`
)

// moveKeySQL follows a call whose time has changed, and with it maybe its
// partition.
func moveKeySQL(keyed bool) string {
	if keyed {
		return `UPDATE call_keys SET at_us = ? WHERE call_key = ? AND contact_center = ?`
	}
	return ""
}

// updateCallSQL writes a call, but for what came from a decision that was
// recorded since the call was read: having none does not undo that.
func updateCallSQL() string {
	var set strings.Builder
	for _, column := range strings.Split(callColumns, ",")[identityColumns:] {
		column = strings.TrimSpace(column)
		set.WriteString(column)
		switch column {
		case "decision_id", "route":
			set.WriteString(` = COALESCE(NULLIF(?, ''), ` + column + `), `)
		default:
			set.WriteString(` = ?, `)
		}
	}
	return `UPDATE calls SET ` + set.String() + `at_us = ?, began_us = ?, heard_us = ?, revisions = ? WHERE id = ? AND at_us = ?`
}

// SaveCall stores a body and what it says of its call; both are on disk when it
// returns. The first body of a call makes the call, another one is merged into
// it (storage.Merge), and one that came before is stored once. Reports of one
// call may be saved at the same time, here and by other processes: the call is
// unique in the database, and who comes second merges.
//
// The call is linked to the decision that it followed, if that is recorded.
//
// Reports that are saved at the same time share a transaction. When the context
// ends before the answer, the report may have been saved.
func (s *Store) SaveCall(ctx context.Context, r storage.ReceivedCDR) (saved storage.SaveResult, err error) {
	if r.Call.Key == "" {
		return storage.SaveResult{}, errors.New("save call: it has no key")
	}
	r.Call = tidy(r.Call)
	err = s.do("save call "+r.Call.Key, func(db *database) (err error) {
		saved, err = db.committer.save(ctx, r)
		return err
	})
	return saved, err
}

// changed tells whether a statement changed any row.
func changed(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}
