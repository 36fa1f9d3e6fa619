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
	notified, ended := make(chan struct{}), make(chan error, 1)
	listen := func() {
		go func() { ended <- ours.ListenConfig(ctx, func() { notified <- struct{}{} }) }()
	}
	expect := func(what string) {
		t.Helper()
		select {
		case <-notified:
		case err := <-ended:
			t.Fatalf("%s: stopped listening: %v", what, err)
		case <-time.After(10 * time.Second):
			t.Fatalf("no notification of %s", what)
		}
	}
	listen()
	expect("the start")
	if _, err := theirs.SaveConfig(ctx, storage.ConfigVersion{Document: "a"}, 0); err != nil {
		t.Fatal(err)
	}
	expect("a configuration")
	if _, err := theirs.SaveConfig(ctx, storage.ConfigVersion{Document: "b"}, 7); !errors.Is(err, storage.ErrConflict) {
		t.Fatal(err) // a rejected change must not notify, or the next change would notify twice
	}
	if err := theirs.PutSecret(ctx, storage.Secret{Name: "s", Sealed: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	expect("a secret")
	if err := ours.DeleteSecret(ctx, "s"); err != nil {
		t.Fatal(err)
	}
	expect("a deletion")

	var killed int
	if err := theirs.db.Load().read.QueryRowContext(ctx, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
		WHERE datname = current_database() AND query LIKE 'LISTEN%'`).Scan(&killed); err != nil || killed != 1 {
		t.Fatalf("%d connections killed, %v; want 1", killed, err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, storage.ErrUnavailable) {
			t.Errorf("connection killed: %v, want storage.ErrUnavailable", err)
		}
	case <-notified:
		t.Fatal("notified without a change")
	case <-time.After(10 * time.Second):
		t.Fatal("the lost connection was not noticed")
	}
	listen()
	expect("the second start")
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("context canceled: %v, want nil", err)
	}
}

func TestListenConfigOnSQLite(t *testing.T) {
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.ListenConfig(ctx, func() { t.Error("notified on SQLite") }) }()
	if _, err := s.SaveConfig(ctx, storage.ConfigVersion{Document: "a"}, 0); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := newStore(t, t.TempDir()).ListenConfig(t.Context(), nil); !errors.Is(err, storage.ErrUnavailable) {
		t.Errorf("not prepared: %v, want storage.ErrUnavailable", err)
	}
}
