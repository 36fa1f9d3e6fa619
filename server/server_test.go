package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"calltracker/config"
	"calltracker/handlers/calls"
	"calltracker/handlers/decisions"
	"calltracker/handlers/rejections"
	"calltracker/openapi/openapitest"
	"calltracker/server/datadir"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" { // a test executes this binary as calltracker
		main()
	}
	if database := os.Getenv(asLeader); database != "" {
		leadUntilKilled(database)
	}
	goleak.VerifyTestMain(m,
		// The phone number cache and the HTTP client run these goroutines until the process exits.
		goleak.IgnoreAnyFunction("github.com/maypok86/otter/v2.(*cache[...]).periodicCleanUp"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	)
}

// asProgram is the environment variable that makes the test binary run main.
const asProgram = "CALLTRACKER_TEST_AS_PROGRAM"

// document is the configuration that most tests use. The result of its routes
// does not depend on the time of day.
const document = `
calendars:
  holidays: [2026-12-02]
schedules:
  always:
    timezone: Asia/Dubai
    open: [{days: [mon, tue, wed, thu, fri, sat, sun], from: "00:00", to: "24:00"}]
  never:
    timezone: Asia/Dubai
    open: [{days: [mon], from: "03:00", to: "03:01"}]
    closed: [holidays]
contact_centers:
  aldebaran:
    webhook_keys: [webhook-key-1]
trackers:
  sales:
    keys:
      start: [start-key-old, start-key-new]
      end: [end-key-old, end-key-new]
    region: AE
    numbers:
      - "061234567"
      - {did: "+97142345678", label: Billboard, campaign: outdoor}
    caller_id: "042223344"
    routes:
      - id: at-night
        during: [never]
        voicemail: true
      - id: vip
        when:
          - {field: caller.country, op: in, values: [FR]}
        dial:
          - {number: "0509998877", timeout: 15s, caller_id: "044440000"}
      - id: turns
        when:
          - {field: request.queue, op: is, value: support}
        order: rotate
        dial:
          - {number: "0500000001", timeout: 5s}
          - {number: "0500000002", timeout: 5s}
      - id: office
        during: [always]
        dial:
          - {number: "0501112233", timeout: 10s}
          - {number: "045556677"}
        voicemail: true
      - id: otherwise
        voicemail: true
  open-line:
    keys: {start: open, end: open}
    routes: [{id: all, dial: [{number: "0501112233"}]}]
  shut:
    keys: {start: [shut-key-123], end: [shut-key-123]}
    blocked: true
    routes: [{id: all, voicemail: true}]
  locked:
    routes: [{id: all, voicemail: true}]
`

// harness is a server under test. It runs in this process on its own data directory.
type harness struct {
	t     *testing.T
	base  string
	token string
	dir   string
	log   *syncBuffer
	stop  func() // stops the server and waits for it; safe to call more than once
	parts parts
}

type syncBuffer struct {
	mutex sync.Mutex
	bytes bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.bytes.Write(p)
}

func (b *syncBuffer) String() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.bytes.String()
}

// serve starts a server with a configuration document. If document is empty, the
// server has no configuration.
func serve(t *testing.T, document string) *harness {
	t.Helper()
	return serveIn(t, t.TempDir(), document)
}

// serveIn is serve on an existing data directory.
func serveIn(t *testing.T, dir, document string) *harness {
	t.Helper()
	return serveWith(t, dir, document, func(*settings) {})
}

// serveWith is serveIn with settings changed by edit.
func serveWith(t *testing.T, dir, document string, edit func(*settings)) *harness {
	t.Helper()
	o := options{
		Listen: "127.0.0.1:0", DataDir: dir, PublicURL: "http://localhost:8080", VoicemailField: "voicemail",
		LogFormat: "json", LogLevel: "debug",
	}
	set, err := o.check(false)
	if err != nil {
		t.Fatal(err)
	}
	edit(&set)
	h := &harness{t: t, dir: dir, log: &syncBuffer{}}
	var apply *config.Input
	if document != "" {
		apply = &config.Input{Document: document, Format: config.YAML, Author: "test", IfMatch: "*"}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ready, ended := make(chan parts, 1), make(chan error, 1)
	logger := slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() {
		ended <- runServer(ctx, set, logger, startOptions{apply: apply, ready: func(p parts) { ready <- p }})
	}()
	select {
	case h.parts = <-ready:
	case err := <-ended:
		cancel()
		t.Fatal(err)
	}
	h.base = "http://" + h.parts.address.String()
	token, err := os.ReadFile(filepath.Join(dir, datadir.AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	h.token = strings.TrimSpace(string(token))
	var once sync.Once
	h.stop = func() {
		once.Do(func() {
			cancel()
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("runServer: %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Error("server did not stop within 10 s")
			}
		})
	}
	t.Cleanup(h.stop)
	return h
}

// request is an HTTP request to the server. Zero fields are omitted.
type request struct {
	method, path string
	body         string
	header       map[string]string
	admin        bool   // sends the admin token
	user, key    string // HTTP basic authentication, or X-API-Key if user is empty
}

// response is an HTTP response whose body has been read.
type response struct {
	status int
	header http.Header
	body   string
}

// do sends a request and validates the exchange against the OpenAPI description.
func (h *harness) do(r request) response {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), r.method, h.base+r.path, strings.NewReader(r.body))
	if err != nil {
		h.t.Fatal(err)
	}
	if r.admin {
		req.Header.Set("Authorization", "Bearer "+h.token)
	}
	if r.user != "" {
		req.SetBasicAuth(r.user, r.key)
	} else if r.key != "" {
		req.Header.Set("X-API-Key", r.key)
	}
	for name, value := range r.header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	openapitest.Validate(h.t, req, []byte(r.body), res, body)
	return response{status: res.StatusCode, header: res.Header, body: string(body)}
}

// get requests a path with the admin token.
func (h *harness) get(path string) response {
	h.t.Helper()
	return h.do(request{method: "GET", path: path, admin: true})
}

// startCall posts the fields as a multipart form, as curl --form does.
func (h *harness) startCall(tracker, key string, fields ...string) response {
	h.t.Helper()
	contentType, body := multipartForm(fields...)
	return h.do(request{
		method: "POST", path: "/callTrackers/" + tracker + "/startCall", key: key, body: body,
		header: map[string]string{"Content-Type": contentType},
	})
}

// endCall posts body as a JSON call record.
func (h *harness) endCall(tracker, key, body string) response {
	h.t.Helper()
	return h.do(request{
		method: "POST", path: "/callTrackers/" + tracker + "/endCall", key: key, body: body,
		header: map[string]string{"Content-Type": "application/json"},
	})
}

// multipartForm encodes fields, which alternate between names and values.
func multipartForm(fields ...string) (contentType, body string) {
	const boundary = "------------------------f00dfacecafebeef"
	var b strings.Builder
	for i := 0; i < len(fields); i += 2 {
		fmt.Fprintf(&b, "--%s\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", boundary, fields[i], fields[i+1])
	}
	fmt.Fprintf(&b, "--%s--\r\n", boundary)
	return "multipart/form-data; boundary=" + boundary, b.String()
}

// want fails the test unless the response has the status.
func (r response) want(t *testing.T, status int) response {
	t.Helper()
	if r.status != status {
		t.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	return r
}

// into decodes the JSON body of a response.
func into[T any](t *testing.T, r response) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(r.body), &v); err != nil {
		t.Fatalf("decode %s: %v", r.body, err)
	}
	return v
}

// eventually waits until done returns true. It polls, because most conditions are
// visible only through a request to the server.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("timed out after 10 s waiting for %s", what)
		case <-tick.C:
		}
	}
}

// decisions waits until n decisions are recorded and returns them, newest first.
func (h *harness) decisions(n int) []decisions.View {
	h.t.Helper()
	var list decisions.List
	eventually(h.t, fmt.Sprintf("%d recorded decisions", n), func() bool {
		list = into[decisions.List](h.t, h.get("/api/v1/decisions?limit=1000").want(h.t, 200))
		return len(list.Decisions) >= n
	})
	if len(list.Decisions) != n {
		h.t.Fatalf("got %d decisions, want %d", len(list.Decisions), n)
	}
	return list.Decisions
}

// calls lists the stored calls that match query, which is empty or begins with "?".
func (h *harness) calls(query string) []calls.View {
	h.t.Helper()
	return into[calls.List](h.t, h.get("/api/v1/calls"+query).want(h.t, 200)).Calls
}

// rejections waits until n rejections are recorded and returns them, newest first.
func (h *harness) rejections(n int) []rejections.View {
	h.t.Helper()
	var list rejections.List
	eventually(h.t, fmt.Sprintf("%d recorded rejections", n), func() bool {
		list = into[rejections.List](h.t, h.get("/api/v1/rejections?limit=1000").want(h.t, 200))
		return len(list.Rejections) >= n
	})
	if len(list.Rejections) != n {
		h.t.Fatalf("got %d rejections, want %d", len(list.Rejections), n)
	}
	return list.Rejections
}
