package ziwo

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// encoding is the encoding of the fields of a request.
type encoding uint8

const (
	unknownEncoding encoding = iota
	jsonText
	urlEncoded
	multipartForm
)

// ParseError tells the sender of a request why it is invalid. Message says what is
// wrong, where, and how to fix it. It contains names of fields but no values, so
// that it is safe to return and to log.
type ParseError struct {
	Reason  string // one of the Reason constants
	Message string
	Err     error // sentinel error, such as ErrNoDID; may be nil
}

// The reasons of a ParseError.
const (
	ReasonNoDID          = "no_did"              // no dialed number
	ReasonDIDTooLong     = "did_too_long"        // dialed number longer than 256 bytes
	ReasonNameTooLong    = "field_name_too_long" // field name longer than 256 bytes
	ReasonTooManyFields  = "too_many_fields"     // more than 100 fields
	ReasonUnreadableBody = "unreadable_body"     // neither a form nor JSON
	ReasonUnreadableForm = "unreadable_form"     // multipart/form-data without a readable part
	ReasonUnreadableJSON = "unreadable_json"     // invalid JSON, or not an object
)

// Error returns the Message.
func (e *ParseError) Error() string { return e.Message }

// Unwrap returns the sentinel error.
func (e *ParseError) Unwrap() error { return e.Err }

// readBody decodes a body. If the Content-Type does not match the body, the body
// decides. It appends the fields of a form to dst, or else returns one JSON value.
// An empty body has neither. limit is the maximum number of fields.
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
				Message: fmt.Sprintf("invalid JSON in the body: %v; send one JSON object with straight double quotes", syntaxError(whole)),
			}
		}
		return dst, v, nil
	default:
		return dst, value{}, &ParseError{
			Reason:  ReasonUnreadableBody,
			Message: "the body is neither multipart/form-data, nor application/x-www-form-urlencoded, nor JSON; send one of these with its Content-Type",
		}
	}
}

// formError returns the ParseError for an error of a form.
func formError(err error, limit int) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooManyFields):
		return tooManyFields(limit)
	default:
		return &ParseError{
			Reason:  ReasonUnreadableForm,
			Message: "the multipart/form-data body has no readable part; check that its boundary matches the Content-Type and that each part names its field",
		}
	}
}

func tooManyFields(limit int) error {
	return &ParseError{
		Reason:  ReasonTooManyFields,
		Message: fmt.Sprintf("the request has more than %d fields; send fewer", limit),
	}
}

// declaredEncoding returns the encoding that a Content-Type declares.
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

// sniff detects the encoding of a non-empty body by its first bytes.
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

// startsWithPair reports whether body starts with name=…, where name is plausible.
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
