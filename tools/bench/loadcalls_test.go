package main

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"calltracker/storage"
	"calltracker/storage/sqlstore"
	"calltracker/storage/storetest/postgrestest"
)

// The generated calls have the DIDs and callers that the lists are filtered by, and
// are in the partition of their month.
func TestLoadCalls(t *testing.T) {
	address := postgrestest.Database(t, postgrestest.Address(t))
	store, err := sqlstore.New(sqlstore.Options{URL: address})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	if err := store.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	const n = 3000
	now := time.Now().UTC()
	if err := loadCalls(t.Context(), address, n, now); err != nil {
		t.Fatal(err)
	}
	connection, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close(t.Context()) }()
	var calls, known, elsewhere, indexes int
	if err := connection.QueryRow(t.Context(), `SELECT count(*), count(k.id),
		count(*) FILTER (WHERE c.tableoid::regclass::text <> 'calls_' || to_char(to_timestamp(c.at_us / 1000000) AT TIME ZONE 'UTC', 'YYYYMM')),
		(SELECT count(*) FROM pg_indexes WHERE tablename = 'calls_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMM'))
		FROM calls c LEFT JOIN call_keys k USING (call_key, contact_center, id, at_us)`).Scan(&calls, &known, &elsewhere, &indexes); err != nil {
		t.Fatal(err)
	}
	if calls != n || known != n || elsewhere != 0 || indexes < 5 {
		t.Errorf("%d calls, %d with a key, %d in the wrong partition, %d indexes on a partition", calls, known, elsewhere, indexes)
	}
	i := n - 1 // the newest
	err = store.EachCall(t.Context(), storage.CallFilter{}, func(c storage.Call) error {
		if c.DID != listDID(i/3) || c.Caller != listCaller(i) {
			t.Errorf("call %d is from %s to %s, want from %s to %s", i, c.Caller, c.DID, listCaller(i), listDID(i/3))
		}
		i--
		return nil
	})
	if err != nil || i != -1 {
		t.Errorf("%d calls not listed, error %v", i+1, err)
	}
	// The server can use the database.
	if err := store.EnsurePartitions(t.Context(), now); err != nil {
		t.Error(err)
	}
	r := storage.ReceivedCDR{Source: storage.FromEndCall, Raw: []byte("x"), Call: storage.Call{Key: "x", CallID: "x", Result: storage.Missed, StartedAt: now}}
	if saved, err := store.SaveCall(t.Context(), r); err != nil || !saved.Created {
		t.Errorf("saved %+v, error %v", saved, err)
	}
}
