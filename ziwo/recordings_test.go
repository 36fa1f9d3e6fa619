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

// withRecording is a Ziwo that has one recording, and a client that fetches it in
// one style.
func withRecording(t *testing.T, style ziwo.RecordingStyle, edit ...func(*ziwo.ClientOptions)) (*ziwotest.Ziwo, *ziwo.Client, ziwotest.Call) {
	t.Helper()
	z, c := talk(t, append(edit, func(o *ziwo.ClientOptions) { o.Recordings = []ziwo.RecordingStyle{style} })...)
	call := invent(1, 0)[0]
	z.AddCalls(call)
	z.SetNow(noon.Add(time.Hour))
	return z, c, call
}

func TestRecordingsSurviveTheirFaults(t *testing.T) {
	t.Parallel()
	for _, style := range ziwo.RecordingStyles() {
		path := map[ziwo.RecordingStyle]string{
			ziwo.RecordingSurveillance: "/surveillance/", ziwo.RecordingSignedURL: "/signed/", ziwo.RecordingHistory: "/callHistory/", ziwo.RecordingStatic: "/static/",
		}[style]
		for _, f := range []struct {
			fault ziwotest.FaultKind
			kind  ziwo.ErrorKind // of opening it; empty: it opens
			whole bool           // and all of it comes
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
				continue // nobody redirects from there
			}
			t.Run(string(style)+"/"+string(f.fault), func(t *testing.T) {
				t.Parallel()
				z, c, call := withRecording(t, style, func(o *ziwo.ClientOptions) { o.Timeout = 300 * time.Millisecond })
				if _, err := c.Profile(t.Context()); err != nil { // it is logged in
					t.Fatal(err)
				}
				z.AddFault(ziwotest.Fault{Kind: f.fault, Path: path})
				recording, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: call.CallID})
				if f.kind != "" {
					if ziwo.KindOf(err) != f.kind {
						t.Fatalf("%v, want %s", err, f.kind)
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
					t.Errorf("%d bytes, %v", len(body), err)
				}
				if recording.ContentType != "audio/mpeg" {
					t.Errorf("it is %s", recording.ContentType)
				}
				if strings.Contains(recording.ETag, "70000000") {
					t.Errorf("the ETag is the token: %s", recording.ETag)
				}
			})
		}
	}
}

// Who listens slowly keeps nobody else from Ziwo, and not too many listen.
func TestListenersAreNoRequests(t *testing.T) {
	_, c, call := withRecording(t, ziwo.RecordingSurveillance, func(o *ziwo.ClientOptions) { o.Concurrency = 1 })
	var open []io.Closer
	for range 16 {
		recording, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: call.CallID})
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, recording.Body)
	}
	if _, err := c.Profile(t.Context()); err != nil {
		t.Errorf("a request beside them: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Recording(ctx, ziwo.RecordingQuery{CallID: call.CallID}); !errors.Is(err, context.Canceled) {
		t.Errorf("one more: %v", err)
	}
	for _, body := range open {
		_ = body.Close()
		_ = body.Close() // gives its place back once
	}
	recording, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: call.CallID})
	if err != nil {
		t.Fatal(err)
	}
	if err := recording.Body.Close(); err != nil {
		t.Error(err)
	}
}

func TestRecordIDs(t *testing.T) {
	for body, want := range map[string]string{
		`{"id":51234,"callID":"c"}`:                                     "51234",
		`{"action":"create","content":{"id":"51234","agent":{"id":7}}}`: "51234",
		`{"id":"46:5196"}`:                                              "", `{"callID":"c"}`: "", `[]`: "", ``: "", `{"id":-1}`: "", `{"id":"../x"}`: "",
	} {
		if got := ziwo.RecordID([]byte(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}
