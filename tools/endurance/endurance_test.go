package endurance

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"calltracker/ziwo/ziwotest"
)

func TestCrashVerdict(t *testing.T) {
	body, more := []byte(`{"callID":"a"}`), []byte(`{"callID":"a","recordingFile":"a.mp3"}`)
	all := func(calls int, bodies map[digest]int) map[string]*storedCopies {
		return map[string]*storedCopies{"a": {calls: calls, bodies: bodies}, "unanswered": {calls: 1, bodies: map[digest]int{}}}
	}
	whole := map[digest]int{digestOf(body): 1, digestOf(more): 1}
	tests := []struct {
		name                             string
		stored                           map[string]*storedCopies
		status                           int
		ok                               bool
		found, lost, duplicated, damaged int
	}{
		{name: "complete", stored: all(1, whole), ok: true, found: 1},
		{name: "lost", stored: map[string]*storedCopies{}, lost: 1},
		{name: "two calls", stored: all(2, whole), found: 1, duplicated: 1},
		{name: "duplicate body", stored: all(1, map[digest]int{digestOf(body): 2, digestOf(more): 1}), found: 1, duplicated: 1},
		{name: "missing body", stored: all(1, map[digest]int{digestOf(body): 1}), found: 1, damaged: 1},
		{name: "changed body", stored: all(1, map[digest]int{digestOf(body): 1, digestOf(nil): 1}), found: 1, damaged: 1},
		{name: "unexpected status", stored: all(1, whole), status: 500, found: 1},
		{name: "server unavailable", stored: all(1, whole), status: 503, ok: true, found: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLedger()
			l.record("a", body, 200, "")
			l.record("a", body, 200, "")
			l.record("a", more, 200, "")
			if test.status != 0 {
				l.record("b", body, test.status, "body")
			}
			v := l.verdict(test.stored)
			if v.OK() != test.ok || v.Acknowledged != 1 || v.Found != test.found || v.Lost != test.lost || v.Duplicated != test.duplicated || v.Damaged != test.damaged {
				t.Errorf("verdict %+v, want %+v", v, test)
			}
		})
	}
	if v := newLedger().verdict(nil); v.OK() {
		t.Error("OK without an acknowledged CDR")
	}
}

func TestDayVerdict(t *testing.T) {
	at := time.Date(2026, time.March, 3, 9, 0, 0, 0, time.UTC)
	truth := []ziwotest.Call{
		{CallID: "a", Result: "answered", StartedAt: at, AnsweredAt: at.Add(time.Second), EndedAt: at.Add(time.Minute), Duration: 60},
		{CallID: "b", Result: "missed", StartedAt: at, EndedAt: at.Add(time.Minute), Duration: 60},
	}
	// shown returns the calls as the API shows them, after an edit.
	shown := func(edit func(calls []storedCall) []storedCall) []storedCall {
		text, err := json.Marshal(truth)
		if err != nil {
			t.Fatal(err)
		}
		var calls []storedCall
		if err := json.Unmarshal(text, &calls); err != nil {
			t.Fatal(err)
		}
		calls[1]["answeredAt"] = nil
		return edit(calls)
	}
	for name, test := range map[string]struct {
		edit func([]storedCall) []storedCall
		want DayVerdict
	}{
		"equal":         {func(c []storedCall) []storedCall { return c }, DayVerdict{Equal: 2}},
		"missing":       {func(c []storedCall) []storedCall { return c[:1] }, DayVerdict{Equal: 1, Missing: 1}},
		"duplicated":    {func(c []storedCall) []storedCall { return append(c, c[0]) }, DayVerdict{Equal: 2, Duplicated: 1}},
		"invented":      {func(c []storedCall) []storedCall { return append(c, storedCall{"callID": "c"}) }, DayVerdict{Equal: 2, Invented: 1}},
		"other value":   {func(c []storedCall) []storedCall { c[0]["duration"] = 61.0; return c }, DayVerdict{Equal: 1, Differing: 1}},
		"missing field": {func(c []storedCall) []storedCall { delete(c[1], "result"); return c }, DayVerdict{Equal: 1, Differing: 1}},
		"other instant": {func(c []storedCall) []storedCall { c[1]["answeredAt"] = at; return c }, DayVerdict{Equal: 1, Differing: 1}},
		"extra field":   {func(c []storedCall) []storedCall { c[0]["route"] = "all"; return c }, DayVerdict{Equal: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			var got DayVerdict
			if err := got.compareCalls(truth, shown(test.edit)); err != nil {
				t.Fatal(err)
			}
			test.want.Calls = 2
			if diff := cmp.Diff(test.want, got, cmpopts.IgnoreFields(DayVerdict{}, "Complaints")); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
			bad := got.Equal < 2 || got.Duplicated+got.Invented > 0
			got.Acknowledged, got.Dropped, got.Backfilled = 1, 1, 1
			if got.OK() == bad || bad == (len(got.Complaints) == 0) {
				t.Errorf("OK() = %t for %+v", got.OK(), got)
			}
		})
	}
	if (DayVerdict{}).OK() {
		t.Error("OK without calls")
	}
}

func TestSoakReport(t *testing.T) {
	const duration = 40 * time.Second
	conclude := func(grown func(*sample, float64)) SoakReport {
		s := &soak{SoakOptions: SoakOptions{Duration: duration}, starts: newHistogram()}
		for i := range s.ends {
			s.ends[i] = newHistogram()
		}
		var samples []sample
		for second := range 40 {
			one := sample{at: time.Duration(second) * time.Second, resident: 60 * mebibyte, heap: 20 * mebibyte, goroutines: 100, files: 90}
			grown(&one, float64(second))
			samples = append(samples, one)
		}
		r := SoakReport{Calls: 1}
		s.conclude(&r, samples)
		return r
	}
	if r := conclude(func(*sample, float64) {}); !r.OK() {
		t.Error(r)
	}
	for what, grown := range map[string]func(*sample, float64){
		"resident memory": func(s *sample, at float64) { s.resident += at * 4 * mebibyte },
		"heap":            func(s *sample, at float64) { s.heap += at * 3 * mebibyte },
		"goroutines":      func(s *sample, at float64) { s.goroutines += at * 10 },
		"open files":      func(s *sample, at float64) { s.files += at * 10 },
	} {
		if r := conclude(grown); r.OK() || len(r.Growths) != 1 || !strings.HasPrefix(r.Growths[0], what) {
			t.Errorf("%s: growths %v", what, r.Growths)
		}
	}
}
