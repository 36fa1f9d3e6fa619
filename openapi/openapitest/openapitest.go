// Package openapitest holds a server to the description of its HTTP API: what
// it is asked and answers in a test has to be what openapi.Document says.
package openapitest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"calltracker/openapi"
)

// Routes returns every operation that is described, such as
// "GET /api/v1/calls/{id}".
func Routes(t testing.TB) map[string]bool {
	t.Helper()
	described, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	routes := make(map[string]bool)
	for path, item := range described.doc.Paths.Map() {
		for method := range item.Operations() {
			routes[method+" "+path] = true
		}
	}
	return routes
}

// Validate fails the test unless the description has the operation, the status
// and the type of the answer, and a JSON or YAML answer has the described shape.
//
// A request that was accepted (status below 400) has to be as described, too,
// query parameters included; one that was refused may have been wrong in any
// way. Where any body is accepted (*/*), what was sent is not looked at.
//
// The bodies are passed apart since those of req and res have been read by then.
func Validate(t testing.TB, req *http.Request, reqBody []byte, res *http.Response, resBody []byte) {
	t.Helper()
	described, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	if err := described.check(t.Context(), req, reqBody, res, resBody); err != nil {
		const shown = 2000
		t.Errorf("%s %s answered %s, which is not as openapi.json describes it: %v\nanswer: %.*q",
			req.Method, req.URL.Path, res.Status, err, shown, resBody)
	}
}

func (d description) check(ctx context.Context, req *http.Request, reqBody []byte, res *http.Response, resBody []byte) error {
	route, variables, err := d.find(req)
	if err != nil {
		return err
	}
	sent := req.Clone(ctx)
	sent.Body = io.NopCloser(bytes.NewReader(reqBody))
	input := &openapi3filter.RequestValidationInput{
		Request:    sent,
		PathParams: variables,
		Route:      route,
		Options:    &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
	}
	if res.StatusCode < http.StatusBadRequest {
		if err := checkRequest(ctx, input); err != nil {
			return err
		}
	}
	return checkResponse(ctx, input, res, resBody)
}

func checkRequest(ctx context.Context, input *openapi3filter.RequestValidationInput) error {
	if body := input.Route.Operation.RequestBody; body != nil && body.Value.Content["*/*"] != nil {
		input.Options.ExcludeRequestBody = true
	} else {
		parameters := input.Route.Operation.Parameters
		for name := range input.Request.URL.Query() {
			if parameters.GetByInAndName(openapi3.ParameterInQuery, name) == nil {
				return fmt.Errorf("query parameter %q is not described", name)
			}
		}
	}
	return openapi3filter.ValidateRequest(ctx, input)
}

func checkResponse(ctx context.Context, request *openapi3filter.RequestValidationInput, res *http.Response, body []byte) error {
	described := request.Route.Operation.Responses.Status(res.StatusCode)
	if described == nil {
		return fmt.Errorf("status %d is not described", res.StatusCode)
	}
	if len(body) == 0 && len(described.Value.Content) == 0 {
		return nil
	}
	contentType := res.Header.Get("Content-Type")
	if described.Value.Content.Get(contentType) == nil {
		return fmt.Errorf("a body of type %q is not described", contentType)
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request,
		Status:                 res.StatusCode,
		Header:                 res.Header,
		Options:                &openapi3filter.Options{ExcludeResponseBody: !structured(contentType)},
	}
	input.SetBodyBytes(body)
	return openapi3filter.ValidateResponse(ctx, input)
}

// structured tells whether a body of the type has a shape that can be checked.
func structured(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	return media == "application/json" || strings.HasSuffix(media, "+json") || media == "application/yaml"
}

// description is an OpenAPI document, ready to find operations in.
type description struct {
	doc       *openapi3.T
	templates []template
}

// embedded is the description in the program, read once: that takes longer than
// many a test.
var embedded = sync.OnceValues(func() (description, error) { return read(openapi.Document()) })

func read(document []byte) (description, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return description{}, fmt.Errorf("read the description: %w", err)
	}
	return description{doc, templates(doc.Paths)}, nil
}

// find returns the operation that a request is for, and what stands for the
// variables of its path.
func (d description) find(req *http.Request) (*routers.Route, map[string]string, error) {
	for _, template := range d.templates {
		values := template.pattern.FindStringSubmatch(req.URL.EscapedPath())
		item := d.doc.Paths.Value(template.path)
		operation := item.Operations()[req.Method]
		if values == nil || operation == nil {
			continue
		}
		variables := make(map[string]string, len(template.variables))
		for i, name := range template.variables {
			value, err := url.PathUnescape(values[i+1])
			if err != nil {
				return nil, nil, fmt.Errorf("path variable %s: %w", name, err)
			}
			variables[name] = value
		}
		route := &routers.Route{Spec: d.doc, Path: template.path, PathItem: item, Method: req.Method, Operation: operation}
		return route, variables, nil
	}
	return nil, nil, errors.New("the operation is not described")
}
