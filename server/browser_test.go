package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// These limits are long because browsers are slow on a busy machine.
const (
	browserStart = 90 * time.Second
	browserStep  = 30 * time.Second
)

// testBrowser is a browser and a simulated Internet. The browser resolves every host
// name to one test server, which serves websites, Ziwo's scripts, and CRM pages, and
// forwards calls.example.com to a calltracker server.
type testBrowser struct {
	h       *harness
	web     *httptest.Server
	browser context.Context //nolint:containedctx // chromedp represents a browser as a context

	mutex    sync.Mutex
	pages    map[string]sitePage         // by host and path
	resolver http.HandlerFunc            // replaces /crm/url unless nil
	hosts    map[string]http.HandlerFunc // replace the default behavior of a host
	served   map[string]int              // requests, by host and path
}

type sitePage struct {
	html   string
	policy string // Content-Security-Policy
}

// newTestBrowser starts a server and a browser, which stop when the test ends.
func newTestBrowser(t *testing.T, document string) *testBrowser {
	t.Helper()
	return newTestBrowserFor(t, serve(t, document))
}

// newTestBrowserFor starts a browser for a running server.
func newTestBrowserFor(t *testing.T, h *harness) *testBrowser {
	t.Helper()
	chromium := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			chromium = path
			break
		}
	}
	if chromium == "" {
		t.Fatal("Chromium not found; `make test` installs it on Debian as root")
	}
	w := &testBrowser{h: h, pages: map[string]sitePage{}, hosts: map[string]http.HandlerFunc{}, served: map[string]int{}}
	w.web = httptest.NewUnstartedServer(http.HandlerFunc(w.serve))
	w.web.Config.ErrorLog = log.New(io.Discard, "", 0) // discards errors of Chromium's requests to Google
	w.web.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	w.web.StartTLS()
	t.Cleanup(w.web.Close)

	ctx, stop := chromedp.NewExecAllocator(context.WithoutCancel(t.Context()),
		chromedp.ExecPath(chromium), chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(browserStart), chromedp.WindowSize(1000, 700),
		chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.IgnoreCertErrors,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-extensions", true), chromedp.Flag("disable-background-timer-throttling", true),
		chromedp.Flag("disable-renderer-backgrounding", true), chromedp.Flag("disable-backgrounding-occluded-windows", true),
		chromedp.Flag("hide-scrollbars", true), chromedp.Flag("accept-lang", "en-US"),
		// Every host name resolves to the test server, so no request reaches the Internet.
		chromedp.Flag("host-resolver-rules", "MAP * "+w.web.Listener.Addr().String()),
	)
	t.Cleanup(stop)
	browser, quit := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		bounded, cancel := context.WithTimeout(browser, browserStep)
		defer cancel()
		if err := chromedp.Cancel(bounded); err != nil {
			t.Logf("close the browser: %v", err)
		}
		quit()
	})
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start %s: %v", chromium, err)
	}
	w.browser = browser
	return w
}

// serve answers all requests of the browser.
func (w *testBrowser) serve(out http.ResponseWriter, req *http.Request) {
	host, _, _ := strings.Cut(req.Host, ":")
	w.mutex.Lock()
	w.served[host+req.URL.Path]++
	p, known := w.pages[host+req.URL.Path]
	resolver, handler := w.resolver, w.hosts[host]
	w.mutex.Unlock()
	switch {
	case handler != nil:
		handler(out, req)
	case host == "calls.example.com" && req.URL.Path == "/crm/url" && resolver != nil:
		resolver(out, req)
	case host == "calls.example.com":
		forwardTo(w.h.base)(out, req)
	case host == "webcallback.ziwo.io" && req.URL.Path == "/master/latest/webcallback.js":
		out.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(out, fakeWebCallback)
	case host == "jorel.ziwo.io" && req.URL.Path == "/master/latest/jorel.js":
		out.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(out, fakeJorel)
	case known:
		out.Header().Set("Content-Type", "text/html; charset=utf-8")
		if p.policy != "" {
			out.Header().Set("Content-Security-Policy", p.policy)
		}
		fmt.Fprint(out, p.html)
	case host == "acme-crm.example.com", host == "acme.kustomerapp.com":
		out.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(out, "<!doctype html><title>%s</title><h1>CRM</h1><script>opener?.postMessage('loaded', '*')</script>", req.URL.Path)
	default:
		http.NotFound(out, req)
	}
}

// forwardTo returns a handler that forwards requests to the server at base.
func forwardTo(base string) http.HandlerFunc {
	return func(out http.ResponseWriter, req *http.Request) {
		to, err := url.Parse(base)
		if err != nil {
			http.Error(out, err.Error(), http.StatusInternalServerError)
			return
		}
		(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}).ServeHTTP(out, req)
	}
}

// handleHost makes handler answer the requests for a host until the test ends.
func (w *testBrowser) handleHost(t *testing.T, name string, handler http.HandlerFunc) {
	t.Helper()
	set := func(handler http.HandlerFunc) {
		w.mutex.Lock()
		defer w.mutex.Unlock()
		w.hosts[name] = handler
	}
	set(handler)
	t.Cleanup(func() { set(nil) })
}

// resolverRequests returns the number of requests for /crm/url.
func (w *testBrowser) resolverRequests() int { return w.count("calls.example.com/crm/url") }

// count returns the number of requests for an address, which is a host and a path.
func (w *testBrowser) count(address string) int {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.served[address]
}

// answer makes /crm/url answer with a status and a body. If release is not nil, the
// answer waits until it is closed.
func (w *testBrowser) answer(status int, body string, release <-chan struct{}) {
	w.setResolver(func(out http.ResponseWriter, req *http.Request) {
		if release != nil {
			select {
			case <-release:
			case <-req.Context().Done():
				return
			}
		}
		out.Header().Set("Access-Control-Allow-Origin", req.Header.Get("Origin"))
		out.Header().Set("Content-Type", "application/json")
		out.WriteHeader(status)
		fmt.Fprint(out, body)
	})
}

// setResolver makes handler answer the requests for /crm/url.
func (w *testBrowser) setResolver(handler http.HandlerFunc) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.resolver = handler
}

// The fake scripts behave as Ziwo's developer page describes Ziwo's scripts, whose
// code is not public: https://www.ziwo.io/api-integration-developers/

// fakeWebCallback creates the two elements that the page names and displays the texts
// of the configuration. It stores each configuration in ziwoConfigs.
const fakeWebCallback = `(() => {
  window.ziwoConfigs = [];
  const meta = document.createElement("meta");
  meta.id = "webcallbackConfig";
  const root = document.createElement("div");
  root.id = "__webcallback";
  new MutationObserver(() => {
    const config = JSON.parse(meta.content);
    window.ziwoConfigs.push(config);
    root.title = config.customTexts[config.offline ? "offlineButtonTooltip" : "mainButtonTooltip"];
    root.textContent = config.customTexts.formButton;
  }).observe(meta, { attributes: true });
  document.head.append(meta);
  const add = () => document.body.append(root);
  document.body ? add() : document.addEventListener("DOMContentLoaded", add);
})();`

// fakeJorel stores the settings that it finds in localStorage in jorelSettings, and
// the numbers that it is asked to dial in called.
const fakeJorel = `
window.jorelLoads = (window.jorelLoads || 0) + 1;
window.jorelSettings = Object.fromEntries(Object.entries(localStorage).filter(([key]) => key.startsWith("_jorel-")));
window.called = [];
window["_jorel-callPhoneNumber"] = (number) => window.called.push(number);
`

// tab is a browser tab. It shares no storage with other tabs.
type tab struct {
	t   *testing.T
	w   *testBrowser
	ctx context.Context //nolint:containedctx // chromedp represents a tab as a context

	mutex    sync.Mutex
	messages []string // console messages
}

// prelude runs in each page before other scripts. It records opened windows, errors,
// and popup events.
const prelude = `
window.opens = [];
window.failures = [];
addEventListener("error", (event) => failures.push(String(event.message)));
addEventListener("unhandledrejection", (event) => failures.push(String(event.reason)));
document.addEventListener("securitypolicyviolation", (event) => failures.push(event.violatedDirective + " " + event.blockedURI));
const realOpen = window.open;
window.open = (url, name) => {
  const opened = realOpen.call(window, url, name);
  opens.push({ url: String(url), name, blocked: !opened, at: performance.now() });
  return opened;
};
window.popups = [];
addEventListener("calltracker-popup", (event) => popups.push(event.detail));
window.ring = (name, detail) => dispatchEvent(new CustomEvent(name, { detail }));
`

// tab opens an empty tab.
func (w *testBrowser) tab(t *testing.T) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(w.browser, chromedp.WithNewBrowserContext())
	t.Cleanup(cancel)
	tb := &tab{t: t, w: w, ctx: ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	console := chromedp.Console(ctx)
	done := make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for m, err := range console {
			if err != nil {
				return
			}
			tb.mutex.Lock()
			tb.messages = append(tb.messages, m.Text)
			tb.mutex.Unlock()
		}
	}()
	tb.addInitScript(prelude)
	return tb
}

// addInitScript makes each page that the tab loads run statements before other scripts.
func (tb *tab) addInitScript(statements string) {
	tb.t.Helper()
	if _, err := chromedp.Call(tb.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: statements}); err != nil {
		tb.t.Fatal(err)
	}
}

// open serves html at an address and loads it in a new tab.
func (w *testBrowser) open(t *testing.T, address, html string) *tab {
	t.Helper()
	return w.openWithPolicy(t, address, html, "")
}

// openWithPolicy is open with a Content-Security-Policy.
func (w *testBrowser) openWithPolicy(t *testing.T, address, html, policy string) *tab {
	t.Helper()
	w.mutex.Lock()
	w.pages[strings.TrimPrefix(address, "https://")] = sitePage{html: html, policy: policy}
	w.mutex.Unlock()
	tb := w.tab(t)
	tb.navigate(address)
	return tb
}

func (tb *tab) navigate(address string) {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, browserStep)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Navigate(address)); err != nil {
		tb.t.Fatalf("open %s: %v", address, err)
	}
}

// eval evaluates an expression in the page and decodes its value. If the value is a
// promise, eval waits for its result.
func eval[T any](tb *tab, expression string, options ...chromedp.EvaluateOption) T {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, browserStep)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("(async () => JSON.stringify((await ("+expression+")) ?? null))()", append(options, chromedp.EvalAwaitPromise)...))
	if err != nil {
		tb.t.Fatalf("evaluate %s: %v\nconsole: %q", expression, err, tb.console())
	}
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		tb.t.Fatalf("decode %s, the value of %s: %v", text, expression, err)
	}
	return v
}

// asClick makes the browser treat an evaluation as a user gesture.
func asClick(p *runtime.EvaluateParams) { p.UserGesture = new(true) }

// run runs statements in the page.
func (tb *tab) run(statements string, options ...chromedp.EvaluateOption) {
	tb.t.Helper()
	eval[any](tb, "(() => {"+statements+"})()", options...)
}

// wait waits until an expression is true. It does not use chromedp's polling, which
// counts as a user gesture and so lets pages open windows.
func (tb *tab) wait(expression string) {
	tb.t.Helper()
	tb.waitFor(expression, func() bool { return eval[bool](tb, "Boolean("+expression+")") })
}

// console returns the console messages so far.
func (tb *tab) console() []string {
	tb.mutex.Lock()
	defer tb.mutex.Unlock()
	return append([]string{}, tb.messages...)
}

// wantNoErrors checks that the page has no script error and no violation of its policy.
func (tb *tab) wantNoErrors() {
	tb.t.Helper()
	if failures := eval[[]string](tb, "window.failures"); len(failures) > 0 {
		tb.t.Errorf("page has errors: %q", failures)
	}
}

// waitForConsole waits for a console message that contains part.
func (tb *tab) waitForConsole(part string) {
	tb.t.Helper()
	tb.waitFor(fmt.Sprintf("a console message with %q", part), func() bool {
		return strings.Contains(strings.Join(tb.console(), "\n"), part)
	})
}

// waitFor waits until done returns true.
func (tb *tab) waitFor(what string, done func() bool) {
	tb.t.Helper()
	deadline := time.After(browserStep)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			tb.t.Fatalf("timed out after %v waiting for %s\nconsole: %q", browserStep, what, tb.console())
		case <-tick.C:
		}
	}
}

// windows returns the addresses of the tab and of the windows that it opened.
func (tb *tab) windows() []string {
	tb.t.Helper()
	infos, err := chromedp.Targets(tb.ctx)
	if err != nil {
		tb.t.Fatal(err)
	}
	own := ""
	for _, info := range infos {
		if info.TargetID == chromedp.FromContext(tb.ctx).Target.TargetID {
			own = string(info.BrowserContextID)
		}
	}
	var out []string
	for _, info := range infos {
		if info.Type == "page" && string(info.BrowserContextID) == own {
			out = append(out, info.URL)
		}
	}
	return out
}

// waitForWindow waits until the tab has exactly one other window and it has the address.
func (tb *tab) waitForWindow(address string) {
	tb.t.Helper()
	tb.waitFor(fmt.Sprintf("a window with %s (windows so far: %q)", address, tb.windows()), func() bool {
		windows := tb.windows()
		return len(windows) == 2 && (windows[0] == address || windows[1] == address)
	})
}

// screenshot saves screenshots of the page, with a light and a dark color scheme, to
// artifacts/. If the page is longer than the window, they show the whole page.
// (Chromium shifts full screenshots of right-to-left pages.)
func (tb *tab) screenshot(name string) {
	tb.t.Helper()
	picture := chromedp.CaptureScreenshot()
	if eval[bool](tb, "document.documentElement.scrollHeight > innerHeight") {
		picture = chromedp.FullScreenshot(100)
	}
	for _, scheme := range []string{"light", "dark"} {
		if _, err := chromedp.Call(tb.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		}); err != nil {
			tb.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(tb.ctx, browserStep)
		shot, err := chromedp.Run(ctx, picture)
		cancel()
		if err != nil {
			tb.t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join("..", "artifacts"), 0o755); err != nil {
			tb.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("..", "artifacts", name+"-"+scheme+".png"), shot, 0o644); err != nil {
			tb.t.Fatal(err)
		}
	}
}
