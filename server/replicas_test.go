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

// replicas starts two servers on one PostgreSQL database, like servers behind a load
// balancer. Each has its own data directory. Both have the same secret key.
func replicas(t *testing.T, document string) (a, b *harness) {
	t.Helper()
	database := postgrestest.Database(t, postgrestest.Address(t))
	return replicasWith(t, document, func(set *settings) { set.databaseURL = database })
}

func replicasWith(t *testing.T, document string, edit func(*settings)) (a, b *harness) {
	t.Helper()
	a = serveWith(t, t.TempDir(), document, edit)
	dir := t.TempDir()
	key, err := os.ReadFile(filepath.Join(a.dir, datadir.SecretKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, datadir.SecretKeyFile), key, 0o600); err != nil {
		t.Fatal(err)
	}
	return a, serveWith(t, dir, "", edit)
}

// configVersion returns the active configuration version, or 0 if there is none.
func (h *harness) configVersion() int64 {
	if live := h.parts.config.Current(); live != nil {
		return live.Version.Version
	}
	return 0
}

func (h *harness) applyConfig(document string) {
	h.t.Helper()
	h.do(request{method: "PUT", path: "/api/v1/config", body: document, admin: true,
		header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(h.t, 200)
}

func TestReplicasShareConfigAndCalls(t *testing.T) {
	a, b := replicas(t, document)
	if got := b.configVersion(); got != 1 {
		t.Fatalf("the second replica started with version %d, want 1", got)
	}
	a.applyConfig(strings.ReplaceAll(document, "0501112233", "0507778899"))
	eventually(t, "version 2 on the other replica", func() bool { return b.configVersion() == 2 })
	answer := b.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200).body
	if !strings.Contains(answer, "0507778899") {
		t.Errorf("the other replica answered %s", answer)
	}

	// A secret that is changed on one replica applies on the other.
	setSecret := func(h *harness, value string) {
		h.do(request{method: "PUT", path: "/api/v1/secrets/start", body: `{"value":"` + value + `"}`, admin: true,
			header: map[string]string{"Content-Type": "application/json"}}).want(t, 200)
	}
	setSecret(b, "first-key-1")
	b.applyConfig(strings.ReplaceAll(document, "start-key-old", `"${secret:start}"`))
	accepts := func(h *harness, key string) func() bool {
		return func() bool { return h.startCall("sales", key, "didCalled", "061234567").status == 200 }
	}
	eventually(t, "the first key", accepts(a, "first-key-1"))
	setSecret(b, "second-key-2")
	eventually(t, "the second key", accepts(a, "second-key-2"))

	// A call that one replica receives is visible on the other.
	a.endCall("sales", "end-key-old", `{"callID":"c-1","didCalled":"061234567"}`).want(t, 200)
	if n := len(into[calls.List](t, b.get("/api/v1/calls").want(t, 200)).Calls); n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

// TestReplicasFollowNotifications uses a poll interval of one hour, so that only
// notifications can announce a change.
func TestReplicasFollowNotifications(t *testing.T) {
	database := postgrestest.Database(t, postgrestest.Address(t))
	a, b := replicasWith(t, document, func(set *settings) { set.databaseURL, set.pollInterval = database, time.Hour })
	number := func(version int64) string { return fmt.Sprintf("050777%04d", version) }
	change := func(version int64) {
		t.Helper()
		a.applyConfig(strings.ReplaceAll(document, "0501112233", number(version)))
		eventually(t, "the notification", func() bool { return b.configVersion() == version })
		answer := b.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200).body
		if !strings.Contains(answer, number(version)) {
			t.Errorf("version %d: the other replica answered %s", version, answer)
		}
	}
	listeners := func() (n int) {
		postgrestest.QueryRow(t, database, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'`, &n)
		return n
	}
	eventually(t, "both listeners", func() bool { return listeners() == 2 })
	change(2)
	// A replica that reconnects loads the changes that it missed.
	for version := int64(3); version < 6; version++ {
		var killed int
		postgrestest.QueryRow(t, database, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND query LIKE 'LISTEN%'`, &killed)
		if killed == 0 {
			t.Error("no replica was listening")
		}
		change(version)
		eventually(t, "both listeners to reconnect", func() bool { return listeners() == 2 })
	}
}

// TestReplicasPollForChanges makes a change without a notification, as with a
// connection pooler that loses notifications.
func TestReplicasPollForChanges(t *testing.T) {
	database := postgrestest.Database(t, postgrestest.Address(t))
	a, b := replicasWith(t, document, func(set *settings) { set.databaseURL, set.pollInterval = database, 50*time.Millisecond })
	var version int64
	postgrestest.QueryRow(t, database, `INSERT INTO config_versions (version, at_us, author, comment, format, document)
		SELECT version + 1, at_us, author, comment, format, replace(document, '0501112233', '0507778899') FROM config_versions RETURNING version`, &version)
	for _, h := range []*harness{a, b} {
		eventually(t, "the change", func() bool { return h.configVersion() == version })
		answer := h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200).body
		if !strings.Contains(answer, "0507778899") {
			t.Errorf("after the change: answered %s", answer)
		}
	}
}

func TestReplicaReportsConfigItCannotLoad(t *testing.T) {
	database, first := postgrestest.Database(t, postgrestest.Address(t)), true
	a, b := replicasWith(t, document, func(set *settings) {
		set.databaseURL = database
		if first {
			set.env = func(name string) (string, bool) { return "key-of-a-1", name == "ONLY_HERE" }
		}
		first = false
	})
	a.applyConfig(strings.ReplaceAll(document, "start-key-old", `"${env:ONLY_HERE}"`))
	eventually(t, "the replica to be behind", func() bool { return b.parts.config.Pending() != nil })
	ready := into[httpapi.Readiness](t, b.do(request{method: "GET", path: "/readyz"}).want(t, 200))
	if ready.Configuration.State != "behind" || ready.Configuration.Version != 1 || !strings.Contains(ready.Configuration.Error, "version 2") {
		t.Errorf("readiness %+v, want configuration behind at version 1", ready.Configuration)
	}
	if !strings.Contains(b.log.String(), "ONLY_HERE") {
		t.Error("the log does not name the missing variable ONLY_HERE")
	}
	b.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	a.applyConfig(document)
	eventually(t, "the replica to catch up", func() bool { return b.configVersion() == 3 && b.parts.config.Pending() == nil })
}

func TestReplicasAnswerDuringDatabaseOutage(t *testing.T) {
	server := postgrestest.Start(t)
	useDatabase := func(set *settings) { set.databaseURL = server.URL() }
	dir := t.TempDir()
	a := serveWith(t, t.TempDir(), document, useDatabase)
	b := serveWith(t, dir, "", useDatabase)
	endCall := func(h *harness, callID string) {
		t.Helper()
		h.endCall("sales", "end-key-old", `{"callID":"`+callID+`","didCalled":"061234567"}`).want(t, 200)
	}
	endCall(a, "before")
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*harness{a, b} {
		h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	}
	endCall(a, "while-a")
	endCall(b, "while-b")
	// A server that restarts without the database uses the last good configuration.
	b.stop()
	b = serveWith(t, dir, "", useDatabase)
	b.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	endCall(b, "restarted")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	for _, h := range []*harness{a, b} {
		eventually(t, "all 4 calls", func() bool {
			r := h.get("/api/v1/calls")
			return r.status == 200 && len(into[calls.List](t, r).Calls) == 4
		})
	}
	a.applyConfig(strings.ReplaceAll(document, "0501112233", "0507778899"))
	eventually(t, "version 2 on the other replica", func() bool { return b.configVersion() == 2 })
}

// asLeader is the environment variable that makes the test binary run leader tasks on
// the database whose URL it contains, until the process is killed.
const asLeader = "CALLTRACKER_TEST_AS_LEADER"

// leadUntilKilled runs a task that prints the time.
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
	_ = leader.Run(context.Background()) // runs until the process is killed
}

// leader is a process that runs leadUntilKilled.
type leader struct {
	command *exec.Cmd
	runs    chan time.Time // times of the task's runs, with room for all
}

func startLeader(t *testing.T, database string) *leader {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := &leader{command: exec.CommandContext(t.Context(), self), runs: make(chan time.Time, 1<<16)}
	l.command.Env = append(os.Environ(), asLeader+"="+database)
	out, err := l.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(l.runs)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if ns, err := strconv.ParseInt(lines.Text(), 10, 64); err == nil {
				l.runs <- time.Unix(0, ns)
			}
		}
		_ = l.command.Wait() // killed
	}()
	t.Cleanup(l.kill)
	return l
}

// kill ends the process before it can release its lease.
func (l *leader) kill() { _ = l.command.Process.Kill() }

// TestKilledLeaderIsReplaced starts two processes, of which only the leader runs the
// task. When the leader is killed, the other process takes over after the lease expires.
func TestKilledLeaderIsReplaced(t *testing.T) {
	database := postgrestest.Database(t, postgrestest.Address(t))
	first := startLeader(t, database)
	nextRun := func(l *leader) time.Time {
		t.Helper()
		select {
		case at := <-l.runs:
			if at.IsZero() {
				t.Fatal("the process ended")
			}
			return at
		case <-time.After(20 * time.Second):
			t.Fatal("the task did not run within 20 s")
			return time.Time{}
		}
	}
	nextRun(first)
	holder := func() (id string) {
		t.Helper()
		postgrestest.QueryRow(t, database, `SELECT holder FROM leases WHERE name = 'tasks'`, &id)
		return id
	}
	before := holder()
	second := startLeader(t, database+"&application_name=second")
	eventually(t, "the second process to connect", func() (connected bool) {
		postgrestest.QueryRow(t, database, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'second' AND datname = current_database())`, &connected)
		return connected
	})
	for begin := nextRun(first); nextRun(first).Before(begin.Add(1500 * time.Millisecond)); { // longer than its lease
	}
	if holder() != before {
		t.Error("the first process lost the lease before it was killed")
	}
	if len(second.runs) > 0 {
		t.Error("both processes ran the task")
	}
	first.kill()
	var last time.Time
	for at := range first.runs { // until the process ends
		last = at
	}
	takeover := nextRun(second)
	if !takeover.After(last) {
		t.Errorf("the second process ran the task at %v, before the first process's last run at %v", takeover, last)
	}
	if holder() == before {
		t.Error("the first process still holds the lease after it was killed")
	}
}

// TestLeaderLinksUnlinkedCalls runs the task that links calls to decisions that were
// stored at the same time.
func TestLeaderLinksUnlinkedCalls(t *testing.T) {
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
		t.Fatalf("unlinked %d rows, want 2: the call and the decision", unlinked)
	}
	for _, task := range h.parts.tasks {
		if task.Name == "link calls to decisions" {
			if err := task.Run(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	if stored := h.calls(""); len(stored) != 1 || stored[0].Decision == "" || stored[0].Route != "office" {
		t.Errorf("calls %+v, want one linked to its decision", stored)
	}
}

// TestHungDatabaseDoesNotDelayCalls restarts a replica while its database accepts
// connections but does not respond.
func TestHungDatabaseDoesNotDelayCalls(t *testing.T) {
	dir := t.TempDir()
	serveIn(t, dir, document).stop()
	hung, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var attempts atomic.Int32
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		var open []net.Conn
		for {
			c, err := hung.Accept()
			if err != nil {
				break
			}
			attempts.Add(1)
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
	// The server tries to connect with TLS and without, for 3 s each. A server with a
	// saved configuration does not wait even for the first attempt.
	if n := attempts.Load(); n != 1 {
		t.Errorf("%d connection attempts before the server answered calls, want 1", n)
	}
	h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	h.endCall("sales", "end-key-old", `{"callID":"spooled","didCalled":"061234567"}`).want(t, 200)
	if n := h.parts.spool.Stats().Records; n != 1 {
		t.Errorf("%d records in the spool, want 1", n)
	}
	ready := into[httpapi.Readiness](t, h.do(request{method: "GET", path: "/readyz"}).want(t, 200))
	if ready.Status != "ready" || ready.Database.State != "failing" || ready.Configuration.Version != 1 {
		t.Errorf("readiness %+v, want ready with a failing database", ready)
	}
}

func TestRetentionRemovesPersonalDataOfOldCalls(t *testing.T) {
	h := serve(t, document+"retention: {personal_days: 30}\n")
	h.endCall("sales", "end-key-old", `{"callID":"old","didCalled":"061234567","callerIDNumber":"0501234567","startedAt":"2020-01-01T10:00:00Z"}`).want(t, 200)
	h.endCall("sales", "end-key-old", `{"callID":"new","didCalled":"061234567","callerIDNumber":"0501234567"}`).want(t, 200)
	// The server also adds today's job. Again runs the job even if it is already done.
	key := time.Now().UTC().Format(time.DateOnly)
	if err := h.parts.store.AddJobs(t.Context(), time.Now(), []storage.NewJob{{Kind: "retention", Key: key, Again: true}}); err != nil {
		t.Fatal(err)
	}
	h.parts.runner.Wake()
	eventually(t, "the retention job", func() bool {
		list := into[jobs.List](t, h.get("/api/v1/jobs?kind=retention").want(t, 200)).Jobs
		return len(list) == 1 && list[0].State == "done"
	})
	for _, c := range h.calls("") {
		if removed := c.Caller == "" && c.RawCaller == ""; removed != (c.CallID == "old") {
			t.Errorf("call %+v: personal data removed %t", c, removed)
		}
	}
	h.do(request{method: "PUT", path: "/api/v1/config", body: document + "retention: {raw_days: -1}\n", admin: true,
		header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(t, 422)
}
