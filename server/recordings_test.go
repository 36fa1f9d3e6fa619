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

// withRecordings is a server and a Ziwo, with these recordings in the document.
func withRecordings(t *testing.T, recordings string) *reconciled {
	t.Helper()
	r := withZiwo(t, ziwotest.Options{})
	r.recordings(recordings)
	return r
}

// recordings puts another document in force.
func (r *reconciled) recordings(recordings string) {
	r.t.Helper()
	api := r.parts.config.Current().Document.ContactCenters["aldebaran"].API
	document := strings.Replace(documentFor(r.ziwo, api), "webhook_keys: [hook-key-1]}", "webhook_keys: [hook-key-1], recordings: "+recordings+"}", 1)
	r.do(request{method: "PUT", path: "/api/v1/config", body: document, admin: true, header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(r.t, 200)
}

// heard lives through a call that ended some time ago: Ziwo has it, and the server
// got its record. It returns the id of the call here.
func (r *reconciled) heard(callID string, ended time.Duration, edit func(*ziwotest.Call)) (string, ziwotest.Call) {
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

// recording asks for one. Fields are name, value, name, value, …
func (r *reconciled) recording(id string, fields ...string) response {
	r.t.Helper()
	header := map[string]string{}
	for i := 0; i < len(fields); i += 2 {
		header[fields[i]] = fields[i+1]
	}
	return r.do(request{method: "GET", path: "/api/v1/calls/" + id + "/recording", admin: true, header: header})
}

// secretless fails the test when an answer or the log holds a credential of Ziwo.
func (r *reconciled) secretless(answers ...response) {
	r.t.Helper()
	_, password, _ := r.ziwo.Credentials()
	texts := []string{r.log.String()}
	for _, a := range answers {
		texts = append(texts, fmt.Sprint(a.header))
		if !strings.HasPrefix(a.header.Get("Content-Type"), "audio/") {
			texts = append(texts, a.body)
		}
	}
	for _, text := range texts {
		for _, secret := range []string{password, "70000000-0000-4000-8000-", "signature="} { // tokens of ziwotest begin so
			if strings.Contains(text, secret) {
				r.t.Errorf("%q holds %q", text, secret)
			}
		}
	}
}

func TestRecordingsAreStreamedInParts(t *testing.T) {
	for _, style := range ziwo.RecordingStyles() {
		t.Run(string(style), func(t *testing.T) {
			r := withRecordings(t, "{styles: ["+string(style)+"]}")
			id, call := r.heard("call-with-sound", time.Minute, nil)
			sound := string(ziwotest.Audio(call))
			size := strconv.Itoa(len(sound))

			whole := r.recording(id).want(t, 200)
			if whole.body != sound || whole.header.Get("Content-Length") != size || whole.header.Get("Content-Type") != "audio/mpeg" ||
				whole.header.Get("Accept-Ranges") != "bytes" || whole.header.Get("Content-Disposition") != `inline; filename="call-with-sound.mp3"` {
				t.Errorf("%d bytes, %v", len(whole.body), whole.header)
			}
			for _, c := range []struct{ asked, body, told string }{
				{"bytes=0-99", sound[:100], "bytes 0-99/" + size},
				{"bytes=100-", sound[100:], "bytes 100-" + strconv.Itoa(len(sound)-1) + "/" + size},
				{"bytes=-7", sound[len(sound)-7:], "bytes " + strconv.Itoa(len(sound)-7) + "-" + strconv.Itoa(len(sound)-1) + "/" + size},
			} {
				part := r.recording(id, "Range", c.asked).want(t, 206)
				if part.body != c.body || part.header.Get("Content-Range") != c.told || part.header.Get("Content-Length") != strconv.Itoa(len(c.body)) {
					t.Errorf("%s: %d bytes, %v", c.asked, len(part.body), part.header)
				}
			}
			for _, ignored := range []string{"bytes=0-1,5-6", "bytes=9-3", "bytes=-", "seconds=1-2", "bytes=0-99999999999999999999"} {
				if r.recording(id, "Range", ignored).want(t, 200).body != sound {
					t.Errorf("%s is not ignored", ignored)
				}
			}
			tag := whole.header.Get("ETag")
			if part := r.recording(id, "Range", "bytes=0-9", "If-Range", tag).want(t, 206); tag == "" || part.body != sound[:10] {
				t.Errorf("with the ETag %q %d bytes", tag, len(part.body))
			}
			if r.recording(id, "Range", "bytes=0-9", "If-Range", `"another"`).want(t, 200).body != sound {
				t.Error("a part of another recording is sent")
			}
			outside := r.recording(id, "Range", "bytes=99999999-").want(t, 416)
			if problem := into[httpapi.Problem](t, outside); problem.Code != "range_not_satisfiable" {
				t.Errorf("%+v", problem)
			}
			head := r.head(id).want(t, 200)
			if head.header.Get("Content-Length") != size || head.header.Get("Content-Type") != "audio/mpeg" {
				t.Errorf("HEAD: %v", head.header)
			}
			r.secretless(whole, outside)
		})
	}
}

func (r *reconciled) head(id string) response {
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

// Not there yet and never there are told apart.
func TestMissingRecordingsSayWhy(t *testing.T) {
	r := withRecordings(t, "{}")
	late := func(c *ziwotest.Call) { c.RecordedAt = time.Now().Add(time.Hour) }
	unanswered := func(c *ziwotest.Call) { c.AnsweredAt, c.Result, c.RecordingFile = time.Time{}, "missed", "" }
	unnamed := func(c *ziwotest.Call) { c.RecordingFile = "" }
	for _, c := range []struct {
		name  string
		ended time.Duration
		edit  func(*ziwotest.Call)
		code  string
		least int // Retry-After; 0: none
	}{
		{"the call has just ended", 10 * time.Second, late, "recording_not_yet", 15},
		{"for twenty minutes", 20 * time.Minute, late, "recording_not_yet", 600},
		{"it is not named yet", time.Minute, unnamed, "recording_not_yet", 15},
		{"nobody answered", time.Minute, unanswered, "no_recording", 0},
		{"no recording is named", 2 * time.Hour, unnamed, "no_recording", 0},
		{"Ziwo never stored it", 25 * time.Hour, late, "no_recording", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			id, _ := r.heard(strings.ReplaceAll(c.name, " ", "-"), c.ended, c.edit)
			answer := r.recording(id).want(t, 404)
			problem := into[httpapi.Problem](t, answer)
			if problem.Code != c.code || problem.Type != "urn:calltracker:problem:"+c.code || problem.Detail == "" {
				t.Errorf("%+v", problem)
			}
			wait := answer.header.Get("Retry-After")
			if seconds, err := strconv.Atoi(wait); (wait != "") != (c.least > 0) || wait != "" && (err != nil || seconds < c.least) {
				t.Errorf("Retry-After is %q", wait)
			}
			r.head(id).want(t, 404)
		})
	}
	t.Run("then it is there", func(t *testing.T) {
		id, call := r.heard("late", time.Minute, late)
		r.recording(id).want(t, 404)
		r.ziwo.SetNow(time.Now().Add(2 * time.Hour))
		if r.recording(id).want(t, 200).body != string(ziwotest.Audio(call)) {
			t.Error("it is another")
		}
	})
	if problem := into[httpapi.Problem](t, r.recording("0190d0c8-0000-7000-8000-000000000000").want(t, 404)); problem.Code != "" {
		t.Errorf("a call that is not there: %+v", problem)
	}
	r.secretless()
}

func TestRecordingsOfAZiwoThatFails(t *testing.T) {
	r := withRecordings(t, "{styles: [surveillance]}")
	id, call := r.heard("faulty", time.Minute, nil)
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
		answer := r.recording(id).want(t, c.status)
		if problem := into[httpapi.Problem](t, answer); problem.Code != c.code {
			t.Errorf("%s: %+v", c.fault, problem)
		}
		if c.status == 503 && answer.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", c.fault)
		}
		r.ziwo.ClearFaults()
	}
	for _, fault := range []ziwotest.FaultKind{ziwotest.FaultOctetStream, ziwotest.FaultRedirect, ziwotest.FaultLeakToken, ziwotest.FaultIgnoreRange} {
		r.ziwo.AddFault(ziwotest.Fault{Kind: fault, Path: "/surveillance/"})
		answer := r.recording(id).want(t, 200)
		if answer.body != string(ziwotest.Audio(call)) || answer.header.Get("Content-Type") != "audio/mpeg" {
			t.Errorf("%s: %d bytes, %v", fault, len(answer.body), answer.header)
		}
		r.secretless(answer)
		r.ziwo.ClearFaults()
	}
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.FaultHalfBody, Path: "/surveillance/"})
	body := r.open(t.Context(), id)
	defer body.Close()
	if got, err := io.ReadAll(body); err == nil {
		t.Errorf("a recording that broke off is whole, with %d bytes", len(got))
	}
}

// open begins to read a recording.
func (r *reconciled) open(ctx context.Context, id string) io.ReadCloser {
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
		r.t.Fatalf("status %d", res.StatusCode)
	}
	return res.Body
}

// A stream under way ends with the server, and does not hold it up.
func TestRecordingsEndWithTheServer(t *testing.T) {
	r := withRecordings(t, "{styles: [surveillance]}")
	id, _ := r.heard("long", time.Minute, nil)
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.FaultStalledBody, Path: "/surveillance/"})
	body := r.open(t.Context(), id)
	defer body.Close()
	r.stop()
	if _, err := io.ReadAll(body); err == nil {
		t.Error("the stream ended as if it were whole")
	}
	if strings.Contains(r.log.String(), "requests were cut off") {
		t.Error("the stream did not end by itself")
	}
}

// A document with other styles is heeded at once.
func TestAnotherStyleIsAnotherClient(t *testing.T) {
	r := withRecordings(t, "{styles: [surveillance]}")
	id, _ := r.heard("styled", time.Minute, nil)
	r.recording(id).want(t, 200)
	r.recordings("{styles: [static]}")
	r.recording(id).want(t, 200)
	if n, m := r.ziwo.Requests("GET /surveillance/recordings/{file}"), r.ziwo.Requests("GET /static/callRecordingsEndpoint"); n != 1 || m != 1 {
		t.Errorf("%d requests in the old style, %d in the new", n, m)
	}
}

func TestRecordingsWithoutCredentials(t *testing.T) {
	r := withRecordings(t, "{}")
	id, _ := r.heard("locked", time.Minute, nil)
	r.do(request{method: "PUT", path: "/api/v1/config", admin: true, header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"},
		body: "contact_centers: {aldebaran: {}}\ntrackers: {sales: {keys: {start: [a-key-1], end: [a-key-1]}, routes: [{id: all, voicemail: true}]}}\n"}).want(t, 200)
	if problem := into[httpapi.Problem](t, r.recording(id).want(t, 409)); problem.Code != "contact_center_unknown" {
		t.Errorf("%+v", problem)
	}
	if answer := r.do(request{method: "GET", path: "/api/v1/calls/" + id + "/recording"}); answer.status != 401 {
		t.Errorf("without a token: %d", answer.status)
	}
}
