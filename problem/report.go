package problem

import (
	"fmt"
	"iter"
	"slices"
)

// Limits on a report about an input that is wrong throughout.
const (
	MaxErrors = 10_000
	maxHints  = 100 // names for which Unknown searches a similar one
)

// Report collects the problems of one input. After MaxErrors errors it only
// counts further ones, so that a report never grows much larger than the
// input. The zero value is empty.
type Report struct {
	Problems List

	errors int
}

// Errorf adds an error.
func (r *Report) Errorf(path, format string, args ...any) {
	r.Add(Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

// Warnf adds a warning.
func (r *Report) Warnf(path, format string, args ...any) {
	r.Add(Problem{Path: path, Message: fmt.Sprintf(format, args...), Warning: true})
}

// Unknown adds an error about a name that is not among the known ones, and
// suggests a similar one. What is the kind of name, such as "schedule".
func (r *Report) Unknown(path, what, name string, known iter.Seq[string]) {
	hint := ""
	if r.errors < maxHints {
		if similar := Nearest(name, slices.Sorted(known)); similar != "" {
			hint = fmt.Sprintf("; did you mean %q?", similar)
		}
	}
	r.Errorf(path, "unknown %s %q%s", what, Clip(name), hint)
}

// Add adds a problem.
func (r *Report) Add(p Problem) {
	if !p.Warning {
		if r.errors++; r.errors == MaxErrors {
			p.Message = "there are too many errors to list; the list ends here"
		} else if r.errors > MaxErrors {
			return
		}
	}
	r.Problems = append(r.Problems, p)
}
