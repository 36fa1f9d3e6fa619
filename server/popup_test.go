package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"calltracker/crm"
	"calltracker/crm/builtin"
	"calltracker/crm/crmtest"
	"calltracker/crm/crmtest/suite"
	"calltracker/handlers"
)

// desk is a server with a Kustomer and a Zendesk that are made up, and a site.
func desk(t *testing.T, popup string) (h *harness, kustomer *crmtest.Kustomer, zendesk *crmtest.Zendesk) {
	t.Helper()
	kustomer, zendesk = &crmtest.Kustomer{Key: "kustomer-key"}, &crmtest.Zendesk{Email: "bot@example.com", Token: "zendesk-token"}
	kustomer.Put(
		crmtest.Person{ID: "501", Name: `Noor <script>alert("x")</script>`, Phones: []string{"+971502220001"}},
		crmtest.Person{ID: "502", Name: "Both places", Phones: []string{"+971502220002"}},
	)
	zendesk.Put(crmtest.Person{ID: "901", Name: "Both places, too", Phones: []string{"050 222 0002"}})
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
  bare: {origins: ["https://bare.example.com"], jorel: {contactCenterName: aldebaran}}
`, k.URL, z.URL, popup), func(set *settings) { set.drivers = builtin.Drivers() })
	return h, kustomer, zendesk
}

const popupWithAll = `{connections: [kustomer, zendesk], many: choose, none: search}`

func (h *harness) caller(number string) handlers.CallerPage {
	h.t.Helper()
	r := h.do(request{method: "GET", path: "/crm/url?site=crm&number=" + number, header: map[string]string{"X-Embed-Key": "embed-key-of-the-site"}})
	return into[handlers.CallerPage](h.t, r.want(h.t, 200))
}

func TestCallersPageInEachOutcome(t *testing.T) {
	h, kustomer, zendesk := desk(t, popupWithAll)
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
		got := h.caller(number)
		if got.Status != want.status || got.URL != want.url || got.Number != want.number || len(got.Customers) != want.hits || got.Customers == nil {
			t.Errorf("%s: %+v", number, got)
		}
	}
	gone := func(u *crmtest.Upstream) { u.Break(suite.Faults()[10].Serve) }
	gone(&kustomer.Upstream)
	gone(&zendesk.Upstream)
	if got := h.caller("0502223333"); got.Status != crm.Unknown || got.URL != "https://acme.kustomerapp.com/app" {
		t.Errorf("with both away: %+v", got)
	}
	if got := h.caller("0502220001"); got.Status != crm.Found { // from the cache
		t.Errorf("with both away, a caller who is known: %+v", got)
	}
}

func TestThePopupOpensWhatTheSiteSays(t *testing.T) {
	for popup, want := range map[string][2]string{ // for many, for none
		`{connections: [zendesk, kustomer], many: first, none: create}`:    {"https://acme.zendesk.com/agent/users/901", "https://acme.kustomerapp.com/new?phone=%2B971502229999"},
		`{connections: [kustomer, zendesk], many: nothing, none: nothing}`: {"", ""},
	} {
		h, _, _ := desk(t, popup)
		if many, none := h.caller("0502220002").URL, h.caller("0502229999").URL; many != want[0] || none != want[1] {
			t.Errorf("%s: opens %q and %q", popup, many, none)
		}
	}
}

func TestThePopupIsForItsSite(t *testing.T) {
	h, _, _ := desk(t, popupWithAll)
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
	token := into[handlers.SiteToken](t, h.do(request{method: "POST", path: "/api/v1/sites/crm/token", admin: true}).want(t, 200))
	get("crm&token="+token.Token, nil).want(t, 200)
	get("crm&token="+token.Token[1:], nil).want(t, 401)
	until, signature, _ := strings.Cut(token.Token, ".")
	get("crm&token="+until+"0."+signature, nil).want(t, 401) // good for longer, if it were believed
	for origin, allowed := range map[string]string{"https://crm.example.com": "https://crm.example.com", "https://evil.example": ""} {
		r := get("crm&key=embed-key-of-the-site", map[string]string{"Origin": origin})
		if got := r.header.Get("Access-Control-Allow-Origin"); got != allowed {
			t.Errorf("%s: allowed for %q", origin, got)
		}
		status := map[bool]int{true: 204, false: 403}[allowed != ""]
		h.do(request{method: "OPTIONS", path: "/crm/url?site=crm", header: map[string]string{"Origin": origin, "Access-Control-Request-Method": "GET"}}).want(t, status)
	}
	for number, code := range map[string]int{"": 422, strings.Repeat("1", 65): 422} {
		h.do(request{method: "GET", path: "/crm/url?site=crm&key=embed-key-of-the-site&number=" + number}).want(t, code)
	}
}

func TestOpenRedirectsOrShowsAPage(t *testing.T) {
	h, _, _ := desk(t, popupWithAll)
	open := func(number string) response {
		return h.do(request{method: "GET", path: "/crm/open?site=crm&key=embed-key-of-the-site&number=" + number})
	}
	stay := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.base+"/crm/open?site=crm&key=embed-key-of-the-site&number=0502220001", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := stay.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Location"); res.StatusCode != http.StatusFound || got != "https://acme.kustomerapp.com/app/customers/501" {
		t.Errorf("%d, sent to %s", res.StatusCode, got)
	}
	for number, want := range map[string][]string{
		"0502220002": {"Who is calling?", "Both places, too", "https://acme.zendesk.com/agent/users/901", "matched by phone"},
		"0502229999": {"Nobody is known", "Search in zendesk", "Add to kustomer"},
		"0029":       {"belongs to nobody"},
	} {
		r := open(number).want(t, 200)
		for _, text := range want {
			if !strings.Contains(r.body, text) {
				t.Errorf("%s: no %q in %s", number, text, r.body)
			}
		}
		if policy := r.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || r.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v", number, r.header)
		}
	}
}
