package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
)

// statements are prepared once for the paths that every call takes. They use
// "?" for values; a database that numbers its parameters rewrites them where
// they are prepared.
type statements struct {
	// On the writing connection.
	insertCall, lockCall, updateCall *sql.Stmt
	insertRevision                   *sql.Stmt
	decisionByCallID, decisionNear   *sql.Stmt
	linkDecision, linkCall           *sql.Stmt

	// On the recording connection.
	insertDecisions            *sql.Stmt
	linkDecisionLate, linkLate *sql.Stmt

	// On the reading pool.
	call, revisions *sql.Stmt
}

func (db *database) prepareStatements(ctx context.Context) error {
	s := &db.statements
	for _, p := range []struct {
		to   **sql.Stmt
		pool *sql.DB
		sql  string
	}{
		{&s.insertCall, db.write, insertCallSQL()},
		{&s.lockCall, db.write, lockCallSQL},
		{&s.updateCall, db.write, updateCallSQL()},
		{&s.insertRevision, db.write, insertRevisionSQL},
		{&s.decisionByCallID, db.write, decisionByCallIDSQL},
		{&s.decisionNear, db.write, decisionNearSQL},
		{&s.linkDecision, db.write, linkDecisionSQL},
		{&s.linkCall, db.write, linkCallSQL},
		{&s.insertDecisions, db.record, insertDecisionsSQL(decisionChunk)},
		{&s.linkDecisionLate, db.record, linkDecisionSQL},
		{&s.linkLate, db.record, linkCallSQL},
		{&s.call, db.read, callSQL},
		{&s.revisions, db.read, revisionsSQL},
	} {
		var err error
		if *p.to, err = p.pool.PrepareContext(ctx, p.sql); err != nil {
			return fmt.Errorf("prepare %.40q: %w", p.sql, err)
		}
	}
	return nil
}

// marks is "?, ?, ?" for n values.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }
