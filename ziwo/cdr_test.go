package ziwo

import (
	"bytes"
	"errors"
	"fmt"
	"mime/multipart"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func fixture(tb testing.TB, name string) []byte {
	tb.Helper()
	body, err := os.ReadFile("testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

func utc(tb testing.TB, s string) time.Time {
	tb.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		tb.Fatal(err)
	}
	return at
}

// endCall2016 returns the CDR in endcall-2016.json, which has the format of Ziwo's
// documentation.
func endCall2016(tb testing.TB) CDR {
	return CDR{
		CallID: "9b2f6a10-3c1d-4d55-8a0e-7f4b1c2d3e4f", Direction: "inbound",
		DIDCalled: "042223344", CallerNumber: "0567654321", CallerName: "0567654321",
		StartedAt: utc(tb, "2018-03-19T08:29:54Z"), AnsweredAt: utc(tb, "2018-03-19T08:30:22Z"),
		EndedAt: utc(tb, "2018-03-19T08:31:09Z"), UpdatedAt: utc(tb, "2018-03-19T08:31:10.53Z"),
		Duration: 75, RingTime: 28, TalkTime: 47, HoldTime: 4,
		Outcome: Answered, HangupCause: "NORMAL_CLEARING", HangupBy: "originator",
		Position: "045556677", RecordingFile: "9b2f6a10-3c1d-4d55-8a0e-7f4b1c2d3e4f.mp3", Tracker: "billboards",
	}
}

func TestParseCDRFixtures(t *testing.T) {
	for _, tc := range []struct {
		file string
		want CDR
	}{
		{"endcall-2016.json", endCall2016(t)},
		{"callhistory-webhook-2026.json", CDR{
			CallID: "5d0c1be2-77aa-4b0e-9d3c-0a1b2c3d4e5f", Direction: "outbound", DIDCalled: "00966555111222",
			StartedAt: utc(t, "2026-09-14T06:20:05.25Z"), EndedAt: utc(t, "2026-09-14T06:20:41.75Z"),
			Duration: 36, RingTime: 31, Outcome: Cancelled, HangupCause: "ORIGINATOR_CANCEL", Agent: "0031",
		}},
		{"cdr-2021.json", CDR{
			CallID: "0f9e8d7c-6b5a-4433-9221-100f0e0d0c0b", Direction: "inbound",
			DIDCalled: "0112223344", CallerNumber: "+966555111222", CallerName: "Huda",
			StartedAt: utc(t, "2021-05-06T07:08:00Z"), AnsweredAt: utc(t, "2021-05-06T07:08:20Z"),
			EndedAt: utc(t, "2021-05-06T07:10:00Z"), UpdatedAt: utc(t, "2021-05-06T07:10:02Z"),
			Duration: 120, RingTime: 15, TalkTime: 97, Outcome: Answered,
			HangupCause: "NORMAL_CLEARING", HangupBy: "originatee", Agent: "0042", Position: "agent-0042",
		}},
		{"flat-callback.json", CDR{
			CallID: "c0ffee00-1234-4abc-8def-001122334455", DIDCalled: "042223344",
			CallerNumber: "0567654321", CallerName: "Omar",
			StartedAt: utc(t, "2025-01-02T03:04:05Z"), Outcome: Missed,
		}},
	} {
		t.Run(tc.file, func(t *testing.T) {
			got, err := ParseCDR("application/json", "", fixture(t, tc.file))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseCDRRejectsOtherMessages(t *testing.T) {
	for _, file := range []string{
		"live-call-2025.json", "error-message.json", "error-content-message.json", "write-response.json",
	} {
		t.Run(file, func(t *testing.T) {
			if got, err := ParseCDR("application/json", "", fixture(t, file)); !errors.Is(err, ErrNotCDR) {
				t.Errorf("got %+v, %v, want ErrNotCDR", got, err)
			}
		})
	}
}

// TestParseCDRWrappings parses one CDR in every envelope and encoding.
func TestParseCDRWrappings(t *testing.T) {
	bare := string(fixture(t, "endcall-2016.json"))
	curly := strings.NewReplacer(`": "`, `”: “`, `",`, `”,`, `{`, "{\u00a0").Replace(bare)
	var form bytes.Buffer
	parts := multipart.NewWriter(&form)
	pairs := url.Values{}
	for name, value := range map[string]string{
		"callID": "9b2f6a10-3c1d-4d55-8a0e-7f4b1c2d3e4f", "direction": "inbound", "didCalled": "042223344",
		"callerIDNumber": "0567654321", "callerIDName": "0567654321", "startRawTime": "1521448194",
		"answeredDateTime": "2018-03-19T08:30:22.000Z", "endRawTime": "1521448269000", "updatedAt": "2018-03-19T08:31:10.530Z",
		"duration": "75", "holdTime": "4.0", "ringTime": "", "talkTime": "unknown", "disposition": "ANSWER", "hangupCause": "NORMAL_CLEARING",
		"hangupBy": "originator", "agentCCLogin": "unknown", "position": "045556677",
		"recordingFile":                   "9b2f6a10-3c1d-4d55-8a0e-7f4b1c2d3e4f.mp3",
		"extendedInfo[numbers][linkType]": "callTracker", "extendedInfo[numbers][linkData]": "billboards",
	} {
		pairs.Set(name, value)
		if err := parts.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := parts.Close(); err != nil {
		t.Fatal(err)
	}
	wrapped := url.Values{}
	for name := range pairs {
		wrapped.Set("content["+strings.Replace(name, "[", "][", 1), pairs.Get(name))
	}
	for _, tc := range []struct {
		name        string
		contentType string
		query       string
		body        string
		notes       []string
	}{
		{name: "bare", body: bare},
		{name: "declared as a form", contentType: "application/x-www-form-urlencoded", body: bare, notes: []string{NoteContentTypeMismatch}},
		{name: "action and content", body: `{"action":"create","content":` + bare + `}`},
		{name: "result and content", body: `{"result":true,"info":{},"CONTENT":` + bare + `}`},
		{name: "content as JSON text", body: `{"action":"create","content":` + string(AppendString(nil, bare)) + `}`},
		{name: "content as an array of one", body: `{"content":[` + bare + `]}`, notes: []string{NoteWrappedList}},
		{name: "array of one", body: `[` + bare + `]`, notes: []string{NoteWrappedList}},
		{name: "array of one envelope", body: `[{"action":"create","content":` + bare + `}]`, notes: []string{NoteWrappedList}},
		{name: "JSON in a JSON string", body: string(AppendString(nil, bare))},
		{name: "bare with another content", body: strings.Replace(bare, "{", `{"content": {"message": "hello"},`, 1)},
		{name: "typographic quotes", body: curly, notes: []string{NoteCurlyQuotes}},
		{name: "multipart", contentType: parts.FormDataContentType(), body: form.String()},
		{name: "multipart without a Content-Type", body: form.String()},
		{name: "urlencoded", contentType: "application/x-www-form-urlencoded", body: pairs.Encode()},
		{name: "urlencoded under content", body: wrapped.Encode()},
		{name: "urlencoded with JSON as content", body: url.Values{"action": {"create"}, "content": {bare}}.Encode()},
		{name: "query", query: pairs.Encode()},
		{name: "query under content", query: url.Values{"content": {bare}}.Encode()},
		{name: "query in addition to a body", body: bare, query: "callID=other&result=missed&token=x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseCDR(tc.contentType, tc.query, []byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			want := endCall2016(t)
			want.Notes = tc.notes
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseCDRVariants(t *testing.T) {
	at := func(s string) time.Time { return utc(t, s) }
	for _, tc := range []struct {
		name string
		body string
		want CDR // without Outcome and NoteNoResult
	}{
		// Names.
		{"callId", `{"callId":"c"}`, CDR{CallID: "c"}},
		{"call_id", `{"call_id":"c"}`, CDR{CallID: "c"}},
		{"CallID", `{"CallID":"c"}`, CDR{CallID: "c"}},
		{"uuid", `{"uuid":"c"}`, CDR{CallID: "c"}},
		{"primaryCallID after callID", `{"primaryCallID":"p","callID":"c"}`, CDR{CallID: "c"}},
		{"primaryCallID alone", `{"primaryCallID":"p","callID":""}`, CDR{CallID: "p"}},
		{"calerIDNumber", `{"callID":"c","calerIDNumber":"0567654321"}`, CDR{CallID: "c", CallerNumber: "0567654321"}},
		{"callerIdNumber", `{"callID":"c","callerIdNumber":"0567654321"}`, CDR{CallID: "c", CallerNumber: "0567654321"}},
		{"calerIDName", `{"callID":"c","calerIDName":"Huda"}`, CDR{CallID: "c", CallerName: "Huda"}},
		{"long unknown name", `{"callID":"c","` + strings.Repeat("d", 70) + `didCalled":"x"}`, CDR{CallID: "c"}},
		{"callerIdName", `{"callID":"c","callerIdName":"Huda"}`, CDR{CallID: "c", CallerName: "Huda"}},
		{"did", `{"did":"042223344"}`, CDR{DIDCalled: "042223344", Notes: []string{NoteNoCallID}}},
		{"calledNumber", `{"callID":"c","calledNumber":"042223344"}`, CDR{CallID: "c", DIDCalled: "042223344"}},
		{"calleeIdNumber", `{"callID":"c","calleeIdNumber":"042223344"}`, CDR{CallID: "c", DIDCalled: "042223344"}},
		{"names in capitals", `{"CALLID":"c","DIDCALLED":"042223344"}`, CDR{CallID: "c", DIDCalled: "042223344"}},
		{"escaped name", `{"call\u0049D":"c"}`, CDR{CallID: "c"}},
		{"direction in capitals", `{"callID":"c","direction":"Inbound"}`, CDR{CallID: "c", Direction: "inbound"}},

		// Values that mean no value.
		{"all unknown", `{"callID":"c","direction":"unknown","didCalled":"Unknown","callerIDNumber":"unknown","hangupBy":"unknown","startedAt":"unknown","duration":"unknown"}`, CDR{CallID: "c"}},
		{"all null", `{"callID":"c","direction":null,"didCalled":null,"callerIDNumber":null,"startedAt":null,"duration":null,"agent":null,"extendedInfo":null,"voicemail":null}`, CDR{CallID: "c"}},
		{"all empty", `{"callID":"c","direction":"","didCalled":"","startedAt":"","duration":"","agent":{},"extendedInfo":{"numbers":{}}}`, CDR{CallID: "c"}},
		{"all of wrong types", `{"callID":"c","direction":{},"didCalled":[],"callerIDNumber":true,"startedAt":{},"answeredAt":false,"duration":true,"holdTime":[1],"agent":[],"position":{},"recordingFile":false}`, CDR{CallID: "c"}},

		// Repeated and contradicting members.
		{"first usable value", `{"callID":null,"callID":"","callID":"c","callID":"d"}`, CDR{CallID: "c"}},
		{"object then text", `{"callID":{"a":1},"callID":"c"}`, CDR{CallID: "c"}},

		// Phone numbers.
		{"phone numbers as JSON numbers", `{"callID":"c","didCalled":42223344,"callerIDNumber":971567654321}`,
			CDR{CallID: "c", DIDCalled: "42223344", CallerNumber: "971567654321", Notes: []string{NoteCallerNumberType, NoteDIDNumberType}}},
		{"phone number with an unencoded plus", `{"callID":"c","didCalled":" 97142223344"}`, CDR{CallID: "c", DIDCalled: " 97142223344"}},
		{"call id as a number", `{"callID":77}`, CDR{CallID: "77"}},

		// Times.
		{"ISO without milliseconds", `{"callID":"c","startedAt":"2026-03-04T05:06:07Z"}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07Z")}},
		{"ISO with milliseconds", `{"callID":"c","startedAt":"2026-03-04T05:06:07.089Z"}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07.089Z")}},
		{"ISO with nanoseconds", `{"callID":"c","startedAt":"2026-03-04T05:06:07.123456789Z"}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07.123456Z")}},
		{"ISO with an offset", `{"callID":"c","startedAt":"2026-03-04T09:06:07+04:00"}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07Z")}},
		{"ISO with an offset without a colon", `{"callID":"c","startedAt":"2026-03-04T09:06:07.500+0400"}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07.5Z")}},
		{"ISO with an offset of hours", `{"callID":"c","startedAt":"2026-03-04T00:36:07-04"}`, CDR{CallID: "c", StartedAt: at("2026-03-04T04:36:07Z")}},
		{"ISO with an offset and an unencoded plus", `{"callID":"c","startedAt":"2026-03-04T09:06:07 04:00"}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07Z")}},
		{"ISO in lower case", `{"callID":"c","startedAt":"2026-03-04t05:06:07z"}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07Z")}},
		{"without a zone", `{"callID":"c","startedAt":"2026-03-04 05:06:07"}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07Z"), Notes: []string{NoteTimeWithoutZone}}},
		{"epoch seconds", `{"callID":"c","startRawTime":1772600767}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07Z")}},
		{"epoch seconds as text", `{"callID":"c","startRawTime":"1772600767"}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07Z")}},
		{"epoch seconds with a fraction", `{"callID":"c","startRawTime":1772600767.089}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07.089Z")}},
		{"epoch milliseconds", `{"callID":"c","startRawTime":1772600767089}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07.089Z")}},
		{"epoch milliseconds as text", `{"callID":"c","startedAt":"1772600767089"}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07.089Z")}},
		{"zero times", `{"callID":"c","answeredRawTime":0,"answeredDateTime":"1970-01-01T00:00:00.000Z","answeredAt":"0000-00-00 00:00:00","endedAt":"0","endDateTime":"0001-01-01T00:00:00Z"}`, CDR{CallID: "c"}},
		{"next name after null", `{"callID":"c","startedAt":null,"startDateTime":"","startRawTime":1772600767}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07Z")}},
		{"next name after an invalid time", `{"callID":"c","startedAt":"yesterday","startRawTime":1772600767}`, CDR{CallID: "c", StartedAt: at("2026-03-04T05:06:07Z"), Notes: []string{NoteUnreadableTime}}},
		{"implausible years", `{"callID":"c","startedAt":"1999-12-31T23:59:59Z","answeredAt":"2100-01-01T00:00:00Z","endedAt":"9999-12-31T23:59:59Z"}`, CDR{CallID: "c", Notes: []string{NoteUnreadableTime}}},
		{"implausible epochs", `{"callID":"c","startedAt":-5,"answeredAt":1e300,"endedAt":1e14,"updatedAt":86400}`, CDR{CallID: "c", Notes: []string{NoteUnreadableTime}}},
		{"invalid leap day", `{"callID":"c","startedAt":"2026-02-29T00:00:00Z"}`, CDR{CallID: "c", Notes: []string{NoteUnreadableTime}}},
		{"createdAt for updatedAt", `{"callID":"c","createdAt":"2026-03-04T05:06:07Z"}`, CDR{CallID: "c", UpdatedAt: at("2026-03-04T05:06:07Z")}},

		// Durations.
		{"durations as text", `{"callID":"c","duration":"28","ringTime":" 12 ","talkTime":"16.9","holdTime":"0"}`, CDR{CallID: "c", Duration: 28, RingTime: 12, TalkTime: 16}},
		{"invalid durations", `{"callID":"c","duration":-1,"ringTime":"soon","talkTime":1e99,"holdTime":"0x10"}`, CDR{CallID: "c", Notes: []string{NoteUnreadableNumber}}},
		{"a number of a thousand digits", `{"callID":"c","duration":` + strings.Repeat("9", 1000) + `}`, CDR{CallID: "c", Notes: []string{NoteUnreadableNumber}}},
		{"inf and nan", `{"callID":"c","duration":"inf","ringTime":"nan","talkTime":"e"}`, CDR{CallID: "c", Notes: []string{NoteUnreadableNumber}}},

		// Agents.
		{"ccLogin first", `{"callID":"c","agentId":7,"agent":{"id":7,"ccLogin":"0026"},"agentCCLogin":"0027"}`, CDR{CallID: "c", Agent: "0027"}},
		{"ccLogin of the agent", `{"callID":"c","agentId":7,"agent":{"id":7,"cc_login":"0026"},"agentCCLogin":"unknown"}`, CDR{CallID: "c", Agent: "0026"}},
		{"ccLogin as a number", `{"callID":"c","agentCCLogin":26}`, CDR{CallID: "c", Agent: "26"}},
		{"agent as text", `{"callID":"c","agent":"0026"}`, CDR{CallID: "c", Agent: "0026"}},
		{"agent as JSON text", `{"callID":"c","agent":"{\"ccLogin\":\"0026\"}"}`, CDR{CallID: "c", Agent: "0026"}},
		{"agentId without a ccLogin", `{"callID":"c","agentId":7,"agent":{"id":8}}`, CDR{CallID: "c", Agent: "7"}},
		{"agent.id without an agentId", `{"callID":"c","agentId":0,"agent":{"id":8,"ccLogin":null}}`, CDR{CallID: "c", Agent: "8"}},
		{"flat agent.ccLogin", `{"callID":"c","agent.ccLogin":"0026"}`, CDR{CallID: "c", Agent: "0026"}},

		// Trackers.
		{"tracker", `{"callID":"c","extendedInfo":{"numbers":{"linkType":"calltracker","linkData":"billboards"}}}`, CDR{CallID: "c", Tracker: "billboards"}},
		{"numbers as an array of one", `{"callID":"c","extendedInfo":{"numbers":[{"linkType":"callTracker","linkData":"billboards"}]}}`, CDR{CallID: "c", Tracker: "billboards"}},
		{"not a tracker", `{"callID":"c","extendedInfo":{"numbers":{"linkType":"queue","linkData":"billboards"}}}`, CDR{CallID: "c"}},

		// Text.
		{"text is trimmed", `{"callID":" c\n","hangupBy":"\toriginatee "}`, CDR{CallID: "c", HangupBy: "originatee"}},
		{"NUL bytes", `{"callID":"a\u0000b","position":"\u0000"}`, CDR{CallID: "ab", Notes: []string{NoteTextCut}}},
		{"lone surrogates and invalid UTF-8", "{\"callID\":\"c\",\"position\":\"\\ud800\",\"hangupBy\":\"a\xff\xfeb\"}", CDR{CallID: "c", Position: "\ufffd", HangupBy: "a\ufffdb", Notes: []string{NoteTextCut}}},
		{"long text truncated within a character", `{"callID":"c","position":"a` + strings.Repeat("é", 400) + `"}`, CDR{CallID: "c", Position: "a" + strings.Repeat("é", 255), Notes: []string{NoteTextCut}}},
		{"long text", `{"callID":"c","position":"` + strings.Repeat("é", 400) + `"}`, CDR{CallID: "c", Position: strings.Repeat("é", 256), Notes: []string{NoteTextCut}}},
		{"long call id", `{"callID":"` + strings.Repeat("c", 201) + `","didCalled":"042223344"}`, CDR{DIDCalled: "042223344", Notes: []string{NoteNoCallID, NoteTextCut}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := ParseCDR("application/json", "", []byte(tc.body))
			if err != nil {
				t.Fatal(err)
			}
			// TestParseCDROutcome tests the outcomes.
			if got.Outcome != Missed && got.Outcome != Answered {
				t.Errorf("outcome %s, want %s or %s", got.Outcome, Missed, Answered)
			}
			got.Notes = slices.DeleteFunc(got.Notes, func(n string) bool { return n == NoteNoResult })
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(CDR{}, "Outcome")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseCDRDurations(t *testing.T) {
	const start, answer, end = `"startedAt":"2026-03-04T05:06:00.900Z"`, `"answeredRawTime":1772600775`, `"endedAt":"2026-03-04T05:07:00.100Z"`
	for _, tc := range []struct {
		name                       string
		members                    string
		duration, ring, talk, hold int
		notes                      []string
	}{
		{name: "nothing", notes: []string{NoteNoResult}},
		{name: "derived when answered", members: start + "," + answer + "," + end, duration: 59, ring: 14, talk: 45},
		{name: "derived when not answered", members: start + "," + end, duration: 59, ring: 59, notes: []string{NoteNoResult}},
		{name: "no ring time without the time of the answer", members: start + "," + end + `,"result":"answered"`, duration: 59},
		{name: "start only", members: start, notes: []string{NoteNoResult}},
		{name: "end only", members: end, notes: []string{NoteNoResult}},
		{name: "ring time only", members: start + "," + answer, ring: 14},
		{name: "talk time only", members: answer + "," + end, talk: 45},
		{name: "durations of the record", members: start + "," + answer + "," + end + `,"duration":60,"ringTime":0,"talkTime":"44","holdTime":3`, duration: 60, talk: 44, hold: 3},
		{name: "derived instead of empty", members: start + "," + answer + "," + end + `,"duration":"","ringTime":null,"talkTime":"unknown"`, duration: 59, ring: 14, talk: 45},
		{name: "derived instead of unreadable", members: start + "," + answer + "," + end + `,"talkTime":"long"`, duration: 59, ring: 14, talk: 45, notes: []string{NoteUnreadableNumber}},
		{
			name: "end before start", members: `"startedAt":1772600775,"endedAt":1772600765`,
			notes: []string{NoteNoResult, NoteTimesOutOfOrder},
		},
		{
			name: "answer before start", members: `"startedAt":1772600775,"answeredAt":1772600765,"endedAt":1772600780`,
			duration: 5, talk: 15, notes: []string{NoteTimesOutOfOrder},
		},
		{
			name:    "negative fraction of a second",
			members: `"startedAt":"2026-03-04T05:06:15.400Z","answeredRawTime":1772600775,"endRawTime":1772600775`,
		},
		{
			name: "call of several years", members: `"startedAt":"2001-01-01T00:00:00Z","endedAt":"2099-01-01T00:00:00Z"`,
			notes: []string{NoteNoResult, NoteTimesOutOfOrder},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			body := `{"callID":"c"}`
			if tc.members != "" {
				body = `{"callID":"c",` + tc.members + `}`
			}
			got, err := ParseCDR("", "", []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			if got.Duration != tc.duration || got.RingTime != tc.ring || got.TalkTime != tc.talk || got.HoldTime != tc.hold {
				t.Errorf("duration %d, ring %d, talk %d, hold %d, want %d, %d, %d, %d",
					got.Duration, got.RingTime, got.TalkTime, got.HoldTime, tc.duration, tc.ring, tc.talk, tc.hold)
			}
			if diff := cmp.Diff(tc.notes, got.Notes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseCDROutcome(t *testing.T) {
	for _, tc := range []struct {
		members string
		want    Outcome
		notes   []string
	}{
		{`"result":"answered"`, Answered, nil},
		{`"Result":"Answered"`, Answered, nil},
		{`"callResult":"ANSWERED"`, Answered, nil},
		{`"call_status":"answered"`, Answered, nil},
		{`"disposition":"ANSWER"`, Answered, nil},
		{`"result":"cancel","disposition":"ANSWER"`, Answered, nil},
		{`"answeredAt":"2026-03-04T05:06:07Z"`, Answered, nil},
		{`"answeredDateTime":"2026-03-04T05:06:07Z"`, Answered, nil},
		{`"answeredRawTime":"1772600767"`, Answered, nil},
		{`"answeredRawTime":1772600767,"hangupCause":"LOSE_RACE"`, Answered, nil},
		{`"answeredRawTime":1772600767,"result":"cancel","direction":"inbound"`, Answered, nil},

		{`"voicemail":true,"result":"answered","answeredRawTime":1772600767`, Voicemail, nil},
		{`"voicemail":"true"`, Voicemail, nil},
		{`"voicemail":1`, Voicemail, nil},
		{`"voicemail":"1"`, Voicemail, nil},
		{`"result":"voicemail","disposition":"ANSWER"`, Voicemail, nil},
		{`"result":"answered","disposition":"VOICEMAIL"`, Voicemail, nil},
		{`"voicemail":false,"result":"no-answer"`, Missed, nil},
		{`"voicemail":"0","result":"no-answer"`, Missed, nil},
		{`"voicemail":0,"result":"answered"`, Answered, nil},
		{`"voicemail":{"file":"x"},"result":"answered"`, Answered, nil},

		{`"result":"no-answer"`, Missed, nil},
		{`"result":"abandoned"`, Missed, nil},
		{`"callResult":"Timeout"`, Missed, nil},
		{`"result":"cancel","direction":"inbound"`, Missed, nil},
		{`"callResult":"Cancel"`, Missed, nil},
		{`"result":"cancel","direction":"outbound"`, Cancelled, nil},
		{`"result":"cancelled","direction":"INTERNAL"`, Cancelled, nil},
		{`"result":"canceled","direction":"service"`, Cancelled, nil},
		{`"callResult":"Lose-race"`, Cancelled, nil},
		{`"callResult":"Busy"`, Busy, nil},
		{`"callResult":"Failed"`, Failed, nil},
		{`"result":"no-answer","hangupCause":"USER_BUSY"`, Missed, nil},

		{`"hangupCause":"NORMAL_CLEARING"`, Missed, nil},
		{`"hangupCause":"NORMAL_CLEARING","direction":"inbound","answeredRawTime":0`, Missed, nil},
		{`"hangupCause":16`, Missed, nil},
		{`"hangupCause":"USER_BUSY"`, Busy, nil},
		{`"hangupCause":17`, Busy, nil},
		{`"hangupCause":"CALL_REJECTED"`, Failed, nil},
		{`"hangupCause":"21"`, Failed, nil},
		{`"hangupCause":"NETWORK_OUT_OF_ORDER"`, Failed, nil},
		{`"hangupCause":"NO_ROUTE_DESTINATION"`, Failed, nil},
		{`"hangupCause":"USER_NOT_REGISTERED"`, Failed, nil},
		{`"hangupCause":"NO_ANSWER"`, Missed, nil},
		{`"hangupCause":"NO_USER_RESPONSE"`, Missed, nil},
		{`"hangupCause":"ALLOTTED_TIMEOUT"`, Missed, nil},
		{`"hangupCause":"PROGRESS_TIMEOUT"`, Missed, nil},
		{`"hangupCause":"RECOVERY_ON_TIMER_EXPIRE"`, Missed, nil},
		{`"hangupCause":"LOSE_RACE"`, Cancelled, nil},
		{`"hangupCause":"ORIGINATOR_CANCEL","direction":"inbound"`, Missed, nil},
		{`"hangupCause":"ORIGINATOR_CANCEL","direction":"outbound"`, Cancelled, nil},
		{`"hangupCause":487,"direction":"internal"`, Cancelled, nil},

		{`"direction":"inbound"`, Missed, []string{NoteNoResult}},
		{`"result":true`, Missed, []string{NoteNoResult}},
		{`"result":"false"`, Missed, []string{NoteNoResult}},
		{`"result":"spilled coffee"`, Missed, []string{NoteNoResult, NoteUnknownResult}},
		{`"result":"spilled coffee","hangupCause":"USER_BUSY"`, Busy, []string{NoteUnknownResult}},
		{`"result":"spilled coffee","disposition":"BUSY"`, Busy, []string{NoteUnknownResult}},
	} {
		t.Run(tc.members, func(t *testing.T) {
			got, err := ParseCDR("", "", []byte(`{"callID":"c",`+tc.members+`}`))
			if err != nil {
				t.Fatal(err)
			}
			if got.Outcome != tc.want {
				t.Errorf("got %s, want %s", got.Outcome, tc.want)
			}
			if diff := cmp.Diff(tc.notes, got.Notes); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseCDRErrors(t *testing.T) {
	for _, body := range []string{
		`{"callID":"c"}`, `{"didCalled":"042223344"}`, `{"startedAt":1772600767}`, `{"answeredAt":1772600767}`,
		`{"endedAt":1772600767}`, `{"hangupCause":"NORMAL_CLEARING"}`, `{"disposition":"ANSWER"}`, `{"result":"busy"}`,
		`{"result":true,"content":{"callResult":"Busy"}}`,
	} {
		if _, err := ParseCDR("", "", []byte(body)); err != nil {
			t.Errorf("%s: %v", body, err)
		}
	}
	for _, body := range []string{
		`{}`, `[]`, `[{"callID":"a"},{"callID":"b"}]`, `{"content":[{"callID":"a"},{"callID":"b"}]}`, `null`, `"hello"`, `{"callID":null}`, `{"callID":{}}`, `{"startedAt":0}`,
		`{"startedAt":"soon"}`, `{"result":true}`, `{"result":"ok"}`, `{"direction":"inbound"}`, `{"content":{}}`,
		`{"a":{"callID":"c"}}`, `[[[[[{"callID":"c"}]]]]]`, `{"content":{"content":{"callID":"c"}}}`, `hello`, `<cdr/>`, "\x00", "\x1f\x8b\x08", `{"callID":"c"`, `{"callID":"c"} x`,
		"a=1&b=2", "&", strings.Repeat("a=1&", 1001) + "callID=c", "--b\r\n\r\n--b--", strings.Repeat("[", 1<<17), strings.Repeat(`{"a":`, 1<<15),
	} {
		if got, err := ParseCDR("", "", []byte(body)); !errors.Is(err, ErrNotCDR) || errors.Is(err, ErrEmptyBody) {
			t.Errorf("%.40q: got %+v, %v, want ErrNotCDR", body, got, err)
		} else if len(err.Error()) <= len(ErrNotCDR.Error()) {
			t.Errorf("%.40q: the error %q has no explanation", body, err)
		}
	}
	for _, body := range []string{"", " ", "\r\n\t "} {
		for _, query := range []string{"", "token=x"} {
			if got, err := ParseCDR("application/json", query, []byte(body)); !errors.Is(err, ErrEmptyBody) || errors.Is(err, ErrNotCDR) {
				t.Errorf("%q with query %q: got %+v, %v, want ErrEmptyBody", body, query, got, err)
			}
		}
	}
	// A query does not turn another message into a CDR. A query with too many fields
	// is an error.
	if _, err := ParseCDR("", "callID=c", []byte(`{"result":true,"content":{}}`)); !errors.Is(err, ErrNotCDR) {
		t.Errorf("got %v, want ErrNotCDR", err)
	}
	if _, err := ParseCDR("", strings.Repeat("a=1&", 1001), []byte(`{"callID":"c"}`)); !errors.Is(err, ErrNotCDR) {
		t.Errorf("got %v, want ErrNotCDR", err)
	}
}

func TestParseCDRQueryFillsGaps(t *testing.T) {
	got, err := ParseCDR("", "did=042223344&callID=other", []byte(`{"action":"create","content":{"callID":"c","result":"busy"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(CDR{CallID: "c", DIDCalled: "042223344", Outcome: Busy}, got); diff != "" {
		t.Error(diff)
	}
}

// TestParseCDRHostile parses large bodies that would take very long if parsing took
// quadratic time.
func TestParseCDRHostile(t *testing.T) {
	const size = 1 << 18
	fill := func(s string) string { return strings.Repeat(s, size/len(s)) }
	for _, tc := range []struct{ name, body string }{
		{"many members", `{"callID":"c"` + fill(`,"a":1`) + `}`},
		{"repeated member", `{"callID":"` + strings.Repeat(`\u0061`, 150) + `"` + fill(`,"callID":1`) + `}`},
		{"blank members", `{"callID":"c"` + fill(`,"didCalled":""`) + `}`},
		{"agents that are not objects", `{"callID":"c"` + fill(`,"agent":"{"`) + `}`},
		{"long escaped text and repeated members", `{"callID":"c","didCalled":"` + strings.Repeat(`\u0061`, size/12) + `"` + strings.Repeat(`,"did_called":1`, size/30) + `}`},
		{"deep lists", `{"callID":"c","a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`},
		{"deep objects", `{"callID":"c","agent":` + strings.Repeat(`{"agent":`, 9000) + `1` + strings.Repeat("}", 9000) + `}`},
		{"JSON in JSON in JSON", `{"callID":"c","content":` + string(AppendString(nil, string(AppendString(nil, fill(`"`))))) + `}`},
		{"a long number", `{"callID":"c","duration":` + fill("9") + `}`},
		{"a long time", `{"callID":"c","startedAt":"` + fill("2") + `"}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := ParseCDR("application/json", "", []byte(tc.body)); err != nil {
				t.Error(err)
			}
		})
	}
}

func FuzzParseCDR(f *testing.F) {
	for _, name := range []string{
		"endcall-2016.json", "callhistory-webhook-2026.json", "cdr-2021.json", "flat-callback.json", "live-call-2025.json", "write-response.json",
	} {
		f.Add("application/json", "", fixture(f, name))
	}
	f.Add("", "callID=c", []byte(`[{"content":"{\"callID\":\"c\",\"startedAt\":\"2026-03-04T05:06:07 04:00\"}"}]`))
	f.Add("", "", []byte(`{"callID":"c","duration":1e9,"ringTime":"-0","startRawTime":1772600767.5,"endRawTime":17726007670000}`))
	f.Add("application/x-www-form-urlencoded", "", []byte("content[agent][ccLogin]=0026&content[callID]=%00c&agent=%7B%7D"))
	f.Add("multipart/form-data; boundary=b", "", []byte("--b\r\nContent-Disposition: form-data; name=\"uuid\"\r\n\r\nc\xff\r\n--b--"))
	f.Add("", "", []byte("{“callID”: “c”,\u00a0“voicemail”: “1”}"))
	f.Fuzz(func(t *testing.T, contentType, query string, body []byte) {
		got, err := ParseCDR(contentType, query, body)
		if err != nil {
			if !errors.Is(err, ErrNotCDR) && !errors.Is(err, ErrEmptyBody) {
				t.Fatalf("%v is neither ErrNotCDR nor ErrEmptyBody", err)
			}
			if diff := cmp.Diff(CDR{}, got); diff != "" {
				t.Fatalf("CDR next to an error: %s", diff)
			}
			return
		}
		switch got.Outcome {
		case Answered, Missed, Voicemail, Busy, Failed, Cancelled:
		default:
			t.Fatalf("outcome %q", got.Outcome)
		}
		for _, seconds := range []int{got.Duration, got.RingTime, got.TalkTime, got.HoldTime} {
			if seconds < 0 || seconds > maxSeconds {
				t.Fatalf("%d seconds", seconds)
			}
		}
		for _, at := range []time.Time{got.StartedAt, got.AnsweredAt, got.EndedAt, got.UpdatedAt} {
			if !at.IsZero() && (at.Year() < firstYear || at.Year() > lastYear || at.Location() != time.UTC || at.Nanosecond()%1000 != 0) {
				t.Fatalf("time %v", at)
			}
		}
		for _, s := range []string{
			got.CallID, got.Direction, got.DIDCalled, got.CallerNumber, got.CallerName, got.HangupCause,
			got.HangupBy, got.Agent, got.Position, got.RecordingFile, got.Tracker,
		} {
			if !utf8.ValidString(s) || strings.Contains(s, "\x00") || len(s) > 2*maxCDRText {
				t.Fatalf("text %q", s)
			}
		}
		if !slices.IsSorted(got.Notes) || len(slices.Compact(slices.Clone(got.Notes))) != len(got.Notes) {
			t.Fatalf("notes %v", got.Notes)
		}
		if slices.Contains(got.Notes, NoteNoCallID) != (got.CallID == "") {
			t.Fatalf("call id %q, notes %v", got.CallID, got.Notes)
		}
		if again, err := ParseCDR(contentType, query, body); err != nil || fmt.Sprint(again) != fmt.Sprint(got) {
			t.Fatalf("two results differ: %+v and %+v, %v", got, again, err)
		}
	})
}
