package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"calltracker/problem"
)

// parseYAML uses the parser only for the grammar. Types, duplicates, and aliases
// are checked here, so that all problems are reported together.
func parseYAML(text []byte) (root *node, problems problem.List) {
	defer func() {
		// A bug of the parser must not stop the server that was sent the document.
		if r := recover(); r != nil {
			root, problems = nil, problem.List{{Line: 1, Column: 1, Message: fmt.Sprintf("invalid YAML (%v)", r)}}
		}
	}()
	if p, found := controlCharacter(text); found {
		return nil, problem.List{p}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return &node{kind: kindNull, at: position{1, 1}}, nil
	case err != nil:
		return nil, problem.List{syntaxProblem(text, err)}
	}
	b := &yamlBuilder{anchors: map[*yaml.Node]*node{}}
	root = b.build(doc.Content[0], 0)
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, problem.List{syntaxProblem(text, err)}
	default:
		b.report(&second, "a second document starts here: a file holds one configuration")
	}
	return root, b.problems
}

// controlCharacter finds the first character that YAML does not allow
// (https://yaml.org/spec/1.2.2/#51-character-set), since the parser does not
// report its position.
func controlCharacter(text []byte) (problem.Problem, bool) {
	at := position{1, 1}
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r >= 0x7f && r <= 0x9f && r != 0x85 || r == 0xfffe || r == 0xffff {
			return problem.Problem{Line: at.line, Column: at.column, Message: fmt.Sprintf("control character U+%04X is not allowed", r)}, true
		}
		if at.column++; r == '\n' {
			at = position{at.line + 1, 1}
		}
		text = text[size:]
	}
	return problem.Problem{}, false
}

// syntaxProblem converts an error of the parser.
func syntaxProblem(text []byte, err error) problem.Problem {
	p := problem.Problem{Line: 1, Column: 1, Message: problem.Clip(err.Error())}
	if syntax, ok := errors.AsType[*yaml.LoadError](err); ok {
		p.Message = problem.Clip(syntax.Message)
		if syntax.ContextMsg != "" {
			p.Message += " (" + syntax.ContextMsg + ")"
		}
		at := syntax.Mark
		if opened := syntax.ContextMark; opened.Line > 0 && at.Index >= len(bytes.TrimRight(text, " \r\n")) {
			at = opened // the start of an unclosed value helps more than the end of the text
		}
		lines := 1 + bytes.Count(text, []byte("\n"))
		p.Line, p.Column = min(max(at.Line, 1), lines), max(at.Column, 1)
	}
	if name, found := strings.CutPrefix(p.Message, "unknown anchor '"); found {
		alias := "*" + strings.TrimSuffix(name, "' referenced")
		before, _, _ := bytes.Cut(text, []byte(alias))
		p.Line = 1 + bytes.Count(before, []byte("\n"))
		p.Column = 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
		p.Message = fmt.Sprintf("unknown alias %s: there is no &%s before it", problem.Clip(alias), problem.Clip(alias[1:]))
	}
	return p
}

type yamlBuilder struct {
	anchors  map[*yaml.Node]*node // values of aliases
	problems problem.List
	copies   int
}

func (b *yamlBuilder) report(n *yaml.Node, format string, args ...any) {
	b.reportAt(position{n.Line, n.Column}, format, args...)
}

func (b *yamlBuilder) reportAt(at position, format string, args ...any) {
	if len(b.problems) < problem.MaxErrors {
		b.problems = append(b.problems, problem.Problem{Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)})
	}
}

func (b *yamlBuilder) build(n *yaml.Node, depth int) *node {
	out := &node{kind: kindNull, at: position{n.Line, n.Column}}
	if n.Anchor != "" {
		defer func() { b.anchors[n] = out }() // not earlier, since a value must not contain itself
	}
	if depth > maxDepth {
		b.report(n, "%s", errTooDeep)
		return out
	}
	if n.Kind == yaml.AliasNode {
		target := b.anchors[n.Alias]
		if target == nil {
			b.report(n, "alias *%s refers to a value that contains it", n.Value)
			return out
		}
		return b.expand(target, n, depth)
	}
	if n.Style&yaml.TaggedStyle != 0 {
		b.report(n, "YAML tags are not supported: remove %s", problem.Clip(n.Tag))
	}
	switch n.Kind {
	case yaml.ScalarNode:
		out.kind, out.text = kindText, n.Value
		if n.Style == 0 {
			out.kind, out.text = plainScalar(n.Value)
		}
	case yaml.SequenceNode:
		out.kind = kindList
		out.items = make([]*node, len(n.Content))
		for i, item := range n.Content {
			out.items[i] = b.build(item, depth+1)
		}
	case yaml.MappingNode:
		out.kind = kindMapping
		b.mapping(out, n.Content, depth)
	}
	return out
}

// number matches YAML 1.2 integers and floats (https://yaml.org/spec/1.2.2/#1032-tag-resolution).
var number = regexp.MustCompile(`^([-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$`)

// plainScalar returns the kind and text of an unquoted scalar by the rules of YAML
// 1.2. The parser follows YAML 1.1, in which 0505874603 is text only because it
// contains an 8.
func plainScalar(text string) (kind, string) {
	switch text {
	case "", "~", "null", "Null", "NULL":
		return kindNull, ""
	case "true", "True", "TRUE":
		return kindBool, "true"
	case "false", "False", "FALSE":
		return kindBool, "false"
	}
	if strings.IndexByte("0123456789+-.", text[0]) >= 0 && number.MatchString(text) {
		return kindNumber, text
	}
	return kindText, text
}

// mapping fills out from content, in which keys and values alternate.
func (b *yamlBuilder) mapping(out *node, content []*yaml.Node, depth int) {
	var merged []*node
	for i := 0; i+1 < len(content); i += 2 {
		if content[i].Tag == "!!merge" {
			merged = append(merged, b.build(content[i+1], depth+1))
			continue
		}
		key, value := b.build(content[i], depth), b.build(content[i+1], depth+1)
		if key.kind != kindText && key.kind != kindNumber && key.kind != kindBool {
			b.report(content[i], "a key must be text")
			continue
		}
		key.kind = kindText
		out.keys, out.items = append(out.keys, key), append(out.items, value)
	}
	if merged == nil {
		return
	}
	seen := map[string]bool{} // the mapping's own keys come first
	for _, key := range out.keys {
		seen[key.text] = true
	}
	for _, m := range merged {
		sources := []*node{m}
		if m.kind == kindList {
			sources = m.items
		}
		for _, s := range sources {
			if s.kind != kindMapping {
				b.reportAt(m.at, "<< needs a mapping")
				continue
			}
			for i, key := range s.keys {
				if !seen[key.text] {
					seen[key.text] = true
					out.keys, out.items = append(out.keys, key), append(out.items, s.items[i])
				}
			}
		}
	}
}

// expand copies the value of an alias. Each copied node counts toward maxCopies,
// and problems in the copy point to the alias.
func (b *yamlBuilder) expand(n *node, alias *yaml.Node, depth int) *node {
	c := &node{kind: kindNull, at: position{alias.Line, alias.Column}}
	if b.copies++; b.copies > maxCopies || depth > maxDepth {
		switch {
		case depth > maxDepth:
			b.report(alias, "%s", errTooDeep)
		case b.copies == maxCopies+1:
			b.report(alias, "the aliases expand to a document that is too large")
		}
		return c
	}
	c.kind, c.text = n.kind, n.text
	for i, key := range n.keys {
		c.keys = append(c.keys, &node{kind: kindText, text: key.text, at: c.at})
		c.items = append(c.items, b.expand(n.items[i], alias, depth+1))
	}
	if n.kind == kindList {
		for _, item := range n.items {
			c.items = append(c.items, b.expand(item, alias, depth+1))
		}
	}
	return c
}
