package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"calltracker/handlers/calls"
	"calltracker/handlers/decisions"
	"calltracker/server/httpapi"
)

const officeAnswer = `{"result":true,"content":{"didCalled":"061234567","rules":[` +
	`{"action":"call","number":"0501112233","callerID":"042223344","timeout":10},` +
	`{"action":"call","number":"045556677","callerID":"042223344","timeout":20}],"voicemail":true},"info":{}}`

func TestStartCallAcceptsEveryBodyFormat(t *testing.T) {
	h := serve(t, document)
	contentType, form := multipartForm("didCalled", "061234567", "callerIDNumber", "0501234567", "callID", "a-1")
	for _, c := range []struct{ name, contentType, path, body string }{
		{"multipart", contentType, "", form},
		{"multipart without a content type", "", "", form},
		{"multipart with a JSON content type", "application/json", "", form},
		{"urlencoded", "application/x-www-form-urlencoded", "", "didCalled=061234567&callerIDNumber=0501234567"},
		{"urlencoded with a charset", "application/x-www-form-urlencoded; charset=utf-8", "", "didCalled=061234567"},
		{"JSON", "application/json", "", `{"didCalled":"061234567","callerIDNumber":"0501234567"}`},
		{"JSON with a charset", "application/json; charset=utf-8", "", `{"didCalled":"061234567"}`},
		{"JSON with a form content type", "application/x-www-form-urlencoded", "", `{"didCalled":"061234567"}`},
		{"JSON without a content type", "", "", ` {"didCalled":"061234567"}`},
		{"JSON in curly quotes", "application/json", "", `{“didCalled”: “061234567”}`},
		{"wrapped JSON", "application/json", "", `{"action":"start","content":{"didCalled":"061234567"}}`},
		{"upper-case field name", "application/json", "", `{"DIDCALLED":"061234567"}`},
		{"query parameters", "", "?didCalled=061234567&callerIDNumber=0501234567", ""},
		{"malformed content type", "a/b/c; ;;", "", "didCalled=061234567"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := *h
			h.t = t
			r := h.do(request{
				method: "POST", path: "/callTrackers/sales/startCall" + c.path, key: "start-key-old", body: c.body,
				header: map[string]string{"Content-Type": c.contentType},
			}).want(t, 200)
			if r.body != officeAnswer {
				t.Errorf("body %s, want %s", r.body, officeAnswer)
			}
			if got := r.header.Get("Content-Type"); got != "application/json; charset=utf-8" {
				t.Errorf("Content-Type %q, want application/json; charset=utf-8", got)
			}
		})
	}
}

func TestStartCallFollowsRules(t *testing.T) {
	h := serve(t, document)
	for _, c := range []struct {
		name    string
		fields  []string
		numbers []string
		callers []string
	}{
		{"caller by country", []string{"didCalled", "061234567", "callerIDNumber", "+33612345678"}, []string{"0509998877"}, []string{"044440000"}},
		{"caller in field from", []string{"didCalled", "061234567", "from", "0033612345678"}, []string{"0509998877"}, []string{"044440000"}},
		{"any other caller", []string{"didCalled", "061234567", "callerIDNumber", "anonymous"}, []string{"0501112233", "045556677"}, []string{"042223344", "042223344"}},
		{"rotation turn 1", []string{"didCalled", "061234567", "Queue", "support"}, []string{"0500000001", "0500000002"}, nil},
		{"rotation turn 2", []string{"didCalled", "061234567", "queue", "support"}, []string{"0500000002", "0500000001"}, nil},
		{"rotation turn 3", []string{"didCalled", "061234567", "queue", "support"}, []string{"0500000001", "0500000002"}, nil},
		{"unlisted DID", []string{"didCalled", "065554433"}, []string{"0501112233", "045556677"}, nil},
	} {
		r := h.startCall("sales", "start-key-new", c.fields...).want(t, 200)
		answer := into[httpapi.StartEnvelope](t, r)
		for i, want := range c.numbers {
			if i >= len(answer.Content.Rules) || answer.Content.Rules[i].Number != want {
				t.Fatalf("%s: rules %+v, want numbers %v", c.name, answer.Content.Rules, c.numbers)
			}
			if i < len(c.callers) && answer.Content.Rules[i].CallerID != c.callers[i] {
				t.Errorf("%s: rule %d: caller ID %q, want %q", c.name, i, answer.Content.Rules[i].CallerID, c.callers[i])
			}
		}
		if answer.Content.DIDCalled != c.fields[1] {
			t.Errorf("%s: didCalled %q, want %q", c.name, answer.Content.DIDCalled, c.fields[1])
		}
	}
}

func TestStartCallEchoesDIDByteForByte(t *testing.T) {
	h := serve(t, document)
	for _, did := range []string{"061234567", "+97161234567", " 061234567 ", `06"12\34`, "٠٦١٢٣", "00971 6 123 4567", "<script>", "06\u2028"} {
		body, err := json.Marshal(map[string]string{"didCalled": did})
		if err != nil {
			t.Fatal(err)
		}
		r := h.do(request{method: "POST", path: "/callTrackers/open-line/startCall", body: string(body)}).want(t, 200)
		if got := into[httpapi.StartEnvelope](t, r).Content.DIDCalled; got != did {
			t.Errorf("didCalled %q, want %q", got, did)
		}
	}
}

func TestZiwoRequestRejections(t *testing.T) {
	h := serve(t, document)
	jsonRequest := func(path, key, user, body string) request {
		return request{method: "POST", path: path, key: key, user: user, body: body, header: map[string]string{"Content-Type": "application/json"}}
	}
	const did, cdr = `{"didCalled":"061234567"}`, `{"callID":"c-1","didCalled":"061234567"}`
	cases := []struct {
		name    string
		request request
		status  int
		reason  string // "" if the request is accepted
		message string // part of the error message
	}{
		{"old key", jsonRequest("/callTrackers/sales/startCall", "start-key-old", "", did), 200, "", ""},
		{"new key", jsonRequest("/callTrackers/sales/startCall", "start-key-new", "", did), 200, "", ""},
		{"Basic authentication", jsonRequest("/callTrackers/sales/startCall", "start-key-new", "anyone", did), 200, "", ""},
		{"tracker without authentication", jsonRequest("/callTrackers/open-line/startCall", "", "", did), 200, "", ""},
		{"tracker without authentication, any key", jsonRequest("/callTrackers/open-line/startCall", "whatever", "", did), 200, "", ""},
		{"no key", jsonRequest("/callTrackers/sales/startCall", "", "", did), 401, "wrong_key", "X-API-Key"},
		{"wrong key", jsonRequest("/callTrackers/sales/startCall", "start-key-ol", "", did), 401, "wrong_key", "X-API-Key"},
		{"end key for startCall", jsonRequest("/callTrackers/sales/startCall", "end-key-old", "", did), 401, "wrong_key", ""},
		{"start key for endCall", jsonRequest("/callTrackers/sales/endCall", "start-key-old", "", cdr), 401, "wrong_key", ""},
		{"wrong Basic password", jsonRequest("/callTrackers/sales/startCall", "nope", "start-key-old", did), 401, "wrong_key", ""},
		{"tracker without keys", jsonRequest("/callTrackers/locked/startCall", "anything", "", did), 401, "wrong_key", ""},
		{"blocked tracker", jsonRequest("/callTrackers/shut/startCall", "shut-key-123", "", did), 403, "blocked", "blocked"},
		{"blocked tracker, wrong key", jsonRequest("/callTrackers/shut/startCall", "no", "", did), 401, "wrong_key", ""},
		{"unknown tracker", jsonRequest("/callTrackers/sale/startCall", "start-key-old", "", did), 404, "unknown_tracker", `"sale"`},
		{"unknown tracker for endCall", jsonRequest("/callTrackers/sale/endCall", "end-key-old", "", cdr), 404, "unknown_tracker", ""},
		{"no DID", jsonRequest("/callTrackers/sales/startCall", "start-key-old", "", `{"callID":"x"}`), 400, "no_did", "didCalled"},
		{"no DID, empty body", jsonRequest("/callTrackers/sales/startCall", "start-key-old", "", ""), 400, "no_did", "didCalled"},
		{"broken JSON", jsonRequest("/callTrackers/sales/startCall", "start-key-old", "", `{"didCalled":"06`), 400, "", ""},
		{"startCall body too large", jsonRequest("/callTrackers/sales/startCall", "start-key-old", "", strings.Repeat("x", 1<<20+1)), 413, "too_large", "1048576"},
		{"endCall body too large", jsonRequest("/callTrackers/sales/endCall", "end-key-old", "", strings.Repeat("x", 1<<20+1)), 413, "too_large", "1048576"},
		{"endCall body empty", jsonRequest("/callTrackers/sales/endCall", "end-key-old", "", ""), 400, "empty_body", "empty"},
		{"webhook without a key", jsonRequest("/webhooks/ziwo/callHistory", "", "", cdr), 401, "wrong_key", ""},
		{"webhook with a tracker's key", jsonRequest("/webhooks/ziwo/callHistory", "end-key-old", "", cdr), 401, "wrong_key", ""},
	}
	rejected := 0
	for _, c := range cases {
		r := h.do(c.request)
		if r.status != c.status {
			t.Errorf("%s: status %d, want %d: %s", c.name, r.status, c.status, r.body)
			continue
		}
		if c.status == 200 {
			continue
		}
		rejected++
		envelope := into[httpapi.ErrorEnvelope](t, r)
		if envelope.Result || envelope.Error.Message == "" || !strings.Contains(envelope.Error.Message, c.message) {
			t.Errorf("%s: body %s, want an error message with %q", c.name, r.body, c.message)
		}
		if !strings.HasPrefix(r.body, `{"result":false,"content":{},"info":{},"error":{"message":"`) {
			t.Errorf("%s: unexpected envelope %s", c.name, r.body)
		}
	}
	for i, got := range h.rejections(rejected) { // newest first
		for _, c := range cases {
			if c.status != 200 && c.status == got.Status && c.reason == got.Reason && strings.HasPrefix(c.request.path, got.Path) {
				goto found
			}
		}
		if got.Reason != "unreadable" {
			t.Errorf("rejection %d matches no rejected request: %+v", i, got)
		}
	found:
	}
	for _, secret := range []string{"start-key-ol", "end-key-old", "shut-key-123", "nope"} {
		if r := h.get("/api/v1/rejections?limit=1000"); strings.Contains(r.body, secret) {
			t.Errorf("the rejections contain the key %q", secret)
		}
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log contains the key %q", secret)
		}
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	h := serve(t, document)
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/callTrackers/sales/startCall", 405},
		{"POST", "/callTrackers/sales/middleCall", 404},
		{"POST", "/callTrackers/", 404},
		{"POST", "/webhooks/ziwo/other", 404},
		{"GET", "/api/v1/nothing", 404},
		{"DELETE", "/api/v1/calls", 405},
	} {
		req, err := newRequest(t, c.method, h.base+c.path)
		if err != nil {
			t.Fatal(err)
		}
		status, header, body := send(t, req)
		if status != c.status {
			t.Errorf("%s %s: status %d, want %d", c.method, c.path, status, c.status)
		}
		wantType, wantPart := "application/problem+json", `"status":`
		if !strings.HasPrefix(c.path, "/api/") {
			wantType, wantPart = "application/json", `"error":{"message":`
		}
		if !strings.HasPrefix(header.Get("Content-Type"), wantType) || !strings.Contains(body, wantPart) {
			t.Errorf("%s %s: Content-Type %s, body %s; want %s with %s", c.method, c.path, header.Get("Content-Type"), body, wantType, wantPart)
		}
	}
}

func TestOnlyInvalidKeysAreRateLimited(t *testing.T) {
	h := serve(t, document)
	for i := range 30 {
		h.startCall("sales", fmt.Sprintf("guess-%d", i), "didCalled", "061234567").want(t, 401)
	}
	r := h.startCall("sales", "guess-31", "didCalled", "061234567").want(t, 429)
	seconds, err := strconv.Atoi(r.header.Get("Retry-After"))
	if err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After %q, want 1 to 60", r.header.Get("Retry-After"))
	}
	h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	h.startCall("sales", "", "didCalled", "061234567").want(t, 401)
	h.endCall("sales", "guess-32", `{"callID":"a"}`).want(t, 429)
	h.endCall("sales", "end-key-old", `{"callID":"a"}`).want(t, 200)
	h.get("/api/v1/calls").want(t, 200)
}

// cdr2016 has the format that Ziwo's developer page describes. cdr2026 has the
// format that Ziwo's webhook sent in August 2026. The values are fake.
const (
	cdr2016 = `{"callID":"7c9e6679-7425-40de-944b-e07fc1f90ae7","answeredRawTime":1468150607,"hangupBy":"originatee","audioQuality":"100",
"duration":28,"createdAt":"2016-07-10T11:37:03.944Z","callerIDName":"044998877","recordingFile":"7c9e6679-7425-40de-944b-e07fc1f90ae7.mp3",
"direction":"inbound","updatedAt":"2016-07-10T11:37:03.944Z","callerIDNumber":"044998877","endRawTime":1468150623,
"endDateTime":"2016-07-10T11:37:03.000Z","holdTime":0,"startRawTime":1468150595,"callLegSide":"unknown","hangupCause":"NORMAL_CLEARING",
"disposition":"ANSWER","agentCCLogin":"unknown","startDateTime":"2016-07-10T11:36:35.000Z","answeredDateTime":"2016-07-10T11:36:47.000Z",
"didCalled":"042345678","channelName":"sofia/internal/042345678@sip.example.com","position":"0501112233","gateway":"external","status":"active",
"id":"46:5196","version":"3","extendedInfo":{"numbers":{"linkData":"sales","linkType":"callTracker","did":"042345678"},
"agents":{"ccLogin":"0012","ccPassword":"hunter2"}},"callFlows":[{"step":1,"transfered":false,"hangup":true}]}`
	cdr2026 = `{"action":"create","content":{"id":60001,"callID":"5f0c2f1e-6a3b-4d0e-9f35-0d8d4f1c2b3a","direction":"outbound","callerIDNumber":null,
"didCalled":"00971507654321","hangupCause":"ORIGINATOR_CANCEL","disposition":null,"startedAt":"2026-08-04T09:10:11.000Z","answeredAt":null,
"endedAt":"2026-08-04T09:10:31.000Z","duration":20,"talkTime":0,"ringTime":18,"result":"cancel","agentId":7,
"agent":{"id":7,"firstName":"Sam","lastName":"Doe","username":"sam@example.com","ccLogin":"0026"},"customer":null,"recordingFile":null}}`
)

func TestEndCallStoresCall(t *testing.T) {
	h := serve(t, document)
	r := h.endCall("sales", "end-key-old", cdr2016).want(t, 200)
	if r.body != `{"result":true,"content":{},"info":{}}` {
		t.Errorf("unexpected body %s", r.body)
	}
	stored := h.calls("")
	if len(stored) != 1 {
		t.Fatalf("%d calls, want 1", len(stored))
	}
	got := stored[0]
	at := func(clock string) string { return "2016-07-10T" + clock + "Z" }
	for _, c := range []struct{ field, got, want string }{
		{"tracker", got.Tracker, "sales"},
		{"contactCenter", got.ContactCenter, "aldebaran"}, // the only one in the configuration
		{"callID", got.CallID, "7c9e6679-7425-40de-944b-e07fc1f90ae7"},
		{"direction", got.Direction, "inbound"},
		{"did", got.DID, "+97142345678"},
		{"rawDid", got.RawDID, "042345678"},
		{"caller", got.Caller, "+97144998877"},
		{"rawCaller", got.RawCaller, "044998877"},
		{"startedAt", got.StartedAt.Format(time.RFC3339), at("11:36:35")},
		{"answeredAt", got.AnsweredAt.Format(time.RFC3339), at("11:36:47")},
		{"endedAt", got.EndedAt.Format(time.RFC3339), at("11:37:03")},
		{"duration, ring, talk, hold", fmt.Sprint(got.Duration, got.RingTime, got.TalkTime, got.HoldTime), "28 12 16 0"},
		{"result", got.Result, "answered"},
		{"hangupCause", got.HangupCause, "NORMAL_CLEARING"},
		{"hangupBy", got.HangupBy, "originatee"},
		{"agent", got.Agent, ""},
		{"position", got.Position, "0501112233"},
		{"recordingFile", got.RecordingFile, "7c9e6679-7425-40de-944b-e07fc1f90ae7.mp3"},
		{"campaign", got.Campaign, "outdoor"},
	} {
		if c.got != c.want {
			t.Errorf("%s %q, want %q", c.field, c.got, c.want)
		}
	}
	detail := h.get("/api/v1/calls/"+got.ID).want(t, 200)
	if strings.Contains(detail.body, "hunter2") || !strings.Contains(detail.body, `"ccPassword":"***"`) {
		t.Errorf("password is not masked: %s", detail.body)
	}
	if !strings.Contains(detail.body, "sofia/internal/042345678@sip.example.com") {
		t.Errorf("unknown field channelName is missing: %s", detail.body)
	}
}

func TestRepeatedEndCallUpdatesCall(t *testing.T) {
	h := serve(t, document)
	early := strings.Replace(cdr2016, `"recordingFile":"7c9e6679-7425-40de-944b-e07fc1f90ae7.mp3",`, `"recordingFile":null,`, 1)
	h.endCall("sales", "end-key-old", early).want(t, 200)
	if got := h.calls("")[0].RecordingFile; got != "" {
		t.Fatalf("recording file %q, want none before the update", got)
	}
	h.endCall("sales", "end-key-old", early).want(t, 200)
	h.endCall("sales", "end-key-old", cdr2016).want(t, 200)
	h.endCall("sales", "end-key-old", early).want(t, 200) // out of order: removes nothing
	stored := h.calls("")
	if len(stored) != 1 || stored[0].RecordingFile == "" || stored[0].Duration != 28 {
		t.Fatalf("calls %+v, want one with its recording file", stored)
	}
	detail := into[calls.Detail](t, h.get("/api/v1/calls/"+stored[0].ID).want(t, 200))
	if len(detail.Revisions) != 2 {
		t.Errorf("%d revisions, want 2 for 2 different bodies", len(detail.Revisions))
	}
}

func TestConcurrentEndCallsStoreOneCall(t *testing.T) {
	h := serve(t, document)
	var requests sync.WaitGroup
	for range 20 {
		requests.Go(func() {
			if r := h.endCall("sales", "end-key-old", cdr2016); r.status != 200 {
				t.Errorf("status %d, want 200: %s", r.status, r.body)
			}
		})
	}
	requests.Wait()
	if n := len(h.calls("")); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

func TestWebhookStoresCallsOfItsContactCenter(t *testing.T) {
	h := serve(t, document)
	post := func(key, body string) response {
		return h.do(request{
			method: "POST", path: "/webhooks/ziwo/callHistory", key: key, body: body,
			header: map[string]string{"Content-Type": "application/json"},
		})
	}
	post("webhook-key-1", cdr2026).want(t, 200)
	stored := h.calls("")
	if len(stored) != 1 {
		t.Fatalf("%d calls, want 1", len(stored))
	}
	got := stored[0]
	if got.ContactCenter != "aldebaran" || got.Tracker != "" || got.Result != "cancelled" || got.DID != "+971507654321" || got.Agent != "0026" ||
		got.RingTime != 18 || got.Duration != 20 || got.AnsweredAt != nil {
		t.Errorf("stored call %+v", got)
	}
	// endCall and the webhook report the same call, which is stored once.
	h.endCall("sales", "end-key-old", cdr2016).want(t, 200)
	post("webhook-key-1", `{"action":"create","content":`+cdr2016+`}`).want(t, 200)
	if stored := h.calls(""); len(stored) != 2 || stored[1].Tracker != "sales" {
		t.Errorf("calls %+v, want 2", stored)
	}
}

func TestUnreadableRecordsAreStored(t *testing.T) {
	h := serve(t, document)
	bodies := []string{`{"hello":"world"}`, `not JSON at all`, `{"callID":"cut-off","didCalled":"06123`, `[1,2,3]`, "\x00\xff\xfe"}
	for _, body := range bodies {
		r := h.endCall("sales", "end-key-old", body).want(t, 200)
		if envelope := into[httpapi.Envelope](t, r); !envelope.Result || len(envelope.Info.Warnings) != 1 {
			t.Errorf("%q: body %s, want one warning", body, r.body)
		}
	}
	h.endCall("sales", "end-key-old", bodies[0]).want(t, 200) // a repeat is the same record
	stored := h.calls("?result=unreadable")
	if len(stored) != len(bodies) {
		t.Fatalf("%d unreadable records, want %d", len(stored), len(bodies))
	}
	detail := into[calls.Detail](t, h.get("/api/v1/calls/"+stored[len(stored)-1].ID).want(t, 200))
	if string(detail.Raw) != bodies[0] {
		t.Errorf("stored %s, want %s", detail.Raw, bodies[0])
	}
	for _, r := range h.rejections(len(bodies) + 1) {
		if r.Reason != "unreadable" || r.Status != 200 {
			t.Errorf("rejection %+v, want unreadable with status 200", r)
		}
	}
}

func TestRecordsOfBlockedTrackerAreStored(t *testing.T) {
	h := serve(t, document)
	h.endCall("shut", "shut-key-123", cdr2016).want(t, 403)
	if n := len(h.calls("?tracker=shut")); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

func TestTruncatedBodyIsStored(t *testing.T) {
	h := serve(t, document)
	connection, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(h.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	fmt.Fprintf(connection, "POST /callTrackers/sales/endCall HTTP/1.1\r\nHost: x\r\nX-API-Key: end-key-old\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n"+
		`{"callID":"half","didCalled":"06`)
	if err := connection.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(connection).ReadString('\n')
	if err != nil || !strings.Contains(line, "400") {
		t.Errorf("status line %q, %v; want 400", line, err)
	}
	stored := h.calls("")
	if len(stored) != 1 || stored[0].Result != "unreadable" {
		t.Fatalf("calls %+v, want one unreadable record", stored)
	}
}

func TestDecisionsAreRecordedWithTrace(t *testing.T) {
	h := serve(t, document)
	r := h.startCall("sales", "start-key-old", "didCalled", "0097165554433", "callerIDNumber", "0501234567", "callID", "leg-1").want(t, 200)
	got := h.decisions(1)[0]
	if got.ID != r.header.Get("X-Decision-Id") {
		t.Errorf("ID %s, want %s", got.ID, r.header.Get("X-Decision-Id"))
	}
	trace := ""
	for _, s := range got.Trace {
		trace += fmt.Sprintf("%s %s %s\n", s.Route, s.Verdict, s.Reason)
	}
	for _, want := range []string{"at-night closed never is closed", "vip failed caller.country: AE, must be in FR", "turns failed request.queue: not sent", "office matched"} {
		if !strings.Contains(trace, want) {
			t.Errorf("%q is missing from the trace:\n%s", want, trace)
		}
	}
	if got.DID != "+97165554433" || got.RawDID != "0097165554433" || got.Caller != "+971501234567" || got.CallID != "leg-1" ||
		got.Route != "office" || !got.Voicemail || len(got.Rules) != 2 || got.ConfigVersion != 1 || strings.Join(got.Flags, " ") != "did_unlisted" {
		t.Errorf("decision %+v", got)
	}
	one := into[decisions.View](t, h.get("/api/v1/decisions/"+got.ID).want(t, 200))
	if one.Route != "office" {
		t.Errorf("decision by ID: %+v", one)
	}
}

func TestCallIsLinkedToDecision(t *testing.T) {
	for _, c := range []struct {
		name   string
		fields []string
		cdr    string
	}{
		{"by call ID", []string{"didCalled", "042345678", "callID", "7c9e6679-7425-40de-944b-e07fc1f90ae7"}, cdr2016},
		{"by DID, caller, and time of receipt", []string{"didCalled", "042345678", "callerIDNumber", "+97144998877"}, cdr2016},
		{"by DID alone, the only field that Ziwo documents", []string{"didCalled", "+97142345678"}, cdr2016},
		{"by start time", []string{"didCalled", "042345678", "callerIDNumber", "044998877"}, fmt.Sprintf(
			`{"callID":"x","didCalled":"042345678","callerIDNumber":"044998877","startedAt":%q,"duration":7200}`, time.Now().UTC().Format(time.RFC3339))},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := serve(t, document)
			h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200) // another DID
			h.startCall("sales", "start-key-old", "didCalled", "042345678", "callerIDNumber", "0509999999", "callID", "other").want(t, 200)
			r := h.startCall("sales", "start-key-old", c.fields...).want(t, 200)
			h.endCall("sales", "end-key-old", c.cdr).want(t, 200)
			h.decisions(3)
			call := h.calls("")[0]
			if want := r.header.Get("X-Decision-Id"); call.Decision != want || call.Route != "office" {
				t.Errorf("call has decision %q and route %q, want %q and office", call.Decision, call.Route, want)
			}
			if d := into[decisions.View](t, h.get("/api/v1/decisions/"+r.header.Get("X-Decision-Id"))); d.Call != call.ID {
				t.Errorf("decision has call %q, want %q", d.Call, call.ID)
			}
		})
	}
}

func TestDemonstrationEndpoints(t *testing.T) {
	h := serve(t, "")
	contentType, body := multipartForm("didCalled", "061234567")
	r := h.do(request{
		method: "POST", path: "/callTrackers/example/startCall", key: "any", body: body, header: map[string]string{"Content-Type": contentType},
	}).want(t, 200)
	if answer := into[httpapi.StartEnvelope](t, r); answer.Content.DIDCalled != "061234567" || len(answer.Content.Rules) == 0 {
		t.Errorf("unexpected body %s", r.body)
	}
	h.do(request{method: "POST", path: "/callTrackers/example/startCall"}).want(t, 400)
	h.endCall("example", "", cdr2016).want(t, 200)
	h.endCall("example", "", "").want(t, 400)
	if n := len(h.calls("")); n != 0 {
		t.Errorf("%d calls stored, want 0", n)
	}
	if list := into[decisions.List](t, h.get("/api/v1/decisions")); len(list.Decisions) != 0 {
		t.Errorf("%d decisions stored, want 0", len(list.Decisions))
	}
}

func TestLogsHideNumbersAndKeys(t *testing.T) {
	h := serve(t, document)
	h.startCall("sales", "start-key-old", "didCalled", "061234567", "callerIDNumber", "+971501234599").want(t, 200)
	h.startCall("sales", "bad-key-xyz", "didCalled", "061234567", "callerIDNumber", "+971501234599").want(t, 401)
	h.endCall("sales", "end-key-old", cdr2016).want(t, 200)
	h.endCall("sales", "end-key-old", `{"nothing":"+971501234599","password":"hunter3"}`).want(t, 200)
	h.get("/api/v1/calls?caller="+url.QueryEscape("+971501234599")).want(t, 200)
	h.get("/api/v1/calls?result="+url.QueryEscape("+971501234599")).want(t, 422)
	h.decisions(1)
	h.stop()
	for _, hidden := range []string{"501234599", "44998877", "start-key", "end-key", "bad-key", "hunter", h.token} {
		if strings.Contains(h.log.String(), hidden) {
			t.Errorf("the log contains %q:\n%s", hidden, h.log)
		}
	}
}
