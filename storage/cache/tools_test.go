package cache_test

import (
	"net"
	"strings"
	"testing"
	"time"
)

// lineWriter receives each line of a log.
type lineWriter func(line string)

func (w lineWriter) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

// send sends a command to a Redis server and expects the answer OK.
func send(t *testing.T, address, command string) {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(address, "redis://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := connection.Write([]byte(command)); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 64)
	if n, err := connection.Read(answer); err != nil || string(answer[:n]) != "+OK\r\n" {
		t.Fatalf("answer to %s is %q, error %v, want OK", strings.TrimSpace(command), answer[:n], err)
	}
}
