// Package problem describes what is wrong with an input and where. All packages that check
// an input share it, from the routing engine to the HTTP layer.
package problem

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is an error or a warning about an input.
type Problem struct {
	Line    int    `json:"line,omitempty"`   // from 1; 0 if the input has no text
	Column  int    `json:"column,omitempty"` // from 1, in characters
	Path    string `json:"path"`             // such as "trackers.sales.routes[1].during[0]"
	Message string `json:"message"`
	Warning bool   `json:"-"` // the input can be used, but probably not as intended
} // @name FieldError

// String returns the problem as a compiler prints it, without a file name.
func (p Problem) String() string {
	var out strings.Builder
	if p.Line > 0 {
		fmt.Fprintf(&out, "%d:%d: ", p.Line, p.Column)
	}
	if p.Warning {
		out.WriteString("warning: ")
	}
	if p.Path != "" {
		out.WriteString(p.Path + ": ")
	}
	out.WriteString(p.Message)
	return out.String()
}

// List is a list of problems of one input.
type List []Problem

// Errors returns the problems that prevent the input from being used.
func (l List) Errors() List { return l.filter(false) }

// Warnings returns the problems that do not prevent the input from being used.
func (l List) Warnings() List { return l.filter(true) }

func (l List) filter(warnings bool) List {
	var out List
	for _, p := range l {
		if p.Warning == warnings {
			out = append(out, p)
		}
	}
	return out
}

// Sort orders the problems by line and column, then by path and message.
func (l List) Sort() {
	slices.SortStableFunc(l, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
}

// Invalid is the error for an input that cannot be used.
type Invalid struct{ Problems List }

// Error returns all problems on one line.
func (e *Invalid) Error() string {
	messages := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		messages[i] = p.Path + ": " + p.Message
	}
	return strings.Join(messages, "; ")
}

// Paths returns the paths of the problems. Unlike the messages, they do not
// quote the input.
func (e *Invalid) Paths() []string {
	paths := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		paths[i] = p.Path
	}
	return paths
}

// Errorf returns an *Invalid with the one problem at path.
func Errorf(path, format string, args ...any) error {
	return &Invalid{Problems: List{{Path: path, Message: fmt.Sprintf(format, args...)}}}
}
