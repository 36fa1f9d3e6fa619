package embeds

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"calltracker/config"
	"calltracker/problem"
	"calltracker/rules"
	"calltracker/web"
)

// scheduleHorizon is how far ahead to look for the next schedule change.
const scheduleHorizon = 366 * 24 * time.Hour

// Page returns the contents of a site's setup page: the script tags to paste, the
// current state of the button, and the open checks. It contains nothing that the
// site's scripts do not expose. Errors: *NotFound.
func (s *Scripts) Page(site string) (web.SitePage, error) {
	snapshot := s.config.Current()
	if snapshot == nil {
		return web.SitePage{}, &NotFound{"no configuration is active on this server"}
	}
	doc, ok := snapshot.Document.Sites[site]
	if !ok {
		return web.SitePage{}, &NotFound{fmt.Sprintf("unknown site %q; check the sites section of the configuration", problem.Clip(site))}
	}
	page := web.SitePage{Site: site}
	if doc.WebCallback != nil {
		page.Embeds = append(page.Embeds, s.snippet(web.WebCallback, site, "Call-me-back button",
			"Paste this script tag once, anywhere in the page.", "", "https://webcallback.ziwo.io"))
		button := s.button(snapshot.Set, doc)
		page.Button = &button
	}
	attribute := ""
	if doc.Popup != nil {
		attribute = ` data-token="…"`
	}
	if doc.Jorel != nil {
		about := "Paste this script tag into the pages that your agents work in."
		if doc.Popup != nil {
			about += " It also opens the customer’s page for each call. Replace the dots with a new token from POST /api/v1/sites/" + site + "/token. On pages that only agents can open, you can use data-key with the site’s key instead."
		}
		page.Embeds = append(page.Embeds, s.snippet(web.Jorel, site, "Web phone", about, attribute, "https://jorel.ziwo.io"))
	}
	if doc.Popup != nil {
		about := "For pages that already contain Ziwo’s web phone."
		page.Embeds = append(page.Embeds, s.snippet(web.Popup, site, "Screen pop only", about, attribute, ""))
	}
	page.Checks = s.checks(snapshot.Set, doc)
	return page, nil
}

func (s *Scripts) snippet(kind web.Kind, site, title, about, attributes, host string) web.SiteEmbed {
	release := kind.Release()
	hosts := strings.TrimSpace(s.publicURL + " " + host)
	policy := fmt.Sprintf("script-src %s; connect-src %s", hosts, s.publicURL)
	return web.SiteEmbed{
		Title: title, About: about, Policy: policy,
		Line: fmt.Sprintf(`<script src="%s/%s/%s.js"%s async></script>`, s.publicURL, kind, site, attributes),
		Pinned: fmt.Sprintf(`<script src="%s/%s/%s/%s.js" integrity="%s" crossorigin="anonymous"%s async></script>`,
			s.publicURL, kind, site, release.Version, release.Integrity, attributes),
	}
}

func (s *Scripts) button(set *rules.Set, site config.Site) web.SiteButton {
	doc, now := site.WebCallback, s.now()
	alwaysOffline := doc.Offline != nil && *doc.Offline
	hours := set.Hours(site.OfflineOutside)
	b := web.SiteButton{Offline: alwaysOffline || !hours.Open(now), Extensions: doc.Extensions}

	class := positionClass(doc)
	corners := []string{"top-left", "top-middle", "top-right", "bottom-left", "bottom-middle", "bottom-right"}
	switch first, _, _ := strings.Cut(class, " "); {
	case doc.ReplacementTargetID != "":
		b.Corner, b.Place = "elsewhere", fmt.Sprintf("The button replaces the element with the ID %q, or appears at %s if there is none.", doc.ReplacementTargetID, class)
	case slices.Contains(corners, first):
		b.Corner, b.Place = first, fmt.Sprintf("The button appears at %s.", class)
	default:
		b.Corner, b.Place = "elsewhere", fmt.Sprintf("Your CSS class %q positions the button.", class)
	}

	names := strings.Join(site.OfflineOutside, " or ")
	switch {
	case alwaysOffline:
		b.Why = "always, because offline is true"
	case hours.Always():
		b.Why = "always, because no schedule closes it"
	default:
		b.Why = "by the schedule " + names
		if at, ok := hours.Change(now, now.Add(scheduleHorizon)); ok {
			zone := hours.Zone()
			b.Next, b.NextText = at.UTC().Format(time.RFC3339), at.In(zone).Format("Monday 2 January 2006, 15:04")+" ("+zone.String()+")"
			b.NextState = "Opens"
			if !hours.Open(at) {
				b.NextState = "Closes"
			}
		}
	}

	texts := translations(web.Texts(), doc.CustomTexts)
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
