// Package popup implements the screen pop: it finds the CRM page of a caller for the
// browser of the agent whose phone rings, and issues the tokens that browsers present.
package popup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"calltracker/config"
	"calltracker/crm"
	"calltracker/phone"
	"calltracker/problem"
	"calltracker/storage"
)

// customerDirectory is the part of a CRM directory that Finder uses.
type customerDirectory interface {
	Find(ctx context.Context, q crm.Query) crm.Result
}

// wrongKeyCounter counts invalid keys.
type wrongKeyCounter interface {
	// WrongKey counts an invalid key from an address and returns the error for it.
	WrongKey(key, address string) error
}

// Options holds the dependencies of a Finder. All fields are required.
type Options struct {
	Config    *config.Controller
	Directory customerDirectory
	WrongKeys wrongKeyCounter // counts invalid keys and tokens
	Numbers   *phone.Cache
	Tokens    *Tokens
}

// Finder finds the CRM page that an agent's browser opens for a caller. It is safe for
// concurrent use.
type Finder struct {
	config    *config.Controller
	directory customerDirectory
	wrongKeys wrongKeyCounter
	numbers   *phone.Cache
	tokens    *Tokens
}

// New returns a Finder.
func New(o Options) *Finder {
	if o.Config == nil || o.Directory == nil || o.WrongKeys == nil || o.Numbers == nil || o.Tokens == nil {
		panic("popup.New: Config, Directory, WrongKeys, Numbers, and Tokens are required")
	}
	return &Finder{config: o.Config, directory: o.Directory, wrongKeys: o.WrongKeys, numbers: o.Numbers, tokens: o.Tokens}
}

// ErrOriginNotAllowed rejects a preflight request from an origin that the site does not
// list.
var ErrOriginNotAllowed = errors.New("the site does not allow this origin")

// UnknownSite reports a site that does not exist or has no pop-up.
type UnknownSite struct{ Name string }

func (e *UnknownSite) Error() string {
	return fmt.Sprintf("unknown site %q, or its configuration has no popup section", problem.Clip(e.Name))
}

const maxNumberBytes = 64

// SiteCredentials is the key or the token of a site that a browser presents.
type SiteCredentials struct{ Key, Token string }

// Site is a site that has a pop-up, as it was configured when the request arrived.
type Site struct {
	name     string
	snapshot *config.Snapshot
	settings config.Site
}

// Name returns the name of the site.
func (s Site) Name() string { return s.name }

// Site returns a site that has a pop-up. Errors: *UnknownSite.
func (f *Finder) Site(name string) (Site, error) {
	if snapshot := f.config.Current(); snapshot != nil {
		if site, ok := snapshot.Document.Sites[name]; ok && site.Popup != nil {
			return Site{name: name, snapshot: snapshot, settings: site}, nil
		}
	}
	return Site{}, &UnknownSite{Name: name}
}

// Authorize checks the credentials that a browser sent for a site. It returns the error
// for an invalid key. Valid credentials are always accepted, even from an address that has
// sent too many invalid ones.
func (f *Finder) Authorize(site Site, credentials SiteCredentials, address string) error {
	if credentials.Token != "" && f.tokens.valid(site.name, credentials.Token) {
		return nil
	}
	if credentials.Key != "" {
		given, admitted := sha256.Sum256([]byte(credentials.Key)), 0
		for _, key := range site.settings.Keys {
			if value := key.Reveal(); value != "" { // an empty key would accept everyone
				want := sha256.Sum256([]byte(value))
				admitted |= subtle.ConstantTimeCompare(given[:], want[:])
			}
		}
		if admitted == 1 {
			return nil
		}
	}
	return f.wrongKeys.WrongKey(cmp.Or(credentials.Key, credentials.Token), address)
}

// Token returns a token for a site that is valid for the given life; 0 means one hour.
// Errors: *UnknownSite, *problem.Invalid.
func (f *Finder) Token(site string, life time.Duration) (SiteToken, error) {
	if _, err := f.Site(site); err != nil {
		return SiteToken{}, err
	}
	return f.tokens.Issue(site, life)
}

// Find looks up a caller and returns the page to open, or "" for no page. It answers
// within 1.5 s, even if a CRM does not. Errors: *problem.Invalid.
func (f *Finder) Find(ctx context.Context, site Site, number string) (CallerPage, error) {
	if strings.HasPrefix(number, " ") { // a plus sign that was not URL-encoded
		number = "+" + number[1:]
	}
	switch {
	case strings.TrimSpace(number) == "":
		return CallerPage{}, problem.Errorf("number", "is missing")
	case len(number) > maxNumberBytes:
		return CallerPage{}, problem.Errorf("number", "is longer than %d bytes", maxNumberBytes)
	}
	parsed := f.numbers.Parse(number, site.region())
	result := f.directory.Find(ctx, crm.Query{Number: parsed, Connections: site.settings.Popup.Connections})
	out := CallerPage{Status: result.State, Number: cmp.Or(parsed.E164, parsed.Key()), Customers: make([]storage.Customer, len(result.Customers)), answers: result.Answers}
	for i, c := range result.Customers {
		out.Customers[i] = storage.Customer{Connection: c.Connection, ID: c.ID, Name: c.Name, URL: c.URL, MatchedBy: c.MatchedBy}
	}
	out.URL = out.pageToOpen(site.settings.Popup)
	return out, nil
}

// region returns the region for parsing the site's numbers: the region of its web
// phone, or else the region of the trackers if they share one.
func (s Site) region() string {
	if s.settings.Jorel != nil && s.settings.Jorel.DefaultRegionCode != "" {
		return strings.ToUpper(s.settings.Jorel.DefaultRegionCode)
	}
	if regions := s.snapshot.Set.Regions(); len(regions) == 1 {
		return regions[0]
	}
	return ""
}

// Allows reports whether pages of an origin may read responses.
func (s Site) Allows(origin string) bool {
	return origin != "" && slices.Contains(s.settings.Origins, origin)
}
