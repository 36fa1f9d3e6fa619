package rules_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/rules"
	"calltracker/rules/rulestest"
)

// mustLoad loads a document without errors. The value of each reference is its
// name.
func mustLoad(t testing.TB, text string, format config.Format) *rules.Set {
	t.Helper()
	_, set, problems := config.Load([]byte(text), format, func(kind, name string) (string, error) { return kind + ":" + name, nil })
	if wrong := problems.Errors(); len(wrong) > 0 {
		t.Fatalf("the document has errors: %v", wrong)
	}
	return set
}

// call is one case of a golden document.
type call struct {
	Name     string            `yaml:"name"`
	Tracker  string            `yaml:"tracker"` // the only one by default
	At       string            `yaml:"at"`      // Monday noon in UTC by default
	DID      string            `yaml:"did"`
	Caller   string            `yaml:"caller"`
	CallID   string            `yaml:"callID"`
	Request  map[string]string `yaml:"request"`
	Customer *struct {
		Found      bool     `yaml:"found"`
		Connection string   `yaml:"connection"`
		Tags       []string `yaml:"tags"`
	} `yaml:"customer"`
	Turn *uint64 `yaml:"turn"` // of a rotating route
}

func (c call) facts(t *testing.T, region string) rules.Facts {
	t.Helper()
	f := rules.Facts{
		At:  time.Date(2026, time.November, 23, 12, 0, 0, 0, time.UTC),
		DID: phone.Parse(c.DID, region), Caller: phone.Parse(c.Caller, region), CallID: c.CallID, Request: c.Request,
	}
	if c.At != "" {
		at, err := time.Parse(time.RFC3339, c.At)
		if err != nil {
			t.Fatal(err)
		}
		f.At = at
	}
	if c.Customer != nil {
		f.Customer = &rules.Customer{Found: c.Customer.Found, Connection: c.Customer.Connection, Tags: c.Customer.Tags}
	}
	return f
}

func TestGolden(t *testing.T) {
	documents, err := filepath.Glob("testdata/golden/*/document.yaml")
	if err != nil || len(documents) == 0 {
		t.Fatalf("no golden documents: %v", err)
	}
	for _, document := range documents {
		dir := filepath.Dir(document)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			set := mustLoad(t, string(rulestest.ReadFile(t, document)), config.YAML)
			var calls []call
			decoder := yaml.NewDecoder(strings.NewReader(string(rulestest.ReadFile(t, filepath.Join(dir, "cases.yaml")))))
			decoder.KnownFields(true)
			if err := decoder.Decode(&calls); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			for _, c := range calls {
				if c.Tracker == "" {
					c.Tracker = set.Trackers()[0]
				}
				router, ok := set.Router(c.Tracker)
				if !ok {
					t.Fatalf("%s: no tracker %q", c.Name, c.Tracker)
				}
				fmt.Fprintf(&out, "== %s\n%s\n", c.Name, decide(t, router, c))
			}
			rulestest.Golden(t, filepath.Join(dir, "trace.golden"), out.String())
		})
	}
}

// decide returns the decision on a call and its trace as text.
func decide(t *testing.T, router *rules.Router, c call) string {
	t.Helper()
	facts := c.facts(t, router.Region())
	decision, trace := router.Explain(facts)
	same := cmp.Comparer(func(a, b rules.Decision) bool {
		return rulestest.Describe(a) == rulestest.Describe(b) && a.Rotating == b.Rotating
	})
	if diff := cmp.Diff(decision, router.Decide(facts), same); diff != "" {
		t.Errorf("%s: Decide and Explain differ:\n%s", c.Name, diff)
	}
	// Live calls use FindDID, which does not parse the DID.
	if listed, ok := router.FindDID(c.DID); ok {
		facts.DID = listed
		if diff := cmp.Diff(decision, router.Decide(facts), same); diff != "" {
			t.Errorf("%s: the decisions for the listed and the parsed DID differ:\n%s", c.Name, diff)
		}
	}
	if c.Turn != nil {
		decision = decision.Turn(*c.Turn)
	}
	var out strings.Builder
	out.WriteString(rulestest.Describe(decision))
	for _, s := range trace {
		out.WriteString(strings.TrimRight(fmt.Sprintf("  %-20s %-8s %s", s.Route, s.Verdict, s.Reason), " ") + "\n")
	}
	return out.String()
}
