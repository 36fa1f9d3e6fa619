package config_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"calltracker/config"
)

// anyJSON draws a document. Its words are those that a careless YAML writer gets
// wrong.
func anyJSON(t *rapid.T, depth int) any {
	word := rapid.OneOf(rapid.SampledFrom([]string{
		"0509998877", "061234567", "+971", "yes", "No", "null", "~", "1e3", "0x10", "a: b", "- a", "# a", "", " a", "a ", "{", "[x]", "${env:A}",
		"2026-12-02", "09:00", "a\nb", "\u2028", "'", `"`, "é", "true", "<<", "*a", "&a", "!a", "%a", "@a", "`a", "?", "a #b", ".inf",
	}), rapid.String())
	choices := 4
	if depth < 4 {
		choices = 6
	}
	switch rapid.IntRange(1, choices).Draw(t, "kind") {
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.IntRange(-1000, 100000).Draw(t, "number")
	case 3:
		return nil
	case 4:
		return word.Draw(t, "text")
	case 5:
		list := []any{}
		for range rapid.IntRange(0, 3).Draw(t, "items") {
			list = append(list, anyJSON(t, depth+1))
		}
		return list
	default:
		mapping := map[string]any{}
		for range rapid.IntRange(0, 3).Draw(t, "keys") {
			mapping[word.Draw(t, "key")] = anyJSON(t, depth+1)
		}
		return mapping
	}
}

func TestConvertRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want, err := json.Marshal(map[string]any{"root": anyJSON(t, 0)})
		if err != nil {
			t.Fatal(err)
		}
		converted, err := config.Convert(want, config.JSON, config.YAML)
		if err != nil {
			t.Fatal(err)
		}
		back, err := config.Convert(converted, config.YAML, config.JSON)
		if err != nil {
			t.Fatalf("%v in\n%s", err, converted)
		}
		var a, b any
		if err := json.Unmarshal(want, &a); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(back, &b); err != nil {
			t.Fatalf("%v in\n%s", err, back)
		}
		if !reflect.DeepEqual(a, b) {
			t.Fatalf("%s\nbecame\n%s\nand then\n%s", want, converted, back)
		}
	})
}

func TestConvertKeepsKeyOrder(t *testing.T) {
	got, err := config.Convert([]byte("b: 1\na: [x, \"05\"] # a comment\n"), config.YAML, config.JSON)
	want := "{\n  \"b\": 1,\n  \"a\": [\n    \"x\",\n    \"05\"\n  ]\n}\n"
	if err != nil || string(got) != want {
		t.Errorf("%v: %s", err, got)
	}
	got, err = config.Convert([]byte(want), config.JSON, config.YAML)
	if err != nil || string(got) != "b: 1\na:\n  - x\n  - \"05\"\n" {
		t.Errorf("%v: %s", err, got)
	}
}
