package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"calltracker/crm/crmtest"
	"calltracker/handlers/popup"
	"calltracker/web"
)

const (
	oneCustomer  = `{"status":"found","url":"https://acme-crm.example.com/customers/7","number":"+971501112233","customers":[{"connection":"kustomer","id":"7","name":"Amal Haddad","url":"https://acme-crm.example.com/customers/7","matchedBy":"phone"}]}`
	twoCustomers = `{"status":"many","url":"","number":"+971501112233","customers":[{"connection":"kustomer","id":"7","name":"Amal Haddad","url":"https://acme-crm.example.com/customers/7","matchedBy":"phone"},{"connection":"zendesk","id":"8","name":"Haddad & Sons <b>","url":"https://acme-crm.example.com/users/8","matchedBy":"phone"}]}`
	noCustomer   = `{"status":"none","url":"https://acme-crm.example.com/search?q=0501112233","number":"+971501112233","customers":[]}`
	customerURL  = "https://acme-crm.example.com/customers/7"
)

// openAgentPage opens a page that embeds the pop-up of a site.
func openAgentPage(t *testing.T, w *testBrowser, site, head string) *tab {
	t.Helper()
	name := strings.NewReplacer("/", "-", " ", "-", "'", "").Replace(t.Name())
	tab := w.open(t, "https://agents.example.com/"+name+"-"+site, pageHTML(head+scriptTag(web.Popup, site, `data-token="short-lived"`), ""))
	return tab
}

func popupEventFamilies(t *testing.T, w *testBrowser) {
	for name, ring := range map[string]string{
		"Jorel":  `ring("_jorel-dialog-state-ringing", { callID: "c1", primaryCallID: "p1", customerNumber: "+971501112233", direction: "inbound" })`,
		"core":   `ring("ziwo-early", { callID: "c1", customerNumber: "+971501112233", direction: "outbound" })`,
		"plugin": `ring("ziwo-call-ringing", { type: "ringing", call: { callId: "c1", direction: "inbound", participants: [{ number: "1001", isInternal: true }, { number: "+971501112233", isInternal: false }], origin: { number: "1001" } } })`,
		"origin": `ring("ziwo-call-ringing", { type: "ringing", call: { callId: "c1", vertoPrimaryCallId: "p1", direction: "inbound", participants: [], origin: { number: "+971501112233" } } })`,
	} {
		t.Run(name, func(t *testing.T) {
			var lookups []string
			w.setResolver(func(out http.ResponseWriter, req *http.Request) {
				lookups = append(lookups, req.Method+" "+req.URL.Query().Encode())
				out.Header().Set("Access-Control-Allow-Origin", req.Header.Get("Origin"))
				fmt.Fprint(out, oneCustomer)
			})
			tab := openAgentPage(t, w, "crm", "")
			tab.run(ring, asClick)
			tab.wait("popups.length")
			tab.waitForWindow(customerURL)
			opens := eval[[]map[string]any](tab, "opens")
			if len(opens) != 2 || opens[0]["url"] != "" || opens[0]["name"] != "calltracker-crm" || opens[1]["url"] != customerURL || opens[1]["name"] != "calltracker-crm" {
				t.Errorf("opened windows %v", opens)
			}
			if want := []string{"GET number=%2B971501112233&site=crm&token=short-lived"}; !slices.Equal(lookups, want) {
				t.Errorf("lookups %q, want %q", lookups, want)
			}
			if got := eval[map[string]any](tab, "popups[0]"); got["status"] != "found" || got["url"] != customerURL || got["number"] != "+971501112233" || got["site"] != "crm" {
				t.Errorf("calltracker-popup event %v", got)
			}
			tab.wantNoErrors()
		})
	}
}

func popupOncePerCall(t *testing.T, w *testBrowser) {
	w.answer(200, oneCustomer, nil)
	tab := openAgentPage(t, w, "crm", scriptTag(web.Popup, "crm", "")+scriptTag(web.Popup, "pop-only", ""))
	tab.run(`
		for (const family of ["_jorel-dialog-state-", "ziwo-"]) for (const state of ["ringing", "early", "ringing", "answering", "active"])
			ring(family + state, { callID: "leg-1", customerNumber: "+971501112233", direction: "inbound" });
		ring("_jorel-dialog-state-ringing", { callID: "leg-1", primaryCallID: "first", customerNumber: "+971501112233", direction: "inbound" });
		ring("_jorel-dialog-state-ringing", { callID: "leg-2", primaryCallID: "first", customerNumber: "+971501112233", direction: "inbound" });
		ring("ziwo-call-ringing", { call: { callId: "leg-2", vertoPrimaryCallId: "first", direction: "inbound", origin: { number: "+971501112233" } } });`, asClick)
	tab.waitForWindow(customerURL)
	// When another call has popped up, the effects of the first events are complete.
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "other", customerNumber: "+971501112244", direction: "inbound" });`, asClick)
	tab.wait("popups.length > 1")
	if got := eval[[]string](tab, "popups.map((p) => p.callID)"); !slices.Equal(got, []string{"leg-1", "other"}) {
		t.Errorf("pop-ups for calls %q, want leg-1 and other", got)
	}
	tab.waitForWindow(customerURL) // both calls share one window
	// The page reloads while the phone rings.
	tab.navigate(eval[string](tab, "location.href"))
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "other", customerNumber: "+971501112244" }); ring("_jorel-dialog-state-ringing", { callID: "third", customerNumber: "+971501112255" });`, asClick)
	tab.wait("popups.length")
	if got := eval[[]string](tab, "popups.map((p) => p.callID)"); !slices.Equal(got, []string{"third"}) {
		t.Errorf("after a reload: pop-ups for calls %q, want third", got)
	}
	// Calls without an ID are identified by their number.
	tab.run(`ring("ziwo-ringing", { customerNumber: "+971501112266" }); ring("_jorel-dialog-state-ringing", { customerNumber: "+971501112266" }); ring("ziwo-ringing", { callID: "last", customerNumber: "+971501112277" });`, asClick)
	tab.wait("popups.length > 2")
	// The last two lookups run concurrently and complete in any order.
	if got := eval[[]string](tab, "popups.map((p) => p.number).sort()"); !slices.Equal(got, []string{"+971501112255", "+971501112266", "+971501112277"}) {
		t.Errorf("calls without an ID: pop-ups for numbers %q", got)
	}
	tab.wantNoErrors()
}

func popupIgnoresOtherCalls(t *testing.T, w *testBrowser) {
	w.answer(200, oneCustomer, nil)
	before := w.resolverRequests()
	tab := openAgentPage(t, w, "crm", "")
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
		t.Errorf("pop-ups for calls %q, want only 9", got)
	}
	if lookups := w.resolverRequests() - before; lookups != 1 {
		t.Errorf("%d lookups, want 1", lookups)
	}
	tab.wantNoErrors()
}

// cardText and cardLinks are expressions that return the text and the links of the card.
const cardText = `document.querySelector("calltracker-card")?.shadowRoot.querySelector("section").innerText.replace(/\s+/g, " ").trim()`
const cardLinks = `[...document.querySelector("calltracker-card").shadowRoot.querySelectorAll("a")].map((a) => a.textContent + " " + a.href)`

func popupBlocked(t *testing.T, w *testBrowser) {
	w.answer(200, oneCustomer, nil)
	tab := openAgentPage(t, w, "crm", "")
	// Without a click, the browser blocks the window.
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`)
	tab.wait(`document.querySelector("calltracker-card")`)
	if opens := eval[[]map[string]any](tab, "opens"); len(opens) == 0 || opens[0]["blocked"] != true {
		t.Fatalf("the browser did not block the window: %v", opens)
	}
	if got := eval[string](tab, cardText); got != "Incoming call +971501112233 × Amal Haddad kustomer" {
		t.Errorf("card text %q", got)
	}
	if got := eval[[]string](tab, cardLinks); !slices.Equal(got, []string{"Amal Haddadkustomer " + customerURL}) {
		t.Errorf("card links %q", got)
	}
	tab.screenshot("card")
	tab.run(`document.querySelector("calltracker-card").shadowRoot.querySelector("a").click()`, asClick)
	tab.waitForWindow(customerURL)
	tab.run(`document.querySelector("calltracker-card").shadowRoot.querySelector("button").click()`)
	if eval[bool](tab, `Boolean(document.querySelector("calltracker-card"))`) {
		t.Error("the card did not close")
	}
	tab.wantNoErrors()

	arabic := w.open(t, "https://agents.example.com/blocked-arabic", strings.Replace(pageHTML(scriptTag(web.Popup, "crm", ""), ""), `lang="en"`, `lang="ar" dir="rtl"`, 1))
	arabic.run(`ring("_jorel-dialog-state-ringing", { callID: "2", customerNumber: "+971501112233", direction: "inbound" })`)
	arabic.wait(`document.querySelector("calltracker-card")?.dir === "rtl"`)
	if got := eval[string](arabic, cardText); !strings.Contains(got, "مكالمة واردة") {
		t.Errorf("Arabic card text %q", got)
	}
	if widths := eval[[]float64](arabic, "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"); widths[0] > widths[1] {
		t.Errorf("with the card, the page is %v px wide in a window of %v px", widths[0], widths[1])
	}
	if box := eval[[]float64](arabic, `(({ left, right, bottom }) => [left, right, innerHeight - bottom])(document.querySelector("calltracker-card").shadowRoot.querySelector("section").getBoundingClientRect())`); !slices.Equal(box, []float64{16, 316, 16}) {
		t.Errorf("Arabic card: left %v, right %v, distance from the bottom %v; want 16, 316, 16", box[0], box[1], box[2])
	}
	arabic.screenshot("card-arabic")
}

func popupChooser(t *testing.T, w *testBrowser) {
	w.answer(200, twoCustomers, nil)
	tab := openAgentPage(t, w, "crm", "")
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`, asClick)
	tab.wait(`document.querySelector("calltracker-card")`)
	if got := eval[string](tab, cardText); got != "Incoming call +971501112233 × Several customers have this number Amal Haddad kustomer Haddad & Sons <b> zendesk" {
		t.Errorf("chooser text %q", got)
	}
	// The window that was opened before the lookup is closed.
	tab.waitFor("the blank window to close", func() bool { return len(tab.windows()) == 1 })
	tab.screenshot("chooser")
	tab.run(`document.querySelector("calltracker-card").shadowRoot.querySelectorAll("a")[1].click()`, asClick)
	tab.waitForWindow("https://acme-crm.example.com/users/8")

	// This site shows the first customer in a card.
	first := openAgentPage(t, w, "pop-only", "")
	first.run(`ring("ziwo-early", { callID: "1", customerNumber: "+971501112233", direction: "outbound" })`, asClick)
	first.wait(`document.querySelector("calltracker-card")`)
	first.screenshot("card-outbound")
	if opens := eval[[]any](first, "opens"); len(opens) != 0 {
		t.Errorf("site with open: card opened windows %v", opens)
	}
	if got := eval[string](first, cardText); !strings.HasPrefix(got, "Outgoing call") {
		t.Errorf("card text %q, want an outgoing call", got)
	}
	tab.wantNoErrors()
	first.wantNoErrors()
}

func popupWithoutCustomer(t *testing.T, w *testBrowser) {
	ring := `ring("_jorel-dialog-state-ringing", { callID: String(Math.random()), customerNumber: "+971501112233", direction: "inbound" })`
	for name, c := range map[string]struct {
		status int
		body   string
		opens  string // URL that site crm opens; "" if it shows a card
		card   string // text of the card
	}{
		"no customer":                    {200, noCustomer, "https://acme-crm.example.com/search?q=0501112233", ""},
		"no customer and no search page": {200, `{"status":"none","url":"","customers":[]}`, "", "Incoming call +971501112233 × No customer has this number"},
		"unavailable":                    {200, `{"status":"unavailable","url":"https://acme-crm.example.com/search","customers":[]}`, "https://acme-crm.example.com/search", ""},
		"wrong key":                      {401, `{"status":401}`, "", "Incoming call +971501112233 × Customer lookup failed"},
		"server error":                   {500, `<h1>Oh</h1>`, "", "Incoming call +971501112233 × Customer lookup failed"},
		"not JSON":                       {200, `<h1>Oh</h1>`, "", "Incoming call +971501112233 × Customer lookup failed"},
		"javascript URL":                 {200, `{"status":"found","url":"javascript:alert(1)","customers":[{"name":"x","url":"http://acme-crm.example.com/"}]}`, "", "Incoming call +971501112233 ×"},
	} {
		t.Run(name, func(t *testing.T) {
			w.answer(c.status, c.body, nil)
			tab := openAgentPage(t, w, "crm", "")
			tab.run(ring, asClick)
			tab.wait("popups.length")
			if c.opens != "" {
				tab.waitForWindow(c.opens)
			} else {
				tab.wait(`document.querySelector("calltracker-card")`)
				if got := eval[string](tab, cardText); got != c.card {
					t.Errorf("card text %q, want %q", got, c.card)
				}
				tab.waitFor("the blank window to close", func() bool { return len(tab.windows()) == 1 })
			}
			tab.wantNoErrors()
			// Site pop-only is configured to show nothing in these cases.
			if !strings.Contains(c.body, "javascript:") {
				popOnly := openAgentPage(t, w, "pop-only", "")
				popOnly.run(ring, asClick)
				popOnly.wait("popups.length")
				if eval[bool](popOnly, `Boolean(document.querySelector("calltracker-card")) || opens.length > 0`) {
					t.Error("site pop-only showed a card or opened a window")
				}
			}
		})
	}
}

// popupSlow checks that a late response for an older call does not replace a newer
// call's window.
func popupSlow(t *testing.T, w *testBrowser) {
	release := make(chan struct{})
	w.setResolver(func(out http.ResponseWriter, req *http.Request) {
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
	tab := openAgentPage(t, w, "crm", "")
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`, asClick)
	// The window opens before the response arrives. Its title names the number.
	if opens := eval[[]map[string]any](tab, "opens"); len(opens) != 1 || opens[0]["url"] != "" || opens[0]["blocked"] != false {
		t.Errorf("before the response: opened windows %v, want one blank window", opens)
	}
	if title := eval[string](tab, `realOpen.call(window, "", "calltracker-crm").document.title`); title != "Looking up +971501112233" {
		t.Errorf("window title %q", title)
	}
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "2", customerNumber: "+971501112244", direction: "inbound" })`, asClick)
	tab.waitForWindow("https://acme-crm.example.com/customers/9")
	close(release)
	tab.wait(`document.querySelector("calltracker-card")`)
	if got := eval[string](tab, cardText); got != "Incoming call +971501112233 × Amal Haddad kustomer" {
		t.Errorf("late response: card text %q", got)
	}
	tab.waitForWindow("https://acme-crm.example.com/customers/9")
	tab.wantNoErrors()

	// If no response arrives, the lookup times out.
	w.answer(200, oneCustomer, make(chan struct{}))
	unanswered := openAgentPage(t, w, "crm", "")
	unanswered.run(`ring("_jorel-dialog-state-ringing", { callID: "3", customerNumber: "+971501112233", direction: "inbound" })`)
	unanswered.wait(`document.querySelector("calltracker-card")`)
	if got := eval[string](unanswered, cardText); !strings.Contains(got, "Customer lookup failed") {
		t.Errorf("after the timeout: card text %q", got)
	}
}

func popupOwnFunction(t *testing.T, w *testBrowser) {
	before := w.resolverRequests()
	for name, c := range map[string]struct{ function, opens string }{
		"text":           {`(number) => "https://acme-crm.example.com/own?n=" + encodeURIComponent(number)`, "https://acme-crm.example.com/own?n=%2B971501112233"},
		"promise":        {`async (number) => "https://acme-crm.example.com/own/" + number.length`, "https://acme-crm.example.com/own/13"},
		"relative":       {`() => "/people/7"`, "https://agents.example.com/people/7"},
		"throws":         {`() => { throw new Error("no") }`, ""},
		"rejects":        {`() => Promise.reject(new Error("no"))`, ""},
		"empty":          {`() => ""`, ""},
		"javascript URL": {`() => "javascript:failures.push('ran')"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tab := openAgentPage(t, w, "crm", "<script>window.getCrmUrlFromPhoneNumber = "+c.function+"</script>")
			tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`, asClick)
			tab.wait("popups.length")
			if c.opens != "" {
				tab.waitForWindow(c.opens)
			} else {
				tab.wait(`document.querySelector("calltracker-card")`)
				tab.waitFor("the blank window to close", func() bool { return len(tab.windows()) == 1 })
			}
			tab.wantNoErrors()
		})
	}
	if lookups := w.resolverRequests() - before; lookups != 0 {
		t.Errorf("%d lookups, want 0", lookups)
	}
}

func popupCanceledByPage(t *testing.T, w *testBrowser) {
	w.answer(200, oneCustomer, nil)
	tab := openAgentPage(t, w, "crm", `<script>addEventListener("calltracker-popup", (event) => event.preventDefault())</script>`)
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`, asClick)
	tab.wait("popups.length")
	tab.waitFor("the blank window to close", func() bool { return len(tab.windows()) == 1 })
	if eval[bool](tab, `Boolean(document.querySelector("calltracker-card"))`) {
		t.Error("a card appeared although the page canceled the event")
	}
	tab.wantNoErrors()
}

func popupStrictPolicy(t *testing.T, w *testBrowser) {
	w.answer(200, twoCustomers, nil)
	tab := w.openWithPolicy(t, "https://agents.example.com/strict", pageHTML(scriptTag(web.Jorel, "crm", ""), ""), strictPolicy)
	tab.wait("window.jorelLoads")
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`)
	tab.wait(`document.querySelector("calltracker-card")`)
	if width := eval[float64](tab, `document.querySelector("calltracker-card").shadowRoot.querySelector("section").getBoundingClientRect().width`); width != 300 {
		t.Errorf("card width %v px, want 300: its styles are blocked", width)
	}
	tab.wantNoErrors()
}

func popupHostile(t *testing.T, w *testBrowser) {
	evil := `{"status":"many","url":{},"customers":[null,7,"x",{"name":"<img src=x onerror=failures.push(1)>","url":"https://acme-crm.example.com/\"><script>"},{"name":{},"url":"data:text/html,x"},{"name":"b","url":"https://acme-crm.example.com/b","connection":["<b>"]}]}`
	w.answer(200, evil, nil)
	tab := openAgentPage(t, w, "crm", "")
	tab.run(`localStorage.setItem("calltracker-calls", '{"not":"a list"}'); ring("_jorel-dialog-state-ringing", { callID: "<b>", customerNumber: "+971501112233<b>" });
		ring("_jorel-dialog-state-ringing", { callID: 1, customerNumber: 971501112233, direction: "inbound" });`)
	tab.wait(`document.querySelector("calltracker-card")`)
	if got := eval[[]string](tab, cardLinks); !slices.Equal(got, []string{`<img src=x onerror=failures.push(1)> https://acme-crm.example.com/%22%3E%3Cscript%3E`, "b https://acme-crm.example.com/b"}) {
		t.Errorf("card links %q", got)
	}
	tab.run(`localStorage.setItem("calltracker-calls", "][")`)
	tab.run(`Object.defineProperty(window, "localStorage", { get() { throw new Error("no storage") } }); ring("_jorel-dialog-state-ringing", { callID: "2", customerNumber: "+971501112244" })`)
	tab.wait("popups.length === 2")
	tab.wantNoErrors()
}

// popupTexts checks that the card prefers the site's own texts, uses the language
// of the page, and treats every text as plain text.
func popupTexts(t *testing.T, w *testBrowser) {
	w.answer(200, `{"status":"none","url":"https://acme-crm.example.com/search","customers":[]}`, nil)
	for lang, want := range map[string]string{
		"en":    `You are called +971501112233 × No customer has this number <img src=x onerror=failures.push(1)>`,
		"fr-FR": `Ça sonne +971501112233 × Aucun client n’a ce numéro <img src=x onerror=failures.push(1)>`,
		"ar":    `You are called +971501112233 × لا يوجد عميل بهذا الرقم بحث`,
		"de":    `Anruf +971501112233 × No customer has this number <img src=x onerror=failures.push(1)>`,
	} {
		html := strings.Replace(pageHTML(scriptTag(web.Popup, "own-words", ""), ""), `lang="en"`, `lang="`+lang+`"`, 1)
		tab := w.open(t, "https://agents.example.com/words-"+lang, html)
		tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "constructor" })`)
		tab.wait(`document.querySelector("calltracker-card")`)
		if got := eval[string](tab, cardText); got != want {
			t.Errorf("%s: card text %q, want %q", lang, got, want)
		}
		tab.wantNoErrors()
	}
}

// kustomerDocument configures a site whose pop-up looks up customers in Kustomer.
const kustomerDocument = `
connections:
  kustomer: {driver: kustomer, settings: {base_url: %q, org: acme, api_key: kustomer-key}}
sites:
  desk:
    origins: ["https://agents.example.com"]
    jorel: {contactCenterName: aldebaran, defaultRegionCode: AE}
    popup: {connections: [kustomer]}
`

// popupWithKustomer tests the whole path: a ringing phone, a page with a site token,
// a server, a fake Kustomer, and the customer's page in the agent's window.
func popupWithKustomer(t *testing.T, w *testBrowser) {
	kustomer := &crmtest.Kustomer{Key: "kustomer-key"}
	kustomer.Add(
		crmtest.Person{ID: "501", Name: "Noor Haddad", Phones: []string{"+971502220001"}},
		crmtest.Person{ID: "502", Name: "Sami Haddad", Phones: []string{"+971502220002"}},
	)
	upstream := httptest.NewServer(kustomer)
	t.Cleanup(upstream.Close)
	desk := serve(t, fmt.Sprintf(kustomerDocument, upstream.URL))
	w.handleHost(t, "desk.example.com", forwardTo(desk.base))
	token := into[popup.SiteToken](t, desk.do(request{method: "POST", path: "/api/v1/sites/desk/token", admin: true}).want(t, 200)).Token
	open := func(name, token string) *tab {
		page := pageHTML(fmt.Sprintf(`<script src="https://desk.example.com/jorel/desk.js" data-token="%s"></script>`, token), "")
		tab := w.open(t, "https://agents.example.com/kustomer-"+name, page)
		tab.wait("window.jorelSettings")
		return tab
	}
	tab := open("crm", token)
	for i, c := range []struct{ number, opens string }{
		{"+971502220001", "https://acme.kustomerapp.com/app/customers/501"},
		{"0502220002", "https://acme.kustomerapp.com/app/customers/502"}, // in national format
		{"00971502220001", "https://acme.kustomerapp.com/app/customers/501"},
		{"+971502229999", "https://acme.kustomerapp.com/app"}, // no customer: the search page
	} {
		tab.run(fmt.Sprintf(`ring("_jorel-dialog-state-ringing", { callID: "call-%d", customerNumber: %q, direction: "inbound" })`, i, c.number), asClick)
		tab.waitForWindow(c.opens)
	}
	requests := 0
	for _, r := range kustomer.Requests() {
		if strings.Contains(r, "971502220001") {
			requests++
		}
	}
	if requests != 1 || len(kustomer.InvalidRequests()) > 0 {
		t.Errorf("Kustomer received %d requests for the first caller, want 1; invalid requests: %q", requests, kustomer.InvalidRequests())
	}
	tab.wantNoErrors()

	// An invalid token opens no customer, and the console reports the cause.
	rejected := open("rejected", token[:len(token)-2])
	rejected.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971502220001", direction: "inbound" })`, asClick)
	rejected.waitForConsole("data-token or data-key is missing, invalid, or expired")
	rejected.wait(`document.querySelector("calltracker-card")`)
	if got := eval[string](rejected, cardText); got != "Incoming call +971502220001 × Customer lookup failed" {
		t.Errorf("card text %q", got)
	}
	// The open page renews its token.
	rejected.run(fmt.Sprintf(`document.querySelector("script[data-token]").setAttribute("data-token", %q); ring("_jorel-dialog-state-ringing", { callID: "2", customerNumber: "+971502220001", direction: "inbound" })`, token), asClick)
	rejected.waitForWindow("https://acme.kustomerapp.com/app/customers/501")
	// CORS prevents a page on another origin from reading the response.
	otherOrigin := w.open(t, "https://www.example.com/kustomer", pageHTML(fmt.Sprintf(`<script src="https://desk.example.com/popup/desk.js" data-token="%s"></script>`, token), ""))
	otherOrigin.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971502220001", direction: "inbound" })`, asClick)
	otherOrigin.waitForConsole("check that the origins of desk include it")
	otherOrigin.wantNoErrors()

	popupSpeed(t, open("speed", token), "https://acme.kustomerapp.com/app/customers/501")
}

// popupSpeed measures the time from the ringing event to window.open with the
// customer's page when the customer is in the server's cache.
func popupSpeed(t *testing.T, tab *tab, opens string) {
	const rings = 50
	times := eval[[]float64](tab, fmt.Sprintf(`(async () => {
		const times = [];
		for (let i = 0; i < %d; i++) {
			const popped = new Promise((resolve) => addEventListener("calltracker-popup", resolve, { once: true }));
			const count = opens.length;
			const loaded = new Promise((resolve) => addEventListener("message", resolve, { once: true }));
			const start = performance.now();
			ring("_jorel-dialog-state-ringing", { callID: "speed-" + i, customerNumber: "+971502220001", direction: "inbound" });
			await popped; // the window opens before other code runs
			const opened = opens.slice(count).find((o) => o.url);
			if (opened.url === %q) times.push(opened.at - start);
			await loaded; // an agent's window has loaded before the next call
		}
		return times;
	})()`, rings, opens), asClick)
	if len(times) != rings {
		t.Fatalf("%d of %d calls opened the customer's page", len(times), rings)
	}
	slices.Sort(times)
	at := func(share float64) time.Duration {
		return time.Duration(times[int(share*float64(len(times)-1))] * float64(time.Millisecond)).Round(10 * time.Microsecond)
	}
	fmt.Printf("ringing to window.open, cached customer, %d calls: p50 %v, p95 %v, p99 %v\n", rings, at(.5), at(.95), at(.99))
}
