package cache_test

import (
	"net"
	"strings"
	"testing"
	"time"
)

// lineWriter is called with each line of a log.
type lineWriter func(line string)

func (w lineWriter) Write(p []byte) (int, error) {
	w(string(p))
	return len(p), nil
}

// send gives a command to a server, which must take it.
func send(t *testing.T, url, command string) {
	t.Helper()
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "redis://"))
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
		t.Fatalf("%s answered %q, %v", strings.TrimSpace(command), answer[:n], err)
	}
}
