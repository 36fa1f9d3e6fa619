package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"calltracker/openapi"
)

func TestCommittedDocumentIsCurrent(t *testing.T) {
	dependOnSources(t)
	want, err := describe(t.Context(), "server", "server/httpapi")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(openapi.Document()), "\n"), strings.Split(string(want), "\n")); diff != "" {
		t.Errorf("openapi/openapi.json is not up to date: run `make generate` and commit it\n(-committed +generated)\n%s", diff)
	}
}

// dependOnSources makes go test run the test again after a change of any Go file.
// go test only notices files that the test process opens, and swag, which reads the
// annotations, is another process.
func dependOnSources(t *testing.T) {
	t.Helper()
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case filepath.Ext(path) == ".go":
			_, err = os.Stat(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAnnotationsToOpenAPI compares the description of an example with a golden
// file. To update the file:
//
//	go run ./openapi/generate -o openapi/generate/testdata/annotated.json openapi/generate/testdata/annotated
func TestAnnotationsToOpenAPI(t *testing.T) {
	dependOnSources(t)
	golden := filepath.Join("testdata", "annotated.json")
	got, err := describe(t.Context(), "openapi/generate/testdata/annotated")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", golden, diff)
	}
}

func TestConvertErrors(t *testing.T) {
	tests := []struct {
		name    string
		swagger string
		want    string
	}{
		{
			name:    "not JSON",
			swagger: `swagger: "2.0"`,
			want:    "read Swagger 2.0",
		},
		{
			name:    "operation without a tag",
			swagger: `{"info":{"title":"x","version":"1"},"paths":{"/a":{"get":{"operationId":"a","summary":"A","responses":{"200":{"description":"OK"}}}}}}`,
			want:    "GET /a: no @Tags",
		},
		{
			name:    "operation with an unknown tag",
			swagger: `{"info":{"title":"x","version":"1"},"paths":{"/a":{"get":{"operationId":"a","summary":"A","tags":["cakes"],"responses":{"200":{"description":"OK"}}}}}}`,
			want:    `GET /a: unknown tag "cakes"`,
		},
		{
			name:    "operation without a summary",
			swagger: `{"info":{"title":"x","version":"1"},"paths":{"/a":{"get":{"operationId":"a","responses":{"200":{"description":"OK"}}}}}}`,
			want:    "GET /a: no @Summary",
		},
		{
			name:    "admin API without a problem type",
			swagger: `{"info":{"title":"x","version":"1"},"paths":{"/api/v1/a":{"get":{"operationId":"a","summary":"A","tags":["calls"],"responses":{"200":{"description":"OK"}}}}}}`,
			want:    "GET /api/v1/a: missing type Problem",
		},
		{
			name: "admin API with an undescribed error",
			swagger: `{"info":{"title":"x","version":"1"},"definitions":{"main.problem":{"type":"object"}},
				"paths":{"/api/v1/a":{"get":{"operationId":"a","summary":"A","tags":["calls"],"responses":{"404":{"description":"unknown a"}}}}}}`,
			want: "GET /api/v1/a: response 404 has no {object}",
		},
		{
			name:    "two types with the same name",
			swagger: `{"info":{"title":"x","version":"1"},"paths":{},"definitions":{"handlers.Call":{"type":"object"},"storage.call":{"type":"object"}}}`,
			want:    "two types are named Call, one of them storage.call",
		},
		{
			name:    "path parameter that is not in the path",
			swagger: `{"info":{"title":"x","version":"1"},"paths":{"/a":{"get":{"operationId":"a","summary":"A","tags":["calls"],"parameters":[{"name":"id","in":"path","type":"string","required":true}],"responses":{"200":{"description":"OK"}}}}}}`,
			want:    "invalid description",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := convert(t.Context(), []byte(test.swagger))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one that contains %q", err, test.want)
			}
		})
	}
}

func TestOperationID(t *testing.T) {
	tests := map[string]string{
		"GET /api/v1/calls":                         "getCalls",
		"GET /api/v1/calls.csv":                     "getCallsCsv",
		"GET /api/v1/calls/{id}":                    "getCallsById",
		"POST /api/v1/config/versions/{n}/restore":  "postConfigVersionsByNRestore",
		"POST /callTrackers/{tracker}/startCall":    "postCallTrackersByTrackerStartCall",
		"POST /callTrackers/example/startCall":      "postCallTrackersExampleStartCall",
		"GET /jorel/{site}.js":                      "getJorelBySiteJs",
		"GET /api/v1/reconciliation/last-{n}-{day}": "getReconciliationLastByNByDay",
	}
	for operation, want := range tests {
		method, path, _ := strings.Cut(operation, " ")
		if got := operationID(method, path); got != want {
			t.Errorf("operation ID of %s is %s, want %s", operation, got, want)
		}
	}
}

func TestAnnotationErrorsNameTheFile(t *testing.T) {
	_, err := describe(t.Context(), "openapi/generate/testdata/broken")
	if err == nil || !strings.Contains(err.Error(), "broken/main.go") {
		t.Errorf("error is %v, want one that names the file with the invalid annotation", err)
	}
}
