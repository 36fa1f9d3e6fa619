package rules_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"calltracker/config"
	"calltracker/rules"
)

// Change agrees with calls of Open for every minute, across holidays, midnights and
// clock changes.
func TestChangeAgreesWithOpen(t *testing.T) {
	zones := []string{"Asia/Dubai", "Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"}
	days := []rules.Weekday{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	starts := []time.Time{ // around the clock changes of those zones, and an ordinary week
		time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC), time.Date(2026, 4, 4, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 10, 3, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 31, 0, 0, 0, 0, time.UTC),
		time.Date(2026, 6, 15, 0, 0, 0, 0, time.UTC),
	}
	rapid.Check(t, func(t *rapid.T) {
		source := rules.Source{Calendars: map[string]rules.Calendar{}, Schedules: map[string]rules.Schedule{}}
		var names []string
		start := rapid.SampledFrom(starts).Draw(t, "start")
		for i := range rapid.IntRange(1, 2).Draw(t, "schedules") {
			name := fmt.Sprintf("s%d", i)
			names = append(names, name)
			s := rules.Schedule{Timezone: rapid.SampledFrom(zones).Draw(t, "zone"), Closed: []string{"c" + name}}
			holiday := start.AddDate(0, 0, rapid.IntRange(0, 4).Draw(t, "holiday"))
			date := rules.Date{Year: holiday.Year(), Month: holiday.Month(), Day: holiday.Day()}
			source.Calendars["c"+name] = rules.Calendar{{From: date, To: date}}
			for d, day := range days {
				if !rapid.Bool().Draw(t, "opens") {
					continue
				}
				from := rapid.IntRange(0, 1439).Draw(t, "from")
				to := rapid.IntRange(0, 1440).Draw(t, "to")
				if to <= from && d%2 == 0 { // past midnight only every other day, to avoid overlaps
					to %= 1440
				} else if to <= from {
					to = 1440
				}
				if d%2 == 1 { // a window of the day before may end on this day
					from = max(from, 720)
					to = max(to, from+1)
				} else if to < from {
					to = min(to, 719)
				}
				if from == to {
					continue
				}
				s.Open = append(s.Open, rules.Window{Days: []rules.Weekday{day}, From: rules.Clock(from), To: rules.Clock(to)})
			}
			source.Schedules[name] = s
		}
		set, problems := rules.Compile(source)
		if set == nil {
			t.Skip(problems) // the window of Sunday overlaps that of Monday
		}
		hours := set.Hours(names)
		at := start.Add(time.Duration(rapid.IntRange(0, 1439).Draw(t, "minute")) * time.Minute)
		limit := at.Add(4 * 24 * time.Hour)
		var want []time.Time
		for m := at.Add(time.Minute); !m.After(limit); m = m.Add(time.Minute) {
			if hours.Open(m) != hours.Open(m.Add(-time.Minute)) {
				want = append(want, m)
			}
		}
		var got []time.Time
		for next, ok := hours.Change(at, limit); ok; next, ok = hours.Change(next, limit) {
			got = append(got, next)
		}
		if len(got) != len(want) {
			t.Fatalf("changes %v, want %v", got, want)
		}
		for i := range want {
			if !got[i].Equal(want[i]) {
				t.Fatalf("changes %v, want %v", got, want)
			}
		}
	})
}

func TestHours(t *testing.T) {
	const text = `
calendars: {national-day: [2026-12-02]}
schedules:
  office:
    timezone: Asia/Dubai
    open: [{days: [mon, tue, wed, thu, fri], from: "09:00", to: "18:00"}]
    closed: [national-day]
  never: {timezone: Asia/Dubai}
`
	set := mustLoad(t, text, config.YAML)
	dubai := time.FixedZone("", 4*60*60)
	hours := set.Hours([]string{"office", "no-such-schedule"})
	for _, c := range []struct{ at, change time.Time }{
		{time.Date(2026, 11, 25, 8, 0, 0, 0, dubai), time.Date(2026, 11, 25, 9, 0, 0, 0, dubai)},
		{time.Date(2026, 11, 25, 9, 0, 0, 0, dubai), time.Date(2026, 11, 25, 18, 0, 0, 0, dubai)},
		{time.Date(2026, 11, 27, 18, 0, 0, 0, dubai), time.Date(2026, 11, 30, 9, 0, 0, 0, dubai)},
		{time.Date(2026, 12, 1, 20, 0, 0, 0, dubai), time.Date(2026, 12, 3, 9, 0, 0, 0, dubai)}, // over the holiday
	} {
		if got, ok := hours.Change(c.at, c.at.AddDate(0, 0, 7)); !ok || !got.Equal(c.change) {
			t.Errorf("after %v the hours change at %v (%v), want %v", c.at, got.In(dubai), ok, c.change)
		}
	}
	if _, ok := hours.Change(time.Date(2026, 11, 27, 18, 0, 0, 0, dubai), time.Date(2026, 11, 28, 0, 0, 0, 0, dubai)); ok {
		t.Error("a change was found past the limit")
	}
	at := time.Date(2026, 11, 25, 8, 0, 0, 0, dubai)
	if never := set.Hours([]string{"never"}); never.Open(at) || never.Always() {
		t.Error("a schedule without windows is open")
	}
	if _, ok := set.Hours([]string{"never"}).Change(at, at.AddDate(100, 0, 0)); ok {
		t.Error("a schedule without windows changes")
	}
	if always := set.Hours(nil); !always.Always() || !always.Open(at) {
		t.Error("hours without a schedule are not always open")
	}
}
