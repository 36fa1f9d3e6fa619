package handlers

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"calltracker/rules"
	"calltracker/web"
)

// nextAhead is how far ahead the page of a site looks for a change of its hours.
const nextAhead = 366 * 24 * time.Hour

// Page is what the page for a site's owner shows: the lines to paste, the button
// as it is now, and what is missing. It holds nothing that the site's scripts do
// not tell everyone. Errors: *UnknownEmbed.
func (e *Embeds) Page(site string) (web.SitePage, error) {
	live := e.Config.Live()
	if live == nil {
		return web.SitePage{}, &UnknownEmbed{"no configuration is in force on this server yet"}
	}
	doc, ok := live.Set.Document().Sites[site]
	if !ok {
		return web.SitePage{}, &UnknownEmbed{fmt.Sprintf("there is no site %q on this server", shorten(site))}
	}
	page := web.SitePage{Site: site}
	if doc.WebCallback != nil {
		page.Embeds = append(page.Embeds, e.line(web.WebCallback, site, "Call-me-back button",
			"Paste this line once, anywhere in the page.", "", "https://webcallback.ziwo.io"))
		button := e.button(live.Set, doc)
		page.Button = &button
	}
	attribute := ""
	if doc.Popup != nil {
		attribute = ` data-token="…"`
	}
	if doc.Jorel != nil {
		about := "Paste this line into the pages that your agents work in."
		if doc.Popup != nil {
			about += " It also opens the caller’s page. Your page puts a fresh token in place of the dots, from POST /api/v1/sites/" + site + "/token; on pages that only agents can open, data-key with the site’s key does as well."
		}
		page.Embeds = append(page.Embeds, e.line(web.Jorel, site, "Web phone", about, attribute, "https://jorel.ziwo.io"))
	}
	if doc.Popup != nil {
		about := "For pages that have Ziwo’s phone already."
		page.Embeds = append(page.Embeds, e.line(web.Popup, site, "Pop-up alone", about, attribute, ""))
	}
	page.Checks = e.checks(live.Set, doc)
	return page, nil
}

func (e *Embeds) line(kind web.Kind, site, title, about, attributes, host string) web.SiteEmbed {
	release := kind.Release()
	hosts := strings.TrimSpace(e.PublicURL + " " + host)
	policy := fmt.Sprintf("script-src %s; connect-src %s", hosts, e.PublicURL)
	return web.SiteEmbed{
		Title: title, About: about, Policy: policy,
		Line: fmt.Sprintf(`<script src="%s/%s/%s.js"%s async></script>`, e.PublicURL, kind, site, attributes),
		Pinned: fmt.Sprintf(`<script src="%s/%s/%s/%s.js" integrity="%s" crossorigin="anonymous"%s async></script>`,
			e.PublicURL, kind, site, release.Version, release.Integrity, attributes),
	}
}

func (e *Embeds) button(set *rules.Set, site rules.Site) web.SiteButton {
	doc, now := site.WebCallback, e.Now()
	always := doc.Offline != nil && *doc.Offline
	hours := set.Hours(site.OfflineOutside)
	b := web.SiteButton{Offline: always || !hours.Open(now), Extensions: doc.Extensions}

	class := positionClass(doc)
	corners := []string{"top-left", "top-middle", "top-right", "bottom-left", "bottom-middle", "bottom-right"}
	switch first, _, _ := strings.Cut(class, " "); {
	case doc.ReplacementTargetID != "":
		b.Corner, b.Place = "elsewhere", fmt.Sprintf("It takes the place of the element with the id %q, or stands at %s where there is none.", doc.ReplacementTargetID, class)
	case slices.Contains(corners, first):
		b.Corner, b.Place = first, fmt.Sprintf("It stands at %s.", class)
	default:
		b.Corner, b.Place = "elsewhere", fmt.Sprintf("Your own class %q places it.", class)
	}

	names := strings.Join(site.OfflineOutside, " or ")
	switch {
	case always:
		b.Why = "always: the configuration says offline"
	case hours.Always():
		b.Why = "always: no schedule closes it"
	default:
		b.Why = "by the schedule " + names
		if at, ok := hours.Change(now, now.Add(nextAhead)); ok {
			zone := hours.Zone()
			b.Next, b.NextText = at.UTC().Format(time.RFC3339), at.In(zone).Format("Monday 2 January 2006, 15:04")+" ("+zone.String()+")"
			b.NextState = "Opens"
			if !hours.Open(at) {
				b.NextState = "Closes"
			}
		}
	}

	texts := siteTexts(doc)
	order := slices.Sorted(func(yield func(string) bool) {
		for language := range texts {
			if language != fallbackLanguage && !yield(language) {
				return
			}
		}
	})
	known := map[string]string{"en": "English", "fr": "Français", "ar": "العربية"}
	for _, language := range slices.Insert(order, 0, fallbackLanguage) {
		name := language
		if own, ok := known[language]; ok {
			name = own
		}
		b.Languages = append(b.Languages, web.SiteLanguage{
			Code: language, Name: name, Direction: web.Direction(language), Shown: language == fallbackLanguage, Texts: texts[language],
		})
	}
	return b
}

// checks are what a site needs to work well, in the order of their weight.
func (e *Embeds) checks(set *rules.Set, site rules.Site) []web.SiteCheck {
	var out []web.SiteCheck
	add := func(ok bool, good, missing string) {
		text := good
		if !ok {
			text = missing
		}
		out = append(out, web.SiteCheck{OK: ok, Text: text})
	}
	add(strings.HasPrefix(e.PublicURL, "https://"), "This server is reached by https.",
		"CALLTRACKER_PUBLIC_URL is "+e.PublicURL+": browsers load scripts into https pages by https only.")
	add(len(site.Origins) > 0, fmt.Sprintf("Pages of %s may read the configuration.", strings.Join(site.Origins, ", ")),
		"origins: is empty. The script runs everywhere all the same, but pinned scripts, the .json and the pop-up need it.")
	if doc := site.WebCallback; doc != nil {
		add(len(doc.Extensions) > 1, fmt.Sprintf("%d extensions are tried in turn.", len(doc.Extensions)), "There is one extension only: nobody answers when it is busy.")
		add(doc.CallerIDNumber != "", "People who are called back see "+doc.CallerIDNumber+".", "callerIDNumber is not set: people who are called back see whatever number Ziwo chooses.")
		hours := set.Hours(site.OfflineOutside)
		_, changes := hours.Change(e.Now(), e.Now().Add(nextAhead))
		switch {
		case hours.Always():
			add(false, "", "offline_outside: is empty. The button promises a call at any hour.")
		case !changes && !hours.Open(e.Now()):
			add(false, "", "The schedules of offline_outside do not open within a year.")
		default:
			add(true, "The button shows as closed outside of "+strings.Join(site.OfflineOutside, " and ")+".", "")
		}
		add(len(doc.CustomTexts) > 0, "The texts are your own where you wrote some.", "customTexts: is empty. The built-in texts serve in English, French and Arabic.")
	}
	if doc := site.Jorel; doc != nil {
		add(doc.ContactCenterName != "" || site.ContactCenter != "", "The web phone knows its contact center.", "contactCenterName is not set: each agent types it at the first login.")
		add(doc.DefaultRegionCode != "", "National numbers are read as those of "+doc.DefaultRegionCode+".", "defaultRegionCode is not set: the phone does not know whose national numbers are meant.")
		add(doc.ClickToCall != nil, "Numbers on the page can be clicked.", "clickToCall: is not set. Numbers on the page cannot be clicked.")
	}
	if site.Popup != nil {
		add(len(site.Keys) > 0, "There is a key for pages that only agents can open.", "keys: is empty. Pages need a token from the API.")
	}
	if site.WebCallback == nil && site.Jorel == nil && site.Popup == nil {
		add(false, "", "This site has neither webcallback nor jorel nor popup: there is nothing to paste.")
	}
	return out
}
