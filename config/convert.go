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

// Convert writes a document in another notation. Keys keep their order and
// references stay unresolved; comments are lost. A document that is in the
// wanted notation already is returned as it is.
func Convert(text []byte, from, to Format) ([]byte, error) {
	if from == to {
		return text, nil
	}
	root, problems := parse(text, from)
	if errors := problems.Errors(); len(errors) > 0 {
		return nil, fmt.Errorf("convert document: %s", errors[0])
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
		if err != nil { // a number that JSON has no notation for, such as .nan
			scalar, _ = json.Marshal(n.text)
		}
		out.Write(scalar)
	}
}

// plain is text that no reader of YAML takes for anything else.
var plain = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*$`)

// notText are the plain words that some readers do take for something else.
var notText = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"}

// appendYAML writes the node in block style. Text that could be read as a number
// or anything else is quoted: to other writers of YAML, 0509998877 is plain.
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

// block tells whether the node takes lines of its own.
func (n *node) block() bool { return len(n.items) > 0 }

func scalarYAML(n *node) string {
	if n.kind == kindText && plain.MatchString(n.text) && !slices.Contains(notText, strings.ToLower(n.text)) {
		return n.text
	}
	var quoted bytes.Buffer
	n.appendJSON(&quoted) // JSON's scalars are YAML's, but for what YAML calls not printable
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
