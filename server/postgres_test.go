package main

import (
	"strings"
	"testing"

	"calltracker/storage/storetest/postgrestest"
)

// TestPostgreSQLKeepsCallsAcrossRestart follows one call through the server and a
// restart. Package storetest tests the store alone.
func TestPostgreSQLKeepsCallsAcrossRestart(t *testing.T) {
	database := postgrestest.Database(t, postgrestest.Address(t))
	serve := func(document string) *harness {
		return serveWith(t, t.TempDir(), document, func(set *settings) { set.databaseURL = database })
	}
	h := serve(document)
	r := h.startCall("sales", "start-key-old", "didCalled", "042345678", "callID", "7c9e6679-7425-40de-944b-e07fc1f90ae7").want(t, 200)
	early := strings.Replace(cdr2016, `"recordingFile":"7c9e6679-7425-40de-944b-e07fc1f90ae7.mp3",`, `"recordingFile":null,`, 1)
	for _, body := range []string{early, early, cdr2016} {
		h.endCall("sales", "end-key-old", body).want(t, 200)
	}
	h.decisions(1)
	h.stop()

	h = serve("") // a new data directory: all records are in the database
	calls := h.calls("?did=%2B97142345678")
	if len(calls) != 1 || calls[0].RecordingFile == "" || calls[0].Decision != r.header.Get("X-Decision-Id") || calls[0].Route != "office" {
		t.Fatalf("calls %+v", calls)
	}
	h.startCall("sales", "start-key-old", "didCalled", "042345678").want(t, 200)
}
