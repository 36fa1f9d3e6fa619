package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"calltracker/server/httpapi"
)

func TestHealthReadinessAndMetricsReportState(t *testing.T) {
	h := serve(t, document)
	h.do(request{method: "GET", path: "/healthz"}).want(t, 200)
	ready := h.do(request{method: "GET", path: "/readyz"}).want(t, 200)
	if got := into[httpapi.Readiness](t, ready); got.Status != "ready" || !got.StartCalls || !got.EndCalls || got.Configuration.Version != 1 || got.Database.State != "ok" {
		t.Errorf("readiness %s, want ready with version 1", ready.body)
	}
	h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	h.startCall("sales", "no", "didCalled", "061234567").want(t, 401)
	h.endCall("sales", "end-key-old", cdr2016).want(t, 200)
	h.endCall("sales", "end-key-old", cdr2016).want(t, 200)
	h.decisions(1)
	body := h.do(request{method: "GET", path: "/metrics"}).want(t, 200).body
	for _, line := range []string{
		`calltracker_decisions_total{route="office",tracker="sales"} 1`,
		`calltracker_calls_stored_total{result="answered"} 1`,
		`calltracker_call_reports_total{kind="repeat"} 1`,
		`calltracker_requests_total{method="POST",route="/callTrackers/:tracker/startCall",status="401"} 1`,
		`calltracker_request_duration_seconds_count{method="POST",route="/callTrackers/:tracker/startCall"} 2`,
		`calltracker_rejections_total{reason="wrong_key"} 1`,
		`calltracker_queue_depth{queue="decisions"} 0`,
		`calltracker_queue_dropped_total{queue="decisions"} 0`,
		`calltracker_queue_written_total{queue="decisions"} 1`,
		`calltracker_config_version 1`,
		`calltracker_database_up 1`,
		`calltracker_build_info{`,
	} {
		if !strings.Contains(body, line) {
			t.Errorf("metrics do not contain %s", line)
		}
	}
}

func TestAPIBrowserLoadsNothingFromOtherHosts(t *testing.T) {
	h := serve(t, "")
	req, err := newRequest(t, "GET", h.base+"/docs/")
	if err != nil {
		t.Fatal(err)
	}
	status, header, page := send(t, req)
	if status != 200 || !strings.Contains(header.Get("Content-Security-Policy"), "default-src 'self'") {
		t.Fatalf("status %d with header %v, want 200 with a policy that allows only this host", status, header)
	}
	if strings.Contains(page, "http://") || strings.Contains(page, "https://") || !strings.Contains(page, "swagger-ui-bundle.js") {
		t.Errorf("page must load swagger-ui-bundle.js and contain no absolute URL: %s", page)
	}
	h.do(request{method: "GET", path: "/openapi.json"}).want(t, 200)
	schema := h.do(request{method: "GET", path: "/schema/config.json"}).want(t, 200)
	if !json.Valid([]byte(schema.body)) || !strings.Contains(schema.body, `"routes"`) {
		t.Errorf("schema is not valid JSON with routes: %.200s", schema.body)
	}
}

// TestServerStartsWithoutDatabase replaces the database with a directory and restarts
// the server. The server must use the last good configuration, spool call records,
// and store them when the database is back.
func TestServerStartsWithoutDatabase(t *testing.T) {
	dir := t.TempDir()
	h := serveIn(t, dir, document)
	put := h.do(request{method: "PUT", path: "/api/v1/secrets/line", admin: true, body: `{"value":"sealed-start-key"}`, header: map[string]string{"Content-Type": "application/json"}})
	put.want(t, 200)
	h.putConfig("", "*", "application/yaml", strings.Replace(document, "start-key-old", `"${secret:line}"`, 1)).want(t, 200)
	h.endCall("sales", "end-key-old", cdr2016).want(t, 200)
	h.stop()

	database := filepath.Join(dir, "calltracker.db")
	content, err := os.ReadFile(database)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{database, database + "-wal", database + "-shm"} {
		if err := os.Remove(name); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(database, 0o700); err != nil { // SQLite cannot open a directory
		t.Fatal(err)
	}

	h = serveIn(t, dir, "")
	if body := h.startCall("sales", "sealed-start-key", "didCalled", "061234567").want(t, 200).body; body != officeAnswer {
		t.Errorf("startCall answer is %s, want %s", body, officeAnswer)
	}
	h.endCall("sales", "end-key-old", cdr2016).want(t, 200)
	h.endCall("sales", "end-key-old", spooledCDR).want(t, 200)
	h.endCall("sales", "end-key-old", "not a record").want(t, 200)
	state := into[httpapi.Readiness](t, h.do(request{method: "GET", path: "/readyz"}).want(t, 200))
	if !state.StartCalls || !state.EndCalls || state.Database.State != "failing" || state.Spool.State != "ok" || state.Spool.Records != 3 {
		t.Errorf("readiness %+v, want a failing database and 3 spooled records", state)
	}
	h.wantMetrics("calltracker_spool_records 3", "calltracker_spool_spooled_total 3", "calltracker_database_up 0")
	h.get("/api/v1/calls").want(t, 503)
	h.putConfig("", "*", "application/yaml", document).want(t, 503)

	// Spooled records survive a restart.
	h.stop()
	h = serveIn(t, dir, "")
	h.wantMetrics("calltracker_spool_records 3", "calltracker_spool_spooled_total 0")

	// The database recovers while the server runs.
	if err := os.Remove(database); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(database, content, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the database and an empty spool", func() bool {
		state := into[httpapi.Readiness](t, h.do(request{method: "GET", path: "/readyz"}))
		return state.Database.State == "ok" && state.Spool.Records == 0
	})
	h.wantMetrics("calltracker_spool_drained_total 3", "calltracker_spool_oldest_seconds 0", "calltracker_database_up 1")
	h.endCall("sales", "end-key-old", cdr2026).want(t, 200)
	calls := h.calls("")
	if len(calls) != 4 {
		t.Fatalf("got %d calls, want 4", len(calls))
	}
	for _, call := range calls {
		if call.CallID == "spooled-1" {
			got := into[struct{ Raw any }](t, h.get("/api/v1/calls/"+call.ID).want(t, 200))
			var want any
			if err := json.Unmarshal([]byte(spooledCDR), &want); err != nil || !reflect.DeepEqual(got.Raw, want) {
				t.Errorf("raw record %v (error %v), want %v", got.Raw, err, want)
			}
			if call.Tracker != "sales" || call.Campaign != "outdoor" || call.Duration != 9 {
				t.Errorf("spooled call is %+v", call)
			}
		}
	}
}

const spooledCDR = `{"callID":"spooled-1","didCalled":"+97142345678","callerIDNumber":"0501234567","startedAt":"2026-11-20T08:00:00Z","duration":9,"more":[1,{"a":"b"}]}`

// wantMetrics checks that the metrics contain the lines.
func (h *harness) wantMetrics(lines ...string) {
	h.t.Helper()
	got := strings.Split(h.do(request{method: "GET", path: "/metrics"}).want(h.t, 200).body, "\n")
	for _, line := range lines {
		if !slices.Contains(got, line) {
			h.t.Errorf("metrics do not contain %s", line)
		}
	}
}

func TestRestartKeepsTokenConfigurationAndRecords(t *testing.T) {
	dir := t.TempDir()
	h := serveIn(t, dir, document)
	h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	h.endCall("sales", "end-key-old", cdr2016).want(t, 200)
	token := h.token
	h.stop() // writes the queued decision

	h = serveIn(t, dir, "")
	if h.token != token {
		t.Error("admin token changed")
	}
	h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
	if calls := h.calls(""); len(calls) != 1 {
		t.Errorf("got %d calls, want 1", len(calls))
	}
	h.decisions(2)
}

// TestShutdownUnderLoadLosesNoRecord stops the binary with SIGTERM while clients
// post. Every acknowledged call record must be stored, and every decision that
// answered a start call must be recorded.
func TestShutdownUnderLoadLosesNoRecord(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := exec.CommandContext(t.Context(), os.Args[0], "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "data"), "--apply", file, "--log-format", "json")
	binary.Env = append(os.Environ(), asProgram+"=1")
	var output syncBuffer
	binary.Stderr = &output
	if err := binary.Start(); err != nil {
		t.Fatal(err)
	}
	var base string
	eventually(t, "the server to listen", func() bool {
		for line := range strings.SplitSeq(output.String(), "\n") {
			var entry struct{ Msg, Address string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "listening" {
				base = "http://" + entry.Address
				return true
			}
		}
		return false
	})

	var acknowledged sync.Map
	var answered atomic.Int64
	var clients sync.WaitGroup
	loaded := make(chan struct{}) // closed after a client has posted 51 records
	var once sync.Once
	for client := range 8 {
		clients.Go(func() {
			for n := 0; ; n++ {
				id := fmt.Sprintf("load-%d-%d", client, n)
				if ok := post(t.Context(), base+"/callTrackers/sales/startCall", "start-key-old", `{"didCalled":"061234567"}`); !ok {
					return
				}
				answered.Add(1)
				if ok := post(t.Context(), base+"/callTrackers/sales/endCall", "end-key-old", `{"callID":"`+id+`","didCalled":"061234567"}`); !ok {
					return
				}
				acknowledged.Store(id, true)
				if n == 50 {
					once.Do(func() { close(loaded) })
				}
			}
		})
	}
	<-loaded
	stoppedAt := time.Now()
	if err := binary.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := binary.Wait(); err != nil {
		t.Errorf("binary exited with error %v:\n%s", err, output.String())
	}
	if took := time.Since(stoppedAt); took > 10*time.Second {
		t.Errorf("shutdown took %s, want at most 10 s", took)
	}
	clients.Wait()

	h := serveIn(t, filepath.Join(dir, "data"), "")
	stored := map[string]bool{}
	export := h.get("/api/v1/calls.csv").want(t, 200).body
	for line := range strings.SplitSeq(export, "\n") {
		if cells := strings.Split(line, ","); len(cells) > 3 {
			stored[cells[3]] = true
		}
	}
	total := 0
	acknowledged.Range(func(id, _ any) bool {
		total++
		if !stored[id.(string)] {
			t.Errorf("call %s was acknowledged but is not stored", id)
		}
		return true
	})
	recorded := strings.Count(allDecisions(h), `"configVersion":`)
	if int64(recorded) < answered.Load() {
		t.Errorf("recorded %d decisions, want at least %d", recorded, answered.Load())
	}
	t.Logf("clients received %d acknowledgments and %d decisions", total, answered.Load())
}

// post posts JSON and reports whether the status is 200.
func post(ctx context.Context, address, key, body string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader([]byte(body)))
	if err != nil {
		return false
	}
	req.Header.Set("X-API-Key", key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// allDecisions returns the bodies of all pages of decisions.
func allDecisions(h *harness) string {
	var all strings.Builder
	for next := ""; ; {
		r := h.get("/api/v1/decisions?limit=1000&cursor="+next).want(h.t, 200)
		all.WriteString(r.body)
		var page struct{ Next string }
		if err := json.Unmarshal([]byte(r.body), &page); err != nil {
			h.t.Fatal(err)
		}
		if next = page.Next; next == "" {
			return all.String()
		}
	}
}
