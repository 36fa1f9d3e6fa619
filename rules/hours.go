package rules

import "time"

// Hours combines the opening hours of several schedules: it is open while any of
// them is open. The zero value has no schedules and is always open. Hours is
// immutable.
type Hours struct{ schedules []*schedule }

// Hours returns the opening hours of the named schedules. It ignores unknown names.
func (s *Set) Hours(names []string) Hours {
	var h Hours
	for _, name := range names {
		if found, ok := s.schedules[name]; ok {
			h.schedules = append(h.schedules, found)
		}
	}
	return h
}

// Always reports whether the hours have no schedules.
func (h Hours) Always() bool { return len(h.schedules) == 0 }

// Open reports whether any schedule is open at an instant.
func (h Hours) Open(at time.Time) bool {
	for _, s := range h.schedules {
		if s.open(at) {
			return true
		}
	}
	return h.Always()
}

// Change returns the first instant after at, and not after limit, at which the
// hours open or close. It returns false if there is none.
func (h Hours) Change(at, limit time.Time) (time.Time, bool) {
	for now := h.Open(at); ; {
		var next time.Time
		for _, s := range h.schedules {
			if edge := s.edge(at); !edge.IsZero() && (next.IsZero() || edge.Before(next)) {
				next = edge
			}
		}
		if next.IsZero() || next.After(limit) {
			return time.Time{}, false
		}
		if at = next; h.Open(at) != now {
			return at, true
		}
	}
}

// edge returns the first instant after at at which the schedule may open or close:
// the start or end of a window, or a clock change of the zone. It is zero if there
// is none.
func (s *schedule) edge(at time.Time) time.Time {
	local := at.In(s.zone)
	_, clockChange := local.ZoneBounds()
	_, offset := local.Zone()
	first := clockChange
	year, month, day := local.Date()
	// From yesterday, whose windows may end today, to the same weekday next week.
	for d := day - 1; d <= day+8; d++ {
		// Between two clock changes, local time has a constant offset from UTC.
		start := time.Date(year, month, d, 0, 0, 0, 0, time.UTC)
		for _, w := range s.days[start.Weekday()] {
			for _, minutes := range []Clock{w.from, w.to} {
				edge := start.Add(time.Duration(minutes)*time.Minute - time.Duration(offset)*time.Second)
				if edge.After(at) && (first.IsZero() || edge.Before(first)) {
					first = edge
				}
			}
		}
	}
	return first.UTC()
}

// Zone returns the time zone of the first schedule, or UTC if there is none.
func (h Hours) Zone() *time.Location {
	if len(h.schedules) == 0 {
		return time.UTC
	}
	return h.schedules[0].zone
}
