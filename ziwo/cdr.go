package ziwo

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// CDR is the record of one finished call, as Ziwo posts it at hang-up and as
// its call-history webhook sends it. Texts are valid UTF-8 without NUL bytes;
// empty means that Ziwo sent none, or "unknown".
type CDR struct {
	CallID       string
	Direction    string // lower case: inbound, outbound, internal, service, or what Ziwo invents next
	DIDCalled    string // as it came; on an outbound call the customer's number
	CallerNumber string // as it came
	CallerName   string

	StartedAt  time.Time // UTC like all instants here; zero means none
	AnsweredAt time.Time // zero when nobody answered
	EndedAt    time.Time
	UpdatedAt  time.Time // when Ziwo last wrote the record: orders its revisions

	Duration int // whole seconds, never negative: from start to end, ringing included
	RingTime int // until the answer, or until the end when nobody answered
	TalkTime int // from the answer to the end
	HoldTime int

	Outcome       Outcome
	HangupCause   string // FreeSWITCH's name, such as NORMAL_CLEARING
	HangupBy      string
	Agent         string // the agent's ccLogin, always text ("0026"); the numeric id only when there is no ccLogin
	Position      string // what took the call: a rule's number, or "agent-0029"
	RecordingFile string
	Tracker       string // the call tracker by its name in Ziwo; empty when the DID leads elsewhere
	Notes         []string
}

// What ReadCDR says of a body that gives no CDR. Both are wrapped with why.
var (
	ErrNotCDR = errors.New("not a CDR")
	ErrEmpty  = errors.New("empty body")
)

const (
	maxCDRFields = 1000 // of a form; JSON is bounded by its size
	maxCDRText   = 512  // bytes of a text
	maxCallID    = 200  // bytes; a longer one would not fit a database's index
)

// ReadCDR reads the body of an end call or of the call-history webhook: a bare
// CDR, one under "content" (as an object or as JSON in a string), or a list of
// one, in any encoding that ReadStart takes. Fields of the query fill what the
// body leaves open. The 2016 names of
// https://www.ziwo.io/api-integration-developers/ are read as well as those
// that newer records use, without case; unknown fields are ignored.
//
// A record is a CDR when it has a call id, a DID, a start, answer or end time,
// a hang-up cause or a result. Anything else is ErrNotCDR; no body and no CDR
// in the query is ErrEmpty.
func ReadCDR(contentType, rawQuery string, body []byte) (CDR, error) {
	var n notes
	fields, json, err := readBody(nil, contentType, body, maxCDRFields, &n)
	if err != nil {
		return CDR{}, fmt.Errorf("%w: %w", ErrNotCDR, err)
	}
	query, err := appendURLEncoded(nil, []byte(rawQuery), maxCDRFields, &n)
	if err != nil {
		return CDR{}, fmt.Errorf("%w: %w", ErrNotCDR, tooManyFields(maxCDRFields))
	}
	var whole, inner record
	empty := len(bytes.Trim(body, jsonSpace)) == 0
	switch {
	case empty:
		whole.addForm(query)
	case json.kind != absent:
		outer, ok := json.object(&n)
		if !ok {
			return CDR{}, fmt.Errorf("%w: the top of the JSON is a %s; one object is expected", ErrNotCDR, json.kind)
		}
		whole.addObject("", outer)
	default:
		whole.addForm(fields)
	}

	// What stands beside the content belongs to an envelope: {"result": true, …}.
	chosen := &whole
	var repairs notes
	if content, ok := whole.values[slotContent].object(&repairs); ok {
		if inner.addObject("", content); inner.recognisable() {
			chosen = &inner
			n = append(n, repairs...)
		}
	}
	switch recognised := chosen.recognisable(); {
	case !recognised && empty:
		return CDR{}, fmt.Errorf("%w: send the CDR as JSON", ErrEmpty)
	case !recognised:
		return CDR{}, fmt.Errorf("%w: it has no call id, no DID, no time, no hang-up cause and no result", ErrNotCDR)
	}
	chosen.addForm(query)
	return chosen.cdr(n), nil
}

// slot is one name that a CDR may use; names of one thing stand together, the
// better first.
type slot uint8

const (
	noSlot slot = iota
	slotContent
	slotCallID
	slotUUID
	slotPrimaryCallID
	slotDirection
	slotDIDCalled
	slotDID
	slotCalledNumber
	slotCalleeIDNumber
	slotCallerIDNumber
	slotCalerIDNumber
	slotCallerIDName
	slotCalerIDName
	slotStartedAt
	slotStartDateTime
	slotStartRawTime
	slotAnsweredAt
	slotAnsweredDateTime
	slotAnsweredRawTime
	slotEndedAt
	slotEndDateTime
	slotEndRawTime
	slotUpdatedAt
	slotCreatedAt
	slotDuration
	slotRingTime
	slotTalkTime
	slotHoldTime
	slotResult
	slotCallResult
	slotCallStatus
	slotDisposition
	slotVoicemail
	slotHangupCause
	slotHangupBy
	slotAgentCCLogin
	slotAgentDotCCLogin
	slotAgent
	slotAgentID
	slotAgentDotID
	slotPosition
	slotRecordingFile
	slotLinkType
	slotLinkData
	slots
)

// slotOf knows the names: lower case, without "_" and "-", nested ones with dots.
func slotOf(path []byte) slot {
	switch string(path) {
	case "content":
		return slotContent
	case "callid":
		return slotCallID
	case "uuid":
		return slotUUID
	case "primarycallid":
		return slotPrimaryCallID
	case "direction":
		return slotDirection
	case "didcalled":
		return slotDIDCalled
	case "did":
		return slotDID
	case "callednumber":
		return slotCalledNumber
	case "calleeidnumber":
		return slotCalleeIDNumber
	case "calleridnumber":
		return slotCallerIDNumber
	case "caleridnumber":
		return slotCalerIDNumber
	case "calleridname":
		return slotCallerIDName
	case "caleridname":
		return slotCalerIDName
	case "startedat":
		return slotStartedAt
	case "startdatetime":
		return slotStartDateTime
	case "startrawtime":
		return slotStartRawTime
	case "answeredat":
		return slotAnsweredAt
	case "answereddatetime":
		return slotAnsweredDateTime
	case "answeredrawtime":
		return slotAnsweredRawTime
	case "endedat":
		return slotEndedAt
	case "enddatetime":
		return slotEndDateTime
	case "endrawtime":
		return slotEndRawTime
	case "updatedat":
		return slotUpdatedAt
	case "createdat":
		return slotCreatedAt
	case "duration":
		return slotDuration
	case "ringtime":
		return slotRingTime
	case "talktime":
		return slotTalkTime
	case "holdtime":
		return slotHoldTime
	case "result":
		return slotResult
	case "callresult":
		return slotCallResult
	case "callstatus":
		return slotCallStatus
	case "disposition":
		return slotDisposition
	case "voicemail":
		return slotVoicemail
	case "hangupcause":
		return slotHangupCause
	case "hangupby":
		return slotHangupBy
	case "agentcclogin":
		return slotAgentCCLogin
	case "agent.cclogin":
		return slotAgentDotCCLogin
	case "agent":
		return slotAgent
	case "agentid":
		return slotAgentID
	case "agent.id":
		return slotAgentDotID
	case "position":
		return slotPosition
	case "recordingfile":
		return slotRecordingFile
	case "extendedinfo.numbers.linktype":
		return slotLinkType
	case "extendedinfo.numbers.linkdata":
		return slotLinkData
	default:
		return noSlot
	}
}

// record holds the values that a CDR may be made of, not decoded yet.
type record struct {
	values [slots]value
	filled [slots]bool // with a value that says something
	notes  notes
}

// set keeps the first value that says anything.
func (r *record) set(s slot, v value) {
	if s != noSlot && !r.filled[s] {
		r.values[s] = v
		r.filled[s] = !v.blank() && (v.scalar() || s == slotContent)
	}
}

// recognisable tells a CDR from any other record. What it notes does not count.
func (r *record) recognisable() bool {
	_, told := r.said("")
	return told || r.callID() != "" || r.text(slotHangupCause) != "" ||
		r.text(slotDIDCalled, slotDID, slotCalledNumber, slotCalleeIDNumber) != "" ||
		!r.time(slotStartedAt, slotStartDateTime, slotStartRawTime).IsZero() ||
		!r.time(slotAnsweredAt, slotAnsweredDateTime, slotAnsweredRawTime).IsZero() ||
		!r.time(slotEndedAt, slotEndDateTime, slotEndRawTime).IsZero()
}

// blank is true of values that mean "none".
func (v value) blank() bool {
	return v.kind == absent || v.kind == null || v.scalar() && v.unknown()
}

// addObject takes the members of v and of the few objects in it that matter.
func (r *record) addObject(prefix string, v value) {
	var buffer [64]byte
	for all := v.members(); ; {
		name, v, ok := all.next()
		if !ok {
			return
		}
		path := appendPath(buffer[:0], prefix, name)
		var inside string
		switch string(path) {
		case "agent":
			inside = "agent."
		case "extendedinfo":
			inside = "extendedinfo."
		case "extendedinfo.numbers":
			inside = "extendedinfo.numbers."
		}
		if inside != "" && !v.blank() {
			if inner, ok := v.object(new(notes)); ok {
				r.addObject(inside, inner)
				continue
			}
		}
		r.set(slotOf(path), v)
	}
}

// addForm takes fields, nested ones named agent[ccLogin] or agent.ccLogin.
func (r *record) addForm(fields []field) {
	var buffer [64]byte
	for _, f := range fields {
		v := value{text, f.value}
		path := appendPath(buffer[:0], "", f.name)
		if inner := strings.TrimPrefix(string(path), "content."); len(inner) < len(path) {
			path = append(path[:0], inner...)
		}
		switch string(path) {
		case "agent", "extendedinfo":
			if inner, ok := v.object(new(notes)); ok {
				r.addObject(string(path)+".", inner)
				continue
			}
		}
		r.set(slotOf(path), v)
	}
}

// appendPath appends prefix and name in the form that slotOf knows; nothing
// when they do not fit, since no known path is that long.
func appendPath(dst []byte, prefix string, name []byte) []byte {
	dst = append(dst, prefix...)
	for _, c := range name {
		switch c {
		case '_', '-', ' ', ']':
			continue
		case '[':
			c = '.'
		}
		if len(dst) == cap(dst) {
			return dst[:0]
		}
		dst = append(dst, lower(c))
	}
	return dst
}

// cdr decodes the values. found are the notes of the body around them.
func (r *record) cdr(found notes) CDR {
	r.notes = found
	var c CDR
	c.CallID = r.callID()
	c.Direction = strings.ToLower(r.text(slotDirection))
	c.DIDCalled = r.phone(NoteDIDNumberType, slotDIDCalled, slotDID, slotCalledNumber, slotCalleeIDNumber)
	c.CallerNumber = r.phone(NoteCallerNumberType, slotCallerIDNumber, slotCalerIDNumber)
	c.CallerName = r.text(slotCallerIDName, slotCalerIDName)

	c.StartedAt = r.time(slotStartedAt, slotStartDateTime, slotStartRawTime)
	c.AnsweredAt = r.time(slotAnsweredAt, slotAnsweredDateTime, slotAnsweredRawTime)
	c.EndedAt = r.time(slotEndedAt, slotEndDateTime, slotEndRawTime)
	c.UpdatedAt = r.time(slotUpdatedAt, slotCreatedAt)

	c.HangupCause = r.text(slotHangupCause)
	c.HangupBy = r.text(slotHangupBy)
	c.Agent = r.agent()
	c.Position = r.text(slotPosition)
	c.RecordingFile = r.text(slotRecordingFile)
	if strings.EqualFold(r.text(slotLinkType), "callTracker") {
		c.Tracker = r.text(slotLinkData)
	}
	c.Outcome = r.outcome(c)
	r.durations(&c)
	c.Notes = r.notes.sorted()
	return c
}

// durations takes what the record says, and the difference of two instants
// where it says nothing. Nothing is derived from an instant that is not there.
func (r *record) durations(c *CDR) {
	whole, wholeOK := r.between(c.StartedAt, c.EndedAt)
	talk, talkOK := r.between(c.AnsweredAt, c.EndedAt)
	ring, ringOK := r.between(c.StartedAt, c.AnsweredAt)
	if c.AnsweredAt.IsZero() && c.Outcome != Answered {
		ring, ringOK = whole, wholeOK
	}
	for _, d := range []struct {
		seconds *int
		slot    slot
		derived int
		ok      bool
	}{
		{&c.Duration, slotDuration, whole, wholeOK},
		{&c.RingTime, slotRingTime, ring, ringOK},
		{&c.TalkTime, slotTalkTime, talk, talkOK},
		{&c.HoldTime, slotHoldTime, 0, false},
	} {
		if said, ok := r.seconds(d.slot); ok {
			*d.seconds = said
		} else if d.ok {
			*d.seconds = d.derived
		}
	}
}

// between is the whole seconds from one instant to another, when both are
// there. Less than a second the wrong way round is no contradiction: some of
// Ziwo's instants have milliseconds and others have not.
func (r *record) between(from, to time.Time) (int, bool) {
	if from.IsZero() || to.IsZero() {
		return 0, false
	}
	d := to.Sub(from)
	if d <= -time.Second || d > maxSeconds*time.Second {
		r.notes.add(NoteTimesOutOfOrder)
		return 0, false
	}
	return int(max(d, 0) / time.Second), true
}

// text is the first of the values that says anything, without surrounding space.
func (r *record) text(names ...slot) string {
	for _, s := range names {
		if t := strings.TrimSpace(r.kept(r.values[s])); t != "" {
			return t
		}
	}
	return ""
}

// phone is like text, but keeps the spaces: a leading one may be a "+" that was
// not encoded.
func (r *record) phone(numberType string, names ...slot) string {
	for _, s := range names {
		v := r.values[s]
		t := r.kept(v)
		if strings.TrimSpace(t) == "" {
			continue
		}
		if v.kind == number {
			r.notes.add(numberType)
		}
		return t
	}
	return ""
}

func (r *record) callID() string {
	for _, s := range []slot{slotCallID, slotUUID, slotPrimaryCallID} {
		switch id := r.text(s); {
		case len(id) > maxCallID:
			r.notes.add(NoteTextCut)
		case id != "":
			return id
		}
	}
	r.notes.add(NoteNoCallID)
	return ""
}

// agent is the ccLogin, whose leading zeros count, or else the id that Ziwo's
// database gave the agent.
func (r *record) agent() string {
	if login := r.text(slotAgentCCLogin, slotAgentDotCCLogin, slotAgent); login != "" {
		return login
	}
	for _, s := range []slot{slotAgentID, slotAgentDotID} {
		if id := r.text(s); id != "" && id != "0" {
			return id
		}
	}
	return ""
}

// kept is a text as a database can keep it.
func (r *record) kept(v value) string {
	if v.blank() || !v.scalar() || v.kind == boolean {
		return ""
	}
	raw := v.bytes()
	t := strings.ReplaceAll(strings.ToValidUTF8(string(raw[:min(len(raw), 4*maxCDRText)]), "\ufffd"), "\x00", "")
	if len(t) > maxCDRText {
		t = t[:maxCDRText]
		for !utf8.ValidString(t) {
			t = t[:len(t)-1]
		}
	}
	if len(t) != len(raw) {
		r.notes.add(NoteTextCut)
	}
	return t
}
