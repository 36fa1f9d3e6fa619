package redistest_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"calltracker/storage/storetest/redistest"
)

// ping asks as Redis's own client would.
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
	answer := make([]byte, 16)
	n, err := connection.Read(answer)
	return string(answer[:n]), err
}

func TestStopAndStartKeepTheAddress(t *testing.T) {
	s := redistest.Start(t)
	for range 2 {
		if answer, err := ping(t, s.URL()); err != nil || answer != "+PONG\r\n" {
			t.Fatalf("answered %q, %v", answer, err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if answer, err := ping(t, s.URL()); err == nil {
			t.Fatalf("a stopped server answered %q", answer)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPauseKeepsConnectionsWithoutAnswer(t *testing.T) {
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
	answer := make([]byte, 16)
	if n, err := connection.Read(answer); err != nil || string(answer[:n]) != "+PONG\r\n" {
		t.Errorf("after the pause: %q, %v", answer[:n], err)
	}
}
