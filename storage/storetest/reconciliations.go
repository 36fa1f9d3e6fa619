package storetest

import (
	"slices"
	"testing"
	"time"

	"calltracker/storage"
)

func reconciliationTests() []testCase {
	return []testCase{
		{"are listed completely, newest first, in pages", func(t *testing.T, s Store) {
			var all []storage.Reconciliation
			for n := range 7 {
				at := noon.Add(time.Duration(n/2) * time.Minute)
				r := storage.Reconciliation{
					ID: newID(), ContactCenter: "aldebaran", Trigger: storage.TriggerSchedule, From: at.Add(-time.Hour), To: at, Reached: at,
					StartedAt: at, EndedAt: at.Add(time.Second), State: storage.ReconciliationDone, Notes: []string{"a note"},
					Counts: storage.ReconciliationCounts{Requests: n, Found: 9, Present: 7, Backfilled: 2, Enriched: 1, Differing: 3, Unended: 4, Open: []string{"x"}},
				}
				if err := s.RecordReconciliation(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				all = append(all, r)
			}
			if err := s.RecordReconciliation(t.Context(), all[3]); err != nil { // recorded twice
				t.Fatal(err)
			}
			slices.Reverse(all)
			got, next, err := s.Reconciliations(t.Context(), storage.Page{})
			if err != nil || next != "" {
				t.Fatalf("next %q, %v", next, err)
			}
			expectEqual(t, "reconciliations", all, got)
			expectPages(t, len(all), 2, func(p storage.Page) ([]string, string, error) {
				page, next, err := s.Reconciliations(t.Context(), p)
				return ids(page, func(r storage.Reconciliation) string { return r.ID }), next, err
			})
		}},
		{"the last one is a scheduled one of the contact center", func(t *testing.T, s Store) {
			put := func(center string, trigger storage.Trigger, state storage.ReconciliationState, reached, ended time.Duration) {
				t.Helper()
				if err := s.RecordReconciliation(t.Context(), storage.Reconciliation{
					ID: newID(), ContactCenter: center, Trigger: trigger, State: state, Reached: noon.Add(reached), StartedAt: noon, EndedAt: noon.Add(ended),
				}); err != nil {
					t.Fatal(err)
				}
			}
			put("a", storage.TriggerSchedule, storage.ReconciliationDone, time.Hour, 2*time.Hour)
			put("a", storage.TriggerSchedule, storage.ReconciliationDelayed, 3*time.Hour, 4*time.Hour)
			put("a", storage.TriggerRequest, storage.ReconciliationDone, 9*time.Hour, 9*time.Hour)
			put("b", storage.TriggerSchedule, storage.ReconciliationDone, 8*time.Hour, 8*time.Hour)
			reached, done, err := s.LastReconciliation(t.Context(), "a")
			if err != nil || !reached.Equal(noon.Add(3*time.Hour)) || !done.Equal(noon.Add(2*time.Hour)) {
				t.Errorf("reached %s, done %s, %v", reached, done, err)
			}
			if reached, done, err = s.LastReconciliation(t.Context(), "none"); err != nil || !reached.IsZero() || !done.IsZero() {
				t.Errorf("no reconciliation: reached %s, done %s, %v", reached, done, err)
			}
		}},
		{"calls are found by key", func(t *testing.T, s Store) {
			other := newCDR("k2", 0)
			other.Call.ContactCenter = "b"
			for _, r := range []storage.ReceivedCDR{newCDR("k1", 0), newCDR("k2", 0), other, newCDR("k3", 0)} {
				save(t, s, r)
			}
			many := []string{"k1", "k2", "k2", "none"}
			for range 1500 {
				many = append(many, newID())
			}
			calls, err := s.CallsByKey(t.Context(), []string{"", "c"}, many)
			if err != nil {
				t.Fatal(err)
			}
			keys := ids(calls, func(c storage.Call) string { return c.ContactCenter + "/" + c.Key })
			slices.Sort(keys)
			expectEqual(t, "keys", []string{"/k1", "/k2"}, keys)
			if calls, err = s.CallsByKey(t.Context(), []string{"", "b"}, []string{"k2"}); err != nil || len(calls) != 2 {
				t.Errorf("%d calls in two contact centers, %v", len(calls), err)
			}
			if calls, err = s.CallsByKey(t.Context(), nil, []string{"k2"}); err != nil || len(calls) != 0 {
				t.Errorf("%d calls in no contact center, %v", len(calls), err)
			}
		}},
		{"decisions without a call are counted", func(t *testing.T, s Store) {
			linked, open, later, elsewhere := decision(0), decision(time.Minute), decision(2*time.Minute), decision(3*time.Minute)
			linked.CallID, elsewhere.Tracker = "k1", "support"
			for _, d := range []*storage.Decision{&open, &later} {
				d.Caller, d.DID = "+971559990001", "+97148889999"
			}
			record(t, s, linked, open, later, elsewhere)
			save(t, s, newCDR("k1", 0))
			n, newest, err := s.OpenDecisions(t.Context(), []string{"sales"}, noon, noon.Add(time.Hour), 1)
			if err != nil || n != 2 {
				t.Fatalf("%d open decisions, %v; want 2", n, err)
			}
			expectEqual(t, "newest", []string{later.ID}, newest)
			if n, _, err = s.OpenDecisions(t.Context(), []string{"sales"}, noon, noon.Add(2*time.Minute), 9); err != nil || n != 1 {
				t.Errorf("%d open decisions before the end of the period, %v; want 1", n, err)
			}
			if n, _, err = s.OpenDecisions(t.Context(), nil, noon, noon.Add(time.Hour), 9); err != nil || n != 0 {
				t.Errorf("%d open decisions without trackers, %v; want none", n, err)
			}
		}},
	}
}
