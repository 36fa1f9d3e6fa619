package openapitest

import (
	"cmp"
	"regexp"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

// template is the path of an operation. The routers of kin-openapi do not support
// a variable that is only a part of a segment ("/jorel/{site}.js").
type template struct {
	path      string
	pattern   *regexp.Regexp
	variables []string
}

// templates returns the paths in the order in which find tries them: the paths with
// the fewest variables come first ("/callTrackers/example/startCall" before
// "/callTrackers/{tracker}/startCall").
func templates(paths *openapi3.Paths) []template {
	variable := regexp.MustCompile(`\{([^}]+)\}`)
	var all []template
	for path := range paths.Map() {
		t := template{path: path}
		pattern, end := "^", 0
		for _, at := range variable.FindAllStringSubmatchIndex(path, -1) {
			pattern += regexp.QuoteMeta(path[end:at[0]]) + "([^/]+)"
			t.variables = append(t.variables, path[at[2]:at[3]])
			end = at[1]
		}
		t.pattern = regexp.MustCompile(pattern + regexp.QuoteMeta(path[end:]) + "$")
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b template) int {
		return cmp.Or(cmp.Compare(len(a.variables), len(b.variables)), cmp.Compare(a.path, b.path))
	})
	return all
}
