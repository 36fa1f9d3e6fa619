package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestShutdownCompletesAcceptedRequests stops the server in the middle of a request
// body. The server must read the rest and store the record.
func TestShutdownCompletesAcceptedRequests(t *testing.T) {
	dir := t.TempDir()
	h := serveIn(t, dir, document)
	const body = `{"callID":"in-the-middle","didCalled":"061234567"}`
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(h.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The server sends 100 Continue after it has accepted the request.
	fmt.Fprintf(conn, "POST /callTrackers/sales/endCall HTTP/1.1\r\nHost: test\r\nX-API-Key: end-key-old\r\nContent-Type: application/json\r\n"+
		"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
	reader := bufio.NewReader(conn)
	if line, err := reader.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("got %q and error %v, want 100 Continue", line, err)
	}
	if _, err := reader.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, body[:20])
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		h.stop()
	}()
	eventually(t, "the shutdown to start", func() bool { return strings.Contains(h.log.String(), `"stopping"`) })
	fmt.Fprint(conn, body[20:])
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("status %s, want 200", res.Status)
	}
	<-stopped
	h = serveIn(t, dir, "")
	if calls := h.calls(""); len(calls) != 1 || calls[0].CallID != "in-the-middle" {
		t.Errorf("stored calls %+v, want in-the-middle", calls)
	}
}
