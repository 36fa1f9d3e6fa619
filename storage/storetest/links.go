package storetest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"calltracker/storage"
)

func linkTests() []test {
	tests := []test{
		{"each call has its own decision, in any order", linkedInAnyOrder},
		{"calls and decisions that are stored at the same time find each other", linkedAtOnce},
		{"two calls of one caller take the nearest decision each", func(t *testing.T, s Store) {
			first, second := decision(0), decision(2*time.Minute)
			record(t, s, first, second)
			late := save(t, s, anonymous("late", 2*time.Minute+time.Second))
			early := save(t, s, anonymous("early", time.Second))
			linked(t, s, early.ID, first)
			linked(t, s, late.ID, second)
		}},
		{"two late decisions take the nearest call each", func(t *testing.T, s Store) {
			late := save(t, s, anonymous("late", 2*time.Minute+time.Second))
			early := save(t, s, anonymous("early", time.Second))
			first, second := decision(0), decision(2*time.Minute)
			record(t, s, second, first)
			linked(t, s, early.ID, first)
			linked(t, s, late.ID, second)
		}},
		{"a decision serves one call", func(t *testing.T, s Store) {
			d := decision(0)
			record(t, s, d)
			linked(t, s, save(t, s, anonymous("a", 0)).ID, d)
			unlinked(t, s, save(t, s, anonymous("b", 0)).ID)
		}},
		{"a late decision serves one call, the nearest", func(t *testing.T, s Store) {
			near := save(t, s, anonymous("near", 10*time.Second))
			far := save(t, s, anonymous("far", 20*time.Second))
			d := decision(0)
			record(t, s, d)
			linked(t, s, near.ID, d)
			unlinked(t, s, far.ID)
		}},
		{"a decision recorded again stays with its call", func(t *testing.T, s Store) {
			d := decision(0)
			record(t, s, d)
			first := save(t, s, anonymous("first", 0))
			second := save(t, s, anonymous("second", 0))
			again := d
			again.Route = "changed"
			record(t, s, again)
			linked(t, s, first.ID, d)
			unlinked(t, s, second.ID)
		}},
		{"a body that tells more links the call", func(t *testing.T, s Store) {
			d := decision(0)
			record(t, s, d)
			blank := with(anonymous("c1", 0), func(c *storage.Call) { c.DID, c.Caller = "", "" })
			unlinked(t, s, save(t, s, blank).ID)
			saved := save(t, s, anonymous("c1", 0))
			linked(t, s, saved.ID, d)
		}},
		{"a linked call keeps its decision when more bodies come", func(t *testing.T, s Store) {
			d, other := decision(0), decision(time.Second)
			record(t, s, d, other)
			save(t, s, anonymous("c1", 0))
			saved := save(t, s, with(anonymous("c1", 0), func(c *storage.Call) { c.StartedAt = noon.Add(time.Second); c.Agent = "0099" }))
			linked(t, s, saved.ID, d)
			if left := loadDecision(t, s, other.ID); left.Call != "" {
				t.Errorf("the other decision has call %s, want none", left.Call)
			}
		}},
	}
	for _, tt := range linkCases() {
		tests = append(tests,
			test{tt.name + ", decision first", func(t *testing.T, s Store) {
				record(t, s, tt.decisions...)
				tt.check(t, s, save(t, s, tt.report).ID)
			}},
			test{tt.name + ", call first", func(t *testing.T, s Store) {
				id := save(t, s, tt.report).ID
				record(t, s, tt.decisions...)
				tt.check(t, s, id)
			}},
		)
	}
	return tests
}

// linkCase is a call and decisions of which the first, or none, is the call's.
type linkCase struct {
	name      string
	report    storage.ReceivedCDR
	decisions []storage.Decision
	none      bool
}

func (tt linkCase) check(t *testing.T, s Store, call string) {
	t.Helper()
	if tt.none {
		unlinked(t, s, call)
	} else {
		linked(t, s, call, tt.decisions[0])
	}
}

func linkCases() []linkCase {
	const (
		minute      = time.Minute
		microsecond = time.Microsecond
	)
	of := func(after time.Duration, edits ...func(*storage.Decision)) storage.Decision {
		d := decision(after)
		for _, edit := range edits {
			edit(&d)
		}
		return d
	}
	callID := func(id string) func(*storage.Decision) { return func(d *storage.Decision) { d.CallID = id } }
	did := func(n string) func(*storage.Decision) { return func(d *storage.Decision) { d.DID = n } }
	caller := func(n string) func(*storage.Decision) { return func(d *storage.Decision) { d.Caller = n } }
	tracker := func(name string) func(*storage.Decision) { return func(d *storage.Decision) { d.Tracker = name } }

	return []linkCase{
		{
			name: "by callID, whatever the numbers and the time", report: body("c1", 0),
			decisions: []storage.Decision{of(-time.Hour, callID("c1"), did("+97140000000"), caller("")), of(0)},
		},
		{
			name: "by our clock when Ziwo's is far off", report: with(anonymous("c1", 0), func(c *storage.Call) {
				c.StartedAt, c.EndedAt = c.StartedAt.AddDate(-10, 0, 0), c.EndedAt.AddDate(-10, 0, 0)
				c.ReceivedAt, c.Duration = noon.Add(31*time.Second), 30
			}),
			decisions: []storage.Decision{of(time.Second), of(10 * minute)},
		},
		{
			name: "by callID, the nearest of two", report: body("c1", 0),
			decisions: []storage.Decision{of(-time.Second, callID("c1")), of(-time.Minute, callID("c1"))},
		},
		{
			name: "by callID from the webhook, which knows no tracker", report: with(body("c1", 0), func(c *storage.Call) { c.Tracker = "" }),
			decisions: []storage.Decision{of(-time.Hour, callID("c1"), tracker("support"))},
		},
		{
			name: "not to another tracker", report: body("c1", 0), none: true,
			decisions: []storage.Decision{of(0, callID("c1"), tracker("support")), of(0, tracker("support"))},
		},
		{
			name: "by numbers and time, the nearest", report: anonymous("c1", 0),
			decisions: []storage.Decision{of(-3 * time.Second), of(-4 * minute), of(4 * time.Second)},
		},
		{
			name: "by numbers from the webhook, which knows no tracker", report: with(anonymous("c1", 0), func(c *storage.Call) { c.Tracker = "" }),
			decisions: []storage.Decision{of(-time.Second)},
		},
		{
			name: "by numbers although Ziwo gave the start call an id of its own", report: body("c1", 0),
			decisions: []storage.Decision{of(-time.Second, callID("leg"))},
		},
		{
			name: "five minutes before", report: anonymous("c1", 0),
			decisions: []storage.Decision{of(-5 * minute)},
		},
		{
			name: "five minutes after", report: anonymous("c1", 0),
			decisions: []storage.Decision{of(5 * minute)},
		},
		{
			name: "not longer before", report: anonymous("c1", 0), none: true,
			decisions: []storage.Decision{of(-5*minute - microsecond)},
		},
		{
			name: "not longer after", report: anonymous("c1", 0), none: true,
			decisions: []storage.Decision{of(5*minute + microsecond)},
		},
		{
			name: "not to another DID", report: anonymous("c1", 0), none: true,
			decisions: []storage.Decision{of(0, did("+97148880002"))},
		},
		{
			name: "not to another caller", report: anonymous("c1", 0), none: true,
			decisions: []storage.Decision{of(0, caller("+971551230002"))},
		},
		{
			name: "not without a DID", report: with(anonymous("c1", 0), func(c *storage.Call) { c.DID = "" }), none: true,
			decisions: []storage.Decision{of(0, did(""))},
		},
		{
			name: "by DID and time when Ziwo did not tell the caller", report: anonymous("c1", 0),
			decisions: []storage.Decision{of(-minute, caller(""))},
		},
		{
			name: "within a shorter time when Ziwo did not tell the caller", report: anonymous("c1", 0), none: true,
			decisions: []storage.Decision{of(-minute-microsecond, caller(""))},
		},
		{
			name: "the caller's decision before one without a caller", report: anonymous("c1", 0),
			decisions: []storage.Decision{of(-4 * minute), of(0, caller(""))},
		},
		{
			name: "by the end and the duration when the start is not known",
			report: with(anonymous("c1", 0), func(c *storage.Call) {
				c.EndedAt, c.Duration, c.StartedAt = noon.Add(20*minute), 20*60, time.Time{}
			}),
			decisions: []storage.Decision{of(-time.Second)},
		},
		{
			name: "by the time of arrival when no time is known",
			report: with(anonymous("c1", 0), func(c *storage.Call) {
				c.StartedAt, c.AnsweredAt, c.EndedAt, c.ReceivedAt = time.Time{}, time.Time{}, time.Time{}, noon
			}),
			decisions: []storage.Decision{of(-time.Minute)},
		},
	}
}

// anonymous is body without a callID.
func anonymous(key string, after time.Duration) storage.ReceivedCDR {
	r := body("sha256:"+key, after)
	r.Call.CallID = ""
	return r
}

// linked fails the test unless call and decision know each other.
func linked(t *testing.T, s Store, call string, d storage.Decision) {
	t.Helper()
	c, _ := load(t, s, call)
	if c.Decision != d.ID || c.Route != d.Route {
		t.Errorf("call has decision %q and route %q, want %q and %q", c.Decision, c.Route, d.ID, d.Route)
	}
	if got := loadDecision(t, s, d.ID).Call; got != call {
		t.Errorf("decision has call %q, want %q", got, call)
	}
}

func unlinked(t *testing.T, s Store, call string) {
	t.Helper()
	if c, _ := load(t, s, call); c.Decision != "" || c.Route != "" {
		t.Errorf("call has decision %q and route %q, want none", c.Decision, c.Route)
	}
}

// linkedInAnyOrder mixes calls and decisions of many callers and records them in
// random order, decisions in batches.
func linkedInAnyOrder(t *testing.T, s Store) {
	random := rand.New(rand.NewPCG(1, 2))
	const pairs = 60
	var (
		reports   [pairs]storage.ReceivedCDR
		decisions [pairs]storage.Decision
		calls     [pairs]string
		batch     []storage.Decision
	)
	for n := range pairs {
		after := time.Duration(n) * time.Second
		reports[n], decisions[n] = anonymous(fmt.Sprint(n), after), decision(after)
		if n%2 == 0 {
			reports[n], decisions[n].CallID = body(fmt.Sprint("c", n), after), fmt.Sprint("c", n)
		}
		caller := fmt.Sprintf("+9715512%05d", n)
		reports[n].Call.Caller, decisions[n].Caller = caller, caller
	}
	for _, n := range random.Perm(2 * pairs) {
		if n < pairs {
			calls[n] = save(t, s, reports[n]).ID
			continue
		}
		batch = append(batch, decisions[n-pairs])
		if random.IntN(3) == 0 {
			record(t, s, batch...)
			batch = nil
		}
	}
	record(t, s, batch...)
	for n := range pairs {
		linked(t, s, calls[n], decisions[n])
	}
}

// linkedAtOnce stores each decision while its call is being saved. Whoever misses
// the other is found by LinkUnlinkedCalls, and by the second body of every third call,
// which comes at that time too.
func linkedAtOnce(t *testing.T, s Store) {
	const pairs = 90
	var (
		storing   sync.WaitGroup
		decisions [pairs]storage.Decision
		calls     [pairs]string
		began     = time.Now()
	)
	for n := range pairs {
		after, caller := time.Duration(n)*time.Second, fmt.Sprintf("+9715512%05d", n)
		decisions[n] = decision(after)
		decisions[n].Caller = caller
		report := with(anonymous(fmt.Sprint(n), after), func(c *storage.Call) { c.Caller = caller })
		second := with(report, func(c *storage.Call) { c.Agent = "0099" })
		second.Raw = []byte("second")
		storing.Go(func() {
			if err := s.RecordDecisions(t.Context(), decisions[n:n+1]); err != nil {
				t.Error(err)
			}
		})
		storing.Go(func() {
			saved, err := s.SaveCall(t.Context(), report)
			if err != nil {
				t.Error(err)
			}
			calls[n] = saved.ID
			if n%3 == 0 {
				if _, err := s.SaveCall(t.Context(), second); err != nil {
					t.Error(err)
				}
			}
		})
		if n%9 == 8 {
			storing.Wait()
		}
	}
	storing.Wait()
	if _, err := s.LinkUnlinkedCalls(t.Context(), began.Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	for n := range pairs {
		linked(t, s, calls[n], decisions[n])
	}
	if again, err := s.LinkUnlinkedCalls(t.Context(), began.Add(-time.Second)); err != nil || again != 0 {
		t.Errorf("%d linked again, %v", again, err)
	}
}
