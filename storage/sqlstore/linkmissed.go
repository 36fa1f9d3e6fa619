package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"calltracker/storage"
)

// missedSQL finds calls, by the time of saving that their ids begin with, that
// are without a decision although there may be one. It looks coarsely: claimNear
// has the last word.
const missedSQL = `SELECT c.id, c.call_id, c.tracker, c.did, c.caller, c.began_us, c.heard_us FROM calls c
	WHERE c.id >= ? AND c.id > ? AND c.decision_id = '' AND (
		c.call_id <> '' AND EXISTS (SELECT 1 FROM decisions d
			WHERE d.call_id = c.call_id AND d.call_id <> '' AND d.linked_call = '')
		OR c.did <> '' AND EXISTS (SELECT 1 FROM decisions d
			WHERE d.did = c.did AND d.at_us BETWEEN c.began_us - ? AND c.began_us + ? AND d.linked_call = '')
		OR c.did <> '' AND c.heard_us <> 0 AND EXISTS (SELECT 1 FROM decisions d
			WHERE d.did = c.did AND d.at_us BETWEEN c.heard_us - ? AND c.heard_us + ? AND d.linked_call = ''))
	ORDER BY c.id LIMIT ?`

// missedCalls is how many calls LinkUnlinkedCalls reads at a time.
const missedCalls = 500

// LinkUnlinkedCalls links calls that were saved since then to the decisions that they
// followed, where both were stored at the same time: then neither transaction
// saw what the other one stored. It returns how many it has linked: on SQLite
// none, most likely, since its transactions come one after another. It may run
// anywhere at any time; waiting for each other instead would cost every call.
func (s *Store) LinkUnlinkedCalls(ctx context.Context, since time.Time) (linked int, err error) {
	err = s.do("link calls to decisions", func(db *database) error {
		for after := ""; ; {
			calls, err := db.missed(ctx, since, after)
			if err != nil || len(calls) == 0 {
				return err
			}
			for _, c := range calls {
				after = c.call.ID
				found, err := db.linkOne(ctx, c)
				if err != nil {
					return err
				}
				if found {
					linked++
				}
			}
		}
	})
	return linked, err
}

// missedCall is a call with the instants of began.
type missedCall struct {
	call        storage.Call
	told, heard time.Time
}

func (db *database) missed(ctx context.Context, since time.Time, after string) (calls []missedCall, err error) {
	within := linkWithin.Microseconds()
	rows, err := db.read.QueryContext(ctx, db.dialect.sql(missedSQL), firstID(since), after, within, within, within, within, missedCalls)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var (
			c           missedCall
			told, heard int64
		)
		if err := rows.Scan(&c.call.ID, &c.call.CallID, &c.call.Tracker, &c.call.DID, &c.call.Caller, &told, &heard); err != nil {
			return nil, err
		}
		c.told, c.heard = instant(told), instant(heard)
		calls = append(calls, c)
	}
	return calls, rows.Err()
}

// errTaken undoes the link of a call that has one already.
var errTaken = errors.New("the call has a decision meanwhile")

// linkOne has a transaction for each call, so that it never holds one while it
// waits for another.
func (db *database) linkOne(ctx context.Context, c missedCall) (linked bool, err error) {
	err = db.transaction(ctx, func(tx *sql.Tx) error {
		decision, route, err := db.claimNear(ctx, tx, c.call, c.told, c.heard)
		if err != nil || decision == "" {
			return err
		}
		linked, err = changed(tx.ExecContext(ctx, db.dialect.sql(linkCallSQL), decision, route, c.call.ID))
		if err == nil && !linked {
			err = errTaken
		}
		return err
	})
	switch {
	case errors.Is(err, errTaken) || passing(err): // the next time, if at all
		return false, nil
	case err != nil:
		return false, fmt.Errorf("link call %s: %w", c.call.ID, err)
	}
	return linked, nil
}
