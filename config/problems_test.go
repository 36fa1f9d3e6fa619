package config_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"calltracker/config"
	"calltracker/problem"
	"calltracker/rules/rulestest"
)

// resolve returns the values of the references in testdata.
func resolve(kind, name string) (string, error) {
	known := map[string]string{
		"env START_KEY": "k-1", "env DID": "061234567", "env REGION": "AE", "env EMBED_KEY": "k-2",
		"secret start": "k-3", "secret address": "not an address, and secret",
	}
	if value, ok := known[kind+" "+name]; ok {
		return value, nil
	}
	if name == "LATER" {
		return "", fmt.Errorf("it is %w", config.ErrUnresolvedHere)
	}
	return "", fmt.Errorf("unknown %s", kind)
}

func formatOf(file string) config.Format {
	return config.Format(strings.TrimPrefix(filepath.Ext(file), "."))
}

// problemFiles lists the documents with problems.
func problemFiles(t testing.TB) []string {
	t.Helper()
	var files []string
	for _, format := range []config.Format{config.YAML, config.JSON} {
		found, err := filepath.Glob("testdata/problems/*." + string(format))
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s documents: %v", format, err)
		}
		files = append(files, found...)
	}
	return files
}

func TestProblems(t *testing.T) {
	for _, file := range problemFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, set, problems := config.Load(rulestest.ReadFile(t, file), formatOf(file), resolve)
			if (set == nil) != (len(problems.Errors()) > 0) {
				t.Errorf("there must be a set if and only if there are no errors: %v", problems.Errors())
			}
			var out strings.Builder
			for _, p := range problems {
				out.WriteString(p.String() + "\n")
			}
			rulestest.Golden(t, file+".golden", out.String())
		})
	}
}

// A document has the same problems in both notations.
func TestNotationsAgreeOnProblems(t *testing.T) {
	// Lines differ, and so does the spelling of numbers.
	differs := regexp.MustCompile(`line \d+|a number \(.*|leading zeros: .*`)
	said := func(text []byte, format config.Format) []string {
		_, _, problems := config.Load(text, format, resolve)
		out := make([]string, len(problems))
		for i, p := range problems {
			out[i] = p.Path + ": " + differs.ReplaceAllString(p.Message, "")
		}
		slices.Sort(out)
		return out
	}
	for _, file := range problemFiles(t) {
		text, from := rulestest.ReadFile(t, file), formatOf(file)
		to := config.YAML
		if from == config.YAML {
			to = config.JSON
		}
		converted, err := config.Convert(text, from, to)
		if err != nil {
			continue // it cannot be converted, since its syntax is wrong
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			if diff := cmp.Diff(said(text, from), said(converted, to)); diff != "" {
				t.Errorf("(-%s +%s):\n%s", from, to, diff)
			}
		})
	}
}

// A problem points to its cause, in both notations and after multi-byte characters.
func TestProblemPositions(t *testing.T) {
	tests := map[string]struct {
		text   string
		format config.Format
		at     string // the text at the position of a problem
	}{
		"unknown key":             {"trackers:\n  sales:\n    lable: x\n", config.YAML, "lable"},
		"value":                   {"trackers:\n  sales:\n    blocked:   maybe\n", config.YAML, "maybe"},
		"behind Arabic":           {"trackers: {مبيعات: 1, sales: {label: \"مبيعات\", blocked: 5}}\n", config.YAML, "مبيعات: 1"},
		"behind Arabic text":      {"trackers: {sales: {label: \"مبيعات 📞\", blocked: 5}}\n", config.YAML, "5}"},
		"in a JSON line":          {`{"trackers": {"sales": {"label": "مبيعات 📞", "blocked": 5}}}`, config.JSON, "5}"},
		"JSON key":                {"{\"trackers\":\n\t{\"sales\" :\t{\"lable\": 1}}}", config.JSON, `"lable"`},
		"JSON, an escape":         {`{"trackers": {"sales": {"label": "\u00e9\"", "blocked": 5}}}`, config.JSON, "5}"},
		"behind a mark":           {"\ufefftrackers: 5\n", config.YAML, "5\n"},
		"JSON, behind a mark":     {"\ufeff{\"trackers\": 5}\n", config.JSON, "5}"},
		"after CRLF":              {"trackers:\r\n  sales:\r\n    blocked: 5\r\n", config.YAML, "5\r\n"},
		"alias, where it is used": {"x: &x [1]\ntrackers: *x\n", config.YAML, "*x"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, problems := config.Load([]byte(tt.text), tt.format, nil)
			lines := strings.SplitAfter(strings.TrimPrefix(tt.text, "\ufeff"), "\n")
			points := func(p problem.Problem) bool {
				return p.Line >= 1 && p.Line <= len(lines) && p.Column >= 1 && p.Column <= len([]rune(lines[p.Line-1])) &&
					strings.HasPrefix(string([]rune(lines[p.Line-1])[p.Column-1:]), tt.at)
			}
			if !slices.ContainsFunc(problems, points) {
				t.Errorf("no problem points to %q: %v", tt.at, problems)
			}
		})
	}
}

// hostile returns documents that are small but expensive for a careless parser.
func hostile() map[string]string {
	const size = 64 << 10
	fill := func(unit string) string { return strings.Repeat(unit, size/len(unit)) }
	bomb := "a0: &a0 [{}, {}, {}, {}, {}, {}, {}, {}, {}, {}]\n"
	for i := range 20 {
		a := fmt.Sprintf("*a%d", i)
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.Join(slices.Repeat([]string{a}, 10), ", "))
	}
	merges := "m0: &m0 {k: v}\n"
	for i := range 40 {
		merges += fmt.Sprintf("m%d: &m%d {<<: [*m%d, *m%d], k%d: v}\n", i+1, i+1, i, i, i)
	}
	deep := "d0: &d0 " + strings.Repeat("[", 50) + "x" + strings.Repeat("]", 50) + "\n"
	for i := range 40 {
		deep += fmt.Sprintf("d%d: &d%d [*d%d, *d%d]\n", i+1, i+1, i, i)
	}
	wide := "w: &w {" + strings.Join(numbered(5_000, "k%d: 1"), ", ") + "}\nx:\n" + strings.Repeat("  - {<<: [*w, *w, *w, *w, *w, *w, *w, *w, *w, *w]}\n", 30)
	routes := func(extra string) string {
		return "trackers: {t: {keys: {start: open, end: open}, routes: [" + strings.Join(numbered(3_000, "{id: r%d, "+extra+"}"), ", ") + "]}}\n"
	}
	schedules := "schedules:\n" + strings.Join(numbered(3_000, "  s%d: {timezone: Asia/Dubai}\n"), "")
	return map[string]string{
		"alias bomb":                bomb + "trackers: *a20\n",
		"alias bomb of tests":       bomb + "tests: *a20\n",
		"merge bomb":                merges + "trackers: *m40\n",
		"wide merges":               wide,
		"deep aliases":              deep,
		"deep lists":                fill("["),
		"deep lists, closed":        strings.Repeat("[", 5_000) + strings.Repeat("]", 5_000),
		"deep mappings":             fill("{a: "),
		"deep blocks":               fill("- "),
		"deep keys":                 fill("? "),
		"anchors":                   fill("&a "),
		"tags":                      fill("!a "),
		"small and deep":            strings.Repeat("{a: ", 7_000),
		"small and deep in lists":   strings.Repeat("[a: ", 7_000),
		"small, many keys, broken":  strings.Repeat("a:\n", 10_000) + "]",
		"many keys":                 "trackers:\n" + strings.Join(numbered(12_000, "  t%d: 1\n"), ""),
		"one key many times":        "trackers:\n" + strings.Repeat("  a: 1\n", 12_000),
		"many documents":            fill("---\n"),
		"open quote":                "a: \"" + fill("x\n"),
		"long key":                  fill("k") + ": 1\n",
		"long name":                 "trackers: {\"" + fill("k") + "\": {}}\n",
		"long word for a known one": "trackers: {t: {routes: [{id: " + fill("r") + ", during: [" + fill("s") + "], voicemail: true}]}}\n",
		"long expected route":       "trackers: {t: {routes: [{id: " + fill("r") + ", voicemail: true}]}}\ntests: [{name: a, tracker: t, at: 2026-11-22T20:00:00Z, call: {}, expect: {route: " + fill("r") + "x}}]\n",
		"a line of numbers":         "[" + fill("1,") + "1]",
		"many windows":              "schedules: {s: {timezone: UTC, open: [" + strings.Join(numbered(1_440, "{days: [sun, mon, tue, wed, thu, fri, sat], from: \"00:00\", to: \"24:00\"}"), ", ") + "]}}",
		"many routes":               routes("when: [{field: caller, op: in, values: [\"+1\"]}], voicemail: true"),
		"many routes with slips":    schedules + routes("during: [s, x1, x2, x3]"),
		"many numbers that rotate":  "trackers: {t: {keys: {start: open, end: open}, routes: [{id: r, order: rotate, dial: [" + strings.Repeat("{number: \"0501110001\"}, ", 5_000) + "]}]}}",
		"a costly pattern":          "trackers: {t: {routes: [{id: r, when: [{field: caller, op: matches, value: \"" + strings.Repeat("(a?){50}", 100) + "\"}], voicemail: true}]}}",
		"repeated repetition":       "trackers: {t: {routes: [{id: r, when: [{field: caller, op: matches, value: \"((a{100}){100}){100}\"}], voicemail: true}]}}",
		"many references":           "trackers: {t: {label: \"" + fill("${env:X}") + "\"}}",
		"many open references":      "trackers: {t: {label: \"" + fill("${") + "\"}}",
		"a huge number":             "trackers: {t: {routes: [{id: r, split: [{weight: " + fill("9") + "}]}]}}",
		"a huge duration":           "trackers: {t: {routes: [{id: r, dial: [{number: \"1\", timeout: " + fill("9") + "s}]}]}}",
		"control characters":        fill("\x01"),
		"colons":                    fill(": "),
		"comments":                  fill("#\n"),
		"carriage returns":          fill("\r"),
	}
}

func numbered(n int, format string) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(format, i)
	}
	return out
}

// No document crashes the server or keeps it busy.
func TestHostileDocuments(t *testing.T) {
	// Far more than an idle machine needs, and far less than a parser with quadratic time takes.
	const patience, memory = 20 * time.Second, 1 << 30
	for name, text := range hostile() {
		t.Run(name, func(t *testing.T) {
			for _, format := range []config.Format{config.YAML, config.JSON} {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				start := time.Now()
				_, _, problems := config.Load([]byte(text), format, resolve)
				took := time.Since(start)
				runtime.ReadMemStats(&after)
				if took > patience {
					t.Errorf("%s: reading %d bytes took %v", format, len(text), took)
				}
				if used := after.TotalAlloc - before.TotalAlloc; used > memory {
					t.Errorf("%s: reading %d bytes took %d MiB", format, len(text), used>>20)
				}
				report := 0
				for _, p := range problems {
					report += len(p.String())
				}
				if report > 8*len(text)+1<<20 {
					t.Errorf("%s: %d bytes of problems about %d bytes", format, report, len(text))
				}
			}
		})
	}
}

func TestTooLargeDocument(t *testing.T) {
	for _, format := range []config.Format{config.YAML, config.JSON} {
		_, _, problems := config.Load(make([]byte, config.MaxDocumentBytes+1), format, nil)
		if want := "1:1: the document is larger than 32 MiB"; len(problems) != 1 || problems[0].String() != want {
			t.Errorf("%s: got %v, want %s", format, problems, want)
		}
	}
}

// Each load of a document reports the same problems in the same order.
func TestProblemsAreDeterministic(t *testing.T) {
	for _, file := range problemFiles(t) {
		_, _, want := config.Load(rulestest.ReadFile(t, file), formatOf(file), resolve)
		for range 3 {
			_, _, got := config.Load(rulestest.ReadFile(t, file), formatOf(file), resolve)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: the problems differ between two loads:\n%s", file, diff)
			}
		}
	}
}
