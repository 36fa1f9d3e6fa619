package openapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"calltracker/openapi"
)

// TestOperationsAreDocumented checks that API clients and the API browser have a
// name, a summary, a description and a group for every operation.
func TestOperationsAreDocumented(t *testing.T) {
	type operation struct {
		OperationID string `json:"operationId"`
		Summary     string
		Description string
		Tags        []string
	}
	var doc struct {
		Tags  []struct{ Name, Description string }
		Paths map[string]map[string]operation // by path and method
	}
	if err := json.Unmarshal(openapi.Document(), &doc); err != nil {
		t.Fatal(err)
	}
	declared := map[string]bool{}
	for _, tag := range doc.Tags {
		declared[tag.Name] = true
		if tag.Description == "" {
			t.Errorf("tag %s has no description", tag.Name)
		}
	}
	if len(doc.Paths) == 0 {
		t.Error("the document has no operations")
	}
	users := map[string]string{} // operations by ID
	for path, operations := range doc.Paths {
		for method, op := range operations {
			name := strings.ToUpper(method) + " " + path
			if op.OperationID == "" {
				t.Errorf("%s has no operationId", name)
			}
			if other, used := users[op.OperationID]; used {
				t.Errorf("%s and %s have the same operationId %s", name, other, op.OperationID)
			}
			users[op.OperationID] = name
			if op.Summary == "" {
				t.Errorf("%s has no summary", name)
			}
			if op.Description == "" {
				t.Errorf("%s has no description", name)
			}
			if len(op.Tags) == 0 {
				t.Errorf("%s has no tag", name)
			}
			for _, tag := range op.Tags {
				if !declared[tag] {
					t.Errorf("%s has the undeclared tag %q", name, tag)
				}
			}
		}
	}
}
