package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"calltracker/server/httpapi"
	"calltracker/ziwo"
	"calltracker/ziwo/ziwotest"
)

// serveWithRecordings starts a server and a fake Ziwo. The recordings section of the
// contact center is section.
func serveWithRecordings(t *testing.T, section string) *ziwoHarness {
	t.Helper()
	r := serveWithZiwo(t, ziwotest.Options{})
	r.setRecordings(section)
	return r
}

// setRecordings applies a configuration with another recordings section.
func (r *ziwoHarness) setRecordings(section string) {
	r.t.Helper()
	api := r.parts.config.Current().Document.ContactCenters["aldebaran"].API
	document := strings.Replace(documentFor(r.ziwo, api), "webhook_keys: [hook-key-1]}", "webhook_keys: [hook-key-1], recordings: "+section+"}", 1)
	r.do(request{method: "PUT", path: "/api/v1/config", body: document, admin: true, header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(r.t, 200)
}

// addCall adds a call that ended some time ago to Ziwo and sends its record to the
// server. It returns the ID of the stored call.
func (r *ziwoHarness) addCall(callID string, ended time.Duration, edit func(*ziwotest.Call)) (string, ziwotest.Call) {
	r.t.Helper()
	end := time.Now().UTC().Add(-ended).Truncate(time.Second)
	call := ziwotest.Call{
		CallID: callID, Direction: "inbound", RawDID: "042345678", RawCaller: "0501234567", StartedAt: end.Add(-25 * time.Second), AnsweredAt: end.Add(-20 * time.Second),
		EndedAt: end, Duration: 25, RingTime: 5, TalkTime: 20, Result: "answered", HangupCause: "NORMAL_CLEARING", RecordingFile: callID + ".mp3",
	}
	if edit != nil {
		edit(&call)
	}
	r.ziwo.AddCalls(call)
	record := map[string]any{
		"callID": callID, "direction": "inbound", "didCalled": call.RawDID, "callerIDNumber": call.RawCaller, "startDateTime": call.StartedAt, "endDateTime": call.EndedAt,
		"hangupCause": call.HangupCause, "recordingFile": call.RecordingFile,
	}
	if !call.AnsweredAt.IsZero() {
		record["answeredDateTime"], record["disposition"] = call.AnsweredAt, "ANSWER"
	}
	body, err := json.Marshal(record)
	if err != nil {
		r.t.Fatal(err)
	}
	r.endCall("sales", "end-key-1", string(body)).want(r.t, 200)
	for _, c := range r.calls("") {
		if c.CallID == callID {
			return c.ID, call
		}
	}
	r.t.Fatalf("call %s is not stored", callID)
	return "", call
}

// getRecording requests the recording of a call. Fields are names and values of
// headers in turn.
func (r *ziwoHarness) getRecording(id string, fields ...string) response {
	r.t.Helper()
	header := map[string]string{}
	for i := 0; i < len(fields); i += 2 {
		header[fields[i]] = fields[i+1]
	}
	return r.do(request{method: "GET", path: "/api/v1/calls/" + id + "/recording", admin: true, header: header})
}

// checkNoSecrets checks that neither a response nor the log contains Ziwo's credentials.
func (r *ziwoHarness) checkNoSecrets(responses ...response) {
	r.t.Helper()
	_, password, _ := r.ziwo.Credentials()
	texts := []string{r.log.String()}
	for _, res := range responses {
		texts = append(texts, fmt.Sprint(res.header))
		if !strings.HasPrefix(res.header.Get("Content-Type"), "audio/") {
			texts = append(texts, res.body)
		}
	}
	for _, text := range texts {
		for _, secret := range []string{password, "70000000-0000-4000-8000-", "signature="} { // prefix of ziwotest's tokens
			if strings.Contains(text, secret) {
				r.t.Errorf("%q contains %q", text, secret)
			}
		}
	}
}

func TestRecordingsSupportRangeRequests(t *testing.T) {
	for _, style := range ziwo.RecordingStyles() {
		t.Run(string(style), func(t *testing.T) {
			r := serveWithRecordings(t, "{styles: ["+string(style)+"]}")
			id, call := r.addCall("call-with-audio", time.Minute, nil)
			audio := string(ziwotest.Audio(call))
			size := strconv.Itoa(len(audio))

			whole := r.getRecording(id).want(t, 200)
			if whole.body != audio || whole.header.Get("Content-Length") != size || whole.header.Get("Content-Type") != "audio/mpeg" ||
				whole.header.Get("Accept-Ranges") != "bytes" || whole.header.Get("Content-Disposition") != `inline; filename="call-with-audio.mp3"` {
				t.Errorf("whole recording: %d bytes, want %s; headers %v", len(whole.body), size, whole.header)
			}
			for _, c := range []struct{ requested, body, contentRange string }{
				{"bytes=0-99", audio[:100], "bytes 0-99/" + size},
				{"bytes=100-", audio[100:], "bytes 100-" + strconv.Itoa(len(audio)-1) + "/" + size},
				{"bytes=-7", audio[len(audio)-7:], "bytes " + strconv.Itoa(len(audio)-7) + "-" + strconv.Itoa(len(audio)-1) + "/" + size},
			} {
				part := r.getRecording(id, "Range", c.requested).want(t, 206)
				if part.body != c.body || part.header.Get("Content-Range") != c.contentRange || part.header.Get("Content-Length") != strconv.Itoa(len(c.body)) {
					t.Errorf("%s: %d bytes, headers %v", c.requested, len(part.body), part.header)
				}
			}
			for _, ignored := range []string{"bytes=0-1,5-6", "bytes=9-3", "bytes=-", "seconds=1-2", "bytes=0-99999999999999999999"} {
				if r.getRecording(id, "Range", ignored).want(t, 200).body != audio {
					t.Errorf("Range %q does not return the whole recording", ignored)
				}
			}
			tag := whole.header.Get("ETag")
			if part := r.getRecording(id, "Range", "bytes=0-9", "If-Range", tag).want(t, 206); tag == "" || part.body != audio[:10] {
				t.Errorf("If-Range %q: %d bytes, want 10", tag, len(part.body))
			}
			if r.getRecording(id, "Range", "bytes=0-9", "If-Range", `"another"`).want(t, 200).body != audio {
				t.Error("an If-Range header with another ETag does not return the whole recording")
			}
			outside := r.getRecording(id, "Range", "bytes=99999999-").want(t, 416)
			if problem := into[httpapi.Problem](t, outside); problem.Code != "range_not_satisfiable" {
				t.Errorf("range past the end: problem %+v", problem)
			}
			head := r.headRecording(id).want(t, 200)
			if head.header.Get("Content-Length") != size || head.header.Get("Content-Type") != "audio/mpeg" {
				t.Errorf("HEAD: headers %v, want Content-Length %s", head.header, size)
			}
			r.checkNoSecrets(whole, outside)
		})
	}
}

func (r *ziwoHarness) headRecording(id string) response {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodHead, r.base+"/api/v1/calls/"+id+"/recording", http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = res.Body.Close()
	return response{status: res.StatusCode, header: res.Header}
}

// TestMissingRecordings checks that a response distinguishes between a recording that
// is not available yet and one that does not exist.
func TestMissingRecordings(t *testing.T) {
	r := serveWithRecordings(t, "{}")
	late := func(c *ziwotest.Call) { c.RecordedAt = time.Now().Add(time.Hour) }
	unanswered := func(c *ziwotest.Call) { c.AnsweredAt, c.Result, c.RecordingFile = time.Time{}, "missed", "" }
	unnamed := func(c *ziwotest.Call) { c.RecordingFile = "" }
	for _, c := range []struct {
		name  string
		ended time.Duration
		edit  func(*ziwotest.Call)
		code  string
		least int // minimum Retry-After in seconds; 0 for none
	}{
		{"call just ended", 10 * time.Second, late, "recording_not_yet", 15},
		{"call ended 20 minutes ago", 20 * time.Minute, late, "recording_not_yet", 600},
		{"no file name yet", time.Minute, unnamed, "recording_not_yet", 15},
		{"unanswered call", time.Minute, unanswered, "no_recording", 0},
		{"no file name after 2 hours", 2 * time.Hour, unnamed, "no_recording", 0},
		{"not stored after 25 hours", 25 * time.Hour, late, "no_recording", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, _ := r.addCall(strings.ReplaceAll(c.name, " ", "-"), c.ended, c.edit)
			res := r.getRecording(id).want(t, 404)
			problem := into[httpapi.Problem](t, res)
			if problem.Code != c.code || problem.Type != "urn:calltracker:problem:"+c.code || problem.Detail == "" {
				t.Errorf("problem %+v, want code %s", problem, c.code)
			}
			wait := res.header.Get("Retry-After")
			if seconds, err := strconv.Atoi(wait); (wait != "") != (c.least > 0) || wait != "" && (err != nil || seconds < c.least) {
				t.Errorf("Retry-After %q, want at least %d", wait, c.least)
			}
			r.headRecording(id).want(t, 404)
		})
	}
	t.Run("available later", func(t *testing.T) {
		id, call := r.addCall("late", time.Minute, late)
		r.getRecording(id).want(t, 404)
		r.ziwo.SetNow(time.Now().Add(2 * time.Hour))
		if r.getRecording(id).want(t, 200).body != string(ziwotest.Audio(call)) {
			t.Error("wrong recording")
		}
	})
	if problem := into[httpapi.Problem](t, r.getRecording("0190d0c8-0000-7000-8000-000000000000").want(t, 404)); problem.Code != "" {
		t.Errorf("unknown call: problem %+v, want no code", problem)
	}
	r.checkNoSecrets()
}

func TestRecordingsWhenZiwoFails(t *testing.T) {
	r := serveWithRecordings(t, "{styles: [surveillance]}")
	id, call := r.addCall("faulty", time.Minute, nil)
	for _, c := range []struct {
		fault  ziwotest.FaultKind
		status int
		code   string
	}{
		{ziwotest.FaultHTML, 502, "contact_center_fails"},
		{ziwotest.FaultUnexpectedJSON, 502, "contact_center_fails"},
		{ziwotest.Fault429, 503, "contact_center_away"},
		{ziwotest.Fault500, 503, "contact_center_away"},
		{ziwotest.FaultEmpty, 404, "recording_not_yet"},
		{ziwotest.FaultRejected, 404, "recording_not_yet"},
	} {
		r.ziwo.AddFault(ziwotest.Fault{Kind: c.fault, Path: "/surveillance/", RetryAfter: "7"})
		res := r.getRecording(id).want(t, c.status)
		if problem := into[httpapi.Problem](t, res); problem.Code != c.code {
			t.Errorf("%s: problem %+v, want code %s", c.fault, problem, c.code)
		}
		if c.status == 503 && res.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", c.fault)
		}
		r.ziwo.ClearFaults()
	}
	for _, fault := range []ziwotest.FaultKind{ziwotest.FaultOctetStream, ziwotest.FaultRedirect, ziwotest.FaultLeakToken, ziwotest.FaultIgnoreRange} {
		r.ziwo.AddFault(ziwotest.Fault{Kind: fault, Path: "/surveillance/"})
		res := r.getRecording(id).want(t, 200)
		if res.body != string(ziwotest.Audio(call)) || res.header.Get("Content-Type") != "audio/mpeg" {
			t.Errorf("%s: %d bytes, headers %v", fault, len(res.body), res.header)
		}
		r.checkNoSecrets(res)
		r.ziwo.ClearFaults()
	}
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.FaultHalfBody, Path: "/surveillance/"})
	body := r.openRecording(t.Context(), id)
	defer body.Close()
	if got, err := io.ReadAll(body); err == nil {
		t.Errorf("a truncated recording of %d bytes was read without an error", len(got))
	}
}

// openRecording starts to stream a recording and returns the response body.
func (r *ziwoHarness) openRecording(ctx context.Context, id string) io.ReadCloser {
	r.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.base+"/api/v1/calls/"+id+"/recording", http.NoBody)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		r.t.Fatalf("status %d, want 200", res.StatusCode)
	}
	return res.Body
}

// TestShutdownEndsRecordingStreams checks that a shutdown ends open streams promptly.
func TestShutdownEndsRecordingStreams(t *testing.T) {
	r := serveWithRecordings(t, "{styles: [surveillance]}")
	id, _ := r.addCall("long", time.Minute, nil)
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.FaultStalledBody, Path: "/surveillance/"})
	body := r.openRecording(t.Context(), id)
	defer body.Close()
	r.stop()
	if _, err := io.ReadAll(body); err == nil {
		t.Error("the interrupted stream ended without an error")
	}
	if strings.Contains(r.log.String(), "requests interrupted") {
		t.Error("the shutdown had to interrupt the stream")
	}
}

func TestRecordingStyleChangeAppliesImmediately(t *testing.T) {
	r := serveWithRecordings(t, "{styles: [surveillance]}")
	id, _ := r.addCall("styled", time.Minute, nil)
	r.getRecording(id).want(t, 200)
	r.setRecordings("{styles: [static]}")
	r.getRecording(id).want(t, 200)
	if n, m := r.ziwo.Requests("GET /surveillance/recordings/{file}"), r.ziwo.Requests("GET /static/callRecordingsEndpoint"); n != 1 || m != 1 {
		t.Errorf("%d requests in the old style, %d in the new; want 1 of each", n, m)
	}
}

func TestRecordingsWithoutCredentials(t *testing.T) {
	r := serveWithRecordings(t, "{}")
	id, _ := r.addCall("locked", time.Minute, nil)
	r.do(request{method: "PUT", path: "/api/v1/config", admin: true, header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"},
		body: "contact_centers: {aldebaran: {}}\ntrackers: {sales: {keys: {start: [a-key-1], end: [a-key-1]}, routes: [{id: all, voicemail: true}]}}\n"}).want(t, 200)
	if problem := into[httpapi.Problem](t, r.getRecording(id).want(t, 409)); problem.Code != "contact_center_unknown" {
		t.Errorf("problem %+v, want code contact_center_unknown", problem)
	}
	if res := r.do(request{method: "GET", path: "/api/v1/calls/" + id + "/recording"}); res.status != 401 {
		t.Errorf("without a token: status %d, want 401", res.status)
	}
}
