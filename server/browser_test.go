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

// A browser is slow to start on a busy machine, and everything else is slow in it.
const (
	browserStart = 90 * time.Second
	browserStep  = 30 * time.Second
)

// world is a browser with all of its Internet: whatever host it asks for, it
// gets the server of the test, which plays websites, Ziwo's script hosts, CRMs,
// and passes calls.example.com on to a real calltracker.
type world struct {
	h       *harness
	web     *httptest.Server
	browser context.Context //nolint:containedctx // the browser is its context: that is how chromedp has it

	mutex    sync.Mutex
	pages    map[string]sitePage         // by host and path
	resolver http.HandlerFunc            // in place of /crm/url, when it is set
	hosts    map[string]http.HandlerFunc // in place of what a host does by itself
	served   map[string]int              // requests, by host and path
}

type sitePage struct {
	html   string
	policy string // Content-Security-Policy
}

// newWorld starts the browser; it ends with the test.
func newWorld(t *testing.T, document string) *world {
	t.Helper()
	return newWorldOf(t, serve(t, document))
}

// newWorldOf is newWorld with a server that runs already.
func newWorldOf(t *testing.T, h *harness) *world {
	t.Helper()
	chromium := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			chromium = path
			break
		}
	}
	if chromium == "" {
		t.Fatal("there is no Chromium; `make test` installs it on Debian as root")
	}
	w := &world{h: h, pages: map[string]sitePage{}, hosts: map[string]http.HandlerFunc{}, served: map[string]int{}}
	w.web = httptest.NewUnstartedServer(http.HandlerFunc(w.serve))
	w.web.Config.ErrorLog = log.New(io.Discard, "", 0) // what Chromium asks of its maker
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
		// Every name leads here, and nothing leads to the Internet.
		chromedp.Flag("host-resolver-rules", "MAP * "+w.web.Listener.Addr().String()),
	)
	t.Cleanup(stop)
	browser, quit := chromedp.NewContext(ctx)
	t.Cleanup(func() {
		bounded, cancel := context.WithTimeout(browser, browserStep)
		defer cancel()
		if err := chromedp.Cancel(bounded); err != nil {
			t.Logf("the browser did not close well: %v", err)
		}
		quit()
	})
	if err := chromedp.Do(browser); err != nil {
		t.Fatalf("start %s: %v", chromium, err)
	}
	w.browser = browser
	return w
}

func (w *world) serve(out http.ResponseWriter, req *http.Request) {
	host, _, _ := strings.Cut(req.Host, ":")
	w.mutex.Lock()
	w.served[host+req.URL.Path]++
	p, known := w.pages[host+req.URL.Path]
	resolver, instead := w.resolver, w.hosts[host]
	w.mutex.Unlock()
	switch {
	case instead != nil:
		instead(out, req)
	case host == "calls.example.com" && req.URL.Path == "/crm/url" && resolver != nil:
		resolver(out, req)
	case host == "calls.example.com":
		passTo(w.h.base)(out, req)
	case host == "webcallback.ziwo.io" && req.URL.Path == "/master/latest/webcallback.js":
		out.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(out, webCallbackStandIn)
	case host == "jorel.ziwo.io" && req.URL.Path == "/master/latest/jorel.js":
		out.Header().Set("Content-Type", "text/javascript")
		fmt.Fprint(out, jorelStandIn)
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

// passTo hands requests on to a server.
func passTo(base string) http.HandlerFunc {
	return func(out http.ResponseWriter, req *http.Request) {
		to, err := url.Parse(base)
		if err != nil {
			http.Error(out, err.Error(), http.StatusInternalServerError)
			return
		}
		(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }}).ServeHTTP(out, req)
	}
}

// host lets a handler play a host until the test ends.
func (w *world) host(t *testing.T, name string, handler http.HandlerFunc) {
	t.Helper()
	set := func(handler http.HandlerFunc) {
		w.mutex.Lock()
		defer w.mutex.Unlock()
		w.hosts[name] = handler
	}
	set(handler)
	t.Cleanup(func() { set(nil) })
}

// asked counts the requests to the resolver.
func (w *world) asked() int { return w.count("calls.example.com/crm/url") }

// count is of the requests for a host and path.
func (w *world) count(address string) int {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return w.served[address]
}

// answer sets what /crm/url answers: a status and a body, after release is closed.
func (w *world) answer(status int, body string, release <-chan struct{}) {
	w.resolve(func(out http.ResponseWriter, req *http.Request) {
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

func (w *world) resolve(handler http.HandlerFunc) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.resolver = handler
}

// The stand-ins behave as Ziwo's developer page describes its scripts, whose own
// code is not public: https://www.ziwo.io/api-integration-developers/

// webCallbackStandIn makes the two elements that the page names, and shows what
// the configuration says. It keeps each configuration that it was given.
const webCallbackStandIn = `(() => {
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

// jorelStandIn keeps what it finds in localStorage and who it is asked to call.
const jorelStandIn = `
window.jorelLoads = (window.jorelLoads || 0) + 1;
window.jorelSettings = Object.fromEntries(Object.entries(localStorage).filter(([key]) => key.startsWith("_jorel-")));
window.called = [];
window["_jorel-callPhoneNumber"] = (number) => window.called.push(number);
`

// tab is a page in a browser of its own: no storage is shared with other tabs.
type tab struct {
	t   *testing.T
	w   *world
	ctx context.Context //nolint:containedctx // the tab is its context: that is how chromedp has it

	mutex    sync.Mutex
	messages []string // of the console
}

// prelude runs in each page before anything else: it notes what windows open,
// and what goes wrong.
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

func (w *world) tab(t *testing.T) *tab {
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
	tb.before(prelude)
	return tb
}

// before runs statements in each page that the tab opens, before anything else.
func (tb *tab) before(statements string) {
	tb.t.Helper()
	if _, err := chromedp.Call(tb.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: statements}); err != nil {
		tb.t.Fatal(err)
	}
}

// open shows a page at an address whose host the world plays.
func (w *world) open(t *testing.T, address, html string) *tab {
	t.Helper()
	return w.openUnder(t, address, html, "")
}

func (w *world) openUnder(t *testing.T, address, html, policy string) *tab {
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

// eval runs an expression in the page and decodes what it gives, a promise's
// value included.
func eval[T any](tb *tab, expression string, options ...chromedp.EvaluateOption) T {
	tb.t.Helper()
	ctx, cancel := context.WithTimeout(tb.ctx, browserStep)
	defer cancel()
	text, err := chromedp.Run(ctx, chromedp.Evaluate[string]("(async () => JSON.stringify((await ("+expression+")) ?? null))()", append(options, chromedp.EvalAwaitPromise)...))
	if err != nil {
		tb.t.Fatalf("%s: %v\nconsole: %q", expression, err, tb.console())
	}
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		tb.t.Fatalf("%s gives %s: %v", expression, text, err)
	}
	return v
}

// asClick makes an expression count as something that a person did.
func asClick(p *runtime.EvaluateParams) { p.UserGesture = new(true) }

// run runs statements in the page.
func (tb *tab) run(statements string, options ...chromedp.EvaluateOption) {
	tb.t.Helper()
	eval[any](tb, "(() => {"+statements+"})()", options...)
}

// wait waits until an expression is true. It looks as a script would: chromedp's
// own polling counts as a click, which lets pages open windows.
func (tb *tab) wait(expression string) {
	tb.t.Helper()
	tb.until(expression, func() bool { return eval[bool](tb, "Boolean("+expression+")") })
}

func (tb *tab) console() []string {
	tb.mutex.Lock()
	defer tb.mutex.Unlock()
	return append([]string{}, tb.messages...)
}

// fine holds the page to what every page may expect: no error and no violation
// of its policy came out of our scripts.
func (tb *tab) fine() {
	tb.t.Helper()
	if failures := eval[[]string](tb, "window.failures"); len(failures) > 0 {
		tb.t.Errorf("the page has errors: %q", failures)
	}
}

// said waits for a message in the console.
func (tb *tab) said(part string) {
	tb.t.Helper()
	tb.until(fmt.Sprintf("a console message with %q, beside %q,", part, tb.console()), func() bool {
		return strings.Contains(strings.Join(tb.console(), "\n"), part)
	})
}

// until waits for something outside of the page.
func (tb *tab) until(what string, done func() bool) {
	tb.t.Helper()
	deadline := time.After(browserStep)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			tb.t.Fatalf("%s did not happen within %v\nconsole: %q", what, browserStep, tb.console())
		case <-tick.C:
		}
	}
}

// windows are the addresses of the pages in the tab's browser, itself included.
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

// shows waits until exactly one window beside the page itself shows an address.
func (tb *tab) shows(address string) {
	tb.t.Helper()
	tb.until(fmt.Sprintf("a window with %s, instead of %q,", address, tb.windows()), func() bool {
		windows := tb.windows()
		return len(windows) == 2 && (windows[0] == address || windows[1] == address)
	})
}

// shoot keeps a picture of the page in artifacts/, of all of it where it is longer
// than the window. (Chromium shifts whole pictures of pages that run from the right.)
func (tb *tab) shoot(name string) {
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
