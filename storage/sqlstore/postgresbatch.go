package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"calltracker/storage"
)

// postgresBatch is the batchWriter for PostgreSQL. It uses one statement for each
// step, independent of the number of rows: values are sent as arrays, one for each
// column. Statements that do not depend on each other share a round trip.
type postgresBatch struct{ db *database }

const (
	reserveKeysSQL = `INSERT INTO call_keys (call_key, contact_center, id, at_us)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
		ON CONFLICT (call_key, contact_center) DO NOTHING RETURNING id`

	// All batches lock in the same order, which prevents deadlocks.
	lockKeysSQL = `SELECT call_keys.id, call_keys.at_us FROM call_keys
		JOIN unnest($1::text[], $2::text[]) AS wanted (call_key, contact_center) USING (call_key, contact_center)
		ORDER BY call_key, contact_center FOR UPDATE OF call_keys`

	storedCallsSQL = `SELECT ` + callColumns + `, revisions FROM calls
		WHERE (id, at_us) IN (SELECT * FROM unnest($1::text[], $2::bigint[]))`

	storedDigestsSQL = `SELECT of_call, sha256 FROM call_revisions
		WHERE (of_call, sha256) IN (SELECT * FROM unnest($1::text[], $2::bytea[]))`

	decisionsByCallIDSQL = `SELECT wanted.n, found.id, found.route
		FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS wanted (call_id, tracker, at_us, n)
		CROSS JOIN LATERAL (SELECT id, route FROM decisions d
			WHERE d.call_id = wanted.call_id AND d.call_id <> '' AND d.linked_call = '' AND (wanted.tracker = '' OR d.tracker = wanted.tracker)
			ORDER BY ABS(d.at_us - wanted.at_us), d.id LIMIT 1) AS found`

	decisionsByDIDSQL = `SELECT wanted.n, found.id, found.route
		FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS wanted (did, caller, tracker, at_us, n)
		CROSS JOIN LATERAL (SELECT id, route FROM decisions d
			WHERE d.did = wanted.did AND d.at_us BETWEEN wanted.at_us - $5::bigint AND wanted.at_us + $5::bigint AND d.linked_call = ''
			AND (wanted.tracker = '' OR d.tracker = wanted.tracker)
			AND (d.caller = wanted.caller OR d.caller = '' AND d.at_us BETWEEN wanted.at_us - $6::bigint AND wanted.at_us + $6::bigint)
			ORDER BY CASE WHEN d.caller = wanted.caller THEN 0 ELSE 1 END, ABS(d.at_us - wanted.at_us), d.id LIMIT 1) AS found`

	linkDecisionsSQL = `UPDATE decisions SET linked_call = wanted.linked_call
		FROM unnest($1::text[], $2::text[]) AS wanted (id, linked_call)
		WHERE decisions.id = wanted.id AND decisions.linked_call = '' RETURNING decisions.id`

	insertRevisionArraysSQL = `INSERT INTO call_revisions (of_call, number, received_us, source, sha256, raw)
		SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bytea[], $6::bytea[])`
)

// insertCallArraysSQL inserts calls from one array for each column.
func insertCallArraysSQL() string {
	const columns = callColumns + `, at_us, began_us, heard_us, revisions`
	var arrays []string
	for i, column := range strings.Split(columns, ",") {
		kind := "text"
		switch name := strings.TrimSpace(column); {
		case strings.HasSuffix(name, "_us"), strings.HasSuffix(name, "_time"), name == "duration", name == "revisions":
			kind = "bigint"
		}
		arrays = append(arrays, fmt.Sprintf("$%d::%s[]", i+1, kind))
	}
	return `INSERT INTO calls (` + columns + `) SELECT * FROM unnest(` + strings.Join(arrays, ", ") + `)`
}

// connRunner is a connection as a runner.
type connRunner struct{ *sql.Conn }

// StmtContext is never called: pgx prepares and caches statements itself.
func (connRunner) StmtContext(_ context.Context, statement *sql.Stmt) *sql.Stmt { return statement }

// rollbackTimeout limits the rollback of a failed transaction.
const rollbackTimeout = 2 * time.Second

// inTransaction saves two round trips: BEGIN is sent with the first statements and
// COMMIT with the last ones.
func (b postgresBatch) inTransaction(ctx context.Context, conn *sql.Conn, work func(*transaction) error) error {
	tx := &transaction{runner: connRunner{conn}, conn: conn}
	err := work(tx)
	if tx.open {
		// If even the rollback fails, the pool closes the connection.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_, _ = conn.ExecContext(ctx, "ROLLBACK")
	}
	return err
}

// begin queues BEGIN.
func (tx *transaction) begin(statements *pgx.Batch) {
	tx.open = true // even if the reply is lost
	statements.Queue("BEGIN")
}

// errRolledBack is returned if PostgreSQL answers COMMIT with a rollback.
var errRolledBack = errors.New("transaction was rolled back instead of committed")

// commit queues COMMIT, which runs after all statements queued before it.
func (tx *transaction) commit(statements *pgx.Batch) {
	statements.Queue("COMMIT").Exec(func(tag pgconn.CommandTag) error {
		if tag.String() != "COMMIT" {
			return errRolledBack
		}
		tx.open = false
		return nil
	})
}

// send sends the queued statements in one round trip and reads the replies. After an
// error the remaining statements do not run.
func (tx *transaction) send(ctx context.Context, statements *pgx.Batch) error {
	return tx.conn.Raw(func(driverConn any) error {
		conn, ok := driverConn.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("unexpected connection type %T", driverConn)
		}
		return conn.Conn().SendBatch(ctx, statements).Close()
	})
}

// load also searches for the decisions of the calls, in case the calls are new.
// Most of them are.
func (b postgresBatch) load(ctx context.Context, tx *transaction, calls []*batchCall) error {
	calls = slices.Clone(calls)
	slices.SortFunc(calls, func(a, b *batchCall) int {
		return cmp.Or(strings.Compare(a.call.Key, b.call.Key), strings.Compare(a.call.ContactCenter, b.call.ContactCenter))
	})
	var keys, contactCenters, ids []string
	var ats []int64
	for _, c := range calls {
		keys, contactCenters = append(keys, c.call.Key), append(contactCenters, c.call.ContactCenter)
		ids, ats = append(ids, c.call.ID), append(ats, c.storedAt)
	}
	newIDs := make(map[string]bool, len(calls))
	byCallID, byDID := make(map[*batchCall]decisionRef), make(map[*batchCall]decisionRef)
	var statements pgx.Batch
	tx.begin(&statements)
	statements.Queue(reserveKeysSQL, keys, contactCenters, ids, ats).Query(func(rows pgx.Rows) error {
		var id string
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error { newIDs[id] = true; return nil })
		return err
	})
	for _, search := range []struct {
		decisionSearch
		found map[*batchCall]decisionRef
	}{
		{searchByCallID(calls), byCallID},
		{searchByDID(calls, reportedStart), byDID},
	} {
		if len(search.calls) == 0 {
			continue
		}
		statements.Queue(search.statement, search.values...).Query(func(rows pgx.Rows) error {
			var n int
			var d decisionRef
			_, err := pgx.ForEachRow(rows, []any{&n, &d.id, &d.route}, func() error { search.found[search.calls[n-1]] = d; return nil })
			return err
		})
	}
	if err := tx.send(ctx, &statements); err != nil {
		return err
	}
	for _, c := range calls {
		if c.prefetched = newIDs[c.call.ID]; c.prefetched {
			c.prefetchedDecision = byDID[c]
			if d, ok := byCallID[c]; ok {
				c.prefetchedDecision = d
			}
		}
	}
	if len(newIDs) == len(calls) {
		return nil
	}
	return b.lockStored(ctx, tx, calls, newIDs)
}

// lockStored locks and reads the calls that are not new.
func (b postgresBatch) lockStored(ctx context.Context, tx *transaction, calls []*batchCall, newIDs map[string]bool) error {
	byIdentity := make(map[callIdentity]*batchCall)
	var keys, contactCenters, ids []string
	var ats []int64
	for _, c := range calls {
		if !newIDs[c.call.ID] {
			byIdentity[c.identity()] = c
			keys, contactCenters = append(keys, c.call.Key), append(contactCenters, c.call.ContactCenter)
		}
	}
	err := query{text: lockKeysSQL}.each(ctx, tx, func(scan func(...any) error) error {
		var id string
		var at int64
		err := scan(&id, &at)
		ids, ats = append(ids, id), append(ats, at)
		return err
	}, keys, contactCenters)
	if err != nil {
		return err
	}
	// Read only after locking: rows read earlier may have changed.
	byID := make(map[string]*batchCall, len(byIdentity))
	err = query{text: storedCallsSQL}.each(ctx, tx, eachCall(func(call storage.Call, revisions int) {
		c := byIdentity[callIdentity{call.Key, call.ContactCenter}]
		c.setStored(call, revisions)
		byID[call.ID] = c
	}), ids, ats)
	if err != nil {
		return err
	}
	if len(byID) != len(byIdentity) {
		return fmt.Errorf("%d of %d calls are not in the partition that call_keys names", len(byIdentity)-len(byID), len(byIdentity))
	}
	return b.loadDigests(ctx, tx, byID)
}

// loadDigests finds out which CDR bodies of the batch are stored.
func (b postgresBatch) loadDigests(ctx context.Context, tx *transaction, byID map[string]*batchCall) error {
	var callIDs []string
	var digests [][]byte
	for id, c := range byID {
		for _, r := range c.requests {
			callIDs, digests = append(callIDs, id), append(digests, r.digest[:])
		}
	}
	return query{text: storedDigestsSQL}.each(ctx, tx, func(scan func(...any) error) error {
		var id string
		var sum []byte
		if err := scan(&id, &sum); err != nil {
			return err
		}
		if len(sum) == len(digest{}) {
			byID[id].digests[digest(sum)] = true
		}
		return nil
	}, callIDs, digests)
}

func (b postgresBatch) link(ctx context.Context, tx *transaction, calls []*batchCall) error {
	for len(calls) > 0 {
		found := make(map[*batchCall]decisionRef, len(calls))
		if err := b.findDecisions(ctx, tx, calls, found); err != nil {
			return fmt.Errorf("find decisions: %w", err)
		}
		// If several calls found the same decision, the first one gets it. The
		// search is repeated for the calls from the second one on.
		var ids, callIDs []string
		byDecision := make(map[string]*batchCall, len(found))
		for len(calls) > 0 {
			d, ok := found[calls[0]]
			if ok && byDecision[d.id] != nil {
				break
			}
			if ok {
				byDecision[d.id] = calls[0]
				ids, callIDs = append(ids, d.id), append(callIDs, calls[0].call.ID)
			}
			calls = calls[1:]
		}
		if len(ids) == 0 {
			return nil
		}
		err := query{text: linkDecisionsSQL}.each(ctx, tx, func(scan func(...any) error) error {
			var id string
			if err := scan(&id); err != nil {
				return err
			}
			c := byDecision[id]
			c.setDecision(found[c])
			return nil
		}, ids, callIDs)
		if err != nil {
			return fmt.Errorf("link decisions: %w", err)
		}
	}
	return nil
}

// decisionSearch is a search for the decisions of calls. Each row of its result
// has the number of a call, starting with 1, and a decision.
type decisionSearch struct {
	statement string
	calls     []*batchCall
	values    []any
}

func searchByCallID(calls []*batchCall) decisionSearch {
	s := decisionSearch{statement: decisionsByCallIDSQL}
	var callIDs, trackers []string
	var ats []int64
	for _, c := range calls {
		if c.call.CallID != "" {
			s.calls = append(s.calls, c)
			callIDs, trackers, ats = append(callIDs, c.call.CallID), append(trackers, c.call.Tracker), append(ats, micros(reportedStart(c)))
		}
	}
	s.values = []any{callIDs, trackers, ats}
	return s
}

// searchByDID searches by DID and caller around the time that start returns.
func searchByDID(calls []*batchCall, start func(*batchCall) time.Time) decisionSearch {
	s := decisionSearch{statement: decisionsByDIDSQL}
	var dids, callers, trackers []string
	var ats []int64
	for _, c := range calls {
		at := start(c)
		if c.call.DID == "" || at.IsZero() {
			continue
		}
		s.calls = append(s.calls, c)
		dids, callers = append(dids, c.call.DID), append(callers, c.call.Caller)
		trackers, ats = append(trackers, c.call.Tracker), append(ats, micros(at))
	}
	s.values = []any{dids, callers, trackers, ats, maxLinkDistance.Microseconds(), maxLinkDistanceNoCaller.Microseconds()}
	return s
}

// reportedStart returns the first of the startTimes of a call.
func reportedStart(c *batchCall) time.Time {
	reported, _ := startTimes(c.call, c.latestSource())
	return reported
}

// estimatedStart returns the second of the startTimes of a call.
func estimatedStart(c *batchCall) time.Time {
	_, estimated := startTimes(c.call, c.latestSource())
	return estimated
}

// latestSource returns the source of the last merged CDR, or of the first CDR if
// none was merged yet.
func (c *batchCall) latestSource() storage.Source {
	if c.source == "" {
		return c.requests[0].cdr.Source
	}
	return c.source
}

// findDecisions searches like claimDecision, but for several calls, and claims
// nothing. It uses a prefetched decision only once.
func (b postgresBatch) findDecisions(ctx context.Context, tx *transaction, calls []*batchCall, found map[*batchCall]decisionRef) error {
	run := func(s decisionSearch) error {
		if len(s.calls) == 0 {
			return nil
		}
		return query{text: s.statement}.each(ctx, tx, func(scan func(...any) error) error {
			var n int
			var d decisionRef
			err := scan(&n, &d.id, &d.route)
			if err == nil {
				found[s.calls[n-1]] = d
			}
			return err
		}, s.values...)
	}
	var unsearched []*batchCall
	for _, c := range calls {
		switch {
		case !c.prefetched:
			unsearched = append(unsearched, c)
		case c.prefetchedDecision.id != "":
			found[c] = c.prefetchedDecision
		}
		c.prefetched = false
	}
	withoutDecision := func(calls []*batchCall) []*batchCall {
		return slices.DeleteFunc(slices.Clone(calls), func(c *batchCall) bool { _, ok := found[c]; return ok })
	}
	if err := run(searchByCallID(unsearched)); err != nil {
		return err
	}
	if err := run(searchByDID(withoutDecision(unsearched), reportedStart)); err != nil {
		return err
	}
	return run(searchByDID(withoutDecision(calls), estimatedStart))
}

func (b postgresBatch) insert(ctx context.Context, tx *transaction, newCalls, calls []*batchCall, jobs []jobInsert) error {
	var statements pgx.Batch
	columns, err := callArrays(newCalls)
	if err != nil {
		return err
	}
	if len(columns) > 0 {
		statements.Queue(b.db.statements.insertCallArrays, columns...)
	}
	if columns := revisionArrays(calls); columns != nil {
		statements.Queue(insertRevisionArraysSQL, columns...)
	}
	for _, j := range jobs {
		statements.Queue(b.db.dialect.sql(j.statement), j.values...)
	}
	tx.commit(&statements)
	if err := tx.send(ctx, &statements); err != nil {
		return fmt.Errorf("insert calls, revisions, and jobs: %w", err)
	}
	return nil
}

// callArrays returns the rows of calls as one array for each column.
func callArrays(calls []*batchCall) ([]any, error) {
	var columns []any
	for i, c := range calls {
		row, err := c.rowValues()
		if err != nil {
			return nil, err
		}
		if columns == nil {
			columns = make([]any, len(row))
		}
		for j, value := range row {
			switch v := value.(type) {
			case string:
				columns[j] = appendColumn(columns[j], v, len(calls))
			case int64:
				columns[j] = appendColumn(columns[j], v, len(calls))
			default:
				return nil, fmt.Errorf("column %d of call %d has unexpected type %T", j, i, value)
			}
		}
	}
	return columns, nil
}

// appendColumn appends a value to a column. A nil column is created with the given
// capacity.
func appendColumn[T any](column any, value T, capacity int) []T {
	values, ok := column.([]T)
	if !ok {
		values = make([]T, 0, capacity)
	}
	return append(values, value)
}

// revisionArrays returns the new revisions of the calls as one array for each
// column, or nil if there are none.
func revisionArrays(calls []*batchCall) []any {
	var (
		callIDs, sources  []string
		numbers, received []int64
		digests, bodies   [][]byte
	)
	for _, c := range calls {
		for _, r := range c.newRevisions {
			callIDs, numbers = append(callIDs, c.call.ID), append(numbers, int64(r.number))
			received = append(received, micros(r.request.cdr.Call.ReceivedAt))
			sources = append(sources, cleanText(string(r.request.cdr.Source)))
			digests, bodies = append(digests, r.request.digest[:]), append(bodies, r.body())
		}
	}
	if len(callIDs) == 0 {
		return nil
	}
	return []any{callIDs, numbers, received, sources, digests, bodies}
}
