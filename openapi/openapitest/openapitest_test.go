package openapitest

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

const (
	mediaJSON    = "application/json"
	mediaProblem = "application/problem+json"
	mediaForm    = "application/x-www-form-urlencoded"

	started = `{"result":true,"content":{"didCalled":"067778899"}}`
	problem = `{"type":"about:blank","title":"Not Found","status":404}`
)

// annotated returns the description of the generator's example.
func annotated(t *testing.T) description {
	t.Helper()
	document, err := os.ReadFile("../generate/testdata/annotated.json")
	if err != nil {
		t.Fatal(err)
	}
	d, err := read(document)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCheck(t *testing.T) {
	t.Parallel()
	d := annotated(t)
	tests := []struct {
		name       string
		request    string // method and URL
		reqType    string
		reqBody    string
		status     int
		resType    string
		resBody    string
		want       string // part of the error; empty for none
		reqHeaders map[string]string
	}{
		{
			name: "matching response", request: "GET /api/v1/calls/17", status: 200, resType: mediaJSON,
			resBody: `{"id":"17","startedAt":"2026-03-01T08:00:00Z","direction":"inbound"}`,
		},
		{
			name: "response with a charset", request: "GET /api/v1/calls?limit=3", status: 200, resType: mediaJSON + "; charset=utf-8",
			resBody: `{"calls":[],"next":""}`,
		},
		{
			name: "response without a field", request: "GET /api/v1/calls", status: 200, resType: mediaJSON,
			resBody: `{"calls":[]}`, want: `"next" is missing`,
		},
		{
			name: "null instead of a list", request: "GET /api/v1/calls", status: 200, resType: mediaJSON,
			resBody: `{"calls":null,"next":""}`, want: "not nullable",
		},
		{
			name: "unknown enum value", request: "GET /api/v1/calls/17", status: 200, resType: mediaJSON,
			resBody: `{"id":"17","startedAt":"2026-03-01T08:00:00Z","direction":"sideways"}`, want: "allowed values",
		},
		{
			name: "invalid date-time", request: "GET /api/v1/calls/17", status: 200, resType: mediaJSON,
			resBody: `{"id":"17","startedAt":"yesterday","direction":"inbound"}`, want: "date-time",
		},
		{
			name: "problem", request: "GET /api/v1/calls/17", status: 404, resType: mediaProblem, resBody: problem,
		},
		{
			name: "problem with content type JSON", request: "GET /api/v1/calls/17", status: 404, resType: mediaJSON,
			resBody: problem, want: `undescribed content type "application/json"`,
		},
		{
			name: "any admin operation may answer 401", request: "GET /api/v1/calls", status: 401, resType: mediaProblem, resBody: problem,
		},
		{
			name: "unknown status", request: "GET /api/v1/calls/17", status: 418, resType: mediaProblem, resBody: problem,
			want: "undescribed status 418",
		},
		{
			name: "undescribed redirect", request: "GET /api/v1/calls/17", status: 307, want: "undescribed status 307",
		},
		{
			name: "unknown path", request: "GET /api/v1/cakes", status: 200, resType: mediaJSON, resBody: `{}`,
			want: "undescribed operation",
		},
		{
			name: "unknown method", request: "DELETE /api/v1/calls", status: 200, resType: mediaJSON, resBody: `{}`,
			want: "undescribed operation",
		},
		{
			name: "accepted request with an undescribed parameter", request: "GET /api/v1/calls?color=red", status: 200,
			resType: mediaJSON, resBody: `{"calls":[],"next":""}`, want: `undescribed query parameter "color"`,
		},
		{
			name: "accepted request with a value out of range", request: "GET /api/v1/calls?limit=0", status: 200,
			resType: mediaJSON, resBody: `{"calls":[],"next":""}`, want: `"limit"`,
		},
		{
			name: "rejected request may differ", request: "GET /api/v1/calls?limit=0&color=red", status: 400,
			resType: mediaProblem, resBody: problem,
		},
		{
			name: "CSV body is not checked", request: "GET /api/v1/calls.csv", status: 200, resType: "text/csv; charset=utf-8",
			resBody: "id,\"torn",
		},
		{
			name: "CSV with another content type", request: "GET /api/v1/calls.csv", status: 200, resType: "text/plain",
			resBody: "id", want: `undescribed content type "text/plain"`,
		},
		{
			name: "variable that is a part of a segment", request: "GET /webcallback/my%2Fshop.js", status: 200,
			resType: "text/javascript", resBody: "void 0;",
		},
		{
			name: "YAML request", request: "PUT /api/v1/config", reqType: "application/yaml", reqBody: "trackers: {}\n",
			reqHeaders: map[string]string{"If-Match": "*"}, status: 200, resType: mediaJSON, resBody: `{"version":2}`,
		},
		{
			name: "request without a required header", request: "PUT /api/v1/config", reqType: "application/yaml", reqBody: "trackers: {}\n",
			status: 200, resType: mediaJSON, resBody: `{"version":2}`, want: "If-Match",
		},
		{
			name: "request with another content type", request: "PUT /api/v1/config", reqType: "text/plain", reqBody: "trackers: {}\n",
			reqHeaders: map[string]string{"If-Match": "*"}, status: 200, resType: mediaJSON, resBody: `{"version":2}`, want: "text/plain",
		},
		{
			name: "form", request: "POST /callTrackers/sales/startCall", reqType: mediaForm, reqBody: "didCalled=067778899",
			status: 200, resType: mediaJSON, resBody: started,
		},
		{
			name: "undescribed request body where any is accepted", request: "POST /callTrackers/sales/startCall?didCalled=067778899", reqType: "text/plain",
			reqBody: "?", status: 200, resType: mediaJSON, resBody: started,
		},
		{
			name: "response without a content type", request: "POST /callTrackers/sales/startCall", reqType: mediaForm, reqBody: "didCalled=067778899",
			status: 200, resBody: started, want: `undescribed content type ""`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			method, target, _ := strings.Cut(test.request, " ")
			req, err := http.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8080"+target, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.reqType != "" {
				req.Header.Set("Content-Type", test.reqType)
			}
			for name, value := range test.reqHeaders {
				req.Header.Set(name, value)
			}
			res := &http.Response{StatusCode: test.status, Header: http.Header{}}
			if test.resType != "" {
				res.Header.Set("Content-Type", test.resType)
			}

			err = d.check(t.Context(), req, []byte(test.reqBody), res, []byte(test.resBody))
			switch {
			case test.want == "" && err != nil:
				t.Errorf("unexpected error: %v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error is %v, want one that contains %s", err, test.want)
			}
		})
	}
}

func TestPathWithFewerVariablesComesFirst(t *testing.T) {
	d, err := read([]byte(`{"openapi":"3.0.3","info":{"title":"x","version":"1"},"paths":{
		"/a/{x}/b":{"get":{"responses":{"200":{"description":"OK"}}}},
		"/a/own/b":{"get":{"responses":{"200":{"description":"OK"}}}},
		"/a/{x}/{y}":{"get":{"responses":{"200":{"description":"OK"}}}}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/a/own/b": "/a/own/b", "/a/other/b": "/a/{x}/b", "/a/own/c": "/a/{x}/{y}"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		route, _, err := d.find(req)
		if err != nil {
			t.Fatal(err)
		}
		if route.Path != want {
			t.Errorf("path of %s is %s, want %s", path, route.Path, want)
		}
	}
}

// failureRecorder records the messages of Errorf instead of failing the test.
type failureRecorder struct {
	testing.TB
	messages []string
}

func (f *failureRecorder) Helper() {}

func (f *failureRecorder) Errorf(format string, args ...any) {
	f.messages = append(f.messages, fmt.Sprintf(format, args...))
}

func TestValidateFailsTheTest(t *testing.T) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1/no/such/path", nil)
	if err != nil {
		t.Fatal(err)
	}
	recorder := &failureRecorder{TB: t}
	Validate(recorder, req, nil, &http.Response{Status: "200 OK", StatusCode: http.StatusOK}, []byte("surprise"))
	if len(recorder.messages) != 1 || !strings.Contains(recorder.messages[0], "GET /no/such/path with response 200 OK") ||
		!strings.Contains(recorder.messages[0], "surprise") {
		t.Errorf("messages are %q, want one with the request and the response", recorder.messages)
	}
}

func TestRoutesAreFound(t *testing.T) {
	d, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	for route := range Routes(t) {
		method, path, _ := strings.Cut(route, " ")
		req, err := http.NewRequestWithContext(t.Context(), method, path, nil)
		if err != nil {
			t.Fatal(err)
		}
		found, _, err := d.find(req)
		if err != nil || found.Path != path {
			t.Errorf("find for %s returned %v, %v", route, found, err)
		}
	}
}
