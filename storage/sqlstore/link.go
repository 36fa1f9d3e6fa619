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

// Linking finds the decision for a call. If Ziwo sent the same callID with both,
// the callID decides; otherwise DID, caller, and time do. Ziwo documents only the
// DID of a start call (https://www.ziwo.io/api-integration-developers/). A decision
// without a caller is therefore linked by DID and time, within a shorter interval,
// and only if there is none with the caller. A call and a decision of different
// trackers are never linked. A call from the webhook has no tracker and may be
// linked to a decision of any tracker.
const (
	maxLinkDistance         = 5 * time.Minute
	maxLinkDistanceNoCaller = time.Minute
)

// linkReportedMargin is how long before its decision a call may have been reported.
// A call ends after its decision, but the clocks of two replicas differ.
const linkReportedMargin = 2 * maxLinkDistance

// maxLateLinks limits the number of calls that one batch of decisions reads.
const maxLateLinks = 1000

const (
	decisionByCallIDSQL = `SELECT id, route FROM decisions
		WHERE call_id = ? AND call_id <> '' AND linked_call = '' AND (? = '' OR tracker = ?)
		ORDER BY ABS(at_us - ?), id LIMIT 1`

	decisionByDIDSQL = `SELECT id, route FROM decisions
		WHERE did = ? AND at_us BETWEEN ? AND ? AND linked_call = '' AND (? = '' OR tracker = ?)
		AND (caller = ? OR caller = '' AND at_us BETWEEN ? AND ?)
		ORDER BY CASE WHEN caller = ? THEN 0 ELSE 1 END, ABS(at_us - ?), id LIMIT 1`

	linkDecisionSQL = `UPDATE decisions SET linked_call = ? WHERE id = ? AND linked_call = ''`

	unlinkDecisionSQL = `UPDATE decisions SET linked_call = '' WHERE id = ? AND linked_call = ?`

	linkCallSQL = `UPDATE calls SET decision_id = ?, route = ? WHERE id = ? AND decision_id = ''`
)

// startTimes returns the times around which to search for the decision of a call.
// reported is the start of the call as Ziwo reports it. Decisions are dated by our
// clock, which may differ from Ziwo's, and a test may send a CDR that is years old.
// endCall arrives when the call ends, so its arrival and the duration give a second
// time: estimated. It is zero unless the two are far apart.
func startTimes(c storage.Call, source storage.Source) (reported, estimated time.Time) {
	length := time.Duration(c.Duration) * time.Second
	switch {
	case !c.StartedAt.IsZero():
		reported = c.StartedAt
	case !c.EndedAt.IsZero():
		reported = c.EndedAt.Add(-length)
	default:
		return c.ReceivedAt, time.Time{}
	}
	if byArrival := c.ReceivedAt.Add(-length); source == storage.FromEndCall && reported.Sub(byArrival).Abs() > maxLinkDistance {
		estimated = byArrival
	}
	return reported, estimated
}

// claimDecision finds the decision for a call around the times of startTimes and
// stores the call in it. The caller must store the decision in the call. The result
// is zero if there is no decision.
func (db *database) claimDecision(ctx context.Context, tx runner, c storage.Call, reported, estimated time.Time) (d decisionRef, err error) {
	err = sql.ErrNoRows
	if c.CallID != "" {
		err = db.statements.decisionByCallID.
			row(ctx, tx, c.CallID, c.Tracker, c.Tracker, micros(reported)).Scan(&d.id, &d.route)
	}
	for _, at := range []time.Time{reported, estimated} {
		if !errors.Is(err, sql.ErrNoRows) || c.DID == "" || at.IsZero() {
			break
		}
		err = db.statements.decisionByDID.row(ctx, tx,
			c.DID, micros(at.Add(-maxLinkDistance)), micros(at.Add(maxLinkDistance)), c.Tracker, c.Tracker,
			c.Caller, micros(at.Add(-maxLinkDistanceNoCaller)), micros(at.Add(maxLinkDistanceNoCaller)),
			c.Caller, micros(at)).Scan(&d.id, &d.route)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return decisionRef{}, nil
	}
	if err != nil {
		return decisionRef{}, fmt.Errorf("find decision: %w", err)
	}
	claimed, err := rowsChanged(db.statements.linkDecision.exec(ctx, tx, c.ID, d.id))
	if err != nil {
		return decisionRef{}, fmt.Errorf("link decision: %w", err)
	}
	if !claimed { // another call has claimed it since the search
		return decisionRef{}, nil
	}
	return d, nil
}

// linkLate links decisions to calls that were saved before them. That happens
// because decisions are recorded in the background.
func (db *database) linkLate(ctx context.Context, tx *sql.Tx, decisions []storage.Decision) error {
	calls, err := db.unlinkedCalls(ctx, tx, decisions)
	if err != nil || len(calls) == 0 {
		return err
	}
	for _, l := range matchCalls(calls, decisions) {
		claimed, err := rowsChanged(db.statements.linkDecisionLate.exec(ctx, tx, l.call.ID, l.decision.ID))
		if err != nil {
			return fmt.Errorf("link decision: %w", err)
		}
		if !claimed { // already linked
			continue
		}
		linked, err := rowsChanged(db.statements.linkLate.exec(ctx, tx, l.decision.ID, l.decision.Route, l.call.ID))
		if err != nil {
			return fmt.Errorf("link call: %w", err)
		}
		if linked {
			continue
		}
		// Another CDR of the call has linked it to another decision.
		if _, err := tx.ExecContext(ctx, db.dialect.sql(unlinkDecisionSQL), l.decision.ID, l.call.ID); err != nil {
			return fmt.Errorf("unlink decision: %w", err)
		}
	}
	return nil
}

// unlinkedCalls returns the calls without a decision to which the decisions may
// belong. It sets only the fields that matchCalls needs.
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
		rows, err := tx.QueryContext(ctx, db.dialect.sql(unlinkedByCallIDSQL(len(callIDs), db.dialect.hasKeyTable)), slices.Concat(callIDs, []any{maxLateLinks})...)
		if err != nil {
			return nil, fmt.Errorf("find calls by callID: %w", err)
		}
		if calls, err = appendRows(calls, rows, scanUnlinked); err != nil {
			return nil, err
		}
	}
	for _, column := range []string{"began_us", "heard_us"} {
		if len(dids) == 0 {
			break
		}
		rows, err := tx.QueryContext(ctx, db.dialect.sql(unlinkedByDIDSQL(db.dialect, column, len(dids))),
			slices.Concat([]any{micros(first.Add(-linkReportedMargin))}, dids, []any{micros(first.Add(-maxLinkDistance)), micros(last.Add(maxLinkDistance)), maxLateLinks})...)
		if err != nil {
			return nil, fmt.Errorf("find calls by DID: %w", err)
		}
		if calls, err = appendRows(calls, rows, scanUnlinked); err != nil {
			return nil, err
		}
	}
	return calls, nil
}

// unlinkedByCallIDSQL searches by the call key, which is the callID if there is one.
func unlinkedByCallIDSQL(callIDs int, hasKeyTable bool) string {
	if hasKeyTable {
		return `SELECT id, call_id, tracker, did, caller, began_us FROM calls WHERE decision_id = ''
			AND (id, at_us) IN (SELECT id, at_us FROM call_keys WHERE call_key IN (` + placeholders(callIDs) + `)) ORDER BY began_us DESC, id LIMIT ?`
	}
	return `SELECT id, call_id, tracker, did, caller, began_us FROM calls
		WHERE decision_id = '' AND call_key IN (` + placeholders(callIDs) + `) ORDER BY began_us DESC, id LIMIT ?`
}

// unlinkedByDIDSQL searches by one of the columns with startTimes, among the calls
// that were reported after a given time. It uses the index by received_us, in which
// the calls of one minute are adjacent. With an index by DID, each call would cost a
// page read.
func unlinkedByDIDSQL(d *dialect, column string, dids int) string {
	return `SELECT id, call_id, tracker, did, caller, ` + column + ` FROM calls
		WHERE decision_id = '' AND received_us >= ? AND ` + d.unindexed("did") + ` IN (` + placeholders(dids) + `) AND ` + column + ` BETWEEN ? AND ? AND ` + column + ` <> 0
		ORDER BY ` + column + ` DESC, id LIMIT ?`
}

// scanUnlinked reads one call. It sets StartedAt to the time by which the call was found.
func scanUnlinked(scan func(...any) error) (c storage.Call, err error) {
	var us int64
	err = scan(&c.ID, &c.CallID, &c.Tracker, &c.DID, &c.Caller, &us)
	c.StartedAt = instant(us)
	return c, err
}

// link is a possible pair of a call and a decision. The lower rank is better; with
// the same rank, the shorter distance is.
type link struct {
	call     *storage.Call
	decision *storage.Decision
	rank     int
	distance time.Duration
}

// matchCalls pairs calls and decisions, best pairs first. Each call and each
// decision is in at most one pair. The preference is the same as in claimDecision.
func matchCalls(calls []storage.Call, decisions []storage.Decision) []link {
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
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.distance, b.distance),
			cmp.Compare(a.decision.ID, b.decision.ID), cmp.Compare(a.call.ID, b.call.ID))
	})
	linked := make(map[string]bool) // IDs of calls and decisions
	best := candidates[:0]
	for _, l := range candidates {
		if !linked[l.call.ID] && !linked[l.decision.ID] {
			linked[l.call.ID], linked[l.decision.ID] = true, true
			best = append(best, l)
		}
	}
	return best
}

// linkRank reports whether a decision may belong to a call, and how well they match:
// rank 0 is by callID, 1 by caller, DID, and time, 2 by DID and time alone.
func linkRank(c *storage.Call, d *storage.Decision) (rank int, ok bool) {
	distance := c.StartedAt.Sub(d.At).Abs()
	switch {
	case c.Tracker != "" && c.Tracker != d.Tracker:
		return 0, false
	case c.CallID != "" && c.CallID == d.CallID:
		return 0, true
	case c.DID == "" || c.DID != d.DID:
		return 0, false
	case c.Caller == d.Caller:
		return 1, distance <= maxLinkDistance
	case d.Caller == "":
		return 2, distance <= maxLinkDistanceNoCaller
	default:
		return 0, false
	}
}
