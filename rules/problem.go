package rules

import (
	"cmp"
	"fmt"
	"slices"
)

// Problem is one thing wrong with a document, and where.
type Problem struct {
	Line    int    `json:"line"`   // from 1; 0 when the document has no text
	Column  int    `json:"column"` // from 1, in characters
	Path    string `json:"path"`   // "trackers.sales.routes[1].during[0]"
	Message string `json:"message"`
	Warning bool   `json:"-"` // it works, but hardly as meant
}

// String is the problem as a compiler would print it, without a file name.
func (p Problem) String() string {
	severity := ""
	if p.Warning {
		severity = "warning: "
	}
	where := ""
	if p.Path != "" {
		where = p.Path + ": "
	}
	return fmt.Sprintf("%d:%d: %s%s%s", p.Line, p.Column, severity, where, p.Message)
}

// Problems are all that was found in a document, in the order of its lines.
type Problems []Problem

// Errors are the problems that keep the document from being used.
func (ps Problems) Errors() Problems { return ps.only(false) }

// Warnings are the problems that do not.
func (ps Problems) Warnings() Problems { return ps.only(true) }

func (ps Problems) only(warnings bool) Problems {
	var out Problems
	for _, p := range ps {
		if p.Warning == warnings {
			out = append(out, p)
		}
	}
	return out
}

func (ps Problems) sort() {
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Path, b.Path), cmp.Compare(a.Message, b.Message))
	})
}
