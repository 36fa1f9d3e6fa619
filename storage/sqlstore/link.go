package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"calltracker/storage"
)

// A decision and the call that followed are linked by the callID, if Ziwo sent
// it with both, else by DID, caller and time. Ziwo documents only the DID of a
// start call (https://www.ziwo.io/api-integration-developers/), so a decision
// without a caller is linked by DID and time, within a shorter time and after
// those with the caller. Two trackers are never mixed, unless the call came by
// the webhook, which knows none.
const (
	linkWithin     = 5 * time.Minute
	linkCallerless = time.Minute
)

// linkReported is how long before a decision its call may have been reported: a
// call that has ended was decided on, but the clocks of two replicas differ.
const linkReported = 2 * linkWithin

// maxLateLinks bounds how many calls one batch of decisions looks at.
const maxLateLinks = 1000

const (
	decisionByCallIDSQL = `SELECT id, route FROM decisions
		WHERE call_id = ? AND call_id <> '' AND linked_call = '' AND (? = '' OR tracker = ?)
		ORDER BY ABS(at_us - ?), id LIMIT 1`

	decisionNearSQL = `SELECT id, route FROM decisions
		WHERE did = ? AND at_us BETWEEN ? AND ? AND linked_call = '' AND (? = '' OR tracker = ?)
		AND (caller = ? OR caller = '' AND at_us BETWEEN ? AND ?)
		ORDER BY CASE WHEN caller = ? THEN 0 ELSE 1 END, ABS(at_us - ?), id LIMIT 1`

	linkDecisionSQL = `UPDATE decisions SET linked_call = ? WHERE id = ? AND linked_call = ''`

	unlinkDecisionSQL = `UPDATE decisions SET linked_call = '' WHERE id = ? AND linked_call = ?`

	linkCallSQL = `UPDATE calls SET decision_id = ?, route = ? WHERE id = ? AND decision_id = ''`
)

// began is the instants around which the decision of a call is looked for. Ziwo
// tells when the call started. Its clock may differ from ours, by which the
// decision was dated, and a test may send a record of years ago: since endCall
// comes when the call ends, our clock tells as well. Where the two are far apart,
// heard is that instant, else zero.
func began(c storage.Call, source storage.Source) (told, heard time.Time) {
	length := time.Duration(c.Duration) * time.Second
	switch {
	case !c.StartedAt.IsZero():
		told = c.StartedAt
	case !c.EndedAt.IsZero():
		told = c.EndedAt.Add(-length)
	default:
		return c.ReceivedAt, time.Time{}
	}
	if ours := c.ReceivedAt.Add(-length); source == storage.FromEndCall && told.Sub(ours).Abs() > linkWithin {
		heard = ours
	}
	return told, heard
}

// claimDecision finds the decision that a call followed and writes the call into
// it; the other half of the link is for the caller to write. It returns "" when
// there is none.
func (db *database) claimDecision(ctx context.Context, tx runner, c storage.Call, source storage.Source) (id, route string, err error) {
	told, heard := began(c, source)
	return db.claimNear(ctx, tx, c, told, heard)
}

// claimNear is claimDecision around the instants of began.
func (db *database) claimNear(ctx context.Context, tx runner, c storage.Call, told, heard time.Time) (id, route string, err error) {
	err = sql.ErrNoRows
	if c.CallID != "" {
		err = db.statements.decisionByCallID.
			row(ctx, tx, c.CallID, c.Tracker, c.Tracker, micros(told)).Scan(&id, &route)
	}
	for _, at := range []time.Time{told, heard} {
		if !errors.Is(err, sql.ErrNoRows) || c.DID == "" || at.IsZero() {
			break
		}
		err = db.statements.decisionNear.row(ctx, tx,
			c.DID, micros(at.Add(-linkWithin)), micros(at.Add(linkWithin)), c.Tracker, c.Tracker,
			c.Caller, micros(at.Add(-linkCallerless)), micros(at.Add(linkCallerless)),
			c.Caller, micros(at)).Scan(&id, &route)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return "", "", nil
	}
	if err != nil {
		return "", "", fmt.Errorf("find decision: %w", err)
	}
	claimed, err := changed(db.statements.linkDecision.exec(ctx, tx, c.ID, id))
	if err != nil {
		return "", "", fmt.Errorf("link decision: %w", err)
	}
	if !claimed { // another call took it meanwhile
		return "", "", nil
	}
	return id, route, nil
}

// linkLate links decisions that were just recorded to calls that were saved
// before them. Decisions are recorded in the background, so that may happen.
func (db *database) linkLate(ctx context.Context, tx *sql.Tx, decisions []storage.Decision) error {
	calls, err := db.unlinkedCalls(ctx, tx, decisions)
	if err != nil || len(calls) == 0 {
		return err
	}
	for _, l := range matches(calls, decisions) {
		claimed, err := changed(db.statements.linkDecisionLate.exec(ctx, tx, l.call.ID, l.decision.ID))
		if err != nil {
			return fmt.Errorf("link decision: %w", err)
		}
		if !claimed { // recorded and linked before
			continue
		}
		linked, err := changed(db.statements.linkLate.exec(ctx, tx, l.decision.ID, l.decision.Route, l.call.ID))
		if err != nil {
			return fmt.Errorf("link call: %w", err)
		}
		if linked {
			continue
		}
		// Another body of the call has linked it to another decision meanwhile.
		if _, err := tx.ExecContext(ctx, db.dialect.sql(unlinkDecisionSQL), l.decision.ID, l.call.ID); err != nil {
			return fmt.Errorf("leave decision: %w", err)
		}
	}
	return nil
}

// unlinkedCalls are the calls without a decision that the decisions may belong
// to, with as much of them as matches needs.
func (db *database) unlinkedCalls(ctx context.Context, tx *sql.Tx, decisions []storage.Decision) ([]storage.Call, error) {
	var callIDs, dids []any
	first, last := decisions[0].At, decisions[0].At
	seen := make(map[string]bool, len(decisions))
	for _, d := range decisions {
		if d.CallID != "" {
			callIDs = append(callIDs, d.CallID)
		}
		if d.DID != "" && !seen[d.DID] {
			seen[d.DID] = true
			dids = append(dids, d.DID)
		}
		if d.At.Before(first) {
			first = d.At
		}
		if d.At.After(last) {
			last = d.At
		}
	}
	var calls []storage.Call
	if len(callIDs) > 0 {
		rows, err := tx.QueryContext(ctx, db.dialect.sql(unlinkedByCallIDSQL(len(callIDs), db.dialect.keyed)), slices.Concat(callIDs, []any{maxLateLinks})...)
		if err != nil {
			return nil, fmt.Errorf("find calls by callID: %w", err)
		}
		if calls, err = appendUnlinked(calls, rows); err != nil {
			return nil, err
		}
	}
	for _, column := range []string{"began_us", "heard_us"} {
		if len(dids) == 0 {
			break
		}
		rows, err := tx.QueryContext(ctx, db.dialect.sql(unlinkedByDIDSQL(db.dialect, column, len(dids))),
			slices.Concat([]any{micros(first.Add(-linkReported))}, dids, []any{micros(first.Add(-linkWithin)), micros(last.Add(linkWithin)), maxLateLinks})...)
		if err != nil {
			return nil, fmt.Errorf("find calls by DID: %w", err)
		}
		if calls, err = appendUnlinked(calls, rows); err != nil {
			return nil, err
		}
	}
	return calls, nil
}

// unlinkedByCallIDSQL reads by the key, which is the callID where there is one.
func unlinkedByCallIDSQL(callIDs int, keyed bool) string {
	if keyed {
		return `SELECT id, call_id, tracker, did, caller, began_us FROM calls WHERE decision_id = ''
			AND (id, at_us) IN (SELECT id, at_us FROM call_keys WHERE call_key IN (` + marks(callIDs) + `)) ORDER BY began_us DESC, id LIMIT ?`
	}
	return `SELECT id, call_id, tracker, did, caller, began_us FROM calls
		WHERE decision_id = '' AND call_key IN (` + marks(callIDs) + `) ORDER BY began_us DESC, id LIMIT ?`
}

// unlinkedByDIDSQL reads by one of the instants of began, and of the calls that
// were reported after a decision only: the calls of one minute stand together in
// that index, while each would cost a page in one by DID.
func unlinkedByDIDSQL(d *dialect, column string, dids int) string {
	return `SELECT id, call_id, tracker, did, caller, ` + column + ` FROM calls
		WHERE decision_id = '' AND received_us >= ? AND ` + d.unindexed("did") + ` IN (` + marks(dids) + `) AND ` + column + ` BETWEEN ? AND ? AND ` + column + ` <> 0
		ORDER BY ` + column + ` DESC, id LIMIT ?`
}

// appendUnlinked reads calls; the instant by which each was found is its start.
func appendUnlinked(calls []storage.Call, rows *sql.Rows) ([]storage.Call, error) {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var (
			c  storage.Call
			us int64
		)
		if err := rows.Scan(&c.ID, &c.CallID, &c.Tracker, &c.DID, &c.Caller, &us); err != nil {
			return nil, err
		}
		c.StartedAt = instant(us)
		calls = append(calls, c)
	}
	return calls, rows.Err()
}

// link is a call and a decision that may belong together; the smaller rank and
// then the smaller distance in time is the better.
type link struct {
	call     *storage.Call
	decision *storage.Decision
	rank     int
	apart    time.Duration
}

// matches pairs calls and decisions, best pairs first, each at most once. It
// prefers as the statements of claimDecision do.
func matches(calls []storage.Call, decisions []storage.Decision) []link {
	var candidates []link
	for i := range calls {
		for j := range decisions {
			c, d := &calls[i], &decisions[j]
			if rank, ok := linkRank(c, d); ok {
				candidates = append(candidates, link{c, d, rank, c.StartedAt.Sub(d.At).Abs()})
			}
		}
	}
	slices.SortFunc(candidates, func(a, b link) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.apart, b.apart),
			cmp.Compare(a.decision.ID, b.decision.ID), cmp.Compare(a.call.ID, b.call.ID))
	})
	linked := make(map[string]bool) // ids of calls and of decisions
	best := candidates[:0]
	for _, l := range candidates {
		if !linked[l.call.ID] && !linked[l.decision.ID] {
			linked[l.call.ID], linked[l.decision.ID] = true, true
			best = append(best, l)
		}
	}
	return best
}

// linkRank tells whether a call may have followed a decision, and how sure that
// is: 0 by callID, 1 by caller, 2 by DID and time alone.
func linkRank(c *storage.Call, d *storage.Decision) (int, bool) {
	apart := c.StartedAt.Sub(d.At).Abs()
	switch {
	case c.Tracker != "" && c.Tracker != d.Tracker:
		return 0, false
	case c.CallID != "" && c.CallID == d.CallID:
		return 0, true
	case c.DID == "" || c.DID != d.DID:
		return 0, false
	case c.Caller == d.Caller:
		return 1, apart <= linkWithin
	case d.Caller == "":
		return 2, apart <= linkCallerless
	default:
		return 0, false
	}
}
