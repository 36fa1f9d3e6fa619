package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"calltracker/storage"
)

func customerTests() []testCase {
	return []testCase{
		{"each call with a customer's number gets one lookup", lookupsQueuedOnce},
		{"a lookup is claimed again when its lease has ended", lookupReclaimed},
		{"concurrent claims respect the limit and never overlap", lookupsClaimedConcurrently},
		{"customers are listed with their calls and can be searched for", customersListed},
		{"a postponed lookup stores partial results", postponedLookup},
		{"a result after the end of its claim is ignored", expiredClaim},
		{"a requested lookup starts again and skips the cache", lookupRequested},
		{"lookups are jobs", lookupsAsJobs},
		{"a lookup cannot be requested without a customer's number", lookupWithoutNumber},
	}
}

// longAgo is before any call was saved.
var longAgo = time.Date(2020, time.January, 1, 0, 0, 0, 0, time.UTC)

func queue(t *testing.T, s Store, want int) {
	t.Helper()
	if n, err := s.QueueLookups(t.Context(), longAgo, noon); err != nil || n != want {
		t.Fatalf("%d lookups queued, want %d: %v", n, want, err)
	}
}

// claim claims lookups and checks how many it gets.
func claim(t *testing.T, s Store, now time.Time, limit, want int) []storage.Job {
	t.Helper()
	got := claimJobs(t, s, now, limit, storage.EnrichmentJob)
	if len(got) != want {
		t.Fatalf("%d lookups claimed, want %d", len(got), want)
	}
	return got
}

// settle settles a lookup that is done.
func settle(t *testing.T, s Store, l storage.Job, found ...storage.Customer) {
	t.Helper()
	if lost := settleJobs(t, s, lookedUp(l, storage.JobDone, found...)); len(lost) > 0 {
		t.Fatal("settle: the claim is no longer valid")
	}
}

func lookedUp(l storage.Job, state storage.JobState, found ...storage.Customer) storage.JobSettlement {
	return storage.JobSettlement{Job: l, Outcome: storage.JobOutcome{
		State: state, Lookup: &storage.LookupResult{Customers: found}, Now: noon.Add(time.Second),
	}}
}

var layla = storage.Customer{Connection: "desk", ID: "c-1", Name: "Layla", URL: "https://desk.example/c-1", MatchedBy: "phone"}

// lookupsClaimedConcurrently runs several workers that claim a few lookups at a time until
// none is left.
func lookupsClaimedConcurrently(t *testing.T, s Store) {
	const calls, workers, limit = 120, 8, 3
	for n := range calls {
		save(t, s, newCDR(fmt.Sprint("c", n), time.Duration(n)*time.Second))
	}
	queue(t, s, calls)
	var (
		claiming sync.WaitGroup
		mu       sync.Mutex
		times    = map[string]int{}
	)
	for range workers {
		claiming.Go(func() {
			for {
				got, err := s.ClaimJobs(t.Context(), storage.JobClaim{
					Kinds: []string{storage.EnrichmentJob}, Now: noon, Until: noon.Add(lease), Limit: limit,
				})
				if err != nil || len(got) > limit {
					t.Errorf("%d lookups claimed, want at most %d: %v", len(got), limit, err)
				}
				if err != nil || len(got) == 0 {
					return
				}
				mu.Lock()
				for _, l := range got {
					times[l.Key]++
				}
				mu.Unlock()
			}
		})
	}
	claiming.Wait()
	for call, n := range times {
		if n != 1 {
			t.Errorf("call %s was claimed %d times", call, n)
		}
	}
	for _, l := range claim(t, s, noon, calls, calls-len(times)) { // a worker that met only locked rows may have stopped early
		times[l.Key]++
	}
	if len(times) != calls {
		t.Errorf("%d of %d lookups were claimed", len(times), calls)
	}
}

func lookupsQueuedOnce(t *testing.T, s Store) {
	in := save(t, s, newCDR("inbound", 0))
	out := save(t, s, editedCDR(newCDR("outbound", time.Minute), func(c *storage.Call) { c.Direction = "outbound" }))
	save(t, s, editedCDR(newCDR("withheld", 0), func(c *storage.Call) { c.Caller, c.RawCaller = "anonymous", "anonymous" }))
	save(t, s, editedCDR(newCDR("internal", 0), func(c *storage.Call) { c.Caller, c.RawCaller = "0026", "0026" }))
	save(t, s, editedCDR(newCDR("blank", 0), func(c *storage.Call) { c.Caller, c.RawCaller = "", "" }))
	if n, err := s.QueueLookups(t.Context(), time.Now().Add(24*time.Hour), noon); err != nil || n != 0 {
		t.Errorf("%d lookups queued for calls saved before since: %v", n, err)
	}
	if call, _ := load(t, s, in.ID); call.Enrichment != (storage.Enrichment{}) {
		t.Errorf("enrichment %+v before it was queued, want none", call.Enrichment)
	}
	queue(t, s, 2)
	queue(t, s, 0)
	numbers := map[string]string{}
	for _, l := range claim(t, s, noon, 10, 2) {
		number, err := s.LookupNumber(t.Context(), l.Key)
		if err != nil {
			t.Error(err)
		}
		numbers[l.Key] = number
		if l.ID != l.Key || l.SkipCache {
			t.Errorf("claimed %+v", l)
		}
	}
	if numbers[in.ID] != "+971551230001" || numbers[out.ID] != "+97148880001" {
		t.Errorf("numbers to look up: %v", numbers)
	}
	save(t, s, newCDR("inbound", 0)) // exact repeat
	queue(t, s, 0)
	if call, _ := load(t, s, in.ID); call.Enrichment.State != storage.EnrichmentPending {
		t.Errorf("enrichment %+v, want pending", call.Enrichment)
	}
}

func lookupReclaimed(t *testing.T, s Store) {
	const calls = 40
	for i := range calls {
		save(t, s, newCDR(fmt.Sprint("c", i), time.Duration(i)*time.Second))
	}
	queue(t, s, calls)
	claim(t, s, noon.Add(-time.Second), 10, 0)
	claim(t, s, noon, 100, calls)
	reap := func(now time.Time, want int) {
		t.Helper()
		if n, err := s.ReapJobs(t.Context(), now); err != nil || n != want {
			t.Errorf("reaped %d, %v; want %d", n, err, want)
		}
	}
	reap(noon.Add(lease-time.Second), 0)
	claim(t, s, noon.Add(lease-time.Second), 100, 0)
	reap(noon.Add(lease), calls)
	claim(t, s, noon.Add(lease), 100, calls)
}

func customersListed(t *testing.T, s Store) {
	first, second := save(t, s, newCDR("first", 0)), save(t, s, newCDR("second", time.Minute))
	third := save(t, s, newCDR("third", 2*time.Minute))
	queue(t, s, 3)
	other := storage.Customer{Connection: "shop", ID: "c-2", Name: "L. H.", URL: "", MatchedBy: "shared phone"}
	for _, l := range claim(t, s, noon, 10, 3) {
		switch l.Key {
		case first.ID:
			settle(t, s, l, layla)
		case second.ID:
			settle(t, s, l, other, layla)
		default:
			settle(t, s, l)
		}
	}
	claim(t, s, noon.Add(time.Hour), 10, 0)
	calls, _, err := s.Calls(t.Context(), storage.CallFilter{}, storage.Page{})
	if err != nil {
		t.Fatal(err)
	}
	want := [][]storage.Customer{nil, {other, layla}, {layla}} // newest first
	for i, c := range calls {
		if diff := cmp.Diff(want[i], c.Customers); diff != "" {
			t.Errorf("call %s: %s", c.Key, diff)
		}
		if c.Enrichment.Attempts != 1 || (c.Enrichment.State == storage.EnrichmentFound) != (want[i] != nil) {
			t.Errorf("call %s: %+v", c.Key, c.Enrichment)
		}
	}
	of := func(customer string, f storage.CallFilter, want ...string) {
		t.Helper()
		f.Customer = customer
		listed, _, err := s.Calls(t.Context(), f, storage.Page{})
		if err != nil {
			t.Fatal(err)
		}
		var got, streamed []string
		for _, c := range listed {
			got = append(got, c.ID)
		}
		if err := s.EachCall(t.Context(), f, func(c storage.Call) error {
			streamed = append(streamed, c.ID)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want) || !slices.Equal(streamed, want) {
			t.Errorf("calls of %s: %v, streamed %v, want %v", customer, got, streamed, want)
		}
	}
	of("c-1", storage.CallFilter{}, second.ID, first.ID)
	of("c-2", storage.CallFilter{}, second.ID)
	of("c-1", storage.CallFilter{To: noon.Add(time.Minute), Callers: []string{"+971551230001"}, DIDs: []string{"+97148880001"}}, first.ID)
	of("c-1", storage.CallFilter{Tracker: "another"})
	of("unknown", storage.CallFilter{})
	if call, _ := load(t, s, third.ID); call.Enrichment.State != storage.EnrichmentNone {
		t.Errorf("enrichment %+v, want none found", call.Enrichment)
	}
}

func postponedLookup(t *testing.T, s Store) {
	saved := save(t, s, newCDR("call", 0))
	queue(t, s, 1)
	postponed := lookedUp(claim(t, s, noon, 1, 1)[0], storage.JobWaiting, layla)
	postponed.Outcome.Uncounted, postponed.Outcome.RunAt, postponed.Outcome.Error = true, noon.Add(time.Hour), "shop: unavailable"
	settleJobs(t, s, postponed)
	call, _ := load(t, s, saved.ID)
	want := storage.Enrichment{State: storage.EnrichmentPending, Error: "shop: unavailable"}
	if call.Enrichment != want || len(call.Customers) != 1 {
		t.Errorf("enrichment %+v and customers %+v of a postponed lookup", call.Enrichment, call.Customers)
	}
	queue(t, s, 0)
	claim(t, s, noon.Add(time.Hour-time.Second), 1, 0)
	again := claim(t, s, noon.Add(time.Hour), 1, 1)[0]
	if call, _ := load(t, s, saved.ID); call.Enrichment != want {
		t.Errorf("enrichment %+v of a running lookup, want %+v", call.Enrichment, want)
	}
	settle(t, s, again)
	if call, _ := load(t, s, saved.ID); call.Customers != nil {
		t.Errorf("customers %+v, want none after the second lookup", call.Customers)
	}
}

func expiredClaim(t *testing.T, s Store) {
	saved := save(t, s, newCDR("call", 0))
	queue(t, s, 1)
	slow := claim(t, s, noon, 1, 1)[0]
	if n, err := s.ReapJobs(t.Context(), noon.Add(time.Hour)); err != nil || n != 1 {
		t.Fatalf("reaped %d, %v; want 1", n, err)
	}
	quick := claim(t, s, noon.Add(time.Hour), 1, 1)[0]
	if lost := settleJobs(t, s, lookedUp(slow, storage.JobDone)); !slices.Equal(lost, []string{slow.ID}) {
		t.Errorf("lost %v, want %s", lost, slow.ID)
	}
	settle(t, s, quick, layla)
	if call, _ := load(t, s, saved.ID); call.Enrichment.State != storage.EnrichmentFound || len(call.Customers) != 1 {
		t.Errorf("enrichment %+v, want found", call.Enrichment)
	}
}

func lookupRequested(t *testing.T, s Store) {
	saved := save(t, s, newCDR("call", 0))
	request := func(attempts int) {
		t.Helper()
		want := storage.Enrichment{State: storage.EnrichmentPending, Attempts: attempts}
		if e, err := s.RequestLookup(t.Context(), saved.ID, noon); err != nil || e != want {
			t.Fatalf("request: %+v, %v; want %+v", e, err, want)
		}
	}
	request(0) // before the lookup is queued
	queue(t, s, 0)
	first := claim(t, s, noon, 1, 1)[0]
	if !first.SkipCache {
		t.Error("a requested lookup may use the cache")
	}
	request(0)                               // while the lookup is running
	settle(t, s, first, layla, layla, layla) // outdated by the request
	if call, _ := load(t, s, saved.ID); call.Enrichment.State != storage.EnrichmentPending || len(call.Customers) > 0 {
		t.Errorf("enrichment %+v and customers %+v after an outdated result", call.Enrichment, call.Customers)
	}
	second := claim(t, s, noon.Add(time.Second), 1, 1)[0]
	if !second.SkipCache {
		t.Error("a lookup requested while it was running may use the cache")
	}
	settle(t, s, second, layla)
	request(1) // after the lookup
	if call, _ := load(t, s, saved.ID); call.Enrichment.State != storage.EnrichmentPending || len(call.Customers) != 1 {
		t.Errorf("enrichment %+v and customers %+v after another request", call.Enrichment, call.Customers)
	}
	settle(t, s, claim(t, s, noon, 1, 1)[0], layla)
	if call, _ := load(t, s, saved.ID); call.Enrichment.Attempts != 2 {
		t.Errorf("%d attempts", call.Enrichment.Attempts)
	}
}

func lookupWithoutNumber(t *testing.T, s Store) {
	hidden := save(t, s, editedCDR(newCDR("withheld", 0), func(c *storage.Call) { c.Caller, c.RawCaller = "anonymous", "anonymous" }))
	if e, err := s.RequestLookup(t.Context(), hidden.ID, noon); err != nil || e != (storage.Enrichment{}) {
		t.Errorf("withheld number: %+v, %v", e, err)
	}
	claim(t, s, noon.Add(time.Hour), 1, 0)
	if number, err := s.LookupNumber(t.Context(), hidden.ID); err != nil || number != "" {
		t.Errorf("number %q, %v; want none", number, err)
	}
	if _, err := s.LookupNumber(t.Context(), newID()); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("number of an unknown call: %v", err)
	}
	if _, err := s.RequestLookup(t.Context(), newID(), noon); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("unknown call: %v", err)
	}
}

func lookupsAsJobs(t *testing.T, s Store) {
	jobs := func(f storage.JobFilter) []storage.Job {
		t.Helper()
		var all []storage.Job
		for cursor := ""; ; {
			page, next, err := s.Jobs(t.Context(), f, storage.Page{Cursor: cursor, Limit: 2})
			if err != nil {
				t.Fatal(err)
			}
			if all = append(all, page...); next == "" {
				return all
			}
			cursor = next
		}
	}
	ids := func(jobs []storage.Job) (ids []string) {
		for _, j := range jobs {
			ids = append(ids, j.ID)
		}
		return ids
	}
	var calls []string // newest first
	for i := range 5 {
		calls = slices.Insert(calls, 0, save(t, s, newCDR(fmt.Sprint("call-", i), 0)).ID)
	}
	queue(t, s, 5)
	addJobs(t, s, noon.Add(time.Hour), storage.NewJob{Kind: "later", Key: "k"})
	addJobs(t, s, noon.AddDate(-20, 0, 0), storage.NewJob{Kind: "earlier", Key: "k"})
	all := jobs(storage.JobFilter{})
	if len(all) != 7 || all[0].Kind != "later" || !slices.Equal(ids(all[1:6]), calls) || all[6].Kind != "earlier" {
		t.Errorf("all jobs: %+v, calls %v", all, calls)
	}
	if got := jobs(storage.JobFilter{Kind: storage.EnrichmentJob}); !slices.Equal(ids(got), calls) {
		t.Errorf("jobs of the kind: %v, calls %v", ids(got), calls)
	}
	claimed := claim(t, s, noon, 3, 3)
	settle(t, s, claimed[0], layla)
	settle(t, s, claimed[1])
	rejected := lookedUp(claimed[2], storage.JobDead)
	rejected.Outcome.Error = "desk: request rejected"
	settleJobs(t, s, rejected)
	want := storage.Enrichment{State: storage.EnrichmentFailed, Attempts: 1, Error: "desk: request rejected"}
	if call, _ := load(t, s, rejected.Job.Key); call.Enrichment != want {
		t.Errorf("enrichment %+v, want %+v", call.Enrichment, want)
	}
	for state, want := range map[storage.JobState]int{storage.JobWaiting: 2, storage.JobRunning: 0, storage.JobDone: 2, storage.JobDead: 1} {
		got := jobs(storage.JobFilter{Kind: storage.EnrichmentJob, State: state})
		if len(got) != want {
			t.Errorf("%d jobs are %s, want %d", len(got), state, want)
		}
		for _, j := range got {
			if j.State != state || j.Key != j.ID || !j.At.Equal(noon) || state == storage.JobWaiting && !j.RunAt.Equal(noon) {
				t.Errorf("%s: %+v", state, j)
			}
		}
	}
	dead := jobs(storage.JobFilter{State: storage.JobDead})[0]
	if dead.Error != "desk: request rejected" || dead.Attempts != 1 || !dead.ChangedAt.Equal(noon.Add(time.Second)) {
		t.Errorf("dead: %+v", dead)
	}
	counts, err := s.CountJobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	count := map[storage.JobState]int{}
	for _, c := range counts {
		if c.Kind == storage.EnrichmentJob {
			count[c.State] = c.Count
		}
	}
	if diff := cmp.Diff(map[storage.JobState]int{storage.JobWaiting: 2, storage.JobDead: 1}, count); diff != "" {
		t.Error(diff)
	}

	claim(t, s, noon.Add(time.Second), 10, 2) // the other due lookups
	retried, err := s.RetryJob(t.Context(), dead.ID, noon.Add(time.Minute))
	if err != nil || retried.State != storage.JobWaiting || retried.Attempts != 0 || retried.ID != dead.ID || retried.Kind != storage.EnrichmentJob {
		t.Errorf("retried: %+v, %v", retried, err)
	}
	again := claim(t, s, noon.Add(time.Minute), 1, 1)[0]
	if again.Key != dead.ID || !again.SkipCache || again.Attempts != 1 {
		t.Errorf("claimed again: %+v", again)
	}
	if _, err := s.RetryJob(t.Context(), "0190a0b0-0000-7000-8000-000000000000", noon); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("unknown lookup: %v", err)
	}
}
