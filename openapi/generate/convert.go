package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/getkin/kin-openapi/openapi2"
	"github.com/getkin/kin-openapi/openapi2conv"
	"github.com/getkin/kin-openapi/openapi3"
)

const (
	adminPrefix = "/api/v1/"

	// anyBody is the extension by which an annotation says that the described
	// bodies are the usual ones, and that everything else is read too.
	anyBody = "x-any-body"

	// script is the extension of an operation that serves a script under one name
	// and its configuration as JSON under another.
	script = "x-script"

	// problemSchema is what the type that is sent as application/problem+json
	// is called, capitalised.
	problemSchema = "Problem"

	mediaScript  = "text/javascript"
	mediaJSON    = "application/json"
	mediaProblem = "application/problem+json" // RFC 9457
)

// convert turns swag's Swagger 2.0 into OpenAPI 3.0, the same bytes for the same
// input, and adds what Swagger 2.0 has no words for:
//
//   - the server is the one that served the document;
//   - an API key in the Authorization header is a bearer token;
//   - errors are JSON whatever the operation produces, and problem+json where they are a
//     Problem, as all are below /api/v1/, where any operation may also answer 401, 429 and 500;
//   - an operation may read bodies of any type (@x-any-body true);
//   - an operation may serve scripts and JSON, and its errors in both ways, as a
//     script that complains and as a problem (@x-script true).
//
// Types lose their package, since its name means nothing to whoever calls the
// API. An operation without an @ID gets one of its method and path; one without a
// @Summary is an error.
func convert(ctx context.Context, swagger []byte) ([]byte, error) {
	swagger, err := publicNames(swagger)
	if err != nil {
		return nil, err
	}
	var doc2 openapi2.T
	if err := json.Unmarshal(swagger, &doc2); err != nil {
		return nil, fmt.Errorf("read Swagger 2.0: %w", err)
	}
	doc, err := openapi2conv.ToV3(&doc2)
	if err != nil {
		return nil, fmt.Errorf("convert to OpenAPI 3.0: %w", err)
	}

	doc.Servers = openapi3.Servers{{URL: "/"}}
	doc.Info.Contact = nil // swag writes an empty one
	for _, scheme := range doc.Components.SecuritySchemes {
		bearer(scheme.Value)
	}
	var problems []error
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			if err := complete(doc, method, path, operation); err != nil {
				problems = append(problems, fmt.Errorf("%s %s: %w", method, path, err))
			}
		}
	}
	if err := sorted(problems); err != nil {
		return nil, err
	}
	if err := doc.Validate(ctx); err != nil {
		return nil, fmt.Errorf("the description is not valid: %w", err)
	}
	return pretty(doc)
}

// complete says of one operation what its annotations could not.
func complete(doc *openapi3.T, method, path string, operation *openapi3.Operation) error {
	if operation.OperationID == "" {
		operation.OperationID = operationID(method, path)
	}
	if operation.Summary == "" {
		return errors.New("no @Summary")
	}
	body(operation)
	if operation.Extensions[script] == true {
		return scriptAndJSON(doc, operation)
	}

	errorMedia := mediaJSON
	if strings.HasPrefix(path, adminPrefix) {
		errorMedia = mediaProblem
		problem, ok := doc.Components.Schemas[problemSchema]
		if !ok {
			return fmt.Errorf("no type is called %s", problemSchema)
		}
		for _, status := range []int{http.StatusUnauthorized, http.StatusTooManyRequests, http.StatusInternalServerError} {
			if operation.Responses.Status(status) == nil {
				operation.AddResponse(status, openapi3.NewResponse().
					WithDescription(http.StatusText(status)).
					WithJSONSchemaRef(openapi3.NewSchemaRef("#/components/schemas/"+problemSchema, problem.Value)))
			}
		}
	}
	for status, response := range operation.Responses.Map() {
		if code, err := strconv.Atoi(status); err == nil && code < http.StatusBadRequest {
			continue
		}
		if schema := described(response.Value); schema != nil {
			media := errorMedia
			if schema.Ref == "#/components/schemas/"+problemSchema {
				media = mediaProblem
			}
			response.Value.Content = openapi3.Content{media: openapi3.NewMediaType().WithSchemaRef(schema)}
		} else if errorMedia == mediaProblem {
			return fmt.Errorf("the answer %s has no {object}", status)
		}
	}
	return nil
}

// scriptAndJSON gives the answers of an operation both of their types.
func scriptAndJSON(doc *openapi3.T, operation *openapi3.Operation) error {
	delete(operation.Extensions, script)
	problem, ok := doc.Components.Schemas[problemSchema]
	if !ok {
		return fmt.Errorf("no type is called %s", problemSchema)
	}
	text := openapi3.NewMediaType().WithSchema(openapi3.NewStringSchema())
	for status, response := range operation.Responses.Map() {
		switch code, err := strconv.Atoi(status); {
		case err == nil && code == http.StatusNotModified:
		case err == nil && code < http.StatusBadRequest:
			response.Value.Content = openapi3.Content{mediaScript: text, mediaJSON: openapi3.NewMediaType().WithSchema(openapi3.NewObjectSchema())}
		default:
			response.Value.Content = openapi3.Content{
				mediaScript:  text,
				mediaProblem: openapi3.NewMediaType().WithSchemaRef(openapi3.NewSchemaRef("#/components/schemas/"+problemSchema, problem.Value)),
			}
		}
	}
	return nil
}

// operationID names an operation for generated clients: GET /api/v1/calls/{id}
// is getCallsById.
func operationID(method, path string) string {
	path = strings.TrimPrefix(path, strings.TrimSuffix(adminPrefix, "/"))
	path = strings.ReplaceAll(path, "{", "by/")
	words := strings.FieldsFunc(path, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for i, word := range words {
		words[i] = capitalised(word)
	}
	return strings.ToLower(method) + strings.Join(words, "")
}

func capitalised(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// described returns the schema of a response that is an object; nil when it is
// text or nothing, which is sent as it was annotated.
func described(response *openapi3.Response) *openapi3.SchemaRef {
	for _, media := range response.Content {
		if media.Schema != nil && (media.Schema.Ref != "" || media.Schema.Value.Type.Is(openapi3.TypeObject)) {
			return media.Schema
		}
	}
	return nil
}

// body drops what the conversion notes for its own way back, and widens the
// body of an operation that reads anything.
func body(operation *openapi3.Operation) {
	if operation.RequestBody != nil {
		delete(operation.RequestBody.Value.Extensions, "x-originalParamName")
		for _, media := range operation.RequestBody.Value.Content {
			for _, property := range media.Schema.Value.Properties {
				delete(property.Value.Extensions, "x-formData-name")
			}
		}
	}
	if operation.Extensions[anyBody] != true {
		return
	}
	delete(operation.Extensions, anyBody)
	if operation.RequestBody == nil {
		operation.RequestBody = &openapi3.RequestBodyRef{Value: openapi3.NewRequestBody()}
	}
	request := operation.RequestBody.Value
	request.Required = false
	if request.Content == nil {
		request.Content = openapi3.NewContent()
	}
	request.Content["*/*"] = openapi3.NewMediaType()
}

// bearer corrects the way in which Swagger 2.0 has to describe bearer tokens.
func bearer(scheme *openapi3.SecurityScheme) {
	if scheme.Type == "apiKey" && scheme.In == openapi3.ParameterInHeader && scheme.Name == "Authorization" {
		scheme.Type, scheme.Scheme = "http", "bearer"
		scheme.In, scheme.Name = "", ""
	}
}

// publicNames takes Go out of the definitions: "storage.call" is called Call,
// and the names of constants go.
func publicNames(swagger []byte) ([]byte, error) {
	var doc map[string]any
	if err := json.Unmarshal(swagger, &doc); err != nil {
		return nil, fmt.Errorf("read Swagger 2.0: %w", err)
	}
	definitions, _ := doc["definitions"].(map[string]any)
	public := make(map[string]any, len(definitions))
	names := make(map[string]string, len(definitions))
	for _, name := range slices.Sorted(maps.Keys(definitions)) {
		short := capitalised(name[strings.Index(name, ".")+1:])
		if _, taken := public[short]; taken {
			return nil, fmt.Errorf("two types are called %s, one of them %s: rename it with a comment `// @name`", short, name)
		}
		public[short] = definitions[name]
		names["#/definitions/"+name] = "#/definitions/" + short
	}
	if len(public) > 0 {
		doc["definitions"] = public
	}
	rename(doc, names)
	return json.Marshal(doc)
}

// rename walks through a JSON value, replaces references and drops what names
// Go constants.
func rename(value any, references map[string]string) {
	switch value := value.(type) {
	case map[string]any:
		delete(value, "x-enum-varnames")
		delete(value, "x-enum-comments")
		if ref, ok := value["$ref"].(string); ok && references[ref] != "" {
			value["$ref"] = references[ref]
		}
		for _, member := range value {
			rename(member, references)
		}
	case []any:
		for _, element := range value {
			rename(element, references)
		}
	}
}

// sorted joins errors that were found in the order of a map.
func sorted(problems []error) error {
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}

// pretty writes JSON for people and for diffs: keys in order, one a line.
func pretty(doc *openapi3.T) ([]byte, error) {
	compact, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(compact))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
