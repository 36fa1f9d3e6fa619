package ziwo

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// encoding is one way to write the fields of a request.
type encoding uint8

const (
	unknownEncoding encoding = iota
	jsonText
	urlEncoded
	multipartForm
)

// ReadError tells the sender why a request could not be read. Its text says
// what is wrong, where, and how to mend it; it repeats no value that was sent,
// only names of fields, so that it can be answered and logged.
type ParseError struct {
	Reason  string // a fixed word, one of the Reason constants
	Message string
	Err     error // the sentinel that this is a case of; nil when there is none
}

// Reasons of a ReadError.
const (
	ReasonNoDID          = "no_did"              // no dialled number in it
	ReasonDIDTooLong     = "did_too_long"        // the dialled number has more than 256 bytes
	ReasonNameTooLong    = "field_name_too_long" // a field's name has more than 256 bytes
	ReasonTooManyFields  = "too_many_fields"
	ReasonUnreadableBody = "unreadable_body" // neither a form nor JSON
	ReasonUnreadableForm = "unreadable_form" // multipart/form-data without a part that can be read
	ReasonUnreadableJSON = "unreadable_json" // not JSON, or no object
)

// Error is the Message.
func (e *ParseError) Error() string { return e.Message }

// Unwrap makes errors.Is find ErrNoDID.
func (e *ParseError) Unwrap() error { return e.Err }

// readBody reads a body by its Content-Type, or by its looks where the two
// disagree: as the fields of a form, appended to dst, or else as one JSON
// value. An empty body has neither. limit bounds the fields of a form.
func readBody(dst []field, contentType string, body []byte, limit int, n *notes) ([]field, value, error) {
	whole := bytes.TrimPrefix(body, []byte("\ufeff"))
	body = bytes.TrimLeft(whole, jsonSpace)
	if len(body) == 0 {
		return dst, value{}, nil
	}
	declared := declaredEncoding(contentType)
	actual := sniff(body)
	if actual == unknownEncoding {
		actual = declared
	}
	if actual != declared && contentType != "" {
		n.add(NoteContentTypeMismatch)
	}
	switch actual {
	case multipartForm:
		fields, err := appendMultipart(dst, contentType, body, limit, n)
		return fields, value{}, formError(err, limit)
	case urlEncoded:
		fields, err := appendURLEncoded(dst, bytes.TrimRight(body, "\r\n"), limit, n)
		return fields, value{}, formError(err, limit)
	case jsonText:
		v, ok := parseJSON(body, n)
		if !ok {
			return dst, value{}, &ParseError{
				Reason:  ReasonUnreadableJSON,
				Message: fmt.Sprintf("the body is not JSON: %v; send one JSON object with straight double quotes", syntaxError(whole)),
			}
		}
		return dst, v, nil
	default:
		return dst, value{}, &ParseError{
			Reason:  ReasonUnreadableBody,
			Message: "the body is neither multipart/form-data, nor name=value pairs, nor JSON; send one of these with its Content-Type",
		}
	}
}

func formError(err error, limit int) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooManyFields):
		return tooManyFields(limit)
	default:
		return &ParseError{
			Reason:  ReasonUnreadableForm,
			Message: "the multipart/form-data body has no part that can be read; check that the boundary in Content-Type is the one in the body and that each part names its field",
		}
	}
}

func tooManyFields(limit int) error {
	return &ParseError{
		Reason:  ReasonTooManyFields,
		Message: fmt.Sprintf("more than %d fields; send fewer", limit),
	}
}

// declaredEncoding is what the Content-Type announces.
func declaredEncoding(contentType string) encoding {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	switch {
	case hasPrefixFold(media, "multipart/"):
		return multipartForm
	case strings.EqualFold(media, "application/x-www-form-urlencoded"):
		return urlEncoded
	case len(media) > 4 && strings.EqualFold(media[len(media)-4:], "json"):
		return jsonText
	default:
		return unknownEncoding
	}
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// sniff tells an encoding by the first bytes of a body that is not empty.
func sniff(body []byte) encoding {
	switch {
	case body[0] == '{' || body[0] == '[' || body[0] == '"':
		return jsonText
	case bytes.HasPrefix(body, []byte("--")):
		return multipartForm
	case startsWithPair(body):
		return urlEncoded
	default:
		return unknownEncoding
	}
}

// startsWithPair is true of name=…, where the name looks like one.
func startsWithPair(body []byte) bool {
	end := bytes.IndexByte(body[:min(len(body), maxName+1)], '=')
	if end < 1 {
		return false
	}
	for _, c := range body[:end] {
		switch {
		case lower(c) >= 'a' && lower(c) <= 'z', c >= '0' && c <= '9', c >= 0x80:
		case bytes.IndexByte([]byte("_-.[]%+$"), c) >= 0:
		default:
			return false
		}
	}
	return true
}
