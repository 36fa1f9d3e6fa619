package ziwotest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"calltracker/ziwo/ziwotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var day = time.Date(2026, time.March, 3, 0, 0, 0, 0, time.UTC)

// trackerServer answers start calls and records the requests.
type trackerServer struct {
	*httptest.Server
	mu     sync.Mutex
	starts int
	ends   [][]byte       // bodies of end calls
	keys   map[string]int // number of requests by API key
}

const rulesAnswer = `{"result":true,"content":{"didCalled":%q,"rules":[{"action":"call","number":"0501112233","callerID":"042223344","timeout":12},` +
	`{"action":"call","number":"045556677","callerID":"042223344","timeout":20}],"voicemail":true},"info":{}}`

func newTrackerServer(t testing.TB) *trackerServer {
	t.Helper()
	s := &trackerServer{keys: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/start" {
			did := r.FormValue("didCalled")
			s.mu.Lock()
			s.starts++
			s.keys[r.Header.Get("X-API-Key")]++
			s.mu.Unlock()
			if did == "" {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			_, _ = fmt.Fprintf(w, rulesAnswer, did)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		s.ends = append(s.ends, body)
		s.keys[r.Header.Get("X-API-Key")]++
		s.mu.Unlock()
		_, _ = io.WriteString(w, `{"result":true,"content":{},"info":{}}`)
	}))
	t.Cleanup(s.Close)
	return s
}

// newZiwo returns a Ziwo with two numbers that route to the tracker at s.
func newZiwo(t testing.TB, s *trackerServer, o ziwotest.Options) *ziwotest.Ziwo {
	t.Helper()
	z := ziwotest.New(o)
	t.Cleanup(z.Close)
	z.AddTracker(ziwotest.Tracker{Name: "sales", StartRequestURL: s.URL + "/start", StartRequestKey: "start-key", EndRequestURL: s.URL + "/end", EndRequestKey: "end-key"})
	z.AddNumber(ziwotest.Number{E164: "+97142345678", DIDCalled: "042345678", Tracker: "sales"})
	z.AddNumber(ziwotest.Number{E164: "+97142345679", DIDCalled: "042345679", Tracker: "sales"})
	return z
}

func TestSimulateIsDeterministic(t *testing.T) {
	callFaults := ziwotest.EveryFault(0.05)
	callFaults.CutStart, callFaults.SlowStart = 0, 0 // the outcome of these depends on the network
	simulate := func() ([]ziwotest.Call, ziwotest.Report) {
		z := newZiwo(t, newTrackerServer(t), ziwotest.Options{Seed: 7})
		report, err := z.Simulate(t.Context(), ziwotest.Simulation{From: day, Length: 24 * time.Hour, Calls: 400, Profile: ziwotest.BusinessDay(), Faults: callFaults})
		if err != nil {
			t.Fatal(err)
		}
		return z.EndedCalls(), report
	}
	first, report := simulate()
	second, _ := simulate()
	if diff := cmp.Diff(first, second, cmpopts.IgnoreUnexported(ziwotest.Call{}), cmpopts.IgnoreFields(ziwotest.Call{}, "Deliveries", "StartStatus")); diff != "" {
		t.Errorf("the simulations differ:\n%s", diff)
	}
	if len(first) != 400 || report.Calls != 400 {
		t.Errorf("%d ended calls and %d in the report, want 400", len(first), report.Calls)
	}
	if len(report.Violations) > 0 {
		t.Errorf("violations: %v", report.Violations)
	}
	for _, result := range []string{"answered", "missed", "voicemail"} {
		if report.Results[result] == 0 {
			t.Errorf("no call has the result %s: %v", result, report.Results)
		}
	}
	for _, c := range first {
		consistent := c.EndedAt.Sub(c.StartedAt) == time.Duration(c.Duration)*time.Second
		if !consistent || c.StartedAt.Before(day) || c.StartedAt.After(day.AddDate(0, 0, 1)) || c.RingTime+c.TalkTime != c.Duration {
			t.Fatalf("the times of %+v are inconsistent", c)
		}
	}
}

func TestSimulationsHaveDifferentCalls(t *testing.T) {
	z := newZiwo(t, newTrackerServer(t), ziwotest.Options{Seed: 7})
	for range 2 {
		if _, err := z.Simulate(t.Context(), ziwotest.Simulation{From: day, Length: time.Hour, Calls: 30}); err != nil {
			t.Fatal(err)
		}
	}
	z.SetNow(time.Time{}) // after the end of all calls
	ids := map[string]bool{}
	for _, c := range z.EndedCalls() {
		ids[c.CallID] = true
	}
	if len(ids) != 60 {
		t.Errorf("%d call ids, want 60", len(ids))
	}
}

func TestEveryFault(t *testing.T) {
	s := newTrackerServer(t)
	z := newZiwo(t, s, ziwotest.Options{Seed: 3})
	report, err := z.Simulate(t.Context(), ziwotest.Simulation{From: day, Length: time.Hour, Calls: 600, Faults: ziwotest.EveryFault(0.08)})
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range []string{
		"duplicate", "reordered", "delayed", "dropped", "truncated", "cut", "changed types", "curly quotes", "no key", "late recording",
		"slow start", "cut start", "start without key", "test call",
	} {
		if report.Faults[fault] == 0 {
			t.Errorf("no call has the fault %q: %v", fault, report.Faults)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	valid, invalid := 0, 0
	for _, body := range s.ends {
		if json.Valid(body) {
			valid++
		} else {
			invalid++
		}
	}
	if valid == 0 || invalid == 0 {
		t.Errorf("%d bodies are valid JSON and %d are not, want some of each", valid, invalid)
	}
	if s.keys[""] == 0 || s.keys["start-key"] == 0 || s.keys["end-key"] == 0 {
		t.Errorf("got requests with the keys %v, want some without, with start-key and with end-key", s.keys)
	}
	undelivered := 0
	for _, c := range z.EndedCalls() {
		if !c.Delivered() {
			undelivered++
		}
	}
	if undelivered == 0 {
		t.Error("every call was delivered, want some faults")
	}
}

func TestSimulateWithUnavailableServer(t *testing.T) {
	s := newTrackerServer(t)
	z := newZiwo(t, s, ziwotest.Options{Seed: 5})
	s.Close()
	report, err := z.Simulate(t.Context(), ziwotest.Simulation{From: day, Length: time.Hour, Calls: 50})
	if err != nil {
		t.Fatal(err)
	}
	if report.Results["failed"] != 50 || len(z.EndedCalls()) != 50 {
		t.Errorf("results %v and %d calls, want 50 failed calls", report.Results, len(z.EndedCalls()))
	}
}

func TestSimulateEndsWithContext(t *testing.T) {
	z := newZiwo(t, newTrackerServer(t), ziwotest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	started := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		_, err := z.Simulate(ctx, ziwotest.Simulation{Rate: 3600, Speed: 100, OnStart: func(ziwotest.Call) {
			select {
			case started <- struct{}{}:
			default:
			}
		}})
		ended <- err
	}()
	<-started
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestSimulateReportsViolations(t *testing.T) {
	for name, answer := range map[string]string{
		"no envelope":       `{"rules":[]}`,
		"other DID":         `{"result":true,"content":{"didCalled":"1","rules":[]},"info":{}}`,
		"rules are missing": `{"result":true,"content":{"didCalled":"042345678"},"info":{}}`,
		"timeout is text":   `{"result":true,"content":{"didCalled":"042345678","rules":[{"action":"call","number":"1","callerID":"","timeout":"10"}]},"info":{}}`,
		"not JSON":          `<html>`,
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
			defer s.Close()
			z := ziwotest.New(ziwotest.Options{})
			defer z.Close()
			z.AddTracker(ziwotest.Tracker{Name: "sales", StartRequestURL: s.URL, EndRequestURL: s.URL})
			z.AddNumber(ziwotest.Number{E164: "+97142345678", DIDCalled: "042345678", Tracker: "sales"})
			report, err := z.Simulate(t.Context(), ziwotest.Simulation{From: day, Length: time.Minute, Calls: 1})
			if err != nil || len(report.Violations) != 1 {
				t.Errorf("got violations %v and error %v, want one violation", report.Violations, err)
			}
		})
	}
}

func BenchmarkSimulate(b *testing.B) {
	z := newZiwo(b, newTrackerServer(b), ziwotest.Options{Seed: 1})
	b.ResetTimer()
	report, err := z.Simulate(b.Context(), ziwotest.Simulation{From: day, Length: 24 * time.Hour, Calls: b.N})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(report.Calls)/report.Took.Seconds(), "calls/s")
}
