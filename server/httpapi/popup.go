package httpapi

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/crm"
	"calltracker/handlers/popup"
	"calltracker/web"
)

// tokenKey signs tokens of sites. It is derived, so that what one key does tells
// nothing of the other.
func TokenKey(secret []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte("calltracker site tokens")) // never fails
	return mac.Sum(nil)
}

// crmURL tells a browser which page to open for a caller.
//
//	@Summary		Look up a caller for the screen pop
//	@Description	Returns the customers with this number and the CRM page to open. Requires a key of the site (X-Embed-Key header or key parameter) or a token (token parameter). CORS allows only the origins of the site.
//	@ID		crmURL
//	@Tags			browsers
//	@Produce		json
//	@Param			site		query		string	true	"Site name"
//	@Param			number		query		string	true	"Caller number, in any format"
//	@Param			token		query		string	false	"Site token"
//	@Param			key			query		string	false	"Site key"
//	@Param			X-Embed-Key	header		string	false	"Site key"
//	@Success		200			{object}	popup.CallerPage
//	@Failure		401			{object}	Problem
//	@Failure		404			{object}	Problem
//	@Failure		422			{object}	Problem
//	@Failure		429			{object}	Problem
//	@Router			/crm/url [get]
func (s *API) crmURL(c echo.Context) error {
	page, _, err := s.caller(c)
	if err != nil {
		return err
	}
	pooled := buffers.Get().(*[]byte)
	defer func() {
		if cap(*pooled) <= largestPooled {
			buffers.Put(pooled)
		}
	}()
	text := page.AppendJSON((*pooled)[:0])
	*pooled = text[:0]
	return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, text)
}

// crmPreflight answers a browser that asks whether a page may ask.
//
//	@Summary	May a page ask /crm/url? CORS, for the site's origins only
//	@ID		crmPreflight
//	@Tags		browsers
//	@Param		site	query	string	true	"Site"
//	@Success	204
//	@Failure	403	{object}	Problem
//	@Failure	404	{object}	Problem
//	@Router		/crm/url [options]
func (s *API) crmPreflight(c echo.Context) error {
	line, err := s.Popup.Site(c.QueryParam("site"))
	if err != nil {
		return err
	}
	if !allow(c, line) {
		return popup.ErrOriginNotAllowed
	}
	header := c.Response().Header()
	header.Set(echo.HeaderAccessControlAllowMethods, "GET")
	header.Set(echo.HeaderAccessControlAllowHeaders, "X-Embed-Key")
	header.Set(echo.HeaderAccessControlMaxAge, "600")
	return c.NoContent(http.StatusNoContent)
}

// allow lets pages of the site's origins read the answer, and tells whether this
// is one.
func allow(c echo.Context, line popup.AuthorizedSite) bool {
	header := c.Response().Header()
	header.Add(echo.HeaderVary, echo.HeaderOrigin)
	origin := c.Request().Header.Get(echo.HeaderOrigin)
	if !line.Allows(origin) {
		return false
	}
	header.Set(echo.HeaderAccessControlAllowOrigin, origin)
	return true
}

// caller looks up whose number a browser asks about.
func (s *API) caller(c echo.Context) (popup.CallerPage, popup.AuthorizedSite, error) {
	header := c.Response().Header()
	header[echo.HeaderCacheControl] = []string{"no-store"} // names, and by whose key
	header[echo.HeaderReferrerPolicy] = []string{"no-referrer"}
	header[echo.HeaderXContentTypeOptions] = []string{"nosniff"}
	line, err := s.Popup.Site(c.QueryParam("site"))
	if err != nil {
		return popup.CallerPage{}, line, err
	}
	allow(c, line) // an error is for the page to read, too
	pass := popup.SiteCredentials{Key: cmp.Or(c.Request().Header.Get("X-Embed-Key"), c.QueryParam("key")), Token: c.QueryParam("token")}
	if err := s.Popup.Authorize(line, pass, address(c)); err != nil {
		return popup.CallerPage{}, line, err
	}
	page, err := s.Popup.Find(c.Request().Context(), line, c.QueryParam("number"))
	return page, line, err
}

// crmOpen sends a browser to the caller's page, or shows whom to choose.
//
//	@Summary	Opens the caller's page in the CRM: a redirect for one customer, a page to choose for several, search and create links for none
//	@ID		crmOpen
//	@Tags		browsers
//	@Produce	html
//	@Param		site	query	string	true	"Site"
//	@Param		number	query	string	true	"The caller, in any form"
//	@Param		token	query	string	false	"A signed token"
//	@Param		key		query	string	false	"A key of the site"
//	@Success	200		{string}	string
//	@Success	302
//	@Header		302	{string}	Location	"The customer's page"
//	@Failure	401	{object}	Problem
//	@Failure	404	{object}	Problem
//	@Failure	422	{object}	Problem
//	@Failure	429	{object}	Problem
//	@Router		/crm/open [get]
func (s *API) crmOpen(c echo.Context) error {
	found, line, err := s.caller(c)
	if err != nil {
		return err
	}
	if found.URL != "" && (found.Status == crm.Found || found.Status == crm.Many && found.URL == found.Customers[0].URL) {
		return c.Redirect(http.StatusFound, found.URL)
	}
	var body bytes.Buffer
	if err := callersPage(line.Name(), found).Write(&body); err != nil {
		return fmt.Errorf("page of callers: %w", err)
	}
	c.Response().Header().Set(echo.HeaderContentSecurityPolicy, "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	return c.HTMLBlob(http.StatusOK, body.Bytes())
}

func callersPage(site string, found popup.CallerPage) web.CallersPage {
	page := web.CallersPage{Site: site, Number: found.Number}
	switch found.Status {
	case crm.Found, crm.Many:
		page.Title = "Who is calling?"
	case crm.None:
		page.Title = "Nobody is known by this number"
	case crm.Skipped:
		page.Title = "This number belongs to nobody"
		page.Note = "It is withheld, internal or no telephone number, so that nobody was looked up."
	default:
		page.Title = "The CRM does not answer"
		page.Note = "Reload this page to try again."
	}
	for _, customer := range found.Customers {
		page.Customers = append(page.Customers, web.CallerLink{
			Name: cmp.Or(customer.Name, "Without a name"), URL: customer.URL, About: customer.Connection + matched(customer.MatchedBy),
		})
	}
	for _, search := range found.Searches() {
		page.Links = append(page.Links, web.CallerLink{Name: "Search in " + search.Connection, URL: search.URL})
	}
	if found.Status == crm.None {
		for _, create := range found.Creates() {
			page.Links = append(page.Links, web.CallerLink{Name: "Add to " + create.Connection, URL: create.URL})
		}
	}
	return page
}

// matched says what of a customer has the number, unless that is as usual.
func matched(by string) string {
	switch by {
	case "phone", "":
		return ""
	case "shared_phone":
		return ", shares this number"
	default:
		return ", by " + strings.ReplaceAll(by, "_", " ")
	}
}

// siteToken makes a token for a site.
//
//	@Summary		Create a site token
//	@Description	Returns a signed token for the data-token attribute of the site's scripts, so that pages need no key. The token permits only caller lookups for this site.
//	@ID		createSiteToken
//	@Tags			sites
//	@Produce		json
//	@Param			site	path		string	true	"Site name"
//	@Param			ttl		query		integer	false	"Lifetime in seconds, from 60 to 43200 (default 3600)"
//	@Success		200		{object}	popup.SiteToken
//	@Failure		401		{object}	Problem
//	@Failure		404		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/sites/{site}/token [post]
func (s *API) siteToken(c echo.Context) error {
	q := queryOf(c)
	text := q.text("ttl")
	if err := q.err(); err != nil {
		return err
	}
	var life time.Duration
	if text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 1 || seconds > int((24*time.Hour).Seconds()) {
			return fieldError("ttl", "must be a whole number of seconds")
		}
		life = time.Duration(seconds) * time.Second
	}
	token, err := s.Popup.Token(c.Param("site"), life)
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return c.JSON(http.StatusOK, token)
}
