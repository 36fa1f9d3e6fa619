package endurance

import (
	"strings"
	"testing"
	"time"
)

func TestTheVerdictIsNotBlind(t *testing.T) {
	body, more := []byte(`{"callID":"a"}`), []byte(`{"callID":"a","recordingFile":"a.mp3"}`)
	all := func(calls int, bodies map[digest]int) map[string]*found {
		return map[string]*found{"a": {calls: calls, bodies: bodies}, "unanswered": {calls: 1, bodies: map[digest]int{}}}
	}
	whole := map[digest]int{digestOf(body): 1, digestOf(more): 1}
	tests := []struct {
		name                            string
		found                           map[string]*found
		status                          int
		ok                              bool
		isFound, lost, doubled, damaged int
	}{
		{name: "all there", found: all(1, whole), ok: true, isFound: 1},
		{name: "lost", found: map[string]*found{}, lost: 1},
		{name: "two calls", found: all(2, whole), isFound: 1, doubled: 1},
		{name: "one body twice", found: all(1, map[digest]int{digestOf(body): 2, digestOf(more): 1}), isFound: 1, doubled: 1},
		{name: "a body is missing", found: all(1, map[digest]int{digestOf(body): 1}), isFound: 1, damaged: 1},
		{name: "a body is not what was sent", found: all(1, map[digest]int{digestOf(body): 1, digestOf(nil): 1}), isFound: 1, damaged: 1},
		{name: "an answer that should not come", found: all(1, whole), status: 500, isFound: 1},
		{name: "refused for want of room", found: all(1, whole), status: 503, ok: true, isFound: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			l := newLedger()
			l.enter("a", body, 200, "")
			l.enter("a", body, 200, "")
			l.enter("a", more, 200, "")
			if test.status != 0 {
				l.enter("b", body, test.status, "what it said")
			}
			v := l.verdict(test.found)
			if v.OK() != test.ok || v.Acknowledged != 1 || v.Found != test.isFound || v.Lost != test.lost || v.Doubled != test.doubled || v.Damaged != test.damaged {
				t.Errorf("%+v", v)
			}
		})
	}
	if v := newLedger().verdict(nil); v.OK() {
		t.Error("nothing was acknowledged, and that is fine?")
	}
}

func TestASoakSeesGrowth(t *testing.T) {
	const duration = 40 * time.Second
	conclude := func(grown func(*sample, float64)) Report {
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
		r := Report{Calls: 1}
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
			t.Errorf("%s: %v", what, r.Growths)
		}
	}
}
