package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// statements are those of the paths that every call takes.
type statements struct {
	// On the writing connection.
	updateCall                     query
	decisionByCallID, decisionNear query
	linkDecision                   query

	// On that of SQLite.
	callByKey, callsByKey, hasBody  query
	insertCall, insertCalls         query
	insertRevision, insertRevisions query

	// On that of PostgreSQL.
	moveKey  query
	addCalls string

	// On the recording connection.
	insertDecisions            query
	linkDecisionLate, linkLate query

	// On the reading pool.
	call, revisions query
}

func (db *database) prepareStatements(ctx context.Context) error {
	s := &db.statements
	s.addCalls = addCallsSQL()
	d := db.dialect
	for _, p := range []struct {
		to   *query
		pool *sql.DB
		sql  string
	}{
		{&s.callByKey, db.write, callsByKeySQL(1)},
		{&s.callsByKey, db.write, callsByKeySQL(searchRows)},
		{&s.hasBody, db.write, hasBodySQL},
		{&s.insertCall, db.write, insertCallsSQL(1)},
		{&s.insertCalls, db.write, insertCallsSQL(insertRows)},
		{&s.insertRevision, db.write, insertRevisionsSQL(1)},
		{&s.insertRevisions, db.write, insertRevisionsSQL(insertRows)},
		{&s.updateCall, db.write, updateCallSQL()},
		{&s.moveKey, db.write, moveKeySQL(d.keyed)},
		{&s.decisionByCallID, db.write, decisionByCallIDSQL},
		{&s.decisionNear, db.write, decisionNearSQL},
		{&s.linkDecision, db.write, linkDecisionSQL},
		{&s.insertDecisions, db.record, insertDecisionsSQL(decisionChunk)},
		{&s.linkDecisionLate, db.record, linkDecisionSQL},
		{&s.linkLate, db.record, linkCallSQL},
		{&s.call, db.read, callSQL},
		{&s.revisions, db.read, revisionsSQL},
	} {
		p.to.text = d.sql(p.sql)
		if d.numbered || p.sql == "" { // pgx prepares and remembers by itself
			continue
		}
		var err error
		if p.to.prepared, err = p.pool.PrepareContext(ctx, p.to.text); err != nil {
			return fmt.Errorf("prepare %.40q: %w", p.sql, err)
		}
	}
	return nil
}

// marks is "?, ?, ?" for n values.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
