package ziwo

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
)

// field is one field of a form. Its slices alias the body unless they had to be
// decoded.
type field struct{ name, value []byte }

var (
	errTooManyFields = errors.New("too many fields")
	errNoParts       = errors.New("no readable part in the form")
)

// appendURLEncoded appends the fields of a form such as a=1&b=2. It copies invalid
// escapes unchanged: rejecting a stray "%" would only fail the call.
func appendURLEncoded(dst []field, form []byte, limit int, n *notes) ([]field, error) {
	for len(form) > 0 {
		pair := form
		if i := bytes.IndexByte(form, '&'); i >= 0 {
			pair, form = form[:i], form[i+1:]
		} else {
			form = nil
		}
		if len(pair) == 0 {
			continue
		}
		if len(dst) == limit {
			return dst, errTooManyFields
		}
		f := field{name: pair}
		if i := bytes.IndexByte(pair, '='); i >= 0 {
			f = field{name: pair[:i], value: pair[i+1:]}
		}
		f.name, f.value = unescape(f.name, n), unescape(f.value, n)
		dst = append(dst, f)
	}
	return dst, nil
}

// unescape decodes b and notes invalid escapes.
func unescape(b []byte, n *notes) []byte {
	if bytes.IndexByte(b, '%') < 0 && bytes.IndexByte(b, '+') < 0 {
		return b
	}
	decoded, ok := decodeEscapes(b)
	if !ok {
		n.add(NoteBadEscape)
	}
	return decoded
}

// decodeEscapes decodes a name or a value of a form. It copies invalid escapes
// unchanged; ok reports whether there were none.
func decodeEscapes(b []byte) (decoded []byte, ok bool) {
	decoded, ok = make([]byte, 0, len(b)), true
	for i := 0; i < len(b); i++ {
		switch c := b[i]; c {
		case '+':
			decoded = append(decoded, ' ')
		case '%':
			if i+2 >= len(b) || unhex(b[i+1]) > 15 || unhex(b[i+2]) > 15 {
				decoded, ok = append(decoded, c), false
				continue
			}
			decoded = append(decoded, unhex(b[i+1])<<4|unhex(b[i+2]))
			i += 2
		default:
			decoded = append(decoded, c)
		}
	}
	return decoded, ok
}

// unhex returns the value of a hexadecimal digit, or 255 if c is not one.
func unhex(c byte) byte {
	switch c = lower(c); {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	default:
		return 255
	}
}

// appendMultipart appends the fields of a multipart form. It scans a common form
// without copying it and leaves any other to mime/multipart.
func appendMultipart(dst []field, contentType string, body []byte, limit int, n *notes) ([]field, error) {
	boundary := plainBoundary(contentType)
	if fields, ok := scanMultipart(dst, boundary, body, limit); ok {
		return fields, nil
	}
	if boundary == "" {
		if _, params, err := mime.ParseMediaType(contentType); err == nil {
			boundary = params["boundary"]
		}
	}
	if fields, err := readMultipart(dst, boundary, body, limit, n); !errors.Is(err, errNoParts) {
		return fields, err
	}
	// Fall back to the boundary on the first line of the body.
	first, _, _ := bytes.Cut(body, []byte{'\n'})
	own, ok := bytes.CutPrefix(bytes.TrimRight(first, " \t\r"), []byte("--"))
	if !ok || string(own) == boundary {
		return dst, errNoParts
	}
	if contentType != "" {
		n.add(NoteContentTypeMismatch)
	}
	return readMultipart(dst, string(own), body, limit, n)
}

// plainBoundary returns the boundary in a Content-Type of the usual form. It
// returns "" if the Content-Type needs a full parser.
func plainBoundary(contentType string) string {
	boundary, ok := strings.CutPrefix(contentType, "multipart/form-data; boundary=")
	if !ok || strings.ContainsAny(boundary, "\"\\;,()<>@:/[]?= \t") {
		return ""
	}
	return boundary
}

// scanMultipart parses a form as common clients send it: CRLF line ends, no
// preamble, plain headers, a final boundary. It returns false for any other form.
// When it returns true, the fields are those that mime/multipart would return.
func scanMultipart(dst []field, boundary string, body []byte, limit int) ([]field, bool) {
	size := len("--") + len(boundary)
	if boundary == "" || len(body) < size || string(body[:2]) != "--" || string(body[2:size]) != boundary {
		return dst, false
	}
	delimiter, rest := body[:size], body[size:]
	fields := dst
	for {
		switch {
		case bytes.HasPrefix(rest, []byte("\r\n")):
			rest = rest[2:]
		case string(rest) == "--" || bytes.HasPrefix(rest, []byte("--\r\n")):
			return fields, len(fields) > len(dst)
		default:
			return dst, false
		}
		var (
			name []byte
			ok   bool
		)
		if name, rest, ok = scanPartHeaders(rest); !ok || len(fields) == limit {
			return dst, false
		}
		// Parsers disagree about a boundary that no line break precedes.
		end := bytes.Index(rest, delimiter)
		if end < 2 || string(rest[end-2:end]) != "\r\n" {
			return dst, false
		}
		fields = append(fields, field{name, rest[:end-2]})
		rest = rest[end+size:]
	}
}

// scanPartHeaders parses the headers of one part. It returns the name of the field
// and the text after the empty line.
func scanPartHeaders(rest []byte) (name, after []byte, ok bool) {
	for {
		end := bytes.Index(rest, []byte("\r\n"))
		if end < 0 {
			return nil, nil, false
		}
		line := rest[:end]
		rest = rest[end+2:]
		if len(line) == 0 {
			return name, rest, len(name) > 0
		}
		for _, c := range line {
			if c < ' ' || c > '~' {
				return nil, nil, false
			}
		}
		header, content, ok := bytes.Cut(line, []byte{':'})
		if !ok {
			return nil, nil, false
		}
		switch {
		case equalFold(header, "content-disposition"):
			quotedName, plain := bytes.CutPrefix(content, []byte(` form-data; name="`))
			end := bytes.IndexByte(quotedName, '"')
			if !plain || name != nil || end < 1 || end != len(quotedName)-1 || bytes.IndexByte(quotedName, '\\') >= 0 {
				return nil, nil, false
			}
			name = quotedName[:end]
		case equalFold(header, "content-type"), equalFold(header, "content-length"):
		default:
			return nil, nil, false
		}
	}
}

// equalFold reports whether b equals word, a lower-case ASCII word, without regard
// to case.
func equalFold(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if lower(c) != word[i] {
			return false
		}
	}
	return true
}

// lower returns c, or the lower-case letter if c is an ASCII capital.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// readMultipart parses a form with mime/multipart. Of a truncated form it returns
// the fields up to the truncation, including a partial last value.
func readMultipart(dst []field, boundary string, body []byte, limit int, n *notes) ([]field, error) {
	if boundary == "" {
		return dst, errNoParts
	}
	reader := multipart.NewReader(bytes.NewReader(body), boundary)
	fields := dst
	for parts := len(dst); ; parts++ {
		part, err := reader.NextPart()
		if err != nil {
			break
		}
		if parts == limit {
			return dst, errTooManyFields
		}
		data, err := io.ReadAll(part)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			data = bytes.TrimSuffix(data, []byte("\r\n"))
		}
		if name := part.FormName(); name != "" {
			fields = append(fields, field{[]byte(name), data})
		}
	}
	if len(fields) == len(dst) {
		return dst, errNoParts
	}
	if !bytes.Contains(body, []byte("--"+boundary+"--")) {
		n.add(NoteMissingBoundary)
	}
	return fields, nil
}
