package embeds

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
	"calltracker/problem"
	"calltracker/rules"
	"calltracker/web"
)

// UnknownEmbed reports a script or configuration that does not exist.
type UnknownEmbed struct{ message string }

func (e *UnknownEmbed) Error() string { return e.message }

// Limits on the schedule changes in a configuration. A page that stays open beyond
// them shows its last state.
const (
	maxHoursAhead   = 60 * 24 * time.Hour
	maxHoursChanges = 40
)

// Embeds provides the scripts and configurations that sites embed. Each is built and
// compressed once per configuration version and once per schedule change, and is
// then served from memory. Embeds is safe for concurrent use.
type Embeds struct {
	Options

	cache atomic.Pointer[embedCache]
}

// EmbedsOptions are what Embeds is made from. All fields are required.
type Options struct {
	Config    *config.Controller
	PublicURL string // base URL for scripts that cannot determine their origin
	Now       func() time.Time
}

// NewEmbeds returns Embeds.
func New(o Options) *Embeds { return &Embeds{Options: o} }

// embedCache holds the assets built from a snapshot.
type embedCache struct {
	snapshot *config.Snapshot
	mu       sync.Mutex
	assets   sync.Map // *Asset by assetKey
}

type assetKey struct {
	kind web.Kind
	site string
	json bool
}

// Asset is an immutable file for browsers, uncompressed and compressed.
type Asset struct {
	Plain, Gzip, Brotli []byte
	Tag                 string   // content digest for ETag
	Origins             []string // origins of pages that may read it

	expiresAt time.Time // zero means never
}

// Script returns a site's script including its configuration. Errors: *UnknownEmbed.
func (e *Embeds) Script(kind web.Kind, site string) (*Asset, error) {
	return e.asset(assetKey{kind: kind, site: site})
}

// Configuration returns the configuration of a site's script as JSON. Errors:
// *UnknownEmbed.
func (e *Embeds) Configuration(kind web.Kind, site string) (*Asset, error) {
	return e.asset(assetKey{kind: kind, site: site, json: true})
}

// Release returns the script without configuration, which pages can pin because it
// never changes within a version. Errors: *UnknownEmbed.
func (e *Embeds) Release(kind web.Kind, site, version string) (*Asset, error) {
	release := kind.Release()
	key := assetKey{kind: kind, site: "/" + site} // not a valid site name
	a, err := e.getOrMake(key, func(snapshot *config.Snapshot, _ time.Time) (*Asset, error) {
		doc, err := findSite(snapshot, kind, site)
		if err != nil {
			return nil, err
		}
		return newAsset(release.Body, doc.Origins)
	})
	if err == nil && version != release.Version {
		return nil, &UnknownEmbed{fmt.Sprintf("version %q of this script is no longer available; copy the current script tag from /sites/%s", problem.Clip(version), site)}
	}
	return a, err
}

func (e *Embeds) asset(key assetKey) (*Asset, error) {
	return e.getOrMake(key, func(snapshot *config.Snapshot, now time.Time) (*Asset, error) {
		doc, err := findSite(snapshot, key.kind, key.site)
		if err != nil {
			return nil, err
		}
		config, until, err := e.configuration(snapshot.Set, key, doc, now)
		if err != nil {
			return nil, fmt.Errorf("build %s configuration of site %s: %w", key.kind, key.site, err)
		}
		body := config
		if !key.json {
			if body, err = key.kind.Script(config); err != nil {
				return nil, fmt.Errorf("build %s script of site %s: %w", key.kind, key.site, err)
			}
		}
		asset, err := newAsset(body, doc.Origins)
		if err != nil {
			return nil, err
		}
		asset.expiresAt = until
		return asset, nil
	})
}

// getOrMake returns the asset for a key. It builds the asset if it is missing or
// expired. Assets are built one at a time.
func (e *Embeds) getOrMake(key assetKey, build func(snapshot *config.Snapshot, now time.Time) (*Asset, error)) (*Asset, error) {
	snapshot := e.Config.Current()
	if snapshot == nil {
		return nil, &UnknownEmbed{"no configuration is active on this server"}
	}
	cache := e.cache.Load()
	if cache == nil || cache.snapshot != snapshot {
		fresh := &embedCache{snapshot: snapshot}
		e.cache.CompareAndSwap(cache, fresh)
		cache = fresh // if another goroutine stored its cache first, this one is used once
	}
	now := e.Now()
	cached := func() (*Asset, bool) {
		found, ok := cache.assets.Load(key)
		if !ok {
			return nil, false
		}
		a := found.(*Asset)
		return a, a.expiresAt.IsZero() || now.Before(a.expiresAt)
	}
	if a, ok := cached(); ok {
		return a, nil
	}
	cache.mu.Lock()
	defer cache.mu.Unlock()
	if a, ok := cached(); ok {
		return a, nil
	}
	a, err := build(snapshot, now)
	if err != nil {
		return nil, err
	}
	cache.assets.Store(key, a)
	return a, nil
}

// findSite returns a site that has the given script.
func findSite(snapshot *config.Snapshot, kind web.Kind, name string) (config.Site, error) {
	doc, ok := snapshot.Document.Sites[name]
	if !ok {
		return doc, &UnknownEmbed{fmt.Sprintf("unknown site %q; check the URL of the script and the sites section of the configuration", problem.Clip(name))}
	}
	has := map[web.Kind]bool{
		web.WebCallback: doc.WebCallback != nil,
		web.Jorel:       doc.Jorel != nil,
		web.Popup:       doc.Popup != nil,
	}
	if !has[kind] {
		return doc, &UnknownEmbed{fmt.Sprintf("site %q has no %s section in the configuration", name, kind)}
	}
	return doc, nil
}

// newAsset compresses a body with the best compression.
func newAsset(body []byte, origins []string) (*Asset, error) {
	sum := sha256.Sum256(body)
	asset := &Asset{Plain: body, Tag: base64.RawURLEncoding.EncodeToString(sum[:15]), Origins: origins}
	var compressed bytes.Buffer
	gzipWriter, err := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	_, err = gzipWriter.Write(body)
	if err := errors.Join(err, gzipWriter.Close()); err != nil {
		return nil, err
	}
	asset.Gzip = slices.Clone(compressed.Bytes())
	compressed.Reset()
	brotliWriter := brotli.NewWriterLevel(&compressed, brotli.BestCompression)
	_, err = brotliWriter.Write(body)
	if err := errors.Join(err, brotliWriter.Close()); err != nil {
		return nil, err
	}
	asset.Brotli = slices.Clone(compressed.Bytes())
	return asset, nil
}

// Types of the configuration under config.ReservedKey, beside Ziwo's own keys.
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
func (e *Embeds) configuration(set *rules.Set, key assetKey, site config.Site, now time.Time) (text []byte, until time.Time, err error) {
	extra := &extraConfig{Site: key.site, Server: strings.TrimSuffix(e.PublicURL, "/") + "/"}
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

// webCallbackConfig sets the options of Ziwo's script. Absent options stay absent,
// except for the position class, which the script requires.
func webCallbackConfig(config map[string]any, extra *extraConfig, set *rules.Set, site config.Site, now time.Time) (until time.Time) {
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
	extra.Texts = translations(web.Texts(), doc.CustomTexts)
	config["customTexts"] = extra.Texts[fallbackLanguage]

	alwaysOffline := doc.Offline != nil && *doc.Offline
	hours := set.Hours(site.OfflineOutside)
	config["offline"] = alwaysOffline || !hours.Open(now)
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

func setText(config map[string]any, name, value string) {
	if value != "" {
		config[name] = value
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

func jorelConfig(config map[string]any, extra *extraConfig, site config.Site) {
	doc := site.Jorel
	setText(config, "contactCenterName", cmp.Or(doc.ContactCenterName, site.ContactCenter))
	config["defaultPosition"] = cmp.Or(doc.DefaultPosition, defaultPosition)
	config["defaultSize"] = cmp.Or(doc.DefaultSize, "normal")
	config["defaultRegionCode"] = doc.DefaultRegionCode
	config["fixedPositionAndSize"] = doc.FixedPositionAndSize
	config["deactivateMinimization"] = doc.DeactivateMinimization
	config["deactivateConsoleOutput"] = doc.DeactivateConsoleOutput
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
