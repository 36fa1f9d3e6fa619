package popup

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"calltracker/config"
	"calltracker/crm"
	"calltracker/phone"
	"calltracker/problem"
	"calltracker/storage"
	"calltracker/ziwo"
)

// customerFinder is the part of a CRM directory that Popup uses.
type customerFinder interface {
	Find(ctx context.Context, q crm.Query) crm.Result
}

// Popup finds the CRM page that an agent's browser opens for a caller. It is safe for
// concurrent use.
type Popup struct {
	Options

	macs sync.Pool // hash.Hash values initialized with Key
}

// PopupOptions are what a Popup is made from. All fields are required.
type Options struct {
	Config    *config.Controller
	Directory customerFinder
	Keys      wrongKeys // counts wrong keys and tokens
	Numbers   *phone.Cache
	Key       []byte // token signing key, shared by all replicas
	Now       func() time.Time
}

// NewPopup returns a Popup.
func New(o Options) *Popup { return &Popup{Options: o} }

// UnknownSite reports a site that does not exist or has no pop-up.
type UnknownSite struct{ Name string }

func (e *UnknownSite) Error() string {
	return fmt.Sprintf("unknown site %q, or its configuration has no popup section", problem.Clip(e.Name))
}

// Token lifetimes, and the maximum length of a number.
const (
	defaultTokenLife = time.Hour
	minTokenLife     = time.Minute
	maxTokenLife     = 12 * time.Hour
	maxNumberBytes   = 64
)

// SiteCredentials holds what a browser sends: a key of the site or a token.
type SiteCredentials struct{ Key, Token string }

// wrongKeys counts a wrong key and returns the error for it.
type wrongKeys interface {
	WrongKey(key, address string) error
}

// AuthorizedSite is a site together with the configuration snapshot that was active
// when the request arrived.
type AuthorizedSite struct {
	name     string
	snapshot *config.Snapshot
	site     config.Site
}

// Name returns the name of the site.
func (l AuthorizedSite) Name() string { return l.name }

// Site returns a site that has a pop-up. Errors: *UnknownSite.
func (h *Popup) Site(name string) (AuthorizedSite, error) {
	if snapshot := h.Config.Current(); snapshot != nil {
		if site, ok := snapshot.Document.Sites[name]; ok && site.Popup != nil {
			return AuthorizedSite{name: name, snapshot: snapshot, site: site}, nil
		}
	}
	return AuthorizedSite{}, &UnknownSite{Name: name}
}

// Authorize checks the credentials that a browser sent for a site. Errors:
// ErrUnauthorized, *TooManyWrongKeys. Valid credentials are always accepted, even from
// an address that has sent too many wrong ones.
func (h *Popup) Authorize(site AuthorizedSite, credentials SiteCredentials, address string) error {
	if credentials.Token != "" && h.validToken(site.name, credentials.Token) {
		return nil
	}
	if credentials.Key != "" {
		given, admitted := sha256.Sum256([]byte(credentials.Key)), 0
		for _, key := range site.site.Keys {
			if value := key.Reveal(); value != "" { // an empty key would accept everyone
				want := sha256.Sum256([]byte(value))
				admitted |= subtle.ConstantTimeCompare(given[:], want[:])
			}
		}
		if admitted == 1 {
			return nil
		}
	}
	return h.Keys.WrongKey(cmp.Or(credentials.Key, credentials.Token), address)
}

// SiteToken is a signed token for a site.
type SiteToken struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Token returns a token for a site that is valid for the given life; 0 means one hour.
// Errors: *UnknownSite, *Invalid.
func (h *Popup) Token(site string, life time.Duration) (SiteToken, error) {
	if _, err := h.Site(site); err != nil {
		return SiteToken{}, err
	}
	life = cmp.Or(life, defaultTokenLife)
	if life < minTokenLife || life > maxTokenLife {
		return SiteToken{}, problem.Errorf("ttl", "must be from %d to %d seconds", int(minTokenLife.Seconds()), int(maxTokenLife.Seconds()))
	}
	expires := h.Now().Add(life).UTC().Truncate(time.Second)
	return SiteToken{Token: h.sign(site, expires), ExpiresAt: expires}, nil
}

// tokenEncoding is strict, so that each signature has exactly one encoding.
var tokenEncoding = base64.RawURLEncoding.Strict()

// sign returns a token: its expiry, and a signature over the expiry and the site.
func (h *Popup) sign(site string, expires time.Time) string {
	until := strconv.FormatInt(expires.Unix(), 36)
	signature := h.signature(site, until)
	return until + "." + tokenEncoding.EncodeToString(signature[:])
}

func (h *Popup) signature(site, until string) (sum [sha256.Size]byte) {
	mac, pooled := h.macs.Get().(hash.Hash)
	if !pooled {
		mac = hmac.New(sha256.New, h.Key)
	}
	defer h.macs.Put(mac)
	mac.Reset()
	text := make([]byte, 0, 128) // usually large enough to stay on the stack
	text = append(text, "site token 1\n"...)
	text = append(append(text, until...), '\n')
	_, _ = mac.Write(append(text, site...)) // never returns an error
	mac.Sum(sum[:0])
	return sum
}

func (h *Popup) validToken(site, token string) bool {
	until, text, _ := strings.Cut(token, ".")
	seconds, err := strconv.ParseInt(until, 36, 64)
	if err != nil || len(text) != tokenEncoding.EncodedLen(sha256.Size) {
		return false
	}
	var given [sha256.Size]byte
	if _, err := tokenEncoding.Decode(given[:], []byte(text)); err != nil {
		return false
	}
	signature := h.signature(site, until)
	return hmac.Equal(signature[:], given[:]) && h.Now().Before(time.Unix(seconds, 0))
}

// CallerPage is the result of looking up a caller.
type CallerPage struct {
	Status    crm.State          `json:"status" enums:"found,many,none,skipped,unavailable"`
	URL       string             `json:"url" example:"https://acme.zendesk.com/agent/users/7236"`
	Number    string             `json:"number" example:"+971501234567"`
	Customers []storage.Customer `json:"customers"`

	answers []crm.Answer
}

// AppendJSON appends the page as encoding/json encodes it, except for HTML escapes. It
// is fast because every agent's browser sends a request when phones ring.
func (p CallerPage) AppendJSON(dst []byte) []byte {
	dst = ziwo.AppendString(append(dst, `{"status":`...), string(p.Status))
	dst = ziwo.AppendString(append(dst, `,"url":`...), p.URL)
	dst = ziwo.AppendString(append(dst, `,"number":`...), p.Number)
	dst = append(dst, `,"customers":[`...)
	for i, c := range p.Customers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = ziwo.AppendString(append(dst, `{"connection":`...), c.Connection)
		dst = ziwo.AppendString(append(dst, `,"id":`...), c.ID)
		dst = ziwo.AppendString(append(dst, `,"name":`...), c.Name)
		dst = ziwo.AppendString(append(dst, `,"url":`...), c.URL)
		dst = ziwo.AppendString(append(dst, `,"matchedBy":`...), c.MatchedBy)
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

// CRMPage is a page of a CRM connection.
type CRMPage struct{ Connection, URL string }

// Searches returns the pages that search the CRMs for the number.
func (p CallerPage) Searches() []CRMPage {
	return p.pages(func(a crm.Answer) string { return a.SearchURL })
}

// Creates returns the pages that create a customer with the number.
func (p CallerPage) Creates() []CRMPage {
	return p.pages(func(a crm.Answer) string { return a.CreateURL })
}

func (p CallerPage) pages(of func(crm.Answer) string) (pages []CRMPage) {
	for _, a := range p.answers {
		if address := of(a); address != "" {
			pages = append(pages, CRMPage{a.Connection, address})
		}
	}
	return pages
}

// Find looks up a caller and returns the page to open, or "" for no page. It answers
// within 1.5 s, even if a CRM does not. Errors: *Invalid.
func (h *Popup) Find(ctx context.Context, site AuthorizedSite, number string) (CallerPage, error) {
	if strings.HasPrefix(number, " ") { // a plus sign that was not URL-encoded
		number = "+" + number[1:]
	}
	switch {
	case strings.TrimSpace(number) == "":
		return CallerPage{}, problem.Errorf("number", "is missing")
	case len(number) > maxNumberBytes:
		return CallerPage{}, problem.Errorf("number", "is longer than %d bytes", maxNumberBytes)
	}
	parsed := h.Numbers.Parse(number, site.region())
	result := h.Directory.Find(ctx, crm.Query{Number: parsed, Connections: site.site.Popup.Connections})
	out := CallerPage{Status: result.State, Number: cmp.Or(parsed.E164, parsed.Key()), Customers: make([]storage.Customer, len(result.Customers)), answers: result.Answers}
	for i, c := range result.Customers {
		out.Customers[i] = storage.Customer{Connection: c.Connection, ID: c.ID, Name: c.Name, URL: c.URL, MatchedBy: c.MatchedBy}
	}
	out.URL = out.pageToOpen(site.site.Popup)
	return out, nil
}

// pageToOpen returns the page to open according to the site's settings.
func (p CallerPage) pageToOpen(popup *config.Popup) string {
	first := func(pages []CRMPage) string {
		if len(pages) == 0 {
			return ""
		}
		return pages[0].URL
	}
	var choice string
	switch p.Status {
	case crm.Found:
		return p.Customers[0].URL
	case crm.Many:
		if popup.Many == "first" {
			return p.Customers[0].URL
		}
		choice = popup.Many
	case crm.None:
		if creates := p.Creates(); popup.None == "create" && len(creates) > 0 {
			return first(creates)
		}
		choice = popup.None
	case crm.Unknown:
		choice = popup.Unavailable
	default:
		return ""
	}
	if choice == "nothing" {
		return ""
	}
	return first(p.Searches())
}

// region returns the region for parsing the site's numbers: the region of its web
// phone, or else the region of the trackers if they share one.
func (l AuthorizedSite) region() string {
	if l.site.Jorel != nil && l.site.Jorel.DefaultRegionCode != "" {
		return strings.ToUpper(l.site.Jorel.DefaultRegionCode)
	}
	if regions := l.snapshot.Set.Regions(); len(regions) == 1 {
		return regions[0]
	}
	return ""
}

// ErrOriginNotAllowed rejects a preflight request from an origin that the site does not
// list.
var ErrOriginNotAllowed = errors.New("the site does not allow this origin")

// Allows reports whether pages of an origin may read responses.
func (l AuthorizedSite) Allows(origin string) bool {
	return origin != "" && slices.Contains(l.site.Origins, origin)
}
