package handlers

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

	"calltracker/crm"
	"calltracker/rules"
	"calltracker/ziwo"
)

// finder is what Popup needs of a directory.
type customerFinder interface {
	Find(ctx context.Context, q crm.Query) crm.Result
}

// Popup finds the page that an agent's browser opens for a caller. It is safe for
// concurrent use.
type Popup struct {
	Config    *ConfigController
	Directory customerFinder
	Counter   counter
	Numbers   *Numbers
	Key       []byte // signs tokens; replicas have the same
	Now       func() time.Time

	macs sync.Pool // of hash.Hash with the key
}

// UnknownSite is a site that is not configured, or has no pop-up.
type UnknownSite struct{ Name string }

func (e *UnknownSite) Error() string {
	return fmt.Sprintf("no site %q with a pop-up is configured", shorten(e.Name))
}

// Life of a token.
const (
	defaultTokenLife = time.Hour
	minTokenLife     = time.Minute
	maxTokenLife     = 12 * time.Hour
	maxNumberBytes   = 64 // bytes of a number
)

// Pass is what a browser presents: a key of the site, or a token.
type SiteCredentials struct{ Key, Token string }

// SiteLine is a site whose pass was good, in the configuration of that moment.
type AuthorizedSite struct {
	name     string
	snapshot *Snapshot
	site     rules.Site
}

// Name is the site's.
func (l AuthorizedSite) Name() string { return l.name }

// Site finds a site that has a pop-up. Errors: *UnknownSite.
func (h *Popup) Site(name string) (AuthorizedSite, error) {
	if snapshot := h.Config.Current(); snapshot != nil {
		if site, ok := snapshot.Set.Document().Sites[name]; ok && site.Popup != nil {
			return AuthorizedSite{name: name, snapshot: snapshot, site: site}, nil
		}
	}
	return AuthorizedSite{}, &UnknownSite{Name: name}
}

// Admit checks what a browser presented for a site. Errors: ErrUnauthorized,
// *TooManyWrongKeys. A good pass is never refused for another's bad ones.
func (h *Popup) Authorize(site AuthorizedSite, credentials SiteCredentials, address string) error {
	if credentials.Token != "" && h.validToken(site.name, credentials.Token) {
		return nil
	}
	if credentials.Key != "" {
		given, admitted := sha256.Sum256([]byte(credentials.Key)), 0
		for _, key := range site.site.Keys {
			if value := key.Reveal(); value != "" { // an empty one would let everyone in
				want := sha256.Sum256([]byte(value))
				admitted |= subtle.ConstantTimeCompare(given[:], want[:])
			}
		}
		if admitted == 1 {
			return nil
		}
	}
	return rejectKey(h.Counter, cmp.Or(credentials.Key, credentials.Token), address)
}

// SiteToken is a signed pass for one site.
type SiteToken struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// Token makes a token for a site that is good for life; 0 is an hour. Errors:
// *UnknownSite, *Invalid.
//
//	@Summary		A signed token for the scripts of a site
//	@Description	For data-token of the script, so that no key has to stand in the page. It opens this site's look-ups only.
//	@ID		createSiteToken
//	@Tags			sites
//	@Produce		json
//	@Param			site	path		string	true	"Site"
//	@Param			ttl		query		integer	false	"How long it is good, in seconds, from 60 to 43200; an hour when absent"
//	@Success		200		{object}	SiteToken
//	@Failure		401		{object}	Problem
//	@Failure		404		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/sites/{site}/token [post]
func (h *Popup) Token(site string, life time.Duration) (SiteToken, error) {
	if _, err := h.Site(site); err != nil {
		return SiteToken{}, err
	}
	life = cmp.Or(life, defaultTokenLife)
	if life < minTokenLife || life > maxTokenLife {
		return SiteToken{}, invalid("ttl", "must be from %d to %d seconds", int(minTokenLife.Seconds()), int(maxTokenLife.Seconds()))
	}
	expires := h.Now().Add(life).UTC().Truncate(time.Second)
	return SiteToken{Token: h.sign(site, expires), ExpiresAt: expires}, nil
}

// tokenEncoding is how the signature stands in a token: each in one way only.
var tokenEncoding = base64.RawURLEncoding.Strict()

// sign makes a token: when it ends, and a signature of that and the site.
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
	text := make([]byte, 0, 128) // enough for most, on the stack
	text = append(text, "site token 1\n"...)
	text = append(append(text, until...), '\n')
	_, _ = mac.Write(append(text, site...)) // never fails
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

// CallerPage is the answer to a browser that asks whose number it is.
type CallerPage struct {
	Status    crm.State      `json:"status" enums:"found,many,none,skipped,unavailable"`
	URL       string         `json:"url" example:"https://acme.zendesk.com/agent/users/7236"`
	Number    string         `json:"number" example:"+971501234567"`
	Customers []CustomerView `json:"customers"`

	answers []crm.Answer
}

// AppendJSON appends the page as encoding/json would write it, but for escapes
// that only HTML needs: a ringing phone makes every agent's browser ask at once.
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

// CRMPage is a page of a connection.
type CRMPage struct{ Connection, URL string }

// Searches are the pages on which a person goes on looking for the number.
func (p CallerPage) Searches() []CRMPage {
	return p.pages(func(a crm.Answer) string { return a.SearchURL })
}

// Creates are the pages that add a customer with the number.
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

// Find tells whose number it is, and which page to open: "" when that is none.
// It answers within 1.5 s, whatever the CRMs do. Errors: *Invalid.
//
//	@Summary		Whose number is it, and which page opens
//	@Description	Takes the key of the site (X-Embed-Key, or key=) or a token (token=). CORS only for the site's origins.
//	@ID		crmURL
//	@Tags			browsers
//	@Produce		json
//	@Param			site		query		string	true	"Site"
//	@Param			number		query		string	true	"The caller, in any form"
//	@Param			token		query		string	false	"A signed token"
//	@Param			key			query		string	false	"A key of the site"
//	@Param			X-Embed-Key	header		string	false	"A key of the site"
//	@Success		200			{object}	CallerPage
//	@Failure		401			{object}	Problem
//	@Failure		404			{object}	Problem
//	@Failure		422			{object}	Problem
//	@Failure		429			{object}	Problem
//	@Router			/crm/url [get]
func (h *Popup) Find(ctx context.Context, site AuthorizedSite, number string) (CallerPage, error) {
	if strings.HasPrefix(number, " ") { // a + that was not encoded
		number = "+" + number[1:]
	}
	switch {
	case strings.TrimSpace(number) == "":
		return CallerPage{}, invalid("number", "is missing: whose page is it to be?")
	case len(number) > maxNumberBytes:
		return CallerPage{}, invalid("number", "is no number: it has more than %d bytes", maxNumberBytes)
	}
	parsed := h.Numbers.Parse(number, site.region())
	result := h.Directory.Find(ctx, crm.Query{Number: parsed, Connections: site.site.Popup.Connections})
	out := CallerPage{Status: result.State, Number: cmp.Or(parsed.E164, parsed.Key()), Customers: make([]CustomerView, len(result.Customers)), answers: result.Answers}
	for i, c := range result.Customers {
		out.Customers[i] = viewCustomer(c.Connection, c.Customer)
	}
	out.URL = out.pageToOpen(site.site.Popup)
	return out, nil
}

// opens is the page to open, as the site has it.
func (p CallerPage) pageToOpen(popup *rules.Popup) string {
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

// region is how the site's numbers are read: as its web phone does, else as all
// trackers do, when they agree.
func (l AuthorizedSite) region() string {
	if l.site.Jorel != nil && l.site.Jorel.DefaultRegionCode != "" {
		return strings.ToUpper(l.site.Jorel.DefaultRegionCode)
	}
	if regions := l.snapshot.Set.Regions(); len(regions) == 1 {
		return regions[0]
	}
	return ""
}

// ErrNoOrigin refuses a preflight of a page that the site does not name.
var ErrOriginNotAllowed = errors.New("the site does not name this origin")

// Allows tells whether pages of an origin may read the answers.
func (l AuthorizedSite) Allows(origin string) bool {
	return origin != "" && slices.Contains(l.site.Origins, origin)
}
