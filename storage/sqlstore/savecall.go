package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"calltracker/storage"
)

// identityColumns is how many of callColumns never change. They come first: id,
// contact_center and call_key.
const identityColumns = 3

const (
	callSQL = `SELECT ` + callColumns + ` FROM calls WHERE id = ?`

	revisionsSQL = `SELECT number, received_us, source, raw FROM call_revisions WHERE of_call = ? ORDER BY number, sha256`
)

// moveKeySQL updates the key of a call whose time has changed, which may have moved
// the call to another partition. It returns "" if there is no key table.
func moveKeySQL(hasKeyTable bool) string {
	if hasKeyTable {
		return `UPDATE call_keys SET at_us = ? WHERE call_key = ? AND contact_center = ?`
	}
	return ""
}

// updateCallSQL updates a call. If the call has no decision, it keeps the decision
// and route of the row, which may have been linked since the call was read.
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

// SaveCall stores a CDR and the call parsed from it. Both are on disk when it
// returns. The first CDR of a call creates the call, later ones are merged into it
// (storage.Merge), and an exact repeat is stored once. CDRs of the same call may be
// saved concurrently, also by several processes: the database enforces that the call
// is unique, and the later transaction merges.
//
// SaveCall links the call to its decision, if that is recorded.
//
// Concurrent calls of SaveCall share a transaction. If the context ends first, the
// CDR may or may not have been saved.
func (s *Store) SaveCall(ctx context.Context, cdr storage.ReceivedCDR) (result storage.SaveResult, err error) {
	if cdr.Call.Key == "" {
		return storage.SaveResult{}, errors.New("save call: missing key")
	}
	cdr.Call = normalizeCall(cdr.Call)
	err = s.do("save call "+cdr.Call.Key, func(db *database) (err error) {
		result, err = db.committer.save(ctx, cdr)
		return err
	})
	return result, err
}

// rowsChanged reports whether a statement changed any row.
func rowsChanged(result sql.Result, err error) (bool, error) {
	n, err := rowCount(result, err)
	return n > 0, err
}

// rowCount returns how many rows a statement changed.
func rowCount(result sql.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}
