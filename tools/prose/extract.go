package main

import (
	"bytes"
	"go/scanner"
	"go/token"
	"regexp"
	"strings"
)

// gap separates texts. Each extract function returns a copy of its source that
// has the same length and the same line breaks, so that positions do not change.
// Text is copied. Markup within a text, such as the slashes at the
// start of a comment line, becomes spaces. Everything else becomes gap, which no
// pattern matches, so that a phrase cannot start in one text and end in another.
const gap = 0

// canvas is the copy of a source that an extract function fills.
type canvas struct {
	source, text []byte
	lastComment  int // where the previous comment ended; 0 if code follows it
}

func newCanvas(source []byte) *canvas {
	c := &canvas{source: source, text: make([]byte, len(source))}
	c.fill(0, len(source), gap)
	return c
}

// keep copies the text from start to end.
func (c *canvas) keep(start, end int) { copy(c.text[start:end], c.source[start:end]) }

// fill overwrites everything from start to end except line breaks.
func (c *canvas) fill(start, end int, with byte) {
	for i := start; i < end; i++ {
		c.text[i] = with
		if c.source[i] == '\n' {
			c.text[i] = '\n'
		}
	}
}

var commentStar = regexp.MustCompile(`(?m)^[ \t]*\*`)

// comment copies a comment from start to end without its delimiters, whose
// lengths are given. Comments on consecutive lines become one text.
func (c *canvas) comment(start, end, opening, closing int) {
	if between := c.source[c.lastComment:start]; c.lastComment > 0 && len(bytes.TrimSpace(between)) == 0 && bytes.Count(between, []byte{'\n'}) < 2 {
		c.fill(c.lastComment, start, ' ')
	}
	c.keep(start, end)
	c.fill(start, start+opening, ' ')
	c.fill(end-closing, end, ' ')
	if closing > 0 {
		for _, at := range commentStar.FindAllIndex(c.text[start:end], -1) {
			c.fill(start+at[0], start+at[1], ' ')
		}
	}
	c.lastComment = end
}

// quoted copies a string literal without its quotes. Escape sequences become
// spaces: `\nNext` contains the word "Next".
func (c *canvas) quoted(start, end int) {
	c.lastComment = 0
	c.keep(start+1, end-1)
	for i := start + 1; i+1 < end-1; i++ {
		if c.source[i] != '\\' {
			continue
		}
		c.text[i] = ' '
		if next := c.source[i+1]; next == '\\' || 'a' <= next && next <= 'z' {
			c.text[i+1] = ' '
		}
		i++
	}
}

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// extractGo copies comments and string literals, unless the file is generated.
func extractGo(source []byte) []byte {
	c := newCanvas(source)
	if generated.Match(source) {
		return c.text
	}
	var s scanner.Scanner
	file := token.NewFileSet().AddFile("", -1, len(source))
	s.Init(file, source, nil, scanner.ScanComments)
	for {
		pos, kind, literal := s.Scan()
		start := file.Offset(pos)
		end := start + len(literal)
		switch {
		case kind == token.EOF:
			return c.text
		case kind == token.COMMENT && literal[1] == '/':
			c.comment(start, end, 2, 0)
		case kind == token.COMMENT:
			c.comment(start, end, 2, 2)
		case kind == token.STRING && literal[0] == '"':
			c.quoted(start, end)
		case kind == token.STRING:
			c.keep(start+1, end-1)
			c.lastComment = 0
		case kind == token.SEMICOLON && literal == "\n":
		default:
			c.lastComment = 0
		}
	}
}

var (
	fence      = regexp.MustCompile("^[ \t>]*(```+|~~~+)")
	inlineCode = regexp.MustCompile("``[^\x00]+?``|`[^`\x00]+`")
	linkTarget = regexp.MustCompile(`\]\([^)\s]*\)`)
	autoLink   = regexp.MustCompile(`https?://[^\s>)]+`)
	htmlMarkup = regexp.MustCompile(`<!--|-->|</?[a-z][^>]*>`)
)

// extractMarkdown copies the text outside of code, markup, and addresses.
func extractMarkdown(source []byte) []byte {
	c := newCanvas(source)
	c.keep(0, len(source))
	code := "" // the fence of the current code block
	start := 0
	for line := range bytes.Lines(source) {
		mark := ""
		if found := fence.FindSubmatch(line); len(found) > 1 {
			mark = string(found[1])
		}
		if mark != "" || code != "" {
			c.fill(start, start+len(line), gap)
		}
		switch {
		case code == "":
			code = mark
		case strings.HasPrefix(mark, code):
			code = ""
		}
		start += len(line)
	}
	for _, markup := range []*regexp.Regexp{inlineCode, linkTarget, autoLink, htmlMarkup} {
		for _, at := range markup.FindAllIndex(c.text, -1) {
			c.fill(at[0], at[1], gap)
		}
	}
	for i, b := range c.text { // emphasis
		if b == '*' {
			c.text[i] = ' '
		}
	}
	return c.text
}

// extractHashComments copies the comments of YAML, shell scripts, makefiles and
// the like. A number sign starts a comment at the start of a line and after white
// space, unless it is quoted.
func extractHashComments(source []byte) []byte {
	c := newCanvas(source)
	start := 0
	for line := range bytes.Lines(source) {
		if at := hashComment(line); at >= 0 {
			if len(bytes.TrimSpace(line[:at])) > 0 {
				c.lastComment = 0
			}
			c.comment(start+at, start+len(bytes.TrimRight(line, "\n")), 1, 0)
		}
		start += len(line)
	}
	return c.text
}

// hashComment returns where the comment of a line starts, or -1.
func hashComment(line []byte) int {
	quote, before := byte(0), byte(' ')
	for i, b := range line {
		switch {
		case b == quote:
			quote = 0
		case quote != 0:
		case b == '#' && (before == ' ' || before == '\t'):
			return i
		case (b == '"' || b == '\'') && bytes.IndexByte([]byte(" \t:=,[{("), before) >= 0:
			quote = b
		}
		before = b
	}
	return -1
}

// extractSQL copies comments.
func extractSQL(source []byte) []byte {
	c := newCanvas(source)
	start := 0
	for line := range bytes.Lines(source) {
		if at := bytes.Index(line, []byte("--")); at >= 0 {
			c.comment(start+at, start+len(bytes.TrimRight(line, "\n")), 2, 0)
		}
		start += len(line)
	}
	return c.text
}
