package storetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"calltracker/storage"
)

func storeTests() []testCase {
	return []testCase{
		{"is ready", func(t *testing.T, s Store) {
			if !s.Ready() {
				t.Error("not ready")
			}
			if err := s.Ping(t.Context()); err != nil {
				t.Errorf("ping: %v", err)
			}
			version, err := s.SchemaVersion(t.Context())
			if err != nil || version < 1 {
				t.Errorf("schema version %d, %v", version, err)
			}
		}},
		{"methods honor a canceled context", func(t *testing.T, s Store) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			for name, err := range ErrorsByMethod(ctx, s) {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v, want context.Canceled", name, err)
				}
			}
			expectEmpty(t, s)
		}},
		{"a canceled batch of decisions is recorded completely or not at all", func(t *testing.T, s Store) {
			const size = 300
			want := 0
			for range 10 {
				batch := make([]storage.Decision, size)
				for n := range batch {
					batch[n] = decision(0)
				}
				ctx, cancel := context.WithCancel(t.Context())
				go cancel()
				if err := s.RecordDecisions(ctx, batch); err == nil {
					want += size
				} else if !errors.Is(err, context.Canceled) && !errors.Is(err, storage.ErrUnavailable) {
					t.Errorf("record: %v", err)
				}
				<-ctx.Done()
			}
			expectPages(t, want, storage.MaxLimit, func(p storage.Page) ([]string, string, error) {
				decisions, next, err := s.Decisions(t.Context(), storage.DecisionFilter{}, p)
				return ids(decisions, decisionID), next, err
			})
		}},
		{"methods return ErrUnavailable after the deadline", func(t *testing.T, s Store) {
			ctx, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
			defer cancel()
			for name, err := range ErrorsByMethod(ctx, s) {
				if !errors.Is(err, storage.ErrUnavailable) {
					t.Errorf("%s: %v, want storage.ErrUnavailable", name, err)
				}
			}
			expectEmpty(t, s)
		}},
	}
}

// ErrorsByMethod calls every method that uses the database once and returns the errors
// by the name of the method.
func ErrorsByMethod(ctx context.Context, s Store) map[string]error {
	errs := make(map[string]error)
	errs["Ping"] = s.Ping(ctx)
	_, errs["SchemaVersion"] = s.SchemaVersion(ctx)
	_, errs["SaveCall"] = s.SaveCall(ctx, newCDR("everything", 0))
	_, _, errs["Calls"] = s.Calls(ctx, storage.CallFilter{}, storage.Page{})
	_, _, errs["Call"] = s.Call(ctx, newID())
	errs["EachCall"] = s.EachCall(ctx, storage.CallFilter{}, func(storage.Call) error { return nil })
	errs["RecordDecisions"] = s.RecordDecisions(ctx, []storage.Decision{decision(0)})
	_, _, errs["Decisions"] = s.Decisions(ctx, storage.DecisionFilter{}, storage.Page{})
	_, errs["Decision"] = s.Decision(ctx, newID())
	_, errs["CallsOfDecisions"] = s.CallsOfDecisions(ctx, []string{newID()})
	errs["RecordRejections"] = s.RecordRejections(ctx, []storage.Rejection{{ID: newID(), At: noon}})
	_, _, errs["Rejections"] = s.Rejections(ctx, storage.Page{})
	_, errs["SaveConfig"] = s.SaveConfig(ctx, storage.ConfigVersion{Document: "{}"}, -1)
	_, errs["ActiveConfig"] = s.ActiveConfig(ctx)
	_, errs["ConfigVersion"] = s.ConfigVersion(ctx, 1)
	_, _, errs["ConfigVersions"] = s.ConfigVersions(ctx, storage.Page{})
	_, errs["ConfigChangeToken"] = s.ConfigChangeToken(ctx)
	errs["PutSecret"] = s.PutSecret(ctx, storage.Secret{Name: "everything"})
	errs["DeleteSecret"] = s.DeleteSecret(ctx, "everything")
	_, errs["CallsByKey"] = s.CallsByKey(ctx, []string{""}, []string{"everything"})
	_, _, errs["OpenDecisions"] = s.OpenDecisions(ctx, []string{"sales"}, noon, noon.Add(time.Hour), 10)
	errs["RecordReconciliation"] = s.RecordReconciliation(ctx, storage.Reconciliation{ID: newID(), StartedAt: noon})
	_, _, errs["Reconciliations"] = s.Reconciliations(ctx, storage.Page{})
	_, _, errs["LastReconciliation"] = s.LastReconciliation(ctx, "aldebaran")
	_, errs["Secrets"] = s.Secrets(ctx)
	_, errs["ApplyRetention"] = s.ApplyRetention(ctx, storage.RetentionStep{BodiesBefore: noon})
	errs["SaveRecording"] = s.SaveRecording(ctx, storage.Recording{Call: newID()})
	_, errs["Recording"] = s.Recording(ctx, newID())
	_, errs["OldRecordings"] = s.OldRecordings(ctx, storage.RecordingFilter{Before: noon})
	errs["DeleteRecording"] = s.DeleteRecording(ctx, newID())
	errs["AddJobs"] = s.AddJobs(ctx, noon, []storage.NewJob{{Kind: "everything", Key: "k"}})
	_, errs["ClaimJobs"] = s.ClaimJobs(ctx, storage.JobClaim{Kinds: []string{"everything"}, Now: noon, Until: noon.Add(time.Minute), Limit: 1})
	_, errs["SettleJobs"] = s.SettleJobs(ctx, []storage.JobSettlement{{Job: storage.Job{ID: newID()}, Outcome: storage.JobOutcome{State: storage.JobDone, Now: noon}}})
	_, errs["ReapJobs"] = s.ReapJobs(ctx, noon)
	_, errs["PruneJobs"] = s.PruneJobs(ctx, noon, 1)
	_, _, errs["Jobs"] = s.Jobs(ctx, storage.JobFilter{}, storage.Page{})
	_, errs["QueueLookups"] = s.QueueLookups(ctx, noon, noon)
	_, errs["LookupNumber"] = s.LookupNumber(ctx, newID())
	_, errs["RequestLookup"] = s.RequestLookup(ctx, newID(), noon)
	_, errs["RetryJob"] = s.RetryJob(ctx, newID(), noon)
	_, errs["CountJobs"] = s.CountJobs(ctx)
	_, errs["Lease"] = s.Lease(ctx, "everything", "a", noon, noon.Add(time.Minute))
	_, errs["LinkUnlinkedCalls"] = s.LinkUnlinkedCalls(ctx, noon)
	errs["Release"] = s.Release(ctx, "everything", "a")
	return errs
}

// expectEmpty fails the test if the store has any records.
func expectEmpty(t *testing.T, s Store) {
	t.Helper()
	calls, _, err := s.Calls(t.Context(), storage.CallFilter{}, storage.Page{})
	if err != nil || len(calls) > 0 {
		t.Errorf("%d calls, %v; want none", len(calls), err)
	}
	decisions, _, err := s.Decisions(t.Context(), storage.DecisionFilter{}, storage.Page{})
	if err != nil || len(decisions) > 0 {
		t.Errorf("%d decisions, %v; want none", len(decisions), err)
	}
	rejections, _, err := s.Rejections(t.Context(), storage.Page{})
	if err != nil || len(rejections) > 0 {
		t.Errorf("%d rejections, %v; want none", len(rejections), err)
	}
	if _, err := s.ActiveConfig(t.Context()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("active configuration: %v, want storage.ErrNotFound", err)
	}
	secrets, err := s.Secrets(t.Context())
	if err != nil || len(secrets) > 0 {
		t.Errorf("%d secrets, %v; want none", len(secrets), err)
	}
}
