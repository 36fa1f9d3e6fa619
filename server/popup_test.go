package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"calltracker/crm"
	"calltracker/crm/builtin"
	"calltracker/crm/crmtest"
	"calltracker/handlers/popup"
)

// hostileName is a customer name with markup and a long word.
const hostileName = `</b><script>document.title = "broken"</script>"'&` + "AVeryLongNameWithoutAnySpaceThatGoesOnAndOnAndOnAndOnUntilItIsWiderThanThePage"

// serveWithCRMs starts a server with a fake Kustomer, a fake Zendesk, and sites that
// use them. The popup section of site crm is popupSection.
func serveWithCRMs(t *testing.T, popupSection string) (h *harness, kustomer *crmtest.Kustomer, zendesk *crmtest.Zendesk) {
	t.Helper()
	kustomer, zendesk = &crmtest.Kustomer{Key: "kustomer-key"}, &crmtest.Zendesk{Email: "bot@example.com", Token: "zendesk-token"}
	kustomer.Add(
		crmtest.Person{ID: "501", Name: `Noor <script>alert("x")</script>`, Phones: []string{"+971502220001"}},
		crmtest.Person{ID: "502", Name: "Both places", Phones: []string{"+971502220002"}},
		crmtest.Person{ID: "503", Name: hostileName, Shared: []string{"+971502220004"}},
		crmtest.Person{ID: "504", Name: "ليلى حداد", Shared: []string{"+971502220004"}},
	)
	zendesk.Add(crmtest.Person{ID: "901", Name: "Both places, too", Phones: []string{"050 222 0002"}})
	k, z := httptest.NewServer(kustomer), httptest.NewServer(zendesk)
	t.Cleanup(k.Close)
	t.Cleanup(z.Close)
	h = serveWith(t, t.TempDir(), fmt.Sprintf(`
connections:
  kustomer: {driver: kustomer, settings: {base_url: %q, org: acme, api_key: kustomer-key, create_url: "https://acme.kustomerapp.com/new?phone={number}"}}
  zendesk: {driver: zendesk, settings: {base_url: %q, email: bot@example.com, api_token: zendesk-token, ui_url: "https://acme.zendesk.com"}}
sites:
  crm:
    origins: ["https://crm.example.com"]
    keys: ["embed-key-of-the-site"]
    jorel: {contactCenterName: aldebaran, defaultRegionCode: AE}
    popup: %s
  other: {origins: ["https://other.example.com"], jorel: {contactCenterName: aldebaran, defaultRegionCode: AE}, popup: {connections: [kustomer]}}
  bare: {origins: ["https://bare.example.com"], jorel: {contactCenterName: aldebaran}}
`, k.URL, z.URL, popupSection), func(set *settings) { set.drivers = builtin.Drivers() })
	return h, kustomer, zendesk
}

const fullPopup = `{connections: [kustomer, zendesk], many: choose, none: search}`

// lookUp looks up a caller of site crm.
func (h *harness) lookUp(number string) popup.CallerPage {
	h.t.Helper()
	r := h.do(request{method: "GET", path: "/crm/url?site=crm&number=" + number, header: map[string]string{"X-Embed-Key": "embed-key-of-the-site"}})
	return into[popup.CallerPage](h.t, r.want(h.t, 200))
}

// failAll makes a CRM respond to every request with 502.
func failAll(u *crmtest.Upstream) {
	u.SetFault(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
}

func TestCallerLookupOutcomes(t *testing.T) {
	h, kustomer, zendesk := serveWithCRMs(t, fullPopup)
	one := "https://acme.kustomerapp.com/app/customers/501"
	for number, want := range map[string]struct {
		status crm.State
		url    string
		number string
		hits   int
	}{
		"%2B971502220001": {crm.Found, one, "+971502220001", 1},
		"+971502220001":   {crm.Found, one, "+971502220001", 1}, // the + arrives as a space
		"0502220001":      {crm.Found, one, "+971502220001", 1},
		"00971502220002":  {crm.Many, "https://acme.kustomerapp.com/app", "+971502220002", 2},
		"0502229999":      {crm.None, "https://acme.kustomerapp.com/app", "+971502229999", 0},
		"0029":            {crm.Skipped, "", "0029", 0},
		"agent-0029":      {crm.Skipped, "", "agent-0029", 0},
		"anonymous":       {crm.Skipped, "", "anonymous", 0},
	} {
		got := h.lookUp(number)
		if got.Status != want.status || got.URL != want.url || got.Number != want.number || len(got.Customers) != want.hits || got.Customers == nil {
			t.Errorf("%s: got %+v, want %+v", number, got, want)
		}
	}
	failAll(&kustomer.Upstream)
	failAll(&zendesk.Upstream)
	if got := h.lookUp("0502223333"); got.Status != crm.Unknown || got.URL != "https://acme.kustomerapp.com/app" {
		t.Errorf("both CRMs unavailable: %+v", got)
	}
	if got := h.lookUp("0502220001"); got.Status != crm.Found { // from the cache
		t.Errorf("both CRMs unavailable, cached caller: %+v", got)
	}
}

func TestPopupOpensConfiguredURL(t *testing.T) {
	for section, want := range map[string][2]string{ // URL for several customers, URL for none
		`{connections: [zendesk, kustomer], many: first, none: create}`:    {"https://acme.zendesk.com/agent/users/901", "https://acme.kustomerapp.com/new?phone=%2B971502229999"},
		`{connections: [kustomer, zendesk], many: nothing, none: nothing}`: {"", ""},
	} {
		h, _, _ := serveWithCRMs(t, section)
		if many, none := h.lookUp("0502220002").URL, h.lookUp("0502229999").URL; many != want[0] || none != want[1] {
			t.Errorf("%s: several customers open %q, none opens %q; want %q", section, many, none, want)
		}
	}
}

func TestPopupRequiresSiteCredentials(t *testing.T) {
	h, _, _ := serveWithCRMs(t, fullPopup)
	const path = "/crm/url?number=0502220001&site="
	get := func(query string, header map[string]string) response {
		return h.do(request{method: "GET", path: path + query, header: header})
	}
	get("crm", nil).want(t, 401)
	get("crm&key=wrong", nil).want(t, 401)
	get("crm&token=wrong", nil).want(t, 401)
	get("bare&key=embed-key-of-the-site", nil).want(t, 404)
	get("nowhere&key=embed-key-of-the-site", nil).want(t, 404)
	get("crm&key=embed-key-of-the-site", nil).want(t, 200)
	h.do(request{method: "POST", path: "/api/v1/sites/crm/token"}).want(t, 401)
	h.do(request{method: "POST", path: "/api/v1/sites/bare/token", admin: true}).want(t, 404)
	h.do(request{method: "POST", path: "/api/v1/sites/crm/token?ttl=5", admin: true}).want(t, 422)
	token := into[popup.SiteToken](t, h.do(request{method: "POST", path: "/api/v1/sites/crm/token", admin: true}).want(t, 200))
	get("crm&token="+token.Token, nil).want(t, 200)
	get("crm&token="+token.Token[1:], nil).want(t, 401)
	until, signature, _ := strings.Cut(token.Token, ".")
	get("crm&token="+until+"0."+signature, nil).want(t, 401) // a later expiration time invalidates the signature
	for origin, allowed := range map[string]string{"https://crm.example.com": "https://crm.example.com", "https://evil.example": ""} {
		r := get("crm&key=embed-key-of-the-site", map[string]string{"Origin": origin})
		if got := r.header.Get("Access-Control-Allow-Origin"); got != allowed {
			t.Errorf("Origin %s: Access-Control-Allow-Origin %q, want %q", origin, got, allowed)
		}
		status := map[bool]int{true: 204, false: 403}[allowed != ""]
		h.do(request{method: "OPTIONS", path: "/crm/url?site=crm", header: map[string]string{"Origin": origin, "Access-Control-Request-Method": "GET"}}).want(t, status)
	}
	for number, code := range map[string]int{"": 422, strings.Repeat("1", 65): 422} {
		h.do(request{method: "GET", path: "/crm/url?site=crm&key=embed-key-of-the-site&number=" + number}).want(t, code)
	}
}

func TestOpenRedirectsOrShowsPage(t *testing.T) {
	h, _, _ := serveWithCRMs(t, fullPopup)
	open := func(number string) response {
		return h.do(request{method: "GET", path: "/crm/open?site=crm&key=embed-key-of-the-site&number=" + number})
	}
	noRedirects := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.base+"/crm/open?site=crm&key=embed-key-of-the-site&number=0502220001", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := noRedirects.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Location"); res.StatusCode != http.StatusFound || got != "https://acme.kustomerapp.com/app/customers/501" {
		t.Errorf("status %d, Location %s; want 302 to the customer", res.StatusCode, got)
	}
	for number, want := range map[string][]string{
		"0502220002": {"Who is calling?", "Both places, too", "https://acme.zendesk.com/agent/users/901"},
		"0502229999": {"No customer has this number", "Search in zendesk", "Add to kustomer"},
		"0029":       {"cannot be looked up"},
	} {
		r := open(number).want(t, 200)
		for _, text := range want {
			if !strings.Contains(r.body, text) {
				t.Errorf("%s: %q is missing from %s", number, text, r.body)
			}
		}
		if policy := r.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", number, r.header)
		}
	}
}

func TestTokenIsValidForOneSiteUntilItExpires(t *testing.T) {
	h, _, _ := serveWithCRMs(t, fullPopup)
	get := func(site, token string) response {
		return h.do(request{method: "GET", path: "/crm/url?number=0502220001&site=" + site + "&token=" + token})
	}
	token := func(site string) string {
		return into[popup.SiteToken](t, h.do(request{method: "POST", path: "/api/v1/sites/" + site + "/token", admin: true}).want(t, 200)).Token
	}
	ours, theirs := token("crm"), token("other")
	get("crm", ours).want(t, 200)
	get("other", theirs).want(t, 200)
	get("other", ours).want(t, 401)
	get("crm", theirs).want(t, 401)

	// Tokens that the same server issued earlier.
	for ago, want := range map[time.Duration]int{30 * time.Second: 200, time.Minute: 401, 24 * time.Hour: 401, -30 * time.Second: 200} {
		tokens := popup.NewTokens(siteTokenKey(h.parts.settings.secretKey), func() time.Time { return time.Now().Add(-ago) })
		issued, err := tokens.Issue("crm", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if r := get("crm", issued.Token); r.status != want {
			t.Errorf("one-minute token after %s: status %d, want %d", ago, r.status, want)
		}
	}
}

func TestOnlyInvalidSiteCredentialsAreRateLimited(t *testing.T) {
	h, _, _ := serveWithCRMs(t, fullPopup)
	get := func(path, credential string) response {
		return h.do(request{method: "GET", path: path + "?site=crm&number=0502220001&" + credential, header: map[string]string{"Origin": "https://crm.example.com"}})
	}
	for i := range 30 {
		credential := fmt.Sprintf("key=guess-%d", i)
		if i%2 == 0 {
			credential = fmt.Sprintf("token=zz.%d", i)
		}
		get("/crm/url", credential).want(t, 401)
	}
	for _, path := range []string{"/crm/url", "/crm/open"} {
		r := get(path, "key=one-more").want(t, 429)
		if seconds, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 60 {
			t.Errorf("%s: Retry-After %q, want 1 to 60", path, r.header.Get("Retry-After"))
		}
		if got := r.header.Get("Access-Control-Allow-Origin"); got != "https://crm.example.com" {
			t.Errorf("%s: Access-Control-Allow-Origin %q, want https://crm.example.com so that the page can read the error", path, got)
		}
		get(path, "").want(t, 401) // a request without credentials is not a guess
	}
	get("/crm/url", "key=embed-key-of-the-site").want(t, 200)
}

func TestPreflightAllowsOnlySiteOrigins(t *testing.T) {
	h, _, _ := serveWithCRMs(t, fullPopup)
	preflight := func(site, origin string) response {
		return h.do(request{method: "OPTIONS", path: "/crm/url?site=" + site, header: map[string]string{
			"Origin": origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "x-embed-key",
		}})
	}
	r := preflight("crm", "https://crm.example.com").want(t, 204)
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": "https://crm.example.com", "Access-Control-Allow-Methods": "GET",
		"Access-Control-Allow-Headers": "X-Embed-Key", "Access-Control-Max-Age": "600", "Vary": "Origin", "Access-Control-Allow-Credentials": "",
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, origin := range []string{"", "null", "https://evil.example", "http://crm.example.com", "https://crm.example.com.evil.example", "https://CRM.example.com:443", "https://other.example.com"} {
		r := preflight("crm", origin).want(t, 403)
		if got := r.header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("Origin %q: Access-Control-Allow-Origin %q, want none", origin, got)
		}
	}
	preflight("nowhere", "https://crm.example.com").want(t, 404)
	preflight("bare", "https://bare.example.com").want(t, 404)
}

// TestPopupRejectsURLsOutsideCRM checks that a CRM record cannot send an agent to
// another host.
func TestPopupRejectsURLsOutsideCRM(t *testing.T) {
	b := newAddressBook(t)
	h := serveWithAddressBook(t, addressBookDocument(b)+`
sites:
  crm: {origins: ["https://crm.example.com"], keys: ["embed-key-of-the-site"], jorel: {contactCenterName: aldebaran, defaultRegionCode: AE}, popup: {connections: [a]}}
`)
	for i, address := range []string{
		"https://evil.example/c-1", "http://books.example/c-1", "https://books.example@evil.example/c-1", "https://books.example.evil.example/", "//books.example/c-1",
		"https://books.example:8443/c-1", "javascript:alert(1)", "https:books.example", "https://books.example\\@evil.example/", "https://evil.example#https://books.example", "",
	} {
		number := fmt.Sprintf("050333%04d", i)
		b.respondWith(func(w http.ResponseWriter, _ *http.Request) {
			_ = json.NewEncoder(w).Encode([]map[string]any{{"id": "c-1", "name": "Mallory", "url": address, "matchedBy": "phone"}})
		})
		if got := h.lookUp(number); got.Status != crm.Found || got.URL != "" || got.Customers[0].URL != "" {
			t.Errorf("URL %q: %+v, want no URL", address, got)
		}
		if r := h.do(request{method: "GET", path: "/crm/open?site=crm&key=embed-key-of-the-site&number=" + number}).want(t, 200); strings.Contains(r.body, "evil.example") {
			t.Errorf("URL %q: the page links to evil.example: %s", address, r.body)
		}
	}
	b.respondWith(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`[{"id":"c-1","name":"Layla","url":"https://BOOKS.example/c-1","matchedBy":"phone"}]`))
	})
	if got := h.lookUp("0503330099"); got.URL != "https://BOOKS.example/c-1" {
		t.Errorf("URL on the CRM's host: %+v", got)
	}
}

func TestCreateURLMustBeOnCRMHost(t *testing.T) {
	for address, want := range map[string]int{"https://acme.kustomerapp.com/new?phone={number}": 200, "https://evil.example/new?phone={number}": 422} {
		text := fmt.Sprintf("connections: {k: {driver: kustomer, settings: {base_url: \"https://acme.api.kustomerapp.com\", org: acme, api_key: \"${env:K}\", create_url: %q}}}\n", address)
		h := serveWith(t, t.TempDir(), document, func(set *settings) { set.drivers = builtin.Drivers() })
		t.Setenv("K", "kustomer-key")
		r := h.putConfig("?dry_run=true", "*", "application/yaml", document+text).want(t, want)
		if want == 422 && !strings.Contains(r.body, "create_url") {
			t.Errorf("the problem does not name create_url: %s", r.body)
		}
	}
}

func TestCallerPageInBrowser(t *testing.T) {
	h, kustomer, zendesk := serveWithCRMs(t, fullPopup)
	w := newTestBrowserFor(t, h)
	open := func(number, screenshot string) *tab {
		tab := w.tab(t)
		tab.navigate("https://calls.example.com/crm/open?site=crm&key=embed-key-of-the-site&number=" + number)
		tab.screenshot(screenshot)
		return tab
	}
	links := func(tab *tab) string {
		return strings.Join(eval[[]string](tab, `[...document.querySelectorAll("main a")].map((a) => a.href)`), " ")
	}
	many := open("0502220002", "callers-many")
	if got, want := links(many), "https://acme.kustomerapp.com/app/customers/502 https://acme.zendesk.com/agent/users/901 "; !strings.HasPrefix(got, want) {
		t.Errorf("several customers: links %s", got)
	}
	if got := eval[string](many, `document.querySelector("h1").textContent + document.querySelector(".caller").textContent`); got != "Who is calling?+971502220002" {
		t.Errorf("several customers: heading %q", got)
	}
	if height := eval[float64](many, `Math.min(...[...document.querySelectorAll("main a")].map((a) => a.getBoundingClientRect().height))`); height < 40 {
		t.Errorf("links are %v px high, want at least 40 so that they are easy to click", height)
	}
	none := open("0502229999", "callers-none")
	if got := links(none); !strings.Contains(got, "https://acme.kustomerapp.com/new?phone=%2B971502229999") || !strings.Contains(got, "https://acme.zendesk.com/agent/search/1?") {
		t.Errorf("no customer: links %s", got)
	}
	hostile := open("0502220004", "callers-hostile")
	if got := eval[[]string](hostile, `[...document.querySelectorAll(".choices b")].map((b) => b.textContent)`); len(got) != 2 || got[0] != hostileName {
		t.Errorf("hostile names: %q", got)
	}
	failAll(&kustomer.Upstream)
	failAll(&zendesk.Upstream)
	unavailable := open("0502228888", "callers-unavailable")
	if got := eval[string](unavailable, `document.querySelector("h1").textContent`); got != "The CRM did not answer" {
		t.Errorf("both CRMs unavailable: heading %q", got)
	}
	for _, tab := range []*tab{many, none, hostile, unavailable} {
		tab.wantNoErrors()
	}
}
