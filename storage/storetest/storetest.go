// Package storetest tests the behavior that is common to all stores, regardless of their
// database. The tests of a store run it:
//
//	storetest.Run(t, func(t *testing.T) storetest.Store { … })
package storetest

import (
	"context"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"calltracker/storage"
)

// Store is the set of methods that the server needs of a store.
type Store interface {
	Ready() bool
	Ping(ctx context.Context) error
	SchemaVersion(ctx context.Context) (int64, error)

	SaveCall(ctx context.Context, cdr storage.ReceivedCDR) (storage.SaveResult, error)
	Calls(ctx context.Context, f storage.CallFilter, p storage.Page) ([]storage.Call, string, error)
	Call(ctx context.Context, id string) (storage.Call, []storage.Revision, error)
	EachCall(ctx context.Context, f storage.CallFilter, use func(storage.Call) error) error

	RecordDecisions(ctx context.Context, decisions []storage.Decision) error
	Decisions(ctx context.Context, f storage.DecisionFilter, p storage.Page) ([]storage.Decision, string, error)
	Decision(ctx context.Context, id string) (storage.Decision, error)
	LinkUnlinkedCalls(ctx context.Context, since time.Time) (int, error)
	CallsOfDecisions(ctx context.Context, ids []string) (map[string]string, error)

	QueueLookups(ctx context.Context, since, now time.Time) (int, error)
	LookupNumber(ctx context.Context, call string) (string, error)
	RequestLookup(ctx context.Context, id string, now time.Time) (storage.Enrichment, error)

	RecordRejections(ctx context.Context, rejections []storage.Rejection) error
	Rejections(ctx context.Context, p storage.Page) ([]storage.Rejection, string, error)

	SaveConfig(ctx context.Context, v storage.ConfigVersion, expected int64) (storage.ConfigVersion, error)
	ActiveConfig(ctx context.Context) (storage.ConfigVersion, error)
	ConfigVersion(ctx context.Context, n int64) (storage.ConfigVersion, error)
	ConfigVersions(ctx context.Context, p storage.Page) ([]storage.ConfigVersion, string, error)

	CallsByKey(ctx context.Context, contactCenters, keys []string) ([]storage.Call, error)
	OpenDecisions(ctx context.Context, trackers []string, from, to time.Time, limit int) (int, []string, error)
	RecordReconciliation(ctx context.Context, r storage.Reconciliation) error
	Reconciliations(ctx context.Context, p storage.Page) ([]storage.Reconciliation, string, error)
	LastReconciliation(ctx context.Context, contactCenter string) (reached, done time.Time, err error)

	ConfigChangeToken(ctx context.Context) (string, error)
	ListenConfig(ctx context.Context, notify func()) error

	PutSecret(ctx context.Context, secret storage.Secret) error
	DeleteSecret(ctx context.Context, name string) error
	Secrets(ctx context.Context) ([]storage.Secret, error)

	ApplyRetention(ctx context.Context, step storage.RetentionStep) (storage.RetentionResult, error)

	SaveRecording(ctx context.Context, r storage.Recording) error
	Recording(ctx context.Context, call string) (storage.Recording, error)
	OldRecordings(ctx context.Context, f storage.RecordingFilter) ([]storage.Recording, error)
	DeleteRecording(ctx context.Context, call string) error

	AddJobs(ctx context.Context, now time.Time, jobs []storage.NewJob) error
	ClaimJobs(ctx context.Context, c storage.JobClaim) ([]storage.Job, error)
	SettleJobs(ctx context.Context, settlements []storage.JobSettlement) (lost []string, err error)
	ReapJobs(ctx context.Context, now time.Time) (int, error)
	PruneJobs(ctx context.Context, before time.Time, limit int) (int, error)
	Jobs(ctx context.Context, f storage.JobFilter, p storage.Page) ([]storage.Job, string, error)
	RetryJob(ctx context.Context, id string, now time.Time) (storage.Job, error)
	CountJobs(ctx context.Context) ([]storage.JobCount, error)
	Lease(ctx context.Context, name, holder string, now, until time.Time) (bool, error)
	Release(ctx context.Context, name, holder string) error
}

// Run tests the stores that open returns. Each must be empty and prepared, and open must
// register a cleanup that closes it. The tests run in parallel after the test that
// called Run returns, and call open from several goroutines.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for _, group := range []struct {
		name  string
		tests []testCase
	}{
		{"store", storeTests()},
		{"calls", callTests()},
		{"links", linkTests()},
		{"lists", listTests()},
		{"customers", customerTests()},
		{"rejections", rejectionTests()},
		{"config", configTests()},
		{"secrets", secretTests()},
		{"jobs", jobTests()},
		{"retention", retentionTests()},
		{"recordings", recordingTests()},
		{"reconciliations", reconciliationTests()},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, tt := range group.tests {
				t.Run(tt.name, func(t *testing.T) {
					t.Parallel()
					tt.run(t, open(t))
				})
			}
		})
	}
}

type testCase struct {
	name string
	run  func(t *testing.T, s Store)
}

// noon is the time around which the calls of the tests take place.
var noon = time.Date(2026, time.April, 14, 12, 0, 0, 0, time.UTC)

// newCDR returns a CDR of the call with the given key, which started at noon + after.
func newCDR(key string, after time.Duration) storage.ReceivedCDR {
	started := noon.Add(after)
	return storage.ReceivedCDR{
		Call: storage.Call{
			Key: key, CallID: key, Tracker: "sales", Direction: "inbound",
			DID: "+97148880001", RawDID: "048880001", Caller: "+971551230001", RawCaller: "0551230001", CallerName: "Layla",
			StartedAt: started, AnsweredAt: started.Add(9 * time.Second), EndedAt: started.Add(70 * time.Second),
			Duration: 70, RingTime: 9, TalkTime: 61, HoldTime: 2, Result: storage.Answered,
			HangupCause: "NORMAL_CLEARING", HangupBy: "originator", Agent: "0017", Position: "agent-0017",
			RecordingFile: key + ".mp3", Campaign: "spring", Flags: []string{"duration_differs", "no_timezone"},
			RevisedAt: started.Add(71 * time.Second), ReceivedAt: started.Add(72 * time.Second),
		},
		Source: "endCall",
		Raw:    []byte(`{"callID":"` + key + `"}`),
	}
}

// editedCDR returns a CDR with another body and with the same call, changed by edit.
func editedCDR(r storage.ReceivedCDR, edit func(*storage.Call)) storage.ReceivedCDR {
	r.Call.Flags = append([]string(nil), r.Call.Flags...)
	edit(&r.Call)
	r.Raw = fmt.Appendf(nil, "%s %x", r.Raw, sha256.Sum256(fmt.Appendf(nil, "%v", r.Call)))
	return r
}

// decision returns the decision for the call of newCDR(key, after), without a callID.
func decision(after time.Duration) storage.Decision {
	return storage.Decision{
		ID: newID(), Tracker: "sales", At: noon.Add(after), DID: "+97148880001", RawDID: "048880001",
		Caller: "+971551230001", RawCaller: "0551230001", Route: "office-hours", ConfigVersion: 4,
	}
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

func save(t *testing.T, s Store, cdr storage.ReceivedCDR) storage.SaveResult {
	t.Helper()
	result, err := s.SaveCall(t.Context(), cdr)
	if err != nil {
		t.Fatalf("save %s: %v", cdr.Call.Key, err)
	}
	return result
}

func record(t *testing.T, s Store, decisions ...storage.Decision) {
	t.Helper()
	if err := s.RecordDecisions(t.Context(), decisions); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, s Store, id string) (storage.Call, []storage.Revision) {
	t.Helper()
	call, revisions, err := s.Call(t.Context(), id)
	if err != nil {
		t.Fatalf("load call: %v", err)
	}
	return call, revisions
}

func loadDecision(t *testing.T, s Store, id string) storage.Decision {
	t.Helper()
	d, err := s.Decision(t.Context(), id)
	if err != nil {
		t.Fatalf("load decision: %v", err)
	}
	return d
}

// expectEqual fails the test if the records differ. A nil list equals an empty one.
func expectEqual[T any](t *testing.T, what string, want, got T) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
