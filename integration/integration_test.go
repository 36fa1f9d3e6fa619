package integration_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"calltracker/integration"
)

var fields = integration.Fields{
	{Name: "base_url", Label: "URL", Help: "https://host", Required: true, Pattern: `https://[a-z.]+`},
	{Name: "api_key", Label: "key", Required: true, Secret: true},
	{Name: "size", Label: "page size", Help: "a number", Pattern: `[0-9]+`, Default: "20"},
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name     string
		given    integration.Settings
		want     integration.Settings
		problems []integration.Problem
	}{
		{
			"valid", integration.Settings{"base_url": "https://a.example", "api_key": "k"},
			integration.Settings{"base_url": "https://a.example", "api_key": "k", "size": "20"}, nil,
		},
		{"all problems together", integration.Settings{"base_url": "xhttps://a.example", "size": "ten", "sise": "1"}, integration.Settings{}, []integration.Problem{
			{Field: "base_url", Message: "invalid base_url for books: use https://host"},
			{Field: "api_key", Message: "books requires api_key (key)"},
			{Field: "size", Message: "invalid size for books: use a number"},
			{Field: "sise", Message: "unknown setting for books: use base_url, api_key, size"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, problems := fields.Check("books", tt.given)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.problems, problems); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSecrets(t *testing.T) {
	if got := fields.Secrets(); !slices.Equal(got, []string{"api_key"}) {
		t.Errorf("Secrets() = %q, want api_key only", got)
	}
}
