package main

import (
	"testing"
	"time"

	"calltracker/handlers"
	"calltracker/storage"
)

func TestJobsAreListedAndRetried(t *testing.T) {
	h := serve(t, document)
	now := time.Now().UTC()
	store := h.s.store
	if err := store.AddJobs(t.Context(), now, []storage.NewJob{{Kind: "odd", Key: "a"}, {Kind: "odd", Key: "b"}}); err != nil {
		t.Fatal(err)
	}
	claimed, err := store.ClaimJobs(t.Context(), storage.JobClaim{Kinds: []string{"odd"}, Now: now, Until: now.Add(time.Hour), Limit: 1})
	if err != nil || len(claimed) != 1 {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	id := claimed[0].ID
	h.do(request{method: "POST", path: "/api/v1/jobs/" + id + "/retry", admin: true}).want(t, 409)
	if err := store.SettleJob(t.Context(), claimed[0], storage.Settlement{State: storage.JobDead, Error: "broken", Now: now}); err != nil {
		t.Fatal(err)
	}
	list := into[handlers.JobList](t, h.get("/api/v1/jobs?state=dead&kind=odd").want(t, 200))
	if len(list.Jobs) != 1 || list.Jobs[0].ID != id || list.Jobs[0].Error != "broken" || list.Jobs[0].State != "dead" {
		t.Errorf("dead jobs %+v", list)
	}
	page := into[handlers.JobList](t, h.get("/api/v1/jobs?kind=odd&limit=1").want(t, 200))
	rest := into[handlers.JobList](t, h.get("/api/v1/jobs?kind=odd&limit=1&cursor="+page.Next).want(t, 200))
	if len(page.Jobs) != 1 || len(rest.Jobs) != 1 || page.Jobs[0].ID == rest.Jobs[0].ID || rest.Next != "" {
		t.Errorf("pages %+v, %+v", page, rest)
	}
	retried := into[handlers.JobView](t, h.do(request{method: "POST", path: "/api/v1/jobs/" + id + "/retry", admin: true}).want(t, 200))
	if retried.State != "waiting" || retried.Attempts != 0 {
		t.Errorf("retried %+v", retried)
	}
	h.do(request{method: "POST", path: "/api/v1/jobs/none/retry", admin: true}).want(t, 404)
	h.do(request{method: "POST", path: "/api/v1/jobs/none/retry"}).want(t, 401)
	h.get("/api/v1/jobs?state=odd").want(t, 422)
	h.get("/api/v1/jobs?cursor=odd").want(t, 422)
}
