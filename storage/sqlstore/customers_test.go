package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"testing"
	"time"

	"calltracker/storage"
	"calltracker/storage/storetest/postgrestest"
)

// TestClaimSkipsLockedLookups checks that ClaimLookups does not wait for lookups that
// another transaction is claiming, but claims the next ones.
func TestClaimSkipsLockedLookups(t *testing.T) {
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
		lookups, err := s.ClaimLookups(ctx, now, now.Add(time.Minute), limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lookups {
			calls = append(calls, l.Call)
		}
		slices.Sort(calls)
		return calls
	}
	err := s.db.Load().transaction(t.Context(), func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(t.Context(), `SELECT 1 FROM call_lookups WHERE of_call IN ($1, $2) FOR UPDATE`, ids[0], ids[1]); err != nil {
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
