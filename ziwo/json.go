package ziwo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// kind says what a value is. The zero value is "there is none".
type kind uint8

const (
	kindAbsent kind = iota
	kindNull        // JSON null
	kindText        // raw is the text itself: a form's value
	kindString      // raw is a JSON string with its quotes
	kindNumber      // raw is a JSON number as it was written
	kindBool        // raw is true or false
	kindObject      // raw is a JSON object
	kindArray       // raw is a JSON array
)

func (k kind) String() string {
	switch k {
	case kindNull:
		return "null"
	case kindText, kindString:
		return "text"
	case kindNumber:
		return "number"
	case kindBool:
		return "true or false"
	case kindObject:
		return "object"
	case kindArray:
		return "list"
	default:
		return "nothing"
	}
}

// value is one value of a form or of a JSON text, not decoded yet. JSON in it
// is known to be valid, so walking it needs no error.
type value struct {
	kind kind
	raw  []byte
}

// bytes is the text of a scalar: strings decoded, numbers and booleans as they
// were written, nothing for null. Of an object or a list it is the JSON text.
// The result may alias the body.
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

// scalar is false of objects, lists and what is not there.
func (v value) isScalar() bool {
	switch v.kind {
	case kindText, kindString, kindNumber, kindBool:
		return true
	default:
		return false
	}
}

// maxWraps bounds how many layers (a list of one, JSON in a string) are
// taken off before a value counts as no object.
const maxLayers = 4

// object is the object that v is or wraps: itself, the only element of a list,
// or JSON in a string. Only success leaves notes.
func (v value) object(n *notes) (value, bool) {
	var repairs notes
	for range maxLayers {
		switch v.kind {
		case kindObject:
			for _, word := range repairs {
				n.add(word)
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

// onlyElement is the element of a list that has just one.
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

// members walks the members of a JSON object in their order.
type members struct {
	raw []byte
	at  int
}

func (v value) members() members { return members{raw: v.raw, at: 1} }

// next returns the next name, decoded, and its value; false at the end.
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

// parseJSON reads source strictly, and once more with typographic quotes
// straightened when that fails: Ziwo's page prints its samples with them. The
// order matters, since a proper string may hold such a quote.
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

// syntaxError finds out where source, which is not valid, stops being JSON.
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

// jsonValue labels one JSON value without surrounding space.
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

// unquote decodes a valid JSON string; without escapes it is a slice of raw.
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

// jsonSpace is what JSON calls white space.
const jsonSpace = " \t\r\n"

// literal is true of the bytes that numbers, true, false and null are made of.
func isLiteralByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'E'
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// stringEnd is the index behind the string that starts at i.
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

// valueEnd is the index behind the value that starts at i, however deep it is
// nested: a loop, so that hostile nesting costs no stack.
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
