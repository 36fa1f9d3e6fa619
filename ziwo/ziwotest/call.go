package ziwotest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Call is one simulated call: the values that a server under test should store,
// under the names of GET /api/v1/calls, and the results of its requests.
type Call struct {
	ContactCenter string    `json:"contactCenter"`
	Tracker       string    `json:"tracker"` // name of the tracker
	CallID        string    `json:"callID"`
	Direction     string    `json:"direction"`
	DID           string    `json:"did"`
	RawDID        string    `json:"rawDid"`
	Caller        string    `json:"caller"`
	RawCaller     string    `json:"rawCaller"`
	CallerName    string    `json:"callerName"`
	StartedAt     time.Time `json:"startedAt"`
	AnsweredAt    time.Time `json:"answeredAt"` // zero if the call was not answered
	EndedAt       time.Time `json:"endedAt"`
	Duration      int       `json:"duration"`
	RingTime      int       `json:"ringTime"`
	TalkTime      int       `json:"talkTime"`
	HoldTime      int       `json:"holdTime"`
	Result        string    `json:"result"` // outcome, as calltracker names it
	HangupCause   string    `json:"hangupCause"`
	HangupBy      string    `json:"hangupBy"`
	Agent         string    `json:"agent"`
	Position      string    `json:"position"`
	RecordingFile string    `json:"recordingFile"`

	RecordedAt  time.Time  `json:"-"` // time from which the recording exists; zero means from the end of the call
	Rules       []Rule     `json:"-"` // rules that the server answered
	Voicemail   bool       `json:"-"` // voicemail flag that the server answered
	StartStatus int        `json:"-"` // HTTP status of the start call; 0 if there was no response
	Deliveries  []Delivery `json:"-"` // requests to the end URL
	Format      CDRFormat  `json:"-"` // format of the posted CDR

	record     int    // Ziwo's number of the record
	answeredBy *Agent // agent who answered; nil if none did
}

// Rule is one rule of the answer to a start call.
type Rule struct {
	Action   string `json:"action"`
	Number   string `json:"number"`
	CallerID string `json:"callerID"`
	Timeout  int    `json:"timeout"` // seconds
}

// Delivery is one attempt to post a CDR.
type Delivery struct {
	Fault  string // injected fault; empty if none
	Status int    // HTTP status; 0 if there was no response
}

// Complete reports whether the whole CDR arrived and the server accepted it.
func (d Delivery) Complete() bool {
	return d.Status == 200 && d.Fault != "truncated" && d.Fault != "cut"
}

// Delivered reports whether any delivery of the CDR was complete.
func (c Call) Delivered() bool {
	for _, d := range c.Deliveries {
		if d.Complete() {
			return true
		}
	}
	return false
}

// CDRFormat is the format of a CDR.
type CDRFormat string

// The formats of a CDR.
const (
	Format2016 CDRFormat = "2016" // names in Ziwo's documentation
	Format2026 CDRFormat = "2026" // names of the current call history, next to the old ones
)

// cdr2016 returns the CDR in the format of Ziwo's documentation
// (https://www.ziwo.io/api-integration-developers/). recorded reports whether
// the recording exists.
func (c Call) cdr2016(recorded bool) []byte {
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

// cdr2026 returns the CDR in the format of the current API, which has the old and
// the new names and includes the agent's telephony password.
func (c Call) cdr2026(recorded bool) []byte {
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
	if a := c.answeredBy; a != nil {
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

// result returns Ziwo's current value for the result of c.
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

// disposition returns Ziwo's value of 2016 for the result of c. Ziwo documents only
// ANSWER.
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

// iso formats t as Ziwo does.
func iso(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// encode returns v as JSON.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // impossible: v has only maps, strings, and numbers
		panic(err)
	}
	return text
}
