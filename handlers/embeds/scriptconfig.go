package embeds

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/rules"
	"calltracker/web"
)

// Types of the settings under config.ReservedKey, next to the keys of Ziwo's scripts.
type (
	extraConfig struct {
		Site   string `json:"site"`
		Server string `json:"server"`

		Texts   map[string]map[string]string `json:"texts,omitempty"` // by language
		Changes []hoursChange                `json:"changes,omitzero"`
		Popup   *popupConfig                 `json:"popup,omitempty"`
		Calls   *callsConfig                 `json:"calls,omitempty"`
	}
	hoursChange struct {
		At      string `json:"at"` // RFC 3339
		Offline bool   `json:"offline"`
	}
	popupConfig struct {
		On          []string `json:"on"`
		Many        string   `json:"many"`
		None        string   `json:"none"`
		Unavailable string   `json:"unavailable"`
		Open        string   `json:"open"`
		Side        string   `json:"side"` // side of the page for the card, opposite the web phone

		Texts map[string]map[string]string `json:"texts"` // texts of the card by language
	}
	callsConfig struct {
		Links     bool     `json:"links"`
		Selectors []string `json:"selectors"`
		Text      bool     `json:"text"`
		Code      string   `json:"code"`  // calling code of the site's country
		Trunk     string   `json:"trunk"` // prefix of national numbers
	}
)

// configuration returns the JSON configuration of a site's script and its expiry.
func (s *Scripts) configuration(set *rules.Set, key assetKey, site config.Site, now time.Time) (text []byte, until time.Time, err error) {
	extra := &extraConfig{Site: key.site, Server: s.publicURL + "/"}
	values := map[string]any{config.ReservedKey: extra}
	switch key.kind {
	case web.WebCallback:
		until = webCallbackConfig(values, extra, set, site, now)
	case web.Jorel:
		jorelConfig(values, extra, site)
	case web.Popup:
		extra.Popup = popupConfigOf(site)
	}
	text, err = json.Marshal(values)
	return text, until, err
}

// Limits on the schedule changes in a configuration. A page that stays open beyond
// them shows its last state.
const (
	maxHoursAhead   = 60 * 24 * time.Hour
	maxHoursChanges = 40
)

// webCallbackConfig sets the options of Ziwo's script. Absent options stay absent,
// except for the position class, which the script requires.
func webCallbackConfig(values map[string]any, extra *extraConfig, set *rules.Set, site config.Site, now time.Time) (until time.Time) {
	doc := site.WebCallback
	maps.Copy(values, doc.Other)
	values["contactCenterName"] = doc.ContactCenterName
	values["extensions"] = doc.Extensions
	values["positionClass"] = positionClass(doc)
	setText(values, "callerIDNumber", doc.CallerIDNumber)
	setText(values, "replacementTargetId", doc.ReplacementTargetID)
	for name, value := range map[string]*int{
		"numberOfRetries": doc.NumberOfRetries, "timeout": doc.Timeout,
		"extensionTimeout": doc.ExtensionTimeout, "extensionDelay": doc.ExtensionDelay,
	} {
		if value != nil {
			values[name] = *value
		}
	}
	if len(doc.DefaultCountryFlags) > 0 {
		values["defaultCountryFlags"] = doc.DefaultCountryFlags
	}
	extra.Texts = translations(web.Texts(), doc.CustomTexts)
	values["customTexts"] = extra.Texts[fallbackLanguage]

	alwaysOffline := doc.Offline != nil && *doc.Offline
	hours := set.Hours(site.OfflineOutside)
	values["offline"] = alwaysOffline || !hours.Open(now)
	extra.Changes = []hoursChange{}
	if alwaysOffline || hours.Always() {
		return time.Time{}
	}
	limit := now.Add(maxHoursAhead)
	until = limit
	for at, ok := hours.Change(now, limit); ok && len(extra.Changes) < maxHoursChanges; at, ok = hours.Change(at, limit) {
		if len(extra.Changes) == 0 {
			until = at
		}
		extra.Changes = append(extra.Changes, hoursChange{At: at.UTC().Format(time.RFC3339), Offline: !hours.Open(at)})
	}
	return until
}

// defaultPosition is the position of Ziwo's button if none is configured.
const defaultPosition = "bottom-right"

func positionClass(doc *config.WebCallback) string {
	return cmp.Or(strings.TrimSpace(doc.PositionClass), defaultPosition)
}

func setText(values map[string]any, name, value string) {
	if value != "" {
		values[name] = value
	}
}

// fallbackLanguage is used if a page's language has no texts.
const fallbackLanguage = "en"

// translations returns the texts of each language. A text of the site for that
// language has priority over a text of the site for all languages, which has
// priority over a built-in text.
func translations(built map[string]map[string]string, custom map[string]config.Translation) map[string]map[string]string {
	texts := map[string]map[string]string{}
	for language, all := range built {
		texts[language] = maps.Clone(all)
	}
	for language := range custom {
		if custom[language].Texts != nil && texts[language] == nil {
			texts[language] = maps.Clone(built[fallbackFor(language, built)])
		}
	}
	for language, all := range texts {
		for key, text := range custom {
			if text.Texts == nil {
				all[key] = text.Text
			}
		}
		maps.Copy(all, custom[language].Texts)
	}
	return texts
}

// fallbackFor returns the built-in language that completes the texts of a language:
// fr for fr-CA, and English for a language that is not built in.
func fallbackFor(language string, built map[string]map[string]string) string {
	base, _, _ := strings.Cut(strings.ToLower(language), "-")
	if built[base] == nil {
		return fallbackLanguage
	}
	return base
}

func jorelConfig(values map[string]any, extra *extraConfig, site config.Site) {
	doc := site.Jorel
	setText(values, "contactCenterName", cmp.Or(doc.ContactCenterName, site.ContactCenter))
	values["defaultPosition"] = cmp.Or(doc.DefaultPosition, defaultPosition)
	values["defaultSize"] = cmp.Or(doc.DefaultSize, "normal")
	values["defaultRegionCode"] = doc.DefaultRegionCode
	values["fixedPositionAndSize"] = doc.FixedPositionAndSize
	values["deactivateMinimization"] = doc.DeactivateMinimization
	values["deactivateConsoleOutput"] = doc.DeactivateConsoleOutput
	if site.Popup != nil {
		extra.Popup = popupConfigOf(site)
	}
	if calls := doc.ClickToCall; calls != nil {
		code, trunk := phone.DialPrefixes(strings.ToUpper(doc.DefaultRegionCode))
		extra.Calls = &callsConfig{Links: calls.Links, Selectors: slices.Concat([]string{}, calls.Selectors), Text: calls.Text, Code: code, Trunk: trunk}
	}
}

func popupConfigOf(site config.Site) *popupConfig {
	doc := site.Popup
	out := &popupConfig{
		On: doc.On, Many: cmp.Or(doc.Many, "choose"), None: cmp.Or(doc.None, "search"),
		Unavailable: cmp.Or(doc.Unavailable, "search"), Open: cmp.Or(doc.Open, "window"), Side: "left",
		Texts: translations(web.CardTexts(), doc.Texts),
	}
	if doc.On == nil {
		out.On = []string{"ringing", "early"}
	}
	if site.Jorel != nil && strings.HasSuffix(site.Jorel.DefaultPosition, "-left") {
		out.Side = "right"
	}
	return out
}
