package ziwo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// kind is the kind of a value. The zero value means that there is no value.
type kind uint8

const (
	kindAbsent kind = iota
	kindNull        // JSON null
	kindText        // raw is the text of a form field
	kindString      // raw is a JSON string with its quotes
	kindNumber      // raw is a JSON number
	kindBool        // raw is true or false
	kindObject      // raw is a JSON object
	kindArray       // raw is a JSON array
)

// String returns the name of k for error messages.
func (k kind) String() string {
	switch k {
	case kindNull:
		return "null"
	case kindText, kindString:
		return "string"
	case kindNumber:
		return "number"
	case kindBool:
		return "boolean"
	case kindObject:
		return "object"
	case kindArray:
		return "array"
	default:
		return "nothing"
	}
}

// value is an undecoded value of a form or of a JSON document. Its JSON is valid, so
// the methods that walk it return no error.
type value struct {
	kind kind
	raw  []byte
}

// bytes returns the text of a scalar: a decoded string, or a number or boolean as
// written. It returns nil for null and the JSON text of an object or an array. The
// result may alias the body.
func (v value) bytes() []byte {
	switch v.kind {
	case kindAbsent, kindNull:
		return nil
	case kindString:
		return unquote(v.raw)
	default:
		return v.raw
	}
}

// isScalar reports whether v is a text, a string, a number or a boolean.
func (v value) isScalar() bool {
	switch v.kind {
	case kindText, kindString, kindNumber, kindBool:
		return true
	default:
		return false
	}
}

// maxLayers is the number of layers (an array of one element, JSON in a string)
// that value.object removes.
const maxLayers = 4

// object returns the object that v is or contains, as the only element of an array
// or as JSON in a string. It adds notes only if it returns true.
func (v value) object(n *notes) (value, bool) {
	var repairs notes
	for range maxLayers {
		switch v.kind {
		case kindObject:
			for _, note := range repairs {
				n.add(note)
			}
			return v, true
		case kindArray:
			only, ok := v.onlyElement()
			if !ok {
				return value{}, false
			}
			repairs.add(NoteWrappedList)
			v = only
		case kindText, kindString:
			source := bytes.Trim(v.bytes(), jsonSpace)
			if len(source) == 0 || strings.IndexByte(`{["`, source[0]) < 0 {
				return value{}, false
			}
			inner, ok := parseJSON(source, &repairs)
			if !ok {
				return value{}, false
			}
			v = inner
		default:
			return value{}, false
		}
	}
	return value{}, false
}

// onlyElement returns the element of an array with exactly one.
func (v value) onlyElement() (value, bool) {
	start := skipSpace(v.raw, 1)
	if start >= len(v.raw) || v.raw[start] == ']' {
		return value{}, false
	}
	end := valueEnd(v.raw, start)
	if next := skipSpace(v.raw, end); next >= len(v.raw) || v.raw[next] != ']' {
		return value{}, false
	}
	return jsonValue(v.raw[start:end]), true
}

// members iterates over the members of a JSON object in order.
type members struct {
	raw []byte
	at  int
}

func (v value) members() members { return members{raw: v.raw, at: 1} }

// next returns the next name, decoded, and its value. It returns false at the end.
func (m *members) next() (name []byte, v value, ok bool) {
	m.at = skipSpace(m.raw, m.at)
	if m.at < len(m.raw) && m.raw[m.at] == ',' {
		m.at = skipSpace(m.raw, m.at+1)
	}
	if m.at >= len(m.raw) || m.raw[m.at] != '"' {
		return nil, value{}, false
	}
	nameEnd := stringEnd(m.raw, m.at)
	name = unquote(m.raw[m.at:nameEnd])
	start := skipSpace(m.raw, skipSpace(m.raw, nameEnd)+1)
	end := valueEnd(m.raw, start)
	if end <= start {
		return nil, value{}, false
	}
	m.at = end
	return name, jsonValue(m.raw[start:end]), true
}

// parseJSON parses source strictly. If that fails, it replaces typographic quotes,
// which the samples in Ziwo's documentation have, and tries again. It tries the
// strict form first because a valid string may contain such quotes.
func parseJSON(source []byte, n *notes) (value, bool) {
	source = bytes.Trim(source, jsonSpace)
	if json.Valid(source) {
		return jsonValue(source), true
	}
	if !bytes.ContainsAny(source, "“”„‟\u00a0") {
		return value{}, false
	}
	straight := bytes.Trim([]byte(strings.NewReplacer(
		"“", `"`, "”", `"`, "„", `"`, "‟", `"`, "\u00a0", " ",
	).Replace(string(source))), jsonSpace)
	if !json.Valid(straight) {
		return value{}, false
	}
	n.add(NoteCurlyQuotes)
	return jsonValue(straight), true
}

// syntaxError returns the position and the cause of the syntax error in source.
func syntaxError(source []byte) error {
	var (
		ignored json.RawMessage
		syntax  *json.SyntaxError
	)
	err := json.Unmarshal(source, &ignored)
	if !errors.As(err, &syntax) {
		return fmt.Errorf("read JSON: %w", err)
	}
	before := source[:min(int(syntax.Offset), len(source))]
	line := 1 + bytes.Count(before, []byte{'\n'})
	column := len(before) - (bytes.LastIndexByte(before, '\n') + 1)
	return fmt.Errorf("line %d, column %d: %w", line, max(column, 1), syntax)
}

// jsonValue returns the value of raw, valid JSON without surrounding space.
func jsonValue(raw []byte) value {
	if len(raw) == 0 {
		return value{}
	}
	switch raw[0] {
	case '{':
		return value{kindObject, raw}
	case '[':
		return value{kindArray, raw}
	case '"':
		return value{kindString, raw}
	case 't', 'f':
		return value{kindBool, raw}
	case 'n':
		return value{kindNull, raw}
	default:
		return value{kindNumber, raw}
	}
}

// unquote decodes a valid JSON string. The result aliases raw if there are no
// escapes.
func unquote(raw []byte) []byte {
	if len(raw) < 2 {
		return nil
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var decoded string
	if err := json.Unmarshal(raw, &decoded); err != nil {
		return raw[1 : len(raw)-1]
	}
	return []byte(decoded)
}

// jsonSpace is the set of JSON white space characters.
const jsonSpace = " \t\r\n"

// isLiteralByte reports whether c can occur in a number, true, false, or null.
func isLiteralByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'E'
}

// skipSpace returns the index of the first byte of b[i:] that is not white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// stringEnd returns the index after the string that starts at i.
func stringEnd(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// valueEnd returns the index after the value that starts at i. It does not recurse,
// so that deep nesting cannot exhaust the stack.
func valueEnd(b []byte, i int) int {
	depth := 0
	for i < len(b) {
		switch b[i] {
		case '"':
			i = stringEnd(b, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			if depth == 0 {
				return i
			}
			depth--
			i++
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
			i++
			continue
		default:
			i++
			for i < len(b) && isLiteralByte(b[i]) {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
	return len(b)
}
