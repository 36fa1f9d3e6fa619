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
	ErrNotCDR    = errors.New("not a CDR")
	ErrEmptyBody = errors.New("empty body")
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
func ParseCDR(contentType, rawQuery string, body []byte) (CDR, error) {
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
	case json.kind != kindAbsent:
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
	if content, ok := whole.values[fieldContent].object(&repairs); ok {
		if inner.addObject("", content); inner.isCDR() {
			chosen = &inner
			n = append(n, repairs...)
		}
	}
	switch isCDR := chosen.isCDR(); {
	case !isCDR && empty:
		return CDR{}, fmt.Errorf("%w: send the CDR as JSON", ErrEmptyBody)
	case !isCDR:
		return CDR{}, fmt.Errorf("%w: it has no call id, no DID, no time, no hang-up cause and no result", ErrNotCDR)
	}
	chosen.addForm(query)
	return chosen.cdr(n), nil
}

// slot is one name that a CDR may use; names of one thing stand together, the
// better first.
type cdrField uint8

const (
	noField cdrField = iota
	fieldContent
	fieldCallID
	fieldUUID
	fieldPrimaryCallID
	fieldDirection
	fieldDIDCalled
	fieldDID
	fieldCalledNumber
	fieldCalleeIDNumber
	fieldCallerIDNumber
	fieldCalerIDNumber
	fieldCallerIDName
	fieldCalerIDName
	fieldStartedAt
	fieldStartDateTime
	fieldStartRawTime
	fieldAnsweredAt
	fieldAnsweredDateTime
	fieldAnsweredRawTime
	fieldEndedAt
	fieldEndDateTime
	fieldEndRawTime
	fieldUpdatedAt
	fieldCreatedAt
	fieldDuration
	fieldRingTime
	fieldTalkTime
	fieldHoldTime
	fieldResult
	fieldCallResult
	fieldCallStatus
	fieldDisposition
	fieldVoicemail
	fieldHangupCause
	fieldHangupBy
	fieldAgentCCLogin
	fieldAgentDotCCLogin
	fieldAgent
	fieldAgentID
	fieldAgentDotID
	fieldPosition
	fieldRecordingFile
	fieldLinkType
	fieldLinkData
	cdrFieldCount
)

// fieldOf knows the names: lower case, without "_" and "-", nested ones with dots.
func cdrFieldOf(path []byte) cdrField {
	switch string(path) {
	case "content":
		return fieldContent
	case "callid":
		return fieldCallID
	case "uuid":
		return fieldUUID
	case "primarycallid":
		return fieldPrimaryCallID
	case "direction":
		return fieldDirection
	case "didcalled":
		return fieldDIDCalled
	case "did":
		return fieldDID
	case "callednumber":
		return fieldCalledNumber
	case "calleeidnumber":
		return fieldCalleeIDNumber
	case "calleridnumber":
		return fieldCallerIDNumber
	case "caleridnumber":
		return fieldCalerIDNumber
	case "calleridname":
		return fieldCallerIDName
	case "caleridname":
		return fieldCalerIDName
	case "startedat":
		return fieldStartedAt
	case "startdatetime":
		return fieldStartDateTime
	case "startrawtime":
		return fieldStartRawTime
	case "answeredat":
		return fieldAnsweredAt
	case "answereddatetime":
		return fieldAnsweredDateTime
	case "answeredrawtime":
		return fieldAnsweredRawTime
	case "endedat":
		return fieldEndedAt
	case "enddatetime":
		return fieldEndDateTime
	case "endrawtime":
		return fieldEndRawTime
	case "updatedat":
		return fieldUpdatedAt
	case "createdat":
		return fieldCreatedAt
	case "duration":
		return fieldDuration
	case "ringtime":
		return fieldRingTime
	case "talktime":
		return fieldTalkTime
	case "holdtime":
		return fieldHoldTime
	case "result":
		return fieldResult
	case "callresult":
		return fieldCallResult
	case "callstatus":
		return fieldCallStatus
	case "disposition":
		return fieldDisposition
	case "voicemail":
		return fieldVoicemail
	case "hangupcause":
		return fieldHangupCause
	case "hangupby":
		return fieldHangupBy
	case "agentcclogin":
		return fieldAgentCCLogin
	case "agent.cclogin":
		return fieldAgentDotCCLogin
	case "agent":
		return fieldAgent
	case "agentid":
		return fieldAgentID
	case "agent.id":
		return fieldAgentDotID
	case "position":
		return fieldPosition
	case "recordingfile":
		return fieldRecordingFile
	case "extendedinfo.numbers.linktype":
		return fieldLinkType
	case "extendedinfo.numbers.linkdata":
		return fieldLinkData
	default:
		return noField
	}
}

// record holds the values that a CDR may be made of, not decoded yet.
type record struct {
	values [cdrFieldCount]value
	filled [cdrFieldCount]bool // with a value that says something
	notes  notes
}

// set keeps the first value that says anything.
func (r *record) set(s cdrField, v value) {
	if s != noField && !r.filled[s] {
		r.values[s] = v
		r.filled[s] = !v.isBlank() && (v.isScalar() || s == fieldContent)
	}
}

// recognisable tells a CDR from any other record. What it notes does not count.
func (r *record) isCDR() bool {
	_, told := r.statedOutcome("")
	return told || r.callID() != "" || r.firstText(fieldHangupCause) != "" ||
		r.firstText(fieldDIDCalled, fieldDID, fieldCalledNumber, fieldCalleeIDNumber) != "" ||
		!r.firstTime(fieldStartedAt, fieldStartDateTime, fieldStartRawTime).IsZero() ||
		!r.firstTime(fieldAnsweredAt, fieldAnsweredDateTime, fieldAnsweredRawTime).IsZero() ||
		!r.firstTime(fieldEndedAt, fieldEndDateTime, fieldEndRawTime).IsZero()
}

// blank is true of values that mean "none".
func (v value) isBlank() bool {
	return v.kind == kindAbsent || v.kind == kindNull || v.isScalar() && v.isUnknown()
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
		if inside != "" && !v.isBlank() {
			if inner, ok := v.object(new(notes)); ok {
				r.addObject(inside, inner)
				continue
			}
		}
		r.set(cdrFieldOf(path), v)
	}
}

// addForm takes fields, nested ones named agent[ccLogin] or agent.ccLogin.
func (r *record) addForm(fields []field) {
	var buffer [64]byte
	for _, f := range fields {
		v := value{kindText, f.value}
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
		r.set(cdrFieldOf(path), v)
	}
}

// appendPath appends prefix and name in the form that fieldOf knows; nothing
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
	c.Direction = strings.ToLower(r.firstText(fieldDirection))
	c.DIDCalled = r.firstPhone(NoteDIDNumberType, fieldDIDCalled, fieldDID, fieldCalledNumber, fieldCalleeIDNumber)
	c.CallerNumber = r.firstPhone(NoteCallerNumberType, fieldCallerIDNumber, fieldCalerIDNumber)
	c.CallerName = r.firstText(fieldCallerIDName, fieldCalerIDName)

	c.StartedAt = r.firstTime(fieldStartedAt, fieldStartDateTime, fieldStartRawTime)
	c.AnsweredAt = r.firstTime(fieldAnsweredAt, fieldAnsweredDateTime, fieldAnsweredRawTime)
	c.EndedAt = r.firstTime(fieldEndedAt, fieldEndDateTime, fieldEndRawTime)
	c.UpdatedAt = r.firstTime(fieldUpdatedAt, fieldCreatedAt)

	c.HangupCause = r.firstText(fieldHangupCause)
	c.HangupBy = r.firstText(fieldHangupBy)
	c.Agent = r.agent()
	c.Position = r.firstText(fieldPosition)
	c.RecordingFile = r.firstText(fieldRecordingFile)
	if strings.EqualFold(r.firstText(fieldLinkType), "callTracker") {
		c.Tracker = r.firstText(fieldLinkData)
	}
	c.Outcome = r.outcome(c)
	r.durations(&c)
	c.Notes = r.notes.sorted()
	return c
}

// durations takes what the record says, and the difference of two instants
// where it says nothing. Nothing is derived from an instant that is not there.
func (r *record) durations(c *CDR) {
	whole, wholeOK := r.secondsBetween(c.StartedAt, c.EndedAt)
	talk, talkOK := r.secondsBetween(c.AnsweredAt, c.EndedAt)
	ring, ringOK := r.secondsBetween(c.StartedAt, c.AnsweredAt)
	if c.AnsweredAt.IsZero() && c.Outcome != Answered {
		ring, ringOK = whole, wholeOK
	}
	for _, d := range []struct {
		seconds  *int
		cdrField cdrField
		derived  int
		ok       bool
	}{
		{&c.Duration, fieldDuration, whole, wholeOK},
		{&c.RingTime, fieldRingTime, ring, ringOK},
		{&c.TalkTime, fieldTalkTime, talk, talkOK},
		{&c.HoldTime, fieldHoldTime, 0, false},
	} {
		if said, ok := r.seconds(d.cdrField); ok {
			*d.seconds = said
		} else if d.ok {
			*d.seconds = d.derived
		}
	}
}

// between is the whole seconds from one instant to another, when both are
// there. Less than a second the wrong way round is no contradiction: some of
// Ziwo's instants have milliseconds and others have not.
func (r *record) secondsBetween(from, to time.Time) (int, bool) {
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
func (r *record) firstText(names ...cdrField) string {
	for _, s := range names {
		if t := strings.TrimSpace(r.cleanText(r.values[s])); t != "" {
			return t
		}
	}
	return ""
}

// phone is like text, but keeps the spaces: a leading one may be a "+" that was
// not encoded.
func (r *record) firstPhone(numberType string, names ...cdrField) string {
	for _, s := range names {
		v := r.values[s]
		t := r.cleanText(v)
		if strings.TrimSpace(t) == "" {
			continue
		}
		if v.kind == kindNumber {
			r.notes.add(numberType)
		}
		return t
	}
	return ""
}

func (r *record) callID() string {
	for _, s := range []cdrField{fieldCallID, fieldUUID, fieldPrimaryCallID} {
		switch id := r.firstText(s); {
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
	if login := r.firstText(fieldAgentCCLogin, fieldAgentDotCCLogin, fieldAgent); login != "" {
		return login
	}
	for _, s := range []cdrField{fieldAgentID, fieldAgentDotID} {
		if id := r.firstText(s); id != "" && id != "0" {
			return id
		}
	}
	return ""
}

// kept is a text as a database can keep it.
func (r *record) cleanText(v value) string {
	if v.isBlank() || !v.isScalar() || v.kind == kindBool {
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
