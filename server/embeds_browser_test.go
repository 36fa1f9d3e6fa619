package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"calltracker/web"
)

// TestEmbedsInBrowser runs the embeds in third-party pages in a real browser.
func TestEmbedsInBrowser(t *testing.T) {
	w := newTestBrowser(t, embedDocument)
	for name, run := range map[string]func(*testing.T, *testBrowser){
		"WebCallback shows the button":            webCallbackShows,
		"WebCallback replaces the placeholder":    webCallbackReplaces,
		"WebCallback follows schedules":           webCallbackFollowsSchedules,
		"WebCallback languages":                   webCallbackLanguages,
		"WebCallback loads once":                  webCallbackLoadsOnce,
		"unknown site":                            unknownSite,
		"WebCallback strict policy":               webCallbackStrictPolicy,
		"WebCallback pinned version":              webCallbackPinned,
		"WebCallback hostile texts":               webCallbackHostileTexts,
		"WebCallback without a button":            webCallbackWithoutButton,
		"Ziwo unavailable":                        ziwoUnavailable,
		"Jorel settings":                          jorelSettings,
		"Jorel click-to-call":                     jorelClickToCall,
		"site page":                               sitePageInBrowser,
		"popup handles every event family":        popupEventFamilies,
		"popup opens once per call":               popupOncePerCall,
		"popup ignores other calls":               popupIgnoresOtherCalls,
		"popup blocked by the browser":            popupBlocked,
		"popup chooser":                           popupChooser,
		"popup without a customer":                popupWithoutCustomer,
		"popup with a slow lookup":                popupSlow,
		"popup with the page's own function":      popupOwnFunction,
		"popup canceled by the page":              popupCanceledByPage,
		"popup strict policy":                     popupStrictPolicy,
		"popup with hostile responses and events": popupHostile,
		"popup with custom texts":                 popupTexts,
		"popup with Kustomer":                     popupWithKustomer,
	} {
		t.Run(name, func(t *testing.T) { run(t, w) })
	}
}

// scriptTag returns the tag that embeds the script of a site.
func scriptTag(kind web.Kind, site, attributes string) string {
	return fmt.Sprintf(`<script src="https://calls.example.com/%s/%s.js" %s></script>`, kind, site, attributes)
}

func pageHTML(head, body string) string {
	return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>` + head + `</head><body><h1>A page</h1>` + body + `</body></html>`
}

// widget is the state of the callback button in a page.
type widget struct {
	Classes []string
	Title   string
	Text    string
	Dir     string
	Lang    string
	Parent  string
}

const readWidget = `(() => { const r = document.getElementById("__webcallback"); return { classes: [...r.classList], title: r.title, text: r.textContent, dir: r.dir, lang: r.lang, parent: r.parentElement.id } })()`

func webCallbackShows(t *testing.T, w *testBrowser) {
	tab := w.open(t, "https://www.example.com/shows", pageHTML(scriptTag(web.WebCallback, "v1.2", ""), ""))
	tab.wait(`window.ziwoConfigs?.length && __webcallback.title`)
	got := eval[widget](tab, readWidget)
	want := widget{Classes: []string{"top-left", "mine"}, Title: "We’ll call you back", Text: "Call me", Dir: "ltr", Lang: "en"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("button (-want +got):\n%s", diff)
	}
	config := eval[map[string]any](tab, "ziwoConfigs[0]")
	if _, own := config["calltracker"]; own || config["contactCenterName"] != "aldebaran" || config["positionClass"] != "  top-left mine " && config["positionClass"] != "top-left mine" {
		t.Errorf("Ziwo's script received the configuration %v", config)
	}
	if loader := eval[[]string](tab, `[webcallbackScriptLoader.src, webcallbackScriptLoader.type, webcallbackScriptLoader.parentElement.tagName]`); !slices.Equal(loader, []string{"https://webcallback.ziwo.io/master/latest/webcallback.js", "text/javascript", "HEAD"}) {
		t.Errorf("loader %q, want Ziwo's script in the head", loader)
	}
	tab.wantNoErrors()
}

func webCallbackReplaces(t *testing.T, w *testBrowser) {
	// The script is in the head. The placeholder follows in the body.
	tab := w.open(t, "https://shop.example.com/replaces", pageHTML(scriptTag(web.WebCallback, "shop", ""), `<div id="around"><p id="call-us">Call us: 04 222 3344</p></div>`))
	tab.wait(`window.ziwoConfigs?.length && document.getElementById("call-us") === null`)
	got := eval[widget](tab, readWidget)
	if !slices.Equal(got.Classes, []string{"replaced"}) || got.Parent != "around" {
		t.Errorf("button %+v, want class replaced in around", got)
	}
	if text := eval[string](tab, "ziwoConfigs[0].customTexts.formButton"); text != "Ring me" {
		t.Errorf("formButton %q, want %q", text, "Ring me")
	}
	if _, extra := eval[map[string]any](tab, "ziwoConfigs[0]")["unknownKey"]; !extra {
		t.Error("unknown key is missing from the configuration")
	}
	tab.wantNoErrors()

	bare := w.open(t, "https://shop.example.com/bare", pageHTML(scriptTag(web.WebCallback, "shop", ""), ""))
	bare.waitForConsole(`no element with the id "call-us"`)
	if got := eval[widget](bare, readWidget); !slices.Equal(got.Classes, []string{"bottom-right"}) {
		t.Errorf("without the placeholder: button %+v, want class bottom-right", got)
	}
	bare.wantNoErrors()
}

func webCallbackFollowsSchedules(t *testing.T, w *testBrowser) {
	tab := w.open(t, "https://www.example.com/hours", pageHTML(scriptTag(web.WebCallback, "half-days", ""), ""))
	tab.wait(`window.ziwoConfigs?.length`)
	// The page's clock jumps past the next two changes, as when a computer wakes from sleep.
	changes := eval[[]struct {
		At      string
		Offline bool
	}](tab, `fetch("https://calls.example.com/webcallback/half-days.json").then((r) => r.json()).then((c) => c.calltracker.changes).catch(() => null)`)
	if changes != nil {
		t.Fatal("a page on another origin read the configuration")
	}
	config := into[struct {
		Offline     bool
		Calltracker struct {
			Changes []struct {
				At      string
				Offline bool
			}
		}
	}](t, w.h.get("/webcallback/half-days.json").want(t, 200))
	title := map[bool]string{false: "We’ll call you back", true: "We’re closed right now"}
	tab.wait(fmt.Sprintf("__webcallback.title === %q", title[config.Offline]))
	tab.run(`window.events = []; addEventListener("calltracker-offline", (event) => events.push(event.detail.offline));`)
	var want []bool
	for _, change := range config.Calltracker.Changes[:2] {
		tab.run(fmt.Sprintf(`Date.now = () => Date.parse(%q) + 1000; document.dispatchEvent(new Event("visibilitychange"));`, change.At))
		tab.wait(fmt.Sprintf("__webcallback.title === %q && __webcallback.classList.contains('calltracker-offline') === %v", title[change.Offline], change.Offline))
		want = append(want, change.Offline)
	}
	if got := eval[[]bool](tab, "events"); !slices.Equal(got, want) {
		t.Errorf("calltracker-offline events %v, want %v", got, want)
	}
	tab.wantNoErrors()

	// A timer updates the button in a page that stays open.
	soon := w.tab(t)
	soon.navigate("https://www.example.com/hours")
	soon.wait(`window.ziwoConfigs?.length`)
	soon.run(fmt.Sprintf(`const start = performance.now(); Date.now = () => Date.parse(%q) - 300 + performance.now() - start; document.dispatchEvent(new Event("visibilitychange"));`, config.Calltracker.Changes[0].At))
	soon.wait(fmt.Sprintf("__webcallback.title === %q", title[config.Calltracker.Changes[0].Offline]))
	soon.wantNoErrors()
}

func webCallbackLanguages(t *testing.T, w *testBrowser) {
	html := strings.Replace(pageHTML(scriptTag(web.WebCallback, "v1.2", ""), ""), `lang="en"`, `lang="ar-AE" dir="rtl"`, 1)
	tab := w.open(t, "https://www.example.com/arabic", html)
	tab.wait(`window.ziwoConfigs?.length && __webcallback.title`)
	if got := eval[widget](tab, readWidget); got.Dir != "rtl" || got.Lang != "ar" || got.Title != web.Texts()["ar"]["mainButtonTooltip"] {
		t.Errorf("Arabic page: button %+v", got)
	}
	// If a page has no language or an unsupported one, the button uses the
	// visitor's language, here English.
	for address, lang := range map[string]string{"https://www.example.com/no-lang": "", "https://www.example.com/finnish": "fi"} {
		other := w.open(t, address, strings.Replace(html, `lang="ar-AE" dir="rtl"`, `lang="`+lang+`"`, 1))
		other.wait(`window.ziwoConfigs?.length && __webcallback.title`)
		if got := eval[widget](other, readWidget); got.Dir != "ltr" || got.Lang != "en" {
			t.Errorf("%s: button %+v, want English", address, got)
		}
	}
	french := w.open(t, "https://shop.example.com/quebec", strings.Replace(pageHTML(scriptTag(web.WebCallback, "shop", ""), `<p id="call-us"></p>`), `lang="en"`, `lang="fr-CA"`, 1))
	french.wait(`window.ziwoConfigs?.length`)
	if texts := eval[map[string]string](french, "ziwoConfigs[0].customTexts"); texts["formTitle"] != "Allô" || texts["formButton"] != "Ring me" {
		t.Errorf("fr-CA texts %v", texts)
	}
}

func webCallbackLoadsOnce(t *testing.T, w *testBrowser) {
	tab := w.open(t, "https://www.example.com/two", pageHTML(scriptTag(web.WebCallback, "v1.2", ""), scriptTag(web.WebCallback, "open-now", "")+scriptTag(web.WebCallback, "v1.2", "")+scriptTag(web.Jorel, "crm", "")+scriptTag(web.Jorel, "phone-only", "")))
	tab.wait(`window.ziwoConfigs?.length && window.jorelLoads`)
	tab.waitForConsole("ignoring the button of open-now")
	if got := eval[[]int](tab, `[document.querySelectorAll("#__webcallback").length, document.querySelectorAll("#webcallbackScriptLoader").length, document.querySelectorAll("#jorelScriptLoader").length, jorelLoads]`); !slices.Equal(got, []int{1, 1, 1, 1}) {
		t.Errorf("buttons, WebCallback loaders, Jorel loaders, Jorel loads: %v, want one each", got)
	}
	tab.wantNoErrors()
}

func unknownSite(t *testing.T, w *testBrowser) {
	tab := w.open(t, "https://www.example.com/unknown", pageHTML(scriptTag(web.WebCallback, "no-such-site", "")+scriptTag(web.Jorel, "no-such-site", "")+scriptTag(web.Popup, "no-such-site", ""), "<script>window.after = true</script>"))
	tab.wait("window.after")
	tab.waitForConsole("404")
	if count := eval[int](tab, "document.querySelectorAll('#webcallbackScriptLoader, #jorelScriptLoader').length"); count != 0 {
		t.Errorf("an unknown site added %d loaders, want 0", count)
	}
	tab.wantNoErrors()
	// The body of the 404 response is a script that logs the error.
	body := w.h.do(request{method: "GET", path: "/webcallback/no-such-site.js"}).want(t, 404).body
	tab.run(body)
	tab.waitForConsole(`calltracker: unknown site "no-such-site"`)
}

// strictPolicy is a content security policy that allows only the required hosts.
// It blocks inline scripts, inline styles, and eval, and requires Trusted Types.
const strictPolicy = "default-src 'none'; script-src https://calls.example.com https://webcallback.ziwo.io https://jorel.ziwo.io; connect-src https://calls.example.com; style-src 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types calltracker"

func webCallbackStrictPolicy(t *testing.T, w *testBrowser) {
	tab := w.openWithPolicy(t, "https://www.example.com/strict", pageHTML(scriptTag(web.WebCallback, "v1.2", ""), ""), strictPolicy)
	tab.wait(`window.ziwoConfigs?.length && __webcallback.classList.contains("top-left")`)
	tab.wantNoErrors()
}

func webCallbackPinned(t *testing.T, w *testBrowser) {
	release := web.WebCallback.Release()
	pinned := func(integrity string) string {
		return pageHTML(fmt.Sprintf(`<script src="https://calls.example.com/webcallback/shop/%s.js" integrity="%s" crossorigin="anonymous"></script>`, release.Version, integrity), `<p id="call-us"></p>`)
	}
	tab := w.openWithPolicy(t, "https://shop.example.com/pinned", pinned(release.Integrity), strictPolicy)
	tab.wait(`window.ziwoConfigs?.length && __webcallback.classList.contains("replaced")`)
	tab.wantNoErrors()
	changed := w.open(t, "https://shop.example.com/changed", pinned("sha384-"+strings.Repeat("A", 64)))
	changed.waitForConsole("integrity")
	if eval[bool](changed, "Boolean(window.ziwoConfigs)") {
		t.Error("a script with the wrong hash ran")
	}
	// Only the site's own pages may read the configuration. On another page, the
	// console explains why it is blocked.
	foreign := w.open(t, "https://www.example.com/pinned", pinned(release.Integrity))
	foreign.waitForConsole("CORS policy") // without it the browser does not check the hash
	bare := strings.ReplaceAll(pinned(""), `integrity="" crossorigin="anonymous"`, "")
	foreign = w.open(t, "https://www.example.com/versioned", bare)
	foreign.waitForConsole("check that the site exists and that its origins include https://www.example.com")
	foreign.wantNoErrors()
}

// webCallbackWithoutButton checks that the console reports the error and that the
// page keeps working when Ziwo's script loads but creates no button.
func webCallbackWithoutButton(t *testing.T, w *testBrowser) {
	w.handleHost(t, "webcallback.ziwo.io", func(out http.ResponseWriter, _ *http.Request) { out.Header().Set("Content-Type", "text/javascript") })
	fastTimers := `<script>const realSetTimeout = setTimeout; window.setTimeout = (run, wait) => realSetTimeout(run, wait / 100)</script>`
	tab := w.open(t, "https://www.example.com/no-button", pageHTML(fastTimers+scriptTag(web.WebCallback, "v1.2", ""), ""))
	tab.waitForConsole("created no button within 10 s")
	tab.wantNoErrors()
}

// ziwoUnavailable checks that a page keeps working when Ziwo cannot be reached.
func ziwoUnavailable(t *testing.T, w *testBrowser) {
	for _, host := range []string{"webcallback.ziwo.io", "jorel.ziwo.io"} {
		w.handleHost(t, host, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) // closes the connection
	}
	w.answer(200, oneCustomer, nil)
	tab := w.open(t, "https://agents.example.com/unavailable", pageHTML(scriptTag(web.WebCallback, "v1.2", "")+scriptTag(web.Jorel, "crm", ""), `<a id="link" href="tel:+33176431400">France</a><script>window.after = true</script>`))
	tab.wait("window.after")
	tab.waitForConsole("failed to load https://webcallback.ziwo.io/master/latest/webcallback.js")
	tab.waitForConsole("https://jorel.ziwo.io/master/latest/jorel.js")
	tab.run(`addEventListener("click", (event) => { window.notPrevented = !event.defaultPrevented; event.preventDefault(); }); document.getElementById("link").click();`)
	if !eval[bool](tab, "notPrevented") {
		t.Error("without a web phone: the click was prevented")
	}
	// The pop-up still works with another Ziwo phone.
	tab.run(`ring("ziwo-call-ringing", { call: { callId: "1", direction: "inbound", origin: { number: "+971501112233" } } })`, asClick)
	tab.waitForWindow(customerURL)
	tab.wantNoErrors()
}

// webCallbackHostileTexts checks that a page treats every string in a
// configuration as text and never runs it as code.
func webCallbackHostileTexts(t *testing.T, w *testBrowser) {
	tab := w.open(t, "https://shop.example.com/hostile", pageHTML("", ""))
	tab.run(`window.JSONparse = JSON.parse;`)
	fragments := rapid.SampledFrom([]string{
		"</script>", "<!--", "<script>", "-->", "]]>", "'", `"`, "`", "$(pwned())", `\`, `\\`, "\n", "\r", "\u2028", "\u2029", "\x00", "\u007f", "\ufeff", "\U0001F4DE", "مرحبا",
		"*/", "/*", "//", ");pwned();(", `"));pwned();//`, `\u0022);pwned();//`, "__proto__", "constructor", "&quot;", "%00", "javascript:pwned()", "<img src=x onerror=pwned()>",
		"{{.}}", "a", " ", "é", "\ud7ff",
	})
	text := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(fragments, 1, 6).Draw(t, "fragments"), "")
	})
	rapid.Check(t, func(rt *rapid.T) {
		config := map[string]any{
			"contactCenterName": text.Draw(rt, "center"), "extensions": []string{text.Draw(rt, "extension")}, "positionClass": "a" + text.Draw(rt, "class"),
			"customTexts":                  map[string]any{"formTitle": text.Draw(rt, "title"), "fr": map[string]any{"formButton": text.Draw(rt, "button")}},
			"more " + text.Draw(rt, "key"): map[string]any{text.Draw(rt, "inner"): text.Draw(rt, "value")},
		}
		card := map[string]any{"none": text.Draw(rt, "none"), "fr": map[string]any{"open": text.Draw(rt, "open")}}
		document, err := json.Marshal(map[string]any{
			"connections": map[string]any{"crm": map[string]any{"driver": "kustomer", "settings": map[string]any{"base_url": "https://acme.example.com", "org": "acme", "api_key": "x"}}},
			"sites":       map[string]any{"evil": map[string]any{"webcallback": config, "popup": map[string]any{"connections": []string{"crm"}, "texts": card}}},
		})
		if err != nil {
			rt.Fatal(err)
		}
		put := w.h.do(request{method: "PUT", path: "/api/v1/config", admin: true, body: string(document), header: map[string]string{"Content-Type": "application/json", "If-Match": "*"}})
		if put.status != 200 {
			rt.Fatalf("put configuration: status %d: %s", put.status, put.body)
		}
		want := into[map[string]any](t, w.h.get("/webcallback/evil.json").want(t, 200))
		if want["contactCenterName"] != config["contactCenterName"] || want["customTexts"].(map[string]any)["formTitle"] != config["customTexts"].(map[string]any)["formTitle"] {
			rt.Fatalf("served configuration %v, want %v", want, config)
		}
		popup := into[map[string]any](t, w.h.get("/popup/evil.json").want(t, 200))
		// The page runs the scripts inline, before a real </script>, and records the
		// first argument that each passes to JSON.parse.
		scripts := []string{w.h.get("/webcallback/evil.js").want(t, 200).body, w.h.get("/popup/evil.js").want(t, 200).body}
		quoted, err := json.Marshal(scripts)
		if err != nil {
			rt.Fatal(err)
		}
		got := eval[map[string]any](tab, fmt.Sprintf(`(async () => {
			window.ran = 0; window.pwned = () => { window.ran++ };
			document.querySelectorAll("#webcallbackScriptLoader, #webcallbackConfig, #__webcallback").forEach((e) => e.remove());
			window.ziwoConfigs = [];
			const seen = [], leaked = [];
			for (const script of %s) {
				const frame = document.createElement("iframe");
				document.body.append(frame);
				frame.contentWindow.pwned = window.pwned;
				frame.contentDocument.open();
				frame.contentDocument.write("<script>var src = 1;" + script + "<" + "/script><p>after</p>");
				frame.contentDocument.close();
				leaked.push(frame.contentDocument.body.textContent.replace(/^\s*after\s*$/, ""));
				let first = null;
				JSON.parse = (text) => (first ??= JSONparse(text), JSONparse(text));
				const element = document.createElement("script");
				element.textContent = script;
				document.body.append(element);
				JSON.parse = JSONparse;
				seen.push(first);
				frame.remove();
			}
			return { ran: window.ran, leaked, seen };
		})()`, quoted))
		if got["ran"] != 0.0 {
			rt.Fatalf("a configuration string ran as code: %q", scripts)
		}
		if leaked := fmt.Sprint(got["leaked"]); strings.Contains(leaked, "pwned") || strings.Contains(leaked, "JSON.parse") {
			rt.Fatalf("a script element ended early and its source appeared in the page: %q", leaked)
		}
		if diff := cmp.Diff([]any{want, popup}, got["seen"]); diff != "" {
			rt.Fatalf("parsed configuration (-want +got):\n%s", diff)
		}
	})
	w.h.do(request{method: "PUT", path: "/api/v1/config", admin: true, body: embedDocument, header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(t, 200)
	if failures := eval[[]string](tab, "window.failures"); len(failures) > 0 {
		t.Errorf("page errors: %q", failures)
	}
}

func jorelSettings(t *testing.T, w *testBrowser) {
	for site, want := range map[string]map[string]string{
		"crm": {
			"_jorel-ccName": "aldebaran", "_jorel-default-position": "bottom-right", "_jorel-default-size": "normal",
			"_jorel-default-phone-number-region-code": "AE", "_jorel-fixed": "true", "_jorel-no-minimization": "false", "_jorel-no-console-output": "false",
		},
		"phone-only": {
			"_jorel-ccName": "sirius", "_jorel-default-position": "bottom-left", "_jorel-default-size": "mini",
			"_jorel-default-phone-number-region-code": "", "_jorel-fixed": "false", "_jorel-no-minimization": "false", "_jorel-no-console-output": "false",
		},
	} {
		// A script in the head runs before the body exists. A second script tag has no effect.
		tab := w.open(t, "https://agents.example.com/jorel-"+site, pageHTML(scriptTag(web.Jorel, site, "")+scriptTag(web.Jorel, site, "async"), ""))
		tab.wait("window.jorelSettings")
		if diff := cmp.Diff(want, eval[map[string]string](tab, "jorelSettings")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", site, diff)
		}
		loader := eval[[]any](tab, `[jorelScriptLoader.parentElement.tagName, jorelScriptLoader.src.replace(/\d{13}$/, "NOW"), jorelLoads]`)
		if diff := cmp.Diff([]any{"BODY", "https://jorel.ziwo.io/master/latest/jorel.js?v=NOW", 1.0}, loader); diff != "" {
			t.Errorf("loader (-want +got):\n%s", diff)
		}
		tab.wantNoErrors()
	}
	// A page can pass its agent's token so that the agent does not have to log in.
	tab := w.open(t, "https://agents.example.com/jorel-token", pageHTML(scriptTag(web.Jorel, "crm", `data-ziwo-token="agent-token"`), ""))
	tab.wait("window.jorelSettings")
	if token := eval[string](tab, `jorelSettings["_jorel-token"]`); token != "agent-token" {
		t.Errorf("web phone token %q, want %q", token, "agent-token")
	}
	tab.wantNoErrors()
}

func jorelClickToCall(t *testing.T, w *testBrowser) {
	tab := w.openWithPolicy(t, "https://agents.example.com/click", pageHTML(scriptTag(web.Jorel, "crm", "")+scriptTag(web.Jorel, "crm", ""), `
		<a id="link" href="tel:+33-1-76-43-14-00">France</a> <a id="national" href="TEL:04%20222%203344">Dubai</a> <a id="short" href="tel:1001">Desk</a>
		<span class="phone" id="span">(04) 222-3355</span> <span class="phone" id="data" data-phone="00971501112233">mobile</span>
		<p id="prose">Ring 050 111 2244 or +44 (0)20 7946 0000, order 0123456, on 01.02.2026, at 10:30, id a0501112233, for 1.234.567,89. أو ٠٥٠ ١١١ ٢٢٨٨ اليوم</p>
		<textarea id="field">050 111 2255</textarea> <code>050 111 2266</code>`), strictPolicy)
	tab.wait("window.called && document.querySelectorAll('#prose a').length")
	tab.waitForConsole(`"p:::no" is not a valid CSS selector`) // the other selectors still apply
	if got := eval[[]string](tab, `[...document.querySelectorAll("#prose a")].map((a) => a.textContent + " " + a.href)`); !slices.Equal(got, []string{"050 111 2244 tel:+971501112244", "+44 (0)20 7946 0000 tel:+442079460000", "٠٥٠ ١١١ ٢٢٨٨ tel:+971501112288"}) {
		t.Errorf("links in the text: %q", got)
	}
	if count := eval[int](tab, `document.querySelectorAll("code a, textarea a").length`); count != 0 {
		t.Errorf("%d numbers in code and form fields became links, want 0", count)
	}
	if text := eval[string](tab, `prose.textContent`); !strings.Contains(text, "Ring 050 111 2244 or +44 (0)20 7946 0000, order 0123456, on 01.02.2026") {
		t.Errorf("the text changed to %q", text)
	}
	tab.run(`addEventListener("click", (event) => { window.notPrevented = !event.defaultPrevented; event.preventDefault(); });`)
	for _, c := range []struct {
		element string
		number  string // dialed number; "" if the click is not handled
	}{
		{`getElementById("link")`, "+33176431400"}, {`getElementById("national")`, "+97142223344"}, {`getElementById("short")`, ""}, {`getElementById("span")`, "+97142223355"},
		{`getElementById("data")`, "+971501112233"}, {`querySelector("#prose a")`, "+971501112244"}, {`getElementById("field")`, ""},
	} {
		tab.run(`called.length = 0; document.` + c.element + `.click();`)
		want := []string{}
		if c.number != "" {
			want = []string{c.number}
		}
		if got := eval[[]string](tab, "called"); !slices.Equal(got, want) || eval[bool](tab, "notPrevented") != (c.number == "") {
			t.Errorf("click on %s: called %q, want %q", c.element, got, want)
		}
	}
	// A click that the page handles itself places no call.
	tab.run(`called.length = 0; const link = document.getElementById("link"); link.addEventListener("click", (event) => event.preventDefault(), { once: true }); link.click();`)
	if got := eval[[]string](tab, "called"); len(got) != 0 {
		t.Errorf("click handled by the page: called %q, want no call", got)
	}
	tab.run(`called.length = 0; document.getElementById("span").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));`)
	if got := eval[[]string](tab, "called"); !slices.Equal(got, []string{"+97142223355"}) {
		t.Errorf("Enter: called %q, want +97142223355", got)
	}
	// Numbers that the page adds later also become links.
	tab.run(`const p = document.createElement("p"); p.id = "later"; p.textContent = "Or 050 111 2277"; document.body.append(p);`)
	tab.wait(`document.querySelector("#later a")`)
	// Without the web phone, a link keeps its default behavior.
	tab.run(`called.length = 0; delete window["_jorel-callPhoneNumber"]; document.getElementById("link").click();`)
	if !eval[bool](tab, "notPrevented && called.length === 0") {
		t.Error("without a web phone: the click was prevented")
	}
	tab.wantNoErrors()
}

func sitePageInBrowser(t *testing.T, w *testBrowser) {
	tab := w.tab(t)
	tab.navigate("https://calls.example.com/sites/shop")
	shown := `[...document.querySelectorAll(".page")].filter((p) => !p.hidden).map((p) => p.lang + " " + p.dir + " " + p.innerText.replace(/\s+/g, " ").trim())`
	if got := eval[[]string](tab, shown); len(got) != 1 || !strings.HasPrefix(got[0], "en ltr Leave your number") || !strings.Contains(got[0], "Ring me") || strings.Contains(got[0], "closed") {
		t.Errorf("preview %q", got)
	}
	tab.screenshot("site")
	tab.run(`document.querySelector("button[data-language=ar]").click(); document.querySelector("button[data-state=offline]").click();`)
	if got := eval[[]string](tab, shown); len(got) != 1 || got[0] != "ar rtl "+web.Texts()["ar"]["offlineButtonTooltip"]+" ✆" {
		t.Errorf("Arabic preview %q", got)
	}
	tab.run(`document.querySelector("button[data-state=open]").click()`)
	tab.screenshot("site-arabic")
	// If the page cannot write to the clipboard, the copy button selects the text.
	tab.run(`window.copied = ""; Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { window.copied = text } }, configurable: true }); document.querySelector(".copy").click();`)
	tab.wait(`copied === '<script src="http://localhost:8080/webcallback/shop.js" async></'+'script>'`)
	tab.run(`Object.defineProperty(navigator, "clipboard", { value: { writeText: async () => { throw new Error("no") } } }); document.querySelector("details").open = true; document.querySelectorAll(".copy")[1].click();`)
	tab.wait(`getSelection().toString().includes("integrity=")`)
	tab.wantNoErrors()
	// The page reloads when the schedule opens or closes.
	hours := w.tab(t)
	hours.navigate("https://calls.example.com/sites/half-days")
	next := eval[string](hours, `document.querySelector("time").dateTime`)
	hours.screenshot("site-hours")
	hours.addInitScript(fmt.Sprintf(`Date.now = () => Date.parse(%q) - 500;`, next))
	hours.navigate("https://calls.example.com/sites/half-days")
	loads := w.count("calls.example.com/sites/half-days")
	hours.waitFor("the page to reload", func() bool { return w.count("calls.example.com/sites/half-days") > loads })
	crm := w.tab(t)
	crm.navigate("https://calls.example.com/sites/crm")
	crm.screenshot("site-crm")
	crm.wantNoErrors()
}
