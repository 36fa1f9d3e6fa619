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

func TestPostgresServer(t *testing.T) {
	server := postgrestest.Start(t)
	t.Run("months have partitions of their own", func(t *testing.T) { testPartitions(t, server.URL()) })
	t.Run("a database that forgets is refused", func(t *testing.T) { testForgetful(t, server.URL()) })
	t.Run("several starters migrate once", func(t *testing.T) { testStarters(t, server.URL()) })
	t.Run("an outage is an outage and no more", func(t *testing.T) { testOutage(t, server) })
}

func testPartitions(t *testing.T, server string) {
	s := openURL(t, postgrestest.Database(t, server))
	month := func(year int, m time.Month) storage.ReceivedCDR {
		r := storage.ReceivedCDR{Source: storage.FromEndCall, Raw: fmt.Appendf(nil, "%d-%d", year, m)}
		r.Call = storage.Call{Key: string(r.Raw), CallID: string(r.Raw), Result: storage.Missed, DID: "+97148880001", StartedAt: time.Date(year, m, 9, 0, 0, 0, 0, time.UTC)}
		return r
	}
	in := func(id string) (partition string) {
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
	old, future := save(month(2019, 7)), save(month(2031, 3))
	if in(old) != "calls_default" || in(future) != "calls_default" {
		t.Errorf("calls of other times are in %s and %s", in(old), in(future))
	}
	if err := s.EnsurePartitions(t.Context(), time.Date(2031, 1, 31, 23, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
	if in(old) != "calls_default" || in(future) != "calls_203103" {
		t.Errorf("after the partitions were made, calls are in %s and %s", in(old), in(future))
	}
	if err := s.EnsurePartitions(t.Context(), time.Date(2031, 2, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Errorf("again: %v", err)
	}
	// A later body knows better when the call was.
	moved := month(2031, 3)
	moved.Raw, moved.Call.StartedAt = []byte("better"), time.Date(2031, 4, 1, 0, 0, 0, 0, time.UTC)
	if id := save(moved); id != future || in(future) != "calls_203104" {
		t.Errorf("call %s is in %s, want %s in calls_203104", id, in(future), future)
	}
	// And its key has followed.
	moved.Raw, moved.Call.Agent = []byte("better still"), "0017"
	if id := save(moved); id != future {
		t.Errorf("the call was not found in its new month")
	}
	calls, _, err := s.Calls(t.Context(), storage.CallFilter{DIDs: []string{"+97148880001"}}, storage.Page{})
	if err != nil || len(calls) != 2 || calls[0].ID != future || calls[0].Agent != "0017" || calls[1].ID != old {
		t.Errorf("listed %+v, %v", calls, err)
	}
}

func testForgetful(t *testing.T, server string) {
	address := postgrestest.Database(t, server) + "&synchronous_commit=off"
	s, err := New(Options{URL: address})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	err = s.Prepare(t.Context())
	if !errors.Is(err, storage.ErrUnavailable) || !strings.Contains(err.Error(), "synchronous_commit") {
		t.Errorf("prepare: %v", err)
	}
}

func testStarters(t *testing.T, server string) {
	address := postgrestest.Database(t, server)
	errs := make(chan error)
	const starters = 4
	for range starters {
		s, err := New(Options{URL: address})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		go func() { errs <- s.Prepare(t.Context()) }()
	}
	for range starters {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func testOutage(t *testing.T, server *postgrestest.Server) {
	s := openURL(t, postgrestest.Database(t, server.URL()))
	all := func(want bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for name, err := range storetest.Everything(ctx, s) {
			if away := errors.Is(err, storage.ErrUnavailable); away != want {
				t.Errorf("%s: %v; unavailable must be %t", name, err, want)
			}
		}
	}
	all(false)
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	all(true)
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	all(true)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	// A connection that broke is found out by using it; then there is a new one.
	for range postgresConnections + 1 {
		if s.Ping(t.Context()) == nil {
			break
		}
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("ping after the outage: %v", err)
	}
}
