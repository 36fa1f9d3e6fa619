package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"calltracker/handlers/simulate"
	"calltracker/server/datadir"
)

// runCLI runs the command line in this process and returns its exit code and output.
func runCLI(t *testing.T, stdin string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(stdin), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// writeFile writes a file to a new directory and returns its path.
func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// checkedDocument is a configuration with two tests.
const checkedDocument = `schedules:
  office:
    timezone: Asia/Dubai
    open: [{days: [mon], from: "09:00", to: "18:00"}]
trackers:
  sales:
    keys: {start: ["${env:CLI_TEST_UNSET_KEY}"], end: ["${secret:end}"]}
    region: AE
    numbers: ["061234567"]
    routes:
      - id: office
        during: [office]
        dial: [{number: "0501112233", timeout: 10s}]
      - id: otherwise
        voicemail: true
tests:
  - name: Monday
    tracker: sales
    at: 2026-11-23T10:00:00+04:00
    call: {didCalled: "061234567"}
    expect: {route: office, numbers: ["0501112233"], voicemail: false}
  - name: Tuesday
    tracker: sales
    at: 2026-11-24T10:00:00+04:00
    call: {didCalled: "061234567"}
    expect: {route: otherwise, voicemail: true}
`

func TestCheckCommand(t *testing.T) {
	file := writeFile(t, "config.yaml", checkedDocument)
	code, out, _ := runCLI(t, "", "check", file)
	want := file + `:7:20: warning: trackers.sales.keys.start[0]: ${env:CLI_TEST_UNSET_KEY}: not set here; set the variable on the server
ok    Monday
ok    Tuesday
` + file + `: valid, 1 tracker, 2 tests passed, 1 warning
`
	if code != 0 || out != want {
		t.Errorf("code %d:\n%s\nwant:\n%s", code, out, want)
	}

	file = writeFile(t, "config.yaml", strings.Replace(checkedDocument, "route: otherwise, voicemail: true", "route: office", 1))
	code, out, _ = runCLI(t, "", "check", file)
	for _, line := range []string{
		"ok    Monday\n",
		"FAIL  Tuesday (" + file + ":22)\n",
		`      expected route "office", got "otherwise"` + "\n",
		"      office: closed, office is closed at tue 2026-11-24 10:00 in Asia/Dubai\n      otherwise: matched\n",
		file + ": 1 of 2 tests failed, 1 warning\n",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("output does not contain %q:\n%s", line, out)
		}
	}
	if code != 1 {
		t.Errorf("code %d, want 1", code)
	}

	file = writeFile(t, "config.yaml", strings.NewReplacer("during: [office]", "during: [ofice]", "region: AE", "regon: AE").Replace(checkedDocument))
	code, out, _ = runCLI(t, "", "check", file)
	for _, line := range []string{
		file + `:8:5: trackers.sales.regon: unknown key "regon"; did you mean "region"?` + "\n",
		file + `:12:18: trackers.sales.routes[0].during[0]: unknown schedule "ofice"; did you mean "office"?` + "\n",
		"; no tests were run\n",
	} {
		if !strings.Contains(out, line) {
			t.Errorf("output does not contain %q:\n%s", line, out)
		}
	}
	if code != 1 {
		t.Errorf("code %d, want 1", code)
	}

	if code, _, _ := runCLI(t, checkedDocument, "check", "-"); code != 0 {
		t.Errorf("check of standard input: code %d, want 0", code)
	}
	if code, _, errOut := runCLI(t, "", "check", "no-such-file.yaml"); code != 1 || !strings.Contains(errOut, "no-such-file.yaml") {
		t.Errorf("check of a missing file: code %d, want 1; error output %s", code, errOut)
	}
	if code, out, _ := runCLI(t, "", "check", "--schema"); code != 0 || !json.Valid([]byte(out)) {
		t.Errorf("check --schema: code %d, want 0; output %.100s", code, out)
	}
}

func TestExamplesPassCheck(t *testing.T) {
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("found %d examples with error %v", len(files), err)
	}
	for _, file := range files {
		code, out, _ := runCLI(t, "", "check", file)
		if code != 0 || !strings.Contains(out, "passed") || strings.Contains(out, " 0 tests") {
			t.Errorf("check %s: code %d, want 0 and at least one test:\n%s", file, code, out)
		}
	}
}

func TestSimulateCommand(t *testing.T) {
	file := writeFile(t, "config.yaml", checkedDocument)
	code, out, errOut := runCLI(t, "", "simulate", file, "--tracker", "sales", "--did", "061234567", "--at", "2026-11-24T10:00:00+04:00")
	want := `sales at Tue 2026-11-24 10:00:00 +04:00

  route      verdict  reason
  office     closed   office is closed at tue 2026-11-24 10:00 in Asia/Dubai
  otherwise  matched  

route otherwise
  directly to voicemail

answer to Ziwo
  {"result":true,"content":{"didCalled":"061234567","rules":[],"voicemail":true},"info":{}}
`
	if code != 0 || out != want {
		t.Errorf("code %d, want 0; error output %s; output:\n%s\nwant:\n%s", code, errOut, out, want)
	}
	code, out, _ = runCLI(t, "", "simulate", file, "--tracker", "sales", "--did", "0655555", "--at", "2026-11-23T10:00:00+04:00")
	for _, line := range []string{"  otherwise  not tried", "  1. ring 0501112233 for 10 s\n", "  flags: did_unlisted\n"} {
		if !strings.Contains(out, line) {
			t.Errorf("output does not contain %q:\n%s", line, out)
		}
	}
	if code != 0 {
		t.Errorf("code %d, want 0", code)
	}
	code, out, _ = runCLI(t, "", "simulate", file, "--tracker", "sales", "--did", "061234567", "--at", "2026-11-24T10:00:00+04:00", "--json")
	if got := into[simulate.Simulation](t, response{body: out}); code != 0 || got.Route != "otherwise" || len(got.Trace) != 2 {
		t.Errorf("simulate --json: code %d, want 0; output %s", code, out)
	}
	for _, args := range [][]string{
		{"simulate", file, "--tracker", "sale", "--did", "1"},
		{"simulate", file, "--tracker", "sales", "--did", "1", "--at", "now"},
		{"simulate", writeFile(t, "broken.yaml", "trackers: 7"), "--tracker", "sales", "--did", "1"},
	} {
		if code, _, errOut := runCLI(t, "", args...); code != 1 || errOut == "" {
			t.Errorf("%v: code %d, want 1; error output %q", args, code, errOut)
		}
	}
}

func TestApplyCommand(t *testing.T) {
	h := serve(t, "")
	valid := writeFile(t, "config.yaml", strings.Replace(document, "start-key-old", "start-key-cli", 1))
	args := func(file string, more ...string) []string {
		return append([]string{"apply", file, "--server", h.base, "--data-dir", h.dir}, more...)
	}
	code, out, _ := runCLI(t, "", args(valid, "--dry-run")...)
	if code != 0 || !strings.Contains(out, "is valid; version 0 is still active") {
		t.Errorf("dry run: code %d %s", code, out)
	}
	code, out, errOut := runCLI(t, "", args(valid, "--token", h.token, "--comment", "by hand")...)
	if code != 0 || !strings.Contains(out, valid+" is now active as version 1\n") || !strings.Contains(out, "warning: trackers.locked.keys.start: no start key is set") {
		t.Errorf("code %d\n%s%s", code, out, errOut)
	}
	h.startCall("sales", "start-key-cli", "didCalled", "061234567").want(t, 200)

	invalid := writeFile(t, "config.yaml", strings.Replace(document, "during: [never]", "during: [nevr]", 1))
	code, _, errOut = runCLI(t, "", args(invalid)...)
	if code != 1 || !strings.Contains(errOut, invalid+`:27:18: trackers.sales.routes[0].during[0]: unknown schedule "nevr"`) || !strings.Contains(errOut, "not applied: 1 problem") {
		t.Errorf("invalid file: code %d, want 1; error output %s", code, errOut)
	}
	if code, _, errOut := runCLI(t, "", args(valid, "--token", "wrong-token-wrong-token")...); code != 1 || !strings.Contains(errOut, "rejected the admin token") {
		t.Errorf("wrong token: code %d, want 1; error output %s", code, errOut)
	}
	if code, _, errOut := runCLI(t, "", args(valid, "--if-match", "7")...); code != 1 || !strings.Contains(errOut, "412") {
		t.Errorf("stale version: code %d, want 1; error output %s", code, errOut)
	}
	if code, _, errOut := runCLI(t, "", "apply", valid, "--server", "http://127.0.0.1:1", "--token", "x"); code != 1 || !strings.Contains(errOut, "is the server running?") {
		t.Errorf("no server: code %d, want 1; error output %q", code, errOut)
	}
}

func TestMigrateAndVersionCommands(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		if code, out, errOut := runCLI(t, "", "migrate", "--data-dir", dir); code != 0 || !strings.Contains(out, "database schema version ") {
			t.Errorf("migrate: code %d, want 0; output %s%s", code, out, errOut)
		}
	}
	if code, out, _ := runCLI(t, "", "version"); code != 0 || !strings.HasPrefix(out, "calltracker dev (commit ") || !strings.Contains(out, "go1.") {
		t.Errorf("version: code %d, want 0; output %s", code, out)
	}
	if code, out, _ := runCLI(t, "", "--help"); code != 0 || !strings.Contains(out, "simulate") || strings.Contains(out, "healthcheck") {
		t.Errorf("--help: code %d, want 0; output %s", code, out)
	}
	if code, _, errOut := runCLI(t, "", "serv"); code != 2 || !strings.Contains(errOut, "unknown command serv") || !strings.Contains(errOut, "--help") {
		t.Errorf("unknown command: code %d, want 2; error output %s", code, errOut)
	}
}

func TestServeRejectsInvalidConfigFile(t *testing.T) {
	invalid := writeFile(t, "config.yaml", strings.Replace(document, "during: [never]", "during: [nevr]", 1))
	code, out, errOut := runCLI(t, "", "--listen", "127.0.0.1:0", "--data-dir", t.TempDir(), "--apply", invalid)
	if code != 1 || out != "" || !strings.Contains(errOut, invalid+`:27:18: trackers.sales.routes[0].during[0]: unknown schedule "nevr"`) ||
		!strings.Contains(errOut, invalid+" was not applied") {
		t.Errorf("code %d, want 1; output %s; error output %s", code, out, errOut)
	}
}

func TestInvalidSettingsAreReportedTogether(t *testing.T) {
	code, _, errOut := runCLI(t, "", "--listen", "8080", "--data-dir", "", "--database-url", "mysql://user:pass-word@db", "--redis-url", "redis://:pass-word@cache/first", "--admin-token", "short",
		"--secret-key", "abc", "--public-url", "calls.example.com", "--voicemail-field", "rules", "--trusted-proxies", "10.0.0.0/8,home", "--log-format", "xml", "--log-level", "loud")
	if code != 1 {
		t.Errorf("code %d, want 1", code)
	}
	for _, name := range []string{"LISTEN", "DATA_DIR", "DATABASE_URL", "REDIS_URL", "ADMIN_TOKEN", "SECRET_KEY", "PUBLIC_URL", "VOICEMAIL_FIELD", "TRUSTED_PROXIES", "LOG_FORMAT", "LOG_LEVEL"} {
		if !strings.Contains(errOut, "\n  CALLTRACKER_"+name+": ") {
			t.Errorf("error output does not report CALLTRACKER_%s:\n%s", name, errOut)
		}
	}
	if strings.Contains(errOut, "pass-word") || strings.Contains(errOut, "short\n") {
		t.Errorf("error output contains a secret:\n%s", errOut)
	}
}

func TestSettingsAreReadFromEnvironment(t *testing.T) {
	t.Setenv("CALLTRACKER_LISTEN", "127.0.0.1:99999999")
	t.Setenv("CALLTRACKER_DATA_DIR", t.TempDir())
	t.Setenv("CALLTRACKER_SECRET_KEY", base64.StdEncoding.EncodeToString(make([]byte, 32)))
	t.Setenv("CALLTRACKER_ADMIN_TOKEN", "a-token-that-is-long-enough")
	t.Setenv("CALLTRACKER_LOG_FORMAT", "text")
	t.Setenv("CALLTRACKER_DATABSE_URL", "postgres://slip/of/the/pen")
	code, _, errOut := runCLI(t, "")
	if code != 1 || !strings.Contains(errOut, "99999999") {
		t.Errorf("code %d, want 1; error output %s", code, errOut)
	}
	if !strings.Contains(errOut, "CALLTRACKER_DATABSE_URL") || strings.Contains(errOut, "slip/of") {
		t.Errorf("error output must contain the name, not the value, of the misspelled variable:\n%s", errOut)
	}
}

func TestDataDirectoryKeepsGeneratedToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	first, fresh, err := datadir.ReadOrGenerate(path, 24)
	if err != nil || !fresh || len(first) < 32 {
		t.Fatalf("ReadOrGenerate returned %q, %t, %v; want a new token", first, fresh, err)
	}
	again, fresh, err := datadir.ReadOrGenerate(path, 24)
	if err != nil || fresh || again != first {
		t.Errorf("ReadOrGenerate returned %q, %t, %v; want the existing token %q", again, fresh, err, first)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("token file has mode %v (error %v), want 0600", info.Mode(), err)
	}
	if _, _, err := datadir.ReadOrGenerate(writeFile(t, "empty", ""), 24); err == nil {
		t.Error("ReadOrGenerate accepted an empty token")
	}
	if _, err := datadir.ReadSecretKey(writeFile(t, "secret.key", "abc")); err == nil {
		t.Error("ReadSecretKey accepted a short key")
	}
}
