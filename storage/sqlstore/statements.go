package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// statements are the prepared statements that every call uses.
type statements struct {
	// Writing pool.
	updateCall                      query
	decisionByCallID, decisionByDID query
	linkDecision                    query

	// Writing pool, SQLite only.
	callByKey, callsByKey, hasBody  query
	insertCall, insertCalls         query
	insertRevision, insertRevisions query

	// Writing pool, PostgreSQL only.
	moveKey          query
	insertCallArrays string

	// Relaxed pool.
	insertDecisions            query
	linkDecisionLate, linkLate query

	// Reading pool.
	call, revisions query
}

func (db *database) prepareStatements(ctx context.Context) error {
	s := &db.statements
	s.insertCallArrays = insertCallArraysSQL()
	d := db.dialect
	for _, p := range []struct {
		target *query
		pool   *sql.DB
		sql    string
	}{
		{&s.callByKey, db.write, callsByKeySQL(1)},
		{&s.callsByKey, db.write, callsByKeySQL(lookupRows)},
		{&s.hasBody, db.write, hasBodySQL},
		{&s.insertCall, db.write, insertCallsSQL(1)},
		{&s.insertCalls, db.write, insertCallsSQL(insertRows)},
		{&s.insertRevision, db.write, insertRevisionsSQL(1)},
		{&s.insertRevisions, db.write, insertRevisionsSQL(insertRows)},
		{&s.updateCall, db.write, updateCallSQL()},
		{&s.moveKey, db.write, moveKeySQL(d.hasKeyTable)},
		{&s.decisionByCallID, db.write, decisionByCallIDSQL},
		{&s.decisionByDID, db.write, decisionByDIDSQL},
		{&s.linkDecision, db.write, linkDecisionSQL},
		{&s.insertDecisions, db.relaxed, insertDecisionsSQL(decisionChunk)},
		{&s.linkDecisionLate, db.relaxed, linkDecisionSQL},
		{&s.linkLate, db.relaxed, linkCallSQL},
		{&s.call, db.read, callSQL},
		{&s.revisions, db.read, revisionsSQL},
	} {
		p.target.text = d.sql(p.sql)
		if d.numberedValues || p.sql == "" { // pgx prepares statements itself
			continue
		}
		var err error
		if p.target.prepared, err = p.pool.PrepareContext(ctx, p.target.text); err != nil {
			return fmt.Errorf("prepare %.40q: %w", p.sql, err)
		}
	}
	return nil
}

// placeholders returns "?, ?, ?" for n values.
func placeholders(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
