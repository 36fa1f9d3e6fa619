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

// TestAStopFinishesWhatItAccepted stops the server in the middle of a request's
// body: the rest is still read, and the record kept.
func TestAStopFinishesWhatItAccepted(t *testing.T) {
	dir := t.TempDir()
	h := serveIn(t, dir, document)
	const body = `{"callID":"in-the-middle","didCalled":"061234567"}`
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(h.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The server asks for the body once it has accepted the request.
	fmt.Fprintf(conn, "POST /callTrackers/sales/endCall HTTP/1.1\r\nHost: test\r\nX-API-Key: end-key-old\r\nContent-Type: application/json\r\n"+
		"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(body))
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatal(line, err)
	}
	if _, err := answers.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, body[:20])
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		h.stop()
	}()
	eventually(t, "stopping", func() bool { return strings.Contains(h.log.String(), `"stopping"`) })
	fmt.Fprint(conn, body[20:])
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("answered %s", res.Status)
	}
	<-stopped
	h = serveIn(t, dir, "")
	if calls := h.calls(""); len(calls) != 1 || calls[0].CallID != "in-the-middle" {
		t.Errorf("calls: %+v", calls)
	}
}
