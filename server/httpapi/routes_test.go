package httpapi

import (
	"slices"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"calltracker/openapi/openapitest"
)

// TestEveryRouteIsDescribed compares the routes with the description in both
// directions.
func TestEveryRouteIsDescribed(t *testing.T) {
	e := echo.New()
	New(Options{Registry: prometheus.NewRegistry()}).routes(e)
	pages := []string{"GET /", "GET /docs", "GET /docs/*", "GET /assets/{file}"} // web pages, not part of the API
	described := openapitest.Routes(t)
	served := map[string]bool{}
	for _, r := range e.Routes() {
		path := r.Path
		for part := range strings.SplitSeq(path, "/") {
			if name, ok := strings.CutPrefix(part, ":"); ok {
				path = strings.Replace(path, part, "{"+name+"}", 1)
			}
		}
		route := r.Method + " " + path
		served[route] = true
		if !described[route] && !slices.Contains(pages, route) {
			t.Errorf("%s is served but not described", route)
		}
	}
	for route := range described {
		if !served[route] {
			t.Errorf("%s is described but not served", route)
		}
	}
}
