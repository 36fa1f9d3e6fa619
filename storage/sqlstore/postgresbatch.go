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

// postgresBatch sends a batch with one statement for each thing to do, whatever
// the number of rows: values travel as arrays, one for each column. Statements that
// need not know of each other travel together.
type postgresBatch struct{ db *database }

const (
	reserveKeysSQL = `INSERT INTO call_keys (call_key, contact_center, id, at_us)
		SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
		ON CONFLICT (call_key, contact_center) DO NOTHING RETURNING id`

	// In the order in which all batches lock, so that none waits for the other.
	lockKeysSQL = `SELECT call_keys.id, call_keys.at_us FROM call_keys
		JOIN unnest($1::text[], $2::text[]) AS wanted (call_key, contact_center) USING (call_key, contact_center)
		ORDER BY call_key, contact_center FOR UPDATE OF call_keys`

	lockedCallsSQL = `SELECT ` + callColumns + `, revisions FROM calls
		WHERE (id, at_us) IN (SELECT * FROM unnest($1::text[], $2::bigint[]))`

	hasBodiesSQL = `SELECT of_call, sha256 FROM call_revisions
		WHERE (of_call, sha256) IN (SELECT * FROM unnest($1::text[], $2::bytea[]))`

	decisionsByCallIDSQL = `SELECT wanted.n, found.id, found.route
		FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS wanted (call_id, tracker, at_us, n)
		CROSS JOIN LATERAL (SELECT id, route FROM decisions d
			WHERE d.call_id = wanted.call_id AND d.call_id <> '' AND d.linked_call = '' AND (wanted.tracker = '' OR d.tracker = wanted.tracker)
			ORDER BY ABS(d.at_us - wanted.at_us), d.id LIMIT 1) AS found`

	decisionsNearSQL = `SELECT wanted.n, found.id, found.route
		FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS wanted (did, caller, tracker, at_us, n)
		CROSS JOIN LATERAL (SELECT id, route FROM decisions d
			WHERE d.did = wanted.did AND d.at_us BETWEEN wanted.at_us - $5::bigint AND wanted.at_us + $5::bigint AND d.linked_call = ''
			AND (wanted.tracker = '' OR d.tracker = wanted.tracker)
			AND (d.caller = wanted.caller OR d.caller = '' AND d.at_us BETWEEN wanted.at_us - $6::bigint AND wanted.at_us + $6::bigint)
			ORDER BY CASE WHEN d.caller = wanted.caller THEN 0 ELSE 1 END, ABS(d.at_us - wanted.at_us), d.id LIMIT 1) AS found`

	linkDecisionsSQL = `UPDATE decisions SET linked_call = wanted.linked_call
		FROM unnest($1::text[], $2::text[]) AS wanted (id, linked_call)
		WHERE decisions.id = wanted.id AND decisions.linked_call = '' RETURNING decisions.id`

	addRevisionsSQL = `INSERT INTO call_revisions (of_call, number, received_us, source, sha256, raw)
		SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bytea[], $6::bytea[])`
)

// addCallsSQL takes an array for each column of a row of calls.
func addCallsSQL() string {
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

// session is a connection as a runner.
type session struct{ *sql.Conn }

// StmtContext is for databases whose statements are prepared: pgx remembers them
// by itself.
func (session) StmtContext(_ context.Context, statement *sql.Stmt) *sql.Stmt { return statement }

// rollbackLimit is how long a transaction that failed may take to end.
const rollbackLimit = 2 * time.Second

// within has the transaction begin with the first statements, and commit with the
// last: neither is a journey of its own.
func (b postgresBatch) within(ctx context.Context, on *sql.Conn, work func(*transaction) error) error {
	tx := &transaction{runner: session{on}, on: on}
	err := work(tx)
	if tx.open {
		// What cannot even be rolled back is closed when it goes back to its pool.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackLimit)
		defer cancel()
		_, _ = on.ExecContext(ctx, "ROLLBACK")
	}
	return err
}

// begin queues the begin of the transaction.
func (tx *transaction) begin(queued *pgx.Batch) {
	tx.open = true // even if the answer gets lost
	queued.Queue("BEGIN")
}

// errRolledBack is a COMMIT that did not.
var errRolledBack = errors.New("the transaction was rolled back instead of committed")

// commit queues the commit of the transaction, which is done when all before it
// in the queue is.
func (tx *transaction) commit(queued *pgx.Batch) {
	queued.Queue("COMMIT").Exec(func(did pgconn.CommandTag) error {
		if did.String() != "COMMIT" {
			return errRolledBack
		}
		tx.open = false
		return nil
	})
}

// pipeline sends what is queued in one journey, and reads the answers. After an
// error nothing more of it is done.
func (tx *transaction) pipeline(ctx context.Context, queued *pgx.Batch) error {
	return tx.on.Raw(func(driver any) error {
		on, ok := driver.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("a connection is a %T", driver)
		}
		return on.Conn().SendBatch(ctx, queued).Close()
	})
}

// reserve also looks for the decisions that the calls followed, if they turn out
// to be new: most are.
func (b postgresBatch) reserve(ctx context.Context, tx *transaction, calls []*saving) error {
	calls = slices.Clone(calls)
	slices.SortFunc(calls, func(a, b *saving) int {
		return cmp.Or(strings.Compare(a.call.Key, b.call.Key), strings.Compare(a.call.ContactCenter, b.call.ContactCenter))
	})
	var keys, contactCenters, ids []string
	var ats []int64
	for _, c := range calls {
		keys, contactCenters = append(keys, c.call.Key), append(contactCenters, c.call.ContactCenter)
		ids, ats = append(ids, c.call.ID), append(ats, c.placed)
	}
	fresh := make(map[string]bool, len(calls))
	byCallID, near := make(map[*saving]decisionFound), make(map[*saving]decisionFound)
	var queued pgx.Batch
	tx.begin(&queued)
	queued.Queue(reserveKeysSQL, keys, contactCenters, ids, ats).Query(func(rows pgx.Rows) error {
		var id string
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error { fresh[id] = true; return nil })
		return err
	})
	searches := []search{searchByCallID(calls), searchNear(calls, told)}
	for i, into := range []map[*saving]decisionFound{byCallID, near} {
		if s := searches[i]; len(s.wanted) > 0 {
			queued.Queue(s.statement, s.values...).Query(func(rows pgx.Rows) error {
				var n int
				var d decisionFound
				_, err := pgx.ForEachRow(rows, []any{&n, &d.id, &d.route}, func() error { into[s.wanted[n-1]] = d; return nil })
				return err
			})
		}
	}
	if err := tx.pipeline(ctx, &queued); err != nil {
		return err
	}
	for _, c := range calls {
		if c.ahead = fresh[c.call.ID]; c.ahead {
			c.decision = near[c]
			if d, ok := byCallID[c]; ok {
				c.decision = d
			}
		}
	}
	if len(fresh) == len(calls) {
		return nil
	}
	return b.lockKnown(ctx, tx, calls, fresh)
}

// lockKnown locks calls that were there, and reads them.
func (b postgresBatch) lockKnown(ctx context.Context, tx *transaction, calls []*saving, fresh map[string]bool) error {
	type identity struct{ key, contactCenter string }
	taken := make(map[identity]*saving)
	var keys, contactCenters, ids []string
	var ats []int64
	for _, c := range calls {
		if !fresh[c.call.ID] {
			taken[identity{c.call.Key, c.call.ContactCenter}] = c
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
	// Read after the locks were had: what was before does not count.
	byID := make(map[string]*saving, len(taken))
	err = query{text: lockedCallsSQL}.each(ctx, tx, known(func(call storage.Call, revisions int) {
		c := taken[identity{call.Key, call.ContactCenter}]
		c.found(call, revisions)
		byID[call.ID] = c
	}), ids, ats)
	if err != nil {
		return err
	}
	if len(byID) != len(taken) {
		return fmt.Errorf("%d of %d calls are not where their keys say", len(taken)-len(byID), len(taken))
	}
	return b.knownBodies(ctx, tx, byID)
}

func (b postgresBatch) knownBodies(ctx context.Context, tx *transaction, byID map[string]*saving) error {
	var of []string
	var digests [][]byte
	for id, c := range byID {
		for _, p := range c.reports {
			of, digests = append(of, id), append(digests, p.digest[:])
		}
	}
	return query{text: hasBodiesSQL}.each(ctx, tx, func(scan func(...any) error) error {
		var id string
		var sum []byte
		if err := scan(&id, &sum); err != nil {
			return err
		}
		if len(sum) == len(digest{}) {
			byID[id].bodies[digest(sum)] = true
		}
		return nil
	}, of, digests)
}

func (b postgresBatch) link(ctx context.Context, tx *transaction, calls []*saving) error {
	for len(calls) > 0 {
		found := make(map[*saving]decisionFound, len(calls))
		if err := b.findDecisions(ctx, tx, calls, found); err != nil {
			return fmt.Errorf("find decisions: %w", err)
		}
		// Two may find the same. The one that came first has it, and from the
		// other on they look again.
		var ids, linked []string
		taken := make(map[string]*saving, len(found))
		for len(calls) > 0 {
			d, ok := found[calls[0]]
			if ok && taken[d.id] != nil {
				break
			}
			if ok {
				taken[d.id] = calls[0]
				ids, linked = append(ids, d.id), append(linked, calls[0].call.ID)
			}
			calls = calls[1:]
		}
		if len(ids) == 0 {
			return nil
		}
		err := query{text: linkDecisionsSQL}.each(ctx, tx, single(func(id string) { taken[id].linked(id, found[taken[id]].route) }), ids, linked)
		if err != nil {
			return fmt.Errorf("link decisions: %w", err)
		}
	}
	return nil
}

// search looks for the decisions of calls; its rows tell which of them found one.
type search struct {
	statement string
	wanted    []*saving
	values    []any
}

func searchByCallID(calls []*saving) search {
	s := search{statement: decisionsByCallIDSQL}
	var callIDs, trackers []string
	var ats []int64
	for _, c := range calls {
		if c.call.CallID != "" {
			s.wanted = append(s.wanted, c)
			callIDs, trackers, ats = append(callIDs, c.call.CallID), append(trackers, c.call.Tracker), append(ats, micros(told(c)))
		}
	}
	s.values = []any{callIDs, trackers, ats}
	return s
}

// searchNear looks by numbers around an instant of each call.
func searchNear(calls []*saving, clock func(*saving) time.Time) search {
	s := search{statement: decisionsNearSQL}
	var dids, callers, trackers []string
	var ats []int64
	for _, c := range calls {
		at := clock(c)
		if c.call.DID == "" || at.IsZero() {
			continue
		}
		s.wanted = append(s.wanted, c)
		dids, callers = append(dids, c.call.DID), append(callers, c.call.Caller)
		trackers, ats = append(trackers, c.call.Tracker), append(ats, micros(at))
	}
	s.values = []any{dids, callers, trackers, ats, linkWithin.Microseconds(), linkCallerless.Microseconds()}
	return s
}

// told and heard are the instants of began.
func told(c *saving) time.Time {
	at, _ := began(c.call, c.lastSource())
	return at
}

func heard(c *saving) time.Time {
	_, at := began(c.call, c.lastSource())
	return at
}

// lastSource is that of the last report that was merged, or of the first when
// none was yet.
func (s *saving) lastSource() storage.Source {
	if s.source == "" {
		return s.reports[0].report.Source
	}
	return s.source
}

// findDecisions does for several calls what claimDecision does for one, but that
// it claims nothing. What was found ahead is looked for once.
func (b postgresBatch) findDecisions(ctx context.Context, tx *transaction, calls []*saving, found map[*saving]decisionFound) error {
	find := func(s search) error {
		if len(s.wanted) == 0 {
			return nil
		}
		return query{text: s.statement}.each(ctx, tx, func(scan func(...any) error) error {
			var n int
			var d decisionFound
			err := scan(&n, &d.id, &d.route)
			if err == nil {
				found[s.wanted[n-1]] = d
			}
			return err
		}, s.values...)
	}
	var open []*saving
	for _, c := range calls {
		switch {
		case !c.ahead:
			open = append(open, c)
		case c.decision.id != "":
			found[c] = c.decision
		}
		c.ahead = false
	}
	missing := func(of []*saving) []*saving {
		return slices.DeleteFunc(slices.Clone(of), func(c *saving) bool { _, ok := found[c]; return ok })
	}
	if err := find(searchByCallID(open)); err != nil {
		return err
	}
	if err := find(searchNear(missing(open), told)); err != nil {
		return err
	}
	return find(searchNear(missing(calls), heard))
}

func (b postgresBatch) insert(ctx context.Context, tx *transaction, fresh, calls []*saving, jobs []jobInsert) error {
	var queued pgx.Batch
	rows, err := callArrays(fresh)
	if err != nil {
		return err
	}
	if len(rows) > 0 {
		queued.Queue(b.db.statements.addCalls, rows...)
	}
	if bodies := bodyArrays(calls); bodies != nil {
		queued.Queue(addRevisionsSQL, bodies...)
	}
	for _, j := range jobs {
		queued.Queue(b.db.dialect.sql(j.statement), j.values...)
	}
	tx.commit(&queued)
	if err := tx.pipeline(ctx, &queued); err != nil {
		return fmt.Errorf("insert calls, revisions and jobs: %w", err)
	}
	return nil
}

// callArrays are the rows of calls, a column in each array.
func callArrays(calls []*saving) ([]any, error) {
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
				columns[j] = grow(columns[j], v, len(calls))
			case int64:
				columns[j] = grow(columns[j], v, len(calls))
			default:
				return nil, fmt.Errorf("column %d of call %d is a %T", j, i, value)
			}
		}
	}
	return columns, nil
}

// grow appends to a column, which is nil at first.
func grow[T any](column any, value T, capacity int) []T {
	values, ok := column.([]T)
	if !ok {
		values = make([]T, 0, capacity)
	}
	return append(values, value)
}

// bodyArrays are the rows of revisions, nil for none.
func bodyArrays(calls []*saving) []any {
	var (
		of, sources       []string
		numbers, received []int64
		digests, bodies   [][]byte
	)
	for _, c := range calls {
		for _, r := range c.added {
			of, numbers = append(of, c.call.ID), append(numbers, int64(r.number))
			received = append(received, micros(r.report.report.Call.ReceivedAt))
			sources = append(sources, text(string(r.report.report.Source)))
			digests, bodies = append(digests, r.report.digest[:]), append(bodies, r.body())
		}
	}
	if len(of) == 0 {
		return nil
	}
	return []any{of, numbers, received, sources, digests, bodies}
}
