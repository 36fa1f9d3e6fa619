package config_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"calltracker/config"
	"calltracker/rules/rulestest"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("config.json", value); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func validate(t *testing.T, s *jsonschema.Schema, text []byte) error {
	t.Helper()
	converted, err := config.Convert(text, config.YAML, config.JSON)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(converted))
	if err != nil {
		t.Fatal(err)
	}
	return s.Validate(value)
}

func TestSchemaAcceptsValidDocuments(t *testing.T) {
	files := []string{"testdata/whole.yaml"}
	for _, pattern := range []string{"../rules/testdata/golden/*/document.yaml", "../examples/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: no documents (%v)", pattern, err)
		}
		files = append(files, found...)
	}
	s := schema(t)
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			mustLoad(t, string(rulestest.ReadFile(t, file)))
			if err := validate(t, s, rulestest.ReadFile(t, file)); err != nil {
				t.Error(err)
			}
		})
	}
}

// The schema rejects what Load rejects, as far as a schema can tell. Each mistake is
// the only one of its document.
func TestSchemaRejectsInvalidDocuments(t *testing.T) {
	whole := string(rulestest.ReadFile(t, "testdata/whole.yaml"))
	tests := map[string][2]string{ // the text to replace, and its replacement
		"unknown key":             {"label: Sales line", "lable: Sales line"},
		"unknown key in a list":   {"timeout: 1m30s", "timout: 1m30s"},
		"unknown section":         {"calendars:", "calendar: {}\ncalendars:"},
		"text for a list":         {"during: [office]", "during: office"},
		"list for text":           {"label: Sales line", "label: [Sales line]"},
		"number for text":         {`caller_id: "042789926"`, "caller_id: 42789926"},
		"text for true or false":  {"blocked: true", `blocked: "true"`},
		"unquoted DID":            {`- "061234567"`, "- 61234567"},
		"duration without a unit": {"timeout: 1m30s", "timeout: 90"},
		"duration in milliseconds": {
			"timeout: 1m30s", "timeout: 500ms",
		},
		"clock without a zero":      {`from: "09:00"`, `from: "9:00"`},
		"clock past the day":        {`to: "18:00"`, `to: "25:00"`},
		"date of another form":      {"- 2026-12-02", "- 02.12.2026"},
		"invalid date":              {"to: 2027-01-01", "to: 2027-02-29"},
		"weekday in full":           {"days: [sat]", "days: [saturday]"},
		"no weekday":                {"days: [sat]", "days: []"},
		"unknown operator":          {"op: in", "op: among"},
		"value and values":          {"values: [AE, SA]", "value: AE, values: [SA]"},
		"no value":                  {"op: is, value: 5", "op: is"},
		"unknown order":             {"order: rotate", "order: round-robin"},
		"weight below zero":         {"weight: 70", "weight: -70"},
		"weight over a million":     {"weight: 70", "weight: 1000001"},
		"weight that is not whole":  {"weight: 70", "weight: 0.7"},
		"share without weight":      {"weight: 30, ", ""},
		"region in small letters":   {"region: AE\n    timezone", "region: ae\n    timezone"},
		"no time zone":              {"    timezone: Asia/Dubai\n", ""},
		"route without id":          {"id: otherwise\n        voicemail", "voicemail"},
		"dial without number":       {"{number: agent-0029}", "{timeout: 5s}"},
		"word for keys":             {"end: open", "end: closed"},
		"driver missing":            {"driver: kustomer", "label: a"},
		"list in settings":          {"org: acme", "org: [acme]"},
		"extensions missing":        {`extensions: ["33176431400"]`, "x: 1"},
		"unknown position":          {"defaultPosition: top-right", "defaultPosition: middle"},
		"pop-up without connection": {"connections: [shop], on", "connections: [], on"},
		"unknown choice":            {"many: choose", "many: all"},
		"instant without offset":    {"at: 2026-11-22T20:00:00+04:00", "at: 2026-11-22T20:00:00"},
		"test without expectation":  {"    expect: {route: shares, numbers: [\"045550001\"], voicemail: false}\n", ""},
		"no routes":                 {"routes:\n", "routes: []\n    routs:\n"},
	}
	s := schema(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(whole, tt[0]) {
				t.Fatalf("the document does not contain %q", tt[0])
			}
			text := []byte(strings.Replace(whole, tt[0], tt[1], 1))
			if _, set, _ := config.Load(text, config.YAML, resolve); set != nil {
				t.Error("Load accepts it")
			}
			if err := validate(t, s, text); err == nil {
				t.Error("the schema accepts it")
			}
		})
	}
}

// The schema has the same keys as the document.
func TestSchemaKnowsEveryKey(t *testing.T) {
	text, err := config.Schema()
	if err != nil {
		t.Fatal(err)
	}
	var root object
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	sameKeys(t, root, root, reflect.TypeFor[config.Document](), "document", seen)

	// testdata/whole.yaml uses every key.
	converted, err := config.Convert(rulestest.ReadFile(t, "testdata/whole.yaml"), config.YAML, config.JSON)
	if err != nil {
		t.Fatal(err)
	}
	for key := range seen {
		if !bytes.Contains(converted, []byte(`"`+key+`":`)) {
			t.Errorf("testdata/whole.yaml does not use the key %q", key)
		}
	}
}

// sameKeys compares a type with the part of the schema that describes it.
func sameKeys(t *testing.T, root, part object, typ reflect.Type, path string, seen map[string]bool) {
	t.Helper()
	if ref, ok := part["$ref"].(string); ok {
		defs, _ := root["$defs"].(object)
		part, _ = defs[strings.TrimPrefix(ref, "#/$defs/")].(object)
	}
	if choices, ok := part["anyOf"].([]any); ok && typ.Kind() != reflect.Map { // several notations
		i := slices.IndexFunc(choices, func(c any) bool { choice, _ := c.(object); return choice["properties"] != nil })
		if i < 0 {
			return
		}
		part, _ = choices[i].(object)
	}
	child := func(key string) object { c, _ := part[key].(object); return c }
	switch typ.Kind() {
	case reflect.Pointer:
		sameKeys(t, root, part, typ.Elem(), path, seen)
	case reflect.Slice:
		sameKeys(t, root, child("items"), typ.Elem(), path+"[]", seen)
	case reflect.Map:
		sameKeys(t, root, child("additionalProperties"), typ.Elem(), path+".*", seen)
	case reflect.Struct:
		properties := child("properties")
		if properties == nil {
			return // a date or time of day, which is written as text
		}
		known := map[string]bool{}
		for field := range typ.Fields() {
			key := field.Tag.Get("json")
			if key == "" || key == "-" {
				continue
			}
			known[key], seen[key] = true, true
			property, ok := properties[key].(object)
			if !ok {
				t.Errorf("%s: the schema does not have %q", path, key)
				continue
			}
			sameKeys(t, root, property, field.Type, path+"."+key, seen)
		}
		for key := range properties {
			if !known[key] {
				t.Errorf("%s: the schema has %q, the document does not", path, key)
			}
		}
	}
}
