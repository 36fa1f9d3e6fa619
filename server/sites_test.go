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
			"The button replaces the element with the ID &#34;call-us&#34;", "always, because no schedule closes it", "Callback recipients see the caller ID +971557526349", "offline_outside is empty", "customTexts: formButton is &#34;Ring me&#34; in ar, de, fr-CA too", "33176431477", "Nothing appears?",
		},
		"/sites/half-days":  {"by the schedule noon", `<time datetime="20`, "(Asia/Dubai)", "The button is closed outside noon", "Only one extension is configured"},
		"/sites/closed-now": {`<span class="state off">Closed</span>`, "do not open within a year"},
		"/sites/crm":        {"/jorel/crm.js", "data-token", "/popup/crm.js", "Click-to-call is enabled for numbers on the page", "or with a key"},
		"/sites/v1.2":       {"The button appears at top-left mine."},
	} {
		got := h.do(request{method: "GET", path: path}).want(t, 200)
		for _, part := range want {
			if !strings.Contains(got.body, strings.ReplaceAll(part, "+", "&#43;")) {
				t.Errorf("%s: %q is missing", path, part)
			}
		}
		if strings.Contains(got.body, "hush") || strings.Contains(got.body, h.token) {
			t.Errorf("%s contains a secret", path)
		}
		if policy := got.header.Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: Content-Security-Policy %q", path, policy)
		}
		assets := regexp.MustCompile(`/assets/[a-z0-9.-]+`).FindAllString(got.body, -1)
		if len(assets) != 2 {
			t.Errorf("%s: assets %q, want 2", path, assets)
		}
		for _, asset := range assets {
			if got := h.getCompressed(request{path: asset}); got.status != 200 || !strings.Contains(got.header.Get("Cache-Control"), "immutable") {
				t.Errorf("%s: status %d, headers %v; want 200, immutable", asset, got.status, got.header)
			}
		}
	}
	if got := h.do(request{method: "GET", path: "/sites/no-such-site"}).want(t, 404); !strings.Contains(got.body, "check the sites section of the configuration") {
		t.Errorf("unknown site: body %q", got.body)
	}
	if got := h.getCompressed(request{path: "/assets/site-0000.js"}); got.status != 404 {
		t.Errorf("unknown asset: status %d, want 404", got.status)
	}
}

// TestSitePageChecklist checks that the checklist of each site lists what is missing.
func TestSitePageChecklist(t *testing.T) {
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
	const reachable = "done: This server is reachable over HTTPS."
	for _, c := range []struct {
		server *harness
		site   string
		want   []string
	}{
		{local, "bare", []string{
			"missing: CALLTRACKER_PUBLIC_URL is http://localhost:8080, which points each browser to its own machine. Set it to the URL at which browsers reach this server.",
			"optional: origins is empty. The standard script tag works on every page; pinned scripts and the JSON configuration require the page's origin to be listed.",
			"missing: offline_outside is empty. The button offers a callback at any hour.",
			"optional: Only one extension is configured. If it is busy, no other extension is tried.",
			"optional: callerIDNumber is not set. Ziwo chooses the caller ID that callback recipients see.",
			"optional: defaultCountryFlags is empty. The country list has no preferred countries.",
			"done: customTexts: every text is translated into ar, en, fr.",
		}},
		{public, "closed", []string{
			reachable,
			"done: Pages on https://shop.example.com may read the configuration and use pinned scripts.",
			"missing: offline is true. The button is closed regardless of the schedules.",
			"done: 2 extensions are tried in order.",
			"done: Callback recipients see the caller ID +97142223344.",
			"done: The country list starts with ae, sa.",
			"missing: customTexts: de has no translation of failureMessage, failureTitle, formInputLabel, mainButtonTooltip, offlineButtonTooltip, successMessage, successTitle. These texts appear in English.",
		}},
		{plain, "never", []string{
			"missing: CALLTRACKER_PUBLIC_URL is http://calls.example.com. Browsers load scripts into HTTPS pages only over HTTPS.",
			"missing: The schedules in offline_outside do not open within a year.",
		}},
		{public, "agents", []string{
			reachable,
			"missing: origins is empty. Browsers block lookups from pages on other hosts, so the pop-up finds no customers there.",
			"optional: contactCenterName is not set. Each agent enters it at the first login.",
			"missing: defaultRegionCode is not set. The web phone cannot interpret national numbers.",
			"optional: clickToCall is not set. Click-to-call is disabled for numbers on the page.",
			"done: The pop-up opens with a token from the API. No key is exposed in a page.",
			"missing: popup.texts: de has no translation of choose, close, inbound, looking, none, outbound, search, unavailable. These texts appear in English.",
		}},
		{public, "empty", []string{"missing: This site has no webcallback, jorel, or popup section, so there is nothing to embed."}},
	} {
		got := checks(c.server, c.site)
		for _, want := range c.want {
			if !slices.Contains(got, want) {
				t.Errorf("%s: check %q is missing from\n%s", c.site, want, strings.Join(got, "\n"))
			}
		}
		if c.site != "never" && c.site != "empty" && len(got) != len(c.want) {
			t.Errorf("%s: %d checks, want %d:\n%s", c.site, len(got), len(c.want), strings.Join(got, "\n"))
		}
	}
}
