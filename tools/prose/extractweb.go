package main

import (
	"bytes"
	"regexp"
)

// extractScript copies the comments, strings, and template literals of
// JavaScript.
func extractScript(source []byte) []byte {
	c := newCanvas(source)
	c.script(0, len(source), false)
	return c.text
}

// script extracts JavaScript from start to end. Within a template literal it
// stops at the brace that closes the expression. It returns where it stopped.
func (c *canvas) script(start, end int, inTemplate bool) int {
	depth := 0
	word := []byte(nil) // the last token, as far as it matters to tell a regular expression from a division
	for i := start; i < end; {
		rest := c.source[i:end]
		length := 1
		switch {
		case bytes.HasPrefix(rest, []byte("//")):
			length = lengthTo(rest, "\n", false)
			c.comment(i, i+length, 2, 0)
			i += length
			continue
		case bytes.HasPrefix(rest, []byte("/*")):
			length = lengthTo(rest, "*/", true)
			c.comment(i, i+length, 2, min(2, length-2))
			i += length
			continue
		case rest[0] == '"' || rest[0] == '\'':
			length = literalLength(rest)
			c.quoted(i, i+length)
		case rest[0] == '`':
			length = c.template(i, end) - i
		case rest[0] == '/' && startsRegexp(word):
			length = literalLength(rest)
		case rest[0] == '{':
			depth++
		case rest[0] == '}' && depth == 0 && inTemplate:
			return i
		case rest[0] == '}':
			depth--
		case rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\n':
			i++
			continue
		default:
			for length < len(rest) && isWord(rest[0]) && isWord(rest[length]) {
				length++
			}
		}
		c.lastComment = 0
		word = rest[:length]
		i += length
	}
	return end
}

// template copies the text of a template literal and returns where it ends.
func (c *canvas) template(start, end int) int {
	for i := start + 1; i < end; i++ {
		switch {
		case c.source[i] == '`':
			return i + 1
		case c.source[i] == '\\' && i+1 < end:
			c.fill(i, i+2, ' ')
			i++
		case bytes.HasPrefix(c.source[i:end], []byte("${")):
			i = c.script(i+2, end, true)
		default:
			c.keep(i, i+1)
		}
	}
	return end
}

// startsRegexp reports whether a slash after a token starts a regular expression.
func startsRegexp(token []byte) bool {
	switch string(token) {
	case "", "return", "typeof", "case", "in", "of":
		return true
	}
	return bytes.IndexByte([]byte("(,=:[!&|?{};+-*%<>~^"), token[0]) >= 0
}

// literalLength returns the length of a string or regular expression, whose first
// byte is also its last.
func literalLength(source []byte) int {
	class := false // within the brackets of a regular expression
	for i := 1; i < len(source); i++ {
		switch b := source[i]; {
		case b == '\\':
			i++
		case b == '\n' || b == source[0] && !class:
			return i + 1
		case source[0] == '/' && (b == '[' || b == ']'):
			class = b == '['
		}
	}
	return len(source)
}

// lengthTo returns the length of the source up to a mark, and with it if wanted.
func lengthTo(source []byte, mark string, including bool) int {
	at := bytes.Index(source, []byte(mark))
	switch {
	case at < 0:
		return len(source)
	case including:
		return at + len(mark)
	default:
		return at
	}
}

// extractStyle copies the comments and strings of CSS.
func extractStyle(source []byte) []byte {
	c := newCanvas(source)
	c.style(0, len(source))
	return c.text
}

func (c *canvas) style(start, end int) {
	for i := start; i < end; i++ {
		length := 1
		switch rest := c.source[i:end]; {
		case bytes.HasPrefix(rest, []byte("/*")):
			length = lengthTo(rest, "*/", true)
			c.comment(i, i+length, 2, min(2, length-2))
		case rest[0] == '"' || rest[0] == '\'':
			length = literalLength(rest)
			c.quoted(i, i+length)
		}
		i += length - 1
	}
	c.lastComment = 0
}

var (
	action    = regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	tag       = regexp.MustCompile(`(?s)<!--.*?-->|<!?/?([a-zA-Z][a-zA-Z0-9-]*)(?:"[^"]*"|'[^']*'|[^'">])*>`)
	attribute = regexp.MustCompile(`\b(?:title|alt|placeholder|aria-label|aria-description|content|label|value|data-[a-z-]+)="([^"]*)"`)
	inlineTag = regexp.MustCompile(`^(?i:a|abbr|b|bdi|br|em|i|small|span|strong|time|tspan|u)$`)
	codeTag   = regexp.MustCompile(`^(?i:pre|code|script|style)$`)
)

// extractHTML copies the text of a page or template, the attributes that people
// read, comments, and what extractScript and extractStyle copy.
func extractHTML(source []byte) []byte {
	// Actions of a template may hold quotes and brackets, so they are removed first.
	plain := bytes.Clone(source)
	actions := action.FindAllIndex(source, -1)
	for _, at := range actions {
		for i := at[0]; i < at[1]; i++ {
			if plain[i] != '\n' {
				plain[i] = gap
			}
		}
	}
	c := newCanvas(plain)
	for i := 0; i < len(plain); {
		at := tag.FindSubmatchIndex(plain[i:])
		if at == nil {
			c.keep(i, len(plain))
			break
		}
		start, end := i+at[0], i+at[1]
		c.keep(i, start)
		i = end
		if at[2] < 0 {
			c.keep(start+len("<!--"), end-len("-->"))
			continue
		}
		name := plain[start+at[2]-at[0] : start+at[3]-at[0]]
		if inlineTag.Match(name) {
			c.fill(start, end, ' ')
		}
		for _, value := range attribute.FindAllSubmatchIndex(plain[start:end], -1) {
			c.fill(start+value[0], start+value[1], gap)
			c.keep(start+value[2], start+value[3])
		}
		if !codeTag.Match(name) || plain[start+1] == '/' {
			continue
		}
		i = end + lengthTo(bytes.ToLower(plain[end:]), "</"+string(bytes.ToLower(name)), false)
		switch string(bytes.ToLower(name)) {
		case "script":
			c.script(end, i, false)
		case "style":
			c.style(end, i)
		}
	}
	c.source = source
	for _, at := range actions {
		if bytes.HasPrefix(source[at[0]:], []byte("{{/*")) {
			c.keep(at[0]+len("{{/*"), at[1]-len("*/}}"))
		}
	}
	return c.text
}
