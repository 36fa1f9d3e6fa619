package rules

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Format is the notation of a document. The zero value is invalid.
type Format string

// The notations of a document.
const (
	YAML Format = "yaml"
	JSON Format = "json"
)

// Limits on a document from outside. The aliases of YAML make a short text
// describe a huge tree, so the tree is bounded as well as the text.
const (
	MaxDocumentBytes = 32 << 20
	maxNodes         = 4 << 20
	maxDepth         = 64
)

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

// node is one value of a document with its place. Both notations become nodes,
// so everything after this file is the same for both.
type node struct {
	kind  kind
	text  string // of a scalar: as written, without quotes
	at    position
	items []*node // of a list; of a mapping, the values
	keys  []*node // of a mapping, in order; always text
}

// parse reads a whole document. A syntax error is one problem, since nothing
// after it can be trusted.
func parse(text []byte, format Format) (*node, Problems) {
	if len(text) > MaxDocumentBytes {
		return nil, Problems{{Line: 1, Column: 1, Message: fmt.Sprintf("the document is larger than %d MiB", MaxDocumentBytes>>20)}}
	}
	if !utf8.Valid(text) {
		return nil, Problems{invalidUTF8(text)}
	}
	if format == JSON {
		return parseJSON(text)
	}
	return parseYAML(text)
}

func invalidUTF8(text []byte) Problem {
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
	return Problem{Line: at.line, Column: at.column, Message: "this is not UTF-8 text; save the file as UTF-8"}
}

// parseYAML trusts the parser with the grammar only: types, duplicates and
// references are looked at here, where all of them can be reported at once.
func parseYAML(text []byte) (root *node, problems Problems) {
	defer func() {
		// The document comes from outside and the parser has panicked on odd input before:
		// a document that cannot be read must not stop the server.
		if r := recover(); r != nil {
			root, problems = nil, Problems{{Line: 1, Column: 1, Message: fmt.Sprintf("this cannot be read as YAML (%v)", r)}}
		}
	}()
	file, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var syntax interface {
			GetToken() *token.Token
			GetMessage() string
		}
		p := Problem{Line: 1, Column: 1, Message: err.Error()}
		if errors.As(err, &syntax) {
			p.Message = syntax.GetMessage()
			if t := syntax.GetToken(); t != nil && t.Position != nil {
				p.Line, p.Column = t.Position.Line, t.Position.Column
			}
		}
		return nil, Problems{p}
	}
	b := &yamlBuilder{anchors: map[string]*node{}}
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if root != nil {
			b.problem(doc.Body, "a second document starts here; one file holds one configuration")
			break
		}
		root = b.build(doc.Body, 0)
	}
	if root == nil {
		root = &node{kind: kindNull, at: position{1, 1}}
	}
	return root, b.problems
}

type yamlBuilder struct {
	anchors  map[string]*node
	problems Problems
	nodes    int
}

func (b *yamlBuilder) problem(n ast.Node, format string, args ...any) {
	at := place(n)
	b.problems = append(b.problems, Problem{Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)})
}

// numeric is what YAML 1.2 calls an integer. The parser calls some of these
// text ("0505874603" has an 8, so it is not octal); other readers do not.
var numeric = regexp.MustCompile(`^[-+]?[0-9]+$`)

func (b *yamlBuilder) build(n ast.Node, depth int) *node {
	out := &node{kind: kindNull, at: place(n)}
	if b.nodes++; b.nodes > maxNodes || depth > maxDepth {
		if b.nodes == maxNodes+1 || depth == maxDepth+1 {
			b.problem(n, "the document is too large or too deep here")
		}
		return out
	}
	switch v := n.(type) {
	case *ast.AnchorNode:
		inner := b.build(v.Value, depth)
		b.anchors[v.Name.GetToken().Value] = inner
		return inner
	case *ast.AliasNode:
		name := v.Value.GetToken().Value
		target, ok := b.anchors[name]
		if !ok {
			b.problem(n, "unknown anchor %q", name)
			return out
		}
		return b.expand(target, out.at, depth)
	case *ast.TagNode:
		b.problem(n, "YAML tags such as %s are not used here; remove it", v.Start.Value)
	case *ast.StringNode:
		out.kind, out.text = kindText, v.Value
		if v.Token.Type == token.StringType && numeric.MatchString(v.Token.Value) {
			out.kind = kindNumber
		}
	case *ast.LiteralNode:
		out.kind, out.text = kindText, v.Value.Value
	case *ast.IntegerNode:
		out.kind, out.text = kindNumber, v.Token.Value
	case *ast.FloatNode:
		out.kind, out.text = kindNumber, v.Token.Value
	case *ast.InfinityNode, *ast.NanNode:
		out.kind, out.text = kindNumber, n.GetToken().Value
	case *ast.BoolNode:
		out.kind, out.text = kindBool, fmt.Sprint(v.Value)
	case *ast.NullNode, nil:
	case *ast.SequenceNode:
		out.kind = kindList
		for _, item := range v.Values {
			out.items = append(out.items, b.build(item, depth+1))
		}
	case *ast.MappingNode:
		out.kind = kindMapping
		b.mapping(out, v.Values, depth)
	case *ast.MappingValueNode:
		out.kind = kindMapping
		b.mapping(out, []*ast.MappingValueNode{v}, depth)
	default:
		b.problem(n, "%s is not used here", strings.ToLower(n.Type().String()))
	}
	return out
}

func (b *yamlBuilder) mapping(out *node, values []*ast.MappingValueNode, depth int) {
	if len(values) > 0 {
		out.at = place(values[0].Key)
	}
	var merged []*node
	for _, pair := range values {
		value := b.build(pair.Value, depth+1)
		if pair.Key.Type() == ast.MergeKeyType {
			merged = append(merged, value)
			continue
		}
		key := b.build(pair.Key, depth+1)
		if key.kind != kindText && key.kind != kindNumber && key.kind != kindBool {
			b.problem(pair.Key, "a key must be a word")
			continue
		}
		key.kind = kindText
		out.keys, out.items = append(out.keys, key), append(out.items, value)
	}
	for _, m := range merged { // "<<": what the mapping says itself comes first
		sources := []*node{m}
		if m.kind == kindList {
			sources = m.items
		}
		for _, s := range sources {
			if s.kind != kindMapping {
				b.problems = append(b.problems, Problem{Line: m.at.line, Column: m.at.column, Message: "<< takes a mapping"})
				continue
			}
			for i, key := range s.keys {
				if out.get(key.text) == nil {
					out.keys, out.items = append(out.keys, key), append(out.items, s.items[i])
				}
			}
		}
	}
}

// expand copies what an alias stands for, so that each copy counts and
// problems point to the place of use.
func (b *yamlBuilder) expand(n *node, at position, depth int) *node {
	if b.nodes++; b.nodes > maxNodes || depth > maxDepth {
		if b.nodes == maxNodes+1 {
			b.problems = append(b.problems, Problem{Line: at.line, Column: at.column, Message: "the aliases make this document too large"})
		}
		return &node{kind: kindNull, at: at}
	}
	c := &node{kind: n.kind, text: n.text, at: at}
	for _, key := range n.keys {
		c.keys = append(c.keys, &node{kind: kindText, text: key.text, at: at})
	}
	for _, item := range n.items {
		c.items = append(c.items, b.expand(item, at, depth+1))
	}
	return c
}

func (n *node) get(key string) *node {
	for i, k := range n.keys {
		if k.text == key {
			return n.items[i]
		}
	}
	return nil
}

func place(n ast.Node) position {
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return position{1, 1}
	}
	p := n.GetToken().Position
	return position{p.Line, p.Column}
}

// parseJSON reads JSON by its own grammar: YAML's reading of JSON differs in
// escapes and tabs.
func parseJSON(text []byte) (*node, Problems) {
	b := &jsonBuilder{text: text, decoder: json.NewDecoder(bytes.NewReader(text)), at: position{1, 1}}
	b.decoder.UseNumber()
	root, err := b.build(0)
	if err == nil {
		if _, extra := b.decoder.Token(); !errors.Is(extra, io.EOF) {
			err = errors.New("there is something after the end of the document")
		}
	}
	if err != nil {
		var syntax *json.SyntaxError
		offset := b.decoder.InputOffset()
		if errors.As(err, &syntax) {
			offset = syntax.Offset - 1
		}
		if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
			err = errors.New("the document ends too early")
		}
		at := b.position(offset)
		return nil, Problems{{Line: at.line, Column: at.column, Message: err.Error()}}
	}
	return root, nil
}

type jsonBuilder struct {
	text    []byte
	decoder *json.Decoder
	nodes   int
	offset  int64 // of at
	at      position
}

// position turns an offset into a place; offsets only ever grow.
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

// next is the place of the token that comes now.
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
	if b.nodes++; b.nodes > maxNodes || depth > maxDepth {
		return nil, errors.New("the document is too large or too deep here")
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
				key.text, _ = name.(string) // the decoder refuses any other key
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
