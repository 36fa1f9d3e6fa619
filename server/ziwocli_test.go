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

// ziwoAlone is a Ziwo without trackers, and a file and a running server whose
// public address is on this machine.
func ziwoAlone(t *testing.T) (r *reconciled, file string) {
	t.Helper()
	z := ziwotest.New(ziwotest.Options{})
	t.Cleanup(z.Close)
	api := httptest.NewServer(z)
	t.Cleanup(api.Close)
	document := documentFor(z, api.URL)
	r = &reconciled{harness: serve(t, document), ziwo: z}
	return r, writeFile(t, "config.yaml", document)
}

func TestRegisterMakesZiwoAsTheDocumentSays(t *testing.T) {
	r, file := ziwoAlone(t)
	r.ziwo.AddTracker(ziwotest.Tracker{Name: "by hand", StartRequestURL: "https://elsewhere.example/start", EndRequestURL: "https://elsewhere.example/end"})
	args := []string{"ziwo", "register", file, "--public-url", r.base}

	code, out, errOut := runCLI(t, "", append(args, "--dry-run")...)
	if code != 0 || len(r.ziwo.Trackers()) != 1 || !strings.Contains(out, "1 to create, 0 to update, 0 unchanged, 1 unmanaged") || !strings.Contains(out, "+ create     sales") {
		t.Fatalf("dry run: %d\n%s%s", code, out, errOut)
	}
	if code, out, _ = runCLI(t, "no\n", args...); code != 1 || len(r.ziwo.Trackers()) != 1 || !strings.Contains(out, "Nothing was changed") {
		t.Fatalf("no: %d\n%s", code, out)
	}
	if code, out, errOut = runCLI(t, "yes\n", args...); code != 0 || !strings.Contains(out, "test passed sales") {
		t.Fatalf("yes: %d\n%s%s", code, out, errOut)
	}
	for _, secret := range []string{"start-key-1", "end-key-1", "correct horse"} {
		if strings.Contains(out+errOut, secret) {
			t.Errorf("%q is printed", secret)
		}
	}
	trackers := r.ziwo.Trackers()
	want := ziwotest.Tracker{
		ID: 2, Name: "sales", StartRequestURL: r.base + "/callTrackers/sales/startCall", StartRequestKey: "start-key-1", StartTimeout: 5000,
		EndRequestURL: r.base + "/callTrackers/sales/endCall", EndRequestKey: "end-key-1", EndTimeout: 10000,
	}
	if len(trackers) != 2 || trackers[1] != want {
		t.Fatalf("trackers are %+v", trackers)
	}

	writes := func() int {
		return r.ziwo.Requests("POST /admin/callTrackers") + r.ziwo.Requests("PUT /admin/callTrackers/{id}")
	}
	before := writes()
	code, out, errOut = runCLI(t, "", args...) // nothing is asked
	if code != 0 || writes() != before || !strings.Contains(out, "0 to create, 0 to update, 1 unchanged, 1 unmanaged") || !strings.Contains(out, "nothing was changed") {
		t.Fatalf("again: %d\n%s%s", code, out, errOut)
	}

	// Somebody changed it by hand, and gave it a playback that the document does not know.
	changed := want
	changed.StartRequestKey, changed.EndTimeout, changed.ErrorPlayback, changed.Blocked = "another-key", 0, "hash-1", true
	r.ziwo.ReplaceTracker(changed)
	code, out, errOut = runCLI(t, "", append(args, "--yes")...)
	if code != 0 || !strings.Contains(out, "~ update     sales") || !strings.Contains(out, "startRequestAPIKey: another key -> key in the document") ||
		!strings.Contains(out, "endRequestTimeout: Ziwo's default -> 10000 ms") || !strings.Contains(out, "blocked: true -> false") || strings.Contains(out, "another-key") {
		t.Fatalf("mended: %d\n%s%s", code, out, errOut)
	}
	want.ErrorPlayback = "hash-1"
	if trackers = r.ziwo.Trackers(); trackers[1] != want {
		t.Errorf("trackers are %+v", trackers)
	}

	// A tracker of the document under another name in Ziwo is the same one.
	renamed := want
	renamed.Name = "Sales (new)"
	r.ziwo.ReplaceTracker(renamed)
	if code, out, _ = runCLI(t, "", append(args, "--dry-run")...); code != 0 || !strings.Contains(out, "= unchanged  sales") {
		t.Errorf("renamed: %d\n%s", code, out)
	}
}

func TestRegisterSaysWhatIsMissing(t *testing.T) {
	r, _ := ziwoAlone(t)
	username, _, _ := r.ziwo.Credentials()
	api := r.parts.config.Current().Document.ContactCenters["aldebaran"].API
	document := func(center, keys string) string {
		return "contact_centers:\n  aldebaran: {api: \"" + api + "\", " + center + "}\ntrackers:\n  sales:\n    keys: " + keys +
			"\n    routes: [{id: all, voicemail: true}]\n"
	}
	const password, keys = `username: "admin@example.com", password: "correct horse"`, `{start: [start-key-1], end: [end-key-1]}`
	if username != "admin@example.com" {
		t.Fatal(username)
	}
	for _, c := range []struct {
		name, document, public string
		want                   []string
	}{
		{"a reference of this machine", document(`username: "${env:REGISTER_TEST_UNSET}", password: "x"`, keys), r.base, []string{"REGISTER_TEST_UNSET", "not set"}},
		{"a secret of the server", document(password, `{start: ["${secret:start}"], end: [a]}`), r.base, []string{"trackers.sales.keys.start[0]", "${secret:start}", "PUT /api/v1/secrets/start"}},
		{"no key", document(password, `{start: [a]}`), r.base, []string{"trackers.sales.keys.end"}},
		{"a wrong password", document(`username: "admin@example.com", password: "wrong-password"`, keys), r.base, []string{"log in", "401"}},
		{"no contact center", "trackers:\n  sales:\n    routes: [{id: all, voicemail: true}]\n", r.base, []string{"contact_centers"}},
		{"an address that is none", document(password, keys), "calls.example.com", []string{"CALLTRACKER_PUBLIC_URL"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errOut := runCLI(t, "", "ziwo", "register", writeFile(t, "config.yaml", c.document), "--public-url", c.public, "--yes", "--data-dir", r.dir)
			if code != 1 {
				t.Errorf("it ended with %d", code)
			}
			for _, want := range c.want {
				if !strings.Contains(errOut, want) {
					t.Errorf("%q is not in\n%s%s", want, out, errOut)
				}
			}
		})
	}
	t.Run("an address that Ziwo cannot know", func(t *testing.T) {
		file := writeFile(t, "config.yaml", strings.Replace(document(password, keys), api, "https://ziwo.invalid", 1))
		if code, _, errOut := runCLI(t, "", "ziwo", "register", file, "--yes"); code != 1 || !strings.Contains(errOut, "cannot reach http://localhost:8080") {
			t.Errorf("%d %s", code, errOut)
		}
	})
}

func TestRegisterOpensTheServersSecrets(t *testing.T) {
	r, _ := ziwoAlone(t)
	text := strings.NewReplacer("[start-key-1]", `["${secret:start}"]`).Replace(documentFor(r.ziwo, r.parts.config.Current().Document.ContactCenters["aldebaran"].API))
	put := func(path, contentType, body string) {
		t.Helper()
		r.do(request{method: "PUT", path: path, body: body, admin: true, header: map[string]string{"Content-Type": contentType, "If-Match": "*"}}).want(t, 200)
	}
	put("/api/v1/secrets/start", "application/json", `{"value":"from-the-vault"}`)
	put("/api/v1/config", "application/yaml", text)
	file := writeFile(t, "config.yaml", text)
	code, out, errOut := runCLI(t, "", "ziwo", "register", file, "--public-url", r.base, "--yes", "--data-dir", r.dir)
	if code != 0 || r.ziwo.Trackers()[0].StartRequestKey != "from-the-vault" || strings.Contains(out+errOut, "from-the-vault") {
		t.Fatalf("%d\n%s%s\n%+v", code, out, errOut, r.ziwo.Trackers())
	}
	// The key of the vault may be given instead.
	key, err := os.ReadFile(filepath.Join(r.dir, datadir.SecretKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errOut = runCLI(t, "", "ziwo", "register", file, "--public-url", r.base, "--dry-run", "--data-dir", r.dir, "--secret-key", strings.TrimSpace(string(key))); code != 0 {
		t.Error(errOut)
	}
	wrong := base64.StdEncoding.EncodeToString(make([]byte, datadir.SecretKeyBytes))
	if code, _, errOut = runCLI(t, "", "ziwo", "register", file, "--public-url", r.base, "--dry-run", "--data-dir", r.dir, "--secret-key", wrong); code != 1 {
		t.Errorf("another key opens it: %s", errOut)
	}
}

func TestRegisterTellsOfATestThatFails(t *testing.T) {
	r, file := ziwoAlone(t)
	gone := httptest.NewServer(http.NotFoundHandler()) // not calltracker
	defer gone.Close()
	code, out, errOut := runCLI(t, "", "ziwo", "register", file, "--public-url", gone.URL, "--yes")
	if code != 1 || !strings.Contains(out, "test failed sales") || len(r.ziwo.Trackers()) != 1 {
		t.Errorf("%d\n%s%s", code, out, errOut)
	}
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	r, file := ziwoAlone(t)
	doctor := func() (int, string) {
		t.Helper()
		code, out, errOut := runCLI(t, "", "ziwo", "doctor", file, "--public-url", r.base)
		if strings.Contains(out+errOut, "start-key-1") || strings.Contains(out+errOut, "correct horse") {
			t.Error("a secret is printed")
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
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	if code != 1 {
		t.Errorf("it ended with %d", code)
	}
	if code, out, errOut := runCLI(t, "", "ziwo", "register", file, "--public-url", r.base, "--yes"); code != 0 {
		t.Fatal(out, errOut)
	}
	r.ziwo.AddNumber(ziwotest.Number{E164: "+97142345678", DIDCalled: "042345678", Tracker: "sales"})
	r.ziwo.AddNumber(ziwotest.Number{E164: "+97142345679", DIDCalled: "0097142345679", Tracker: "sales"}) // written another way
	if code, out = doctor(); code != 0 || !strings.Contains(out, "Ziwo matches the configuration") || !strings.Contains(out, "Ziwo routes all its numbers to it") {
		t.Errorf("%d\n%s", code, out)
	}
	r.ziwo.AddNumber(ziwotest.Number{E164: "+97142345670", DIDCalled: "042345670", Tracker: "sales"})
	r.ziwo.AddNumber(ziwotest.Number{E164: "+97142345671", DIDCalled: "042345671", Tracker: "gone"})
	_, out = doctor()
	for _, want := range []string{"number 042345670 is routed to trackers.sales, which does not list it", "number 042345671 is routed to Ziwo's call tracker gone"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	r.stop()
	if code, out = doctor(); code != 1 || !strings.Contains(out, "cannot be reached from this machine") {
		t.Errorf("with the server away: %d\n%s", code, out)
	}
}

func TestReconcileFromTheCommandLine(t *testing.T) {
	r := withZiwo(t, ziwotest.Options{Seed: 4})
	r.live(ziwotest.Simulation{Length: time.Hour, Calls: 25, HistoryOnly: true})
	at := func(d time.Duration) string { return time.Now().Add(d).Format(time.RFC3339) }
	args := []string{"ziwo", "reconcile", "--from", at(-10 * time.Hour), "--to", at(0), "--server", r.base, "--data-dir", r.dir}
	code, out, errOut := runCLI(t, "", args...)
	if code != 0 || !strings.Contains(out, "aldebaran: done, 25 calls in Ziwo, 0 already stored, 25 backfilled") {
		t.Errorf("%d\n%s%s", code, out, errOut)
	}
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.FaultHTML, Path: "/callHistory"})
	if code, out, _ = runCLI(t, "", args...); code != 1 || !strings.Contains(out, "aldebaran: delayed") || !strings.Contains(out, "HTML") {
		t.Errorf("%d\n%s", code, out)
	}
	if code, _, errOut = runCLI(t, "", "ziwo", "reconcile", "--from", "yesterday", "--to", at(0)); code != 1 || !strings.Contains(errOut, "RFC") && !strings.Contains(errOut, "instant") {
		t.Errorf("%d %s", code, errOut)
	}
	if code, _, errOut = runCLI(t, "", "ziwo", "reconcile", "--from", at(0), "--to", at(-time.Hour), "--server", r.base, "--token", r.token); code != 1 || !strings.Contains(errOut, "after from") {
		t.Errorf("%d %s", code, errOut)
	}
}
