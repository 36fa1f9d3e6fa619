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

// onBoth runs a test on SQLite and on PostgreSQL. Each call of open returns another
// store on the same database.
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

// scenario is a set of CDRs and decisions, some of which belong together.
type scenario struct {
	decisions []storage.Decision
	cdrs      []storage.ReceivedCDR
}

// drawScenario uses few distinct values, so that CDRs belong to the same call, repeat
// each other, and compete for decisions.
func drawScenario(t *rapid.T) scenario {
	start := time.Date(2026, 9, 7, 10, 0, 0, 0, time.UTC)
	moment := func(label string) time.Time {
		return start.Add(time.Duration(rapid.IntRange(0, 12).Draw(t, label)) * 30 * time.Second)
	}
	of := func(label string, values ...string) string { return rapid.SampledFrom(values).Draw(t, label) }
	var s scenario
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
		s.cdrs = append(s.cdrs, r)
	}
	return s
}

// withPrefix returns the scenario with a prefix on its keys, numbers and IDs, so that it
// does not interact with scenarios of other prefixes.
func (s scenario) withPrefix(prefix string) scenario {
	s.decisions, s.cdrs = slices.Clone(s.decisions), slices.Clone(s.cdrs)
	addPrefix := func(names ...*string) {
		for _, name := range names {
			if *name != "" {
				*name = prefix + *name
			}
		}
	}
	for i := range s.decisions {
		d := &s.decisions[i]
		addPrefix(&d.ID, &d.DID, &d.CallID)
	}
	for i := range s.cdrs {
		c := &s.cdrs[i].Call
		addPrefix(&c.Key, &c.CallID, &c.DID)
	}
	return s
}

// outcome describes what the database stores of a scenario and the results of its
// requests, without the prefix and without IDs.
func outcome(t *rapid.T, s *Store, prefix string, sc scenario, requests []*saveRequest) string {
	var out strings.Builder
	numbers := make(map[string]string) // of call IDs, in the order of their first request
	for _, r := range requests {
		if r.err != nil {
			t.Fatalf("save: %v", r.err)
		}
		id := r.result.ID
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
		r.result.ID = numbers[id]
		fmt.Fprintf(&out, "%+v\n", r.result)
	}
	for _, d := range sc.decisions {
		d, err := s.Decision(t.Context(), d.ID)
		if err != nil {
			t.Fatalf("load decision: %v", err)
		}
		fmt.Fprintf(&out, "%s: %s\n", d.ID, numbers[d.Call])
	}
	return strings.ReplaceAll(out.String(), prefix, "")
}

func saveRequests(cdrs []storage.ReceivedCDR) []*saveRequest {
	requests := make([]*saveRequest, len(cdrs))
	for i, cdr := range cdrs {
		cdr.Call = normalizeCall(cdr.Call)
		requests[i] = &saveRequest{cdr: cdr}
	}
	return requests
}

// inRounds returns requests in the order in which a batch merges them: the first
// request of every call, then the second of those that have one, and so on. Calls are
// in the order of their first request. Any order is correct for requests that arrive
// at the same time.
func inRounds(requests []*saveRequest) []*saveRequest {
	var calls []string
	byCall := make(map[string][]*saveRequest)
	for _, r := range requests {
		call := r.cdr.Call.Key + r.cdr.Call.ContactCenter
		if byCall[call] == nil {
			calls = append(calls, call)
		}
		byCall[call] = append(byCall[call], r)
	}
	var ordered []*saveRequest
	for round := range requests {
		for _, call := range calls {
			if round < len(byCall[call]) {
				ordered = append(ordered, byCall[call][round])
			}
		}
	}
	return ordered
}

// TestBatchEqualsSingleSaves checks that saving CDRs in a batch has the same outcome as
// saving them one after another.
func TestBatchEqualsSingleSaves(t *testing.T) {
	onBoth(t, func(t *testing.T, open func() *Store) {
		s := open()
		if !s.db.Load().dialect.hasKeyTable {
			run(t, s.db.Load(), "PRAGMA synchronous = OFF") // thousands of commits, and no crash to survive
		}
		scenarios := 0
		rapid.Check(t, func(t *rapid.T) {
			drawn := drawScenario(t)
			first := rapid.IntRange(0, len(drawn.cdrs)).Draw(t, "in the first batch")
			scenarios++
			var outcomes []string
			for _, batched := range []bool{false, true} {
				prefix := fmt.Sprintf("s%d%t/", scenarios, batched)
				sc := drawn.withPrefix(prefix)
				if err := s.RecordDecisions(t.Context(), sc.decisions); err != nil {
					t.Fatal(err)
				}
				requests := saveRequests(sc.cdrs)
				if batched {
					for _, batch := range [][]*saveRequest{requests[:first], requests[first:]} {
						s.db.Load().commitBatch(t.Context(), batch)
					}
				} else {
					for _, batch := range [][]*saveRequest{inRounds(requests[:first]), inRounds(requests[first:])} {
						for _, r := range batch {
							s.db.Load().commitBatch(t.Context(), []*saveRequest{r})
						}
					}
				}
				outcomes = append(outcomes, outcome(t, s, prefix, sc, requests))
			}
			if diff := cmp.Diff(outcomes[0], outcomes[1]); diff != "" {
				t.Fatalf("different outcome (-single +batch):\n%s", diff)
			}
		})
	})
}

// TestBadCDRFailsAlone checks that CDRs that the database rejects do not prevent the
// others in their batch from being saved.
func TestBadCDRFailsAlone(t *testing.T) {
	onBoth(t, func(t *testing.T, open func() *Store) {
		s := open()
		rejectSQL := `CREATE TRIGGER reject BEFORE INSERT ON calls WHEN NEW.agent = 'rejected' BEGIN SELECT RAISE(ABORT, 'rejected'); END`
		if s.db.Load().dialect.hasKeyTable {
			rejectSQL = `ALTER TABLE calls ADD CONSTRAINT reject CHECK (agent <> 'rejected')`
		}
		run(t, s.db.Load(), rejectSQL)
		var cdrs []storage.ReceivedCDR
		for n := range int64(70) {
			r := benchCDR(n)
			if n%20 == 3 {
				r.Call.Agent = "rejected"
			}
			cdrs = append(cdrs, r)
		}
		batch := saveRequests(cdrs)
		s.db.Load().commitBatch(t.Context(), batch)
		for n, r := range batch {
			if rejected := n%20 == 3; rejected != (r.err != nil) || errors.Is(translate(r.err), storage.ErrUnavailable) {
				t.Errorf("CDR %d: rejected %t, error %v", n, rejected, r.err)
			}
			if r.err == nil != r.result.Created {
				t.Errorf("CDR %d: result %+v, error %v", n, r.result, r.err)
			}
		}
		calls, _, err := s.Calls(t.Context(), storage.CallFilter{}, storage.Page{Limit: 1000})
		if err != nil || len(calls) != 66 {
			t.Errorf("%d calls, %v; want 66", len(calls), err)
		}
	})
}

// TestTwoStoresSaveTheSameCalls saves the same calls through two stores, as two servers
// on one database do.
func TestTwoStoresSaveTheSameCalls(t *testing.T) {
	onBoth(t, func(t *testing.T, open func() *Store) {
		stores := []*Store{open(), open()}
		const calls, bodies = 12, 3
		type outcome struct {
			call   int
			result storage.SaveResult
		}
		outcomes := make(chan outcome, 2*calls*bodies)
		var senders sync.WaitGroup
		for i, s := range stores {
			for n := range calls {
				for body := range bodies {
					senders.Go(func() {
						r := benchCDR(int64(n))
						r.Raw = fmt.Appendf(nil, "%d of %d", body, n)
						r.Call.RevisedAt = r.Call.StartedAt.Add(time.Duration(body) * time.Hour)
						r.Call.HangupCause = fmt.Sprint("CAUSE_", body)
						result, err := s.SaveCall(t.Context(), r)
						if err != nil {
							t.Errorf("store %d: %v", i, err)
						}
						outcomes <- outcome{n, result}
					})
				}
			}
		}
		senders.Wait()
		close(outcomes)
		created, revised := 0, 0
		ids := make(map[int]string)
		for o := range outcomes {
			if o.result.Created {
				created++
			}
			if o.result.Revised {
				revised++
			}
			if ids[o.call] == "" {
				ids[o.call] = o.result.ID
			}
			if ids[o.call] != o.result.ID {
				t.Errorf("call %d has two IDs", o.call)
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
				t.Errorf("call %d: hangup cause %s, want that of the last revision", n, call.HangupCause)
			}
			var numbers []int
			for _, r := range revisions {
				numbers = append(numbers, r.Number)
			}
			if diff := cmp.Diff([]int{1, 2, 3}, numbers, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("call %d: revision numbers (-want +got):\n%s", n, diff)
			}
		}
	})
}
