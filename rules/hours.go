package rules

import "time"

// Hours are the opening hours of several schedules together: open when any of
// them is. The zero value, of no schedule, is always open. It is immutable.
type Hours struct{ schedules []*schedule }

// Hours of the named schedules. Names that the document does not have are left
// out; Compile has refused those that it refers to.
func (s *Set) Hours(names []string) Hours {
	var h Hours
	for _, name := range names {
		if found, ok := s.schedules[name]; ok {
			h.schedules = append(h.schedules, found)
		}
	}
	return h
}

// Always tells whether no schedule limits the hours.
func (h Hours) Always() bool { return len(h.schedules) == 0 }

// Open tells whether any schedule is open at an instant.
func (h Hours) Open(at time.Time) bool {
	for _, s := range h.schedules {
		if s.open(at) {
			return true
		}
	}
	return h.Always()
}

// Change is the first instant after at, and not after limit, at which opening
// turns to closing or the other way round; false when there is none.
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

// edge is the first instant after at where the schedule may change: where a
// window begins or ends, or where the zone turns its clocks. It is zero when
// there is none.
func (s *schedule) edge(at time.Time) time.Time {
	local := at.In(s.zone)
	_, turn := local.ZoneBounds()
	_, offset := local.Zone()
	first := turn
	year, month, day := local.Date()
	// From yesterday, whose windows may end today, to the same weekday of next week.
	for d := day - 1; d <= day+8; d++ {
		// Between two turns of the clocks, the wall runs along with UTC.
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

// Zone is the time zone of the first schedule, UTC when there is none.
func (h Hours) Zone() *time.Location {
	if len(h.schedules) == 0 {
		return time.UTC
	}
	return h.schedules[0].zone
}
