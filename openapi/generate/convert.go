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

	// anyBodyExtension is the extension of an operation that also accepts bodies of types
	// that are not described.
	anyBodyExtension = "x-any-body"

	// scriptExtension is the extension of an operation that serves a script under one name
	// and its configuration as JSON under another.
	scriptExtension = "x-script"

	// problemSchema is the capitalized name of the type that is sent as
	// application/problem+json.
	problemSchema = "Problem"

	mediaScript  = "text/javascript"
	mediaJSON    = "application/json"
	mediaProblem = "application/problem+json" // RFC 9457
)

// convert turns the Swagger 2.0 that swag writes into OpenAPI 3.0. The same input
// always gives the same bytes. It adds what Swagger 2.0 cannot express, and what is
// the same for all APIs of this module:
//
//   - The server is the one that serves the document.
//   - The contact, the license and the tags are those in info.go.
//   - An API key in the Authorization header is a bearer token.
//   - Errors are JSON, regardless of what the operation produces. A Problem is problem+json.
//     All errors under /api/v1/ are Problems, and every operation there may also
//     answer 401, 429 and 500.
//   - An operation may accept bodies of any type (@x-any-body true).
//   - An operation may serve a script and JSON. Its errors then have both types too,
//     a script that logs the error and a Problem (@x-script true).
//
// Schema names lose their package, which means nothing to API clients. An operation
// without an @ID gets one from its method and path. An operation without a @Summary,
// or without a tag of info.go, is an error.
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

	doc.Servers = openapi3.Servers{{URL: "/", Description: "The server that serves this description"}}
	doc.Info.Contact = &openapi3.Contact{Name: contactName}
	doc.Info.License = &openapi3.License{Name: licenseName, URL: licenseURL}
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
	if err := joinSorted(problems); err != nil {
		return nil, err
	}
	doc.Tags = usedTags(doc.Paths)
	if err := doc.Validate(ctx); err != nil {
		return nil, fmt.Errorf("invalid description: %w", err)
	}
	return pretty(doc)
}

// complete adds to an operation what its annotations cannot express.
func complete(doc *openapi3.T, method, path string, operation *openapi3.Operation) error {
	if operation.OperationID == "" {
		operation.OperationID = operationID(method, path)
	}
	if operation.Summary == "" {
		return errors.New("no @Summary")
	}
	if err := checkTags(operation.Tags); err != nil {
		return err
	}
	completeBody(operation)
	if operation.Extensions[scriptExtension] == true {
		return scriptAndJSON(doc, operation)
	}

	errorMedia := mediaJSON
	if strings.HasPrefix(path, adminPrefix) {
		errorMedia = mediaProblem
		problem, ok := doc.Components.Schemas[problemSchema]
		if !ok {
			return fmt.Errorf("missing type %s", problemSchema)
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
		if schema := objectSchema(response.Value); schema != nil {
			media := errorMedia
			if schema.Ref == "#/components/schemas/"+problemSchema {
				media = mediaProblem
			}
			response.Value.Content = openapi3.Content{media: openapi3.NewMediaType().WithSchemaRef(schema)}
		} else if errorMedia == mediaProblem {
			return fmt.Errorf("response %s has no {object}", status)
		}
	}
	return nil
}

// scriptAndJSON gives the responses of an operation both of their media types.
func scriptAndJSON(doc *openapi3.T, operation *openapi3.Operation) error {
	delete(operation.Extensions, scriptExtension)
	problem, ok := doc.Components.Schemas[problemSchema]
	if !ok {
		return fmt.Errorf("missing type %s", problemSchema)
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

// operationID returns the name of an operation in generated clients. That of GET
// /api/v1/calls/{id} is getCallsById.
func operationID(method, path string) string {
	path = strings.TrimPrefix(path, strings.TrimSuffix(adminPrefix, "/"))
	path = strings.ReplaceAll(path, "{", "by/")
	words := strings.FieldsFunc(path, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for i, word := range words {
		words[i] = capitalize(word)
	}
	return strings.ToLower(method) + strings.Join(words, "")
}

func capitalize(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// objectSchema returns the schema of a response that is an object. It returns nil
// if the response is text or empty; those keep their annotated media type.
func objectSchema(response *openapi3.Response) *openapi3.SchemaRef {
	for _, media := range response.Content {
		if media.Schema != nil && (media.Schema.Ref != "" || media.Schema.Value.Type.Is(openapi3.TypeObject)) {
			return media.Schema
		}
	}
	return nil
}

// completeBody removes the extensions that openapi2conv adds for its reverse
// conversion, and lets an operation with anyBodyExtension accept any type.
func completeBody(operation *openapi3.Operation) {
	if operation.RequestBody != nil {
		delete(operation.RequestBody.Value.Extensions, "x-originalParamName")
		for _, media := range operation.RequestBody.Value.Content {
			for _, property := range media.Schema.Value.Properties {
				delete(property.Value.Extensions, "x-formData-name")
			}
		}
	}
	if operation.Extensions[anyBodyExtension] != true {
		return
	}
	delete(operation.Extensions, anyBodyExtension)
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

// bearer turns an API key in the Authorization header, which is how Swagger 2.0
// describes a bearer token, into a bearer token.
func bearer(scheme *openapi3.SecurityScheme) {
	if scheme.Type == "apiKey" && scheme.In == openapi3.ParameterInHeader && scheme.Name == "Authorization" {
		scheme.Type, scheme.Scheme = "http", "bearer"
		scheme.In, scheme.Name = "", ""
	}
}

// publicNames removes Go names from the definitions: "storage.call" becomes Call,
// and the names of constants are dropped.
func publicNames(swagger []byte) ([]byte, error) {
	var doc map[string]any
	if err := json.Unmarshal(swagger, &doc); err != nil {
		return nil, fmt.Errorf("read Swagger 2.0: %w", err)
	}
	definitions, _ := doc["definitions"].(map[string]any)
	public := make(map[string]any, len(definitions))
	names := make(map[string]string, len(definitions))
	for _, name := range slices.Sorted(maps.Keys(definitions)) {
		short := capitalize(name[strings.Index(name, ".")+1:])
		if _, taken := public[short]; taken {
			return nil, fmt.Errorf("two types are named %s, one of them %s: rename one with a comment `// @name`", short, name)
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

// rename replaces references in a JSON value, and drops the names of Go constants.
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

// joinSorted joins errors that were found in the order of a map.
func joinSorted(problems []error) error {
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}

// pretty returns indented JSON with sorted keys, which people can read and diff.
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
