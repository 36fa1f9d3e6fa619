package ziwo

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// StartRequest is the request that Ziwo sends when a call arrives at a call
// tracker. Optional fields are empty if Ziwo does not send them.
type StartRequest struct {
	DIDCalled  string            // dialed number, byte for byte as sent; never empty
	Caller     string            // caller's number as sent; optional
	CallerName string            // optional
	CallID     string            // optional
	Fields     map[string]string // all other fields by lower-case name; nil if there are none
	Notes      []string          // sorted Note constants; nil if there are none
}

// ErrNoDID means that a request has no dialed number. A ParseError wraps it.
var ErrNoDID = errors.New("no didCalled")

// Limits of a start request. They far exceed what Ziwo sends and bound the cost of
// a hostile request.
const (
	maxFields    = 100
	maxName      = 256 // bytes of a field's name
	maxStartText = 256 // bytes of a number, a name, or a call ID
)

// ParseStartRequest parses a start request. It accepts the fields of the body
// (multipart/form-data, application/x-www-form-urlencoded, or JSON, at the top or
// under "content") and those of the query, which the body overrides. contentType may
// be missing or wrong. The only required field is didCalled, which is also the only
// one that Ziwo documents (https://www.ziwo.io/api-integration-developers/). Names
// match in any case and in the spellings that Ziwo and its integrators use. If a
// field is repeated, its first non-empty value counts.
//
// Every error is a *ParseError. It wraps ErrNoDID if there is no dialed number. The
// result does not alias body, which may be reused.
func ParseStartRequest(contentType, rawQuery string, body []byte) (StartRequest, error) {
	var buffer [8]field
	r := startReader{did: noRank, caller: noRank, callerName: noRank, callID: noRank}
	fields, document, bodyErr := readBody(buffer[:0], contentType, body, maxFields, &r.notes)
	if bodyErr == nil && document.kind != kindAbsent {
		bodyErr = r.addJSON(document)
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

// exceedsLimit reports whether err is about a limit, which no query can remedy.
func exceedsLimit(err error) bool {
	var read *ParseError
	return errors.As(err, &read) && (read.Reason == ReasonTooManyFields || read.Reason == ReasonNameTooLong)
}

// rank orders the alternative names of a field: the lowest wins. Names in the query
// rank after all names in the body.
type rank uint8

const (
	noRank    rank = 255
	queryRank rank = 100
)

// startField is a field of a start request with a known name.
type startField uint8

const (
	otherField startField = iota
	didField
	callerField
	callerNameField
	callIDField
)

// startFieldOf returns the field with a name, and the rank of that name. The first
// name of each group is Ziwo's own; the others occur in newer records or are used by
// integrators.
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

// normalizeName appends name in lower case without "_", "-", and surrounding space.
// If it does not fit into dst, which is longer than any known name, it returns an
// empty name.
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
	did, caller, callerName, callID rank // rank of the name that set each value, or noRank
	didKind, callerKind             kind
	badDID                          kind // kind of a didCalled that is not a scalar
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

// addJSON adds the members of "content", and then the other members of v.
func (r *startReader) addJSON(v value) error {
	outer, ok := v.object(&r.notes)
	if !ok {
		return &ParseError{
			Reason:  ReasonUnreadableJSON,
			Message: fmt.Sprintf(`the body is a JSON %s; send one object such as {"didCalled": "…"}`, v.kind),
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

// addMembers adds the members of v, except "content" if skipContent is set.
func (r *startReader) addMembers(v value, skipContent bool) error {
	for all := v.members(); ; {
		name, v, ok := all.next()
		if !ok {
			return nil
		}
		if skipContent && equalFold(name, "content") {
			if _, ok := v.object(&r.notes); ok {
				continue
			}
		}
		if err := r.add(name, v); err != nil {
			return err
		}
	}
}

// add adds one field.
func (r *startReader) add(name []byte, v value) error {
	if r.count++; r.count > maxFields {
		return tooManyFields(maxFields)
	}
	if len(name) > maxName {
		return &ParseError{
			Reason:  ReasonNameTooLong,
			Message: fmt.Sprintf("the name of field %d is longer than %d bytes; shorten it", r.count, maxName),
		}
	}
	known, rank := startFieldOf(name)
	if r.fromQuery {
		rank += queryRank
	}
	switch known {
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

// usable reports whether v is a text of valid length other than "unknown".
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

// isUnknown reports whether v is blank or one of the texts that mean "none".
func (v value) isUnknown() bool {
	t := bytes.TrimSpace(v.bytes())
	return len(t) == 0 || equalFold(t, "unknown") || equalFold(t, "null")
}

// addOther adds a field that has no known name.
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

// finish returns the request. bodyErr is the error of the body; it counts only if
// the query has no dialed number either.
func (r *startReader) finish(bodyErr error) (StartRequest, error) {
	switch {
	case r.did == noRank && bodyErr != nil:
		return StartRequest{}, bodyErr
	case r.did == noRank:
		return StartRequest{}, &ParseError{Reason: ReasonNoDID, Message: r.noDID(), Err: ErrNoDID}
	case len(r.start.DIDCalled) > maxStartText:
		return StartRequest{}, &ParseError{
			Reason:  ReasonDIDTooLong,
			Message: fmt.Sprintf("didCalled is %d bytes long; send the dialed number in at most %d", len(r.start.DIDCalled), maxStartText),
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

// noDID returns the message for a request without a dialed number.
func (r *startReader) noDID() string {
	const remedy = "send the dialed number in the form field didCalled"
	switch {
	case r.badDID != kindAbsent:
		return fmt.Sprintf("didCalled is a JSON %s; send the dialed number as a string", r.badDID)
	case r.count == 0:
		return "the request has no fields in its body or query; " + remedy
	}
	const maxShown = 10
	names := slices.Sorted(maps.Keys(r.start.Fields))
	more := ""
	if len(names) > maxShown {
		names, more = names[:maxShown], ", …"
	}
	return fmt.Sprintf("no value for didCalled in the fields of the request (%s%s); %s", quoteAll(names), more, remedy)
}

// quoteAll returns the quoted names, separated by commas.
func quoteAll(names []string) string {
	quotedNames := make([]string, len(names))
	for i, name := range names {
		quotedNames[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(quotedNames, ", ")
}
