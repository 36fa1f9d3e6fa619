package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"calltracker/handlers"
	"calltracker/storage"
	"calltracker/storage/storetest/postgrestest"
)

// replicas starts two servers on one PostgreSQL database, as a load balancer has
// them behind it: each with its own data directory, and one secret key.
func replicas(t *testing.T, document string) (a, b *harness) {
	t.Helper()
	database := postgrestest.Database(t, postgrestest.Address(t))
	on := func(set *settings) { set.databaseURL = database }
	a = serveWith(t, t.TempDir(), document, on)
	dir := t.TempDir()
	key, err := os.ReadFile(filepath.Join(a.dir, secretKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, secretKeyFile), key, 0o600); err != nil {
		t.Fatal(err)
	}
	return a, serveWith(t, dir, "", on)
}

func (h *harness) version() int64 {
	if live := h.s.config.Live(); live != nil {
		return live.Version.Version
	}
	return 0
}

func (h *harness) put(document string) {
	h.t.Helper()
	h.do(request{method: "PUT", path: "/api/v1/config", body: document, admin: true,
		header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(h.t, 200)
}

func TestReplicasFollowEachOther(t *testing.T) {
	a, b := replicas(t, document)
	if got := b.version(); got != 1 {
		t.Fatalf("the second replica started with version %d, want 1", got)
	}
	a.put(strings.ReplaceAll(document, "0501112233", "0507778899"))
	eventually(t, "following", func() bool { return b.version() == 2 })
	answer := b.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200).body
	if !strings.Contains(answer, "0507778899") {
		t.Errorf("the other replica answers %s", answer)
	}

	// A secret that is changed on one is in force on the other.
	secret := func(h *harness, value string) {
		h.do(request{method: "PUT", path: "/api/v1/secrets/start", body: `{"value":"` + value + `"}`, admin: true,
			header: map[string]string{"Content-Type": "application/json"}}).want(t, 200)
	}
	secret(b, "first-key-1")
	b.put(strings.ReplaceAll(document, "start-key-old", `"${secret:start}"`))
	works := func(h *harness, key string) func() bool {
		return func() bool { return h.startCall("sales", key, "didCalled", "061234567").status == 200 }
	}
	eventually(t, "the first key", works(a, "first-key-1"))
	secret(b, "second-key-2")
	eventually(t, "the second key", works(a, "second-key-2"))

	// A call that came to one is shown by the other.
	a.endCall("sales", "end-key-old", `{"callID":"c-1","didCalled":"061234567"}`).want(t, 200)
	if calls := into[handlers.CallList](t, b.get("/api/v1/calls").want(t, 200)).Calls; len(calls) != 1 {
		t.Errorf("%d calls, want 1", len(calls))
	}
}

func TestAReplicaThatCannotFollowSaysSo(t *testing.T) {
	a, b := replicas(t, document)
	a.s.config.Env = func(name string) (string, bool) { return "key-of-a-1", name == "ONLY_HERE" }
	a.put(strings.ReplaceAll(document, "start-key-old", `"${env:ONLY_HERE}"`))
	eventually(t, "being behind", func() bool { return b.s.config.Behind() != nil })
	ready := into[readiness](t, b.do(request{method: "GET", path: "/readyz"}).want(t, 200))
	if ready.Configuration.State != "behind" || ready.Configuration.Version != 1 || !strings.Contains(ready.Configuration.Error, "version 2") {
		t.Errorf("ready: %+v", ready.Configuration)
	}
	if !strings.Contains(b.log.String(), "ONLY_HERE") {
		t.Error("the log does not say why")
	}
	b.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	a.put(document)
	eventually(t, "catching up", func() bool { return b.version() == 3 && b.s.config.Behind() == nil })
}

func TestReplicasOutliveTheirDatabase(t *testing.T) {
	server := postgrestest.Start(t)
	on := func(set *settings) { set.databaseURL = server.URL() }
	dir := t.TempDir()
	a := serveWith(t, t.TempDir(), document, on)
	b := serveWith(t, dir, "", on)
	end := func(h *harness, callID string) {
		t.Helper()
		h.endCall("sales", "end-key-old", `{"callID":"`+callID+`","didCalled":"061234567"}`).want(t, 200)
	}
	end(a, "before")
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*harness{a, b} {
		h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	}
	end(a, "while-a")
	end(b, "while-b")
	// After a restart without the database the last good configuration serves.
	b.stop()
	b = serveWith(t, dir, "", on)
	b.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	end(b, "restarted")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*harness{a, b} {
		eventually(t, "finding all calls", func() bool {
			r := h.get("/api/v1/calls")
			return r.status == 200 && len(into[handlers.CallList](t, r).Calls) == 4
		})
	}
	a.put(strings.ReplaceAll(document, "0501112233", "0507778899"))
	eventually(t, "following again", func() bool { return b.version() == 2 })
}

func TestAKilledLeaderIsReplaced(t *testing.T) {
	a, b := replicas(t, document)
	holder := func(h *harness) string { return h.s.tasks.Holder }
	leads := func(h *harness) bool { // who holds a lease may prolong it
		now := time.Now()
		held, err := h.s.store.Lease(t.Context(), "tasks", holder(h), now, now.Add(15*time.Second))
		return err == nil && held
	}
	eventually(t, "leading", func() bool { return strings.Contains(a.log.String(), "does the tasks of all") })
	if leads(b) {
		t.Error("both lead")
	}
	// A process that is killed gives nothing back. Its lease ends by itself: here
	// at once, since a test does not wait for that.
	now := time.Now()
	if _, err := a.s.store.Lease(t.Context(), "tasks", holder(a), now, now); err != nil {
		t.Fatal(err)
	}
	if !leads(b) {
		t.Error("the other replica does not get the lease that has ended")
	}
	if leads(a) {
		t.Error("both lead")
	}
}

func TestRetentionStripsOldCalls(t *testing.T) {
	h := serve(t, document+"retention: {personal_days: 30}\n")
	h.endCall("sales", "end-key-old", `{"callID":"old","didCalled":"061234567","callerIDNumber":"0501234567","startedAt":"2020-01-01T10:00:00Z"}`).want(t, 200)
	h.endCall("sales", "end-key-old", `{"callID":"new","didCalled":"061234567","callerIDNumber":"0501234567"}`).want(t, 200)
	// Today's job is there already, or will be soon.
	key := time.Now().UTC().Format(time.DateOnly)
	if err := h.s.store.AddJobs(t.Context(), time.Now(), []storage.NewJob{{Kind: "retention", Key: key, Again: true}}); err != nil {
		t.Fatal(err)
	}
	h.s.runner.Wake()
	eventually(t, "retention", func() bool {
		jobs := into[handlers.JobList](t, h.get("/api/v1/jobs?kind=retention").want(t, 200)).Jobs
		return len(jobs) == 1 && jobs[0].State == "done"
	})
	for _, c := range h.calls("") {
		if stripped := c.Caller == "" && c.RawCaller == ""; stripped != (c.CallID == "old") {
			t.Errorf("call %+v", c)
		}
	}
	h.do(request{method: "PUT", path: "/api/v1/config", body: document + "retention: {raw_days: -1}\n", admin: true,
		header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(t, 422)
}
