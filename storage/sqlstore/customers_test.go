package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"calltracker/storage"
	"calltracker/storage/storetest/postgrestest"
)

// TestClaimSkipsLockedJobs checks that ClaimJobs does not wait for jobs that
// another transaction is claiming, but claims the next ones.
func TestClaimSkipsLockedJobs(t *testing.T) {
	s := openURL(t, postgrestest.Database(t, postgrestest.Address(t)))
	now := time.Now().UTC()
	var ids []string
	for n := range 5 {
		c := storage.Call{Key: fmt.Sprint(n), Result: storage.Missed, Caller: fmt.Sprintf("+97150123450%d", n), StartedAt: now}
		saved, err := s.SaveCall(t.Context(), storage.ReceivedCDR{Source: storage.FromEndCall, Raw: []byte("x"), Call: c})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, saved.ID)
	}
	if n, err := s.QueueLookups(t.Context(), now.Add(-time.Hour), now); err != nil || n != len(ids) {
		t.Fatalf("%d queued, %v", n, err)
	}
	claim := func(limit int) (calls []string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // without skipping, the claim would wait longer
		defer cancel()
		jobs, err := s.ClaimJobs(ctx, storage.JobClaim{Kinds: []string{storage.EnrichmentJob}, Now: now, Until: now.Add(time.Minute), Limit: limit})
		if err != nil {
			t.Fatal(err)
		}
		for _, j := range jobs {
			calls = append(calls, j.Key)
		}
		slices.Sort(calls)
		return calls
	}
	err := s.db.Load().transaction(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), `SELECT 1 FROM jobs WHERE id IN ($1, $2) FOR UPDATE`, ids[0], ids[1]); err != nil {
			return err
		}
		if got := claim(2); !slices.Equal(got, ids[2:4]) {
			t.Errorf("claimed %v, want %v", got, ids[2:4])
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := claim(10), []string{ids[0], ids[1], ids[4]}; !slices.Equal(got, want) {
		t.Errorf("claimed %v, want %v", got, want)
	}
}

// TestMigrationOfLookups checks that lookups of the schema before lookups were jobs
// become jobs or keep their results.
func TestMigrationOfLookups(t *testing.T) {
	t.Parallel()
	const beforeJobs = 9
	for name, open := range map[string]func(t *testing.T) *Store{
		"SQLite": func(t *testing.T) *Store { return open(t, t.TempDir()) },
		"PostgreSQL": func(t *testing.T) *Store {
			return openURL(t, postgrestest.Database(t, postgrestest.Address(t)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			db := s.db.Load()
			target, err := s.SchemaVersion(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ids := map[string]string{}
			for n, state := range []string{"due", "postponed", "leased", "requested", "failed", "found", "none"} {
				saved, err := s.SaveCall(t.Context(), storage.ReceivedCDR{Source: storage.FromEndCall, Raw: []byte("x"), Call: storage.Call{
					Key: state, Result: storage.Missed, Caller: fmt.Sprintf("+97150123450%d", n), StartedAt: time.Unix(1_700_000_000, 0),
				}})
				if err != nil {
					t.Fatal(err)
				}
				ids[state] = saved.ID
			}
			exec := func(statement string, values ...any) {
				t.Helper()
				if _, err := db.write.ExecContext(t.Context(), db.dialect.sql(statement), values...); err != nil {
					t.Fatal(err)
				}
			}
			// The tables as they were.
			for _, statement := range []string{
				`DROP TABLE call_lookups`, `DROP INDEX jobs_waiting`, `DROP INDEX jobs_kind`, `ALTER TABLE jobs DROP COLUMN skip_cache`,
				`CREATE INDEX jobs_waiting ON jobs (priority DESC, run_us, id) WHERE state = 'waiting'`,
				`CREATE TABLE call_lookups (of_call TEXT NOT NULL PRIMARY KEY, number TEXT NOT NULL, at_us BIGINT NOT NULL, state TEXT NOT NULL,
					attempts BIGINT NOT NULL, error TEXT NOT NULL, anew BIGINT NOT NULL, due_us BIGINT NOT NULL)`,
				`CREATE INDEX call_lookups_due ON call_lookups (due_us) WHERE due_us <> 0`,
				`ALTER TABLE call_lookups ADD COLUMN changed_us BIGINT NOT NULL DEFAULT 0`,
				`CREATE INDEX call_lookups_undone ON call_lookups (state, of_call) WHERE state IN ('pending', 'failed')`,
				`CREATE TABLE reconciliation_claims (contact_center TEXT NOT NULL PRIMARY KEY, holder TEXT NOT NULL, until_us BIGINT NOT NULL)`,
			} {
				exec(statement)
			}
			exec(`DELETE FROM goose_db_version WHERE version_id > ?`, beforeJobs)
			now := time.Unix(1_700_000_100, 0).UTC()
			add := func(name, state string, attempts int, message string, skipCache int, due, changed time.Time) {
				t.Helper()
				exec(`INSERT INTO call_lookups VALUES (?, '+971501234500', ?, ?, ?, ?, ?, ?, ?)`,
					ids[name], micros(time.Unix(1_700_000_000, 0)), state, attempts, message, skipCache, micros(due), micros(changed))
			}
			add("due", "pending", 0, "", 0, now, time.Time{})
			add("postponed", "pending", 0, "shop: unavailable", 0, now.Add(time.Hour), now)
			add("leased", "pending", 0, "", 0, now.Add(time.Minute), now)
			add("requested", "pending", 2, "", 1, now, now)
			add("failed", "failed", 1, "desk: rejected", 0, time.Time{}, now)
			add("found", "found", 1, "", 0, time.Time{}, now)
			add("none", "none", 1, "", 0, time.Time{}, now)
			exec(`INSERT INTO call_customers VALUES (?, 1, 'desk', 'c-1', 'Layla', '', 'phone')`, ids["found"])

			if _, err := db.schema.Up(t.Context()); err != nil {
				t.Fatal(err)
			}
			if version, err := s.SchemaVersion(t.Context()); err != nil || version != target {
				t.Errorf("schema version %d, %v; want %d", version, err, target)
			}
			for name, want := range map[string]storage.Enrichment{
				"due":       {State: storage.EnrichmentPending},
				"postponed": {State: storage.EnrichmentPending, Error: "shop: unavailable"},
				"leased":    {State: storage.EnrichmentPending},
				"requested": {State: storage.EnrichmentPending, Attempts: 2},
				"failed":    {State: storage.EnrichmentFailed, Attempts: 1, Error: "desk: rejected"},
				"found":     {State: storage.EnrichmentFound, Attempts: 1},
				"none":      {State: storage.EnrichmentNone, Attempts: 1},
			} {
				call, _, err := s.Call(t.Context(), ids[name])
				if err != nil || call.Enrichment != want || len(call.Customers) > 0 != (name == "found") {
					t.Errorf("%s: %+v with customers %v, %v; want %+v", name, call.Enrichment, call.Customers, err, want)
				}
			}
			if n, err := s.QueueLookups(t.Context(), time.Time{}, now); err != nil || n != 0 {
				t.Errorf("%d lookups queued after the migration, %v; want none", n, err)
			}
			claim := func(at time.Time) map[string]bool {
				t.Helper()
				jobs, err := s.ClaimJobs(t.Context(), storage.JobClaim{Kinds: []string{storage.EnrichmentJob}, Now: at, Until: at.Add(time.Hour), Limit: 100})
				if err != nil {
					t.Fatal(err)
				}
				skipsCache := map[string]bool{}
				for _, j := range jobs {
					skipsCache[j.Key] = j.SkipCache
				}
				return skipsCache
			}
			if got, want := claim(now), (map[string]bool{ids["due"]: false, ids["requested"]: true}); !maps.Equal(got, want) {
				t.Errorf("claimed %v, want %v", got, want)
			}
			if got, want := claim(now.Add(time.Hour)), (map[string]bool{ids["postponed"]: false, ids["leased"]: false}); !maps.Equal(got, want) {
				t.Errorf("claimed an hour later %v, want %v", got, want)
			}
			dead, _, err := s.Jobs(t.Context(), storage.JobFilter{State: storage.JobDead}, storage.Page{})
			if err != nil || len(dead) != 1 || dead[0].ID != ids["failed"] || !dead[0].At.Equal(now) {
				t.Errorf("dead jobs %+v, %v", dead, err)
			}
		})
	}
}
