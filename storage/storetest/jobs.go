package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"calltracker/storage"
)

const lease = time.Minute

// claimJobs claims up to n jobs of the kinds.
func claimJobs(t *testing.T, s Store, now time.Time, n int, kinds ...string) []storage.Job {
	t.Helper()
	jobs, err := s.ClaimJobs(t.Context(), storage.JobClaim{Kinds: kinds, Now: now, Until: now.Add(lease), Limit: n})
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

func claimOne(t *testing.T, s Store, now time.Time, kind string) storage.Job {
	t.Helper()
	jobs := claimJobs(t, s, now, 10, kind)
	if len(jobs) != 1 {
		t.Fatalf("claimed %d jobs, want 1", len(jobs))
	}
	return jobs[0]
}

func addJobs(t *testing.T, s Store, now time.Time, jobs ...storage.NewJob) {
	t.Helper()
	if err := s.AddJobs(t.Context(), now, jobs); err != nil {
		t.Fatal(err)
	}
}

func settleJob(t *testing.T, s Store, j storage.Job, outcome storage.JobOutcome) {
	t.Helper()
	if lost := settleJobs(t, s, storage.JobSettlement{Job: j, Outcome: outcome}); len(lost) > 0 {
		t.Fatal("the claim is no longer valid")
	}
}

// settleJobs returns the IDs of the jobs whose claim is no longer valid.
func settleJobs(t *testing.T, s Store, settlements ...storage.JobSettlement) (lost []string) {
	t.Helper()
	lost, err := s.SettleJobs(t.Context(), settlements)
	if err != nil {
		t.Fatal(err)
	}
	return lost
}

func listJobs(t *testing.T, s Store, f storage.JobFilter) []storage.Job {
	t.Helper()
	jobs, _, err := s.Jobs(t.Context(), f, storage.Page{})
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

func jobTests() []testCase {
	enrich := func(r storage.ReceivedCDR, again bool) storage.ReceivedCDR {
		r.Jobs = []storage.NewJob{{Kind: "enrich", Payload: []byte("p"), Again: again}}
		return r
	}
	done := storage.JobOutcome{State: storage.JobDone, Now: noon}
	return []testCase{
		{"jobs of a call are added once", func(t *testing.T, s Store) {
			first := enrich(newCDR("c1", 0), false)
			saved := save(t, s, first)
			save(t, s, first)
			save(t, s, enrich(editedCDR(newCDR("c1", 0), func(c *storage.Call) { c.Agent = "0018" }), false))
			jobs := listJobs(t, s, storage.JobFilter{})
			if len(jobs) != 1 || jobs[0].Key != saved.ID || jobs[0].Kind != "enrich" || string(jobs[0].Payload) != "p" ||
				jobs[0].State != storage.JobWaiting || !jobs[0].At.Equal(first.Call.ReceivedAt) {
				t.Errorf("jobs %+v", jobs)
			}
		}},
		{"a revision restarts a finished job on request, a repeat does not", func(t *testing.T, s Store) {
			now := noon.Add(time.Hour)
			first := enrich(newCDR("c1", 0), true)
			save(t, s, first)
			settleJob(t, s, claimOne(t, s, now, "enrich"), done)
			save(t, s, first)
			if jobs := claimJobs(t, s, now, 1, "enrich"); len(jobs) > 0 {
				t.Error("an exact repeat restarted the job")
			}
			save(t, s, enrich(editedCDR(newCDR("c1", 0), func(c *storage.Call) { c.Agent = "0018" }), false))
			if jobs := claimJobs(t, s, now, 1, "enrich"); len(jobs) > 0 {
				t.Error("a revision restarted the job without asking for it")
			}
			save(t, s, enrich(editedCDR(newCDR("c1", 0), func(c *storage.Call) { c.Agent = "0019" }), true))
			running := claimOne(t, s, now, "enrich")
			if running.Attempts != 1 {
				t.Errorf("attempt %d, want 1", running.Attempts)
			}
			// A running job may have missed this revision, so it must run again.
			save(t, s, enrich(editedCDR(newCDR("c1", 0), func(c *storage.Call) { c.Agent = "0020" }), true))
			if jobs := claimJobs(t, s, now, 1, "enrich"); len(jobs) > 0 {
				t.Error("the job is running twice")
			}
			settleJob(t, s, running, done)
			settleJob(t, s, claimOne(t, s, now, "enrich"), done)
			if jobs := listJobs(t, s, storage.JobFilter{State: storage.JobDone}); len(jobs) != 1 {
				t.Errorf("jobs %+v, want one done job", jobs)
			}
		}},
		{"a job that is requested again while it runs gets the new payload", func(t *testing.T, s Store) {
			addJobs(t, s, noon, storage.NewJob{Kind: "k", Key: "1", Payload: []byte("old")})
			running := claimOne(t, s, noon, "k")
			addJobs(t, s, noon, storage.NewJob{Kind: "k", Key: "1", Payload: []byte("new"), Again: true})
			settleJob(t, s, running, done)
			if j := claimOne(t, s, noon, "k"); string(j.Payload) != "new" || j.Attempts != 1 {
				t.Errorf("claimed %+v", j)
			}
		}},
		{"an invalid job prevents the call from being saved", func(t *testing.T, s Store) {
			r := newCDR("c1", 0)
			r.Jobs = []storage.NewJob{{Kind: ""}}
			if _, err := s.SaveCall(t.Context(), r); err == nil {
				t.Fatal("a job without a kind was accepted")
			}
			expectEmpty(t, s)
		}},
		{"concurrent claims never overlap", func(t *testing.T, s Store) {
			const jobs = 100
			for n := range jobs {
				addJobs(t, s, noon, storage.NewJob{Kind: "k", Key: fmt.Sprint(n)})
			}
			var (
				mu  sync.Mutex
				got = map[string]int{}
				wg  sync.WaitGroup
			)
			for range 8 {
				wg.Go(func() {
					for {
						claimed, err := s.ClaimJobs(t.Context(), storage.JobClaim{Kinds: []string{"k"}, Now: noon, Until: noon.Add(lease), Limit: 3})
						if err != nil {
							t.Error(err)
						}
						if len(claimed) == 0 {
							return
						}
						mu.Lock()
						for _, j := range claimed {
							got[j.ID]++
						}
						mu.Unlock()
					}
				})
			}
			wg.Wait()
			// A worker that met only locked rows may have stopped early.
			for _, j := range claimJobs(t, s, noon, jobs, "k") {
				got[j.ID]++
			}
			for id, times := range got {
				if times != 1 {
					t.Errorf("job %s was claimed %d times", id, times)
				}
			}
			if len(got) != jobs {
				t.Errorf("%d jobs were claimed, want %d", len(got), jobs)
			}
		}},
		{"a job of a lost worker is claimed again after its lease", func(t *testing.T, s Store) {
			addJobs(t, s, noon, storage.NewJob{Kind: "k", Key: "1"})
			lost := claimOne(t, s, noon, "k")
			if n, err := s.ReapJobs(t.Context(), noon.Add(lease-time.Second)); err != nil || n != 0 {
				t.Errorf("reaped %d, %v before the end of the lease; want none", n, err)
			}
			if n, err := s.ReapJobs(t.Context(), noon.Add(lease)); err != nil || n != 1 {
				t.Errorf("reaped %d, %v; want 1", n, err)
			}
			again := claimOne(t, s, noon.Add(lease), "k")
			if again.ID != lost.ID || again.Attempts != 2 {
				t.Errorf("claimed %+v, want the second attempt of %s", again, lost.ID)
			}
			if ids := settleJobs(t, s, storage.JobSettlement{Job: lost, Outcome: done}); !slices.Equal(ids, []string{lost.ID}) {
				t.Errorf("the first worker settled the job: lost %v, want %s", ids, lost.ID)
			}
			settleJob(t, s, again, done)
			if ids := settleJobs(t, s, storage.JobSettlement{Job: again, Outcome: done}); !slices.Equal(ids, []string{again.ID}) {
				t.Errorf("the job was settled twice: lost %v, want %s", ids, again.ID)
			}
		}},
		{"a lost claim does not affect the jobs settled with it", func(t *testing.T, s Store) {
			addJobs(t, s, noon, storage.NewJob{Kind: "k", Key: "1"}, storage.NewJob{Kind: "k", Key: "2"}, storage.NewJob{Kind: "k", Key: "3"})
			claimed := claimJobs(t, s, noon, 3, "k")
			settled := make([]storage.JobSettlement, len(claimed))
			for n, j := range claimed {
				settled[n] = storage.JobSettlement{Job: j, Outcome: done}
			}
			settled[1].Job.Claim = "another"
			if ids := settleJobs(t, s, settled...); !slices.Equal(ids, []string{claimed[1].ID}) {
				t.Errorf("lost %v, want %s", ids, claimed[1].ID)
			}
			if jobs := listJobs(t, s, storage.JobFilter{State: storage.JobDone}); len(jobs) != 2 {
				t.Errorf("%d jobs are done, want 2", len(jobs))
			}
		}},
		{"jobs are claimed by priority, then by due time", func(t *testing.T, s Store) {
			addJobs(t, s, noon, storage.NewJob{Kind: "k", Key: "late", RunAt: noon.Add(2 * time.Second)},
				storage.NewJob{Kind: "k", Key: "early", RunAt: noon.Add(time.Second)},
				storage.NewJob{Kind: "k", Key: "urgent", RunAt: noon.Add(3 * time.Second), Priority: 5},
				storage.NewJob{Kind: "k", Key: "future", RunAt: noon.Add(time.Hour), Priority: 9},
				storage.NewJob{Kind: "other", Key: "early", Priority: 9})
			var got []string
			for _, j := range claimJobs(t, s, noon.Add(time.Minute), 10, "k", "unknown") {
				got = append(got, j.Key)
			}
			expectEqual(t, "order", []string{"urgent", "early", "late"}, got)
			if n := len(claimJobs(t, s, noon.Add(time.Minute), 10)); n != 0 {
				t.Errorf("claimed %d jobs without kinds", n)
			}
		}},
		{"jobs wait for another attempt, counted or not, and die", func(t *testing.T, s Store) {
			addJobs(t, s, noon, storage.NewJob{Kind: "k", Key: "1"})
			next := noon.Add(time.Minute)
			settleJob(t, s, claimOne(t, s, noon, "k"), storage.JobOutcome{
				State: storage.JobWaiting, RunAt: next, Error: "first", Payload: []byte("half way"), Now: noon,
			})
			if n := len(claimJobs(t, s, next.Add(-time.Microsecond), 1, "k")); n != 0 {
				t.Error("a job was claimed before it was due")
			}
			j := claimOne(t, s, next, "k")
			if j.Attempts != 2 || j.Error != "first" || string(j.Payload) != "half way" {
				t.Errorf("second attempt %+v", j)
			}
			settleJob(t, s, j, storage.JobOutcome{State: storage.JobWaiting, RunAt: next, Uncounted: true, Now: next})
			j = claimOne(t, s, next, "k")
			if j.Attempts != 2 || string(j.Payload) != "half way" {
				t.Errorf("third attempt %+v, want it counted as the second", j)
			}
			settleJob(t, s, j, storage.JobOutcome{State: storage.JobDead, Error: "failed\x00", Now: next})
			if n := len(claimJobs(t, s, next.Add(time.Hour), 1, "k")); n != 0 {
				t.Error("a dead job was claimed")
			}
			dead := listJobs(t, s, storage.JobFilter{State: storage.JobDead, Kind: "k"})
			if len(dead) != 1 || dead[0].Error != "failed" || !dead[0].ChangedAt.Equal(next) {
				t.Fatalf("dead jobs %+v", dead)
			}
			if retried, err := s.RetryJob(t.Context(), j.ID, next); err != nil || retried.State != storage.JobWaiting || retried.Attempts != 0 {
				t.Errorf("retried %+v, %v", retried, err)
			}
			if j = claimOne(t, s, next, "k"); j.Attempts != 1 || !j.SkipCache {
				t.Errorf("attempt %d after a retry, want 1, which skips caches: %t", j.Attempts, j.SkipCache)
			}
			if _, err := s.RetryJob(t.Context(), j.ID, next); !errors.Is(err, storage.ErrConflict) {
				t.Errorf("retry of a running job: %v, want storage.ErrConflict", err)
			}
			if _, err := s.RetryJob(t.Context(), newID(), next); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("retry of an unknown job: %v, want storage.ErrNotFound", err)
			}
		}},
		{"jobs are listed newest first, counted and pruned", func(t *testing.T, s Store) {
			const jobs = 7
			var keys []string
			for n := range jobs {
				keys = append([]string{fmt.Sprint(n)}, keys...)
				addJobs(t, s, noon.Add(time.Duration(n)*time.Second), storage.NewJob{Kind: "k", Key: fmt.Sprint(n)})
			}
			addJobs(t, s, noon, storage.NewJob{Kind: "other", Key: "1"})
			var got []string
			expectPages(t, jobs, 2, func(p storage.Page) ([]string, string, error) {
				page, next, err := s.Jobs(t.Context(), storage.JobFilter{Kind: "k"}, p)
				got = append(got, ids(page, func(j storage.Job) string { return j.Key })...)
				return ids(page, func(j storage.Job) string { return j.ID }), next, err
			})
			expectEqual(t, "keys", keys, got)
			if _, _, err := s.Jobs(t.Context(), storage.JobFilter{}, storage.Page{Cursor: "x"}); !errors.Is(err, storage.ErrBadCursor) {
				t.Errorf("cursor: %v, want storage.ErrBadCursor", err)
			}
			settleJob(t, s, claimOne(t, s, noon, "other"), done)
			claimJobs(t, s, noon.Add(time.Minute), 2, "k")
			counts, err := s.CountJobs(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			expectEqual(t, "counts", []storage.JobCount{
				{Kind: "k", State: storage.JobWaiting, Count: jobs - 2, Oldest: noon.Add(2 * time.Second)},
				{Kind: "k", State: storage.JobRunning, Count: 2, Oldest: noon},
			}, counts)
			if n, err := s.PruneJobs(t.Context(), noon, 10); err != nil || n != 0 {
				t.Errorf("pruned %d, %v; want none", n, err)
			}
			if n, err := s.PruneJobs(t.Context(), noon.Add(time.Second), 10); err != nil || n != 1 {
				t.Errorf("pruned %d, %v; want 1", n, err)
			}
		}},
		{"a lease has one holder until it ends", func(t *testing.T, s Store) {
			take := func(holder string, at time.Duration, want bool) {
				t.Helper()
				held, err := s.Lease(t.Context(), "tasks", holder, noon.Add(at), noon.Add(at+lease))
				if err != nil || held != want {
					t.Errorf("lease for %s after %s: %t, %v; want %t", holder, at, held, err, want)
				}
			}
			take("a", 0, true)
			take("b", time.Second, false)
			take("a", 30*time.Second, true)
			take("b", lease, false) // a has extended it
			take("b", 30*time.Second+lease, true)
			take("a", 31*time.Second+lease, false)
			if err := s.Release(t.Context(), "tasks", "a"); err != nil {
				t.Error(err)
			}
			take("a", 32*time.Second+lease, false)
			if err := s.Release(t.Context(), "tasks", "b"); err != nil {
				t.Error(err)
			}
			take("a", 33*time.Second+lease, true)
			if held, err := s.Lease(t.Context(), "another", "b", noon, noon.Add(lease)); err != nil || !held {
				t.Errorf("lease of another name: %t, %v; want it", held, err)
			}
		}},
		{"one of several concurrent holders gets a lease", func(t *testing.T, s Store) {
			var all sync.WaitGroup
			winners := make(chan string, 16)
			for n := range cap(winners) {
				all.Go(func() {
					holder := string(rune('A' + n))
					held, err := s.Lease(t.Context(), "c", holder, noon, noon.Add(time.Hour))
					if err != nil {
						t.Error(err)
					}
					if held {
						winners <- holder
					}
				})
			}
			all.Wait()
			if len(winners) != 1 {
				t.Errorf("%d of 16 holders got the lease, want 1", len(winners))
			}
		}},
	}
}
