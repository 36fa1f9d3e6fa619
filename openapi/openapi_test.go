package openapi_test

import (
	"encoding/json"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"calltracker/openapi"
)

func TestDocumentIsOpenAPI3(t *testing.T) {
	var doc struct {
		OpenAPI string `json:"openapi"`
		Servers []struct{ URL string }
	}
	if err := json.Unmarshal(openapi.Document(), &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.0.") {
		t.Errorf("openapi is %q, want 3.0.x", doc.OpenAPI)
	}
	if len(doc.Servers) != 1 || doc.Servers[0].URL != "/" {
		t.Errorf("servers are %v, want only the server that serves the document", doc.Servers)
	}
}

func TestDocumentReturnsACopy(t *testing.T) {
	first := openapi.Document()
	clear(first)
	if openapi.Document()[0] != '{' {
		t.Error("modifying a returned document changed the next one")
	}
}

// TestBrowserIsSelfContained checks that the browser works with a strict
// Content-Security-Policy, which forbids inline code, and without access to the
// internet.
func TestBrowserIsSelfContained(t *testing.T) {
	files := openapi.Browser()
	page, err := fs.ReadFile(files, "index.html")
	if err != nil {
		t.Fatal(err)
	}
	assets := regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllSubmatch(page, -1)
	if len(assets) == 0 {
		t.Fatal("the page loads nothing")
	}
	for _, asset := range assets {
		address := string(asset[1])
		if address == "data:," { // no icon
			continue
		}
		name, embedded := strings.CutPrefix(address, "/docs/")
		if !embedded {
			t.Errorf("the page loads %s, which is not an embedded file", address)
			continue
		}
		if _, err := fs.Stat(files, name); err != nil {
			t.Errorf("the page loads %s: %v", address, err)
		}
	}
	inline := regexp.MustCompile(`(?i)<script>|<style|\son[a-z]+=|\sstyle=`)
	if found := inline.Find(page); found != nil {
		t.Errorf("the page has %q, which the policy blocks", found)
	}
	init, err := fs.ReadFile(files, "init.js")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`url: "/openapi.json"`, `validatorUrl: null`, `queryConfigEnabled: false`} {
		if !strings.Contains(string(init), want) {
			t.Errorf("init.js does not set %s", want)
		}
	}
}
