package sqlstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"calltracker/storage"
	"calltracker/storage/storetest/postgrestest"
)

// onBoth runs a test on both databases; every call of open gives another store on
// the same one.
func onBoth(t *testing.T, test func(t *testing.T, open func() *Store)) {
	t.Run("SQLite", func(t *testing.T) {
		dir := t.TempDir()
		test(t, func() *Store { return open(t, dir) })
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		address := postgrestest.Database(t, postgrestest.Address(t))
		test(t, func() *Store { return openURL(t, address) })
	})
}

// scene is reports and the decisions that some of them followed, in a world of
// their own: nothing of one scene can be taken for a part of another.
type scene struct {
	decisions []storage.Decision
	reports   []storage.ReceivedCDR
}

// drawScene draws few different values, so that reports are of one call, repeat
// each other, and compete for decisions.
func drawScene(t *rapid.T) scene {
	start := time.Date(2026, 9, 7, 10, 0, 0, 0, time.UTC)
	moment := func(label string) time.Time {
		return start.Add(time.Duration(rapid.IntRange(0, 12).Draw(t, label)) * 30 * time.Second)
	}
	of := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label) }
	var s scene
	for n := range rapid.IntRange(0, 5).Draw(t, "decisions") {
		s.decisions = append(s.decisions, storage.Decision{
			ID: fmt.Sprint("decision-", n), At: moment("decided"), Tracker: of("tracker", "sales", "service"),
			DID: of("did", "1", "2"), Caller: of("caller", "", "7", "8"), CallID: of("callID", "", "k0", "k1", "k2"),
			Route: fmt.Sprint("route-", n),
		})
	}
	for range rapid.IntRange(1, 12).Draw(t, "reports") {
		key := of("key", "k0", "k1", "k2", "k3", "k4", "k5")
		at := moment("started")
		r := storage.ReceivedCDR{
			Call: storage.Call{
				ContactCenter: of("contact center", "", "north"), Key: key, CallID: key, Tracker: of("tracker", "", "sales", "service"),
				DID: of("did", "", "1", "2"), Caller: of("caller", "7", "8"), StartedAt: at, ReceivedAt: at.Add(time.Minute),
				Duration: 60, Result: rapid.SampledFrom(storage.Results()).Draw(t, "result"), HangupCause: of("cause", "", "X", "Y"),
				RevisedAt: rapid.SampledFrom([]time.Time{{}, at}).Draw(t, "revised"), Agent: of("agent", "", "a"),
			},
			Source: rapid.SampledFrom([]storage.Source{storage.FromEndCall, storage.FromCallHistory}).Draw(t, "source"),
			Raw:    []byte(of("body", "1", "2", "3")),
		}
		if rapid.Bool().Draw(t, "timeless") {
			r.Call.StartedAt = time.Time{}
		}
		s.reports = append(s.reports, r)
	}
	return s
}

// in moves a scene to a world.
func (s scene) in(world string) scene {
	s.decisions, s.reports = slices.Clone(s.decisions), slices.Clone(s.reports)
	named := func(names ...*string) {
		for _, name := range names {
			if *name != "" {
				*name = world + *name
			}
		}
	}
	for i := range s.decisions {
		d := &s.decisions[i]
		named(&d.ID, &d.DID, &d.CallID)
	}
	for i := range s.reports {
		c := &s.reports[i].Call
		named(&c.Key, &c.CallID, &c.DID)
	}
	return s
}

// outcome is what became of a scene, without what differs from world to world.
func outcome(t *rapid.T, s *Store, world string, sc scene, reports []*pending) string {
	var out strings.Builder
	numbers := make(map[string]string) // ids of calls, by the order of their first report
	for _, p := range reports {
		if p.err != nil {
			t.Fatalf("save: %v", p.err)
		}
		id := p.saved.ID
		if numbers[id] == "" {
			numbers[id] = fmt.Sprint("call-", len(numbers))
			call, revisions, err := s.Call(t.Context(), id)
			if err != nil {
				t.Fatalf("load: %v", err)
			}
			call.ID = ""
			fmt.Fprintf(&out, "%+v\n", call)
			for _, r := range revisions {
				fmt.Fprintf(&out, "  %+v\n", r)
			}
		}
		p.saved.ID = numbers[id]
		fmt.Fprintf(&out, "%+v\n", p.saved)
	}
	for _, d := range sc.decisions {
		d, err := s.Decision(t.Context(), d.ID)
		if err != nil {
			t.Fatalf("load decision: %v", err)
		}
		fmt.Fprintf(&out, "%s: %s\n", d.ID, numbers[d.Call])
	}
	return strings.ReplaceAll(out.String(), world, "")
}

func pendings(reports []storage.ReceivedCDR) []*pending {
	out := make([]*pending, len(reports))
	for i, r := range reports {
		r.Call = tidy(r.Call)
		out[i] = &pending{report: r}
	}
	return out
}

// inTurn is the order in which a batch takes its reports: of every call the first,
// then the second of those that have one, calls always in the order of their
// first. They came at the same time, so that is as good as any.
func inTurn(reports []*pending) []*pending {
	var calls []string
	of := make(map[string][]*pending)
	for _, p := range reports {
		call := p.report.Call.Key + p.report.Call.ContactCenter
		if of[call] == nil {
			calls = append(calls, call)
		}
		of[call] = append(of[call], p)
	}
	var turns []*pending
	for round := range reports {
		for _, call := range calls {
			if round < len(of[call]) {
				turns = append(turns, of[call][round])
			}
		}
	}
	return turns
}

// TestBatchIsOneAfterAnother holds a batch to what its reports would come to if
// each were saved alone, one after another.
func TestBatchIsOneAfterAnother(t *testing.T) {
	onBoth(t, func(t *testing.T, open func() *Store) {
		s := open()
		if !s.db.Load().dialect.keyed {
			run(t, s.db.Load(), "PRAGMA synchronous = OFF") // a thousand commits and no crash
		}
		worlds := 0
		rapid.Check(t, func(t *rapid.T) {
			drawn := drawScene(t)
			cut := rapid.IntRange(0, len(drawn.reports)).Draw(t, "in the first batch")
			worlds++
			var outcomes []string
			for _, together := range []bool{false, true} {
				world := fmt.Sprintf("w%d%t/", worlds, together)
				sc := drawn.in(world)
				if err := s.RecordDecisions(t.Context(), sc.decisions); err != nil {
					t.Fatal(err)
				}
				reports := pendings(sc.reports)
				if together {
					for _, batch := range [][]*pending{reports[:cut], reports[cut:]} {
						s.db.Load().commitBatch(t.Context(), batch)
					}
				} else {
					for _, batch := range [][]*pending{inTurn(reports[:cut]), inTurn(reports[cut:])} {
						for _, p := range batch {
							s.db.Load().commitBatch(t.Context(), []*pending{p})
						}
					}
				}
				outcomes = append(outcomes, outcome(t, s, world, sc, reports))
			}
			if diff := cmp.Diff(outcomes[0], outcomes[1]); diff != "" {
				t.Fatalf("one after another and together (-one +together):\n%s", diff)
			}
		})
	})
}

// TestBadReportFailsAlone lets the database refuse some of a batch.
func TestBadReportFailsAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, open func() *Store) {
		s := open()
		refuse := `CREATE TRIGGER refuse BEFORE INSERT ON calls WHEN NEW.agent = 'refused' BEGIN SELECT RAISE(ABORT, 'refused'); END`
		if s.db.Load().dialect.keyed {
			refuse = `ALTER TABLE calls ADD CONSTRAINT refuse CHECK (agent <> 'refused')`
		}
		run(t, s.db.Load(), refuse)
		var reports []storage.ReceivedCDR
		for n := range int64(70) {
			r := benchReport(n)
			if n%20 == 3 {
				r.Call.Agent = "refused"
			}
			reports = append(reports, r)
		}
		batch := pendings(reports)
		s.db.Load().commitBatch(t.Context(), batch)
		for n, p := range batch {
			if refused := n%20 == 3; refused != (p.err != nil) || errors.Is(translate(p.err), storage.ErrUnavailable) {
				t.Errorf("report %d: %v", n, p.err)
			}
			if p.err == nil != p.saved.Created {
				t.Errorf("report %d: saved %+v", n, p.saved)
			}
		}
		calls, _, err := s.Calls(t.Context(), storage.CallFilter{}, storage.Page{Limit: 1000})
		if err != nil || len(calls) != 66 {
			t.Errorf("%d calls, %v; want 66", len(calls), err)
		}
	})
}

// TestTwoStoresOfOneCall saves the same calls through two stores, as two servers
// on one database do.
func TestTwoStoresOfOneCall(t *testing.T) {
	onBoth(t, func(t *testing.T, open func() *Store) {
		stores := []*Store{open(), open()}
		const calls, bodies = 12, 3
		type answer struct {
			n     int
			saved storage.SaveResult
		}
		answers := make(chan answer, 2*calls*bodies)
		var senders sync.WaitGroup
		for which, s := range stores {
			for n := range calls {
				for body := range bodies {
					senders.Go(func() {
						r := benchReport(int64(n))
						r.Raw = fmt.Appendf(nil, "%d of %d", body, n)
						r.Call.RevisedAt = r.Call.StartedAt.Add(time.Duration(body) * time.Hour)
						r.Call.HangupCause = fmt.Sprint("CAUSE_", body)
						saved, err := s.SaveCall(t.Context(), r)
						if err != nil {
							t.Errorf("store %d: %v", which, err)
						}
						answers <- answer{n, saved}
					})
				}
			}
		}
		senders.Wait()
		close(answers)
		created, revised := 0, 0
		ids := make(map[int]string)
		for a := range answers {
			if a.saved.Created {
				created++
			}
			if a.saved.Revised {
				revised++
			}
			if ids[a.n] == "" {
				ids[a.n] = a.saved.ID
			}
			if ids[a.n] != a.saved.ID {
				t.Errorf("call %d has two ids", a.n)
			}
		}
		if created != calls || revised != calls*(bodies-1) {
			t.Errorf("%d created and %d revised, want %d and %d", created, revised, calls, calls*(bodies-1))
		}
		for n, id := range ids {
			call, revisions, err := stores[0].Call(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			if call.HangupCause != fmt.Sprint("CAUSE_", bodies-1) {
				t.Errorf("call %d: cause %s, want the one written last", n, call.HangupCause)
			}
			var numbers []int
			for _, r := range revisions {
				numbers = append(numbers, r.Number)
			}
			if diff := cmp.Diff([]int{1, 2, 3}, numbers, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("call %d: numbers of revisions (-want +got):\n%s", n, diff)
			}
		}
	})
}
