package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/embeds"
	"calltracker/web"
)

// Values of Cache-Control.
const (
	cacheMinute  = "public, max-age=60"                  // content that follows the configuration
	cacheForever = "public, max-age=31536000, immutable" // content that never changes under its URL
)

// webCallback serves the callback button of a site. Any client may call it.
//
//	@Summary		Get the WebCallback button of a site
//	@Description	Serves `SITE.js`, a script with the WebCallback button of a site, or `SITE.json`, its configuration. The configuration contains Ziwo's keys and, under `calltracker`, the texts by language and the next changes of the opening hours.
//	@ID				webCallback
//	@Tags			browsers
//	@Produce		text/javascript,json
//	@Param			file			path		string	true	"SITE.js or SITE.json"
//	@Param			If-None-Match	header		string	false	"ETag of an earlier response"
//	@Success		200				{string}	string
//	@Header			200				{string}	ETag	"ETag of the content in this encoding"
//	@Success		304
//	@Failure		404	{string}	string	"Script that logs the error to the browser console, or a problem"
//	@x-script		true
//	@Router			/webcallback/{file} [get]
func (s *API) webCallback(c echo.Context) error { return s.embed(c, web.WebCallback) }

// jorel serves the web phone of a site. Any client may call it.
//
//	@Summary		Get the Jorel web phone of a site
//	@Description	Serves `SITE.js`, a script with the Jorel web phone, click-to-call, and the pop-up of a site, or `SITE.json`, its configuration.
//	@ID				jorel
//	@Tags			browsers
//	@Produce		text/javascript,json
//	@Param			file			path		string	true	"SITE.js or SITE.json"
//	@Param			If-None-Match	header		string	false	"ETag of an earlier response"
//	@Success		200				{string}	string
//	@Header			200				{string}	ETag	"ETag of the content in this encoding"
//	@Success		304
//	@Failure		404	{string}	string	"Script that logs the error to the browser console, or a problem"
//	@x-script		true
//	@Router			/jorel/{file} [get]
func (s *API) jorel(c echo.Context) error { return s.embed(c, web.Jorel) }

// popup serves the pop-up script of a site. Any client may call it.
//
//	@Summary		Get the pop-up script of a site
//	@Description	Serves `SITE.js`, a script that opens the customer's CRM page when a call arrives, without the web phone, or `SITE.json`, its configuration.
//	@ID				popup
//	@Tags			browsers
//	@Produce		text/javascript,json
//	@Param			file			path		string	true	"SITE.js or SITE.json"
//	@Param			If-None-Match	header		string	false	"ETag of an earlier response"
//	@Success		200				{string}	string
//	@Header			200				{string}	ETag	"ETag of the content in this encoding"
//	@Success		304
//	@Failure		404	{string}	string	"Script that logs the error to the browser console, or a problem"
//	@x-script		true
//	@Router			/popup/{file} [get]
func (s *API) popup(c echo.Context) error { return s.embed(c, web.Popup) }

// embed serves a script (SITE.js) or its configuration (SITE.json). The name of a
// site may contain dots.
func (s *API) embed(c echo.Context, kind web.Kind) error {
	site, isJSON := strings.CutSuffix(c.Param("file"), ".json")
	if isJSON {
		asset, err := s.Embeds.Configuration(kind, site)
		if err != nil {
			return err
		}
		return serveAsset(c, asset, typeJSON, cacheMinute)
	}
	site, isScript := strings.CutSuffix(c.Param("file"), ".js")
	if !isScript {
		return echo.ErrNotFound
	}
	asset, err := s.Embeds.Script(kind, site)
	if err != nil {
		return s.scriptError(c, err)
	}
	return serveAsset(c, asset, typeScript, cacheMinute)
}

// webCallbackRelease serves a pinned version of the callback button. Any client may
// call it.
//
//	@Summary		Get a pinned version of the WebCallback script
//	@Description	Serves `VERSION.js`, a script whose content never changes, so that a page can pin it with an `integrity` attribute. The script loads the configuration of the site from `SITE.json`.
//	@ID				webCallbackRelease
//	@Tags			browsers
//	@Produce		text/javascript
//	@Param			site			path		string	true	"Name of the site"
//	@Param			file			path		string	true	"VERSION.js, with the version shown at /sites/SITE"
//	@Param			If-None-Match	header		string	false	"ETag of an earlier response"
//	@Success		200				{string}	string
//	@Success		304
//	@Failure		404	{string}	string	"Script that logs the error to the browser console"
//	@x-script		true
//	@Router			/webcallback/{site}/{file} [get]
func (s *API) webCallbackRelease(c echo.Context) error { return s.release(c, web.WebCallback) }

// jorelRelease serves a pinned version of the web phone. Any client may call it.
//
//	@Summary		Get a pinned version of the Jorel script
//	@Description	Serves `VERSION.js`, a script whose content never changes, so that a page can pin it with an `integrity` attribute. The script loads the configuration of the site from `SITE.json`.
//	@ID				jorelRelease
//	@Tags			browsers
//	@Produce		text/javascript
//	@Param			site			path		string	true	"Name of the site"
//	@Param			file			path		string	true	"VERSION.js, with the version shown at /sites/SITE"
//	@Param			If-None-Match	header		string	false	"ETag of an earlier response"
//	@Success		200				{string}	string
//	@Success		304
//	@Failure		404	{string}	string	"Script that logs the error to the browser console"
//	@x-script		true
//	@Router			/jorel/{site}/{file} [get]
func (s *API) jorelRelease(c echo.Context) error { return s.release(c, web.Jorel) }

// popupRelease serves a pinned version of the pop-up script. Any client may call it.
//
//	@Summary		Get a pinned version of the pop-up script
//	@Description	Serves `VERSION.js`, a script whose content never changes, so that a page can pin it with an `integrity` attribute. The script loads the configuration of the site from `SITE.json`.
//	@ID				popupRelease
//	@Tags			browsers
//	@Produce		text/javascript
//	@Param			site			path		string	true	"Name of the site"
//	@Param			file			path		string	true	"VERSION.js, with the version shown at /sites/SITE"
//	@Param			If-None-Match	header		string	false	"ETag of an earlier response"
//	@Success		200				{string}	string
//	@Success		304
//	@Failure		404	{string}	string	"Script that logs the error to the browser console"
//	@x-script		true
//	@Router			/popup/{site}/{file} [get]
func (s *API) popupRelease(c echo.Context) error { return s.release(c, web.Popup) }

// release serves VERSION.js, the pinned version of a script.
func (s *API) release(c echo.Context, kind web.Kind) error {
	version, isScript := strings.CutSuffix(c.Param("file"), ".js")
	if !isScript {
		return echo.ErrNotFound
	}
	asset, err := s.Embeds.Release(kind, c.Param("site"), version)
	if err != nil {
		return s.scriptError(c, err)
	}
	return serveAsset(c, asset, typeScript, cacheForever)
}

// sitePage serves the setup page of a site, for its owner. Any client may call it.
//
//	@Summary		Get the setup page of a site
//	@Description	Returns a page for the owner of a site: the lines to add to web pages, a preview of the button, and what is missing in the configuration.
//	@ID				sitePage
//	@Tags			browsers
//	@Produce		html
//	@Param			site	path		string	true	"Name of the site"
//	@Success		200		{string}	string
//	@Failure		404		{object}	Problem
//	@Failure		500		{object}	Problem
//	@Router			/sites/{site} [get]
func (s *API) sitePage(c echo.Context) error {
	page, err := s.Embeds.Page(c.Param("site"))
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if err := page.Write(&body); err != nil {
		return fmt.Errorf("page of site %s: %w", page.Site, err)
	}
	header := c.Response().Header()
	header.Set(echo.HeaderContentSecurityPolicy, "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	header.Set(echo.HeaderXContentTypeOptions, "nosniff")
	header.Set(echo.HeaderCacheControl, "no-store") // the page shows the current state
	return c.HTMLBlob(http.StatusOK, body.Bytes())
}

// pageAsset serves the styles and scripts of the pages that this server renders. Any
// client may call it.
func pageAsset(c echo.Context) error {
	name := c.Param("file")
	body, ok := web.Asset(name)
	if !ok {
		return echo.ErrNotFound
	}
	contentType := typeScript
	if strings.HasSuffix(name, ".css") {
		contentType = typeStyles
	}
	header := c.Response().Header()
	header.Set(echo.HeaderCacheControl, cacheForever)
	header.Set(echo.HeaderXContentTypeOptions, "nosniff")
	return c.Blob(http.StatusOK, contentType, body)
}

// scriptError answers an unknown script with a script that logs the error, and
// returns all other errors.
func (s *API) scriptError(c echo.Context, err error) error {
	var unknown *embeds.NotFound
	if !errors.As(err, &unknown) {
		return err
	}
	return s.writeScriptError(c, err)
}

// Header values of all scripts, shared to save allocations. They must not be
// modified.
var (
	varyByOrigin = []string{"Accept-Encoding, Origin"}
	noSniff      = []string{"nosniff"}
	crossOrigin  = []string{"cross-origin"}
)

// serveAsset answers with an asset in the smallest encoding that the client
// accepts, or with status 304 if the client has it.
func serveAsset(c echo.Context, a *embeds.Asset, contentType, cache string) error {
	body, suffix, encoding := a.Plain, "", ""
	switch accepted := c.Request().Header.Get(echo.HeaderAcceptEncoding); {
	case accepts(accepted, "br"):
		body, suffix, encoding = a.Brotli, "-br", "br"
	case accepts(accepted, "gzip"):
		body, suffix, encoding = a.Gzip, "-gzip", "gzip"
	}
	header := c.Response().Header()
	header[echo.HeaderCacheControl] = []string{cache}
	header["Etag"] = []string{`"` + a.Tag + suffix + `"`}
	header[echo.HeaderVary] = varyByOrigin
	header[echo.HeaderXContentTypeOptions] = noSniff
	header["Cross-Origin-Resource-Policy"] = crossOrigin
	if origin := c.Request().Header.Get(echo.HeaderOrigin); origin != "" && slices.Contains(a.Origins, origin) {
		header[echo.HeaderAccessControlAllowOrigin] = []string{origin}
	}
	if unchanged(c.Request().Header.Get("If-None-Match"), a.Tag) {
		return c.NoContent(http.StatusNotModified)
	}
	if encoding != "" {
		header[echo.HeaderContentEncoding] = []string{encoding}
	}
	header[echo.HeaderContentLength] = []string{strconv.Itoa(len(body))} // otherwise net/http sends chunks
	return c.Blob(http.StatusOK, contentType, body)
}

// accepts reports whether an Accept-Encoding header lists an encoding with a weight
// other than 0.
func accepts(header, encoding string) bool {
	for item := range strings.SplitSeq(header, ",") {
		name, weight, weighted := strings.Cut(item, ";")
		if strings.EqualFold(strings.TrimSpace(name), encoding) {
			q, _ := strings.CutPrefix(strings.ReplaceAll(strings.ToLower(weight), " ", ""), "q=")
			return !weighted || strings.Trim(q, "0.") != ""
		}
	}
	return false
}

// unchanged reports whether an If-None-Match header has the ETag of the content, in
// any encoding.
func unchanged(header, tag string) bool {
	for item := range strings.SplitSeq(header, ",") {
		got := strings.Trim(strings.TrimPrefix(strings.TrimSpace(item), "W/"), `"`)
		if got == "*" || strings.TrimSuffix(strings.TrimSuffix(got, "-br"), "-gzip") == tag {
			return true
		}
	}
	return false
}
