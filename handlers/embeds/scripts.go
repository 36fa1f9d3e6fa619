// Package embeds builds what customers put on their own web pages: the scripts of each
// site with their configuration, and the setup page that shows how to embed them.
package embeds

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/andybalholm/brotli"

	"calltracker/config"
	"calltracker/problem"
	"calltracker/web"
)

// NotFound reports a site, script, or version that does not exist.
type NotFound struct{ message string }

func (e *NotFound) Error() string { return e.message }

// Scripts provides the scripts of the sites in the active configuration, and the
// configuration of each script. Each is built and compressed once per configuration
// version and once per schedule change, and is then served from memory. Scripts is safe
// for concurrent use.
type Scripts struct {
	config    *config.Controller
	publicURL string
	now       func() time.Time

	cache atomic.Pointer[assetCache]
}

// New returns Scripts. publicURL is the base URL of the server, without a trailing slash,
// for scripts that cannot determine their origin.
func New(controller *config.Controller, publicURL string, now func() time.Time) *Scripts {
	if controller == nil || publicURL == "" || now == nil {
		panic("embeds.New: controller, publicURL, and now are required")
	}
	return &Scripts{config: controller, publicURL: publicURL, now: now}
}

// assetCache holds the assets built from a snapshot.
type assetCache struct {
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

// Script returns a site's script including its configuration. Errors: *NotFound.
func (s *Scripts) Script(kind web.Kind, site string) (*Asset, error) {
	return s.asset(assetKey{kind: kind, site: site})
}

// Configuration returns the configuration of a site's script as JSON. Errors:
// *NotFound.
func (s *Scripts) Configuration(kind web.Kind, site string) (*Asset, error) {
	return s.asset(assetKey{kind: kind, site: site, json: true})
}

// Release returns the script without configuration, which pages can pin because it
// never changes within a version. Errors: *NotFound.
func (s *Scripts) Release(kind web.Kind, site, version string) (*Asset, error) {
	release := kind.Release()
	key := assetKey{kind: kind, site: "/" + site} // not a valid site name
	a, err := s.getOrMake(key, func(snapshot *config.Snapshot, _ time.Time) (*Asset, error) {
		doc, err := findSite(snapshot, kind, site)
		if err != nil {
			return nil, err
		}
		return newAsset(release.Body, doc.Origins)
	})
	if err == nil && version != release.Version {
		return nil, &NotFound{fmt.Sprintf("version %q of this script is no longer available; copy the current script tag from /sites/%s", problem.Clip(version), site)}
	}
	return a, err
}

func (s *Scripts) asset(key assetKey) (*Asset, error) {
	return s.getOrMake(key, func(snapshot *config.Snapshot, now time.Time) (*Asset, error) {
		doc, err := findSite(snapshot, key.kind, key.site)
		if err != nil {
			return nil, err
		}
		text, until, err := s.configuration(snapshot.Set, key, doc, now)
		if err != nil {
			return nil, fmt.Errorf("build %s configuration of site %s: %w", key.kind, key.site, err)
		}
		body := text
		if !key.json {
			if body, err = key.kind.Script(text); err != nil {
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
func (s *Scripts) getOrMake(key assetKey, build func(snapshot *config.Snapshot, now time.Time) (*Asset, error)) (*Asset, error) {
	snapshot := s.config.Current()
	if snapshot == nil {
		return nil, &NotFound{"no configuration is active on this server"}
	}
	cache := s.cache.Load()
	if cache == nil || cache.snapshot != snapshot {
		fresh := &assetCache{snapshot: snapshot}
		s.cache.CompareAndSwap(cache, fresh)
		cache = fresh // if another goroutine stored its cache first, this one is used once
	}
	now := s.now()
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
		return doc, &NotFound{fmt.Sprintf("unknown site %q; check the URL of the script and the sites section of the configuration", problem.Clip(name))}
	}
	has := map[web.Kind]bool{
		web.WebCallback: doc.WebCallback != nil,
		web.Jorel:       doc.Jorel != nil,
		web.Popup:       doc.Popup != nil,
	}
	if !has[kind] {
		return doc, &NotFound{fmt.Sprintf("site %q has no %s section in the configuration", name, kind)}
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
