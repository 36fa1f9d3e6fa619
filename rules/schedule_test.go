package rules_test

import (
	"archive/zip"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"calltracker/rules"
)

// hours is a schedule as a test writes it, for the engine and for the oracle.
type hours struct {
	zone    *time.Location
	windows []window
	closed  []string // dates, as "2026-12-02" or "2026-12-02..2026-12-04"
}

// window is "mon,tue 09:00-18:00".
type window struct{ days, from, to string }

// router compiles the schedules, one tracker for each, whose first route takes
// the calls while it is open.
func routersOf(t testing.TB, schedules []hours) []*rules.Router {
	t.Helper()
	doc := rules.Document{
		Calendars: map[string]rules.Calendar{}, Schedules: map[string]rules.Schedule{}, Trackers: map[string]rules.Tracker{},
	}
	for i, h := range schedules {
		name := fmt.Sprint("s", i)
		schedule := rules.Schedule{Timezone: h.zone.String(), Closed: []string{name}}
		for _, w := range h.windows {
			from, errFrom := rules.ParseClock(w.from)
			to, errTo := rules.ParseClock(w.to)
			if errFrom != nil || errTo != nil {
				t.Fatal(errFrom, errTo)
			}
			var days []rules.Weekday
			for _, d := range strings.Split(w.days, ",") {
				days = append(days, rules.Weekday(d))
			}
			schedule.Open = append(schedule.Open, rules.Window{Days: days, From: from, To: to})
		}
		calendar := rules.Calendar{}
		for _, c := range h.closed {
			first, last, span := strings.Cut(c, "..")
			if !span {
				last = first
			}
			from, errFrom := rules.ParseDate(first)
			to, errTo := rules.ParseDate(last)
			if errFrom != nil || errTo != nil {
				t.Fatal(errFrom, errTo)
			}
			calendar = append(calendar, rules.Holiday{From: from, To: to})
		}
		doc.Calendars[name], doc.Schedules[name] = calendar, schedule
		doc.Trackers[name] = rules.Tracker{Routes: []rules.Route{{ID: "open", During: []string{name}}, {ID: "closed"}}}
	}
	set, problems := rules.Compile(&doc)
	if errors := problems.Errors(); len(errors) > 0 {
		t.Fatalf("%v", errors)
	}
	out := make([]*rules.Router, len(schedules))
	for i := range out {
		out[i], _ = set.Router(fmt.Sprint("s", i))
	}
	return out
}

// opening is a span of local time, as texts that sort like the times:
// "2026-03-28 22:00" to "2026-03-29 02:00".
type opening struct{ from, to string }

const minutes = "2006-01-02 15:04"

// openings is the slow way to say when a schedule is open, that shares nothing
// with the engine: it walks the calendar around a day, writes down each window
// as two texts, and leaves comparing them with the clock to the reader of the
// list. Days are counted in UTC, where all of them have 24 hours.
func (h hours) openings(day time.Time) []opening {
	var out []opening
	noon := time.Date(day.Year(), day.Month(), day.Day(), 12, 0, 0, 0, time.UTC)
	for d := noon.AddDate(0, 0, -5); !d.After(noon.AddDate(0, 0, 5)); d = d.AddDate(0, 0, 1) {
		date, next := d.Format(time.DateOnly), d.AddDate(0, 0, 1).Format(time.DateOnly)
		if slices.ContainsFunc(h.closed, func(c string) bool {
			first, last, span := strings.Cut(c, "..")
			return date == c || span && first <= date && date <= last
		}) {
			continue
		}
		for _, w := range h.windows {
			if !strings.Contains(w.days, strings.ToLower(d.Format("Mon"))) {
				continue
			}
			switch {
			case w.to == "24:00":
				out = append(out, opening{date + " " + w.from, next + " 00:00"})
			case w.to < w.from:
				out = append(out, opening{date + " " + w.from, next + " " + w.to})
			default:
				out = append(out, opening{date + " " + w.from, date + " " + w.to})
			}
		}
	}
	return out
}

func open(openings []opening, clock string) bool {
	for _, o := range openings {
		if o.from <= clock && clock < o.to {
			return true
		}
	}
	return false
}

// zoneNames are the names in the Go distribution's copy of the IANA database.
func zoneNames(t *testing.T) []string {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	var names []string
	for _, f := range archive.File {
		if !strings.HasSuffix(f.Name, "/") {
			names = append(names, f.Name)
		}
	}
	if len(names) < 400 {
		t.Fatalf("only %d zones in the database", len(names))
	}
	return names
}

// changes are the instants in 2026 to 2028 from which a zone has another offset.
func changes(zone *time.Location) []time.Time {
	offset := func(unix int64) int {
		_, seconds := time.Unix(unix, 0).In(zone).Zone()
		return seconds
	}
	const day = 24 * 60 * 60
	var out []time.Time
	end := time.Date(2029, time.January, 1, 0, 0, 0, 0, time.UTC).Unix()
	for at := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC).Unix(); at < end; at += day {
		if offset(at) == offset(at+day) {
			continue
		}
		before, after := at, at+day
		for after-before > 1 {
			if middle := (before + after) / 2; offset(middle) == offset(at) {
				before = middle
			} else {
				after = middle
			}
		}
		out = append(out, time.Unix(after, 0))
	}
	return out
}

// around are schedules that are likely to go wrong when the clocks of a zone
// change at an instant: windows over it, ending or starting in the hour that is
// skipped or repeated, and holidays on either side.
func around(zone *time.Location, change time.Time) []hours {
	const all, half = "mon,tue,wed,thu,fri,sat,sun", 30 * time.Minute
	clock := func(d time.Duration) string { return change.Add(d).In(zone).Format("15:04") }
	date := func(days int) string { return change.In(zone).AddDate(0, 0, days).Format(time.DateOnly) }
	// The change itself, by the clock before it and by the clock after it.
	before, after := clock(-time.Second), clock(0)
	schedules := []hours{
		{windows: []window{{"mon,tue,wed,thu,fri", "09:00", "18:00"}, {"sun", "10:00", "12:30"}}},
		{windows: []window{{"sat", "22:00", "02:00"}, {"sun", "02:30", "03:15"}}, closed: []string{date(1)}},
		{windows: []window{{all, "22:00", "02:30"}, {all, "02:30", "03:00"}}, closed: []string{date(-1)}},
		{windows: []window{{all, "00:00", "24:00"}}, closed: []string{date(0)}},
		{windows: []window{{all, "23:30", "00:30"}, {all, "01:15", "01:45"}}, closed: []string{date(-1) + ".." + date(0)}},
	}
	if after != before {
		schedules = append(schedules, hours{windows: []window{{all, after, before}}}, hours{windows: []window{{all, before, after}}, closed: []string{date(1)}})
	}
	if early, late := clock(-half), clock(half); early != late {
		schedules = append(schedules, hours{windows: []window{{all, early, late}}, closed: []string{date(2) + ".." + date(3)}})
	}
	for i := range schedules {
		schedules[i].zone = zone
	}
	return schedules
}

// check compares engine and oracle at every minute of 60 hours around an
// instant, which hold all of its local day.
func check(t *testing.T, schedules []hours, at time.Time) (compared int) {
	zone := schedules[0].zone
	routers := routersOf(t, schedules)
	lists := make([][]opening, len(schedules))
	for i, h := range schedules {
		lists[i] = h.openings(at.In(zone))
	}
	for minute := -30 * 60; minute < 30*60; minute++ {
		// Not always the same second of the minute.
		now := at.Add(time.Duration(minute)*time.Minute + time.Duration((minute+60*60)%60)*time.Second)
		clock := now.In(zone).Format(minutes)
		for i, router := range routers {
			got, want := router.Decide(rules.Facts{At: now}).Route == "open", open(lists[i], clock)
			if compared++; got != want {
				t.Errorf("%s, %s (%s): open is %v, must be %v for %+v", zone, clock, now.UTC().Format(time.RFC3339), got, want, schedules[i])
				return compared
			}
		}
	}
	return compared
}

// Every zone of the IANA database, at every change of its clocks in 2026 to
// 2028; where there is none, over the end of a week.
func TestEveryZoneAtEveryClockChange(t *testing.T) {
	names := zoneNames(t)
	sunday := time.Date(2027, time.May, 9, 0, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	var changed, transitions, compared int
	t.Run("zones", func(t *testing.T) {
		const parts = 4
		for part := range parts {
			t.Run(fmt.Sprint(part), func(t *testing.T) {
				t.Parallel()
				for i := part; i < len(names); i += parts {
					zone, err := time.LoadLocation(names[i])
					if err != nil {
						t.Fatal(err)
					}
					at := changes(zone)
					n := 0
					for _, change := range at {
						n += check(t, around(zone, change), change)
					}
					if len(at) == 0 {
						n = check(t, around(zone, sunday), sunday)
					}
					mu.Lock()
					transitions, compared = transitions+len(at), compared+n
					if len(at) > 0 {
						changed++
					}
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("%d zones, %d of them with %d changes of their clocks, %d schedule-minutes compared", len(names), changed, transitions, compared)
	if changed < 100 || transitions < 6*100 {
		t.Errorf("only %d zones with %d changes were found", changed, transitions)
	}
}
