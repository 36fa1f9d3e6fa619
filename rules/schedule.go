package rules

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"
	_ "time/tzdata" // for machines without a time zone database

	"calltracker/problem"
)

// schedule holds compiled opening hours. It is immutable.
type schedule struct {
	name   string
	zone   *time.Location
	days   [7][]span // by time.Weekday of the day on which a span starts
	closed []closure
}

// span is one opening, in minutes of the day it starts on. If it ends after
// midnight, to is greater than 24:00.
type span struct{ from, to Clock }

func (s span) String() string {
	to := s.to
	if to > midnight {
		to -= midnight
	}
	return fmt.Sprintf("%s to %s", s.from, to)
}

// closure is a span of days on which the schedule is closed.
type closure struct {
	from, to Date
	calendar string
	name     string
}

// wallClock is the local date and time in a zone. Schedules depend on nothing else, so a
// change to or from daylight saving time needs no special case. A schedule is open while
// the local clock is within a window: minutes that the clock skips are never open, and
// minutes that it repeats are open both times.
type wallClock struct {
	date    Date
	weekday time.Weekday
	minute  Clock
}

func readClock(at time.Time, zone *time.Location) wallClock {
	local := at.In(zone)
	hour, minute, _ := local.Clock()
	return wallClock{date: dateOf(local), weekday: local.Weekday(), minute: Clock(hour*60 + minute)}
}

// open reports whether the schedule is open at an instant. A window past midnight
// belongs to the day on which it starts, for weekdays and for holidays.
func (s *schedule) open(at time.Time) bool {
	now := readClock(at, s.zone)
	for _, w := range s.days[now.weekday] {
		if w.from <= now.minute && now.minute < w.to && s.closure(now.date) == nil {
			return true
		}
	}
	for _, w := range s.days[(now.weekday+6)%7] {
		if now.minute+midnight < w.to && s.closure(now.date.before()) == nil {
			return true
		}
	}
	return false
}

func (s *schedule) closure(d Date) *closure {
	for i := range s.closed {
		if c := &s.closed[i]; d.Compare(c.from) >= 0 && d.Compare(c.to) <= 0 {
			return c
		}
	}
	return nil
}

// whyClosed explains why the schedule is closed at an instant.
func (s *schedule) whyClosed(at time.Time) string {
	now := readClock(at, s.zone)
	clock := fmt.Sprintf("%s %s %s in %s", weekdays[now.weekday], now.date, now.minute, s.zone)
	if c := s.closure(now.date); c != nil {
		return fmt.Sprintf("%s is closed on %s (%s)", s.name, now.date, c)
	}
	yesterday := now.date.before()
	for _, w := range s.days[yesterday.weekday()] {
		if c := s.closure(yesterday); c != nil && now.minute+midnight < w.to {
			return fmt.Sprintf("%s is closed on %s (%s), and %s belongs to that day", s.name, yesterday, c, now.minute)
		}
	}
	return fmt.Sprintf("%s is closed at %s", s.name, clock)
}

func (c *closure) String() string {
	if c.name == "" {
		return c.calendar
	}
	return c.calendar + ", " + c.name
}

func (c *compiler) schedule(name string, doc Schedule) *schedule {
	path := "schedules." + name
	s := &schedule{name: name, zone: c.zone(doc.Timezone, path+".timezone")}
	for i, w := range doc.Open {
		at := fmt.Sprintf("%s.open[%d]", path, i)
		c.window(s, w, at)
	}
	for i, calendar := range doc.Closed {
		days, ok := c.Calendars[calendar]
		if !ok {
			c.Unknown(fmt.Sprintf("%s.closed[%d]", path, i), "calendar", calendar, maps.Keys(c.Calendars))
			continue
		}
		for _, h := range days {
			s.closed = append(s.closed, closure{from: h.From, to: h.To, calendar: calendar, name: h.Name})
		}
	}
	if len(doc.Open) == 0 && !c.incomplete(path) {
		c.Warnf(path, "schedule %q never opens", name)
	}
	return s
}

func (c *compiler) window(s *schedule, w Window, path string) {
	if c.incomplete(path) {
		return
	}
	opening := span{from: w.From, to: w.To}
	switch {
	case w.From == w.To:
		c.Errorf(path, "empty window from %s to %s: write a whole day as 00:00 to 24:00", w.From, w.To)
		return
	case w.From == midnight:
		c.Errorf(path+".from", "a window cannot start at 24:00: use 00:00 on the next day")
		return
	case w.To < w.From:
		opening.to += midnight
	}
	for _, name := range w.Days {
		day, ok := name.number()
		if !ok {
			continue
		}
		if other, where, overlap := s.overlapping(day, opening); overlap {
			c.Errorf(path, "%s %s to %s overlaps %s %s", name, w.From, w.To, weekdays[where], other)
			return
		}
		s.days[day] = append(s.days[day], opening)
	}
}

// overlapping returns an opening that shares a minute of the week with w.
func (s *schedule) overlapping(day time.Weekday, w span) (span, time.Weekday, bool) {
	const week = 7 * midnight
	from := Clock(day)*midnight + w.from
	to := from + w.to - w.from
	for other, spans := range s.days {
		for _, o := range spans {
			start := Clock(other)*midnight + o.from
			end := start + o.to - o.from
			for _, shift := range []Clock{-week, 0, week} { // Saturday night runs into Sunday
				if from < end+shift && start+shift < to {
					return o, time.Weekday(other), true
				}
			}
		}
	}
	return span{}, 0, false
}

var offset = regexp.MustCompile(`(?i)^(utc|gmt)?[ ]*[-+]?[0-9]`)

// zone loads an IANA zone. If that fails, it reports an error and returns UTC.
func (c *compiler) zone(name, path string) *time.Location {
	if name == "" {
		return time.UTC // reported elsewhere if it is required
	}
	if known, ok := c.zones[name]; ok {
		return known
	}
	location, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		message := `invalid time zone %q: use an IANA name such as "Asia/Dubai"`
		if offset.MatchString(name) {
			message = `invalid time zone %q: an offset ignores daylight saving time; use an IANA name such as "Asia/Dubai"`
		}
		c.Errorf(path, message, problem.Clip(name))
		return time.UTC
	}
	c.zones[name] = location
	return location
}

// commonZone returns the zone of all schedules if they have only one.
func (c *compiler) commonZone() (*time.Location, bool) {
	var names []string
	for _, s := range c.Schedules {
		if s.Timezone != "" && !slices.Contains(names, s.Timezone) {
			names = append(names, s.Timezone)
		}
	}
	if len(names) != 1 {
		return time.UTC, false
	}
	zone, ok := c.zones[names[0]]
	return zone, ok
}
