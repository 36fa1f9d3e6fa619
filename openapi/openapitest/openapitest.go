// Package openapitest checks that the requests and responses of a server in tests
// match openapi.Document.
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

// Routes returns the set of described operations, such as "GET /api/v1/calls/{id}".
func Routes(t testing.TB) map[string]bool {
	t.Helper()
	d, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	routes := make(map[string]bool)
	for path, item := range d.doc.Paths.Map() {
		for method := range item.Operations() {
			routes[method+" "+path] = true
		}
	}
	return routes
}

// Validate fails the test unless the description has the operation, and the status
// and content type of the response, and a JSON or YAML response matches its schema.
//
// If the server accepted the request (status below 400), the request must match the
// description too, including its query parameters. A rejected request may differ
// from it. If the operation accepts any body (*/*), the request body is not checked.
//
// reqBody and resBody are separate parameters because the bodies of req and res have
// already been read.
func Validate(t testing.TB, req *http.Request, reqBody []byte, res *http.Response, resBody []byte) {
	t.Helper()
	d, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.check(t.Context(), req, reqBody, res, resBody); err != nil {
		const shown = 2000
		t.Errorf("%s %s with response %s does not match openapi.json: %v\nresponse: %.*q",
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
				return fmt.Errorf("undescribed query parameter %q", name)
			}
		}
	}
	return openapi3filter.ValidateRequest(ctx, input)
}

func checkResponse(ctx context.Context, request *openapi3filter.RequestValidationInput, res *http.Response, body []byte) error {
	response := request.Route.Operation.Responses.Status(res.StatusCode)
	if response == nil {
		return fmt.Errorf("undescribed status %d", res.StatusCode)
	}
	if len(body) == 0 && len(response.Value.Content) == 0 {
		return nil
	}
	contentType := res.Header.Get("Content-Type")
	if response.Value.Content.Get(contentType) == nil {
		return fmt.Errorf("undescribed content type %q", contentType)
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: request,
		Status:                 res.StatusCode,
		Header:                 res.Header,
		Options:                &openapi3filter.Options{ExcludeResponseBody: !hasSchema(contentType)},
	}
	input.SetBodyBytes(body)
	return openapi3filter.ValidateResponse(ctx, input)
}

// hasSchema reports whether bodies of a content type can be checked against a
// schema.
func hasSchema(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	return media == "application/json" || strings.HasSuffix(media, "+json") || media == "application/yaml"
}

// description is a parsed OpenAPI document.
type description struct {
	doc       *openapi3.T
	templates []template
}

// embedded returns the embedded description. It is parsed once, because parsing
// takes longer than many tests.
var embedded = sync.OnceValues(func() (description, error) { return read(openapi.Document()) })

func read(document []byte) (description, error) {
	doc, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return description{}, fmt.Errorf("read description: %w", err)
	}
	return description{doc, templates(doc.Paths)}, nil
}

// find returns the operation of a request, and the values of the variables in its
// path.
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
	return nil, nil, errors.New("undescribed operation")
}
