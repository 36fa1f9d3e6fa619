package crm

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Settings are the values of a driver's fields, by name.
type Settings map[string]string

// Field is one setting of a driver.
type Field struct {
	Name     string
	Label    string
	Help     string
	Required bool
	Secret   bool
	Pattern  string // the whole value has to match this regular expression; "" for any
	Default  string
	Page     bool // a page of the account: on the host of the driver's Pages
}

// Problem is one thing wrong with settings. It quotes no value.
type Problem struct {
	Field   string // empty: the settings as a whole
	Message string
}

// Check completes the settings with defaults and tells everything that is wrong
// with them, in the order of the fields.
func (d Driver) Check(given Settings) (Settings, []Problem) {
	complete := Settings{}
	var problems []Problem
	known := map[string]bool{}
	for _, f := range d.Fields {
		known[f.Name] = true
		value := given[f.Name]
		if value == "" {
			value = f.Default
		}
		switch {
		case value == "" && f.Required:
			problems = append(problems, Problem{f.Name, fmt.Sprintf("%s needs %s (%s)", d.Name, f.Name, f.Label)})
		case value == "":
		case f.Pattern != "" && !regexp.MustCompile(`^(?:`+f.Pattern+`)$`).MatchString(value):
			problems = append(problems, Problem{f.Name, fmt.Sprintf("this is not what %s expects here: %s", d.Name, f.Help)})
		default:
			complete[f.Name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !known[name] {
			names := make([]string, len(d.Fields))
			for i, f := range d.Fields {
				names[i] = f.Name
			}
			problems = append(problems, Problem{name, fmt.Sprintf("%s has no such setting; it takes %s", d.Name, strings.Join(names, ", "))})
		}
	}
	if len(problems) > 0 {
		return complete, problems
	}
	for _, f := range d.Fields {
		if value := complete[f.Name]; f.Page && value != "" && d.Pages != nil && !strings.EqualFold(pageHost(value), pageHost(d.Pages(complete))) {
			problems = append(problems, Problem{f.Name, fmt.Sprintf("browsers are sent to the host of the account's own pages only: %s", f.Help)})
		}
	}
	if d.Validate != nil {
		problems = append(problems, d.Validate(complete)...)
	}
	return complete, problems
}
