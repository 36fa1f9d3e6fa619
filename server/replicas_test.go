package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"calltracker/handlers/calls"
	"calltracker/jobs"
	"calltracker/server/datadir"
	"calltracker/server/httpapi"
	"calltracker/storage"
	"calltracker/storage/sqlstore"
	"calltracker/storage/storetest/postgrestest"
)

// replicas starts two servers on one PostgreSQL database, as a load balancer has
// them behind it: each with its own data directory, and one secret key.
func replicas(t *testing.T, document string) (a, b *harness) {
	t.Helper()
	database := postgrestest.Database(t, postgrestest.Address(t))
	return replicasWith(t, document, func(set *settings) { set.databaseURL = database })
}

func replicasWith(t *testing.T, document string, on func(*settings)) (a, b *harness) {
	t.Helper()
	a = serveWith(t, t.TempDir(), document, on)
	dir := t.TempDir()
	key, err := os.ReadFile(filepath.Join(a.dir, datadir.SecretKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, datadir.SecretKeyFile), key, 0o600); err != nil {
		t.Fatal(err)
	}
	return a, serveWith(t, dir, "", on)
}

func (h *harness) version() int64 {
	if live := h.parts.config.Current(); live != nil {
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
	if calls := into[calls.CallList](t, b.get("/api/v1/calls").want(t, 200)).Calls; len(calls) != 1 {
		t.Errorf("%d calls, want 1", len(calls))
	}
}

// TestReplicasAreTold has replicas that do not look by themselves.
func TestReplicasAreTold(t *testing.T) {
	database := postgrestest.Database(t, postgrestest.Address(t))
	a, b := replicasWith(t, document, func(set *settings) { set.databaseURL, set.pollInterval = database, time.Hour })
	number := func(version int64) string { return fmt.Sprintf("050777%04d", version) }
	change := func(version int64) {
		t.Helper()
		a.put(strings.ReplaceAll(document, "0501112233", number(version)))
		eventually(t, "being told", func() bool { return b.version() == version })
		answer := b.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200).body
		if !strings.Contains(answer, number(version)) {
			t.Errorf("with version %d the other replica answers %s", version, answer)
		}
	}
	listeners := func() (n int) {
		postgrestest.QueryRow(t, database, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`, &n)
		return n
	}
	eventually(t, "listening", func() bool { return listeners() == 2 })
	change(2)
	// Whoever listens again looks for what it has missed.
	for version := int64(3); version < 6; version++ {
		var killed int
		postgrestest.QueryRow(t, database, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE 'LISTEN%'`, &killed)
		if killed == 0 {
			t.Error("nobody listened")
		}
		change(version)
		eventually(t, "listening again", func() bool { return listeners() == 2 })
	}
}

// TestReplicasLookByThemselves has a change of which nobody is told, as behind a
// pooler that loses notifications.
func TestReplicasLookByThemselves(t *testing.T) {
	database := postgrestest.Database(t, postgrestest.Address(t))
	a, b := replicasWith(t, document, func(set *settings) { set.databaseURL, set.pollInterval = database, 50*time.Millisecond })
	var version int64
	postgrestest.QueryRow(t, database, `INSERT INTO config_versions (version, at_us, author, comment, format, document)
		SELECT version + 1, at_us, author, comment, format, replace(document, '0501112233', '0507778899') FROM config_versions RETURNING version`, &version)
	for _, h := range []*harness{a, b} {
		eventually(t, "seeing the change", func() bool { return h.version() == version })
		answer := h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200).body
		if !strings.Contains(answer, "0507778899") {
			t.Errorf("after the change: %s", answer)
		}
	}
}

func TestAReplicaThatCannotFollowSaysSo(t *testing.T) {
	a, b := replicas(t, document)
	a.parts.config.Env = func(name string) (string, bool) { return "key-of-a-1", name == "ONLY_HERE" }
	a.put(strings.ReplaceAll(document, "start-key-old", `"${env:ONLY_HERE}"`))
	eventually(t, "being behind", func() bool { return b.parts.config.Pending() != nil })
	ready := into[httpapi.Readiness](t, b.do(request{method: "GET", path: "/readyz"}).want(t, 200))
	if ready.Configuration.State != "behind" || ready.Configuration.Version != 1 || !strings.Contains(ready.Configuration.Error, "version 2") {
		t.Errorf("ready: %+v", ready.Configuration)
	}
	if !strings.Contains(b.log.String(), "ONLY_HERE") {
		t.Error("the log does not say why")
	}
	b.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	a.put(document)
	eventually(t, "catching up", func() bool { return b.version() == 3 && b.parts.config.Pending() == nil })
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
			return r.status == 200 && len(into[calls.CallList](t, r).Calls) == 4
		})
	}
	a.put(strings.ReplaceAll(document, "0501112233", "0507778899"))
	eventually(t, "following again", func() bool { return b.version() == 2 })
}

// asLeader has the address of the database on which the test binary does tasks
// like a server, until it is killed.
const asLeader = "CALLTRACKER_TEST_AS_LEADER"

// leadUntilKilled prints a line whenever it does its task.
func leadUntilKilled(database string) {
	store, err := sqlstore.New(sqlstore.Options{URL: database})
	if err == nil {
		err = store.Prepare(context.Background())
	}
	if err != nil {
		panic(err)
	}
	leader, err := jobs.NewLeader(jobs.LeaderOptions{
		Store: store, Lease: time.Second, Now: time.Now, Logger: slog.New(slog.DiscardHandler),
		Tasks: []jobs.Task{{Name: "print", Interval: 10 * time.Millisecond, Run: func(context.Context) error {
			_, err := fmt.Println(time.Now().UnixNano())
			return err
		}}},
	})
	if err != nil {
		panic(err)
	}
	_ = leader.Run(context.Background()) // it does not return
}

// leader is such a process.
type leader struct {
	command *exec.Cmd
	did     chan time.Time // the task, with room for all
}

func startLeader(t *testing.T, database string) *leader {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := &leader{command: exec.CommandContext(t.Context(), self), did: make(chan time.Time, 1<<16)}
	l.command.Env = append(os.Environ(), asLeader+"="+database)
	out, err := l.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(l.did)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if ns, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				l.did <- time.Unix(0, ns)
			}
		}
		_ = l.command.Wait() // killed
	}()
	t.Cleanup(l.kill)
	return l
}

// kill gives the process no chance to say that it leaves.
func (l *leader) kill() { _ = l.command.Process.Kill() }

// TestAKilledLeaderIsReplaced has processes of which only one does the task; when
// it is killed, another one does it, once the lease has ended.
func TestAKilledLeaderIsReplaced(t *testing.T) {
	database := postgrestest.Database(t, postgrestest.Address(t))
	first := startLeader(t, database)
	does := func(l *leader) time.Time {
		t.Helper()
		select {
		case at := <-l.did:
			if at.IsZero() {
				t.Fatal("the process has ended")
			}
			return at
		case <-time.After(20 * time.Second):
			t.Fatal("nobody does the task")
			return time.Time{}
		}
	}
	does(first)
	holder := func() (id string) {
		t.Helper()
		postgrestest.QueryRow(t, database, `SELECT holder FROM leases WHERE name = 'tasks'`, &id)
		return id
	}
	before := holder()
	second := startLeader(t, database+"&application_name=second")
	eventually(t, "a second process", func() (there bool) {
		postgrestest.QueryRow(t, database, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'second' AND datname = current_database())`, &there)
		return there
	})
	for begin := does(first); does(first).Before(begin.Add(1500 * time.Millisecond)); { // longer than its lease
	}
	if holder() != before {
		t.Error("the first process has lost the lease")
	}
	if len(second.did) > 0 {
		t.Error("both do the task")
	}
	first.kill()
	var last time.Time
	for at := range first.did { // until its end
		last = at
	}
	next := does(second)
	if !next.After(last) {
		t.Errorf("the second did the task at %v, and the first until %v", next, last)
	}
	if holder() == before {
		t.Error("the first process still has the lease")
	}
}

// TestTheLeaderLinksWhatWasMissed runs the task that links calls and decisions
// that were stored at the same time.
func TestTheLeaderLinksWhatWasMissed(t *testing.T) {
	database := postgrestest.Database(t, postgrestest.Address(t))
	h := serveWith(t, t.TempDir(), document, func(set *settings) { set.databaseURL = database })
	h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	h.decisions(1)
	h.endCall("sales", "end-key-old", `{"callID":"missed","didCalled":"061234567"}`).want(t, 200)
	var unlinked int
	postgrestest.QueryRow(t, database, `WITH d AS (UPDATE decisions SET linked_call = '' RETURNING 1),
		c AS (UPDATE calls SET decision_id = '', route = '' WHERE decision_id <> '' RETURNING 1)
		SELECT (SELECT count(*) FROM d) + (SELECT count(*) FROM c)`, &unlinked)
	if unlinked != 2 {
		t.Fatalf("%d rows were unlinked, want the call's and the decision's", unlinked)
	}
	for _, task := range h.parts.tasks {
		if task.Name == "link calls to decisions" {
			if err := task.Run(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	if calls := h.calls(""); len(calls) != 1 || calls[0].Decision == "" || calls[0].Route != "office" {
		t.Errorf("calls %+v", calls)
	}
}

// TestAHungDatabaseDoesNotKeepCallsWaiting restarts a replica while its database
// takes connections and answers nothing.
func TestAHungDatabaseDoesNotKeepCallsWaiting(t *testing.T) {
	dir := t.TempDir()
	serveIn(t, dir, document).stop()
	hung, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tried atomic.Int32
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		var open []net.Conn
		for {
			c, err := hung.Accept()
			if err != nil {
				break
			}
			tried.Add(1)
			open = append(open, c)
		}
		for _, c := range open {
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = hung.Close(); <-accepting })
	h := serveWith(t, dir, "", func(set *settings) {
		set.databaseURL = "postgres://calltracker@" + hung.Addr().String() + "/calltracker"
	})
	// It is tried with TLS and without, 3 s each. Who has a document does not wait
	// even for the first.
	if n := tried.Load(); n != 1 {
		t.Errorf("it was tried %d times before calls were answered", n)
	}
	h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	h.endCall("sales", "end-key-old", `{"callID":"spooled","didCalled":"061234567"}`).want(t, 200)
	if n := h.parts.spool.Stats().Records; n != 1 {
		t.Errorf("%d records in the spool, want 1", n)
	}
	ready := into[httpapi.Readiness](t, h.do(request{method: "GET", path: "/readyz"}).want(t, 200))
	if ready.Status != "ready" || ready.Database.State != "failing" || ready.Configuration.Version != 1 {
		t.Errorf("ready: %+v", ready)
	}
}

func TestRetentionStripsOldCalls(t *testing.T) {
	h := serve(t, document+"retention: {personal_days: 30}\n")
	h.endCall("sales", "end-key-old", `{"callID":"old","didCalled":"061234567","callerIDNumber":"0501234567","startedAt":"2020-01-01T10:00:00Z"}`).want(t, 200)
	h.endCall("sales", "end-key-old", `{"callID":"new","didCalled":"061234567","callerIDNumber":"0501234567"}`).want(t, 200)
	// Today's job is there already, or will be soon.
	key := time.Now().UTC().Format(time.DateOnly)
	if err := h.parts.store.AddJobs(t.Context(), time.Now(), []storage.NewJob{{Kind: "retention", Key: key, Again: true}}); err != nil {
		t.Fatal(err)
	}
	h.parts.runner.Wake()
	eventually(t, "retention", func() bool {
		list := into[jobs.Page](t, h.get("/api/v1/jobs?kind=retention").want(t, 200)).Jobs
		return len(list) == 1 && list[0].State == "done"
	})
	for _, c := range h.calls("") {
		if stripped := c.Caller == "" && c.RawCaller == ""; stripped != (c.CallID == "old") {
			t.Errorf("call %+v", c)
		}
	}
	h.do(request{method: "PUT", path: "/api/v1/config", body: document + "retention: {raw_days: -1}\n", admin: true,
		header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(t, 422)
}
