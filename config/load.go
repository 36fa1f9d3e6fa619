package config

import (
	"calltracker/problem"
	"calltracker/rules"
)

// Driver holds the data for validating the connections to one kind of CRM.
type Driver struct {
	Name    string
	Secrets []string // settings that are secret
	Check   func(settings map[string]string) []SettingProblem
}

// SettingProblem is one thing that is wrong with a setting of a connection. The
// message does not quote the value.
type SettingProblem struct{ Setting, Message string }

// Load parses a document, compiles its routing, and validates the rest. It
// returns all problems in the order of their lines. The set is nil if there are
// errors; the document is never nil, but with errors it is incomplete. Without
// drivers, the settings of connections are not checked.
func Load(text []byte, format Format, resolve Resolver, drivers ...Driver) (*Document, *rules.Set, problem.List) {
	doc, problems := Parse(text, format, resolve)
	if len(problems.Errors()) >= problem.MaxErrors {
		return doc, nil, problems
	}
	v := newValidator(doc, problems, drivers)
	set, routing := rules.Compile(doc.routing(v.incomplete))
	v.validate()
	for _, found := range []problem.List{routing, v.Problems} {
		for _, p := range found {
			p.Line, p.Column = doc.Position(p.Path)
			problems = append(problems, p)
		}
	}
	problems.Sort()
	if len(problems.Errors()) > 0 {
		return doc, nil, problems
	}
	return doc, set, problems
}

// routing returns the part of the document that the rules are compiled from.
func (d *Document) routing(incomplete func(path string) bool) rules.Source {
	trackers := make(map[string]rules.Tracker, len(d.Trackers))
	for id, t := range d.Trackers {
		trackers[id] = rules.Tracker{
			ContactCenter: d.contactCenter(t), Region: t.Region, Timezone: t.Timezone,
			Numbers: t.Numbers, CallerID: t.CallerID, Routes: t.Routes,
		}
	}
	return rules.Source{Calendars: d.Calendars, Schedules: d.Schedules, Trackers: trackers, Incomplete: incomplete}
}

// contactCenter returns the contact center of a tracker: the one it names, or
// the only one of the document. Without this, a call that is reported both by
// its tracker and by the webhook would be stored as two calls.
func (d *Document) contactCenter(t Tracker) string {
	if t.ContactCenter == "" && len(d.ContactCenters) == 1 {
		for name := range d.ContactCenters {
			return name
		}
	}
	return t.ContactCenter
}
