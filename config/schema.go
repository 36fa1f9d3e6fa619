package config

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/invopop/jsonschema"

	"calltracker/rules"
)

// Schema returns the JSON Schema of a document, with which editors complete and
// check it. It is derived from the types that Parse decodes into.
func Schema() ([]byte, error) {
	r := jsonschema.Reflector{
		RequiredFromJSONSchemaTags: true,
		ExpandedStruct:             true,
		Mapper:                     notation,
		Namer:                      func(t reflect.Type) string { return t.Name() },
	}
	schema := r.Reflect(&Document{})
	schema.ID = ""
	schema.Title = "calltracker configuration"
	for name, definition := range schema.Definitions {
		switch name {
		case "WebCallback": // Ziwo may add keys to its script
			definition.AdditionalProperties = nil
		case "Condition":
			definition.OneOf = []*jsonschema.Schema{
				{Required: []string{"value"}}, {Required: []string{"values"}},
				withProperties(property{"op", &jsonschema.Schema{Const: rules.OpExists}}),
			}
		}
	}
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// notation returns the schema of a type that has a special notation, or nil.
func notation(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[rules.Date]():
		return &jsonschema.Schema{Type: "string", Format: "date"}
	case reflect.TypeFor[rules.Clock]():
		return &jsonschema.Schema{Type: "string", Pattern: `^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$`}
	case reflect.TypeFor[rules.Seconds]():
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(h|m|s))+$`, Examples: []any{"20s", "1m30s"}}
	case reflect.TypeFor[Wait]():
		return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(s|ms))+$`, Examples: []any{"150ms", "0s"}}
	case reflect.TypeFor[rules.Weekday]():
		return oneOf(rules.Weekdays())
	case reflect.TypeFor[rules.Op]():
		return oneOf(rules.Ops())
	case reflect.TypeFor[RecordingStyle]():
		return oneOf(recordingStyles())
	case reflect.TypeFor[rules.Order]():
		return oneOf(rules.Orders())
	case reflect.TypeFor[Secret]():
		return &jsonschema.Schema{Type: "string", Examples: []any{"${env:NAME}", "${secret:name}"}}
	case reflect.TypeFor[Setting](), reflect.TypeFor[rules.Value]():
		return anyOf(kindOf("string"), kindOf("number"), kindOf("boolean"))
	case reflect.TypeFor[KeyList]():
		return anyOf(&jsonschema.Schema{Const: "open"}, &jsonschema.Schema{Type: "array", Items: kindOf("string")})
	case reflect.TypeFor[Translation]():
		return anyOf(kindOf("string"), &jsonschema.Schema{Type: "object", AdditionalProperties: kindOf("string")})
	case reflect.TypeFor[rules.Holiday]():
		date := &jsonschema.Schema{Type: "string", Format: "date"}
		return anyOf(date, object([]string{"from"}, property{"from", date}, property{"to", date}, property{"name", kindOf("string")}))
	case reflect.TypeFor[rules.DID]():
		text := kindOf("string")
		return anyOf(text, object([]string{"did"}, property{"did", text}, property{"label", text}, property{"campaign", text}))
	case reflect.TypeFor[time.Time]():
		return &jsonschema.Schema{Type: "string", Format: "date-time"}
	}
	return nil
}

func kindOf(name string) *jsonschema.Schema { return &jsonschema.Schema{Type: name} }

func anyOf(choices ...*jsonschema.Schema) *jsonschema.Schema {
	return &jsonschema.Schema{AnyOf: choices}
}

func oneOf[T ~string](words []T) *jsonschema.Schema {
	s := kindOf("string")
	for _, w := range words {
		s.Enum = append(s.Enum, string(w))
	}
	return s
}

// property is one key of an object.
type property struct {
	name   string
	schema *jsonschema.Schema
}

func object(required []string, properties ...property) *jsonschema.Schema {
	s := withProperties(properties...)
	s.Type, s.Required, s.AdditionalProperties = "object", required, jsonschema.FalseSchema
	return s
}

func withProperties(properties ...property) *jsonschema.Schema {
	s := &jsonschema.Schema{Properties: jsonschema.NewProperties()}
	for _, p := range properties {
		s.Properties.Set(p.name, p.schema)
	}
	return s
}
