package storetest

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"calltracker/rules"
	"calltracker/storage"
)

// applyRetention runs all steps of retention, with a small limit.
func applyRetention(t *testing.T, s Store, step storage.RetentionStep) (total storage.RetentionResult) {
	t.Helper()
	step.Limit = 2
	for {
		done, err := s.ApplyRetention(t.Context(), step)
		if err != nil {
			t.Fatal(err)
		}
		total.Calls += done.Calls
		total.Decisions += done.Decisions
		if step.Cursor = done.NextCursor; step.Cursor == "" {
			return total
		}
	}
}

func retentionTests() []testCase {
	flagged := func(c storage.Call, flag string) bool { return slices.Contains(c.Flags, flag) }
	return []testCase{
		{"bodies are removed and exact repeats are still recognized", func(t *testing.T, s Store) {
			old, recent := save(t, s, newCDR("c1", -time.Hour)), save(t, s, newCDR("c2", time.Hour))
			if done := applyRetention(t, s, storage.RetentionStep{BodiesBefore: noon}); done.Calls != 1 || done.Decisions != 0 {
				t.Errorf("changed %+v, want one call", done)
			}
			call, revisions := load(t, s, old.ID)
			if len(revisions) != 1 || len(revisions[0].Raw) != 0 || !flagged(call, storage.BodiesRemoved) {
				t.Errorf("call %+v, revisions %+v", call, revisions)
			}
			if call.Caller == "" || call.CallerName == "" || flagged(call, storage.PersonalRemoved) {
				t.Error("the caller was removed with the body")
			}
			if again := save(t, s, newCDR("c1", -time.Hour)); again.Created || again.Revised {
				t.Errorf("an exact repeat was saved as a revision: %+v", again)
			}
			save(t, s, editedCDR(newCDR("c1", -time.Hour), func(c *storage.Call) { c.Agent = "0018" }))
			call, revisions = load(t, s, old.ID)
			if call.Agent != "0018" && len(revisions) != 2 {
				t.Errorf("the revision of an old call was lost: %+v", call)
			}
			for _, r := range revisions {
				if len(r.Raw) > 0 {
					t.Error("the body of a late CDR was stored")
				}
			}
			if _, revisions = load(t, s, recent.ID); !bytes.Equal(revisions[0].Raw, newCDR("c2", 0).Raw) {
				t.Error("a recent body was removed")
			}
			if done := applyRetention(t, s, storage.RetentionStep{BodiesBefore: noon}); done.Calls != 0 {
				t.Errorf("second run changed %+v, want nothing", done)
			}
		}},
		{"the lookup of a call is removed with its caller", func(t *testing.T, s Store) {
			saved := save(t, s, newCDR("c1", 0))
			queue(t, s, 1)
			applyRetention(t, s, storage.RetentionStep{PersonalBefore: noon.Add(time.Hour)})
			if call, _ := load(t, s, saved.ID); call.Enrichment != (storage.Enrichment{}) {
				t.Errorf("enrichment %+v, want none", call.Enrichment)
			}
			expectEqual(t, "jobs", nil, listJobs(t, s, storage.JobFilter{}))
		}},
		{"personal data is removed and stays removed, statistics remain", func(t *testing.T, s Store) {
			cdr := newCDR("c1", -time.Hour)
			saved := save(t, s, cdr)
			for n := range 5 {
				save(t, s, newCDR(string(rune('p'+n)), -2*time.Hour))
			}
			before, _ := load(t, s, saved.ID)
			old, recent := decision(-time.Hour), decision(time.Hour)
			old.Trace = []rules.Step{{Route: "vip", Verdict: rules.Failed, Reason: "caller: +971551230001, must be another"}}
			recent.Trace = old.Trace
			record(t, s, old, recent)
			if done := applyRetention(t, s, storage.RetentionStep{PersonalBefore: noon}); done.Calls != 6 || done.Decisions != 1 {
				t.Errorf("changed %+v, want 6 calls and one decision", done)
			}
			late := editedCDR(cdr, func(c *storage.Call) { c.RevisedAt = c.RevisedAt.Add(time.Hour) })
			for range 2 {
				call, revisions := load(t, s, saved.ID)
				if call.Caller+call.RawCaller+call.CallerName != "" || !flagged(call, storage.PersonalRemoved) {
					t.Fatalf("call %+v", call)
				}
				for _, r := range revisions {
					if len(r.Raw) > 0 {
						t.Error("a body with the caller is still stored")
					}
				}
				if call.DID != before.DID || call.Result != before.Result || call.Duration != before.Duration || !call.At().Equal(before.At()) {
					t.Errorf("statistics changed: %+v", call)
				}
				save(t, s, cdr) // an exact repeat, then a late revision
				save(t, s, late)
			}
			if d := loadDecision(t, s, old.ID); d.Caller+d.RawCaller != "" || d.Trace[0] != (rules.Step{Route: "vip", Verdict: rules.Failed}) {
				t.Errorf("decision %+v", d)
			}
			if d := loadDecision(t, s, recent.ID); d.Caller == "" || d.Trace[0].Reason == "" {
				t.Errorf("a recent decision was changed: %+v", d)
			}
			calls, _, err := s.Calls(t.Context(), storage.CallFilter{Callers: []string{cdr.Call.Caller}}, storage.Page{})
			if err != nil || len(calls) != 0 {
				t.Errorf("%d calls found by caller, %v; want none", len(calls), err)
			}
			if done := applyRetention(t, s, storage.RetentionStep{PersonalBefore: noon}); done.Calls+done.Decisions != 0 {
				t.Errorf("second run changed %+v, want nothing", done)
			}
		}},
		{"an invalid cursor is rejected", func(t *testing.T, s Store) {
			if _, err := s.ApplyRetention(t.Context(), storage.RetentionStep{BodiesBefore: noon, Cursor: "odd"}); !errors.Is(err, storage.ErrBadCursor) {
				t.Errorf("%v, want storage.ErrBadCursor", err)
			}
		}},
	}
}
