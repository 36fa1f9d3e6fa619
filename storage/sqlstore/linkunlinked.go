package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"calltracker/storage"
)

// linkableCallsSQL finds calls without a decision for which there may be one, by the
// time of saving in their IDs. The search is coarse; claimDecision decides.
const linkableCallsSQL = `SELECT c.id, c.call_id, c.tracker, c.did, c.caller, c.began_us, c.heard_us FROM calls c
	WHERE c.id >= ? AND c.id > ? AND c.decision_id = '' AND (
		c.call_id <> '' AND EXISTS (SELECT 1 FROM decisions d
			WHERE d.call_id = c.call_id AND d.call_id <> '' AND d.linked_call = '')
		OR c.did <> '' AND EXISTS (SELECT 1 FROM decisions d
			WHERE d.did = c.did AND d.at_us BETWEEN c.began_us - ? AND c.began_us + ? AND d.linked_call = '')
		OR c.did <> '' AND c.heard_us <> 0 AND EXISTS (SELECT 1 FROM decisions d
			WHERE d.did = c.did AND d.at_us BETWEEN c.heard_us - ? AND c.heard_us + ? AND d.linked_call = ''))
	ORDER BY c.id LIMIT ?`

// linkPageSize is how many calls LinkUnlinkedCalls reads at a time.
const linkPageSize = 500

// LinkUnlinkedCalls links calls that were saved after since to their decisions,
// and returns the number of links. SaveCall and RecordDecisions miss a link when
// they store the call and the decision at the same time, because neither
// transaction sees the other's row. Preventing that would make every call wait.
// SQLite runs its transactions one after another, so there it finds nothing.
// LinkUnlinkedCalls may run at any time, in several processes at the same time.
func (s *Store) LinkUnlinkedCalls(ctx context.Context, since time.Time) (linked int, err error) {
	err = s.do("link calls to decisions", func(db *database) error {
		for after := ""; ; {
			calls, err := db.linkableCalls(ctx, since, after)
			if err != nil || len(calls) == 0 {
				return err
			}
			for _, c := range calls {
				after = c.call.ID
				ok, err := db.linkOne(ctx, c)
				if err != nil {
					return err
				}
				if ok {
					linked++
				}
			}
		}
	})
	return linked, err
}

// linkableCall is a call with its startTimes.
type linkableCall struct {
	call                storage.Call
	reported, estimated time.Time
}

func (db *database) linkableCalls(ctx context.Context, since time.Time, after string) ([]linkableCall, error) {
	within := maxLinkDistance.Microseconds()
	rows, err := db.read.QueryContext(ctx, db.dialect.sql(linkableCallsSQL), firstID(since), after, within, within, within, within, linkPageSize)
	if err != nil {
		return nil, err
	}
	return appendRows(nil, rows, func(scan func(...any) error) (c linkableCall, err error) {
		var reported, estimated int64
		err = scan(&c.call.ID, &c.call.CallID, &c.call.Tracker, &c.call.DID, &c.call.Caller, &reported, &estimated)
		c.reported, c.estimated = instant(reported), instant(estimated)
		return c, err
	})
}

// errAlreadyLinked rolls back a link if the call was linked to another decision.
var errAlreadyLinked = errors.New("call is already linked to a decision")

// linkOne links one call in its own transaction. It never waits for a row while
// it holds the lock on another.
func (db *database) linkOne(ctx context.Context, c linkableCall) (linked bool, err error) {
	err = db.transaction(ctx, func(tx *sql.Tx) error {
		d, err := db.claimDecision(ctx, tx, c.call, c.reported, c.estimated)
		if err != nil || d.id == "" {
			return err
		}
		linked, err = rowsChanged(tx.ExecContext(ctx, db.dialect.sql(linkCallSQL), d.id, d.route, c.call.ID))
		if err == nil && !linked {
			err = errAlreadyLinked
		}
		return err
	})
	switch {
	case errors.Is(err, errAlreadyLinked) || isRetryable(err): // left to the next run
		return false, nil
	case err != nil:
		return false, fmt.Errorf("link call %s: %w", c.call.ID, err)
	}
	return linked, nil
}
