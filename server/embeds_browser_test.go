package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"calltracker/web"
)

// TestInTheBrowser runs the embeds where they have to work: in pages of other
// people, in a real browser.
func TestInTheBrowser(t *testing.T) {
	w := newWorld(t, embedDocument)
	for name, run := range map[string]func(*testing.T, *world){
		"WebCallback shows":                webCallbackShows,
		"WebCallback replaces":             webCallbackReplaces,
		"WebCallback follows the hours":    webCallbackFollowsTheHours,
		"WebCallback Arabic":               webCallbackArabic,
		"WebCallback two sites":            webCallbackTwoSites,
		"WebCallback unknown":              webCallbackUnknown,
		"WebCallback strict policy":        webCallbackStrictPolicy,
		"WebCallback pinned":               webCallbackPinned,
		"WebCallback hostile texts":        webCallbackHostileTexts,
		"Jorel settings":                   jorelSettings,
		"Jorel click to call":              jorelClickToCall,
		"the page of a site":               siteOwnersPage,
		"popup every family":               popupEveryFamily,
		"popup once":                       popupOnce,
		"popup skips":                      popupSkips,
		"popup blocked":                    popupBlocked,
		"popup chooser":                    popupChooser,
		"popup none and unavailable":       popupNoneAndUnavailable,
		"popup slow":                       popupSlow,
		"popup the page's own function":    popupOwnFunction,
		"popup left to the page":           popupLeftToThePage,
		"popup strict policy":              popupStrictPolicy,
		"popup hostile answers and events": popupHostile,
		"popup ringing to window.open":     popupSpeed,
	} {
		t.Run(name, func(t *testing.T) { run(t, w) })
	}
}

func embed(kind web.Kind, site, attributes string) string {
	return fmt.Sprintf(`<script src="https://calls.example.com/%s/%s.js" %s></script>`, kind, site, attributes)
}

func sitePageOf(head, body string) string {
	return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>` + head + `</head><body><h1>A page</h1>` + body + `</body></html>`
}

type widget struct {
	Classes []string
	Title   string
	Text    string
	Dir     string
	Lang    string
	Parent  string
}

const readWidget = `(() => { const r = document.getElementById("__webcallback"); return { classes: [...r.classList], title: r.title, text: r.textContent, dir: r.dir, lang: r.lang, parent: r.parentElement.id } })()`

func webCallbackShows(t *testing.T, w *world) {
	tab := w.open(t, "https://www.example.com/shows", sitePageOf(embed(web.WebCallback, "v1.2", ""), ""))
	tab.wait(`window.ziwoConfigs?.length && __webcallback.title`)
	got := eval[widget](tab, readWidget)
	want := widget{Classes: []string{"top-left", "mine"}, Title: "We call you back", Text: "Call me", Dir: "ltr", Lang: "en"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the button (-want +got):\n%s", diff)
	}
	config := eval[map[string]any](tab, "ziwoConfigs[0]")
	if _, own := config["calltracker"]; own || config["contactCenterName"] != "aldebaran" || config["positionClass"] != "  top-left mine " && config["positionClass"] != "top-left mine" {
		t.Errorf("Ziwo's script was given %v", config)
	}
	if loader := eval[[]string](tab, `[webcallbackScriptLoader.src, webcallbackScriptLoader.type, webcallbackScriptLoader.parentElement.tagName]`); !slices.Equal(loader, []string{"https://webcallback.ziwo.io/master/latest/webcallback.js", "text/javascript", "HEAD"}) {
		t.Errorf("the loader is %q", loader)
	}
	tab.fine()
}

func webCallbackReplaces(t *testing.T, w *world) {
	// The script stands in the head, the placeholder in the body below it.
	tab := w.open(t, "https://shop.example.com/replaces", sitePageOf(embed(web.WebCallback, "shop", ""), `<div id="around"><p id="call-us">Call us: 04 222 3344</p></div>`))
	tab.wait(`window.ziwoConfigs?.length && document.getElementById("call-us") === null`)
	got := eval[widget](tab, readWidget)
	if !slices.Equal(got.Classes, []string{"replaced"}) || got.Parent != "around" {
		t.Errorf("the button is %+v", got)
	}
	if text := eval[string](tab, "ziwoConfigs[0].customTexts.formButton"); text != "Ring me" {
		t.Errorf("the form's button says %q", text)
	}
	if _, extra := eval[map[string]any](tab, "ziwoConfigs[0]")["keyOfTomorrow"]; !extra {
		t.Error("a key that Ziwo may learn did not pass through")
	}
	tab.fine()

	bare := w.open(t, "https://shop.example.com/bare", sitePageOf(embed(web.WebCallback, "shop", ""), ""))
	bare.said(`no element with the id "call-us"`)
	if got := eval[widget](bare, readWidget); !slices.Equal(got.Classes, []string{"bottom-right"}) {
		t.Errorf("without its placeholder the button is %+v", got)
	}
	bare.fine()
}

func webCallbackFollowsTheHours(t *testing.T, w *world) {
	tab := w.open(t, "https://www.example.com/hours", sitePageOf(embed(web.WebCallback, "half-days", ""), ""))
	tab.wait(`window.ziwoConfigs?.length`)
	// The page's clock jumps over the next two changes, as after a night asleep.
	changes := eval[[]struct {
		At      string
		Offline bool
	}](tab, `fetch("https://calls.example.com/webcallback/half-days.json").then((r) => r.json()).then((c) => c.calltracker.changes).catch(() => null)`)
	if changes != nil {
		t.Fatal("a page of another origin could read the configuration")
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
	title := map[bool]string{false: "We call you back", true: "We are closed at the moment"}
	tab.wait(fmt.Sprintf("__webcallback.title === %q", title[config.Offline]))
	tab.run(`window.heard = []; addEventListener("calltracker-offline", (event) => heard.push(event.detail.offline));`)
	var heard []bool
	for _, change := range config.Calltracker.Changes[:2] {
		tab.run(fmt.Sprintf(`Date.now = () => Date.parse(%q) + 1000; document.dispatchEvent(new Event("visibilitychange"));`, change.At))
		tab.wait(fmt.Sprintf("__webcallback.title === %q && __webcallback.classList.contains('calltracker-offline') === %v", title[change.Offline], change.Offline))
		heard = append(heard, change.Offline)
	}
	if got := eval[[]bool](tab, "heard"); !slices.Equal(got, heard) {
		t.Errorf("the page heard %v, want %v", got, heard)
	}
	tab.fine()

	// A timer does it, too, when nobody looks at the page.
	soon := w.tab(t)
	soon.navigate("https://www.example.com/hours")
	soon.wait(`window.ziwoConfigs?.length`)
	soon.run(fmt.Sprintf(`const start = performance.now(); Date.now = () => Date.parse(%q) - 300 + performance.now() - start; document.dispatchEvent(new Event("visibilitychange"));`, config.Calltracker.Changes[0].At))
	soon.wait(fmt.Sprintf("__webcallback.title === %q", title[config.Calltracker.Changes[0].Offline]))
	soon.fine()
}

func webCallbackArabic(t *testing.T, w *world) {
	html := strings.Replace(sitePageOf(embed(web.WebCallback, "v1.2", ""), ""), `lang="en"`, `lang="ar-AE" dir="rtl"`, 1)
	tab := w.open(t, "https://www.example.com/arabic", html)
	tab.wait(`window.ziwoConfigs?.length && __webcallback.title`)
	if got := eval[widget](tab, readWidget); got.Dir != "rtl" || got.Lang != "ar" || got.Title != web.Texts()["ar"]["mainButtonTooltip"] {
		t.Errorf("the button is %+v", got)
	}
	// A page that does not say its language gets the visitor's, here English; an
	// unknown one as well.
	for address, lang := range map[string]string{"https://www.example.com/no-lang": "", "https://www.example.com/finnish": "fi"} {
		other := w.open(t, address, strings.Replace(html, `lang="ar-AE" dir="rtl"`, `lang="`+lang+`"`, 1))
		other.wait(`window.ziwoConfigs?.length && __webcallback.title`)
		if got := eval[widget](other, readWidget); got.Dir != "ltr" || got.Lang != "en" {
			t.Errorf("%s: the button is %+v", address, got)
		}
	}
	french := w.open(t, "https://shop.example.com/quebec", strings.Replace(sitePageOf(embed(web.WebCallback, "shop", ""), `<p id="call-us"></p>`), `lang="en"`, `lang="fr-CA"`, 1))
	french.wait(`window.ziwoConfigs?.length`)
	if texts := eval[map[string]string](french, "ziwoConfigs[0].customTexts"); texts["formTitle"] != "Allô" || texts["formButton"] != "Ring me" {
		t.Errorf("in Québec the texts are %v", texts)
	}
}

func webCallbackTwoSites(t *testing.T, w *world) {
	tab := w.open(t, "https://www.example.com/two", sitePageOf(embed(web.WebCallback, "v1.2", ""), embed(web.WebCallback, "open-now", "")+embed(web.WebCallback, "v1.2", "")+embed(web.Jorel, "crm", "")+embed(web.Jorel, "phone-only", "")))
	tab.wait(`window.ziwoConfigs?.length && window.jorelLoads`)
	tab.said("that of open-now is left out")
	if got := eval[[]int](tab, `[document.querySelectorAll("#__webcallback").length, document.querySelectorAll("#webcallbackScriptLoader").length, document.querySelectorAll("#jorelScriptLoader").length, jorelLoads]`); !slices.Equal(got, []int{1, 1, 1, 1}) {
		t.Errorf("buttons, loaders, phones, loads: %v", got)
	}
	tab.fine()
}

func webCallbackUnknown(t *testing.T, w *world) {
	tab := w.open(t, "https://www.example.com/unknown", sitePageOf(embed(web.WebCallback, "nobody", "")+embed(web.Jorel, "nobody", "")+embed(web.Popup, "nobody", ""), "<script>window.after = true</script>"))
	tab.wait("window.after")
	tab.said("404")
	if count := eval[int](tab, "document.querySelectorAll('#webcallbackScriptLoader, #jorelScriptLoader').length"); count != 0 {
		t.Errorf("an unknown site added %d loaders", count)
	}
	tab.fine()
	// Run by hand, what came says it in words.
	body := w.h.do(request{method: "GET", path: "/webcallback/nobody.js"}).want(t, 404).body
	tab.run(body)
	tab.said(`calltracker: there is no site "nobody" on this server`)
}

// A policy that allows no inline script and style, no eval, and only the hosts
// that have to be allowed; with Trusted Types, too.
const strictPolicy = "default-src 'none'; script-src https://calls.example.com https://webcallback.ziwo.io https://jorel.ziwo.io; connect-src https://calls.example.com; style-src 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types calltracker"

func webCallbackStrictPolicy(t *testing.T, w *world) {
	tab := w.openUnder(t, "https://www.example.com/strict", sitePageOf(embed(web.WebCallback, "v1.2", ""), ""), strictPolicy)
	tab.wait(`window.ziwoConfigs?.length && __webcallback.classList.contains("top-left")`)
	tab.fine()
}

func webCallbackPinned(t *testing.T, w *world) {
	release := web.WebCallback.Release()
	pinned := func(integrity string) string {
		return sitePageOf(fmt.Sprintf(`<script src="https://calls.example.com/webcallback/shop/%s.js" integrity="%s" crossorigin="anonymous"></script>`, release.Version, integrity), `<p id="call-us"></p>`)
	}
	tab := w.openUnder(t, "https://shop.example.com/pinned", pinned(release.Integrity), strictPolicy)
	tab.wait(`window.ziwoConfigs?.length && __webcallback.classList.contains("replaced")`)
	tab.fine()
	changed := w.open(t, "https://shop.example.com/changed", pinned("sha384-"+strings.Repeat("A", 64)))
	changed.said("integrity")
	if eval[bool](changed, "Boolean(window.ziwoConfigs)") {
		t.Error("a script with a wrong hash ran")
	}
}

// Whatever texts a configuration holds, the page gets them as text and nothing
// else of them runs.
func webCallbackHostileTexts(t *testing.T, w *world) {
	tab := w.open(t, "https://shop.example.com/hostile", sitePageOf("", ""))
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
		document, err := json.Marshal(map[string]any{"sites": map[string]any{"evil": map[string]any{"webcallback": config}}})
		if err != nil {
			rt.Fatal(err)
		}
		put := w.h.do(request{method: "PUT", path: "/api/v1/config", admin: true, body: string(document), header: map[string]string{"Content-Type": "application/json", "If-Match": "*"}})
		if put.status != 200 {
			rt.Fatalf("the configuration was refused: %s", put.body)
		}
		want := into[map[string]any](t, w.h.get("/webcallback/evil.json").want(t, 200))
		if want["contactCenterName"] != config["contactCenterName"] || want["customTexts"].(map[string]any)["formTitle"] != config["customTexts"].(map[string]any)["formTitle"] {
			rt.Fatalf("the configuration is %v, want %v", want, config)
		}
		// The page runs the script as a browser does, next to a real </script>, and
		// sees what it hands to JSON.parse.
		script := w.h.get("/webcallback/evil.js").want(t, 200).body
		quoted, err := json.Marshal(script)
		if err != nil {
			rt.Fatal(err)
		}
		got := eval[map[string]any](tab, fmt.Sprintf(`(async () => {
			window.ran = 0; window.pwned = () => { window.ran++ }; window.seen = null;
			document.querySelectorAll("#webcallbackScriptLoader, #webcallbackConfig, #__webcallback").forEach((e) => e.remove());
			window.ziwoConfigs = [];
			JSON.parse = (text) => (window.seen ??= JSONparse(text), JSONparse(text));
			const frame = document.createElement("iframe");
			document.body.append(frame);
			frame.contentWindow.pwned = window.pwned;
			frame.contentDocument.open();
			frame.contentDocument.write("<script>var src = 1;" + %s + "<" + "/script><p>after</p>");
			frame.contentDocument.close();
			const leaked = frame.contentDocument.body.textContent.replace(/^\s*after\s*$/, "");
			const element = document.createElement("script");
			element.textContent = %s;
			document.body.append(element);
			JSON.parse = JSONparse;
			frame.remove();
			return { ran: window.ran, leaked, seen: window.seen };
		})()`, quoted, quoted))
		if got["ran"] != 0.0 {
			rt.Fatalf("text of the configuration ran as code: %s", script)
		}
		if leaked := got["leaked"].(string); strings.Contains(leaked, "pwned") || strings.Contains(leaked, "JSON.parse") {
			rt.Fatalf("the script ended early in a page: %q", leaked)
		}
		if diff := cmp.Diff(want, got["seen"]); diff != "" {
			rt.Fatalf("the page got something else (-want +got):\n%s", diff)
		}
	})
	w.h.do(request{method: "PUT", path: "/api/v1/config", admin: true, body: embedDocument, header: map[string]string{"Content-Type": "application/yaml", "If-Match": "*"}}).want(t, 200)
	if failures := eval[[]string](tab, "window.failures"); len(failures) > 0 {
		t.Errorf("the page has errors: %q", failures)
	}
}

func jorelSettings(t *testing.T, w *world) {
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
		// In the head there is no body yet; and twice is once.
		tab := w.open(t, "https://agents.example.com/jorel-"+site, sitePageOf(embed(web.Jorel, site, "")+embed(web.Jorel, site, "async"), ""))
		tab.wait("window.jorelSettings")
		if diff := cmp.Diff(want, eval[map[string]string](tab, "jorelSettings")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", site, diff)
		}
		loader := eval[[]any](tab, `[jorelScriptLoader.parentElement.tagName, jorelScriptLoader.src.replace(/\d{13}$/, "NOW"), jorelLoads]`)
		if diff := cmp.Diff([]any{"BODY", "https://jorel.ziwo.io/master/latest/jorel.js?v=NOW", 1.0}, loader); diff != "" {
			t.Errorf("the loader (-want +got):\n%s", diff)
		}
		tab.fine()
	}
}

func jorelClickToCall(t *testing.T, w *world) {
	tab := w.openUnder(t, "https://agents.example.com/click", sitePageOf(embed(web.Jorel, "crm", ""), `
		<a id="link" href="tel:+33-1-76-43-14-00">France</a> <a id="national" href="TEL:04%20222%203344">Dubai</a> <a id="short" href="tel:1001">Desk</a>
		<span class="phone" id="span">(04) 222-3355</span> <span class="phone" id="data" data-phone="00971501112233">mobile</span>
		<p id="prose">Ring 050 111 2244 or +44 (0)20 7946 0000, order 0123456, on 01.02.2026, at 10:30, id a0501112233, for 1.234.567,89.</p>
		<textarea id="field">050 111 2255</textarea> <code>050 111 2266</code>`), strictPolicy)
	tab.wait("window.called && document.querySelectorAll('#prose a').length")
	if got := eval[[]string](tab, `[...document.querySelectorAll("#prose a")].map((a) => a.textContent + " " + a.href)`); !slices.Equal(got, []string{"050 111 2244 tel:+971501112244", "+44 (0)20 7946 0000 tel:+442079460000"}) {
		t.Errorf("the numbers in the text are %q", got)
	}
	if count := eval[int](tab, `document.querySelectorAll("code a, textarea a").length`); count != 0 {
		t.Errorf("%d numbers in code and fields became links", count)
	}
	if text := eval[string](tab, `prose.textContent`); !strings.Contains(text, "Ring 050 111 2244 or +44 (0)20 7946 0000, order 0123456, on 01.02.2026") {
		t.Errorf("the text became %q", text)
	}
	tab.run(`addEventListener("click", (event) => { window.natural = !event.defaultPrevented; event.preventDefault(); });`)
	for _, c := range []struct {
		element string
		number  string // "" leaves the click alone
	}{
		{`getElementById("link")`, "+33176431400"}, {`getElementById("national")`, "+97142223344"}, {`getElementById("short")`, ""}, {`getElementById("span")`, "+97142223355"},
		{`getElementById("data")`, "+971501112233"}, {`querySelector("#prose a")`, "+971501112244"}, {`getElementById("field")`, ""},
	} {
		tab.run(`called.length = 0; document.` + c.element + `.click();`)
		want := []string{}
		if c.number != "" {
			want = []string{c.number}
		}
		if got := eval[[]string](tab, "called"); !slices.Equal(got, want) || eval[bool](tab, "natural") != (c.number == "") {
			t.Errorf("a click on %s calls %q, want %q", c.element, got, want)
		}
	}
	tab.run(`called.length = 0; document.getElementById("span").dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true }));`)
	if got := eval[[]string](tab, "called"); !slices.Equal(got, []string{"+97142223355"}) {
		t.Errorf("Enter calls %q", got)
	}
	// What the page adds later is found, too.
	tab.run(`const p = document.createElement("p"); p.id = "later"; p.textContent = "Or 050 111 2277"; document.body.append(p);`)
	tab.wait(`document.querySelector("#later a")`)
	// Without the web phone a link stays a link.
	tab.run(`called.length = 0; delete window["_jorel-callPhoneNumber"]; document.getElementById("link").click();`)
	if !eval[bool](tab, "natural && called.length === 0") {
		t.Error("without a web phone the click was swallowed")
	}
	tab.fine()
}

const (
	oneCustomer  = `{"status":"found","url":"https://acme-crm.example.com/customers/7","number":"+971501112233","customers":[{"connection":"kustomer","id":"7","name":"Amal Haddad","url":"https://acme-crm.example.com/customers/7","matchedBy":"phone"}]}`
	twoCustomers = `{"status":"many","url":"","number":"+971501112233","customers":[{"connection":"kustomer","id":"7","name":"Amal Haddad","url":"https://acme-crm.example.com/customers/7","matchedBy":"phone"},{"connection":"zendesk","id":"8","name":"Haddad & Sons <b>","url":"https://acme-crm.example.com/users/8","matchedBy":"phone"}]}`
	noCustomer   = `{"status":"none","url":"https://acme-crm.example.com/search?q=0501112233","number":"+971501112233","customers":[]}`
	seventh      = "https://acme-crm.example.com/customers/7"
)

// agents opens a page with the pop-up of a site.
func agents(t *testing.T, w *world, site, head string) *tab {
	t.Helper()
	name := strings.NewReplacer("/", "-", " ", "-", "'", "").Replace(t.Name())
	tab := w.open(t, "https://agents.example.com/"+name+"-"+site, sitePageOf(head+embed(web.Popup, site, `data-token="short-lived"`), ""))
	return tab
}

func popupEveryFamily(t *testing.T, w *world) {
	for name, ring := range map[string]string{
		"Jorel":  `ring("_jorel-dialog-state-ringing", { callID: "c1", primaryCallID: "p1", customerNumber: "+971501112233", direction: "inbound" })`,
		"core":   `ring("ziwo-early", { callID: "c1", customerNumber: "+971501112233", direction: "outbound" })`,
		"plugin": `ring("ziwo-call-ringing", { type: "ringing", call: { callId: "c1", direction: "inbound", participants: [{ number: "1001", isInternal: true }, { number: "+971501112233", isInternal: false }], origin: { number: "1001" } } })`,
		"origin": `ring("ziwo-call-ringing", { type: "ringing", call: { callId: "c1", vertoPrimaryCallId: "p1", direction: "inbound", participants: [], origin: { number: "+971501112233" } } })`,
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			w.resolve(func(out http.ResponseWriter, req *http.Request) {
				asked = append(asked, req.Method+" "+req.URL.Query().Encode())
				out.Header().Set("Access-Control-Allow-Origin", req.Header.Get("Origin"))
				fmt.Fprint(out, oneCustomer)
			})
			tab := agents(t, w, "crm", "")
			tab.run(ring, asClick)
			tab.wait("popups.length")
			tab.shows(seventh)
			opens := eval[[]map[string]any](tab, "opens")
			if len(opens) != 2 || opens[0]["url"] != "" || opens[0]["name"] != "calltracker-crm" || opens[1]["url"] != seventh || opens[1]["name"] != "calltracker-crm" {
				t.Errorf("%s opens %v", name, opens)
			}
			if want := []string{"GET number=%2B971501112233&site=crm&token=short-lived"}; !slices.Equal(asked, want) {
				t.Errorf("%s asks %q, want %q", name, asked, want)
			}
			if got := eval[map[string]any](tab, "popups[0]"); got["status"] != "found" || got["url"] != seventh || got["number"] != "+971501112233" || got["site"] != "crm" {
				t.Errorf("%s tells the page %v", name, got)
			}
			tab.fine()
		})
	}
}

func popupOnce(t *testing.T, w *world) {
	w.answer(200, oneCustomer, nil)
	tab := agents(t, w, "crm", embed(web.Popup, "crm", "")+embed(web.Popup, "pop-only", ""))
	tab.run(`
		for (const family of ["_jorel-dialog-state-", "ziwo-"]) for (const state of ["ringing", "early", "ringing", "answering", "active"])
			ring(family + state, { callID: "leg-1", customerNumber: "+971501112233", direction: "inbound" });
		ring("_jorel-dialog-state-ringing", { callID: "leg-1", primaryCallID: "first", customerNumber: "+971501112233", direction: "inbound" });
		ring("_jorel-dialog-state-ringing", { callID: "leg-2", primaryCallID: "first", customerNumber: "+971501112233", direction: "inbound" });
		ring("ziwo-call-ringing", { call: { callId: "leg-2", vertoPrimaryCallId: "first", direction: "inbound", origin: { number: "+971501112233" } } });`, asClick)
	tab.shows(seventh)
	// Another call, so that whatever the first ones led to has happened by then.
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "other", customerNumber: "+971501112244", direction: "inbound" });`, asClick)
	tab.wait("popups.length > 1")
	if got := eval[[]string](tab, "popups.map((p) => p.callID)"); !slices.Equal(got, []string{"leg-1", "other"}) {
		t.Errorf("the page heard of %q", got)
	}
	tab.shows(seventh) // one window for both
	// The page is loaded again while the phone rings.
	tab.navigate(eval[string](tab, "location.href"))
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "other", customerNumber: "+971501112244" }); ring("_jorel-dialog-state-ringing", { callID: "third", customerNumber: "+971501112255" });`, asClick)
	tab.wait("popups.length")
	if got := eval[[]string](tab, "popups.map((p) => p.callID)"); !slices.Equal(got, []string{"third"}) {
		t.Errorf("after a reload the page heard of %q", got)
	}
	// Calls without any id are told by their number.
	tab.run(`ring("ziwo-ringing", { customerNumber: "+971501112266" }); ring("_jorel-dialog-state-ringing", { customerNumber: "+971501112266" }); ring("ziwo-ringing", { callID: "last", customerNumber: "+971501112277" });`, asClick)
	tab.wait("popups.length > 2")
	if got := eval[[]string](tab, "popups.map((p) => p.number)"); !slices.Equal(got, []string{"+971501112255", "+971501112266", "+971501112277"}) {
		t.Errorf("without ids the page heard of %q", got)
	}
	tab.fine()
}

func popupSkips(t *testing.T, w *world) {
	w.answer(200, oneCustomer, nil)
	before := w.asked()
	tab := agents(t, w, "crm", "")
	tab.run(`
		ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "internal" });
		ring("_jorel-dialog-state-ringing", { callID: "2", customerNumber: "+971501112233", direction: "service" });
		ring("_jorel-dialog-state-ringing", { callID: "3", customerNumber: "1001", direction: "inbound" });
		ring("_jorel-dialog-state-ringing", { callID: "4", customerNumber: "agent-0029", direction: "inbound" });
		ring("_jorel-dialog-state-ringing", { callID: "5", customerNumber: "anonymous", direction: "inbound" });
		ring("_jorel-dialog-state-ringing", { callID: "6", customerNumber: "", direction: "inbound" });
		ring("_jorel-dialog-state-ringing", null);
		ring("_jorel-dialog-state-ringing", { callID: {}, customerNumber: [], direction: 7 });
		ring("ziwo-call-ringing", { call: { callId: "7", direction: "internal", participants: [{ number: "1002", isInternal: true }] } });
		ring("_jorel-dialog-state-active", { callID: "8", customerNumber: "+971501112233", direction: "inbound" });
		ring("_jorel-dialog-state-ringing", { callID: "9", customerNumber: "+971501112233", direction: "inbound" });`, asClick)
	tab.wait("popups.length")
	if got := eval[[]string](tab, "popups.map((p) => p.callID)"); !slices.Equal(got, []string{"9"}) {
		t.Errorf("calls %q popped up", got)
	}
	if asked := w.asked() - before; asked != 1 {
		t.Errorf("the resolver was asked %d times", asked)
	}
	tab.fine()
}

// cardText is what the card says; its links are apart.
const cardText = `document.querySelector("calltracker-card")?.shadowRoot.querySelector("section").innerText.replace(/\s+/g, " ").trim()`
const cardLinks = `[...document.querySelector("calltracker-card").shadowRoot.querySelectorAll("a")].map((a) => a.textContent + " " + a.href)`

func popupBlocked(t *testing.T, w *world) {
	w.answer(200, oneCustomer, nil)
	tab := agents(t, w, "crm", "")
	// Nobody clicked anything: the browser opens no window.
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`)
	tab.wait(`document.querySelector("calltracker-card")`)
	if opens := eval[[]map[string]any](tab, "opens"); len(opens) == 0 || opens[0]["blocked"] != true {
		t.Fatalf("this browser blocks no window: %v", opens)
	}
	if got := eval[string](tab, cardText); got != "Incoming call +971501112233 × Amal Haddad kustomer" {
		t.Errorf("the card says %q", got)
	}
	if got := eval[[]string](tab, cardLinks); !slices.Equal(got, []string{"Amal Haddadkustomer " + seventh}) {
		t.Errorf("the card links %q", got)
	}
	tab.shoot("card")
	tab.run(`document.querySelector("calltracker-card").shadowRoot.querySelector("a").click()`, asClick)
	tab.shows(seventh)
	tab.run(`document.querySelector("calltracker-card").shadowRoot.querySelector("button").click()`)
	if eval[bool](tab, `Boolean(document.querySelector("calltracker-card"))`) {
		t.Error("the card does not close")
	}
	tab.fine()

	arabic := w.open(t, "https://agents.example.com/blocked-arabic", strings.Replace(sitePageOf(embed(web.Popup, "crm", ""), ""), `lang="en"`, `lang="ar" dir="rtl"`, 1))
	arabic.run(`ring("_jorel-dialog-state-ringing", { callID: "2", customerNumber: "+971501112233", direction: "inbound" })`)
	arabic.wait(`document.querySelector("calltracker-card")?.dir === "rtl"`)
	if got := eval[string](arabic, cardText); !strings.Contains(got, "مكالمة واردة") {
		t.Errorf("the Arabic card says %q", got)
	}
	if widths := eval[[]float64](arabic, "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"); widths[0] > widths[1] {
		t.Errorf("the card makes the page %v px wide, in a window of %v", widths[0], widths[1])
	}
	arabic.shoot("card-arabic")
}

func popupChooser(t *testing.T, w *world) {
	w.answer(200, twoCustomers, nil)
	tab := agents(t, w, "crm", "")
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`, asClick)
	tab.wait(`document.querySelector("calltracker-card")`)
	if got := eval[string](tab, cardText); got != "Incoming call +971501112233 × Several customers have this number Amal Haddad kustomer Haddad & Sons <b> zendesk" {
		t.Errorf("the chooser says %q", got)
	}
	// The window that was opened ahead is gone.
	tab.until("closing the blank window", func() bool { return len(tab.windows()) == 1 })
	tab.shoot("chooser")
	tab.run(`document.querySelector("calltracker-card").shadowRoot.querySelectorAll("a")[1].click()`, asClick)
	tab.shows("https://acme-crm.example.com/users/8")

	// This site takes the first, and wants a card for it.
	first := agents(t, w, "pop-only", "")
	first.run(`ring("ziwo-early", { callID: "1", customerNumber: "+971501112233", direction: "outbound" })`, asClick)
	first.wait(`document.querySelector("calltracker-card")`)
	if opens := eval[[]any](first, "opens"); len(opens) != 0 {
		t.Errorf("a site with cards opens %v", opens)
	}
	if got := eval[string](first, cardText); !strings.HasPrefix(got, "Outgoing call") {
		t.Errorf("the card says %q", got)
	}
	tab.fine()
	first.fine()
}

func popupNoneAndUnavailable(t *testing.T, w *world) {
	ring := `ring("_jorel-dialog-state-ringing", { callID: String(Math.random()), customerNumber: "+971501112233", direction: "inbound" })`
	for name, c := range map[string]struct {
		status          int
		body, crm, card string // where the window of the site crm goes, else what its card says
	}{
		"nobody":                  {200, noCustomer, "https://acme-crm.example.com/search?q=0501112233", ""},
		"nobody, nowhere":         {200, `{"status":"none","url":"","customers":[]}`, "", "Incoming call +971501112233 × No customer has this number"},
		"unavailable":             {200, `{"status":"unavailable","url":"https://acme-crm.example.com/search","customers":[]}`, "https://acme-crm.example.com/search", ""},
		"wrong key":               {401, `{"status":401}`, "", "Incoming call +971501112233 × The customer could not be looked up"},
		"broken":                  {500, `<h1>Oh</h1>`, "", "Incoming call +971501112233 × The customer could not be looked up"},
		"not JSON":                {200, `<h1>Oh</h1>`, "", "Incoming call +971501112233 × The customer could not be looked up"},
		"an address that is code": {200, `{"status":"found","url":"javascript:alert(1)","customers":[{"name":"x","url":"http://acme-crm.example.com/"}]}`, "", "Incoming call +971501112233 ×"},
	} {
		t.Run(name, func(t *testing.T) {
			w.answer(c.status, c.body, nil)
			tab := agents(t, w, "crm", "")
			tab.run(ring, asClick)
			tab.wait("popups.length")
			if c.crm != "" {
				tab.shows(c.crm)
			} else {
				tab.wait(`document.querySelector("calltracker-card")`)
				if got := eval[string](tab, cardText); got != c.card {
					t.Errorf("the card says %q, want %q", got, c.card)
				}
				tab.until("closing the blank window", func() bool { return len(tab.windows()) == 1 })
			}
			tab.fine()
			// A site that wants nothing then gets nothing.
			if !strings.Contains(c.body, "javascript:") {
				quiet := agents(t, w, "pop-only", "")
				quiet.run(ring, asClick)
				quiet.wait("popups.length")
				if eval[bool](quiet, `Boolean(document.querySelector("calltracker-card")) || opens.length > 0`) {
					t.Error("a site that wants nothing got something")
				}
			}
		})
	}
}

// The answer to an older call comes after that of a newer one: it must not take
// its window.
func popupSlow(t *testing.T, w *world) {
	release := make(chan struct{})
	w.resolve(func(out http.ResponseWriter, req *http.Request) {
		out.Header().Set("Access-Control-Allow-Origin", req.Header.Get("Origin"))
		if req.URL.Query().Get("number") == "+971501112233" {
			select {
			case <-release:
			case <-req.Context().Done():
				return
			}
			fmt.Fprint(out, oneCustomer)
			return
		}
		fmt.Fprint(out, strings.ReplaceAll(oneCustomer, "customers/7", "customers/9"))
	})
	tab := agents(t, w, "crm", "")
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`, asClick)
	// The window is there before the answer, and says what it waits for.
	if opens := eval[[]map[string]any](tab, "opens"); len(opens) != 1 || opens[0]["url"] != "" || opens[0]["blocked"] != false {
		t.Errorf("before the answer: %v", opens)
	}
	if title := eval[string](tab, `realOpen.call(window, "", "calltracker-crm").document.title`); title != "Looking up +971501112233" {
		t.Errorf("the waiting window is titled %q", title)
	}
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "2", customerNumber: "+971501112244", direction: "inbound" })`, asClick)
	tab.shows("https://acme-crm.example.com/customers/9")
	close(release)
	tab.wait(`document.querySelector("calltracker-card")`)
	if got := eval[string](tab, cardText); got != "Incoming call +971501112233 × Amal Haddad kustomer" {
		t.Errorf("the late answer shows %q", got)
	}
	tab.shows("https://acme-crm.example.com/customers/9")
	tab.fine()

	// No answer at all: patience ends.
	w.answer(200, oneCustomer, make(chan struct{}))
	never := agents(t, w, "crm", "")
	never.run(`ring("_jorel-dialog-state-ringing", { callID: "3", customerNumber: "+971501112233", direction: "inbound" })`)
	never.wait(`document.querySelector("calltracker-card")`)
	if got := eval[string](never, cardText); !strings.Contains(got, "could not be looked up") {
		t.Errorf("without an answer the card says %q", got)
	}
}

func popupOwnFunction(t *testing.T, w *world) {
	before := w.asked()
	for name, c := range map[string]struct{ function, opens string }{
		"text":     {`(number) => "https://acme-crm.example.com/own?n=" + encodeURIComponent(number)`, "https://acme-crm.example.com/own?n=%2B971501112233"},
		"promise":  {`async (number) => "https://acme-crm.example.com/own/" + number.length`, "https://acme-crm.example.com/own/13"},
		"relative": {`() => "/people/7"`, "https://agents.example.com/people/7"},
		"throws":   {`() => { throw new Error("no") }`, ""},
		"rejects":  {`() => Promise.reject(new Error("no"))`, ""},
		"empty":    {`() => ""`, ""},
		"code":     {`() => "javascript:failures.push('ran')"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tab := agents(t, w, "crm", "<script>window.getCrmUrlFromPhoneNumber = "+c.function+"</script>")
			tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`, asClick)
			tab.wait("popups.length")
			if c.opens != "" {
				tab.shows(c.opens)
			} else {
				tab.wait(`document.querySelector("calltracker-card")`)
				tab.until("closing the blank window", func() bool { return len(tab.windows()) == 1 })
			}
			tab.fine()
		})
	}
	if asked := w.asked() - before; asked != 0 {
		t.Errorf("the resolver was asked %d times all the same", asked)
	}
}

func popupLeftToThePage(t *testing.T, w *world) {
	w.answer(200, oneCustomer, nil)
	tab := agents(t, w, "crm", `<script>addEventListener("calltracker-popup", (event) => event.preventDefault())</script>`)
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`, asClick)
	tab.wait("popups.length")
	tab.until("closing the blank window", func() bool { return len(tab.windows()) == 1 })
	if eval[bool](tab, `Boolean(document.querySelector("calltracker-card"))`) {
		t.Error("a page that handles the call itself got a card, too")
	}
	tab.fine()
}

func popupStrictPolicy(t *testing.T, w *world) {
	w.answer(200, twoCustomers, nil)
	tab := w.openUnder(t, "https://agents.example.com/strict", sitePageOf(embed(web.Jorel, "crm", ""), ""), strictPolicy)
	tab.wait("window.jorelLoads")
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`)
	tab.wait(`document.querySelector("calltracker-card")`)
	if width := eval[float64](tab, `document.querySelector("calltracker-card").shadowRoot.querySelector("section").getBoundingClientRect().width`); width != 300 {
		t.Errorf("the card is %v px wide: its styles were blocked", width)
	}
	tab.fine()
}

func popupHostile(t *testing.T, w *world) {
	evil := `{"status":"many","url":{},"customers":[null,7,"x",{"name":"<img src=x onerror=failures.push(1)>","url":"https://acme-crm.example.com/\"><script>"},{"name":{},"url":"data:text/html,x"},{"name":"b","url":"https://acme-crm.example.com/b","connection":["<b>"]}]}`
	w.answer(200, evil, nil)
	tab := agents(t, w, "crm", "")
	tab.run(`localStorage.setItem("calltracker-calls", '{"not":"a list"}'); ring("_jorel-dialog-state-ringing", { callID: "<b>", customerNumber: "+971501112233<b>" });
		ring("_jorel-dialog-state-ringing", { callID: 1, customerNumber: 971501112233, direction: "inbound" });`)
	tab.wait(`document.querySelector("calltracker-card")`)
	if got := eval[[]string](tab, cardLinks); !slices.Equal(got, []string{`<img src=x onerror=failures.push(1)> https://acme-crm.example.com/%22%3E%3Cscript%3E`, "b https://acme-crm.example.com/b"}) {
		t.Errorf("the card links %q", got)
	}
	tab.run(`localStorage.setItem("calltracker-calls", "][")`)
	tab.run(`Object.defineProperty(window, "localStorage", { get() { throw new Error("no storage") } }); ring("_jorel-dialog-state-ringing", { callID: "2", customerNumber: "+971501112244" })`)
	tab.wait("popups.length === 2")
	tab.fine()
}

func siteOwnersPage(t *testing.T, w *world) {
	tab := w.tab(t)
	tab.navigate("https://calls.example.com/sites/shop")
	shown := `[...document.querySelectorAll(".page")].filter((p) => !p.hidden).map((p) => p.lang + " " + p.dir + " " + p.innerText.replace(/\s+/g, " ").trim())`
	if got := eval[[]string](tab, shown); len(got) != 1 || !strings.HasPrefix(got[0], "en ltr Leave your number") || !strings.Contains(got[0], "Ring me") || strings.Contains(got[0], "closed") {
		t.Errorf("the preview shows %q", got)
	}
	tab.shoot("site")
	tab.run(`document.querySelector("button[data-language=ar]").click(); document.querySelector("button[data-state=offline]").click();`)
	if got := eval[[]string](tab, shown); len(got) != 1 || got[0] != "ar rtl "+web.Texts()["ar"]["offlineButtonTooltip"]+" ✆" {
		t.Errorf("the Arabic preview shows %q", got)
	}
	tab.run(`document.querySelector("button[data-state=open]").click()`)
	tab.shoot("site-arabic")
	// The clipboard may be closed to a page; then the line is selected.
	tab.run(`window.copied = ""; Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { window.copied = text } }, configurable: true }); document.querySelector(".copy").click();`)
	tab.wait(`copied === '<script src="http://localhost:8080/webcallback/shop.js" async></'+'script>'`)
	tab.run(`Object.defineProperty(navigator, "clipboard", { value: { writeText: async () => { throw new Error("no") } } }); document.querySelector("details").open = true; document.querySelectorAll(".copy")[1].click();`)
	tab.wait(`getSelection().toString().includes("integrity=")`)
	tab.fine()
	crm := w.tab(t)
	crm.navigate("https://calls.example.com/sites/crm")
	crm.shoot("site-crm")
	crm.fine()
}

// The figure that agents feel: from the ringing event to window.open with the
// customer's page, when the server knows the customer already.
func popupSpeed(t *testing.T, w *world) {
	w.answer(200, oneCustomer, nil)
	tab := agents(t, w, "crm", "")
	const rings = 50
	times := eval[[]float64](tab, fmt.Sprintf(`(async () => {
		const times = [];
		for (let i = 0; i < %d; i++) {
			const heard = new Promise((resolve) => addEventListener("calltracker-popup", resolve, { once: true }));
			const count = opens.length;
			const loaded = new Promise((resolve) => addEventListener("message", resolve, { once: true }));
			const start = performance.now();
			ring("_jorel-dialog-state-ringing", { callID: "call-" + i, customerNumber: "+971501112233", direction: "inbound" });
			await heard; // the window is opened before anything else runs
			times.push(opens.slice(count).find((o) => o.url).at - start);
			await loaded; // as any agent's browser has, before the next call
		}
		return times;
	})()`, rings), asClick)
	slices.Sort(times)
	at := func(share float64) time.Duration {
		return time.Duration(times[int(share*float64(len(times)-1))] * float64(time.Millisecond)).Round(10 * time.Microsecond)
	}
	fmt.Printf("ringing to window.open, cached customer, %d calls: p50 %v, p95 %v, p99 %v\n", rings, at(.5), at(.95), at(.99))
	if len(times) != rings {
		t.Errorf("%d of %d calls opened the customer", len(times), rings)
	}
}
