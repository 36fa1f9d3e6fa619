package handlers

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"calltracker/rules"
	"calltracker/web"
)

// checklist is what a site needs, in the order of its weight.
type checklist struct{ items []web.SiteCheck }

func (l *checklist) add(state web.CheckState, format string, args ...any) {
	l.items = append(l.items, web.SiteCheck{State: state, Text: fmt.Sprintf(format, args...)})
}

// either adds one text when a thing is there, and the other, in its state, when not.
func (l *checklist) check(ok bool, text string, state web.CheckState, missingText string) {
	if ok {
		state, missingText = web.CheckDone, text
	}
	l.add(state, "%s", missingText)
}

// checks are what the site has and lacks, as far as its configuration tells.
func (e *Embeds) checks(set *rules.Set, site rules.Site) []web.SiteCheck {
	var list checklist
	list.address(e.PublicURL)
	list.origins(site)
	if site.WebCallback != nil {
		e.checkButton(&list, set, site)
	}
	if site.Jorel != nil {
		list.webPhone(site)
	}
	if site.Popup != nil {
		list.check(len(site.Keys) == 0, "The pop-up opens with a token from the API; there is no key that could stand in a page.",
			web.CheckDone, "The pop-up opens with a token from the API, or with a key: that one only on pages that agents alone can open.")
		list.texts("popup.texts", site.Popup.Texts, web.CardTexts())
	}
	if site.WebCallback == nil && site.Jorel == nil && site.Popup == nil {
		list.add(web.CheckMissing, "This site has neither webcallback nor jorel nor popup: there is nothing to paste.")
	}
	return list.items
}

// address checks how browsers reach the server.
func (l *checklist) address(public string) {
	u, err := url.Parse(public)
	switch {
	case err == nil && isLoopbackHost(u.Hostname()):
		l.add(web.CheckMissing, "CALLTRACKER_PUBLIC_URL is %s: it leads browsers to their own machine. Set it to how they reach this server.", public)
	case err != nil || u.Scheme != "https":
		l.add(web.CheckMissing, "CALLTRACKER_PUBLIC_URL is %s: browsers load scripts into https pages by https only.", public)
	default:
		l.add(web.CheckDone, "This server is reached by https.")
	}
}

func isLoopbackHost(host string) bool {
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}

func (l *checklist) origins(site rules.Site) {
	switch {
	case len(site.Origins) > 0:
		l.add(web.CheckDone, "Pages of %s may read the configuration and use pinned scripts.", strings.Join(site.Origins, ", "))
	case site.Popup != nil:
		l.add(web.CheckMissing, "origins: is empty, so that browsers let no page of another host ask whose number it is: the pop-up finds nobody.")
	default:
		l.add(web.CheckOptional, "origins: is empty. The line to paste works everywhere; pinned scripts and the .json need the origin of the page there.")
	}
}

func (e *Embeds) checkButton(list *checklist, set *rules.Set, site rules.Site) {
	doc, now := site.WebCallback, e.Now()
	hours := set.Hours(site.OfflineOutside)
	_, changes := hours.Change(now, now.Add(scheduleHorizon))
	switch {
	case doc.Offline != nil && *doc.Offline:
		list.add(web.CheckMissing, "offline: is true. The button is closed, whatever the hours say.")
	case hours.Always():
		list.add(web.CheckMissing, "offline_outside: is empty. No schedule closes the button: it promises a call at any hour.")
	case !changes && !hours.Open(now):
		list.add(web.CheckMissing, "The schedules of offline_outside do not open within a year.")
	default:
		list.add(web.CheckDone, "The button shows as closed outside of %s.", strings.Join(site.OfflineOutside, " and "))
	}
	list.check(len(doc.Extensions) > 1, fmt.Sprintf("%d extensions are tried in turn.", len(doc.Extensions)),
		web.CheckOptional, "There is one extension only: nobody else answers when it is busy.")
	list.check(doc.CallerIDNumber != "", "People who are called back see "+doc.CallerIDNumber+".",
		web.CheckOptional, "callerIDNumber is not set: people who are called back see whatever number Ziwo chooses.")
	list.check(len(doc.DefaultCountryFlags) > 0, "The first countries to choose from are "+strings.Join(doc.DefaultCountryFlags, ", ")+".",
		web.CheckOptional, "defaultCountryFlags is empty: no country stands first in the list.")
	list.texts("customTexts", doc.CustomTexts, web.Texts())
}

func (l *checklist) webPhone(site rules.Site) {
	doc := site.Jorel
	l.check(doc.ContactCenterName != "" || site.ContactCenter != "", "The web phone knows its contact center.",
		web.CheckOptional, "contactCenterName is not set: each agent types it at the first login.")
	l.check(doc.DefaultRegionCode != "", "National numbers are read as those of "+strings.ToUpper(doc.DefaultRegionCode)+".",
		web.CheckMissing, "defaultRegionCode is not set: the phone does not know whose national numbers are meant.")
	l.check(doc.ClickToCall != nil, "Numbers on the page can be clicked.",
		web.CheckOptional, "clickToCall is not set: numbers on the page cannot be clicked.")
}

// texts checks that what is said is said in the language of the reader.
func (l *checklist) texts(key string, custom map[string]rules.Translation, built map[string]map[string]string) {
	languages := slices.Sorted(maps.Keys(translations(built, custom)))
	keys := slices.Sorted(maps.Keys(built[fallbackLanguage]))
	complete := true
	for _, language := range languages {
		if built[language] != nil || fallbackFor(language, built) != fallbackLanguage || isFallback(language) {
			continue // what the site did not write comes in the same language
		}
		missing := slices.DeleteFunc(slices.Clone(keys), func(text string) bool {
			_, own := custom[language].Texts[text]
			return own || custom[text].Text != ""
		})
		if len(missing) > 0 {
			l.add(web.CheckMissing, "%s: %s lacks %s: these show in English.", key, language, strings.Join(missing, ", "))
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
			l.add(web.CheckOptional, "%s: %s is %q in %s as well; write it below a language to translate it.", key, text, shorten(custom[text].Text), strings.Join(untranslated, ", "))
			complete = false
		}
	}
	if complete {
		l.add(web.CheckDone, "%s: every text is there in %s.", key, strings.Join(languages, ", "))
	}
}

func isFallback(language string) bool {
	base, _, _ := strings.Cut(strings.ToLower(language), "-")
	return base == fallbackLanguage
}
