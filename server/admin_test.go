package main

import (
	"encoding/csv"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"calltracker/config"
	"calltracker/handlers/calls"
	"calltracker/handlers/decisions"
	"calltracker/handlers/secrets"
	"calltracker/handlers/simulate"
	"calltracker/server/httpapi"
)

// newRequest makes a request for send.
func newRequest(t *testing.T, method, url string) (*http.Request, error) {
	return http.NewRequestWithContext(t.Context(), method, url, nil)
}

// send sends a request without validating it against the OpenAPI description.
func send(t *testing.T, req *http.Request) (status int, header http.Header, body string) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(content)
}

func (h *harness) putConfig(query, ifMatch, contentType, body string) response {
	h.t.Helper()
	header := map[string]string{"Content-Type": contentType}
	if ifMatch != "" {
		header["If-Match"] = ifMatch
	}
	return h.do(request{method: "PUT", path: "/api/v1/config" + query, admin: true, header: header, body: body})
}

func TestAdminAPIRequiresToken(t *testing.T) {
	h := serve(t, document)
	for _, authorization := range []string{"", "Bearer", "Bearer wrong", "Basic " + h.token, h.token} {
		r := h.do(request{method: "GET", path: "/api/v1/calls", header: map[string]string{"Authorization": authorization}})
		if r.status != 401 || r.header.Get("WWW-Authenticate") == "" {
			t.Errorf("Authorization %q: status %d with header %v, want 401 with WWW-Authenticate", authorization, r.status, r.header)
		}
	}
	h.do(request{method: "GET", path: "/api/v1/calls", header: map[string]string{"Authorization": "bearer " + h.token}}).want(t, 200)
}

// minimalDocument is a configuration with one route. Its verb is the number to dial.
const minimalDocument = `
trackers:
  one:
    keys: {start: open, end: open}
    routes: [{id: all, dial: [{number: "%s", timeout: 10s}]}]
`

func TestConfigVersionsAreStoredAndRestored(t *testing.T) {
	h := serve(t, "")
	h.get("/api/v1/config").want(t, 404)
	h.startCall("one", "", "didCalled", "1").want(t, 404)

	h.putConfig("", "", "application/yaml", fmt.Sprintf(minimalDocument, "0500000001")).want(t, 428)
	h.putConfig("", "7", "application/yaml", fmt.Sprintf(minimalDocument, "0500000001")).want(t, 412)
	h.putConfig("", "soon", "application/yaml", fmt.Sprintf(minimalDocument, "0500000001")).want(t, 422)
	h.putConfig("?dry_run=true", "", "application/yaml", fmt.Sprintf(minimalDocument, "0500000001")).want(t, 200)
	h.get("/api/v1/config").want(t, 404)

	r := h.putConfig("?comment=first&author=ann", "*", "application/yaml", fmt.Sprintf(minimalDocument, "0500000001")).want(t, 200)
	applied := into[config.ApplyResult](t, r)
	if applied.Version != 1 || r.header.Get("ETag") != `"1"` {
		t.Errorf("result %s with ETag %s, want version 1", r.body, r.header.Get("ETag"))
	}
	if len(applied.Warnings) != 2 || applied.Warnings[0].Line != 4 {
		t.Errorf("warnings %+v, want one for each open key", applied.Warnings)
	}
	// Applying the same document again creates no version.
	if r := h.putConfig("", `"1"`, "application/yaml", fmt.Sprintf(minimalDocument, "0500000001")).want(t, 200); into[config.ApplyResult](t, r).Version != 1 {
		t.Errorf("same document: result %s, want version 1", r.body)
	}
	if r := h.putConfig("", `"1"`, "text/yaml", fmt.Sprintf(minimalDocument, "0500000002")).want(t, 200); into[config.ApplyResult](t, r).Version != 2 {
		t.Errorf("new document: result %s, want version 2", r.body)
	}
	h.putConfig("", `"1"`, "application/yaml", fmt.Sprintf(minimalDocument, "0500000003")).want(t, 412)
	if body := h.startCall("one", "", "didCalled", "1").want(t, 200).body; !strings.Contains(body, "0500000002") {
		t.Errorf("startCall answer is %s", body)
	}

	versions := into[config.VersionList](t, h.get("/api/v1/config/versions").want(t, 200)).Versions
	if len(versions) != 2 || versions[0].Version != 2 || !versions[0].Active || versions[1].Active ||
		versions[1].Comment != "first" || versions[1].Author != "ann" || versions[1].Document != "" {
		t.Errorf("versions %+v, want 2 (active) and 1 with its comment and author", versions)
	}
	one := into[config.VersionView](t, h.get("/api/v1/config/versions/1").want(t, 200))
	if one.Document != fmt.Sprintf(minimalDocument, "0500000001") {
		t.Errorf("document of version 1 is %q", one.Document)
	}
	h.get("/api/v1/config/versions/9").want(t, 404)
	h.get("/api/v1/config/versions/last").want(t, 422)

	restored := h.do(request{method: "POST", path: "/api/v1/config/versions/1/restore?author=bob", admin: true}).want(t, 200)
	if into[config.ApplyResult](t, restored).Version != 3 || restored.header.Get("ETag") != `"3"` {
		t.Errorf("restore: result %s, want version 3", restored.body)
	}
	if body := h.startCall("one", "", "didCalled", "1").want(t, 200).body; !strings.Contains(body, "0500000001") {
		t.Errorf("startCall answer is %s", body)
	}
	h.do(request{method: "POST", path: "/api/v1/config/versions/9/restore", admin: true}).want(t, 404)
}

func TestConfigIsReadAndWrittenAsYAMLAndJSON(t *testing.T) {
	h := serve(t, "")
	yamlDocument := "# a comment\n" + fmt.Sprintf(minimalDocument, "0500000001")
	h.putConfig("", "*", "application/x-www-form-urlencoded", yamlDocument).want(t, 200) // what curl sends by default
	r := h.get("/api/v1/config").want(t, 200)
	if r.body != yamlDocument || r.header.Get("ETag") != `"1"` || r.header.Get("Content-Type") != "application/yaml" {
		t.Errorf("got ETag %s, Content-Type %s, body %q", r.header.Get("ETag"), r.header.Get("Content-Type"), r.body)
	}
	h.do(request{method: "GET", path: "/api/v1/config", admin: true, header: map[string]string{"If-None-Match": `"1"`}}).want(t, 304)

	asJSON := h.do(request{method: "GET", path: "/api/v1/config", admin: true, header: map[string]string{"Accept": "application/json"}}).want(t, 200)
	if !strings.Contains(asJSON.body, `"number": "0500000001"`) {
		t.Fatalf("JSON document is %s", asJSON.body)
	}
	h.putConfig("", "*", "application/json", strings.Replace(asJSON.body, "0500000001", "0500000009", 1)).want(t, 200)
	if body := h.startCall("one", "", "didCalled", "1").want(t, 200).body; !strings.Contains(body, "0500000009") {
		t.Errorf("startCall answer is %s", body)
	}
	back := h.get("/api/v1/config").want(t, 200)
	if !strings.Contains(back.body, `number: "0500000009"`) {
		t.Errorf("YAML document is %s", back.body)
	}
	h.putConfig("", "*", "application/yaml", back.body).want(t, 200)
	h.putConfig("", "*", "image/png", yamlDocument).want(t, 415)
}

func TestInvalidConfigDoesNotReplaceCurrent(t *testing.T) {
	h := serve(t, document)
	before := h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200).body
	for name, c := range map[string]struct{ document, path, message string }{
		"syntax":             {"trackers: [", "", ""},
		"unknown schedule":   {strings.Replace(document, "during: [never]", "during: [nevr]", 1), "trackers.sales.routes[0].during[0]", `unknown schedule "nevr"; did you mean "never"?`},
		"no catch-all route": {strings.Replace(document, "routes: [{id: all, voicemail: true}]", "routes: [{id: all, during: [always]}]", 1), "trackers.shut.routes[0]", "the last route must take every call"},
		"unset variable":     {strings.Replace(document, "start-key-old", `"${env:NOT_SET_ANYWHERE}"`, 1), "trackers.sales.keys.start[0]", "NOT_SET_ANYWHERE is not set"},
		"unknown secret":     {strings.Replace(document, "start-key-old", `"${secret:nope}"`, 1), "trackers.sales.keys.start[0]", "unknown secret"},
		"failing test": {document + `
tests:
  - {name: wrong, tracker: sales, at: 2026-11-22T20:00:00+04:00, call: {didCalled: "061234567"}, expect: {route: otherwise, voicemail: false}}
`, "tests[0]", `expected route "otherwise", got "office"`},
	} {
		r := h.putConfig("", "*", "application/yaml", c.document).want(t, 422)
		problem := into[httpapi.Problem](t, r)
		if problem.Status != 422 || len(problem.Errors) == 0 || problem.Errors[0].Line == 0 || problem.Errors[0].Column == 0 {
			t.Errorf("%s: problem %s, want status 422 and a position", name, r.body)
			continue
		}
		if e := problem.Errors[0]; e.Path != c.path || !strings.Contains(e.Message, c.message) {
			t.Errorf("%s: error %+v, want path %q and message %q", name, e, c.path, c.message)
		}
	}
	// All problems are reported together.
	many := strings.NewReplacer("during: [never]", "durin: [never]", "region: AE", "region: United Arab Emirates", `from: "03:00"`, "from: 3").Replace(document)
	if problem := into[httpapi.Problem](t, h.putConfig("", "*", "application/yaml", many).want(t, 422)); len(problem.Errors) < 3 {
		t.Errorf("errors %+v, want at least 3", problem.Errors)
	}
	if after := h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200).body; after != before {
		t.Errorf("startCall answer %s, want %s", after, before)
	}
	if versions := into[config.VersionList](t, h.get("/api/v1/config/versions")).Versions; len(versions) != 1 {
		t.Errorf("got %d versions, want 1", len(versions))
	}
}

func TestSimulateDecidesWithoutRecording(t *testing.T) {
	h := serve(t, document)
	simulateCall := func(body string) response {
		return h.do(request{method: "POST", path: "/api/v1/simulate", admin: true, body: body, header: map[string]string{"Content-Type": "application/json"}})
	}
	r := simulateCall(`{"tracker":"sales","at":"2026-11-23T03:00:30+04:00","call":{"didCalled":"061234567","callerIDNumber":"+33612345678"}}`).want(t, 200)
	got := into[simulate.Simulation](t, r)
	if got.Route != "at-night" || !got.Voicemail || len(got.Rules) != 0 || len(got.Trace) != 1 ||
		string(got.Answer) != `{"result":true,"content":{"didCalled":"061234567","rules":[],"voicemail":true},"info":{}}` {
		t.Errorf("call at night: %s", r.body)
	}
	got = into[simulate.Simulation](t, simulateCall(`{"tracker":"sales","call":{"didCalled":65554433,"queue":"support"},"at":"2026-11-23T12:00:00Z"}`).want(t, 200))
	if got.Route != "turns" || !slices.Contains(got.Flags, "did_unlisted") {
		t.Errorf("call with a queue and a numeric DID: %+v", got)
	}
	unsaved := strings.ReplaceAll(fmt.Sprintf(minimalDocument, "0500000077"), "\n", `\n`)
	unsaved = strings.ReplaceAll(unsaved, `"0500000077"`, `\"0500000077\"`)
	got = into[simulate.Simulation](t, simulateCall(`{"tracker":"one","call":{"didCalled":"1"},"document":"`+unsaved+`"}`).want(t, 200))
	if len(got.Rules) != 1 || got.Rules[0].Number != "0500000077" {
		t.Errorf("call with a document in the request: %+v", got)
	}
	for name, c := range map[string]struct {
		body, path string
		status     int
	}{
		"no tracker":       {`{"call":{"didCalled":"1"}}`, "tracker", 422},
		"unknown tracker":  {`{"tracker":"x","call":{"didCalled":"1"}}`, "tracker", 422},
		"no DID":           {`{"tracker":"sales","call":{"callID":"1"}}`, "call.didCalled", 422},
		"no call":          {`{"tracker":"sales"}`, "call", 422},
		"invalid time":     {`{"tracker":"sales","at":"yesterday","call":{"didCalled":"1"}}`, "", 400},
		"unknown field":    {`{"trackr":"sales","call":{"didCalled":"1"}}`, "trackr", 422},
		"wrong type":       {`{"tracker":7,"call":{"didCalled":"1"}}`, "tracker", 422},
		"invalid document": {`{"tracker":"one","call":{"didCalled":"1"},"document":"trackers: {one: {}}"}`, "trackers.one", 422},
		"not JSON":         {`tracker: sales`, "", 400},
		"two values":       {`{"tracker":"sales","call":{"didCalled":"1"}} {}`, "", 400},
		"a list of fields": {`{"tracker":"sales","call":["didCalled"]}`, "call", 422},
	} {
		problem := into[httpapi.Problem](t, simulateCall(c.body).want(t, c.status))
		if c.path != "" && (len(problem.Errors) == 0 || problem.Errors[0].Path != c.path) {
			t.Errorf("%s: problem %+v, want path %q", name, problem, c.path)
		}
	}
	if list := into[decisions.List](t, h.get("/api/v1/decisions")); len(list.Decisions) != 0 {
		t.Errorf("recorded decisions %+v, want none", list)
	}
}

// numberedRecord is a call record. Records with a greater n start later. tail is
// appended to its fields.
func numberedRecord(n int, tail string) string {
	return fmt.Sprintf(`{"callID":"call-%04d","didCalled":"061234567","callerIDNumber":"05012%05d","direction":"inbound",`+
		`"startedAt":"2026-11-%02dT10:%02d:00Z","endedAt":"2026-11-%02dT10:%02d:30Z","duration":30%s}`,
		n, n, 1+n/50, n%50, 1+n/50, n%50, tail)
}

func TestCallsAreFilteredAndPaginated(t *testing.T) {
	h := serve(t, document)
	const total = 120
	for n := range total {
		tail := `,"result":"no-answer"`
		if n%3 == 0 {
			tail = `,"result":"answered","answeredAt":"2026-11-01T10:00:00Z"`
		}
		h.endCall("sales", "end-key-old", numberedRecord(n, tail)).want(t, 200)
	}
	h.endCall("open-line", "", strings.Replace(cdr2016, "042345678", "+97142345678", 1)).want(t, 200)

	for query, want := range map[string]int{
		"?limit=1000":                              total + 1,
		"?tracker=sales&limit=500":                 total,
		"?tracker=open-line":                       1,
		"?tracker=unknown":                         0,
		"?result=answered&limit=200&tracker=sales": total / 3,
		"?result=missed&limit=200":                 total - total/3,
		"?did=061234567&limit=200":                 total,
		"?did=%2B97161234567&limit=200":            total,
		"?did=+97161234567&limit=200":              total, // an unencoded +
		"?did=0097161234567&limit=200":             total,
		"?caller=0501200007":                       1,
		"?caller=%2B971501200007":                  1,
		"?from=2026-11-02T00:00:00Z&to=2026-11-03T00:00:00Z&limit=200": 50,
		"?from=2026-11-02T04:00:00%2B04:00&limit=200":                  70,
		"?campaign=outdoor": 0,
		"?customer=c-1":     0,
	} {
		if got := len(h.calls(query)); got != want {
			t.Errorf("%s: got %d calls, want %d", query, got, want)
		}
	}

	var paged []string
	for next, page := "", 0; ; page++ {
		list := into[calls.List](t, h.get("/api/v1/calls?tracker=sales&limit=50&cursor="+url.QueryEscape(next)).want(t, 200))
		for _, c := range list.Calls {
			paged = append(paged, c.CallID)
		}
		if page == 0 { // calls that arrive between requests do not shift the pages
			h.endCall("sales", "end-key-old", `{"callID":"later","didCalled":"061234567","startedAt":"2026-11-20T10:00:00Z"}`).want(t, 200)
		}
		if next = list.Next; next == "" {
			break
		}
	}
	if len(paged) != total || paged[0] != "call-0119" || paged[total-1] != "call-0000" || !slices.IsSortedFunc(paged, func(a, b string) int { return strings.Compare(b, a) }) {
		t.Errorf("pages hold %d calls from %s to %s, want %d from call-0119 to call-0000", len(paged), paged[0], paged[len(paged)-1], total)
	}

	for query, path := range map[string]string{
		"?limit=0": "limit", "?limit=1001": "limit", "?limit=x": "limit", "?from=today": "from", "?result=great": "result",
		"?status=answered": "status", "?did=1&did=2": "did", "?cursor=abc": "cursor", "?from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z": "to",
	} {
		req, err := newRequest(t, "GET", h.base+"/api/v1/calls"+query)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+h.token)
		status, _, body := send(t, req)
		problem := into[httpapi.Problem](t, response{body: body})
		if status != 422 || len(problem.Errors) != 1 || problem.Errors[0].Path != path {
			t.Errorf("%s: status %d, body %s; want 422 and one error at %s", query, status, body, path)
		}
	}
	h.get("/api/v1/calls/unknown").want(t, 404)
	h.get("/api/v1/decisions/unknown").want(t, 404)
}

func TestCallsAreExportedAsCSV(t *testing.T) {
	h := serve(t, document)
	h.endCall("sales", "end-key-old", numberedRecord(1, `,"callerIDName":"=HYPERLINK(\"http://evil.example\")","agentCCLogin":"0026"`)).want(t, 200)
	h.endCall("sales", "end-key-old", numberedRecord(2, `,"callerIDName":"Doe, \"Jo\"\nline"`)).want(t, 200)
	r := h.get("/api/v1/calls.csv?tracker=sales").want(t, 200)
	if got := r.header.Get("Content-Type"); got != "text/csv; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
	rows, err := csv.NewReader(strings.NewReader(r.body)).ReadAll()
	if err != nil || len(rows) != 3 {
		t.Fatalf("got %d rows and error %v, want 3 rows: %s", len(rows), err, r.body)
	}
	column := func(row int, name string) string { return rows[row][slices.Index(rows[0], name)] }
	for _, c := range []struct {
		row        int
		name, want string
	}{
		{1, "callID", "call-0002"}, {1, "callerName", "Doe, \"Jo\"\nline"}, {1, "did", "+97161234567"}, {1, "startedAt", "2026-11-01T10:02:00Z"},
		{1, "answeredAt", ""}, {1, "duration", "30"}, {2, "callerName", `'=HYPERLINK("http://evil.example")`}, {2, "agent", "0026"}, {2, "result", "missed"},
	} {
		if got := column(c.row, c.name); got != c.want {
			t.Errorf("row %d, %s: %q, want %q", c.row, c.name, got, c.want)
		}
	}
	if r := h.get("/api/v1/calls.csv?tracker=unknown").want(t, 200); strings.Count(r.body, "\n") != 1 {
		t.Errorf("CSV without calls is %q, want only the header", r.body)
	}
	h.get("/api/v1/calls.csv?limit=5").want(t, 422)
}

func TestSecretsAreEncryptedAndNeverReturned(t *testing.T) {
	h := serve(t, document)
	const value, newer = "s3cret-start-key-value", "n3wer-start-key-value"
	put := func(name, body string) response {
		return h.do(request{method: "PUT", path: "/api/v1/secrets/" + name, admin: true, body: body, header: map[string]string{"Content-Type": "application/json"}})
	}
	r := put("line", `{"value":"`+value+`"}`).want(t, 200)
	if view := into[secrets.View](t, r); view.Name != "line" || view.InUse || view.CreatedAt.IsZero() || strings.Contains(r.body, value) {
		t.Errorf("PUT returned %s", r.body)
	}
	withSecret := strings.Replace(document, "start-key-old", `"${secret:line}"`, 1)
	h.putConfig("", "*", "application/yaml", withSecret).want(t, 200)
	h.startCall("sales", value, "didCalled", "061234567").want(t, 200)
	h.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 401)

	put("line", `{"value":"`+newer+`"}`).want(t, 200) // takes effect immediately
	h.startCall("sales", newer, "didCalled", "061234567").want(t, 200)
	h.startCall("sales", value, "didCalled", "061234567").want(t, 401)

	for _, path := range []string{"/api/v1/secrets", "/api/v1/secrets/line", "/api/v1/config", "/api/v1/config/versions/2", "/api/v1/rejections"} {
		if r := h.get(path).want(t, 200); strings.Contains(r.body, value) || strings.Contains(r.body, newer) {
			t.Errorf("%s contains the secret: %s", path, r.body)
		}
	}
	h.do(request{method: "DELETE", path: "/api/v1/secrets/line", admin: true}).want(t, 409)
	h.putConfig("", "*", "application/yaml", document).want(t, 200)
	h.do(request{method: "DELETE", path: "/api/v1/secrets/line", admin: true}).want(t, 204)
	h.do(request{method: "DELETE", path: "/api/v1/secrets/line", admin: true}).want(t, 404)
	h.get("/api/v1/secrets/line").want(t, 404)
	put("bad%20name", `{"value":"x"}`).want(t, 422)
	put("line", `{"value":""}`).want(t, 422)
	put("line", `{"valu":"x"}`).want(t, 422)

	h.stop()
	err := filepath.WalkDir(h.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), value) || strings.Contains(string(content), newer) {
			t.Errorf("%s contains the secret as plain text", path)
		}
		if info, statErr := entry.Info(); statErr != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is readable by other users: mode %v, error %v", path, info.Mode(), statErr)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(h.log.String(), value) || strings.Contains(h.log.String(), newer) {
		t.Error("log contains the secret")
	}
}
