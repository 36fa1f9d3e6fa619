package crm_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"calltracker/crm"
)

func TestCheckOfSettings(t *testing.T) {
	d := crm.Driver{Name: "books", Fields: []crm.Field{
		{Name: "base_url", Label: "address", Help: "https://host", Required: true, Pattern: `https://[a-z.]+`},
		{Name: "api_key", Label: "key", Required: true, Secret: true},
		{Name: "size", Label: "page size", Help: "a number", Pattern: `[0-9]+`, Default: "20"},
	}}
	for _, tt := range []struct {
		name     string
		given    crm.Settings
		want     crm.Settings
		problems []crm.Problem
	}{
		{"fine", crm.Settings{"base_url": "https://a.example", "api_key": "k"}, crm.Settings{"base_url": "https://a.example", "api_key": "k", "size": "20"}, nil},
		{"everything at once", crm.Settings{"base_url": "xhttps://a.example", "size": "ten", "sise": "1"}, crm.Settings{}, []crm.Problem{
			{Field: "base_url", Message: "this is not what books expects here: https://host"},
			{Field: "api_key", Message: "books needs api_key (key)"},
			{Field: "size", Message: "this is not what books expects here: a number"},
			{Field: "sise", Message: "books has no such setting; it takes base_url, api_key, size"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, problems := d.Check(tt.given)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.problems, problems); diff != "" {
				t.Error(diff)
			}
		})
	}
}
