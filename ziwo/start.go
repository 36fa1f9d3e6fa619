package ziwo

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Start is what Ziwo asks when a call lands.
type StartRequest struct {
	DIDCalled  string            // the dialled number, byte for byte as it came; never empty
	Caller     string            // as it came; empty when Ziwo sent none
	CallerName string            // empty when Ziwo sent none
	CallID     string            // empty when Ziwo sent none
	Fields     map[string]string // every other field under its lower-case name; nil when there is none
	Notes      []string          // what had to be repaired, sorted Note words; nil when nothing
}

// ErrNoDID is what a ReadError wraps when the request has no dialled number.
var ErrNoDID = errors.New("no didCalled")

// Bounds of a start request. They are far above what Ziwo sends and keep a
// hostile one from costing more than an honest one.
const (
	maxFields    = 100
	maxName      = 256 // bytes of a field's name
	maxStartText = 256 // bytes of a number, a name or a call id
)

// ReadStart reads a start request: the fields of the body (multipart/form-data,
// application/x-www-form-urlencoded, or JSON, bare or under "content") and
// those of the query, which count where the body has none. A missing or wrong
// contentType is no error. Only didCalled is needed, the one field that Ziwo
// documents (https://www.ziwo.io/api-integration-developers/); names are
// matched without case, by the other names that Ziwo and its integrators use
// too. Of a field that is repeated the first value that is not empty counts.
//
// Every error is a *ReadError; one without a dialled number is ErrNoDID. The
// result keeps nothing of body, which may be reused.
func ParseStartRequest(contentType, rawQuery string, body []byte) (StartRequest, error) {
	var buffer [8]field
	r := startReader{did: noRank, caller: noRank, callerName: noRank, callID: noRank}
	fields, json, bodyErr := readBody(buffer[:0], contentType, body, maxFields, &r.notes)
	if bodyErr == nil && json.kind != kindAbsent {
		bodyErr = r.addJSON(json)
	} else if bodyErr == nil {
		bodyErr = r.addForm(fields)
	}
	if bodyErr != nil && exceedsLimit(bodyErr) {
		return StartRequest{}, bodyErr
	}
	if rawQuery != "" {
		r.fromQuery = true
		fields, err := appendURLEncoded(nil, []byte(rawQuery), maxFields, &r.notes)
		if err != nil {
			return StartRequest{}, tooManyFields(maxFields)
		}
		if err := r.addForm(fields); err != nil {
			return StartRequest{}, err
		}
	}
	return r.finish(bodyErr)
}

// tooBig tells errors that no query mends.
func exceedsLimit(err error) bool {
	var read *ParseError
	return errors.As(err, &read) && (read.Reason == ReasonTooManyFields || read.Reason == ReasonNameTooLong)
}

// rank orders the names of one thing: the lower wins. Names in the query come
// after all names in the body.
type rank uint8

const (
	noRank    rank = 255
	queryRank rank = 100
)

// meaning is what a field with a known name is.
type startField uint8

const (
	otherField startField = iota
	didField
	callerField
	callerNameField
	callIDField
)

// startMeaning knows the names. The first of each group is Ziwo's own; the
// others are those of its newer records and of its integrators.
func startFieldOf(name []byte) (startField, rank) {
	var buffer [24]byte
	switch string(normalizeName(buffer[:0], name)) {
	case "didcalled":
		return didField, 0
	case "did":
		return didField, 1
	case "callednumber":
		return didField, 2
	case "calleeidnumber":
		return didField, 3
	case "calleridnumber":
		return callerField, 0
	case "caleridnumber":
		return callerField, 1
	case "callerid":
		return callerField, 2
	case "caller":
		return callerField, 3
	case "from":
		return callerField, 4
	case "calleridname":
		return callerNameField, 0
	case "caleridname":
		return callerNameField, 1
	case "callername":
		return callerNameField, 2
	case "callid":
		return callIDField, 0
	case "uuid":
		return callIDField, 1
	case "primarycallid":
		return callIDField, 2
	default:
		return otherField, 0
	}
}

// plainName appends name in lower case without "_", "-" and surrounding space;
// nothing when it does not fit, since no known name is that long.
func normalizeName(dst, name []byte) []byte {
	for _, c := range bytes.TrimSpace(name) {
		if c == '_' || c == '-' {
			continue
		}
		if len(dst) == cap(dst) {
			return dst[:0]
		}
		dst = append(dst, lower(c))
	}
	return dst
}

// startReader collects the fields of one request.
type startReader struct {
	start                           StartRequest
	did, caller, callerName, callID rank // of the name that gave each; unset when none did
	didKind, callerKind             kind
	badDID                          kind // of a didCalled that is no text
	fromQuery                       bool
	count                           int
	notes                           notes
}

func (r *startReader) addForm(fields []field) error {
	for _, f := range fields {
		if err := r.add(f.name, value{kindText, f.value}); err != nil {
			return err
		}
	}
	return nil
}

// addJSON takes the members of "content" first and those beside it after.
func (r *startReader) addJSON(v value) error {
	outer, ok := v.object(&r.notes)
	if !ok {
		return &ParseError{
			Reason:  ReasonUnreadableJSON,
			Message: fmt.Sprintf(`the body is JSON, but its top is a %s; send one object such as {"didCalled": "…"}`, v.kind),
		}
	}
	for all := outer.members(); ; {
		name, v, ok := all.next()
		if !ok {
			break
		}
		if equalFold(name, "content") {
			if inner, ok := v.object(&r.notes); ok {
				if err := r.addMembers(inner, false); err != nil {
					return err
				}
			}
		}
	}
	return r.addMembers(outer, true)
}

func (r *startReader) addMembers(v value, withoutContent bool) error {
	for all := v.members(); ; {
		name, v, ok := all.next()
		if !ok {
			return nil
		}
		if withoutContent && equalFold(name, "content") {
			if _, ok := v.object(&r.notes); ok {
				continue
			}
		}
		if err := r.add(name, v); err != nil {
			return err
		}
	}
}

func (r *startReader) add(name []byte, v value) error {
	if r.count++; r.count > maxFields {
		return tooManyFields(maxFields)
	}
	if len(name) > maxName {
		return &ParseError{
			Reason:  ReasonNameTooLong,
			Message: fmt.Sprintf("field %d has a name of more than %d bytes; shorten it", r.count, maxName),
		}
	}
	what, rank := startFieldOf(name)
	if r.fromQuery {
		rank += queryRank
	}
	switch what {
	case didField:
		switch {
		case !v.isScalar():
			r.badDID = v.kind
		case rank < r.did && len(bytes.TrimSpace(v.bytes())) > 0:
			r.did, r.didKind = rank, v.kind
			r.start.DIDCalled = string(v.bytes())
		}
	case callerField:
		if rank < r.caller && r.usable(v) {
			r.caller, r.callerKind = rank, v.kind
			r.start.Caller = string(v.bytes())
		}
	case callerNameField:
		if rank < r.callerName && r.usable(v) {
			r.callerName = rank
			r.start.CallerName = string(v.bytes())
		}
	case callIDField:
		if rank < r.callID && r.usable(v) {
			r.callID = rank
			r.start.CallID = string(bytes.TrimSpace(v.bytes()))
		}
	default:
		r.addOther(name, v)
	}
	return nil
}

// given tells whether v says anything: Ziwo writes "unknown" for none.
func (r *startReader) usable(v value) bool {
	if !v.isScalar() || v.isUnknown() {
		return false
	}
	if len(v.bytes()) > maxStartText {
		r.notes.add(NoteTextCut)
		return false
	}
	return true
}

// unknown is true of the texts that mean "none".
func (v value) isUnknown() bool {
	t := bytes.TrimSpace(v.bytes())
	return len(t) == 0 || equalFold(t, "unknown") || equalFold(t, "null")
}

func (r *startReader) addOther(name []byte, v value) {
	key := strings.ToLower(string(bytes.TrimSpace(name)))
	if key == "" || v.kind == kindNull || r.start.Fields[key] != "" {
		return
	}
	if r.start.Fields == nil {
		r.start.Fields = make(map[string]string)
	}
	r.start.Fields[key] = string(v.bytes())
}

// finish judges what was collected. bodyErr is why the body gave nothing; it
// matters only when the query did not give a dialled number either.
func (r *startReader) finish(bodyErr error) (StartRequest, error) {
	switch {
	case r.did == noRank && bodyErr != nil:
		return StartRequest{}, bodyErr
	case r.did == noRank:
		return StartRequest{}, &ParseError{Reason: ReasonNoDID, Message: r.noDID(), Err: ErrNoDID}
	case len(r.start.DIDCalled) > maxStartText:
		return StartRequest{}, &ParseError{
			Reason:  ReasonDIDTooLong,
			Message: fmt.Sprintf("didCalled has %d bytes; send the dialled number, at most %d", len(r.start.DIDCalled), maxStartText),
		}
	}
	if bodyErr != nil {
		r.notes.add(NoteUnreadableBody)
	}
	if r.didKind == kindNumber {
		r.notes.add(NoteDIDNumberType)
	}
	if r.callerKind == kindNumber {
		r.notes.add(NoteCallerNumberType)
	}
	r.start.Notes = r.notes.sorted()
	return r.start, nil
}

func (r *startReader) noDID() string {
	const mend = "send the dialled number as the form field didCalled"
	switch {
	case r.badDID != kindAbsent:
		return fmt.Sprintf("didCalled is a JSON %s; send the dialled number as text", r.badDID)
	case r.count == 0:
		return "the request has no fields, neither in its body nor in its query; " + mend
	}
	const shown = 10
	names := slices.Sorted(maps.Keys(r.start.Fields))
	more := ""
	if len(names) > shown {
		names, more = names[:shown], ", …"
	}
	return fmt.Sprintf("no value for didCalled in the %d fields that came (%s%s); %s", r.count, quoteAll(names), more, mend)
}

func quoteAll(names []string) string {
	quotedNames := make([]string, len(names))
	for i, name := range names {
		quotedNames[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(quotedNames, ", ")
}
