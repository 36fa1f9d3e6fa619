package storetest

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"calltracker/storage"
)

func linkTests() []testCase {
	tests := []testCase{
		{"calls are linked to their decisions in any order", linkInAnyOrder},
		{"calls and decisions stored at the same time are linked", linkConcurrently},
		{"two calls of one caller are linked to the nearest decisions", func(t *testing.T, s Store) {
			first, second := decision(0), decision(2*time.Minute)
			record(t, s, first, second)
			late := save(t, s, cdrWithoutCallID("late", 2*time.Minute+time.Second))
			early := save(t, s, cdrWithoutCallID("early", time.Second))
			expectLinked(t, s, early.ID, first)
			expectLinked(t, s, late.ID, second)
		}},
		{"two late decisions are linked to the nearest calls", func(t *testing.T, s Store) {
			late := save(t, s, cdrWithoutCallID("late", 2*time.Minute+time.Second))
			early := save(t, s, cdrWithoutCallID("early", time.Second))
			first, second := decision(0), decision(2*time.Minute)
			record(t, s, second, first)
			expectLinked(t, s, early.ID, first)
			expectLinked(t, s, late.ID, second)
		}},
		{"a decision is linked to one call", func(t *testing.T, s Store) {
			d := decision(0)
			record(t, s, d)
			expectLinked(t, s, save(t, s, cdrWithoutCallID("a", 0)).ID, d)
			expectUnlinked(t, s, save(t, s, cdrWithoutCallID("b", 0)).ID)
		}},
		{"a late decision is linked to the nearest call only", func(t *testing.T, s Store) {
			near := save(t, s, cdrWithoutCallID("near", 10*time.Second))
			far := save(t, s, cdrWithoutCallID("far", 20*time.Second))
			d := decision(0)
			record(t, s, d)
			expectLinked(t, s, near.ID, d)
			expectUnlinked(t, s, far.ID)
		}},
		{"a decision recorded twice keeps its call", func(t *testing.T, s Store) {
			d := decision(0)
			record(t, s, d)
			first := save(t, s, cdrWithoutCallID("first", 0))
			second := save(t, s, cdrWithoutCallID("second", 0))
			again := d
			again.Route = "changed"
			record(t, s, again)
			expectLinked(t, s, first.ID, d)
			expectUnlinked(t, s, second.ID)
		}},
		{"a CDR with more data links the call", func(t *testing.T, s Store) {
			d := decision(0)
			record(t, s, d)
			blank := editedCDR(cdrWithoutCallID("c1", 0), func(c *storage.Call) { c.DID, c.Caller = "", "" })
			expectUnlinked(t, s, save(t, s, blank).ID)
			saved := save(t, s, cdrWithoutCallID("c1", 0))
			expectLinked(t, s, saved.ID, d)
		}},
		{"a linked call keeps its decision when it is revised", func(t *testing.T, s Store) {
			d, other := decision(0), decision(time.Second)
			record(t, s, d, other)
			save(t, s, cdrWithoutCallID("c1", 0))
			saved := save(t, s, editedCDR(cdrWithoutCallID("c1", 0), func(c *storage.Call) { c.StartedAt = noon.Add(time.Second); c.Agent = "0099" }))
			expectLinked(t, s, saved.ID, d)
			if left := loadDecision(t, s, other.ID); left.Call != "" {
				t.Errorf("the other decision has call %s, want none", left.Call)
			}
		}},
	}
	for _, tt := range linkCases() {
		tests = append(tests,
			testCase{tt.name + ", decision first", func(t *testing.T, s Store) {
				record(t, s, tt.decisions...)
				tt.check(t, s, save(t, s, tt.cdr).ID)
			}},
			testCase{tt.name + ", call first", func(t *testing.T, s Store) {
				id := save(t, s, tt.cdr).ID
				record(t, s, tt.decisions...)
				tt.check(t, s, id)
			}},
		)
	}
	return tests
}

// linkCase is a CDR and decisions, of which the first belongs to the call unless none is
// set.
type linkCase struct {
	name      string
	cdr       storage.ReceivedCDR
	decisions []storage.Decision
	none      bool
}

func (tt linkCase) check(t *testing.T, s Store, call string) {
	t.Helper()
	if tt.none {
		expectUnlinked(t, s, call)
	} else {
		expectLinked(t, s, call, tt.decisions[0])
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
			name: "by callID despite other numbers and times", cdr: newCDR("c1", 0),
			decisions: []storage.Decision{of(-time.Hour, callID("c1"), did("+97140000000"), caller("")), of(0)},
		},
		{
			name: "by the time of arrival if Ziwo's clock is far off", cdr: editedCDR(cdrWithoutCallID("c1", 0), func(c *storage.Call) {
				c.StartedAt, c.EndedAt = c.StartedAt.AddDate(-10, 0, 0), c.EndedAt.AddDate(-10, 0, 0)
				c.ReceivedAt, c.Duration = noon.Add(31*time.Second), 30
			}),
			decisions: []storage.Decision{of(time.Second), of(10 * minute)},
		},
		{
			name: "by callID, the nearest of two", cdr: newCDR("c1", 0),
			decisions: []storage.Decision{of(-time.Second, callID("c1")), of(-time.Minute, callID("c1"))},
		},
		{
			name: "by callID without a tracker", cdr: editedCDR(newCDR("c1", 0), func(c *storage.Call) { c.Tracker = "" }),
			decisions: []storage.Decision{of(-time.Hour, callID("c1"), tracker("support"))},
		},
		{
			name: "not to another tracker", cdr: newCDR("c1", 0), none: true,
			decisions: []storage.Decision{of(0, callID("c1"), tracker("support")), of(0, tracker("support"))},
		},
		{
			name: "by numbers and time, the nearest", cdr: cdrWithoutCallID("c1", 0),
			decisions: []storage.Decision{of(-3 * time.Second), of(-4 * minute), of(4 * time.Second)},
		},
		{
			name: "by numbers without a tracker", cdr: editedCDR(cdrWithoutCallID("c1", 0), func(c *storage.Call) { c.Tracker = "" }),
			decisions: []storage.Decision{of(-time.Second)},
		},
		{
			name: "by numbers if the start call has another callID", cdr: newCDR("c1", 0),
			decisions: []storage.Decision{of(-time.Second, callID("leg"))},
		},
		{
			name: "decision five minutes before", cdr: cdrWithoutCallID("c1", 0),
			decisions: []storage.Decision{of(-5 * minute)},
		},
		{
			name: "decision five minutes after", cdr: cdrWithoutCallID("c1", 0),
			decisions: []storage.Decision{of(5 * minute)},
		},
		{
			name: "not to a decision more than five minutes before", cdr: cdrWithoutCallID("c1", 0), none: true,
			decisions: []storage.Decision{of(-5*minute - microsecond)},
		},
		{
			name: "not to a decision more than five minutes after", cdr: cdrWithoutCallID("c1", 0), none: true,
			decisions: []storage.Decision{of(5*minute + microsecond)},
		},
		{
			name: "not to another DID", cdr: cdrWithoutCallID("c1", 0), none: true,
			decisions: []storage.Decision{of(0, did("+97148880002"))},
		},
		{
			name: "not to another caller", cdr: cdrWithoutCallID("c1", 0), none: true,
			decisions: []storage.Decision{of(0, caller("+971551230002"))},
		},
		{
			name: "not without a DID", cdr: editedCDR(cdrWithoutCallID("c1", 0), func(c *storage.Call) { c.DID = "" }), none: true,
			decisions: []storage.Decision{of(0, did(""))},
		},
		{
			name: "by DID and time if the decision has no caller", cdr: cdrWithoutCallID("c1", 0),
			decisions: []storage.Decision{of(-minute, caller(""))},
		},
		{
			name: "not by DID and time beyond a minute if the decision has no caller", cdr: cdrWithoutCallID("c1", 0), none: true,
			decisions: []storage.Decision{of(-minute-microsecond, caller(""))},
		},
		{
			name: "decision with the caller preferred over one without", cdr: cdrWithoutCallID("c1", 0),
			decisions: []storage.Decision{of(-4 * minute), of(0, caller(""))},
		},
		{
			name: "by end and duration if the start is unknown",
			cdr: editedCDR(cdrWithoutCallID("c1", 0), func(c *storage.Call) {
				c.EndedAt, c.Duration, c.StartedAt = noon.Add(20*minute), 20*60, time.Time{}
			}),
			decisions: []storage.Decision{of(-time.Second)},
		},
		{
			name: "by the time of arrival if the CDR has no times",
			cdr: editedCDR(cdrWithoutCallID("c1", 0), func(c *storage.Call) {
				c.StartedAt, c.AnsweredAt, c.EndedAt, c.ReceivedAt = time.Time{}, time.Time{}, time.Time{}, noon
			}),
			decisions: []storage.Decision{of(-time.Minute)},
		},
	}
}

// cdrWithoutCallID is newCDR without a callID.
func cdrWithoutCallID(key string, after time.Duration) storage.ReceivedCDR {
	r := newCDR("sha256:"+key, after)
	r.Call.CallID = ""
	return r
}

// expectLinked fails the test unless the call and the decision are linked to each other.
func expectLinked(t *testing.T, s Store, call string, d storage.Decision) {
	t.Helper()
	c, _ := load(t, s, call)
	if c.Decision != d.ID || c.Route != d.Route {
		t.Errorf("call has decision %q and route %q, want %q and %q", c.Decision, c.Route, d.ID, d.Route)
	}
	if got := loadDecision(t, s, d.ID).Call; got != call {
		t.Errorf("decision has call %q, want %q", got, call)
	}
}

// expectUnlinked fails the test if the call is linked to a decision.
func expectUnlinked(t *testing.T, s Store, call string) {
	t.Helper()
	if c, _ := load(t, s, call); c.Decision != "" || c.Route != "" {
		t.Errorf("call has decision %q and route %q, want none", c.Decision, c.Route)
	}
}

// linkInAnyOrder stores calls and decisions of many callers in random order, decisions in
// batches.
func linkInAnyOrder(t *testing.T, s Store) {
	random := rand.New(rand.NewPCG(1, 2))
	const pairs = 60
	var (
		cdrs      [pairs]storage.ReceivedCDR
		decisions [pairs]storage.Decision
		calls     [pairs]string
		batch     []storage.Decision
	)
	for n := range pairs {
		after := time.Duration(n) * time.Second
		cdrs[n], decisions[n] = cdrWithoutCallID(fmt.Sprint(n), after), decision(after)
		if n%2 == 0 {
			cdrs[n], decisions[n].CallID = newCDR(fmt.Sprint("c", n), after), fmt.Sprint("c", n)
		}
		caller := fmt.Sprintf("+9715512%05d", n)
		cdrs[n].Call.Caller, decisions[n].Caller = caller, caller
	}
	for _, n := range random.Perm(2 * pairs) {
		if n < pairs {
			calls[n] = save(t, s, cdrs[n]).ID
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
		expectLinked(t, s, calls[n], decisions[n])
	}
}

// linkConcurrently stores each decision while its call is being saved. Every third call is
// also revised at the same time. LinkUnlinkedCalls links what the transactions missed.
func linkConcurrently(t *testing.T, s Store) {
	const pairs = 90
	var (
		storing   sync.WaitGroup
		decisions [pairs]storage.Decision
		calls     [pairs]string
		started   = time.Now()
	)
	for n := range pairs {
		after, caller := time.Duration(n)*time.Second, fmt.Sprintf("+9715512%05d", n)
		decisions[n] = decision(after)
		decisions[n].Caller = caller
		cdr := editedCDR(cdrWithoutCallID(fmt.Sprint(n), after), func(c *storage.Call) { c.Caller = caller })
		second := editedCDR(cdr, func(c *storage.Call) { c.Agent = "0099" })
		second.Raw = []byte("second")
		storing.Go(func() {
			if err := s.RecordDecisions(t.Context(), decisions[n:n+1]); err != nil {
				t.Error(err)
			}
		})
		storing.Go(func() {
			saved, err := s.SaveCall(t.Context(), cdr)
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
	if _, err := s.LinkUnlinkedCalls(t.Context(), started.Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	for n := range pairs {
		expectLinked(t, s, calls[n], decisions[n])
	}
	if again, err := s.LinkUnlinkedCalls(t.Context(), started.Add(-time.Second)); err != nil || again != 0 {
		t.Errorf("second run linked %d calls, %v; want none", again, err)
	}
}
