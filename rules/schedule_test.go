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

// hours is a schedule for both the engine and the oracle.
type hours struct {
	zone    *time.Location
	windows []window
	closed  []string // dates, as "2026-12-02" or "2026-12-02..2026-12-04"
}

// window is "mon,tue 09:00-18:00".
type window struct{ days, from, to string }

// routersOf returns a router for each schedule. Its first route takes the calls
// while the schedule is open.
func routersOf(t testing.TB, schedules []hours) []*rules.Router {
	t.Helper()
	source := rules.Source{
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
			for d := range strings.SplitSeq(w.days, ",") {
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
		source.Calendars[name], source.Schedules[name] = calendar, schedule
		source.Trackers[name] = rules.Tracker{Routes: []rules.Route{{ID: "open", During: []string{name}}, {ID: "closed"}}}
	}
	set, problems := rules.Compile(source)
	if wrong := problems.Errors(); len(wrong) > 0 {
		t.Fatalf("%v", wrong)
	}
	out := make([]*rules.Router, len(schedules))
	for i := range out {
		out[i], _ = set.Router(fmt.Sprint("s", i))
	}
	return out
}

// opening is a span of local time, such as "2026-03-28 22:00" to "2026-03-29 02:00".
// The texts sort like the times.
type opening struct{ from, to string }

const minutes = "2006-01-02 15:04"

// openings is the oracle: it lists when a schedule is open around a day, and shares
// no code with the engine. It iterates over the days in UTC, where each has 24 hours,
// and writes each window as two texts.
func (h hours) openings(day time.Time) []opening {
	var out []opening
	noon := time.Date(day.Year(), day.Month(), day.Day(), 12, 0, 0, 0, time.UTC)
	for d := noon.AddDate(0, 0, -3); !d.After(noon.AddDate(0, 0, 3)); d = d.AddDate(0, 0, 1) {
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

// zoneNames returns the zones in the Go distribution's copy of the IANA database.
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

// changes returns the clock changes of a zone from 2026 to 2028.
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

// around returns schedules that are likely to go wrong at a clock change: windows
// across it, windows that start or end in the skipped or repeated hour, and holidays
// on either side.
func around(zone *time.Location, change time.Time) []hours {
	const all, half = "mon,tue,wed,thu,fri,sat,sun", 30 * time.Minute
	clock := func(d time.Duration) string { return change.Add(d).In(zone).Format("15:04") }
	date := func(days int) string { return change.In(zone).AddDate(0, 0, days).Format(time.DateOnly) }
	schedules := []hours{
		{windows: []window{{"mon,tue,wed,thu,fri", "09:00", "18:00"}, {"sat", "22:00", "02:00"}, {"sun", "02:30", "03:15"}}},
		{windows: []window{{all, "22:00", "02:30"}, {all, "02:30", "03:00"}}, closed: []string{date(-1)}},
		{windows: []window{{all, "00:00", "24:00"}}, closed: []string{date(0)}},
	}
	// From the time after the change to the time before it: the repeated hour, or the whole day except the skipped hour.
	if before, after := clock(-time.Second), clock(0); before != after {
		schedules = append(schedules, hours{windows: []window{{all, after, before}}, closed: []string{date(1)}})
	}
	if early, late := clock(-half), clock(half); early != late {
		schedules = append(schedules, hours{windows: []window{{all, early, late}}, closed: []string{date(-1) + ".." + date(0)}})
	}
	for i := range schedules {
		schedules[i].zone = zone
	}
	return schedules
}

// check compares engine and oracle for every minute from 25 hours before to 26 hours
// after an instant, which includes its whole local day.
func check(t *testing.T, schedules []hours, at time.Time) (compared int) {
	zone := schedules[0].zone
	routers := routersOf(t, schedules)
	lists := make([][]opening, len(schedules))
	for i, h := range schedules {
		lists[i] = h.openings(at.In(zone))
	}
	for minute := range (25 + 26) * 60 {
		// Use a different second in each minute.
		now := at.Add(time.Duration(minute-25*60)*time.Minute + time.Duration(minute%60)*time.Second)
		clock := now.In(zone).Format(minutes)
		for i, router := range routers {
			got, want := router.Decide(rules.Facts{At: now}).Route == "open", open(lists[i], clock)
			if compared++; got != want {
				t.Errorf("%s, %s (%s): got open %v, want %v for %+v", zone, clock, now.UTC().Format(time.RFC3339), got, want, schedules[i])
				return compared
			}
		}
	}
	return compared
}

// Every zone of the IANA database, at every clock change from 2026 to 2028, or at the
// end of a week if there is none.
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
						n = check(t, around(zone, sunday)[:2], sunday)
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
	t.Logf("%d zones, %d of them with %d clock changes, %d schedule-minutes compared", len(names), changed, transitions, compared)
	if changed < 100 || transitions < 6*100 {
		t.Errorf("only %d zones with %d changes were found", changed, transitions)
	}
}

func TestScheduleOpens(t *testing.T) {
	const all = "mon,tue,wed,thu,fri,sat,sun"
	nights := []window{{"sat", "22:00", "02:00"}}
	tests := map[string]struct {
		zone           string
		windows        []window
		closed         []string
		opens, remains []string // RFC 3339
	}{
		"the last minute of Saturday's night is on Sunday": {
			zone: "Asia/Dubai", windows: nights,
			opens:   []string{"2026-11-21T22:00:00+04:00", "2026-11-21T23:59:59+04:00", "2026-11-22T00:00:00+04:00", "2026-11-22T01:59:59+04:00"},
			remains: []string{"2026-11-21T21:59:59+04:00", "2026-11-22T02:00:00+04:00", "2026-11-22T22:00:00+04:00", "2026-11-21T01:00:00+04:00"},
		},
		"a holiday takes the night that starts on it": {
			zone: "Asia/Dubai", windows: nights, closed: []string{"2026-11-21"},
			remains: []string{"2026-11-21T23:00:00+04:00", "2026-11-22T01:00:00+04:00"},
		},
		"a holiday leaves the night that started before it": {
			zone: "Asia/Dubai", windows: nights, closed: []string{"2026-11-22"},
			opens: []string{"2026-11-21T23:00:00+04:00", "2026-11-22T01:00:00+04:00"},
		},
		"a holiday between two nights": {
			zone: "Asia/Dubai", windows: []window{{all, "20:00", "04:00"}}, closed: []string{"2026-11-24"},
			opens:   []string{"2026-11-24T03:59:59+04:00", "2026-11-25T20:00:00+04:00", "2026-11-23T21:00:00+04:00"},
			remains: []string{"2026-11-24T20:00:00+04:00", "2026-11-24T23:59:59+04:00", "2026-11-25T00:00:00+04:00", "2026-11-25T03:59:59+04:00"},
		},
		"to midnight, written either way": {
			zone: "Asia/Dubai", windows: []window{{"mon", "18:00", "24:00"}, {"tue", "18:00", "00:00"}},
			opens:   []string{"2026-11-23T23:59:59+04:00", "2026-11-24T23:59:59+04:00"},
			remains: []string{"2026-11-24T00:00:00+04:00", "2026-11-25T00:00:00+04:00"},
		},
		"the leap day": {
			zone: "Europe/Paris", windows: []window{{all, "09:00", "18:00"}}, closed: []string{"2028-02-29"},
			opens:   []string{"2028-02-28T10:00:00+01:00", "2028-03-01T10:00:00+01:00"},
			remains: []string{"2028-02-29T10:00:00+01:00"},
		},
		"a range over the leap day": {
			zone: "Europe/Paris", windows: []window{{all, "20:00", "04:00"}}, closed: []string{"2028-02-28..2028-03-01"},
			opens:   []string{"2028-02-28T03:00:00+01:00", "2028-03-02T20:00:00+01:00", "2028-02-27T21:00:00+01:00"},
			remains: []string{"2028-02-28T21:00:00+01:00", "2028-02-29T12:00:00+01:00", "2028-02-29T21:00:00+01:00", "2028-03-01T03:00:00+01:00", "2028-03-02T03:00:00+01:00"},
		},
		"a year without one": {
			zone: "Europe/Paris", windows: []window{{all, "20:00", "04:00"}}, closed: []string{"2027-02-28"},
			opens:   []string{"2027-03-01T20:00:00+01:00", "2027-02-28T03:00:00+01:00"},
			remains: []string{"2027-03-01T03:00:00+01:00"},
		},
		"over the end of the year": {
			zone: "America/New_York", windows: []window{{all, "20:00", "04:00"}}, closed: []string{"2026-12-31..2027-01-01"},
			opens:   []string{"2026-12-31T03:59:59-05:00", "2027-01-02T20:00:00-05:00"},
			remains: []string{"2026-12-31T20:00:00-05:00", "2027-01-01T00:00:00-05:00", "2027-01-01T21:00:00-05:00", "2027-01-02T03:59:59-05:00"},
		},
		"the hour that is skipped does not come": {
			zone: "Europe/Paris", windows: []window{{"sun", "02:00", "03:00"}},
			opens:   []string{"2027-03-21T02:30:00+01:00", "2027-04-04T02:30:00+02:00"},
			remains: []string{"2027-03-28T01:59:59+01:00", "2027-03-28T03:00:00+02:00"},
		},
		"the repeated hour occurs twice": {
			zone: "Europe/Paris", windows: []window{{"sun", "02:00", "03:00"}},
			opens:   []string{"2027-10-31T02:30:00+02:00", "2027-10-31T02:30:00+01:00"},
			remains: []string{"2027-10-31T01:59:59+02:00", "2027-10-31T03:00:00+01:00"},
		},
		"a window that ends in the repeated hour ends twice": {
			zone: "Europe/Paris", windows: []window{{"sat", "22:00", "02:30"}},
			opens:   []string{"2027-10-31T02:29:59+02:00", "2027-10-31T02:00:00+01:00", "2027-10-31T02:29:59+01:00"},
			remains: []string{"2027-10-31T02:30:00+02:00", "2027-10-31T02:59:59+02:00", "2027-10-31T02:30:00+01:00"},
		},
		"Cairo, where the clocks go forward at midnight: 00:00 to 01:00 does not come": {
			zone: "Africa/Cairo", windows: []window{{"thu", "23:00", "00:30"}, {"fri", "00:30", "01:30"}},
			opens:   []string{"2027-04-29T23:59:59+02:00", "2027-04-30T01:00:00+03:00", "2027-04-30T01:29:59+03:00"},
			remains: []string{"2027-04-30T01:30:00+03:00"},
		},
		"Cairo, where the clocks go back at midnight: Thursday's last hour occurs twice": {
			zone: "Africa/Cairo", windows: []window{{"thu", "23:00", "00:30"}},
			opens:   []string{"2027-10-28T23:30:00+03:00", "2027-10-28T23:30:00+02:00", "2027-10-29T00:29:59+02:00"},
			remains: []string{"2027-10-28T22:59:59+03:00", "2027-10-29T00:30:00+02:00"},
		},
		"Beirut, a holiday that begins at 01:00": {
			zone: "Asia/Beirut", windows: []window{{all, "00:00", "24:00"}}, closed: []string{"2027-03-28"},
			opens:   []string{"2027-03-27T23:59:59+02:00", "2027-03-29T00:00:00+03:00"},
			remains: []string{"2027-03-28T01:00:00+03:00", "2027-03-28T23:59:59+03:00"},
		},
		"half an hour of summer time": {
			zone: "Australia/Lord_Howe", windows: []window{{"sun", "01:30", "02:00"}},
			opens:   []string{"2027-04-04T01:30:00+11:00", "2027-04-04T01:59:59+11:00", "2027-04-04T01:30:00+10:30"},
			remains: []string{"2027-04-04T02:00:00+10:30", "2027-10-03T02:30:00+11:00"},
		},
		"another day on the other side of the date line": {
			zone: "Pacific/Kiritimati", windows: []window{{"mon", "09:00", "18:00"}},
			opens:   []string{"2026-11-22T19:00:00Z", "2026-11-23T03:59:59Z"},
			remains: []string{"2026-11-22T18:59:59Z", "2026-11-23T09:00:00Z"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			zone, err := time.LoadLocation(tt.zone)
			if err != nil {
				t.Fatal(err)
			}
			router := routersOf(t, []hours{{zone: zone, windows: tt.windows, closed: tt.closed}})[0]
			for want, instants := range map[string][]string{"open": tt.opens, "closed": tt.remains} {
				for _, text := range instants {
					at, err := time.Parse(time.RFC3339, text)
					if err != nil {
						t.Fatal(err)
					}
					if got := router.Decide(rules.Facts{At: at}).Route; got != want {
						t.Errorf("%s (%s): got %s, want %s", text, at.In(zone), got, want)
					}
				}
			}
		})
	}
}
