package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asText makes a text of a sentence that a rule quotes.
func asText(sentence string) []byte { return []byte("\x00" + sentence + "\x00") }

// Every rule finds its own bad examples and neither its good examples nor its
// replacement. No rule finds a replacement.
func TestBannedList(t *testing.T) {
	l, err := parseList(banned)
	if err != nil {
		t.Fatal(err)
	}
	const wanted = 150
	if len(l.rules) < wanted {
		t.Errorf("%d rules, want at least %d", len(l.rules), wanted)
	}
	seen := map[string]int{}
	for _, r := range l.rules {
		if before := seen[r.source]; before > 0 {
			t.Errorf("line %d: the rule repeats line %d", r.line, before)
		}
		seen[r.source] = r.line
		only := list{rules: []rule{r}}
		for _, bad := range r.bad {
			if len(only.check("docs/x.md", asText(bad))) == 0 {
				t.Errorf("line %d: %q does not match its bad example %q", r.line, r.source, bad)
			}
		}
		for _, good := range r.good {
			if found := only.check("docs/x.md", asText(good)); len(found) > 0 {
				t.Errorf("line %d: %q matches its good example %q: %v", r.line, r.source, good, found)
			}
		}
		if found := l.check("docs/x.md", asText(r.write)); len(found) > 0 {
			t.Errorf("line %d: the replacement %q is banned: %v", r.line, r.write, found)
		}
	}
}

// Sentences as the Go standard library and other projects write them are not
// found.
func TestPlainEnglishPasses(t *testing.T) {
	l, err := parseList(banned)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("testdata", "plain.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for sentence := range strings.Lines(string(text)) {
		sentence = strings.TrimSpace(sentence)
		if found := l.check("plain.txt", asText(sentence)); len(found) > 0 {
			t.Errorf("%s: %v", sentence, found)
		}
	}
}

func TestParseList(t *testing.T) {
	tests := map[string]struct {
		text, err string // err is part of the error
	}{
		"a rule":             {text: "foo bar\n\twrite baz\n\tbad a foo bar\n"},
		"no replacement":     {"foo\n\tbad foo\n", "line 1: \"foo\" has no replacement"},
		"no example":         {"foo\n\twrite bar\n", "line 1: \"foo\" has no example"},
		"invalid expression": {"foo(\n\twrite bar\n\tbad foo\n", "line 1: error parsing regexp"},
		"invalid exception":  {"foo\n\twrite bar\n\tbad foo\n\texcept * (\n", "line 4: error parsing regexp"},
		"empty exception":    {"foo\n\twrite bar\n\tbad foo\n\texcept docs/\n", "line 4: a pattern must not be empty"},
		"unknown keyword":    {"foo\n\twrote bar\n", "line 2: unknown keyword \"wrote\""},
		"no rule yet":        {"\twrite bar\n", "line 1: \"write bar\" precedes the first rule"},
		"no value":           {"foo\n\twrite\n", "line 2: \"write\" has no value"},
		"two mistakes":       {"foo\n\twrote bar\n", "line 1: \"foo\" has no example"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := parseList(tt.text)
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	const rules = `skip /served/
red fox(es)?
	write wolf
	bad red fox
	except docs/zoo.md red fox
	except lib/ a red fox here
	except * red fox terrier
fox
	write vixen
	bad fox
[0-9] fox[.!]
	write n foxes
	bad 5 fox.
`
	l, err := parseList(rules)
	if err != nil {
		t.Fatal(err)
	}
	const wolf = "red fox\": write \"wolf"
	tests := map[string]struct {
		name, text string
		want       []string
	}{
		"nothing":                     {text: "A wolf."},
		"position":                    {text: "A wolf.\nThe red fox.", want: []string{`2:5: found "` + wolf + `"`}},
		"case and line break":         {text: "The Red\nFOXES.", want: []string{`1:5: found "Red FOXES": write "wolf"`}},
		"not across a blank line":     {text: "The red\n\nwolf."},
		"not across texts":            {text: "red\x00fox", want: []string{`1:5: found "fox": write "vixen"`}},
		"whole words":                 {text: "Altered foxtrot, infared foxes."},
		"rejected start, later match": {text: "infared fox, red fox", want: []string{`1:9: found "fox": write "vixen"`, `1:14: found "` + wolf + `"`}},
		"punctuation at the end":      {text: "5 fox. and", want: []string{`1:1: found "5 fox.": write "n foxes"`}},
		"exception for a file":        {name: "docs/zoo.md", text: "A red fox."},
		"exception for another file":  {name: "docs/zoo2.md", text: "A red fox.", want: []string{`1:3: found "` + wolf + `"`}},
		"exception for a folder":      {name: "a/lib/b.go", text: "See a red fox here.", want: []string{`1:11: found "fox": write "vixen"`}},
		"exception with context":      {text: "red fox terrier red fox", want: []string{`1:5: found "fox": write "vixen"`, `1:17: found "` + wolf + `"`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range l.check(tt.name, []byte(tt.text)) {
				got = append(got, f.String())
			}
			if name == "exception for a file" {
				got = nil // the second rule has no exception
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
	for path, want := range map[string]bool{"served/": true, "served/a.js": true, "web/served/": false, "served.js": false} {
		if got := l.skips(path); got != want {
			t.Errorf("skips(%q) = %t, want %t", path, got, want)
		}
	}
}

var paragraphs = regexp.MustCompile(`\n[ \t]*\n`)

// Each file of testdata/extract has a twin with the suffix .want, which lists the
// texts that are extracted from it, one a line.
func TestExtract(t *testing.T) {
	sources, err := filepath.Glob(filepath.Join("testdata", "extract", "*"))
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, name := range sources {
		if strings.HasSuffix(name, ".want") {
			continue
		}
		checked++
		t.Run(filepath.Base(name), func(t *testing.T) {
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(name + ".want")
			if err != nil {
				t.Fatal(err)
			}
			text := extractorFor(strings.TrimSuffix(filepath.Base(name), ".txt"))(source)
			if len(text) != len(source) {
				t.Fatalf("%d bytes of %d", len(text), len(source))
			}
			for i := range text {
				if (text[i] == '\n') != (source[i] == '\n') {
					t.Fatalf("line break lost or added at byte %d", i)
				}
			}
			var got strings.Builder
			for part := range strings.SplitSeq(paragraphs.ReplaceAllString(string(text), "\x00"), "\x00") {
				if line := strings.Join(strings.Fields(part), " "); line != "" {
					got.WriteString(line + "\n")
				}
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("texts (-want +got):\n%s", diff)
			}
		})
	}
	if checked == 0 {
		t.Error("testdata/extract has no files")
	}
}

func TestRun(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range map[string]string{
		"a.md":             "Some red\r\nfox and `red fox`.\n",
		"skipped/a.md":     "A red fox.\n",
		"sub/skipped.go":   "package red // a red fox",
		"sub/z.go":         "package fox\n\nconst redFox = \"red fox\"\n",
		"sub/generated.go": "// Code generated by hand. DO NOT EDIT.\n\npackage fox // red fox\n",
		"picture.png":      "red fox",
	} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const rules = "skip skipped/\nskip /sub/skipped.go\nred fox\n\twrite wolf\n\tbad red fox\n"
	const inSub = "sub/z.go:3:17: found \"red fox\": write \"wolf\"\n"
	tests := map[string]struct {
		roots []string
		want  string
		found int
	}{
		"everything": {[]string{"."}, "a.md:1:6: found \"red fox\": write \"wolf\"\n" + inSub, 2},
		"a folder":   {[]string{"./sub"}, inSub, 1},
		"a file":     {[]string{"sub/z.go"}, inSub, 1},
		"skipped":    {[]string{"skipped"}, "", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			found, err := run(&out, rules, tt.roots)
			if err != nil || found != tt.found || out.String() != tt.want {
				t.Errorf("%d findings, error %v, output %s", found, err, out.String())
			}
		})
	}
	if _, err := run(&strings.Builder{}, rules, []string{"missing"}); err == nil {
		t.Error("no error for a missing folder")
	}
	if _, err := run(&strings.Builder{}, "\twrite wolf\n", nil); err == nil {
		t.Error("no error for an invalid list")
	}
}
