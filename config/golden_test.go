package config_test

import (
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"calltracker/config"
	"calltracker/rules"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

// golden compares got with a golden file, or writes the file with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", file, diff)
	}
}

func readFile(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// mustLoad loads a document without errors. The value of each reference is its
// name.
func mustLoad(t testing.TB, text string) (*config.Document, *rules.Set) {
	t.Helper()
	doc, set, problems := config.Load([]byte(text), config.YAML, func(kind, name string) (string, error) { return kind + ":" + name, nil })
	if wrong := problems.Errors(); len(wrong) > 0 {
		t.Fatalf("the document has errors: %v", wrong)
	}
	return doc, set
}

// object is a mapping of a document.
type object = map[string]any
