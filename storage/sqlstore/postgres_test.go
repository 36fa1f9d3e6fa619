package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"calltracker/storage"
	"calltracker/storage/storetest"
	"calltracker/storage/storetest/postgrestest"
)

func TestOneLine(t *testing.T) {
	cause := errors.New("failed to connect to x:\n\ta: refused\n\tb: denied\n\ta: refused")
	err := oneLine{cause}
	if want := "failed to connect to x: a: refused; b: denied"; err.Error() != want || !errors.Is(err, cause) {
		t.Errorf("got %q, want %q around the cause", err, want)
	}
}

func TestPostgresServer(t *testing.T) {
	server := postgrestest.Start(t)
	t.Run("each month has a partition", func(t *testing.T) { testPartitions(t, server.URL()) })
	t.Run("a database without durable commits is refused", func(t *testing.T) { testNotDurable(t, server.URL()) })
	t.Run("concurrent starts migrate once", func(t *testing.T) { testConcurrentStarts(t, server.URL()) })
	t.Run("methods recover from an outage", func(t *testing.T) { testOutage(t, server) })
}

func testPartitions(t *testing.T, server string) {
	s := openURL(t, postgrestest.Database(t, server))
	cdrOf := func(year int, m time.Month) storage.ReceivedCDR {
		r := storage.ReceivedCDR{Source: storage.FromEndCall, Raw: fmt.Appendf(nil, "%d-%d", year, m)}
		r.Call = storage.Call{Key: string(r.Raw), CallID: string(r.Raw), Result: storage.Missed, DID: "+97148880001", StartedAt: time.Date(year, m, 9, 0, 0, 0, 0, time.UTC)}
		return r
	}
	partitionOf := func(id string) (partition string) {
		t.Helper()
		if err := s.db.Load().read.QueryRowContext(t.Context(), `SELECT tableoid::regclass::text FROM calls WHERE id = $1`, id).Scan(&partition); err != nil {
			t.Fatal(err)
		}
		return partition
	}
	save := func(r storage.ReceivedCDR) string {
		t.Helper()
		saved, err := s.SaveCall(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return saved.ID
	}
	old, future := save(cdrOf(2019, 7)), save(cdrOf(2031, 3))
	if partitionOf(old) != "calls_default" || partitionOf(future) != "calls_default" {
		t.Errorf("calls of other months are in %s and %s, want calls_default", partitionOf(old), partitionOf(future))
	}
	if err := s.EnsurePartitions(t.Context(), time.Date(2031, 1, 31, 23, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	if partitionOf(old) != "calls_default" || partitionOf(future) != "calls_203103" {
		t.Errorf("after EnsurePartitions, calls are in %s and %s", partitionOf(old), partitionOf(future))
	}
	if err := s.EnsurePartitions(t.Context(), time.Date(2031, 2, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Errorf("EnsurePartitions again: %v", err)
	}
	// A later CDR changes the time of the call.
	moved := cdrOf(2031, 3)
	moved.Raw, moved.Call.StartedAt = []byte("later"), time.Date(2031, 4, 1, 0, 0, 0, 0, time.UTC)
	if id := save(moved); id != future || partitionOf(future) != "calls_203104" {
		t.Errorf("call %s is in %s, want %s in calls_203104", id, partitionOf(future), future)
	}
	// The key must point to the new partition.
	moved.Raw, moved.Call.Agent = []byte("latest"), "0017"
	if id := save(moved); id != future {
		t.Errorf("the call was not found in its new partition")
	}
	calls, _, err := s.Calls(t.Context(), storage.CallFilter{DIDs: []string{"+97148880001"}}, storage.Page{})
	if err != nil || len(calls) != 2 || calls[0].ID != future || calls[0].Agent != "0017" || calls[1].ID != old {
		t.Errorf("calls %+v, %v; want the moved one, then the old one", calls, err)
	}
}

func testNotDurable(t *testing.T, server string) {
	address := postgrestest.Database(t, server) + "&synchronous_commit=off"
	s, err := New(Options{URL: address})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	err = s.Prepare(t.Context())
	if !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "synchronous_commit") {
		t.Errorf("prepare: %v, want storage.ErrUnavailable that names synchronous_commit", err)
	}
}

func testConcurrentStarts(t *testing.T, server string) {
	address := postgrestest.Database(t, server)
	errs := make(chan error)
	const processes = 4
	for range processes {
		s, err := New(Options{URL: address})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		go func() { errs <- s.Prepare(t.Context()) }()
	}
	for range processes {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func testOutage(t *testing.T, server *postgrestest.Server) {
	s := openURL(t, postgrestest.Database(t, server.URL()))
	checkAll := func(want bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for name, err := range storetest.ErrorsByMethod(ctx, s) {
			if unavailable := errors.Is(err, storage.ErrUnavailable); unavailable != want {
				t.Errorf("%s: %v; want unavailable: %t", name, err, want)
			}
		}
	}
	checkAll(false)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	checkAll(true)
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	checkAll(true)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	// Each broken connection fails once before the pool replaces it.
	for range postgresConnections + 1 {
		if s.Ping(t.Context()) == nil {
			break
		}
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("ping after the outage: %v", err)
	}
}
