package rules

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Resolver finds what a reference stands for: kind is "env" or "secret". It
// returns an error that says how to mend it when there is no such thing.
type Resolver func(kind, name string) (string, error)

// Parse reads a document strictly and reports everything that is wrong with
// its form at once: unknown and repeated keys, wrong types, missing values,
// references that resolve does not know. What the values mean is checked by
// Compile. The document is never nil; with errors it is incomplete.
func Parse(text []byte, format Format, resolve Resolver) (*Document, Problems) {
	doc := &Document{places: map[string]position{}}
	root, problems := parse(text, format)
	if root == nil {
		return doc, problems
	}
	d := &decoder{doc: doc, resolve: resolve, problems: problems, fields: map[reflect.Type][]field{}}
	d.decode(root, reflect.ValueOf(doc).Elem(), "")
	d.problems.sort()
	return doc, d.problems
}

type decoder struct {
	doc      *Document
	resolve  Resolver
	problems Problems
	errors   int // among the problems
	fields   map[reflect.Type][]field
}

func (d *decoder) report(n *node, path, format string, args ...any) {
	d.add(Problem{Line: n.at.line, Column: n.at.column, Path: path, Message: fmt.Sprintf(format, args...)})
}

// maxProblems keeps the report on a document that is wrong throughout, with the
// help of aliases, from growing much larger than the document.
const maxProblems = 10_000

func (d *decoder) add(p Problem) {
	if !p.Warning {
		d.errors++
	}
	if p.Warning || d.errors < maxProblems {
		d.problems = append(d.problems, p)
	} else if d.errors == maxProblems {
		d.problems = append(d.problems, Problem{Line: p.Line, Column: p.Column, Message: "there are more problems from here on"})
	}
}

// shaped is a type with a notation of its own.
type shaped interface {
	decodeNode(d *decoder, n *node, path string)
}

func (d *decoder) decode(n *node, v reflect.Value, path string) {
	d.doc.places[path] = n.at
	if s, ok := reflect.TypeAssert[shaped](v.Addr()); ok {
		s.decodeNode(d, n, path)
		return
	}
	if t, ok := reflect.TypeAssert[*time.Time](v.Addr()); ok {
		d.instant(n, t, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(n, v.Elem(), path)
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Map:
		d.mapping(n, v, path)
	case reflect.Slice:
		if n.kind == kindNull {
			return
		}
		if !d.want(n, kindList, path) {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.items), len(n.items)))
		for i, item := range n.items {
			d.decode(item, v.Index(i), path+"["+strconv.Itoa(i)+"]")
		}
	case reflect.String:
		v.SetString(d.text(n, path))
	case reflect.Bool:
		if d.want(n, kindBool, path) {
			v.SetBool(n.text == "true")
		}
	case reflect.Int:
		if !d.want(n, kindNumber, path) {
			return
		}
		i, err := strconv.Atoi(n.text)
		if err != nil {
			d.report(n, path, "%s is not a whole number", n.text)
			return
		}
		v.SetInt(int64(i))
	default:
		panic("rules: a document type has a field of kind " + v.Kind().String())
	}
}

// field is a struct field as its tags describe it.
type field struct {
	index    int
	name     string
	required bool
	plain    bool // text without a notation of its own
	atLeast  bool // a list that must not be empty
	minimum  *int64
	maximum  *int64
	pattern  *regexp.Regexp
	choices  []string
}

// fieldsOf reads the tags that also make the JSON Schema, so that the two
// cannot disagree.
func (d *decoder) fieldsOf(t reflect.Type) []field {
	if known, ok := d.fields[t]; ok {
		return known
	}
	var out []field
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		name := tag.Get("json")
		if name == "" || name == "-" {
			continue
		}
		f := field{index: i, name: name, plain: t.Field(i).Type == reflect.TypeFor[string]()}
		for limit := range strings.SplitSeq(tag.Get("jsonschema"), ",") {
			word, arg, _ := strings.Cut(limit, "=")
			number, _ := strconv.ParseInt(arg, 10, 64)
			switch word {
			case "required":
				f.required = true
			case "minItems":
				f.atLeast = true
			case "minimum":
				f.minimum = &number
			case "maximum":
				f.maximum = &number
			case "pattern":
				f.pattern = regexp.MustCompile(arg)
			case "enum":
				f.choices = append(f.choices, arg)
			}
		}
		out = append(out, f)
	}
	d.fields[t] = out
	return out
}

func (d *decoder) structure(n *node, v reflect.Value, path string) {
	if path == "" && n.kind == kindNull {
		return
	}
	if !d.want(n, kindMapping, path) {
		return
	}
	known := d.fieldsOf(v.Type())
	d.eachKey(n, path, func(key, value *node, at string) {
		i := slices.IndexFunc(known, func(f field) bool { return f.name == key.text })
		if i < 0 {
			d.unknownKey(key, at, known)
			return
		}
		d.decode(value, v.Field(known[i].index), at)
		d.limit(value, v.Field(known[i].index), at, known[i])
	})
	for _, f := range known {
		if !f.required {
			continue
		}
		switch value := n.get(f.name); {
		case value == nil:
			d.report(n, path, "%s is missing", f.name)
		case f.plain && value.kind == kindText && value.text == "":
			d.report(value, path+"."+f.name, "%s is empty", f.name)
		}
	}
}

func (d *decoder) unknownKey(key *node, path string, known []field) {
	names := make([]string, len(known))
	for i, f := range known {
		names[i] = f.name
	}
	if near := nearest(key.text, names); near != "" {
		d.report(key, path, "unknown key %q; did you mean %q?", clip(key.text), near)
		return
	}
	slices.Sort(names)
	d.report(key, path, "unknown key %q; known here: %s", clip(key.text), strings.Join(names, ", "))
}

// eachKey visits the keys of a mapping once each; repeated ones are reported.
func (d *decoder) eachKey(n *node, path string, visit func(key, value *node, at string)) {
	seen := make(map[string]int, len(n.keys))
	for i, key := range n.keys {
		at := key.text
		if !identifier.MatchString(at) {
			at = clip(at)
		}
		if path != "" {
			at = path + "." + at
		}
		if line, twice := seen[key.text]; twice {
			d.report(key, at, "%q is here twice; the first is in line %d", clip(key.text), line)
			continue
		}
		seen[key.text] = key.at.line
		visit(key, n.items[i], at)
	}
}

// identifier is what names of trackers, schedules and the like look like: they
// stand in URLs, paths and metrics.
var identifier = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (d *decoder) mapping(n *node, v reflect.Value, path string) {
	if n.kind == kindNull {
		return
	}
	if !d.want(n, kindMapping, path) {
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.keys)))
	d.eachKey(n, path, func(key, value *node, at string) {
		if !identifier.MatchString(key.text) {
			d.report(key, at, "%q is no name: use up to 64 letters, digits, dots, dashes or underscores, a letter or digit first", clip(key.text))
			return
		}
		item := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, item, at)
		v.SetMapIndex(reflect.ValueOf(key.text), item)
	})
}

// limit checks a value against what its tags say; a value of a wrong type has
// been reported already.
func (d *decoder) limit(n *node, v reflect.Value, path string, f field) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch n.kind {
	case kindNumber:
		if f.minimum != nil && v.CanInt() && v.Int() < *f.minimum {
			d.report(n, path, "%d is too small; it must be at least %d", v.Int(), *f.minimum)
		}
		if f.maximum != nil && v.CanInt() && v.Int() > *f.maximum {
			d.report(n, path, "%d is too large; it must be at most %d", v.Int(), *f.maximum)
		}
	case kindText:
		if f.pattern != nil && v.String() != "" && !f.pattern.MatchString(v.String()) {
			d.report(n, path, "%q does not have the form %s", clip(v.String()), f.pattern)
		}
		if f.choices != nil && !slices.Contains(f.choices, v.String()) {
			d.report(n, path, "%q is not one of %s", clip(v.String()), strings.Join(f.choices, ", "))
		}
	case kindList, kindNull:
		if f.atLeast && len(n.items) == 0 {
			d.report(n, path, "there must be at least one")
		}
	}
}

func (d *decoder) want(n *node, k kind, path string) bool {
	if n.kind == k {
		return true
	}
	d.report(n, path, "expected %s, found %s", k, n.found())
	return false
}

func (n *node) found() string {
	switch n.kind {
	case kindText, kindNumber, kindBool:
		return fmt.Sprintf("%s (%s)", n.kind, clip(n.text))
	default:
		return string(n.kind)
	}
}

// text is the value of a text, its ${env:} references resolved.
func (d *decoder) text(n *node, path string) string {
	switch n.kind {
	case kindText:
		value, _ := d.expand(n, path, false)
		return value
	case kindNumber, kindBool:
		d.report(n, path, "expected text, found %s; write it in quotes: %q", n.found(), n.text)
	default:
		d.want(n, kindText, path)
	}
	return ""
}

// reference matches one that is not closed as well, so that it is not taken for
// the value itself.
var reference = regexp.MustCompile(`\$\{([^}:]*):?([^}]*)(\}|$)`)

// expand resolves the references in a text and tells whether there were any.
// Secrets are allowed only where the value is kept out of answers and logs.
func (d *decoder) expand(n *node, path string, secret bool) (value string, referred bool) {
	if !strings.Contains(n.text, "${") {
		return n.text, false
	}
	value = reference.ReplaceAllStringFunc(n.text, func(ref string) string {
		parts := reference.FindStringSubmatch(ref)
		kind, name := parts[1], parts[2]
		switch {
		case kind != "env" && kind != "secret" || name == "" || parts[3] == "":
			d.report(n, path, "%s is no reference; write ${env:NAME} or ${secret:NAME}", clip(ref))
		case kind == "secret" && !secret:
			d.report(n, path, "%s: a secret may stand only in keys, credentials and settings", clip(ref))
		case kind == "env" && strings.HasPrefix(name, "CALLTRACKER_"):
			// Else whoever may write the document could read the server's own secrets.
			d.report(n, path, "%s: the settings of the server itself cannot be referred to", clip(ref))
		default:
			referred = true
			if d.resolve == nil {
				return ""
			}
			resolved, err := d.resolve(kind, name)
			if err == nil {
				return resolved
			}
			d.add(Problem{
				Line: n.at.line, Column: n.at.column, Path: path, Message: clip(ref) + ": " + err.Error(),
				Warning: errors.Is(err, ErrUnresolvedHere),
			})
		}
		return ""
	})
	return value, referred
}

// resolveAll resolves the references in a value that no type describes.
func (d *decoder) resolveAll(n *node, path string) {
	if n.kind == kindText {
		n.text, _ = d.expand(n, path, false)
	}
	for _, item := range n.items {
		d.resolveAll(item, path)
	}
}

// ErrUnresolvedHere marks a reference that is not an error of the document: it
// may well resolve on the server that will use it.
var ErrUnresolvedHere = errors.New("not set here")

func (d *decoder) instant(n *node, t *time.Time, path string) {
	if n.kind != kindText {
		d.want(n, kindText, path)
		return
	}
	at, err := time.Parse(time.RFC3339, n.text)
	if err != nil {
		d.report(n, path, "%q is no instant; write it like 2026-11-22T20:00:00+04:00", clip(n.text))
		return
	}
	*t = at
}

// clip keeps quoted text from outside short and on one line.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 60 {
		return string(r[:57]) + "..."
	}
	return s
}

// nearest is the candidate that a slip of one or two letters away was meant,
// or "".
func nearest(word string, candidates []string) string {
	const longestWord, manyCandidates = 64, 1000 // nobody is helped by comparing more
	if len(word) > longestWord || len(candidates) > manyCandidates {
		return ""
	}
	best, least := "", 3
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c), least); d < least && d < len(c) {
			best, least = c, d
		}
	}
	return best
}

// distance counts the letters to insert, remove or replace; at least limit is
// reported as limit.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return min(row[len(b)], limit)
}

// decodeAs reads a mapping into a type without that type's own notation.
func decodeAs[T any](d *decoder, n *node, into *T, path string) {
	d.structure(n, reflect.ValueOf(into).Elem(), path)
}
