package handlers

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/andybalholm/brotli"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/rules"
	"calltracker/web"
)

// UnknownEmbed is a script or configuration that no site has.
type UnknownEmbed struct{ message string }

func (e *UnknownEmbed) Error() string { return e.message }

// How far ahead a configuration tells when the hours change: a page that stays
// open longer than that shows its last state.
const (
	hoursAhead   = 60 * 24 * time.Hour
	changesAhead = 40
)

// Embeds are the scripts and configurations that sites embed. They are made and
// compressed once for each site and version of the configuration, and again when
// its hours change; from then on they come from memory. It is safe for
// concurrent use.
type Embeds struct {
	Config    *Config
	PublicURL string // for scripts that cannot tell where they came from
	Now       func() time.Time

	kept atomic.Pointer[embedded]
}

// embedded is what was made of one configuration.
type embedded struct {
	live   *Live
	making sync.Mutex
	assets sync.Map // assetKey to *Asset
}

type assetKey struct {
	kind web.Kind
	site string
	json bool
}

// Asset is one file for browsers, as it is and compressed. It is immutable.
type Asset struct {
	Plain, Gzip, Brotli []byte
	Tag                 string   // tells its content apart, for ETag
	Origins             []string // of the pages that may read it

	until time.Time // when it is out of date; zero is never
}

// Script is a site's script with its configuration in it. Errors: *UnknownEmbed.
func (e *Embeds) Script(kind web.Kind, site string) (*Asset, error) {
	return e.asset(assetKey{kind: kind, site: site})
}

// Configuration is what a site's script is configured with, in JSON. Errors:
// *UnknownEmbed.
func (e *Embeds) Configuration(kind web.Kind, site string) (*Asset, error) {
	return e.asset(assetKey{kind: kind, site: site, json: true})
}

// Release is the script that a site's pages can pin: it never changes under its
// version. Errors: *UnknownEmbed.
func (e *Embeds) Release(kind web.Kind, site, version string) (*Asset, error) {
	release := kind.Release()
	key := assetKey{kind: kind, site: "/" + site} // no name of a site
	a, err := e.keep(key, func(live *Live, _ time.Time) (*Asset, error) {
		doc, err := siteOf(live, kind, site)
		if err != nil {
			return nil, err
		}
		return newAsset(release.Body, doc.Origins)
	})
	if err == nil && version != release.Version {
		return nil, &UnknownEmbed{fmt.Sprintf("version %q of this script is not served any more; take the line to paste from /sites/%s", shorten(version), site)}
	}
	return a, err
}

func (e *Embeds) asset(key assetKey) (*Asset, error) {
	return e.keep(key, func(live *Live, now time.Time) (*Asset, error) {
		doc, err := siteOf(live, key.kind, key.site)
		if err != nil {
			return nil, err
		}
		config, until, err := e.configuration(live.Set, key, doc, now)
		if err != nil {
			return nil, fmt.Errorf("configuration of %s for site %s: %w", key.kind, key.site, err)
		}
		body := config
		if !key.json {
			if body, err = key.kind.Script(config); err != nil {
				return nil, fmt.Errorf("script %s of site %s: %w", key.kind, key.site, err)
			}
		}
		made, err := newAsset(body, doc.Origins)
		if err != nil {
			return nil, err
		}
		made.until = until
		return made, nil
	})
}

// keep returns what is kept under a key, and makes it when there is nothing, or
// it is out of date. Things are made one at a time.
func (e *Embeds) keep(key assetKey, produce func(live *Live, now time.Time) (*Asset, error)) (*Asset, error) {
	live := e.Config.Live()
	if live == nil {
		return nil, &UnknownEmbed{"no configuration is in force on this server yet"}
	}
	kept := e.kept.Load()
	if kept == nil || kept.live != live {
		fresh := &embedded{live: live}
		e.kept.CompareAndSwap(kept, fresh)
		kept = fresh // if another was faster, this one serves once
	}
	now := e.Now()
	fresh := func() (*Asset, bool) {
		found, ok := kept.assets.Load(key)
		if !ok {
			return nil, false
		}
		a := found.(*Asset)
		return a, a.until.IsZero() || now.Before(a.until)
	}
	if a, ok := fresh(); ok {
		return a, nil
	}
	kept.making.Lock()
	defer kept.making.Unlock()
	if a, ok := fresh(); ok {
		return a, nil
	}
	a, err := produce(live, now)
	if err != nil {
		return nil, err
	}
	kept.assets.Store(key, a)
	return a, nil
}

// siteOf finds a site that has the script.
func siteOf(live *Live, kind web.Kind, name string) (config.Site, error) {
	doc, ok := live.Document.Sites[name]
	if !ok {
		return doc, &UnknownEmbed{fmt.Sprintf("there is no site %q on this server; look at the address of the script, and at sites: in the configuration", shorten(name))}
	}
	has := map[web.Kind]bool{
		web.WebCallback: doc.WebCallback != nil,
		web.Jorel:       doc.Jorel != nil,
		web.Popup:       doc.Popup != nil,
	}
	if !has[kind] {
		return doc, &UnknownEmbed{fmt.Sprintf("site %q has no %s in the configuration", name, kind)}
	}
	return doc, nil
}

// newAsset compresses a body once, as well as can be.
func newAsset(body []byte, origins []string) (*Asset, error) {
	sum := sha256.Sum256(body)
	a := &Asset{Plain: body, Tag: base64.RawURLEncoding.EncodeToString(sum[:15]), Origins: origins}
	var small bytes.Buffer
	zipper, err := gzip.NewWriterLevel(&small, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = zipper.Write(body)
	if err := errors.Join(err, zipper.Close()); err != nil {
		return nil, err
	}
	a.Gzip = slices.Clone(small.Bytes())
	small.Reset()
	squeezer := brotli.NewWriterLevel(&small, brotli.BestCompression)
	_, err = squeezer.Write(body)
	if err := errors.Join(err, squeezer.Close()); err != nil {
		return nil, err
	}
	a.Brotli = slices.Clone(small.Bytes())
	return a, nil
}

// What a configuration has beside Ziwo's own keys, under config.ReservedKey.
type (
	ownConfig struct {
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
		Side        string   `json:"side"` // of the card, away from the web phone

		Texts map[string]map[string]string `json:"texts"` // of the card, by language
	}
	callsConfig struct {
		Links     bool     `json:"links"`
		Selectors []string `json:"selectors"`
		Text      bool     `json:"text"`
		Code      string   `json:"code"`  // calling code of the site's country
		Trunk     string   `json:"trunk"` // before national numbers
	}
)

// configuration is the JSON of a site's script, and when it is out of date.
func (e *Embeds) configuration(set *rules.Set, key assetKey, site config.Site, now time.Time) (text []byte, until time.Time, err error) {
	own := &ownConfig{Site: key.site, Server: strings.TrimSuffix(e.PublicURL, "/") + "/"}
	config := map[string]any{config.ReservedKey: own}
	switch key.kind {
	case web.WebCallback:
		until = webCallbackConfig(config, own, set, site, now)
	case web.Jorel:
		jorelConfig(config, own, site)
	case web.Popup:
		own.Popup = popupOf(site)
	}
	text, err = json.Marshal(config)
	return text, until, err
}

// webCallbackConfig fills in what Ziwo's script takes. Absent keys stay absent,
// but for the class of the position, without which that script fails.
func webCallbackConfig(config map[string]any, own *ownConfig, set *rules.Set, site config.Site, now time.Time) (until time.Time) {
	doc := site.WebCallback
	maps.Copy(config, doc.Other)
	config["contactCenterName"] = doc.ContactCenterName
	config["extensions"] = doc.Extensions
	config["positionClass"] = positionClass(doc)
	setText(config, "callerIDNumber", doc.CallerIDNumber)
	setText(config, "replacementTargetId", doc.ReplacementTargetID)
	for name, value := range map[string]*int{
		"numberOfRetries": doc.NumberOfRetries, "timeout": doc.Timeout,
		"extensionTimeout": doc.ExtensionTimeout, "extensionDelay": doc.ExtensionDelay,
	} {
		if value != nil {
			config[name] = *value
		}
	}
	if len(doc.DefaultCountryFlags) > 0 {
		config["defaultCountryFlags"] = doc.DefaultCountryFlags
	}
	own.Texts = translations(web.Texts(), doc.CustomTexts)
	config["customTexts"] = own.Texts[fallbackLanguage]

	always := doc.Offline != nil && *doc.Offline
	hours := set.Hours(site.OfflineOutside)
	config["offline"] = always || !hours.Open(now)
	own.Changes = []hoursChange{}
	if always || hours.Always() {
		return time.Time{}
	}
	limit := now.Add(hoursAhead)
	until = limit
	for at, ok := hours.Change(now, limit); ok && len(own.Changes) < changesAhead; at, ok = hours.Change(at, limit) {
		if len(own.Changes) == 0 {
			until = at
		}
		own.Changes = append(own.Changes, hoursChange{At: at.UTC().Format(time.RFC3339), Offline: !hours.Open(at)})
	}
	return until
}

// usualPosition is where Ziwo's button stands when the document does not say.
const usualPosition = "bottom-right"

func positionClass(doc *config.WebCallback) string {
	return cmp.Or(strings.TrimSpace(doc.PositionClass), usualPosition)
}

func setText(config map[string]any, name, value string) {
	if value != "" {
		config[name] = value
	}
}

// fallbackLanguage is taken when a page's language has no texts.
const fallbackLanguage = "en"

// translations are the texts of each language: the site's for that language, else
// those that it has for all, else the built-in ones.
func translations(built map[string]map[string]string, custom map[string]config.Translation) map[string]map[string]string {
	texts := map[string]map[string]string{}
	for language, all := range built {
		texts[language] = maps.Clone(all)
	}
	for language := range custom {
		if custom[language].Texts != nil && texts[language] == nil {
			texts[language] = maps.Clone(built[completedFrom(language, built)])
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

// completedFrom is the language with the texts that a site did not write: fr for
// fr-CA, English for one that is not built in.
func completedFrom(language string, built map[string]map[string]string) string {
	base, _, _ := strings.Cut(strings.ToLower(language), "-")
	if built[base] == nil {
		return fallbackLanguage
	}
	return base
}

func jorelConfig(config map[string]any, own *ownConfig, site config.Site) {
	doc := site.Jorel
	setText(config, "contactCenterName", cmp.Or(doc.ContactCenterName, site.ContactCenter))
	config["defaultPosition"] = cmp.Or(doc.DefaultPosition, usualPosition)
	config["defaultSize"] = cmp.Or(doc.DefaultSize, "normal")
	config["defaultRegionCode"] = doc.DefaultRegionCode
	config["fixedPositionAndSize"] = doc.FixedPositionAndSize
	config["deactivateMinimization"] = doc.DeactivateMinimization
	config["deactivateConsoleOutput"] = doc.DeactivateConsoleOutput
	if site.Popup != nil {
		own.Popup = popupOf(site)
	}
	if calls := doc.ClickToCall; calls != nil {
		code, trunk := phone.Dialling(strings.ToUpper(doc.DefaultRegionCode))
		own.Calls = &callsConfig{Links: calls.Links, Selectors: slices.Concat([]string{}, calls.Selectors), Text: calls.Text, Code: code, Trunk: trunk}
	}
}

func popupOf(site config.Site) *popupConfig {
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
