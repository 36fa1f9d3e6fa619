package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"

	"calltracker/web"
)

// embedDocument is a configuration with every kind of site. Every secret in it
// contains "hush" so that tests can detect a leak.
const embedDocument = `
schedules:
  always:
    timezone: Asia/Dubai
    open: [{days: [mon, tue, wed, thu, fri, sat, sun], from: "00:00", to: "24:00"}]
  never: {timezone: Asia/Dubai}
  noon:
    timezone: Asia/Dubai
    open: [{days: [mon, tue, wed, thu, fri, sat, sun], from: "00:00", to: "12:00"}]
trackers:
  sales:
    keys: {start: [hush-start], end: [hush-end]}
    routes: [{id: all, voicemail: true}]
connections:
  kustomer: {driver: kustomer, settings: {base_url: "https://acme.example.com", org: acme, api_key: hush-api-key}}
contact_centers:
  aldebaran: {username: hush-user, password: hush-password, access_token: hush-access, api_key: hush-cti, webhook_keys: [hush-webhook]}
sites:
  shop:
    origins: ["https://shop.example.com", "https://www.shop.example.com"]
    webcallback:
      contactCenterName: aldebaran
      extensions: ["33176431477", "33184131602"]
      callerIDNumber: "+971557526349"
      numberOfRetries: 0
      timeout: 60
      extensionTimeout: 15
      extensionDelay: 20
      replacementTargetId: call-us
      defaultCountryFlags: [ae, fr]
      customTexts:
        formButton: Ring me
        fr: {formButton: Sonnez-moi}
        fr-CA: {formTitle: Allô}
        de: {formTitle: Wir rufen Sie an}
      unknownKey: {deep: [1, null, "x"], __proto__: {polluted: true}}
  v1.2:
    webcallback: {contactCenterName: aldebaran, extensions: ["1001"], positionClass: "  top-left mine "}
  open-now:
    webcallback: {contactCenterName: aldebaran, extensions: ["1001"], offline: false}
    offline_outside: [never, always]
  closed-now:
    webcallback: {contactCenterName: aldebaran, extensions: ["1001"], offline: false}
    offline_outside: [never]
  closed-by-hand:
    webcallback: {contactCenterName: aldebaran, extensions: ["1001"], offline: true}
    offline_outside: [noon]
  half-days:
    webcallback: {contactCenterName: aldebaran, extensions: ["1001"]}
    offline_outside: [noon]
  crm:
    origins: ["https://agents.example.com"]
    keys: [hush-embed-key]
    contact_center: aldebaran
    jorel:
      defaultRegionCode: AE
      fixedPositionAndSize: true
      clickToCall: {links: true, selectors: [".phone", "p:::no"], text: true}
    popup: {connections: [kustomer], on: [ringing, early], many: choose, none: search}
  phone-only:
    jorel: {contactCenterName: sirius, defaultPosition: bottom-left, defaultSize: mini}
  pop-only:
    keys: [hush-pop-key]
    popup: {connections: [kustomer], many: first, none: nothing, unavailable: nothing, open: card}
  own-words:
    keys: [hush-word-key]
    popup:
      connections: [kustomer]
      open: card
      texts:
        inbound: You are called
        search: "<img src=x onerror=failures.push(1)>"
        fr: {inbound: Ça sonne}
        ar: {search: بحث}
        de: {inbound: Anruf, outbound: Wahl}
`

func TestWebCallbackConfiguration(t *testing.T) {
	h := serve(t, embedDocument)
	got := into[map[string]any](t, h.get("/webcallback/shop.json").want(t, 200))
	own := got["calltracker"].(map[string]any)
	texts := own["texts"].(map[string]any)
	delete(got, "calltracker")
	built := func(language string, change ...string) map[string]any {
		out := map[string]any{}
		for key, text := range web.Texts()[language] {
			out[key] = text
		}
		for i := 0; i < len(change); i += 2 {
			out[change[i]] = change[i+1]
		}
		return out
	}
	want := map[string]any{
		"contactCenterName": "aldebaran", "extensions": []any{"33176431477", "33184131602"}, "callerIDNumber": "+971557526349",
		"numberOfRetries": 0.0, "timeout": 60.0, "extensionTimeout": 15.0, "extensionDelay": 20.0, "positionClass": "bottom-right",
		"replacementTargetId": "call-us", "defaultCountryFlags": []any{"ae", "fr"}, "offline": false,
		"customTexts": built("en", "formButton", "Ring me"),
		"unknownKey":  map[string]any{"deep": []any{1.0, nil, "x"}, "__proto__": map[string]any{"polluted": true}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	wantTexts := map[string]any{
		"en": built("en", "formButton", "Ring me"), "ar": built("ar", "formButton", "Ring me"), "fr": built("fr", "formButton", "Sonnez-moi"),
		"fr-CA": built("fr", "formButton", "Ring me", "formTitle", "Allô"), "de": built("en", "formButton", "Ring me", "formTitle", "Wir rufen Sie an"),
	}
	if diff := cmp.Diff(wantTexts, texts); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
	for language, all := range web.Texts() {
		for _, key := range web.TextKeys() {
			if all[key] == "" {
				t.Errorf("language %s: missing text %s", language, key)
			}
		}
	}

	plain := into[map[string]any](t, h.get("/webcallback/v1.2.json").want(t, 200))
	if plain["positionClass"] != "top-left mine" {
		t.Errorf("positionClass %v, want %q", plain["positionClass"], "top-left mine")
	}
	for _, absent := range []string{"callerIDNumber", "numberOfRetries", "timeout", "replacementTargetId", "defaultCountryFlags"} {
		if value, ok := plain[absent]; ok {
			t.Errorf("%s is not configured but has the value %v", absent, value)
		}
	}
}

func TestOfflineFollowsSchedules(t *testing.T) {
	h := serve(t, embedDocument)
	type config struct {
		Offline     bool
		Calltracker struct{ Changes []struct{ At string } }
	}
	for site, want := range map[string]struct{ offline, changes bool }{
		"v1.2": {false, false}, "open-now": {false, false}, "closed-now": {true, false}, "closed-by-hand": {true, false},
	} {
		got := into[config](t, h.get("/webcallback/"+site+".json").want(t, 200))
		if got.Offline != want.offline || len(got.Calltracker.Changes) > 0 != want.changes {
			t.Errorf("%s: offline %v, changes %v; want offline %v, any changes %v", site, got.Offline, got.Calltracker.Changes, want.offline, want.changes)
		}
	}
	type change struct {
		At      string
		Offline bool
	}
	got := into[struct {
		Offline     bool
		Calltracker struct{ Changes []change }
	}](t, h.get("/webcallback/half-days.json").want(t, 200))
	changes := got.Calltracker.Changes
	if len(changes) < 20 {
		t.Fatalf("%d changes, want at least 20: %v", len(changes), changes)
	}
	offline := got.Offline
	for i, c := range changes {
		want := "T08:00:00Z" // noon in Dubai
		if !c.Offline {
			want = "T20:00:00Z"
		}
		if c.Offline == offline || !strings.HasSuffix(c.At, want) || i > 0 && c.At <= changes[i-1].At {
			t.Errorf("change %d: %v; previous offline %v", i, c, offline)
		}
		offline = c.Offline
	}
}

func TestJorelConfiguration(t *testing.T) {
	h := serve(t, embedDocument)
	for path, want := range map[string]string{
		"/jorel/crm.json": `{"calltracker":{"site":"crm","server":"http://localhost:8080/",
			"popup":{"on":["ringing","early"],"many":"choose","none":"search","unavailable":"search","open":"window","side":"left"},
			"calls":{"links":true,"selectors":[".phone","p:::no"],"text":true,"code":"971","trunk":"0"}},
			"contactCenterName":"aldebaran","defaultPosition":"bottom-right","defaultSize":"normal","defaultRegionCode":"AE",
			"fixedPositionAndSize":true,"deactivateMinimization":false,"deactivateConsoleOutput":false}`,
		"/jorel/phone-only.json": `{"calltracker":{"site":"phone-only","server":"http://localhost:8080/"},
			"contactCenterName":"sirius","defaultPosition":"bottom-left","defaultSize":"mini","defaultRegionCode":"",
			"fixedPositionAndSize":false,"deactivateMinimization":false,"deactivateConsoleOutput":false}`,
		"/popup/pop-only.json": `{"calltracker":{"site":"pop-only","server":"http://localhost:8080/",
			"popup":{"on":["ringing","early"],"many":"first","none":"nothing","unavailable":"nothing","open":"card","side":"left"}}}`,
	} {
		var expected map[string]any
		if err := json.Unmarshal([]byte(want), &expected); err != nil {
			t.Fatal(err)
		}
		got := into[map[string]any](t, h.get(path).want(t, 200))
		if popup, ok := got["calltracker"].(map[string]any)["popup"].(map[string]any); ok {
			texts, err := json.Marshal(popup["texts"])
			if err != nil {
				t.Fatal(err)
			}
			var card map[string]map[string]string
			if err := json.Unmarshal(texts, &card); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(web.CardTexts(), card); diff != "" {
				t.Errorf("texts of %s (-want +got):\n%s", path, diff)
			}
			delete(popup, "texts")
		}
		if diff := cmp.Diff(expected, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
}

func TestEmbedsAreCachedAndCompressed(t *testing.T) {
	h := serve(t, embedDocument)
	release := web.Popup.Release()
	for path, cache := range map[string]string{
		"/webcallback/shop.js": "public, max-age=60", "/webcallback/shop.json": "public, max-age=60", "/jorel/crm.js": "public, max-age=60",
		"/jorel/crm.json": "public, max-age=60", "/popup/pop-only.js": "public, max-age=60",
		"/popup/pop-only/" + release.Version + ".js": "public, max-age=31536000, immutable",
	} {
		plain := h.getCompressed(request{path: path, header: map[string]string{"Accept-Encoding": "identity"}}).want(t, 200)
		tags := map[string]bool{}
		for accepted, encoding := range map[string]string{
			"gzip, deflate, br": "br", "gzip;q=1.0, br;q=0": "gzip", "br;q=0.5": "br", "identity": "", "x-gzip": "", "gzip; q=0, BR; q=0.001": "br",
		} {
			got := h.getCompressed(request{path: path, header: map[string]string{"Accept-Encoding": accepted}}).want(t, 200)
			if got.header.Get("Content-Encoding") != encoding {
				t.Errorf("%s, Accept-Encoding %q: Content-Encoding %q, want %q", path, accepted, got.header.Get("Content-Encoding"), encoding)
			}
			if length := got.header.Get("Content-Length"); length != strconv.Itoa(len(got.body)) {
				t.Errorf("%s: Content-Length %q, want %d", path, length, len(got.body))
			}
			if decompress(t, encoding, got.body) != plain.body {
				t.Errorf("%s: the %q body does not decompress to the plain body", path, encoding)
			}
			if got.header.Get("Cache-Control") != cache || got.header.Get("Vary") != "Accept-Encoding, Origin" || got.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: headers %v", path, got.header)
			}
			tag := got.header.Get("ETag")
			tags[encoding+tag] = true
			for _, sent := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
				again := h.getCompressed(request{path: path, header: map[string]string{"Accept-Encoding": accepted, "If-None-Match": sent}})
				if again.status != 304 || again.body != "" || again.header.Get("ETag") != tag {
					t.Errorf("%s, If-None-Match %s: status %d, ETag %s; want 304, %s", path, sent, again.status, again.header.Get("ETag"), tag)
				}
			}
		}
		if len(tags) != 3 {
			t.Errorf("%s: ETags %v, want one for each of 3 encodings", path, tags)
		}
	}
}

// getCompressed sends a GET request without checking the response against the API
// specification, which does not describe compressed bodies.
func (h *harness) getCompressed(r request) response {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, h.base+r.path, http.NoBody)
	if err != nil {
		h.t.Fatal(err)
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
	return response{status: res.StatusCode, header: res.Header, body: string(body)}
}

func decompress(t *testing.T, encoding, body string) string {
	t.Helper()
	var reader io.Reader = strings.NewReader(body)
	switch encoding {
	case "br":
		reader = brotli.NewReader(reader)
	case "gzip":
		unzipped, err := gzip.NewReader(reader)
		if err != nil {
			t.Fatal(err)
		}
		reader = unzipped
	}
	out, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestEmbedsFollowConfigChanges checks that a configuration change applies to a
// script immediately and that the ETags of unchanged scripts remain valid.
func TestEmbedsFollowConfigChanges(t *testing.T) {
	h := serve(t, embedDocument)
	shop := h.get("/webcallback/shop.js").want(t, 200).header.Get("ETag")
	crm := h.get("/jorel/crm.js").want(t, 200).header.Get("ETag")
	changed := strings.Replace(embedDocument, "Ring me", "Call me now", 1)
	h.do(request{method: "PUT", path: "/api/v1/config", admin: true, body: changed, header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(t, 200)
	now := h.get("/webcallback/shop.js").want(t, 200)
	if now.header.Get("ETag") == shop || !strings.Contains(now.body, "Call me now") {
		t.Error("the script did not change with the configuration")
	}
	h.do(request{method: "GET", path: "/jorel/crm.js", header: map[string]string{"If-None-Match": crm}}).want(t, 304)
}

func TestEmbedsAllowOnlySiteOrigins(t *testing.T) {
	h := serve(t, embedDocument)
	for origin, want := range map[string]string{
		"https://shop.example.com": "https://shop.example.com", "https://www.shop.example.com": "https://www.shop.example.com",
		"https://agents.example.com": "", "https://evil.example.com": "", "null": "", "https://shop.example.com.evil.example": "", "": "",
	} {
		for _, path := range []string{"/webcallback/shop.json", "/webcallback/shop.js", "/webcallback/shop/" + web.WebCallback.Release().Version + ".js"} {
			got := h.do(request{method: "GET", path: path, header: map[string]string{"Origin": origin}}).want(t, 200).header
			if got.Get("Access-Control-Allow-Origin") != want || got.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s, Origin %q: Access-Control-Allow-Origin %q, want %q", path, origin, got.Get("Access-Control-Allow-Origin"), want)
			}
		}
	}
}

func TestUnknownEmbedsReturn404(t *testing.T) {
	h := serve(t, embedDocument)
	for path, want := range map[string]string{
		"/webcallback/no-such-site.js": `console.error("calltracker: unknown site \"no-such-site\"`,
		"/webcallback/crm.js":          `console.error("calltracker: site \"crm\" has no webcallback`,
		"/jorel/shop.js":               `has no jorel`,
		"/popup/phone-only.js":         `has no popup`,
		"/popup/pop-only/0000.js":      `console.error("calltracker: version \"0000\" of this script is no longer available`,
		"/webcallback/a'b`.js":         "unknown site \\\"a'b`\\\"",
	} {
		got := h.do(request{method: "GET", path: path}).want(t, 404)
		if !strings.Contains(got.body, want) || got.header.Get("Content-Type") != "text/javascript; charset=utf-8" || strings.Count(got.body, "\n") != 1 {
			t.Errorf("%s: Content-Type %s, body %q, want a script with %q", path, got.header.Get("Content-Type"), got.body, want)
		}
	}
	for _, path := range []string{"/webcallback/no-such-site.json", "/webcallback/shop", "/webcallback/shop.css", "/popup/pop-only/x.json"} {
		got := h.do(request{method: "GET", path: path}).want(t, 404)
		if got.header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: Content-Type %q, want application/problem+json", path, got.header.Get("Content-Type"))
		}
	}
	unconfigured := serve(t, "")
	if got := unconfigured.do(request{method: "GET", path: "/jorel/crm.js"}).want(t, 404); !strings.Contains(got.body, "no configuration is active") {
		t.Errorf("without a configuration: body %q", got.body)
	}
}

// TestEmbedsContainNoSecrets checks that browsers receive no secrets of the
// configuration, the server, or another site.
func TestEmbedsContainNoSecrets(t *testing.T) {
	h := serve(t, embedDocument)
	var paths []string
	for _, site := range []string{"shop", "v1.2", "open-now", "half-days", "crm", "phone-only", "pop-only"} {
		for _, kind := range web.Kinds() {
			paths = append(paths, fmt.Sprintf("/%s/%s.js", kind, site), fmt.Sprintf("/%s/%s.json", kind, site), fmt.Sprintf("/%s/%s/%s.js", kind, site, kind.Release().Version))
		}
	}
	key := string(h.parts.settings.secretKey)
	found := 0
	for _, path := range paths {
		got := h.do(request{method: "GET", path: path})
		found += got.status / 200 % 2
		all := got.body + fmt.Sprint(got.header)
		for _, secret := range []string{"hush", h.token, key, "acme.example.com", "kustomer"} {
			if strings.Contains(all, secret) {
				t.Errorf("%s contains %q", path, secret)
			}
		}
	}
	if found < 15 {
		t.Errorf("%d paths returned 200, want at least 15", found)
	}
}

// TestScriptsAreSmallAndSafe checks that the scripts are small and that they use
// only functions that a strict content security policy allows.
func TestScriptsAreSmallAndSafe(t *testing.T) {
	h := serve(t, embedDocument)
	forbidden := regexp.MustCompile(`\beval\(|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write|\.on[a-z]+=`)
	for _, path := range []string{"/webcallback/shop.js", "/jorel/crm.js", "/popup/pop-only.js"} {
		zipped := h.getCompressed(request{path: path, header: map[string]string{"Accept-Encoding": "gzip"}}).want(t, 200)
		const limit = 6000
		if len(zipped.body) >= limit {
			t.Errorf("%s: %d bytes gzipped, want fewer than %d", path, len(zipped.body), limit)
		}
		t.Logf("%s: %d bytes gzipped", path, len(zipped.body))
		if found := forbidden.FindString(decompress(t, "gzip", zipped.body)); found != "" {
			t.Errorf("%s contains %q", path, found)
		}
		if bytes.ContainsAny([]byte(decompress(t, "gzip", zipped.body)), "\u2028\u2029<") && strings.Contains(decompress(t, "gzip", zipped.body), "</script") {
			t.Errorf("%s contains </script, which would end its script element", path)
		}
	}
}
