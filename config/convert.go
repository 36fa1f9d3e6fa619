package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Convert returns a document in another notation. Keys keep their order and
// references stay unresolved; comments are lost. If from and to are the same, the
// text is returned unchanged.
func Convert(text []byte, from, to Format) ([]byte, error) {
	if from == to {
		return text, nil
	}
	root, problems := parse(text, from)
	if wrong := problems.Errors(); len(wrong) > 0 {
		return nil, fmt.Errorf("convert document: %s", wrong[0])
	}
	var compact, out bytes.Buffer
	if to == YAML {
		root.appendYAML(&out, 0)
		return out.Bytes(), nil
	}
	root.appendJSON(&compact)
	if err := json.Indent(&out, compact.Bytes(), "", "  "); err != nil {
		return nil, fmt.Errorf("convert document: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

func (n *node) appendJSON(out *bytes.Buffer) {
	switch n.kind {
	case kindList:
		out.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				out.WriteByte(',')
			}
			item.appendJSON(out)
		}
		out.WriteByte(']')
	case kindMapping:
		out.WriteByte('{')
		for i, item := range n.items {
			if i > 0 {
				out.WriteByte(',')
			}
			(&node{kind: kindText, text: n.keys[i].text}).appendJSON(out)
			out.WriteByte(':')
			item.appendJSON(out)
		}
		out.WriteByte('}')
	default:
		scalar, err := json.Marshal(n.any())
		if err != nil { // a number that JSON cannot express, such as .nan
			scalar, _ = json.Marshal(n.text)
		}
		out.Write(scalar)
	}
}

// plain matches text that every YAML parser reads as text without quotes.
var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$`)

// notText are plain words that some YAML parsers do not read as text.
var notText = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"}

// appendYAML writes the node in block style. It quotes text that could be read as
// anything else; other YAML writers leave 0509998877 unquoted.
func (n *node) appendYAML(out *bytes.Buffer, indent int) {
	margin := strings.Repeat("  ", indent)
	switch {
	case n.kind == kindMapping && len(n.keys) > 0:
		for i, item := range n.items {
			if i > 0 {
				out.WriteString(margin)
			}
			out.WriteString(scalarYAML(&node{kind: kindText, text: n.keys[i].text}) + ":")
			if item.block() {
				out.WriteString("\n" + margin + "  ")
			} else {
				out.WriteByte(' ')
			}
			item.appendYAML(out, indent+1)
		}
	case n.kind == kindList && len(n.items) > 0:
		for i, item := range n.items {
			if i > 0 {
				out.WriteString(margin)
			}
			out.WriteString("- ")
			item.appendYAML(out, indent+1)
		}
	default:
		out.WriteString(scalarYAML(n) + "\n")
	}
}

// block reports whether the node is written on separate lines.
func (n *node) block() bool { return len(n.items) > 0 }

func scalarYAML(n *node) string {
	if n.kind == kindText && plain.MatchString(n.text) && !slices.Contains(notText, strings.ToLower(n.text)) {
		return n.text
	}
	var quoted bytes.Buffer
	n.appendJSON(&quoted) // JSON scalars are YAML, except for characters that YAML calls not printable
	var out strings.Builder
	for _, r := range quoted.String() {
		if r > 0xffff || unicode.IsPrint(r) {
			out.WriteRune(r)
		} else {
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}
