package config_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/rules"
	"calltracker/rules/rulestest"
)

// seeds adds valid and invalid documents to the corpus.
func seeds(f *testing.F, format config.Format) {
	documents, err := filepath.Glob("../rules/testdata/golden/*/document.yaml")
	if err != nil || len(documents) == 0 {
		f.Fatalf("no golden documents: %v", err)
	}
	for _, file := range append(documents, problemFiles(f)...) {
		text := rulestest.ReadFile(f, file)
		if formatOf(file) != format {
			if text, err = config.Convert(text, formatOf(file), format); err != nil {
				continue
			}
		}
		f.Add(string(text))
	}
}

// checkLoad checks what must hold for Load with any text.
func checkLoad(t *testing.T, text string, format config.Format) {
	_, set, problems := config.Load([]byte(text), format, resolve)
	if (set == nil) != (len(problems.Errors()) > 0) {
		t.Fatalf("set %v with errors %v", set != nil, problems.Errors())
	}
	// YAML has more line breaks than editors recognize, JSON has fewer.
	text = strings.TrimPrefix(text, "\ufeff")
	lines := 1 + strings.Count(text, "\n")
	if format == config.YAML {
		text = strings.ReplaceAll(text, "\r\n", "\n")
		lines = 1
		for _, r := range text {
			if strings.ContainsRune("\n\r\u0085\u2028\u2029", r) {
				lines++
			}
		}
	}
	for _, p := range problems {
		if p.Line < 1 || p.Line > lines || p.Column < 1 || p.Column > len(text)+1 {
			t.Errorf("the problem is outside of the text of %d lines: %s", lines, p)
		}
		if p.Message == "" || strings.ContainsAny(p.String(), "\r\n") {
			t.Errorf("the problem has no message or several lines: %q", p.String())
		}
	}
	if set == nil {
		return
	}
	for _, id := range set.Trackers() {
		router, _ := set.Router(id)
		for _, number := range []string{"", "061234567", "+33176431400", "anonymous"} {
			rulestest.Check(t, router, rules.Facts{
				At: time.Unix(1.8e9, 0), DID: phone.Parse(number, router.Region()), Caller: phone.Parse(number, router.Region()),
				Request: map[string]string{"lang": number}, Customer: &rules.Customer{Found: true, Tags: []string{"gold"}},
			})
		}
	}
}

func FuzzDocumentYAML(f *testing.F) {
	seeds(f, config.YAML)
	f.Fuzz(func(t *testing.T, text string) { checkLoad(t, text, config.YAML) })
}

func FuzzDocumentJSON(f *testing.F) {
	seeds(f, config.JSON)
	f.Fuzz(func(t *testing.T, text string) { checkLoad(t, text, config.JSON) })
}
