package ziwotest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Call is one simulated call: what a server under test should have stored of
// it, under the names of GET /api/v1/calls, and how its requests went.
type Call struct {
	ContactCenter string    `json:"contactCenter"`
	Tracker       string    `json:"tracker"` // by name
	CallID        string    `json:"callID"`
	Direction     string    `json:"direction"`
	DID           string    `json:"did"`
	RawDID        string    `json:"rawDid"`
	Caller        string    `json:"caller"`
	RawCaller     string    `json:"rawCaller"`
	CallerName    string    `json:"callerName"`
	StartedAt     time.Time `json:"startedAt"`
	AnsweredAt    time.Time `json:"answeredAt"` // zero: nobody took it
	EndedAt       time.Time `json:"endedAt"`
	Duration      int       `json:"duration"`
	RingTime      int       `json:"ringTime"`
	TalkTime      int       `json:"talkTime"`
	HoldTime      int       `json:"holdTime"`
	Result        string    `json:"result"` // as calltracker names it
	HangupCause   string    `json:"hangupCause"`
	HangupBy      string    `json:"hangupBy"`
	Agent         string    `json:"agent"`
	Position      string    `json:"position"`
	RecordingFile string    `json:"recordingFile"`

	RecordedAt  time.Time  `json:"-"` // from when on the recording exists; zero: with the end
	Rules       []Rule     `json:"-"` // that the server answered
	Voicemail   bool       `json:"-"` // and its flag
	StartStatus int        `json:"-"` // of the start call; 0: no answer
	Ends        []Delivery `json:"-"` // what was posted to the end URL
	Form        Form       `json:"-"` // of what was posted

	record int // Ziwo's number of it
	talk   agentSide
}

// agentSide is the agent that took a call; nil when it was none.
type agentSide = *Agent

// Rule is one rule of the answer to a start call.
type Rule struct {
	Action   string `json:"action"`
	Number   string `json:"number"`
	CallerID string `json:"callerID"`
	Timeout  int    `json:"timeout"` // seconds
}

// Delivery is one attempt to post a record.
type Delivery struct {
	Fault  string // what was wrong with it; empty: nothing
	Status int    // 0: no answer
}

// Whole tells whether the record arrived so that it could be read: the body
// was whole and the server took it.
func (d Delivery) Whole() bool {
	return d.Status == 200 && d.Fault != "truncated" && d.Fault != "cut"
}

// Delivered tells whether the server under test knows the call from its end call.
func (c Call) Delivered() bool {
	for _, d := range c.Ends {
		if d.Whole() {
			return true
		}
	}
	return false
}

// Form is how a record is written.
type Form string

// The forms of a record.
const (
	Form2016 Form = "2016" // the names on Ziwo's page
	Form2026 Form = "2026" // those of today's call history, beside the old ones
)

// Page2016 is the record in the form of Ziwo's page
// (https://www.ziwo.io/api-integration-developers/), recorded says whether the
// recording is there yet.
func (c Call) page2016(recorded bool) []byte {
	agent := c.Agent
	if agent == "" {
		agent = "unknown"
	}
	record := map[string]any{
		"callID": c.CallID, "hangupBy": c.HangupBy, "audioQuality": "98", "duration": c.Duration,
		"createdAt": iso(c.EndedAt.Add(944 * time.Millisecond)), "updatedAt": iso(c.EndedAt.Add(944 * time.Millisecond)),
		"callerIDName": c.CallerName, "callerIDNumber": c.RawCaller, "direction": c.Direction,
		"startRawTime": c.StartedAt.Unix(), "startDateTime": iso(c.StartedAt),
		"endRawTime": c.EndedAt.Unix(), "endDateTime": iso(c.EndedAt),
		"holdTime": c.HoldTime, "callLegSide": "unknown", "hangupCause": c.HangupCause, "disposition": c.disposition(),
		"agentCCLogin": agent, "didCalled": c.RawDID, "channelName": "sofia/internal/" + c.RawDID + "@sip.example.net",
		"position": c.Position, "gateway": "external", "status": "active", "id": fmt.Sprintf("46:%d", c.record), "version": "3",
		"extendedInfo": c.extendedInfo(),
		"callFlows": []any{map[string]any{
			"callID": c.CallID, "transfered": false, "extensionName": "general_incoming", "extensionNumber": c.RawDID,
			"step": 1, "hangup": true, "status": "active",
		}},
	}
	if !c.AnsweredAt.IsZero() {
		record["answeredRawTime"], record["answeredDateTime"] = c.AnsweredAt.Unix(), iso(c.AnsweredAt)
	}
	if c.RecordingFile != "" && recorded {
		record["recordingFile"] = c.RecordingFile
	}
	if c.Result == "voicemail" {
		record["voicemail"] = true
	}
	return encode(record)
}

// today is the record as today's API writes it, both families of names side by
// side, with the agent and the password that Ziwo puts there.
func (c Call) today(recorded bool) []byte {
	record := map[string]any{
		"id": c.record, "callID": c.CallID, "direction": c.Direction, "callerIDNumber": c.RawCaller, "callerIDName": c.CallerName,
		"didCalled": c.RawDID, "hangupCause": c.HangupCause, "hangupBy": c.HangupBy, "disposition": nil, "result": c.result(),
		"startedAt": iso(c.StartedAt), "startDateTime": iso(c.StartedAt), "endedAt": iso(c.EndedAt), "endDateTime": iso(c.EndedAt),
		"answeredAt": nil, "answeredDateTime": nil, "createdAt": iso(c.EndedAt.Add(944 * time.Millisecond)),
		"updatedAt": iso(c.EndedAt.Add(1044 * time.Millisecond)), "duration": c.Duration, "ringTime": c.RingTime, "talkTime": c.TalkTime,
		"holdTime": c.HoldTime, "audioQuality": 98, "position": c.Position, "recordingFile": nil, "voicemail": c.Result == "voicemail",
		"agentId": nil, "agent": nil, "customer": nil, "customerId": nil, "flags": 0, "extendedInfo": c.extendedInfo(),
	}
	if !c.AnsweredAt.IsZero() {
		record["answeredAt"], record["answeredDateTime"] = iso(c.AnsweredAt), iso(c.AnsweredAt)
	}
	if c.RecordingFile != "" && recorded {
		record["recordingFile"] = c.RecordingFile
	}
	if a := c.talk; a != nil {
		record["agentId"], record["agentCCLogin"] = a.ID, a.CCLogin
		record["agent"] = map[string]any{
			"id": a.ID, "firstName": a.FirstName, "lastName": a.LastName, "username": a.Username, "ccLogin": a.CCLogin,
			"ccPassword": "telephony-" + a.CCLogin,
		}
	}
	return encode(record)
}

func (c Call) extendedInfo() map[string]any {
	if c.Tracker == "" {
		return map[string]any{}
	}
	return map[string]any{"numbers": map[string]any{
		"linkType": "callTracker", "linkData": c.Tracker, "did": c.RawDID, "didCalled": c.RawDID, "didDisplay": c.RawDID, "status": "active",
	}}
}

// result is Ziwo's word of today.
func (c Call) result() string {
	switch {
	case c.Result == "answered", c.Result == "voicemail":
		return "answered"
	case c.Result == "missed" && c.HangupCause == "ORIGINATOR_CANCEL":
		return "cancel"
	case c.Result == "missed":
		return "no-answer"
	case c.Result == "cancelled":
		return "cancel"
	default:
		return c.Result
	}
}

// disposition is Ziwo's word of 2016; only ANSWER is on its page.
func (c Call) disposition() string {
	switch c.result() {
	case "answered":
		return "ANSWER"
	case "no-answer":
		return "NOANSWER"
	default:
		return strings.ToUpper(c.result())
	}
}

func iso(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // of maps, texts and numbers only
		panic(err)
	}
	return text
}
