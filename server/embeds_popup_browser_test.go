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
	seventh      = "https://acme-crm.example.com/customers/7"
)

// agents opens a page with the pop-up of a site.
func agents(t *testing.T, w *testBrowser, site, head string) *tab {
	t.Helper()
	name := strings.NewReplacer("/", "-", " ", "-", "'", "").Replace(t.Name())
	tab := w.open(t, "https://agents.example.com/"+name+"-"+site, sitePageOf(head+embed(web.Popup, site, `data-token="short-lived"`), ""))
	return tab
}

func popupEveryFamily(t *testing.T, w *testBrowser) {
	for name, ring := range map[string]string{
		"Jorel":  `ring("_jorel-dialog-state-ringing", { callID: "c1", primaryCallID: "p1", customerNumber: "+971501112233", direction: "inbound" })`,
		"core":   `ring("ziwo-early", { callID: "c1", customerNumber: "+971501112233", direction: "outbound" })`,
		"plugin": `ring("ziwo-call-ringing", { type: "ringing", call: { callId: "c1", direction: "inbound", participants: [{ number: "1001", isInternal: true }, { number: "+971501112233", isInternal: false }], origin: { number: "1001" } } })`,
		"origin": `ring("ziwo-call-ringing", { type: "ringing", call: { callId: "c1", vertoPrimaryCallId: "p1", direction: "inbound", participants: [], origin: { number: "+971501112233" } } })`,
	} {
		t.Run(name, func(t *testing.T) {
			var asked []string
			w.setResolver(func(out http.ResponseWriter, req *http.Request) {
				asked = append(asked, req.Method+" "+req.URL.Query().Encode())
				out.Header().Set("Access-Control-Allow-Origin", req.Header.Get("Origin"))
				fmt.Fprint(out, oneCustomer)
			})
			tab := agents(t, w, "crm", "")
			tab.run(ring, asClick)
			tab.wait("popups.length")
			tab.waitForWindow(seventh)
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
			tab.wantNoErrors()
		})
	}
}

func popupOnce(t *testing.T, w *testBrowser) {
	w.answer(200, oneCustomer, nil)
	tab := agents(t, w, "crm", embed(web.Popup, "crm", "")+embed(web.Popup, "pop-only", ""))
	tab.run(`
		for (const family of ["_jorel-dialog-state-", "ziwo-"]) for (const state of ["ringing", "early", "ringing", "answering", "active"])
			ring(family + state, { callID: "leg-1", customerNumber: "+971501112233", direction: "inbound" });
		ring("_jorel-dialog-state-ringing", { callID: "leg-1", primaryCallID: "first", customerNumber: "+971501112233", direction: "inbound" });
		ring("_jorel-dialog-state-ringing", { callID: "leg-2", primaryCallID: "first", customerNumber: "+971501112233", direction: "inbound" });
		ring("ziwo-call-ringing", { call: { callId: "leg-2", vertoPrimaryCallId: "first", direction: "inbound", origin: { number: "+971501112233" } } });`, asClick)
	tab.waitForWindow(seventh)
	// Another call, so that whatever the first ones led to has happened by then.
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "other", customerNumber: "+971501112244", direction: "inbound" });`, asClick)
	tab.wait("popups.length > 1")
	if got := eval[[]string](tab, "popups.map((p) => p.callID)"); !slices.Equal(got, []string{"leg-1", "other"}) {
		t.Errorf("the page heard of %q", got)
	}
	tab.waitForWindow(seventh) // one window for both
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
	// The last two are asked for at the same time, and answered in any order.
	if got := eval[[]string](tab, "popups.map((p) => p.number).sort()"); !slices.Equal(got, []string{"+971501112255", "+971501112266", "+971501112277"}) {
		t.Errorf("without ids the page heard of %q", got)
	}
	tab.wantNoErrors()
}

func popupSkips(t *testing.T, w *testBrowser) {
	w.answer(200, oneCustomer, nil)
	before := w.resolverRequests()
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
	if asked := w.resolverRequests() - before; asked != 1 {
		t.Errorf("the resolver was asked %d times", asked)
	}
	tab.wantNoErrors()
}

// cardText is what the card says; its links are apart.
const cardText = `document.querySelector("calltracker-card")?.shadowRoot.querySelector("section").innerText.replace(/\s+/g, " ").trim()`
const cardLinks = `[...document.querySelector("calltracker-card").shadowRoot.querySelectorAll("a")].map((a) => a.textContent + " " + a.href)`

func popupBlocked(t *testing.T, w *testBrowser) {
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
	tab.screenshot("card")
	tab.run(`document.querySelector("calltracker-card").shadowRoot.querySelector("a").click()`, asClick)
	tab.waitForWindow(seventh)
	tab.run(`document.querySelector("calltracker-card").shadowRoot.querySelector("button").click()`)
	if eval[bool](tab, `Boolean(document.querySelector("calltracker-card"))`) {
		t.Error("the card does not close")
	}
	tab.wantNoErrors()

	arabic := w.open(t, "https://agents.example.com/blocked-arabic", strings.Replace(sitePageOf(embed(web.Popup, "crm", ""), ""), `lang="en"`, `lang="ar" dir="rtl"`, 1))
	arabic.run(`ring("_jorel-dialog-state-ringing", { callID: "2", customerNumber: "+971501112233", direction: "inbound" })`)
	arabic.wait(`document.querySelector("calltracker-card")?.dir === "rtl"`)
	if got := eval[string](arabic, cardText); !strings.Contains(got, "مكالمة واردة") {
		t.Errorf("the Arabic card says %q", got)
	}
	if widths := eval[[]float64](arabic, "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"); widths[0] > widths[1] {
		t.Errorf("the card makes the page %v px wide, in a window of %v", widths[0], widths[1])
	}
	if box := eval[[]float64](arabic, `(({ left, right, bottom }) => [left, right, innerHeight - bottom])(document.querySelector("calltracker-card").shadowRoot.querySelector("section").getBoundingClientRect())`); !slices.Equal(box, []float64{16, 316, 16}) {
		t.Errorf("the Arabic card stands from %v to %v, %v above the bottom", box[0], box[1], box[2])
	}
	arabic.screenshot("card-arabic")
}

func popupChooser(t *testing.T, w *testBrowser) {
	w.answer(200, twoCustomers, nil)
	tab := agents(t, w, "crm", "")
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`, asClick)
	tab.wait(`document.querySelector("calltracker-card")`)
	if got := eval[string](tab, cardText); got != "Incoming call +971501112233 × Several customers have this number Amal Haddad kustomer Haddad & Sons <b> zendesk" {
		t.Errorf("the chooser says %q", got)
	}
	// The window that was opened ahead is gone.
	tab.waitFor("closing the blank window", func() bool { return len(tab.windows()) == 1 })
	tab.screenshot("chooser")
	tab.run(`document.querySelector("calltracker-card").shadowRoot.querySelectorAll("a")[1].click()`, asClick)
	tab.waitForWindow("https://acme-crm.example.com/users/8")

	// This site takes the first, and wants a card for it.
	first := agents(t, w, "pop-only", "")
	first.run(`ring("ziwo-early", { callID: "1", customerNumber: "+971501112233", direction: "outbound" })`, asClick)
	first.wait(`document.querySelector("calltracker-card")`)
	first.screenshot("card-outbound")
	if opens := eval[[]any](first, "opens"); len(opens) != 0 {
		t.Errorf("a site with cards opens %v", opens)
	}
	if got := eval[string](first, cardText); !strings.HasPrefix(got, "Outgoing call") {
		t.Errorf("the card says %q", got)
	}
	tab.wantNoErrors()
	first.wantNoErrors()
}

func popupNoneAndUnavailable(t *testing.T, w *testBrowser) {
	ring := `ring("_jorel-dialog-state-ringing", { callID: String(Math.random()), customerNumber: "+971501112233", direction: "inbound" })`
	for name, c := range map[string]struct {
		status          int
		body, crm, card string // where the window of the site crm goes, else what its card says
	}{
		"nobody":                  {200, noCustomer, "https://acme-crm.example.com/search?q=0501112233", ""},
		"nobody, nowhere":         {200, `{"status":"none","url":"","customers":[]}`, "", "Incoming call +971501112233 × No customer has this number"},
		"unavailable":             {200, `{"status":"unavailable","url":"https://acme-crm.example.com/search","customers":[]}`, "https://acme-crm.example.com/search", ""},
		"wrong key":               {401, `{"status":401}`, "", "Incoming call +971501112233 × Customer lookup failed"},
		"broken":                  {500, `<h1>Oh</h1>`, "", "Incoming call +971501112233 × Customer lookup failed"},
		"not JSON":                {200, `<h1>Oh</h1>`, "", "Incoming call +971501112233 × Customer lookup failed"},
		"an address that is code": {200, `{"status":"found","url":"javascript:alert(1)","customers":[{"name":"x","url":"http://acme-crm.example.com/"}]}`, "", "Incoming call +971501112233 ×"},
	} {
		t.Run(name, func(t *testing.T) {
			w.answer(c.status, c.body, nil)
			tab := agents(t, w, "crm", "")
			tab.run(ring, asClick)
			tab.wait("popups.length")
			if c.crm != "" {
				tab.waitForWindow(c.crm)
			} else {
				tab.wait(`document.querySelector("calltracker-card")`)
				if got := eval[string](tab, cardText); got != c.card {
					t.Errorf("the card says %q, want %q", got, c.card)
				}
				tab.waitFor("closing the blank window", func() bool { return len(tab.windows()) == 1 })
			}
			tab.wantNoErrors()
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
	tab.waitForWindow("https://acme-crm.example.com/customers/9")
	close(release)
	tab.wait(`document.querySelector("calltracker-card")`)
	if got := eval[string](tab, cardText); got != "Incoming call +971501112233 × Amal Haddad kustomer" {
		t.Errorf("the late answer shows %q", got)
	}
	tab.waitForWindow("https://acme-crm.example.com/customers/9")
	tab.wantNoErrors()

	// No answer at all: patience ends.
	w.answer(200, oneCustomer, make(chan struct{}))
	never := agents(t, w, "crm", "")
	never.run(`ring("_jorel-dialog-state-ringing", { callID: "3", customerNumber: "+971501112233", direction: "inbound" })`)
	never.wait(`document.querySelector("calltracker-card")`)
	if got := eval[string](never, cardText); !strings.Contains(got, "Customer lookup failed") {
		t.Errorf("without an answer the card says %q", got)
	}
}

func popupOwnFunction(t *testing.T, w *testBrowser) {
	before := w.resolverRequests()
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
				tab.waitForWindow(c.opens)
			} else {
				tab.wait(`document.querySelector("calltracker-card")`)
				tab.waitFor("closing the blank window", func() bool { return len(tab.windows()) == 1 })
			}
			tab.wantNoErrors()
		})
	}
	if asked := w.resolverRequests() - before; asked != 0 {
		t.Errorf("the resolver was asked %d times all the same", asked)
	}
}

func popupLeftToThePage(t *testing.T, w *testBrowser) {
	w.answer(200, oneCustomer, nil)
	tab := agents(t, w, "crm", `<script>addEventListener("calltracker-popup", (event) => event.preventDefault())</script>`)
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`, asClick)
	tab.wait("popups.length")
	tab.waitFor("closing the blank window", func() bool { return len(tab.windows()) == 1 })
	if eval[bool](tab, `Boolean(document.querySelector("calltracker-card"))`) {
		t.Error("a page that handles the call itself got a card, too")
	}
	tab.wantNoErrors()
}

func popupStrictPolicy(t *testing.T, w *testBrowser) {
	w.answer(200, twoCustomers, nil)
	tab := w.openWithPolicy(t, "https://agents.example.com/strict", sitePageOf(embed(web.Jorel, "crm", ""), ""), strictPolicy)
	tab.wait("window.jorelLoads")
	tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "inbound" })`)
	tab.wait(`document.querySelector("calltracker-card")`)
	if width := eval[float64](tab, `document.querySelector("calltracker-card").shadowRoot.querySelector("section").getBoundingClientRect().width`); width != 300 {
		t.Errorf("the card is %v px wide: its styles were blocked", width)
	}
	tab.wantNoErrors()
}

func popupHostile(t *testing.T, w *testBrowser) {
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
	tab.wantNoErrors()
}

// What the card says is the site's own where it wrote something, in the language
// of the page, and text whatever it holds.
func popupTexts(t *testing.T, w *testBrowser) {
	w.answer(200, `{"status":"none","url":"https://acme-crm.example.com/search","customers":[]}`, nil)
	for lang, want := range map[string]string{
		"en":    `You are called +971501112233 × No customer has this number <img src=x onerror=failures.push(1)>`,
		"fr-FR": `Ça sonne +971501112233 × Aucun client n’a ce numéro <img src=x onerror=failures.push(1)>`,
		"ar":    `You are called +971501112233 × لا يوجد عميل بهذا الرقم بحث`,
		"de":    `Anruf +971501112233 × No customer has this number <img src=x onerror=failures.push(1)>`,
	} {
		html := strings.Replace(sitePageOf(embed(web.Popup, "own-words", ""), ""), `lang="en"`, `lang="`+lang+`"`, 1)
		tab := w.open(t, "https://agents.example.com/words-"+lang, html)
		tab.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971501112233", direction: "constructor" })`)
		tab.wait(`document.querySelector("calltracker-card")`)
		if got := eval[string](tab, cardText); got != want {
			t.Errorf("in %s the card says %q, want %q", lang, got, want)
		}
		tab.wantNoErrors()
	}
}

// withCRM is a document of a site whose pop-up finds its customers in Kustomer.
const withCRM = `
connections:
  kustomer: {driver: kustomer, settings: {base_url: %q, org: acme, api_key: kustomer-key}}
sites:
  desk:
    origins: ["https://agents.example.com"]
    jorel: {contactCenterName: aldebaran, defaultRegionCode: AE}
    popup: {connections: [kustomer]}
`

// The whole way: a ringing phone, a page with a token of its site, this server,
// Kustomer, and the customer's page in the agent's window.
func popupWithARealCRM(t *testing.T, w *testBrowser) {
	kustomer := &crmtest.Kustomer{Key: "kustomer-key"}
	kustomer.Add(
		crmtest.Person{ID: "501", Name: "Noor Haddad", Phones: []string{"+971502220001"}},
		crmtest.Person{ID: "502", Name: "Sami Haddad", Phones: []string{"+971502220002"}},
	)
	upstream := httptest.NewServer(kustomer)
	t.Cleanup(upstream.Close)
	desk := serve(t, fmt.Sprintf(withCRM, upstream.URL))
	w.handleHost(t, "desk.example.com", forwardTo(desk.base))
	token := into[popup.SiteToken](t, desk.do(request{method: "POST", path: "/api/v1/sites/desk/token", admin: true}).want(t, 200)).Token
	open := func(name, token string) *tab {
		page := sitePageOf(fmt.Sprintf(`<script src="https://desk.example.com/jorel/desk.js" data-token="%s"></script>`, token), "")
		tab := w.open(t, "https://agents.example.com/real-"+name, page)
		tab.wait("window.jorelSettings")
		return tab
	}
	tab := open("crm", token)
	for i, c := range []struct{ number, opens string }{
		{"+971502220001", "https://acme.kustomerapp.com/app/customers/501"},
		{"0502220002", "https://acme.kustomerapp.com/app/customers/502"}, // as the region has it
		{"00971502220001", "https://acme.kustomerapp.com/app/customers/501"},
		{"+971502229999", "https://acme.kustomerapp.com/app"}, // nobody: where one goes on looking
	} {
		tab.run(fmt.Sprintf(`ring("_jorel-dialog-state-ringing", { callID: "call-%d", customerNumber: %q, direction: "inbound" })`, i, c.number), asClick)
		tab.waitForWindow(c.opens)
	}
	exact := 0
	for _, r := range kustomer.Requests() {
		if strings.Contains(r, "971502220001") {
			exact++
		}
	}
	if exact != 1 || len(kustomer.InvalidRequests()) > 0 {
		t.Errorf("Kustomer was asked %d times for the first caller, and did not understand %q", exact, kustomer.InvalidRequests())
	}
	tab.wantNoErrors()

	// A token that is not the site's opens nothing, and the console says why.
	refused := open("refused", token[:len(token)-2])
	refused.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971502220001", direction: "inbound" })`, asClick)
	refused.waitForConsole("data-token or data-key is missing, invalid, or expired")
	refused.wait(`document.querySelector("calltracker-card")`)
	if got := eval[string](refused, cardText); got != "Incoming call +971502220001 × Customer lookup failed" {
		t.Errorf("the card says %q", got)
	}
	// The page renews its token while it is open.
	refused.run(fmt.Sprintf(`document.querySelector("script[data-token]").setAttribute("data-token", %q); ring("_jorel-dialog-state-ringing", { callID: "2", customerNumber: "+971502220001", direction: "inbound" })`, token), asClick)
	refused.waitForWindow("https://acme.kustomerapp.com/app/customers/501")
	// A page of another origin gets no answer that it may read.
	elsewhere := w.open(t, "https://www.example.com/real", sitePageOf(fmt.Sprintf(`<script src="https://desk.example.com/popup/desk.js" data-token="%s"></script>`, token), ""))
	elsewhere.run(`ring("_jorel-dialog-state-ringing", { callID: "1", customerNumber: "+971502220001", direction: "inbound" })`, asClick)
	elsewhere.waitForConsole("check that the origins of desk include it")
	elsewhere.wantNoErrors()

	popupSpeed(t, open("speed", token), "https://acme.kustomerapp.com/app/customers/501")
}

// popupSpeed measures what agents feel: from the ringing event to window.open
// with the customer's page, when the server knows the customer already.
func popupSpeed(t *testing.T, tab *tab, opens string) {
	const rings = 50
	times := eval[[]float64](tab, fmt.Sprintf(`(async () => {
		const times = [];
		for (let i = 0; i < %d; i++) {
			const heard = new Promise((resolve) => addEventListener("calltracker-popup", resolve, { once: true }));
			const count = opens.length;
			const loaded = new Promise((resolve) => addEventListener("message", resolve, { once: true }));
			const start = performance.now();
			ring("_jorel-dialog-state-ringing", { callID: "speed-" + i, customerNumber: "+971502220001", direction: "inbound" });
			await heard; // the window is opened before anything else runs
			const opened = opens.slice(count).find((o) => o.url);
			if (opened.url === %q) times.push(opened.at - start);
			await loaded; // as any agent's browser has, before the next call
		}
		return times;
	})()`, rings, opens), asClick)
	if len(times) != rings {
		t.Fatalf("%d of %d calls opened the customer", len(times), rings)
	}
	slices.Sort(times)
	at := func(share float64) time.Duration {
		return time.Duration(times[int(share*float64(len(times)-1))] * float64(time.Millisecond)).Round(10 * time.Microsecond)
	}
	fmt.Printf("ringing to window.open, cached customer, %d calls: p50 %v, p95 %v, p99 %v\n", rings, at(.5), at(.95), at(.99))
}
