package config

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"calltracker/problem"
	"calltracker/rules"
)

// Resolver returns the value of a reference; kind is "env" or "secret". If there
// is no value, the error says how to provide one.
type Resolver func(kind, name string) (string, error)

// Parse decodes a document strictly. It reports all problems of its form: unknown
// and duplicate keys, wrong types, missing values, references that cannot be
// resolved. Load also checks what the values mean. The document is never nil;
// with errors it is incomplete.
func Parse(text []byte, format Format, resolve Resolver) (*Document, problem.List) {
	doc := &Document{positions: map[string]position{}}
	root, problems := parse(text, format)
	if root == nil {
		return doc, problems
	}
	d := &decoder{doc: doc, resolve: resolve, fields: map[reflect.Type][]field{}}
	for _, p := range problems {
		d.Add(p)
	}
	d.decode(root, reflect.ValueOf(doc).Elem(), "")
	d.Problems.Sort()
	return doc, d.Problems
}

type decoder struct {
	problem.Report
	doc     *Document
	resolve Resolver
	fields  map[reflect.Type][]field
}

func (d *decoder) report(n *node, path, format string, args ...any) {
	d.Add(problem.Problem{Line: n.at.line, Column: n.at.column, Path: path, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) decode(n *node, v reflect.Value, path string) {
	d.doc.positions[path] = n.at
	if d.special(n, v.Addr().Interface(), path) {
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
			d.report(n, path, "invalid number %s: use a whole number", n.text)
			return
		}
		v.SetInt(int64(i))
	default:
		panic("config: unsupported field of kind " + v.Kind().String())
	}
}

// field is a struct field as described by its tags.
type field struct {
	index    int
	name     string
	required bool
	plain    bool // a plain text
	nonEmpty bool // a list that must have an entry
	minimum  *int64
	maximum  *int64
	pattern  *regexp.Regexp
	choices  []string
}

// fieldsOf returns the fields of a struct type. It reads the same tags as the JSON
// Schema, so that the two cannot disagree.
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
		for constraint := range strings.SplitSeq(tag.Get("jsonschema"), ",") {
			word, arg, _ := strings.Cut(constraint, "=")
			number, _ := strconv.ParseInt(arg, 10, 64)
			switch word {
			case "required":
				f.required = true
			case "minItems":
				f.nonEmpty = true
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
		d.check(value, v.Field(known[i].index), at, known[i])
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
	if similar := problem.Nearest(key.text, names); similar != "" {
		d.report(key, path, "unknown key %q; did you mean %q?", problem.Clip(key.text), similar)
		return
	}
	slices.Sort(names)
	d.report(key, path, "unknown key %q: use one of %s", problem.Clip(key.text), strings.Join(names, ", "))
}

// eachKey visits each key of a mapping once and reports duplicates.
func (d *decoder) eachKey(n *node, path string, visit func(key, value *node, at string)) {
	seen := make(map[string]int, len(n.keys))
	for i, key := range n.keys {
		at := key.text
		if !rules.ValidName(at) {
			at = problem.Clip(at)
		}
		if path != "" {
			at = path + "." + at
		}
		if line, twice := seen[key.text]; twice {
			d.report(key, at, "duplicate key %q: line %d has it already", problem.Clip(key.text), line)
			continue
		}
		seen[key.text] = key.at.line
		visit(key, n.items[i], at)
	}
}

func (d *decoder) mapping(n *node, v reflect.Value, path string) {
	if n.kind == kindNull {
		return
	}
	if !d.want(n, kindMapping, path) {
		return
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(n.keys)))
	d.eachKey(n, path, func(key, value *node, at string) {
		if !rules.ValidName(key.text) {
			d.report(key, at, "invalid name %q: use up to 64 letters, digits, dots, dashes and underscores, with a letter or digit first", problem.Clip(key.text))
			return
		}
		item := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, item, at)
		v.SetMapIndex(reflect.ValueOf(key.text), item)
	})
}

// check compares a value with the limits in its tags. It ignores a value of the
// wrong type, which has been reported already.
func (d *decoder) check(n *node, v reflect.Value, path string, f field) {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch n.kind {
	case kindNumber:
		if f.minimum != nil && v.CanInt() && v.Int() < *f.minimum {
			d.report(n, path, "%d is too small: the minimum is %d", v.Int(), *f.minimum)
		}
		if f.maximum != nil && v.CanInt() && v.Int() > *f.maximum {
			d.report(n, path, "%d is too large: the maximum is %d", v.Int(), *f.maximum)
		}
	case kindText:
		if f.pattern != nil && v.String() != "" && !f.pattern.MatchString(v.String()) {
			d.report(n, path, "invalid value %q: it must match %s", problem.Clip(v.String()), f.pattern)
		}
		if f.choices != nil && !slices.Contains(f.choices, v.String()) {
			d.report(n, path, "invalid value %q: use one of %s", problem.Clip(v.String()), strings.Join(f.choices, ", "))
		}
	case kindList, kindNull:
		if f.nonEmpty && len(n.items) == 0 {
			d.report(n, path, "the list is empty: it needs at least one entry")
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
		return fmt.Sprintf("%s (%s)", n.kind, problem.Clip(n.text))
	default:
		return string(n.kind)
	}
}

// text returns the value of a text with its ${env:} references resolved.
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

// reference also matches an unclosed reference, which must not pass as a value.
var reference = regexp.MustCompile(`\$\{([^}:]*):?([^}]*)(\}|$)`)

// expand resolves the references in a text and reports whether there were any.
// Secrets are allowed only where the value does not appear in answers and logs.
func (d *decoder) expand(n *node, path string, secret bool) (value string, referred bool) {
	if !strings.Contains(n.text, "${") {
		return n.text, false
	}
	value = reference.ReplaceAllStringFunc(n.text, func(ref string) string {
		parts := reference.FindStringSubmatch(ref)
		kind, name := parts[1], parts[2]
		switch {
		case kind != "env" && kind != "secret" || name == "" || parts[3] == "":
			d.report(n, path, "invalid reference %s: write ${env:NAME} or ${secret:NAME}", problem.Clip(ref))
		case kind == "secret" && !secret:
			d.report(n, path, "%s: secrets are allowed only in keys, credentials, and settings", problem.Clip(ref))
		case kind == "env" && strings.HasPrefix(name, "CALLTRACKER_"):
			// Otherwise the author of a document could read the server's own secrets.
			d.report(n, path, "%s: references to the server's own settings are not allowed", problem.Clip(ref))
		default:
			referred = true
			if d.resolve == nil {
				return ""
			}
			resolved, err := d.resolve(kind, name)
			if err == nil {
				return resolved
			}
			d.Add(problem.Problem{
				Line: n.at.line, Column: n.at.column, Path: path, Message: problem.Clip(ref) + ": " + err.Error(),
				Warning: errors.Is(err, ErrUnresolvedHere),
			})
		}
		return ""
	})
	return value, referred
}

// resolveAll resolves the references in a value without a Go type.
func (d *decoder) resolveAll(n *node, path string) {
	if n.kind == kindText {
		n.text, _ = d.expand(n, path, false)
	}
	for _, item := range n.items {
		d.resolveAll(item, path)
	}
}

// ErrUnresolvedHere marks a reference that has no value here but may have one on
// the server that uses the document. It is reported as a warning.
var ErrUnresolvedHere = errors.New("not set here")
