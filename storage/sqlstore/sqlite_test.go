package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gorm.io/gorm"

	"calltracker/storage"
)

func TestPragmas(t *testing.T) {
	db := open(t, t.TempDir()).db.Load()
	for _, tt := range []struct {
		name         string
		pool         *sql.DB
		pragma, want string
	}{
		{"writer", db.write, "journal_mode", "wal"},
		{"writer", db.write, "synchronous", "2"}, // FULL
		{"writer", db.write, "busy_timeout", "1500"},
		{"writer", db.write, "foreign_keys", "1"},
		{"writer", db.write, "query_only", "0"},
		{"readers", db.read, "journal_mode", "wal"},
		{"readers", db.read, "busy_timeout", "5000"},
		{"readers", db.read, "query_only", "1"},
	} {
		var got string
		if err := tt.pool.QueryRowContext(t.Context(), "PRAGMA "+tt.pragma).Scan(&got); err != nil || got != tt.want {
			t.Errorf("%s: %s = %s, %v; want %s", tt.name, tt.pragma, got, err, tt.want)
		}
	}
	if n := db.write.Stats().MaxOpenConnections; n != 1 {
		t.Errorf("%d writing connections, want 1", n)
	}
	if _, err := db.read.ExecContext(t.Context(), "DELETE FROM secrets"); !errors.Is(translate(err), storage.ErrUnavailable) {
		t.Errorf("write on the reading pool: %v, want storage.ErrUnavailable", err)
	}
}

func TestFilesAreAccessibleByOwnerOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := open(t, dir)
	if _, err := s.SaveCall(t.Context(), benchCDR(1)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{
		dir: 0o700, filepath.Join(dir, fileName): 0o600, filepath.Join(dir, fileName+"-wal"): 0o600,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %o, want %o", path, got, want)
		}
	}
}

// TestPlans checks that every filter uses an index that returns the calls in the order
// of the list, so that the cost of a page does not depend on the number of calls.
func TestPlans(t *testing.T) {
	db := open(t, t.TempDir()).db.Load()
	after := &cursor{at: 1, id: "x"}
	from := time.Unix(1, 0)
	for _, tt := range []struct {
		name   string
		filter storage.CallFilter
		index  string
	}{
		{"all", storage.CallFilter{}, "calls_at"},
		{"time", storage.CallFilter{From: from, To: from}, "calls_at"},
		{"did", storage.CallFilter{DIDs: []string{"1"}}, "calls_did"},
		{"caller", storage.CallFilter{Callers: []string{"1"}}, "calls_caller"},
		{"tracker", storage.CallFilter{Tracker: "sales"}, "calls_tracker"},
		{"result", storage.CallFilter{Result: storage.Busy}, "calls_result"},
		{"campaign", storage.CallFilter{Campaign: "spring"}, "calls_campaign"},
		{"tracker and result", storage.CallFilter{Tracker: "sales", Result: storage.Busy}, "calls_tracker"},
		{"did, tracker and time", storage.CallFilter{DIDs: []string{"1"}, Tracker: "sales", From: from}, "calls_did"},
		{
			"everything",
			storage.CallFilter{From: from, To: from, Tracker: "s", DIDs: []string{"1"}, Callers: []string{"2"}, Result: storage.Busy, Campaign: "c"},
			"calls_caller",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			q := db.readGorm.Session(&gorm.Session{DryRun: true}).Table("calls").Select(callColumns)
			statement := newestFirst(db.narrowCalls(q, tt.filter), after, 51).Find(&[]map[string]any{}).Statement
			plan := explain(t, db, statement.SQL.String(), statement.Vars...)
			if !strings.Contains(plan, "SEARCH calls USING INDEX "+tt.index) || strings.Contains(plan, "TEMP B-TREE FOR ORDER BY") {
				t.Errorf("plan:\n%s", plan)
			}
		})
	}
	for _, tt := range []struct {
		filter storage.JobFilter
		index  string
	}{
		{storage.JobFilter{}, "jobs_at"},
		{storage.JobFilter{State: storage.JobDead}, "jobs_dead"},
		{storage.JobFilter{Kind: "retention"}, "jobs_kind (kind=?"},
		{storage.JobFilter{Kind: "retention", State: storage.JobDone}, "jobs_kind (kind=?"},
		{storage.JobFilter{Kind: storage.EnrichmentJob, State: storage.JobWaiting}, "jobs_kind (kind=?"},
	} {
		t.Run(fmt.Sprintf("jobs %+v", tt.filter), func(t *testing.T) {
			q := narrowJobs(db.readGorm.Session(&gorm.Session{DryRun: true}), tt.filter)
			statement := newestFirst(q, after, 51).Find(&[]map[string]any{}).Statement
			plan := explain(t, db, statement.SQL.String(), statement.Vars...)
			if !strings.Contains(plan, "INDEX "+tt.index) || strings.Contains(plan, "TEMP B-TREE FOR ORDER BY") {
				t.Errorf("plan:\n%s", plan)
			}
		})
	}
	for name, tt := range map[string]struct{ statement, index string }{
		"decision by callID":      {decisionByCallIDSQL, "decisions_unlinked"},
		"decision by DID":         {decisionByDIDSQL, "decisions_did (did=? AND at_us>? AND at_us<?)"},
		"calls by callID":         {unlinkedByCallIDSQL(3, false), "calls_key"},
		"due jobs of a kind":      {claimJobsSQL(1, false), "jobs_waiting (kind=?)"},
		"calls by DID":            {unlinkedByDIDSQL(&sqliteDialect, "began_us", 3), "calls_unlinked (received_us>?)"},
		"calls by DID, estimated": {unlinkedByDIDSQL(&sqliteDialect, "heard_us", 3), "calls_unlinked (received_us>?)"},
	} {
		t.Run(name, func(t *testing.T) {
			values := make([]any, strings.Count(tt.statement, "?"))
			if plan := explain(t, db, tt.statement, values...); !strings.Contains(plan, "INDEX "+tt.index) {
				t.Errorf("plan:\n%s", plan)
			}
		})
	}
}

func explain(t *testing.T, db *database, statement string, values ...any) string {
	t.Helper()
	rows, err := db.read.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+statement, values...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var plan strings.Builder
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan.WriteString(detail + "\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}
