package ziwo

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// CDR is the call detail record of a finished call. Ziwo posts it when the call
// ends and in its call-history webhook. Texts are valid UTF-8 without NUL bytes; a
// text is empty if Ziwo sends none or "unknown". Times are in UTC; the zero time
// means none. Durations are whole seconds and never negative.
type CDR struct {
	CallID       string
	Direction    string // lower case: inbound, outbound, internal, service, or another value of Ziwo's
	DIDCalled    string // unparsed; the customer's number if the call is outbound
	CallerNumber string // unparsed
	CallerName   string

	StartedAt  time.Time
	AnsweredAt time.Time // zero if the call was not answered
	EndedAt    time.Time
	UpdatedAt  time.Time // time of Ziwo's last change to the record, which orders its revisions

	Duration int // from the start to the end, including ringing
	RingTime int // from the start to the answer, or to the end if the call was not answered
	TalkTime int // from the answer to the end
	HoldTime int

	Outcome       Outcome
	HangupCause   string // FreeSWITCH's name, such as NORMAL_CLEARING
	HangupBy      string
	Agent         string // ccLogin of the agent, such as "0026", or the numeric ID if there is no ccLogin
	Position      string // destination that answered: the number of a rule, or "agent-0029"
	RecordingFile string
	Tracker       string // name of the call tracker in Ziwo; empty if the DID routes elsewhere
	Notes         []string
}

// Errors of ParseCDR. It wraps both with an explanation.
var (
	ErrNotCDR    = errors.New("not a CDR")
	ErrEmptyBody = errors.New("empty body")
)

const (
	maxCDRFields = 1000 // fields of a form; the size of a body bounds JSON
	maxCDRText   = 512  // bytes of a text
	maxCallID    = 200  // bytes; a database index cannot hold more
)

// ParseCDR parses the body of an end call or of the call-history webhook. The body
// may be a CDR, an object with a CDR under "content" (as an object or as JSON in a
// string), or an array of one of them, in any encoding that ParseStartRequest
// accepts. Fields of the query supply what the body lacks. ParseCDR accepts the
// names of 2016 (https://www.ziwo.io/api-integration-developers/) and those of newer
// records, in any case. It ignores unknown fields.
//
// A record is a CDR if it has a call ID, a DID, a start, answer or end time, a
// hang-up cause or a result. For any other body, ParseCDR returns ErrNotCDR. If the
// body is empty and the query has no CDR, it returns ErrEmptyBody.
func ParseCDR(contentType, rawQuery string, body []byte) (CDR, error) {
	var n notes
	fields, document, err := readBody(nil, contentType, body, maxCDRFields, &n)
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
	case document.kind != kindAbsent:
		outer, ok := document.object(&n)
		if !ok {
			return CDR{}, fmt.Errorf("%w: the body is a JSON %s; send one object", ErrNotCDR, document.kind)
		}
		whole.addObject("", outer)
	default:
		whole.addForm(fields)
	}

	// With a CDR in content, the other members are an envelope: {"result": true, …}.
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
		return CDR{}, fmt.Errorf("%w: the record has no call ID, DID, time, hang-up cause, or result", ErrNotCDR)
	}
	chosen.addForm(query)
	return chosen.cdr(n), nil
}

// cdrField is a field that a CDR may have. Alternative names of one value follow
// each other, the preferred one first.
type cdrField uint8

const (
	unknownField cdrField = iota
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

// cdrFieldOf returns the field with a path from appendPath: lower case, without "_"
// and "-", with dots between nested names.
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
		return unknownField
	}
}

// record holds the undecoded values of a CDR.
type record struct {
	values [cdrFieldCount]value
	filled [cdrFieldCount]bool // whether the value is usable
	notes  notes
}

// set stores v for a field, unless the field already has a usable value.
func (r *record) set(s cdrField, v value) {
	if s != unknownField && !r.filled[s] {
		r.values[s] = v
		r.filled[s] = !v.isBlank() && (v.isScalar() || s == fieldContent)
	}
}

// isCDR reports whether r is a CDR. Callers discard the notes that it adds.
func (r *record) isCDR() bool {
	_, hasOutcome := r.statedOutcome("")
	return hasOutcome || r.callID() != "" || r.firstText(fieldHangupCause) != "" ||
		r.firstText(fieldDIDCalled, fieldDID, fieldCalledNumber, fieldCalleeIDNumber) != "" ||
		!r.firstTime(fieldStartedAt, fieldStartDateTime, fieldStartRawTime).IsZero() ||
		!r.firstTime(fieldAnsweredAt, fieldAnsweredDateTime, fieldAnsweredRawTime).IsZero() ||
		!r.firstTime(fieldEndedAt, fieldEndDateTime, fieldEndRawTime).IsZero()
}

// isBlank reports whether v means that there is no value.
func (v value) isBlank() bool {
	return v.kind == kindAbsent || v.kind == kindNull || v.isScalar() && v.isUnknown()
}

// addObject adds the members of v and those of its agent and extendedInfo objects.
func (r *record) addObject(prefix string, v value) {
	var buffer [64]byte
	for all := v.members(); ; {
		name, v, ok := all.next()
		if !ok {
			return
		}
		path := appendPath(buffer[:0], prefix, name)
		var innerPrefix string
		switch string(path) {
		case "agent":
			innerPrefix = "agent."
		case "extendedinfo":
			innerPrefix = "extendedinfo."
		case "extendedinfo.numbers":
			innerPrefix = "extendedinfo.numbers."
		}
		if innerPrefix != "" && !v.isBlank() {
			if inner, ok := v.object(new(notes)); ok {
				r.addObject(innerPrefix, inner)
				continue
			}
		}
		r.set(cdrFieldOf(path), v)
	}
}

// addForm adds fields. The names of nested ones are agent[ccLogin] or agent.ccLogin.
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

// appendPath appends prefix and name in the form for cdrFieldOf. If they do not fit
// into dst, which is longer than any known path, it returns an empty path.
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

// cdr decodes the values of r. It adds to the notes found.
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

// durations sets the durations of c. It derives those that the record lacks from
// the times that it has.
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
		if stated, ok := r.seconds(d.cdrField); ok {
			*d.seconds = stated
		} else if d.ok {
			*d.seconds = d.derived
		}
	}
}

// secondsBetween returns the whole seconds from one time to another. It returns
// false if either is missing or they contradict each other. A negative difference of
// less than a second is no contradiction, because only some of Ziwo's times have
// milliseconds.
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

// firstText returns the first text among the fields, without surrounding space.
func (r *record) firstText(names ...cdrField) string {
	for _, s := range names {
		if t := strings.TrimSpace(r.cleanText(r.values[s])); t != "" {
			return t
		}
	}
	return ""
}

// firstPhone is like firstText but keeps the spaces: a leading one may be an
// unencoded "+". It adds the note numberType if the value is a JSON number.
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

// callID returns the first call ID that is not too long.
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

// agent returns the ccLogin of the agent, including leading zeros, or else Ziwo's
// ID of the agent.
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

// cleanText returns the text of v in a form that every database can store.
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
