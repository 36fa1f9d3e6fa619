package embeds

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"calltracker/config"
	"calltracker/problem"
	"calltracker/rules"
	"calltracker/web"
)

// checklist collects the checks of a site, most important first.
type checklist struct{ items []web.SiteCheck }

func (l *checklist) add(state web.CheckState, format string, args ...any) {
	l.items = append(l.items, web.SiteCheck{State: state, Text: fmt.Sprintf(format, args...)})
}

// check adds a done item if ok is true, and otherwise an item with the given state.
func (l *checklist) check(ok bool, text string, state web.CheckState, missingText string) {
	if ok {
		state, missingText = web.CheckDone, text
	}
	l.add(state, "%s", missingText)
}

// checks returns the checks of a site that its configuration allows.
func (s *Scripts) checks(set *rules.Set, site config.Site) []web.SiteCheck {
	var list checklist
	list.address(s.publicURL)
	list.origins(site)
	if site.WebCallback != nil {
		s.checkButton(&list, set, site)
	}
	if site.Jorel != nil {
		list.webPhone(site)
	}
	if site.Popup != nil {
		list.check(len(site.Keys) == 0, "The pop-up opens with a token from the API. No key is exposed in a page.",
			web.CheckDone, "The pop-up opens with a token from the API, or with a key. Use the key only on pages that only agents can open.")
		list.texts("popup.texts", site.Popup.Texts, web.CardTexts())
	}
	if site.WebCallback == nil && site.Jorel == nil && site.Popup == nil {
		list.add(web.CheckMissing, "This site has no webcallback, jorel, or popup section, so there is nothing to embed.")
	}
	return list.items
}

// address checks the URL at which browsers reach the server.
func (l *checklist) address(public string) {
	u, err := url.Parse(public)
	switch {
	case err == nil && isLoopbackHost(u.Hostname()):
		l.add(web.CheckMissing, "CALLTRACKER_PUBLIC_URL is %s, which points each browser to its own machine. Set it to the URL at which browsers reach this server.", public)
	case err != nil || u.Scheme != "https":
		l.add(web.CheckMissing, "CALLTRACKER_PUBLIC_URL is %s. Browsers load scripts into HTTPS pages only over HTTPS.", public)
	default:
		l.add(web.CheckDone, "This server is reachable over HTTPS.")
	}
}

func isLoopbackHost(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}

func (l *checklist) origins(site config.Site) {
	switch {
	case len(site.Origins) > 0:
		l.add(web.CheckDone, "Pages on %s may read the configuration and use pinned scripts.", strings.Join(site.Origins, ", "))
	case site.Popup != nil:
		l.add(web.CheckMissing, "origins is empty. Browsers block lookups from pages on other hosts, so the pop-up finds no customers there.")
	default:
		l.add(web.CheckOptional, "origins is empty. The standard script tag works on every page; pinned scripts and the JSON configuration require the page's origin to be listed.")
	}
}

func (s *Scripts) checkButton(list *checklist, set *rules.Set, site config.Site) {
	doc, now := site.WebCallback, s.now()
	hours := set.Hours(site.OfflineOutside)
	_, changes := hours.Change(now, now.Add(scheduleHorizon))
	switch {
	case doc.Offline != nil && *doc.Offline:
		list.add(web.CheckMissing, "offline is true. The button is closed regardless of the schedules.")
	case hours.Always():
		list.add(web.CheckMissing, "offline_outside is empty. The button offers a callback at any hour.")
	case !changes && !hours.Open(now):
		list.add(web.CheckMissing, "The schedules in offline_outside do not open within a year.")
	default:
		list.add(web.CheckDone, "The button is closed outside %s.", strings.Join(site.OfflineOutside, " and "))
	}
	list.check(len(doc.Extensions) > 1, fmt.Sprintf("%d extensions are tried in order.", len(doc.Extensions)),
		web.CheckOptional, "Only one extension is configured. If it is busy, no other extension is tried.")
	list.check(doc.CallerIDNumber != "", "Callback recipients see the caller ID "+doc.CallerIDNumber+".",
		web.CheckOptional, "callerIDNumber is not set. Ziwo chooses the caller ID that callback recipients see.")
	list.check(len(doc.DefaultCountryFlags) > 0, "The country list starts with "+strings.Join(doc.DefaultCountryFlags, ", ")+".",
		web.CheckOptional, "defaultCountryFlags is empty. The country list has no preferred countries.")
	list.texts("customTexts", doc.CustomTexts, web.Texts())
}

func (l *checklist) webPhone(site config.Site) {
	doc := site.Jorel
	l.check(doc.ContactCenterName != "" || site.ContactCenter != "", "The web phone has a contact center.",
		web.CheckOptional, "contactCenterName is not set. Each agent enters it at the first login.")
	l.check(doc.DefaultRegionCode != "", "National numbers are interpreted for region "+strings.ToUpper(doc.DefaultRegionCode)+".",
		web.CheckMissing, "defaultRegionCode is not set. The web phone cannot interpret national numbers.")
	l.check(doc.ClickToCall != nil, "Click-to-call is enabled for numbers on the page.",
		web.CheckOptional, "clickToCall is not set. Click-to-call is disabled for numbers on the page.")
}

// texts checks that every text is translated into every language of the site.
func (l *checklist) texts(key string, custom map[string]config.Translation, built map[string]map[string]string) {
	languages := slices.Sorted(maps.Keys(translations(built, custom)))
	keys := slices.Sorted(maps.Keys(built[fallbackLanguage]))
	complete := true
	for _, language := range languages {
		if built[language] != nil || fallbackFor(language, built) != fallbackLanguage || isFallback(language) {
			continue // missing texts fall back to the same language
		}
		missing := slices.DeleteFunc(slices.Clone(keys), func(text string) bool {
			_, own := custom[language].Texts[text]
			return own || custom[text].Text != ""
		})
		if len(missing) > 0 {
			l.add(web.CheckMissing, "%s: %s has no translation of %s. These texts appear in English.", key, language, strings.Join(missing, ", "))
			complete = false
		}
	}
	for _, text := range slices.Sorted(maps.Keys(custom)) {
		if custom[text].Texts != nil {
			continue
		}
		untranslated := slices.DeleteFunc(slices.Clone(languages), func(language string) bool {
			_, own := custom[language].Texts[text]
			return own || isFallback(language)
		})
		if len(untranslated) > 0 {
			l.add(web.CheckOptional, "%s: %s is %q in %s too. To translate it, set it under a language.", key, text, problem.Clip(custom[text].Text), strings.Join(untranslated, ", "))
			complete = false
		}
	}
	if complete {
		l.add(web.CheckDone, "%s: every text is translated into %s.", key, strings.Join(languages, ", "))
	}
}

func isFallback(language string) bool {
	base, _, _ := strings.Cut(strings.ToLower(language), "-")
	return base == fallbackLanguage
}
