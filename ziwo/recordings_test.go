package ziwo_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"calltracker/ziwo"
	"calltracker/ziwo/ziwotest"
)

// serveRecording starts a Ziwo with the recording of one call, and returns it with a
// client that uses one recording style.
func serveRecording(t *testing.T, style ziwo.RecordingStyle, edit ...func(*ziwo.ClientOptions)) (*ziwotest.Ziwo, *ziwo.Client, ziwotest.Call) {
	t.Helper()
	z, c := newZiwo(t, append(edit, func(o *ziwo.ClientOptions) { o.Recordings = []ziwo.RecordingStyle{style} })...)
	call := makeCalls(1, 0)[0]
	z.AddCalls(call)
	z.SetNow(noon.Add(time.Hour))
	return z, c, call
}

func TestRecordingFaults(t *testing.T) {
	t.Parallel()
	for _, style := range ziwo.RecordingStyles() {
		path := map[ziwo.RecordingStyle]string{
			ziwo.RecordingSurveillance: "/surveillance/", ziwo.RecordingSignedURL: "/signed/", ziwo.RecordingHistory: "/callHistory/", ziwo.RecordingStatic: "/static/",
		}[style]
		for _, f := range []struct {
			fault ziwotest.FaultKind
			kind  ziwo.ErrorKind // kind of the error of Recording; empty if it succeeds
			whole bool           // whether the whole body arrives
		}{
			{ziwotest.FaultHTML, ziwo.Unreadable, false},
			{ziwotest.FaultEmpty, ziwo.NotFound, false},
			{ziwotest.FaultTruncatedJSON, ziwo.Unreadable, false},
			{ziwotest.FaultUnexpectedJSON, ziwo.Unreadable, false},
			{ziwotest.FaultRejected, ziwo.NotFound, false},
			{ziwotest.Fault429, ziwo.RateLimited, false},
			{ziwotest.Fault500, ziwo.Unavailable, false},
			{ziwotest.FaultHang, ziwo.Unavailable, false},
			{ziwotest.FaultHalfBody, "", false},
			{ziwotest.FaultStalledBody, "", false},
			{ziwotest.FaultIgnoreRange, "", true},
			{ziwotest.FaultOctetStream, "", true},
			{ziwotest.FaultRedirect, "", true},
			{ziwotest.FaultLeakToken, "", true},
		} {
			if style == ziwo.RecordingSignedURL && f.fault == ziwotest.FaultRedirect {
				continue // a signed URL does not redirect
			}
			t.Run(string(style)+"/"+string(f.fault), func(t *testing.T) {
				t.Parallel()
				z, c, call := serveRecording(t, style, func(o *ziwo.ClientOptions) { o.Timeout = 300 * time.Millisecond })
				if _, err := c.Profile(t.Context()); err != nil { // log in first
					t.Fatal(err)
				}
				z.AddFault(ziwotest.Fault{Kind: f.fault, Path: path})
				recording, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: call.CallID})
				if f.kind != "" {
					if ziwo.KindOf(err) != f.kind {
						t.Fatalf("got error %v, want kind %s", err, f.kind)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(recording.Body)
				if closed := recording.Body.Close(); closed != nil {
					t.Error(closed)
				}
				if whole := err == nil && string(body) == string(ziwotest.Audio(call)); whole != f.whole {
					t.Errorf("got %d bytes and error %v, want whole body: %v", len(body), err, f.whole)
				}
				if recording.ContentType != "audio/mpeg" {
					t.Errorf("Content-Type is %s, want audio/mpeg", recording.ContentType)
				}
				if strings.Contains(recording.ETag, "70000000") {
					t.Errorf("the ETag contains the token: %s", recording.ETag)
				}
			})
		}
	}
}

// TestOpenRecordingsDoNotBlockRequests opens as many recordings as the client allows.
func TestOpenRecordingsDoNotBlockRequests(t *testing.T) {
	_, c, call := serveRecording(t, ziwo.RecordingSurveillance, func(o *ziwo.ClientOptions) { o.Concurrency = 1 })
	var open []io.Closer
	for range 16 {
		recording, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: call.CallID})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, recording.Body)
	}
	if _, err := c.Profile(t.Context()); err != nil {
		t.Errorf("request next to open recordings: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Recording(ctx, ziwo.RecordingQuery{CallID: call.CallID}); !errors.Is(err, context.Canceled) {
		t.Errorf("recording beyond the limit: got %v, want context.Canceled", err)
	}
	for _, body := range open {
		_ = body.Close()
		_ = body.Close() // must not free the slot twice
	}
	recording, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: call.CallID})
	if err != nil {
		t.Fatal(err)
	}
	if err := recording.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestRecordID(t *testing.T) {
	for body, want := range map[string]string{
		`{"id":51234,"callID":"c"}`:                                     "51234",
		`{"action":"create","content":{"id":"51234","agent":{"id":7}}}`: "51234",
		`{"id":"46:5196"}`:                                              "", `{"callID":"c"}`: "", `[]`: "", ``: "", `{"id":-1}`: "", `{"id":"../x"}`: "",
	} {
		if got := ziwo.RecordID([]byte(body)); got != want {
			t.Errorf("RecordID(%s) = %q, want %q", body, got, want)
		}
	}
}
