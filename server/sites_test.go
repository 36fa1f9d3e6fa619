package main

import (
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"

	"calltracker/web"
)

func TestSitePage(t *testing.T) {
	h := serve(t, embedDocument)
	release := web.WebCallback.Release()
	for path, want := range map[string][]string{
		"/sites/shop": {
			`&lt;script src=&#34;http://localhost:8080/webcallback/shop.js&#34; async&gt;&lt;/script&gt;`, release.Version, "http://localhost:8080", "Ring me", "Sonnez-moi", `dir="rtl"`,
			"It takes the place of the element with the id &#34;call-us&#34;", "always: no schedule closes it", "People who are called back see +971557526349", "offline_outside: is empty", "customTexts: formButton is &#34;Ring me&#34; in ar, de, fr-CA as well", "33176431477", "Nothing appears?",
		},
		"/sites/half-days":  {"by the schedule noon", `<time datetime="20`, "(Asia/Dubai)", "The button shows as closed outside of noon", "There is one extension only"},
		"/sites/closed-now": {`<span class="state off">Closed</span>`, "do not open within a year"},
		"/sites/crm":        {"/jorel/crm.js", "data-token", "/popup/crm.js", "Numbers on the page can be clicked", "or with a key"},
		"/sites/v1.2":       {"It stands at top-left mine."},
	} {
		got := h.do(request{method: "GET", path: path}).want(t, 200)
		for _, part := range want {
			if !strings.Contains(got.body, strings.ReplaceAll(part, "+", "&#43;")) {
				t.Errorf("%s does not have %q", path, part)
			}
		}
		if strings.Contains(got.body, "hush") || strings.Contains(got.body, h.token) {
			t.Errorf("%s tells a secret", path)
		}
		if policy := got.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s has the policy %q", path, policy)
		}
		assets := regexp.MustCompile(`/assets/[a-z0-9.-]+`).FindAllString(got.body, -1)
		if len(assets) != 2 {
			t.Errorf("%s loads %q", path, assets)
		}
		for _, asset := range assets {
			if got := h.packed(request{path: asset}); got.status != 200 || !strings.Contains(got.header.Get("Cache-Control"), "immutable") {
				t.Errorf("%s answers %d, %v", asset, got.status, got.header)
			}
		}
	}
	if got := h.do(request{method: "GET", path: "/sites/nobody"}).want(t, 404); !strings.Contains(got.body, "look at sites: in the configuration") {
		t.Errorf("an unknown site answers %q", got.body)
	}
	if got := h.packed(request{path: "/assets/site-0000.js"}); got.status != 404 {
		t.Errorf("an unknown asset answers %d", got.status)
	}
}

// TestChecklist holds what the page says is missing to what is missing.
func TestChecklist(t *testing.T) {
	const sites = `
connections:
  kustomer: {driver: kustomer, settings: {base_url: "https://acme.example.com", org: acme, api_key: hush}}
schedules:
  never: {timezone: Asia/Dubai}
sites:
  bare:
    webcallback: {contactCenterName: aldebaran, extensions: ["1001"]}
  closed:
    origins: ["https://shop.example.com"]
    webcallback:
      contactCenterName: aldebaran
      extensions: ["1001", "1002"]
      callerIDNumber: "+97142223344"
      defaultCountryFlags: [ae, sa]
      offline: true
      customTexts: {formTitle: Ring, fr: {formTitle: Appel}, ar: {formTitle: اتصال}, de: {formTitle: Anruf, formButton: Los}, en-GB: {formButton: Go}, fr-CA: {formTitle: Allo}}
  never:
    webcallback: {contactCenterName: aldebaran, extensions: ["1001"]}
    offline_outside: [never]
  agents:
    jorel: {}
    popup: {connections: [kustomer], texts: {de: {open: Zeig}}}
  empty: {origins: ["https://shop.example.com"]}
`
	local := serve(t, sites)
	public := serveWith(t, t.TempDir(), sites, func(set *settings) { set.publicURL = "https://calls.example.com" })
	plain := serveWith(t, t.TempDir(), sites, func(set *settings) { set.publicURL = "http://calls.example.com" })
	item := regexp.MustCompile(`<li class="(done|missing|optional)"><span class="mark"[^>]*>[^<]*</span><span>([^<]*)</span></li>`)
	checks := func(h *harness, site string) []string {
		var out []string
		for _, m := range item.FindAllStringSubmatch(h.get("/sites/"+site).want(t, 200).body, -1) {
			out = append(out, m[1]+": "+html.UnescapeString(m[2]))
		}
		return out
	}
	const reached = "done: This server is reached by https."
	for _, c := range []struct {
		server *harness
		site   string
		want   []string
	}{
		{local, "bare", []string{
			"missing: CALLTRACKER_PUBLIC_URL is http://localhost:8080: it leads browsers to their own machine. Set it to how they reach this server.",
			"optional: origins: is empty. The line to paste works everywhere; pinned scripts and the .json need the origin of the page there.",
			"missing: offline_outside: is empty. No schedule closes the button: it promises a call at any hour.",
			"optional: There is one extension only: nobody else answers when it is busy.",
			"optional: callerIDNumber is not set: people who are called back see whatever number Ziwo chooses.",
			"optional: defaultCountryFlags is empty: no country stands first in the list.",
			"done: customTexts: every text is there in ar, en, fr.",
		}},
		{public, "closed", []string{
			reached,
			"done: Pages of https://shop.example.com may read the configuration and use pinned scripts.",
			"missing: offline: is true. The button is closed, whatever the hours say.",
			"done: 2 extensions are tried in turn.",
			"done: People who are called back see +97142223344.",
			"done: The first countries to choose from are ae, sa.",
			"missing: customTexts: de lacks failureMessage, failureTitle, formInputLabel, mainButtonTooltip, offlineButtonTooltip, successMessage, successTitle: these show in English.",
		}},
		{plain, "never", []string{
			"missing: CALLTRACKER_PUBLIC_URL is http://calls.example.com: browsers load scripts into https pages by https only.",
			"missing: The schedules of offline_outside do not open within a year.",
		}},
		{public, "agents", []string{
			reached,
			"missing: origins: is empty, so that browsers let no page of another host ask whose number it is: the pop-up finds nobody.",
			"optional: contactCenterName is not set: each agent types it at the first login.",
			"missing: defaultRegionCode is not set: the phone does not know whose national numbers are meant.",
			"optional: clickToCall is not set: numbers on the page cannot be clicked.",
			"done: The pop-up opens with a token from the API; there is no key that could stand in a page.",
			"missing: popup.texts: de lacks choose, close, inbound, looking, none, outbound, search, unavailable: these show in English.",
		}},
		{public, "empty", []string{"missing: This site has neither webcallback nor jorel nor popup: there is nothing to paste."}},
	} {
		got := checks(c.server, c.site)
		for _, want := range c.want {
			if !slices.Contains(got, want) {
				t.Errorf("%s lacks %q; it says\n%s", c.site, want, strings.Join(got, "\n"))
			}
		}
		if c.site != "never" && c.site != "empty" && len(got) != len(c.want) {
			t.Errorf("%s has %d checks, want %d:\n%s", c.site, len(got), len(c.want), strings.Join(got, "\n"))
		}
	}
}
