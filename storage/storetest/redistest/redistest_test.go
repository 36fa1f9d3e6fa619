package redistest_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"calltracker/storage/storetest/redistest"
)

// ping sends a PING and returns the reply.
func ping(t *testing.T, url string) (string, error) {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "redis://"))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := connection.Write([]byte("PING\r\n")); err != nil {
		return "", err
	}
	reply := make([]byte, 16)
	n, err := connection.Read(reply)
	return string(reply[:n]), err
}

func TestRestartKeepsTheAddress(t *testing.T) {
	s := redistest.Start(t)
	for range 2 {
		if reply, err := ping(t, s.URL()); err != nil || reply != "+PONG\r\n" {
			t.Fatalf("reply %q, %v; want PONG", reply, err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if reply, err := ping(t, s.URL()); err == nil {
			t.Fatalf("reply %q from a stopped server", reply)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPauseKeepsConnections(t *testing.T) {
	s := redistest.Start(t)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(s.URL(), "redis://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if _, err := connection.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, 16)
	if n, err := connection.Read(reply); err != nil || string(reply[:n]) != "+PONG\r\n" {
		t.Errorf("reply %q, %v after the pause; want PONG", reply[:n], err)
	}
}
