package sqlstore

import (
	"context"
	"errors"
	"testing"
	"time"

	"calltracker/storage"
	"calltracker/storage/storetest/postgrestest"
)

func TestListenConfig(t *testing.T) {
	address := postgrestest.Database(t, postgrestest.Address(t))
	ours, theirs := openURL(t, address), openURL(t, address)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heard, ended := make(chan struct{}), make(chan error, 1)
	listen := func() {
		go func() { ended <- ours.ListenConfig(ctx, func() { heard <- struct{}{} }) }()
	}
	hear := func(what string) {
		t.Helper()
		select {
		case <-heard:
		case err := <-ended:
			t.Fatalf("%s: it listens no more: %v", what, err)
		case <-time.After(10 * time.Second):
			t.Fatalf("%s was not heard", what)
		}
	}
	listen()
	hear("the beginning")
	if _, err := theirs.SaveConfig(ctx, storage.ConfigVersion{Document: "a"}, 0); err != nil {
		t.Fatal(err)
	}
	hear("a configuration")
	if _, err := theirs.SaveConfig(ctx, storage.ConfigVersion{Document: "b"}, 7); !errors.Is(err, storage.ErrConflict) {
		t.Fatal(err) // and nobody is told, or the next would be heard twice
	}
	if err := theirs.PutSecret(ctx, storage.Secret{Name: "s", Sealed: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	hear("a secret")
	if err := ours.DeleteSecret(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	hear("a deletion")

	var killed int
	if err := theirs.db.Load().read.QueryRowContext(ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND query LIKE 'LISTEN%'`).Scan(&killed); err != nil || killed != 1 {
		t.Fatalf("%d killed, %v", killed, err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("after the connection was ended: %v", err)
		}
	case <-heard:
		t.Fatal("something was heard that nobody said")
	case <-time.After(10 * time.Second):
		t.Fatal("it did not notice that the connection was ended")
	}
	listen()
	hear("the second beginning")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("told to stop: %v", err)
	}
}

func TestSQLiteTellsNothing(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.ListenConfig(ctx, func() { t.Error("heard") }) }()
	if _, err := s.SaveConfig(ctx, storage.ConfigVersion{Document: "a"}, 0); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := unprepared(t, t.TempDir()).ListenConfig(t.Context(), nil); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("without a database: %v", err)
	}
}
