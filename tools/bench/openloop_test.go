package main

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Every call has its requests at constant intervals, and no two requests of a schedule
// are due at the same time.
func TestArrivals(t *testing.T) {
	tests := map[string]struct {
		schedule callSchedule
		kinds    []arrivalKind // of each call, in order
	}{
		"once":      {callSchedule{rate: 300, warmUp: 20, calls: 700}, []arrivalKind{startArrival, endArrival}},
		"twice":     {callSchedule{rate: 300, warmUp: 20, calls: 700, repeat: true}, []arrivalKind{startArrival, endArrival, repeatArrival}},
		"low rate":  {callSchedule{rate: 1, calls: 5, repeat: true}, []arrivalKind{startArrival, endArrival, repeatArrival}},
		"high rate": {callSchedule{rate: 7000, calls: 9000, repeat: true}, []arrivalKind{startArrival, endArrival, repeatArrival}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := tt.schedule
			arrivals := s.arrivals()
			if want := (s.warmUp + s.calls) * len(tt.kinds); len(arrivals) != want {
				t.Fatalf("%d arrivals, want %d", len(arrivals), want)
			}
			kinds, starts := map[int][]arrivalKind{}, map[int]time.Duration{}
			for i, a := range arrivals {
				if i > 0 && a.at <= arrivals[i-1].at {
					t.Fatalf("arrival %+v does not follow %+v", a, arrivals[i-1])
				}
				if a.warmUp != (a.call < s.warmUp) {
					t.Errorf("arrival %+v: warm-up has %d calls", a, s.warmUp)
				}
				kinds[a.call] = append(kinds[a.call], a.kind)
				switch a.kind {
				case startArrival:
					starts[a.call] = a.at
					if want := time.Duration(a.call) * time.Second / time.Duration(s.rate); a.at != want {
						t.Errorf("call %d starts at %v, want %v", a.call, a.at, want)
					}
				case endArrival, repeatArrival:
					if since := a.at - starts[a.call]; since > time.Second {
						t.Errorf("arrival %+v is %v after its start call", a, since)
					}
				}
			}
			for call := range s.warmUp + s.calls {
				if !slices.Equal(kinds[call], tt.kinds) {
					t.Fatalf("call %d has %v, want %v", call, kinds[call], tt.kinds)
				}
			}
		})
	}
}

// Latencies count from the scheduled instant, and a late generator is counted.
func TestTally(t *testing.T) {
	due := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	after := due.Add
	tally := newTally()
	broken := errors.New("connection reset")
	tally.add(arrival{kind: startArrival}, due, after(0), after(4*time.Millisecond), nil)
	tally.add(arrival{kind: endArrival}, due, after(lateAfter), after(20*time.Millisecond), nil)
	tally.add(arrival{kind: repeatArrival}, due, after(30*time.Millisecond), after(31*time.Millisecond), broken)
	tally.add(arrival{kind: endArrival, warmUp: true}, due, after(time.Second), after(2*time.Second), errors.New("timeout"))
	type figures struct {
		Requests, Late, Failed  int64
		Start, End, Most, Delay time.Duration
	}
	round := func(d time.Duration) time.Duration { return d.Round(time.Millisecond) } // a histogram has three digits
	got := figures{
		tally.requests(), tally.late, tally.failed,
		round(percentile(tally.starts, 100)), round(percentile(tally.ends, 50)), round(percentile(tally.ends, 100)), round(percentile(tally.delays, 100)),
	}
	want := figures{3, 1, 2, 4 * time.Millisecond, 20 * time.Millisecond, 31 * time.Millisecond, 30 * time.Millisecond}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tally (-want +got):\n%s", diff)
	}
	if !errors.Is(tally.failure, broken) {
		t.Errorf("failure %v, want the first, %v", tally.failure, broken)
	}
}

// A request does not wait for the answers to earlier ones.
func TestSender(t *testing.T) {
	const held = 40
	var arrived sync.WaitGroup
	arrived.Add(held)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Hold") != "" {
			arrived.Done()
			arrived.Wait() // until all are there
		}
		if r.Header.Get("Fail") != "" {
			http.Error(w, "overloaded", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte(`{"result":true,"content":{}}`))
	}))
	defer server.Close()
	arrivals := make([]arrival, held+10)
	for i := range arrivals {
		arrivals[i] = arrival{at: time.Duration(i) * time.Millisecond, call: i, kind: endArrival}
	}
	tally, err := (&sender{address: server.Listener.Addr().String()}).run(t.Context(), arrivals, func(dst []byte, a arrival) []byte {
		header := ""
		if a.call < held {
			header = "Hold: 1\r\n"
		} else if a.call == held {
			header = "Fail: 1\r\n"
		}
		return append(dst, "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"+header+"Content-Length: 0\r\n\r\n"...)
	})
	if err != nil {
		t.Fatal(err)
	}
	if tally.requests() != int64(len(arrivals)) || tally.failed != 1 {
		t.Errorf("%d requests, %d failed (%v), want %d and 1", tally.requests(), tally.failed, tally.failure, len(arrivals))
	}
	if first := percentile(tally.ends, 100); first < (held-1)*time.Millisecond {
		t.Errorf("the longest latency is %v, shorter than the first request was held", first)
	}
}

// Both requests of a call have its callID. The template is unchanged.
func TestCallRequests(t *testing.T) {
	calls, err := callRequests(fewTrackers, 20)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range calls {
		for _, q := range []request{c.start, c.end} {
			template := bytes.Clone(q.wire)
			got := appendRequest([]byte("before"), q, 42)
			want := "before" + string(bytes.Replace(template, []byte(callIDPrefix+callIDDigits), []byte(callID(42)), 1))
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			if !bytes.Equal(q.wire, template) {
				t.Error("template changed")
			}
		}
		if !bytes.Contains(c.end.wire, []byte(`"didCalled":"`+c.start.didCalled+`"`)) {
			t.Errorf("end call %q is not to %s", c.end.wire, c.start.didCalled)
		}
	}
}
