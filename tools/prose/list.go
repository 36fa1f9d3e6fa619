package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
)

// list is the parsed ban list.
type list struct {
	skipped []string // paths of files and, ending in a slash, of folders; a leading slash is the root
	rules   []rule
}

// rule bans one construction.
type rule struct {
	line       int // in the list
	source     string
	pattern    pattern
	write      string // what to write instead
	bad, good  []string
	exceptions []exception
}

// exception allows matches of a rule that overlap with a match of context.
type exception struct {
	path    string // a file, a folder ending in a slash, or * for everything
	context pattern
}

// finding is one match of a rule in a file.
type finding struct {
	line, column int // from 1; the column counts bytes
	text, write  string
}

func (f finding) String() string {
	return fmt.Sprintf("%d:%d: found \"%s\": write \"%s\"", f.line, f.column, f.text, f.write)
}

// parseList parses a ban list. banned.txt documents the format. The error joins
// all mistakes in the list.
func parseList(text string) (list, error) {
	var l list
	var mistakes []error
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "#") {
			continue
		}
		var err error
		if indented := line[0] == ' ' || line[0] == '\t'; indented {
			err = l.addDetail(trimmed)
		} else if skipped, ok := strings.CutPrefix(trimmed, "skip "); ok {
			l.skipped = append(l.skipped, strings.TrimSpace(skipped))
		} else {
			r := rule{line: i + 1, source: trimmed}
			r.pattern, err = compile(trimmed)
			l.rules = append(l.rules, r)
		}
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("line %d: %w", i+1, err))
		}
	}
	for _, r := range l.rules {
		if r.write == "" {
			mistakes = append(mistakes, fmt.Errorf("line %d: %q has no replacement: add an indented write line", r.line, r.source))
		}
		if len(r.bad) == 0 {
			mistakes = append(mistakes, fmt.Errorf("line %d: %q has no example: add an indented bad line", r.line, r.source))
		}
	}
	if err := errors.Join(mistakes...); err != nil {
		return l, fmt.Errorf("ban list: %w", err)
	}
	return l, nil
}

// addDetail adds an indented line to the last rule.
func (l *list) addDetail(line string) error {
	if len(l.rules) == 0 {
		return fmt.Errorf("%q precedes the first rule", line)
	}
	r := &l.rules[len(l.rules)-1]
	keyword, value, _ := strings.Cut(line, " ")
	value = strings.TrimSpace(value)
	if value == "" {
		return fmt.Errorf("%q has no value", line)
	}
	switch keyword {
	case "write":
		r.write = value
	case "bad":
		r.bad = append(r.bad, value)
	case "good":
		r.good = append(r.good, value)
	case "except":
		where, pattern, _ := strings.Cut(value, " ")
		context, err := compile(strings.TrimSpace(pattern))
		if err != nil {
			return err
		}
		r.exceptions = append(r.exceptions, exception{where, context})
	default:
		return fmt.Errorf("unknown keyword %q: use write, bad, good, or except", keyword)
	}
	return nil
}

// space matches white space with at most one line break: a phrase may continue on
// the next line, but not after a blank one.
const space = `(?:[ \t]+(?:\n[ \t]*)?|\n[ \t]*)`

// pattern is a regular expression that may have to start at a word boundary.
type pattern struct {
	expression *regexp.Regexp
	bounded    bool
}

// compile compiles a pattern as banned.txt describes it. The boundary in front is
// left to each: with it in the expression, package regexp could not look for a
// literal prefix, which makes a difference of seconds.
func compile(text string) (pattern, error) {
	if text == "" {
		return pattern{}, errors.New("a pattern must not be empty")
	}
	var b strings.Builder
	class := false
	for i := range len(text) {
		switch c := text[i]; {
		case c == ' ' && !class:
			b.WriteString(space)
			continue
		case c == '[' || c == ']':
			class = c == '['
		}
		b.WriteByte(text[i])
	}
	if last := text[len(text)-1]; isWord(last) && !strings.HasSuffix(text, `\x00`) || strings.IndexByte(")?+*", last) >= 0 {
		b.WriteString(`\b`)
	}
	expression, err := regexp.Compile(b.String())
	return pattern{expression, isWord(text[0]) || text[0] == '('}, err
}

// each yields the start and end of each match in a text in lower case.
func (p pattern) each(text []byte) iter.Seq2[int, int] {
	return func(yield func(int, int) bool) {
		for from := 0; from < len(text); {
			at := p.expression.FindIndex(text[from:])
			if at == nil {
				return
			}
			start, end := from+at[0], from+at[1]
			if p.bounded && start > 0 && isWord(text[start-1]) || start == end {
				from = start + 1
				continue
			}
			if !yield(start, end) {
				return
			}
			from = end
		}
	}
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// skips reports whether a file, or a folder that ends in a slash, is not checked.
func (l list) skips(name string) bool {
	return slices.ContainsFunc(l.skipped, func(s string) bool { return covers(s, name) })
}

// covers reports whether a path of the list names a file or a folder: from the
// root with a leading slash, in any folder without.
func covers(pattern, name string) bool {
	if pattern == "*" {
		return true
	}
	name = "/" + name
	if !strings.HasPrefix(pattern, "/") {
		pattern = "/" + pattern
		_, rest, found := strings.Cut(name, pattern)
		return found && (rest == "" || strings.HasSuffix(pattern, "/"))
	}
	return name == pattern || strings.HasSuffix(pattern, "/") && strings.HasPrefix(name, pattern)
}

// check returns what the rules find in the text of a file, in the order of
// position. Of overlapping matches it returns the first.
func (l list) check(name string, text []byte) []finding {
	type match struct {
		start, end int
		write      string
	}
	short, offsets := shorten(text)
	var matches []match
	for _, r := range l.rules {
		for start, end := range r.pattern.each(short) {
			if !r.allows(name, short, start, end) {
				matches = append(matches, match{offsets[start], offsets[end-1] + 1, r.write})
			}
		}
	}
	slices.SortStableFunc(matches, func(a, b match) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end))
	})
	var findings []finding
	end := 0
	for _, m := range matches {
		if m.start < end {
			continue
		}
		end = m.end
		found := strings.Trim(string(text[m.start:m.end]), "\x00")
		findings = append(findings, finding{
			line:   1 + bytes.Count(text[:m.start], []byte{'\n'}),
			column: m.start - bytes.LastIndexByte(text[:m.start], '\n'),
			text:   strings.Join(strings.Fields(found), " "),
			write:  m.write,
		})
	}
	return findings
}

// shorten returns a text in lower case with one gap byte for each gap, and where
// each byte comes from.
func shorten(text []byte) (short []byte, offsets []int) {
	inGap := false
	for i, b := range text {
		inGap = b == gap || inGap && bytes.IndexByte([]byte(" \t\n"), b) >= 0
		if inGap && len(short) > 0 && short[len(short)-1] == gap {
			continue
		}
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		short, offsets = append(short, b), append(offsets, i)
	}
	return short, offsets
}

// allows reports whether an exception of the rule covers a match.
func (r rule) allows(name string, text []byte, start, end int) bool {
	for _, e := range r.exceptions {
		if !covers(e.path, name) {
			continue
		}
		for from, to := range e.context.each(text) {
			if from < end && start < to {
				return true
			}
		}
	}
	return false
}
