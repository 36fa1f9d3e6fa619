package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"calltracker/storage"
)

// postgresBatch sends a batch with one statement for each thing to do, whatever
// the number of rows: values travel as arrays, one for each column.
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

func (b postgresBatch) reserve(ctx context.Context, tx *sql.Tx, calls []*saving) error {
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
	err := query{text: reserveKeysSQL}.each(ctx, tx, single(func(id string) { fresh[id] = true }), keys, contactCenters, ids, ats)
	if err != nil || len(fresh) == len(calls) {
		return err
	}
	type identity struct{ key, contactCenter string }
	taken := make(map[identity]*saving)
	keys, contactCenters, ids, ats = nil, nil, nil, nil
	for _, c := range calls {
		if !fresh[c.call.ID] {
			taken[identity{c.call.Key, c.call.ContactCenter}] = c
			keys, contactCenters = append(keys, c.call.Key), append(contactCenters, c.call.ContactCenter)
		}
	}
	err = query{text: lockKeysSQL}.each(ctx, tx, func(scan func(...any) error) error {
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

func (b postgresBatch) knownBodies(ctx context.Context, tx *sql.Tx, byID map[string]*saving) error {
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

func (b postgresBatch) link(ctx context.Context, tx *sql.Tx, calls []*saving) error {
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

type decisionFound struct{ id, route string }

// findDecisions does for several calls what claimDecision does for one, but that
// it claims nothing.
func (b postgresBatch) findDecisions(ctx context.Context, tx *sql.Tx, calls []*saving, found map[*saving]decisionFound) error {
	search := func(statement string, wanted []*saving, values ...any) error {
		return query{text: statement}.each(ctx, tx, func(scan func(...any) error) error {
			var n int
			var d decisionFound
			err := scan(&n, &d.id, &d.route)
			if err == nil {
				found[wanted[n-1]] = d
			}
			return err
		}, values...)
	}
	var wanted []*saving
	var callIDs, trackers []string
	var ats []int64
	for _, c := range calls {
		if c.call.CallID != "" {
			told, _ := began(c.call, c.source)
			wanted = append(wanted, c)
			callIDs, trackers, ats = append(callIDs, c.call.CallID), append(trackers, c.call.Tracker), append(ats, micros(told))
		}
	}
	if len(wanted) > 0 {
		if err := search(decisionsByCallIDSQL, wanted, callIDs, trackers, ats); err != nil {
			return err
		}
	}
	for _, clock := range []func(told, heard time.Time) time.Time{
		func(told, _ time.Time) time.Time { return told },
		func(_, heard time.Time) time.Time { return heard },
	} {
		var wanted []*saving
		var dids, callers, trackers []string
		var ats []int64
		for _, c := range calls {
			at := clock(began(c.call, c.source))
			if _, ok := found[c]; ok || c.call.DID == "" || at.IsZero() {
				continue
			}
			wanted = append(wanted, c)
			dids, callers = append(dids, c.call.DID), append(callers, c.call.Caller)
			trackers, ats = append(trackers, c.call.Tracker), append(ats, micros(at))
		}
		if len(wanted) == 0 {
			continue
		}
		err := search(decisionsNearSQL, wanted, dids, callers, trackers, ats, linkWithin.Microseconds(), linkCallerless.Microseconds())
		if err != nil {
			return err
		}
	}
	return nil
}

func (b postgresBatch) insertCalls(ctx context.Context, tx *sql.Tx, calls []*saving) error {
	if len(calls) == 0 {
		return nil
	}
	var columns []any
	for i, c := range calls {
		row, err := c.rowValues()
		if err != nil {
			return err
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
				return fmt.Errorf("column %d of call %d is a %T", j, i, value)
			}
		}
	}
	_, err := tx.ExecContext(ctx, b.db.statements.addCalls, columns...)
	return err
}

// grow appends to a column, which is nil at first.
func grow[T any](column any, value T, capacity int) []T {
	values, ok := column.([]T)
	if !ok {
		values = make([]T, 0, capacity)
	}
	return append(values, value)
}

func (b postgresBatch) insertBodies(ctx context.Context, tx *sql.Tx, calls []*saving) error {
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
	_, err := tx.ExecContext(ctx, addRevisionsSQL, of, numbers, received, sources, digests, bodies)
	return err
}
