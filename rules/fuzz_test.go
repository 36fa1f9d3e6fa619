package rules_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"calltracker/rules"
)

// FuzzSchedule compares the engine with the oracle of the schedule tests.
func FuzzSchedule(f *testing.F) {
	zones := []string{
		"Asia/Dubai", "Europe/Paris", "America/New_York", "Africa/Cairo", "Asia/Beirut", "Australia/Lord_Howe", "Pacific/Apia", "Africa/Casablanca",
		"America/St_Johns", "Asia/Tehran", "Pacific/Kiritimati", "America/Asuncion", "Africa/Monrovia", "Antarctica/Troll", "America/Godthab", "UTC",
	}
	f.Add(uint8(1), uint8(1), uint16(22*60), uint16(2*60), uint8(64), uint16(9*60), uint16(18*60), int8(0), uint8(0), int64(1806281999))
	f.Add(uint8(5), uint8(127), uint16(90), uint16(120), uint8(127), uint16(120), uint16(24*60), int8(-1), uint8(2), int64(1806984000))
	f.Add(uint8(6), uint8(127), uint16(20*60), uint16(4*60), uint8(0), uint16(0), uint16(0), int8(1), uint8(0), int64(1325239200))
	f.Fuzz(func(t *testing.T, zone, days1 uint8, from1, to1 uint16, days2 uint8, from2, to2 uint16, holiday int8, span uint8, unix int64) {
		location, err := time.LoadLocation(zones[int(zone)%len(zones)])
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(unix%4e9, 0) // up to 2096
		first := at.In(location).AddDate(0, 0, int(holiday)%4)
		h := hours{zone: location, closed: []string{first.Format(time.DateOnly) + ".." + first.AddDate(0, 0, int(span)%4).Format(time.DateOnly)}}
		for _, w := range []window{drawnWindow(days1, from1, to1), drawnWindow(days2, from2, to2)} {
			if w.days != "" && w.from != w.to {
				h.windows = append(h.windows, w)
			}
		}
		if overlaps(h.windows) {
			t.Skip("Compile rejects such windows")
		}
		router, list := routersOf(t, []hours{h})[0], h.openings(at.In(location))
		for minute := -90; minute <= 90; minute += 15 {
			now := at.Add(time.Duration(minute) * time.Minute)
			clock := now.In(location).Format(minutes)
			if got, want := router.Decide(rules.Facts{At: now}).Route == "open", open(list, clock); got != want {
				t.Errorf("%s, %s (%s): got open %v, want %v for %+v", location, clock, now.UTC().Format(time.RFC3339), got, want, h)
			}
		}
	})
}

func drawnWindow(days uint8, from, to uint16) window {
	var names []string
	for i, name := range []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} {
		if days&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	clock := func(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }
	return window{days: strings.Join(names, ","), from: clock(int(from) % (24 * 60)), to: clock(int(to) % (24*60 + 1))}
}

// overlaps reports whether two windows share a minute of the week.
func overlaps(windows []window) bool {
	taken := map[int]bool{}
	for _, w := range windows {
		for i, name := range []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"} {
			if !strings.Contains(w.days, name) {
				continue
			}
			from, _ := rules.ParseClock(w.from)
			to, _ := rules.ParseClock(w.to)
			if to <= from {
				to += 24 * 60
			}
			for minute := int(from); minute < int(to); minute++ {
				at := (i*24*60 + minute) % (7 * 24 * 60)
				if taken[at] {
					return true
				}
				taken[at] = true
			}
		}
	}
	return false
}
