package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"calltracker/problem"
)

// Format is the notation of a document. The zero value is invalid.
type Format string

// The notations of a document.
const (
	YAML Format = "yaml"
	JSON Format = "json"
)

// Limits on a document. YAML aliases let a short text describe a huge tree, so
// the number of copied nodes is limited, too.
const (
	MaxDocumentBytes = 32 << 20
	maxCopies        = 1 << 20 // nodes copied by aliases
	maxDepth         = 64
)

var errTooDeep = fmt.Errorf("the document is nested more than %d levels deep", maxDepth)

type kind string

const (
	kindNull    kind = "nothing"
	kindText    kind = "text"
	kindNumber  kind = "a number"
	kindBool    kind = "true or false"
	kindList    kind = "a list"
	kindMapping kind = "a mapping"
)

type position struct{ line, column int }

// node is one value of a document with its position. Both notations are parsed
// into nodes; all later steps are the same for both.
type node struct {
	kind  kind
	text  string // of a scalar, as written, without quotes
	at    position
	items []*node // of a list; of a mapping, the values
	keys  []*node // of a mapping, in order; always text
}

// parse parses a whole document. After a syntax error it reports nothing else,
// since the rest cannot be trusted.
func parse(text []byte, format Format) (*node, problem.List) {
	if len(text) > MaxDocumentBytes {
		return nil, problem.List{{Line: 1, Column: 1, Message: fmt.Sprintf("the document is larger than %d MiB", MaxDocumentBytes>>20)}}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // the byte order mark that some editors add; it has no column
	if !utf8.Valid(text) {
		return nil, problem.List{invalidUTF8(text)}
	}
	if format == JSON {
		return parseJSON(text)
	}
	return parseYAML(text)
}

func invalidUTF8(text []byte) problem.Problem {
	at := position{1, 1}
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 {
			break
		}
		if at.column++; r == '\n' {
			at = position{at.line + 1, 1}
		}
		text = text[size:]
	}
	return problem.Problem{Line: at.line, Column: at.column, Message: "the text is not UTF-8: save the file as UTF-8"}
}

func (n *node) get(key string) *node {
	for i, k := range n.keys {
		if k.text == key {
			return n.items[i]
		}
	}
	return nil
}

// parseJSON parses JSON by its own grammar: a YAML parser treats escapes and tabs
// differently.
func parseJSON(text []byte) (*node, problem.List) {
	b := &jsonBuilder{text: text, decoder: json.NewDecoder(bytes.NewReader(text)), at: position{1, 1}}
	b.decoder.UseNumber()
	root, err := b.build(0)
	offset := b.decoder.InputOffset()
	if err == nil {
		b.next()
		if _, extra := b.decoder.Token(); !errors.Is(extra, io.EOF) {
			err = errors.New("unexpected text after the end of the document")
		}
	}
	if err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			offset = syntax.Offset - 1
		}
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			err = errors.New("unexpected end of the document")
		}
		at := b.position(offset)
		return nil, problem.List{{Line: at.line, Column: at.column, Message: err.Error()}}
	}
	return root, nil
}

type jsonBuilder struct {
	text    []byte
	decoder *json.Decoder
	offset  int64 // of at
	at      position
}

// position converts an offset to a position. Offsets must not decrease.
func (b *jsonBuilder) position(offset int64) position {
	for b.offset < offset && b.offset < int64(len(b.text)) {
		r, size := utf8.DecodeRune(b.text[b.offset:])
		b.offset += int64(size)
		if b.at.column++; r == '\n' {
			b.at = position{b.at.line + 1, 1}
		}
	}
	return b.at
}

// next returns the position of the next token.
func (b *jsonBuilder) next() position {
	offset := b.decoder.InputOffset()
	for offset < int64(len(b.text)) && strings.IndexByte(" \t\r\n,:", b.text[offset]) >= 0 {
		offset++
	}
	return b.position(offset)
}

func (b *jsonBuilder) build(depth int) (*node, error) {
	n := &node{kind: kindNull, at: b.next()}
	t, err := b.decoder.Token()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, errTooDeep
	}
	switch v := t.(type) {
	case string:
		n.kind, n.text = kindText, v
	case json.Number:
		n.kind, n.text = kindNumber, v.String()
	case bool:
		n.kind, n.text = kindBool, fmt.Sprint(v)
	case json.Delim:
		n.kind = kindList
		if v == '{' {
			n.kind = kindMapping
		}
		for b.decoder.More() {
			if n.kind == kindMapping {
				key := &node{kind: kindText, at: b.next()}
				name, err := b.decoder.Token()
				if err != nil {
					return nil, err
				}
				key.text, _ = name.(string) // the decoder rejects any other key
				n.keys = append(n.keys, key)
			}
			item, err := b.build(depth + 1)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, item)
		}
		if _, err := b.decoder.Token(); err != nil {
			return nil, err
		}
	}
	return n, nil
}
