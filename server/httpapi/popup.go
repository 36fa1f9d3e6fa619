package httpapi

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/crm"
	"calltracker/handlers/access"
	"calltracker/handlers/popup"
	"calltracker/web"
)

// crmURL returns the CRM page to open for a caller. Browsers call it with a key or
// token of the site.
//
//	@Summary		Find the customer's page in the CRM
//	@Description	Looks up the customer with a phone number and returns the CRM page to open. Requires a key of the site (`X-Embed-Key` or `key`) or a site token (`token`); CORS allows only the site's origins.
//	@ID				crmURL
//	@Tags			browsers
//	@Produce		json
//	@Param			site		query		string	true	"Name of the site"
//	@Param			number		query		string	true	"Number of the caller, in any format"
//	@Param			token		query		string	false	"Signed site token"
//	@Param			key			query		string	false	"Key of the site"
//	@Param			X-Embed-Key	header		string	false	"Key of the site"
//	@Success		200			{object}	popup.CallerPage
//	@Failure		401			{object}	Problem
//	@Failure		404			{object}	Problem
//	@Failure		422			{object}	Problem
//	@Failure		429			{object}	Problem
//	@Router			/crm/url [get]
func (s *API) crmURL(c echo.Context) error {
	page, _, err := s.lookUpCaller(c)
	if err != nil {
		return err
	}
	pooled := buffers.Get().(*[]byte)
	defer func() {
		if cap(*pooled) <= maxPooledBuffer {
			buffers.Put(pooled)
		}
	}()
	text := page.AppendJSON((*pooled)[:0])
	*pooled = text[:0]
	return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, text)
}

// crmPreflight answers the CORS preflight request of crmURL. Browsers call it
// without a key.
//
//	@Summary		CORS preflight for /crm/url
//	@Description	Answers the CORS preflight request for `/crm/url`. Only the site's origins are allowed.
//	@ID				crmPreflight
//	@Tags			browsers
//	@Param			site	query	string	true	"Name of the site"
//	@Success		204
//	@Failure		403	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Router			/crm/url [options]
func (s *API) crmPreflight(c echo.Context) error {
	site, err := s.Popup.Site(c.QueryParam("site"))
	if err != nil {
		return err
	}
	if !allowOrigin(c, site) {
		return popup.ErrOriginNotAllowed
	}
	header := c.Response().Header()
	header.Set(echo.HeaderAccessControlAllowMethods, "GET")
	header.Set(echo.HeaderAccessControlAllowHeaders, "X-Embed-Key")
	header.Set(echo.HeaderAccessControlMaxAge, "600")
	return c.NoContent(http.StatusNoContent)
}

// allowOrigin sets the CORS headers for a page of one of the site's origins. It
// reports whether the origin is allowed.
func allowOrigin(c echo.Context, site popup.Site) bool {
	header := c.Response().Header()
	header.Add(echo.HeaderVary, echo.HeaderOrigin)
	origin := c.Request().Header.Get(echo.HeaderOrigin)
	if !site.Allows(origin) {
		return false
	}
	header.Set(echo.HeaderAccessControlAllowOrigin, origin)
	return true
}

// lookUpCaller checks the credentials of a browser and looks up the customer with a
// phone number.
func (s *API) lookUpCaller(c echo.Context) (popup.CallerPage, popup.Site, error) {
	header := c.Response().Header()
	header[echo.HeaderCacheControl] = []string{"no-store"} // the answer has names of customers
	header[echo.HeaderReferrerPolicy] = []string{"no-referrer"}
	header[echo.HeaderXContentTypeOptions] = []string{"nosniff"}
	site, err := s.Popup.Site(c.QueryParam("site"))
	if err != nil {
		return popup.CallerPage{}, site, err
	}
	allowOrigin(c, site) // before any error, so that the page can read it
	credentials := popup.SiteCredentials{Key: cmp.Or(c.Request().Header.Get("X-Embed-Key"), c.QueryParam("key")), Token: c.QueryParam("token")}
	err = s.Popup.Authorize(site, credentials, clientAddress(c))
	if errors.Is(err, access.ErrUnauthorized) {
		err = errNoSiteKey
	}
	if err != nil {
		return popup.CallerPage{}, site, err
	}
	page, err := s.Popup.Find(c.Request().Context(), site, c.QueryParam("number"))
	return page, site, err
}

// crmOpen redirects a browser to the customer's page in the CRM, or shows a page to
// choose from. Browsers call it with a key or token of the site.
//
//	@Summary		Open the customer's page in the CRM
//	@Description	Looks up the customer with a phone number. One match redirects to the customer's page in the CRM, several show a page to choose from, and none shows links to search for or create the customer.
//	@ID				crmOpen
//	@Tags			browsers
//	@Produce		html
//	@Param			site	query		string	true	"Name of the site"
//	@Param			number	query		string	true	"Number of the caller, in any format"
//	@Param			token	query		string	false	"Signed site token"
//	@Param			key		query		string	false	"Key of the site"
//	@Success		200		{string}	string
//	@Success		302
//	@Header			302	{string}	Location	"URL of the customer's page"
//	@Failure		401	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Failure		422	{object}	Problem
//	@Failure		429	{object}	Problem
//	@Router			/crm/open [get]
func (s *API) crmOpen(c echo.Context) error {
	found, site, err := s.lookUpCaller(c)
	if err != nil {
		return err
	}
	if found.URL != "" && (found.Status == crm.Found || found.Status == crm.Many && found.URL == found.Customers[0].URL) {
		return c.Redirect(http.StatusFound, found.URL)
	}
	var body bytes.Buffer
	if err := choicePage(site.Name(), found).Write(&body); err != nil {
		return fmt.Errorf("page of customers: %w", err)
	}
	c.Response().Header().Set(echo.HeaderContentSecurityPolicy, "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	return c.HTMLBlob(http.StatusOK, body.Bytes())
}

// choicePage returns the page on which an agent chooses a customer, or what to do
// if there is none.
func choicePage(site string, found popup.CallerPage) web.CallersPage {
	page := web.CallersPage{Site: site, Number: found.Number}
	switch found.Status {
	case crm.Found, crm.Many:
		page.Title = "Who is calling?"
	case crm.None:
		page.Title = "No customer has this number"
	case crm.Skipped:
		page.Title = "This number cannot be looked up"
		page.Note = "It is withheld, internal, or not a phone number."
	default:
		page.Title = "The CRM did not answer"
		page.Note = "Reload this page to try again."
	}
	for _, customer := range found.Customers {
		page.Customers = append(page.Customers, web.CallerLink{
			Name: cmp.Or(customer.Name, "Unnamed customer"), URL: customer.URL, About: customer.Connection + matchNote(customer.MatchedBy),
		})
	}
	for _, search := range found.SearchPages() {
		page.Links = append(page.Links, web.CallerLink{Name: "Search in " + search.Connection, URL: search.URL})
	}
	if found.Status == crm.None {
		for _, create := range found.CreatePages() {
			page.Links = append(page.Links, web.CallerLink{Name: "Add to " + create.Connection, URL: create.URL})
		}
	}
	return page
}

// matchNote names the field of a customer that matched the number. It is empty for the
// usual field, the phone number.
func matchNote(by string) string {
	switch by {
	case "phone", "":
		return ""
	case "shared_phone":
		return ", shares this number"
	default:
		return ", matched by " + strings.ReplaceAll(by, "_", " ")
	}
}

// siteToken creates a token that allows the CRM lookups of a site. Administrators
// may call it.
//
//	@Summary		Create a site token
//	@Description	Creates a signed, short-lived token that allows CRM lookups of one site. Put it into the `data-token` attribute of the site's script, so that the page does not contain a key.
//	@ID				createSiteToken
//	@Tags			sites
//	@Produce		json
//	@Param			site	path		string	true	"Name of the site"
//	@Param			ttl		query		integer	false	"Lifetime in seconds, from 60 to 43200 (default 3600)"
//	@Success		200		{object}	popup.SiteToken
//	@Failure		401		{object}	Problem
//	@Failure		404		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/sites/{site}/token [post]
func (s *API) siteToken(c echo.Context) error {
	q := readQuery(c)
	text := q.text("ttl")
	if err := q.err(); err != nil {
		return err
	}
	var lifetime time.Duration
	if text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 1 || seconds > int((24*time.Hour).Seconds()) {
			return fieldError("ttl", "must be a whole number of seconds, such as 3600")
		}
		lifetime = time.Duration(seconds) * time.Second
	}
	token, err := s.Popup.Token(c.Param("site"), lifetime)
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return c.JSON(http.StatusOK, token)
}
