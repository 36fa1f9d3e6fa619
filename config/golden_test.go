package config_test

import (
	"testing"

	"calltracker/config"
	"calltracker/rules"
)

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
