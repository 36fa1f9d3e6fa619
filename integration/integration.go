// Package integration describes the settings of a driver as data. A driver for a
// CRM or a feed lists its fields. From that list the server validates settings,
// documents them, redacts secrets, and draws the form.
//
// The package is separate because several kinds of drivers share it.
package integration

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Settings are the values of a driver's fields, by field name.
type Settings map[string]string

// Field is one setting of a driver.
type Field struct {
	Name     string
	Label    string
	Help     string // completes "use …", as in "use https://acme.example.com"
	Required bool
	Secret   bool   // never shown
	Pattern  string // regular expression for the whole value; "" accepts any value
	Default  string
}

// APIURLPattern is the Pattern of a field that holds the URL of an API. It accepts
// HTTPS, and plain HTTP on the loopback interface.
const APIURLPattern = `https://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~/-]*)?|http://(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?`

// PageURLPattern is the Pattern of a field that holds the URL of a web page. It
// accepts only HTTPS.
const PageURLPattern = `https://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~/-]*)?`

// Fields are all settings of a driver, in the order in which a form shows them.
type Fields []Field

// Problem is one error in settings. It never quotes a value.
type Problem struct {
	Field   string // name of the field; "" for the settings as a whole
	Message string
}

// Check returns the settings with defaults filled in, and every problem in them.
// Problems with known fields come first, in the order of the fields; unknown
// settings follow, sorted by name. The driver's name appears in the messages.
func (f Fields) Check(driver string, given Settings) (Settings, []Problem) {
	complete := Settings{}
	var problems []Problem
	names := make([]string, len(f))
	for i, field := range f {
		names[i] = field.Name
		value := given[field.Name]
		if value == "" {
			value = field.Default
		}
		switch {
		case value == "" && field.Required:
			problems = append(problems, Problem{field.Name, fmt.Sprintf("%s requires %s (%s)", driver, field.Name, field.Label)})
		case value == "":
		case field.Pattern != "" && !regexp.MustCompile(`^(?:`+field.Pattern+`)$`).MatchString(value):
			problems = append(problems, Problem{field.Name, fmt.Sprintf("invalid %s for %s: use %s", field.Name, driver, field.Help)})
		default:
			complete[field.Name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !slices.Contains(names, name) {
			problems = append(problems, Problem{name, fmt.Sprintf("unknown setting for %s: use %s", driver, strings.Join(names, ", "))})
		}
	}
	return complete, problems
}

// Secrets returns the names of the fields whose values must be redacted.
func (f Fields) Secrets() []string {
	var names []string
	for _, field := range f {
		if field.Secret {
			names = append(names, field.Name)
		}
	}
	return names
}
