package main

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"calltracker/server/datadir"
	"calltracker/ziwo/ziwotest"
)

// serveUnregistered starts a fake Ziwo without call trackers and a server with one.
// It also writes the server's configuration to a file.
func serveUnregistered(t *testing.T) (r *ziwoHarness, file string) {
	t.Helper()
	z := ziwotest.New(ziwotest.Options{})
	t.Cleanup(z.Close)
	api := httptest.NewServer(z)
	t.Cleanup(api.Close)
	document := documentFor(z, api.URL)
	r = &ziwoHarness{harness: serve(t, document), ziwo: z}
	return r, writeFile(t, "config.yaml", document)
}

func TestRegisterCreatesAndUpdatesTrackers(t *testing.T) {
	r, file := serveUnregistered(t)
	r.ziwo.AddTracker(ziwotest.Tracker{Name: "unmanaged", StartRequestURL: "https://elsewhere.example/start", EndRequestURL: "https://elsewhere.example/end"})
	args := []string{"ziwo", "register", file, "--public-url", r.base}

	code, out, errOut := runCLI(t, "", append(args, "--dry-run")...)
	if code != 0 || len(r.ziwo.Trackers()) != 1 || !strings.Contains(out, "1 to create, 0 to update, 0 unchanged, 1 unmanaged") || !strings.Contains(out, "+ create     sales") {
		t.Fatalf("dry run: exit code %d\n%s%s", code, out, errOut)
	}
	if code, out, _ = runCLI(t, "no\n", args...); code != 1 || len(r.ziwo.Trackers()) != 1 || !strings.Contains(out, "Nothing was changed") {
		t.Fatalf("answer no: exit code %d\n%s", code, out)
	}
	if code, out, errOut = runCLI(t, "yes\n", args...); code != 0 || !strings.Contains(out, "test passed sales") {
		t.Fatalf("answer yes: exit code %d\n%s%s", code, out, errOut)
	}
	for _, secret := range []string{"start-key-1", "end-key-1", "correct horse"} {
		if strings.Contains(out+errOut, secret) {
			t.Errorf("the output contains %q", secret)
		}
	}
	trackers := r.ziwo.Trackers()
	want := ziwotest.Tracker{
		ID: 2, Name: "sales", StartRequestURL: r.base + "/callTrackers/sales/startCall", StartRequestKey: "start-key-1", StartTimeout: 5000,
		EndRequestURL: r.base + "/callTrackers/sales/endCall", EndRequestKey: "end-key-1", EndTimeout: 10000,
	}
	if len(trackers) != 2 || trackers[1] != want {
		t.Fatalf("trackers %+v, want the second to be %+v", trackers, want)
	}

	writes := func() int {
		return r.ziwo.Requests("POST /admin/callTrackers") + r.ziwo.Requests("PUT /admin/callTrackers/{id}")
	}
	before := writes()
	code, out, errOut = runCLI(t, "", args...) // no confirmation is needed
	if code != 0 || writes() != before || !strings.Contains(out, "0 to create, 0 to update, 1 unchanged, 1 unmanaged") || !strings.Contains(out, "nothing was changed") {
		t.Fatalf("second run: exit code %d\n%s%s", code, out, errOut)
	}

	// An administrator changed the tracker in Ziwo and set a playback, which the
	// configuration does not contain.
	changed := want
	changed.StartRequestKey, changed.EndTimeout, changed.ErrorPlayback, changed.Blocked = "another-key", 0, "hash-1", true
	r.ziwo.ReplaceTracker(changed)
	code, out, errOut = runCLI(t, "", append(args, "--yes")...)
	if code != 0 || !strings.Contains(out, "~ update     sales") || !strings.Contains(out, "startRequestAPIKey: another key -> key in the document") ||
		!strings.Contains(out, "endRequestTimeout: Ziwo's default -> 10000 ms") || !strings.Contains(out, "blocked: true -> false") || strings.Contains(out, "another-key") {
		t.Fatalf("changed tracker: exit code %d\n%s%s", code, out, errOut)
	}
	want.ErrorPlayback = "hash-1"
	if trackers = r.ziwo.Trackers(); trackers[1] != want {
		t.Errorf("trackers %+v, want the second to be %+v", trackers, want)
	}

	// A tracker that was renamed in Ziwo is still recognized.
	renamed := want
	renamed.Name = "Sales (new)"
	r.ziwo.ReplaceTracker(renamed)
	if code, out, _ = runCLI(t, "", append(args, "--dry-run")...); code != 0 || !strings.Contains(out, "= unchanged  sales") {
		t.Errorf("renamed tracker: exit code %d\n%s", code, out)
	}
}

func TestRegisterReportsInvalidSettings(t *testing.T) {
	r, _ := serveUnregistered(t)
	username, _, _ := r.ziwo.Credentials()
	api := r.parts.config.Current().Document.ContactCenters["aldebaran"].API
	document := func(center, keys string) string {
		return "contact_centers:\n  aldebaran: {api: \"" + api + "\", " + center + "}\ntrackers:\n  sales:\n    keys: " + keys +
			"\n    routes: [{id: all, voicemail: true}]\n"
	}
	const password, keys = `username: "admin@example.com", password: "correct horse"`, `{start: [start-key-1], end: [end-key-1]}`
	if username != "admin@example.com" {
		t.Fatalf("ziwotest's user is %s, want admin@example.com", username)
	}
	for _, c := range []struct {
		name, document, public string
		want                   []string
	}{
		{"unset environment variable", document(`username: "${env:REGISTER_TEST_UNSET}", password: "x"`, keys), r.base, []string{"REGISTER_TEST_UNSET", "not set"}},
		{"missing secret", document(password, `{start: ["${secret:start}"], end: [a]}`), r.base, []string{"trackers.sales.keys.start[0]", "${secret:start}", "PUT /api/v1/secrets/start"}},
		{"no end key", document(password, `{start: [a]}`), r.base, []string{"trackers.sales.keys.end"}},
		{"wrong password", document(`username: "admin@example.com", password: "wrong-password"`, keys), r.base, []string{"log in", "401"}},
		{"no contact center", "trackers:\n  sales:\n    routes: [{id: all, voicemail: true}]\n", r.base, []string{"contact_centers"}},
		{"invalid public URL", document(password, keys), "calls.example.com", []string{"CALLTRACKER_PUBLIC_URL"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errOut := runCLI(t, "", "ziwo", "register", writeFile(t, "config.yaml", c.document), "--public-url", c.public, "--yes", "--data-dir", r.dir)
			if code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			for _, want := range c.want {
				if !strings.Contains(errOut, want) {
					t.Errorf("%q is missing from standard error\n%s%s", want, out, errOut)
				}
			}
		})
	}
	t.Run("public URL that Ziwo cannot reach", func(t *testing.T) {
		file := writeFile(t, "config.yaml", strings.Replace(document(password, keys), api, "https://ziwo.invalid", 1))
		if code, _, errOut := runCLI(t, "", "ziwo", "register", file, "--yes"); code != 1 || !strings.Contains(errOut, "cannot reach http://localhost:8080") {
			t.Errorf("exit code %d\n%s", code, errOut)
		}
	})
}

func TestRegisterReadsServerSecrets(t *testing.T) {
	r, _ := serveUnregistered(t)
	text := strings.NewReplacer("[start-key-1]", `["${secret:start}"]`).Replace(documentFor(r.ziwo, r.parts.config.Current().Document.ContactCenters["aldebaran"].API))
	put := func(path, contentType, body string) {
		t.Helper()
		r.do(request{method: "PUT", path: path, body: body, admin: true, header: map[string]string{"Content-Type": contentType, "If-Match": "*"}}).want(t, 200)
	}
	put("/api/v1/secrets/start", "application/json", `{"value":"stored-start-key"}`)
	put("/api/v1/config", "application/yaml", text)
	file := writeFile(t, "config.yaml", text)
	code, out, errOut := runCLI(t, "", "ziwo", "register", file, "--public-url", r.base, "--yes", "--data-dir", r.dir)
	if code != 0 || r.ziwo.Trackers()[0].StartRequestKey != "stored-start-key" || strings.Contains(out+errOut, "stored-start-key") {
		t.Fatalf("exit code %d\n%s%s\n%+v", code, out, errOut, r.ziwo.Trackers())
	}
	// The secret key can be passed as a flag.
	key, err := os.ReadFile(filepath.Join(r.dir, datadir.SecretKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errOut = runCLI(t, "", "ziwo", "register", file, "--public-url", r.base, "--dry-run", "--data-dir", r.dir, "--secret-key", strings.TrimSpace(string(key))); code != 0 {
		t.Errorf("with --secret-key: exit code %d\n%s", code, errOut)
	}
	wrong := base64.StdEncoding.EncodeToString(make([]byte, datadir.SecretKeyBytes))
	if code, _, errOut = runCLI(t, "", "ziwo", "register", file, "--public-url", r.base, "--dry-run", "--data-dir", r.dir, "--secret-key", wrong); code != 1 {
		t.Errorf("with the wrong --secret-key: exit code %d, want 1\n%s", code, errOut)
	}
}

func TestRegisterReportsFailedTest(t *testing.T) {
	r, file := serveUnregistered(t)
	other := httptest.NewServer(http.NotFoundHandler()) // not calltracker
	defer other.Close()
	code, out, errOut := runCLI(t, "", "ziwo", "register", file, "--public-url", other.URL, "--yes")
	if code != 1 || !strings.Contains(out, "test failed sales") || len(r.ziwo.Trackers()) != 1 {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
}

func TestDoctorFindsProblems(t *testing.T) {
	r, file := serveUnregistered(t)
	doctor := func() (int, string) {
		t.Helper()
		code, out, errOut := runCLI(t, "", "ziwo", "doctor", file, "--public-url", r.base)
		if strings.Contains(out+errOut, "start-key-1") || strings.Contains(out+errOut, "correct horse") {
			t.Error("the output contains a secret")
		}
		return code, out + errOut
	}
	code, out := doctor()
	for _, want := range []string{
		"ok    " + r.base + " can be reached", "warn  " + r.base + " does not use https", "ok    trackers.sales.keys.start: the server accepts it",
		"ok    trackers.sales.keys.end: the server accepts it", " as admin@example.com", "the clocks of this machine and Ziwo agree", "CTI accepts the api_key",
		"FAIL  trackers.sales: not in Ziwo", "warn  trackers.sales lists 042345678, which Ziwo does not route to it",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing from\n%s", want, out)
		}
	}
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if code, out, errOut := runCLI(t, "", "ziwo", "register", file, "--public-url", r.base, "--yes"); code != 0 {
		t.Fatalf("register: exit code %d\n%s%s", code, out, errOut)
	}
	r.ziwo.AddNumber(ziwotest.Number{E164: "+97142345678", DIDCalled: "042345678", Tracker: "sales"})
	r.ziwo.AddNumber(ziwotest.Number{E164: "+97142345679", DIDCalled: "0097142345679", Tracker: "sales"}) // in another format
	if code, out = doctor(); code != 0 || !strings.Contains(out, "Ziwo matches the configuration") || !strings.Contains(out, "Ziwo routes all its numbers to it") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	r.ziwo.AddNumber(ziwotest.Number{E164: "+97142345670", DIDCalled: "042345670", Tracker: "sales"})
	r.ziwo.AddNumber(ziwotest.Number{E164: "+97142345671", DIDCalled: "042345671", Tracker: "gone"})
	_, out = doctor()
	for _, want := range []string{"number 042345670 is routed to trackers.sales, which does not list it", "number 042345671 is routed to Ziwo's call tracker gone"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing from\n%s", want, out)
		}
	}
	r.stop()
	if code, out = doctor(); code != 1 || !strings.Contains(out, "cannot be reached from this machine") {
		t.Errorf("server stopped: exit code %d\n%s", code, out)
	}
}

func TestReconcileCommand(t *testing.T) {
	r := serveWithZiwo(t, ziwotest.Options{Seed: 4})
	r.simulate(ziwotest.Simulation{Length: time.Hour, Calls: 25, HistoryOnly: true})
	at := func(d time.Duration) string { return time.Now().Add(d).Format(time.RFC3339) }
	args := []string{"ziwo", "reconcile", "--from", at(-10 * time.Hour), "--to", at(0), "--server", r.base, "--data-dir", r.dir}
	code, out, errOut := runCLI(t, "", args...)
	if code != 0 || !strings.Contains(out, "aldebaran: done, 25 calls in Ziwo, 0 already stored, 25 backfilled") {
		t.Errorf("exit code %d\n%s%s", code, out, errOut)
	}
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.FaultHTML, Path: "/callHistory"})
	if code, out, _ = runCLI(t, "", args...); code != 1 || !strings.Contains(out, "aldebaran: delayed") || !strings.Contains(out, "HTML") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, _, errOut = runCLI(t, "", "ziwo", "reconcile", "--from", "yesterday", "--to", at(0)); code != 1 || !strings.Contains(errOut, "RFC") && !strings.Contains(errOut, "instant") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
	if code, _, errOut = runCLI(t, "", "ziwo", "reconcile", "--from", at(0), "--to", at(-time.Hour), "--server", r.base, "--token", r.token); code != 1 || !strings.Contains(errOut, "after from") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
}
