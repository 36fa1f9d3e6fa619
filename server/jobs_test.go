package main

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"calltracker/jobs"
	"calltracker/storage"
	"calltracker/storage/sqlstore"
)

func TestJobsAreListedAndRetried(t *testing.T) {
	h := serve(t, document)
	now := time.Now().UTC()
	store := h.parts.store
	if err := store.AddJobs(t.Context(), now, []storage.NewJob{{Kind: "odd", Key: "a"}, {Kind: "odd", Key: "b"}}); err != nil {
		t.Fatal(err)
	}
	claimed, err := store.ClaimJobs(t.Context(), storage.JobClaim{Kinds: []string{"odd"}, Now: now, Until: now.Add(time.Hour), Limit: 1})
	if err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v with error %v, want 1 job", claimed, err)
	}
	id := claimed[0].ID
	h.do(request{method: "POST", path: "/api/v1/jobs/" + id + "/retry", admin: true}).want(t, 409)
	settleJob(t, store, claimed[0], storage.JobOutcome{State: storage.JobDead, Error: "broken", Now: now})
	list := into[jobs.List](t, h.get("/api/v1/jobs?state=dead&kind=odd").want(t, 200))
	if len(list.Jobs) != 1 || list.Jobs[0].ID != id || list.Jobs[0].Error != "broken" || list.Jobs[0].State != "dead" {
		t.Errorf("dead jobs %+v, want job %s with its error", list, id)
	}
	page := into[jobs.List](t, h.get("/api/v1/jobs?kind=odd&limit=1").want(t, 200))
	rest := into[jobs.List](t, h.get("/api/v1/jobs?kind=odd&limit=1&cursor="+page.Next).want(t, 200))
	if len(page.Jobs) != 1 || len(rest.Jobs) != 1 || page.Jobs[0].ID == rest.Jobs[0].ID || rest.Next != "" {
		t.Errorf("pages %+v and %+v, want one job on each", page, rest)
	}
	retried := into[jobs.View](t, h.do(request{method: "POST", path: "/api/v1/jobs/" + id + "/retry", admin: true}).want(t, 200))
	if retried.State != "waiting" || retried.Attempts != 0 {
		t.Errorf("retried job %+v, want it waiting with no attempts", retried)
	}
	h.do(request{method: "POST", path: "/api/v1/jobs/none/retry", admin: true}).want(t, 404)
	h.do(request{method: "POST", path: "/api/v1/jobs/none/retry"}).want(t, 401)
	h.get("/api/v1/jobs?state=odd").want(t, 422)
	h.get("/api/v1/jobs?cursor=odd").want(t, 422)
}

func TestMetricsCountJobs(t *testing.T) {
	h := serve(t, document)
	metric := func(name string) (value string) {
		t.Helper()
		for line := range strings.Lines(h.do(request{method: "GET", path: "/metrics"}).want(t, 200).body) {
			if rest, ok := strings.CutPrefix(line, name+" "); ok {
				value = strings.TrimSpace(rest)
			}
		}
		return value
	}
	now := time.Now().UTC()
	add := func(key string, due time.Time) {
		t.Helper()
		if err := h.parts.store.AddJobs(t.Context(), now, []storage.NewJob{{Kind: "odd", Key: key, RunAt: due}}); err != nil {
			t.Fatal(err)
		}
	}
	add("a", now.Add(-time.Hour))
	add("b", now.Add(-time.Hour))
	add("c", now.Add(time.Hour))
	if got := metric(`calltracker_jobs{kind="odd",state="waiting"}`); got != "3" {
		t.Errorf("%q waiting jobs, want 3", got)
	}
	if got, err := strconv.ParseFloat(metric(`calltracker_job_oldest_seconds{kind="odd"}`), 64); err != nil || got < 3600 || got > 4000 {
		t.Errorf("oldest job has been due for %v s (error %v), want about 3600", got, err)
	}
	claimed, err := h.parts.store.ClaimJobs(t.Context(), storage.JobClaim{Kinds: []string{"odd"}, Now: now, Until: now.Add(time.Hour), Limit: 2})
	if err != nil || len(claimed) != 2 {
		t.Fatalf("claimed %v with error %v, want 2 jobs", claimed, err)
	}
	for i, state := range []storage.JobState{storage.JobDead, storage.JobDone} {
		if got := metric(`calltracker_jobs{kind="odd",state="running"}`); got != strconv.Itoa(2-i) {
			t.Errorf("%q running jobs, want %d", got, 2-i)
		}
		settleJob(t, h.parts.store, claimed[i], storage.JobOutcome{State: state, Now: now})
	}
	for name, want := range map[string]string{
		`calltracker_jobs{kind="odd",state="waiting"}`: "1", `calltracker_jobs{kind="odd",state="dead"}`: "1",
		`calltracker_jobs{kind="odd",state="running"}`: "", `calltracker_jobs{kind="odd",state="done"}`: "",
		`calltracker_job_oldest_seconds{kind="odd"}`: "0", // job c is not due yet
	} {
		if got := metric(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	// A job that a worker runs counts as a try.
	if err := h.parts.store.AddJobs(t.Context(), now, []storage.NewJob{{Kind: "retention", Key: "now"}}); err != nil {
		t.Fatal(err)
	}
	h.parts.runner.Wake()
	eventually(t, "a counted try", func() bool { return metric(`calltracker_job_tries_total{kind="retention",outcome="done"}`) != "" })
}

func settleJob(t *testing.T, store *sqlstore.Store, j storage.Job, outcome storage.JobOutcome) {
	t.Helper()
	if lost, err := store.SettleJobs(t.Context(), []storage.JobSettlement{{Job: j, Outcome: outcome}}); err != nil || len(lost) > 0 {
		t.Fatalf("settle: %v, %v", lost, err)
	}
}
