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

// forgetAll goes through everything in small steps.
func forgetAll(t *testing.T, s Store, f storage.RetentionStep) (total storage.RetentionResult) {
	t.Helper()
	f.Limit = 2
	for {
		done, err := s.ApplyRetention(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		total.Calls += done.Calls
		total.Decisions += done.Decisions
		if f.Cursor = done.NextCursor; f.Cursor == "" {
			return total
		}
	}
}

func forgetTests() []test {
	flagged := func(c storage.Call, flag string) bool { return slices.Contains(c.Flags, flag) }
	return []test{
		{"bodies go, repeats are still known", func(t *testing.T, s Store) {
			old, recent := save(t, s, body("c1", -time.Hour)), save(t, s, body("c2", time.Hour))
			if done := forgetAll(t, s, storage.RetentionStep{BodiesBefore: noon}); done.Calls != 1 || done.Decisions != 0 {
				t.Errorf("did %+v, want one call", done)
			}
			call, revisions := load(t, s, old.ID)
			if len(revisions) != 1 || len(revisions[0].Raw) != 0 || !flagged(call, storage.BodiesRemoved) {
				t.Errorf("call %+v, revisions %+v", call, revisions)
			}
			if call.Caller == "" || call.CallerName == "" || flagged(call, storage.PersonalRemoved) {
				t.Error("who called went with the body")
			}
			if again := save(t, s, body("c1", -time.Hour)); again.Created || again.Revised {
				t.Errorf("a repeat is taken for news: %+v", again)
			}
			save(t, s, with(body("c1", -time.Hour), func(c *storage.Call) { c.Agent = "0018" }))
			call, revisions = load(t, s, old.ID)
			if call.Agent != "0018" && len(revisions) != 2 {
				t.Errorf("news of an old call were lost: %+v", call)
			}
			for _, r := range revisions {
				if len(r.Raw) > 0 {
					t.Error("a late body is kept")
				}
			}
			if _, revisions = load(t, s, recent.ID); !bytes.Equal(revisions[0].Raw, body("c2", 0).Raw) {
				t.Error("a recent body went")
			}
			if done := forgetAll(t, s, storage.RetentionStep{BodiesBefore: noon}); done.Calls != 0 {
				t.Errorf("did %+v once more", done)
			}
		}},
		{"who called goes and does not come back, statistics stay", func(t *testing.T, s Store) {
			report := body("c1", -time.Hour)
			saved := save(t, s, report)
			for n := range 5 {
				save(t, s, body(string(rune('p'+n)), -2*time.Hour))
			}
			before, _ := load(t, s, saved.ID)
			old, recent := decision(-time.Hour), decision(time.Hour)
			old.Trace = []rules.Step{{Route: "vip", Verdict: rules.Failed, Reason: "caller: +971551230001, must be another"}}
			recent.Trace = old.Trace
			record(t, s, old, recent)
			if done := forgetAll(t, s, storage.RetentionStep{PersonalBefore: noon}); done.Calls != 6 || done.Decisions != 1 {
				t.Errorf("did %+v, want 6 calls and one decision", done)
			}
			late := with(report, func(c *storage.Call) { c.RevisedAt = c.RevisedAt.Add(time.Hour) })
			for range 2 {
				call, revisions := load(t, s, saved.ID)
				if call.Caller+call.RawCaller+call.CallerName != "" || !flagged(call, storage.PersonalRemoved) {
					t.Fatalf("call %+v", call)
				}
				for _, r := range revisions {
					if len(r.Raw) > 0 {
						t.Error("a body is there, with the caller in it")
					}
				}
				if call.DID != before.DID || call.Result != before.Result || call.Duration != before.Duration || !call.At().Equal(before.At()) {
					t.Errorf("statistics changed: %+v", call)
				}
				save(t, s, report) // a repeat, and then news that are late
				save(t, s, late)
			}
			if d := loadDecision(t, s, old.ID); d.Caller+d.RawCaller != "" || d.Trace[0] != (rules.Step{Route: "vip", Verdict: rules.Failed}) {
				t.Errorf("decision %+v", d)
			}
			if d := loadDecision(t, s, recent.ID); d.Caller == "" || d.Trace[0].Reason == "" {
				t.Errorf("a recent decision was changed: %+v", d)
			}
			calls, _, err := s.Calls(t.Context(), storage.CallFilter{Callers: []string{report.Call.Caller}}, storage.Page{})
			if err != nil || len(calls) != 0 {
				t.Errorf("%d calls are found by who called, %v", len(calls), err)
			}
			if done := forgetAll(t, s, storage.RetentionStep{PersonalBefore: noon}); done.Calls+done.Decisions != 0 {
				t.Errorf("did %+v once more", done)
			}
		}},
		{"forgets from where it is told to go on", func(t *testing.T, s Store) {
			if _, err := s.ApplyRetention(t.Context(), storage.RetentionStep{BodiesBefore: noon, Cursor: "odd"}); !errors.Is(err, storage.ErrBadCursor) {
				t.Errorf("%v, want storage.ErrBadCursor", err)
			}
		}},
	}
}
