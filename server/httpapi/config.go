package httpapi

import (
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"calltracker/config"
)

// getConfig returns the active configuration. Administrators may call it.
//
//	@Summary		Get the active configuration
//	@Description	Returns the active configuration document as YAML, as it was written, or as JSON if the `Accept` header asks for it. The `ETag` header is its version.
//	@ID				getConfig
//	@Tags			configuration
//	@Produce		application/yaml,json
//	@Success		200	{object}	object	"The document, in the format in which it was applied"
//	@Header			200	{string}	ETag	"Version of the document"
//	@Success		304
//	@Failure		401	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/config [get]
func (s *API) getConfig(c echo.Context) error {
	version, err := s.Config.Document()
	if err != nil {
		return err
	}
	header := c.Response().Header()
	tag := etag(version.Version)
	header.Set("ETag", tag)
	header.Set(echo.HeaderVary, echo.HeaderAccept)
	if c.Request().Header.Get("If-None-Match") == tag {
		return c.NoContent(http.StatusNotModified)
	}
	wanted := config.YAML
	if accept := c.Request().Header.Get(echo.HeaderAccept); strings.Contains(accept, "json") && !strings.Contains(accept, "yaml") {
		wanted = config.JSON
	}
	text, err := config.Convert([]byte(version.Document), config.Format(version.Format), wanted)
	if err != nil {
		return err
	}
	return c.Blob(http.StatusOK, "application/"+string(wanted), text)
}

func etag(version int64) string { return strconv.Quote(strconv.FormatInt(version, 10)) }

// putConfig applies a configuration, or only checks it. Administrators may call it.
//
//	@Summary		Apply a configuration
//	@Description	Checks the document, runs its tests, stores it as a new version, and activates it. A 422 lists every problem; with `dry_run=true` the document is only checked.
//	@ID				putConfig
//	@Tags			configuration
//	@Accept			application/yaml,json
//	@Produce		json
//	@Param			If-Match	header		string	false	"Version that must be active, or *; optional for a dry run"
//	@Param			dry_run		query		boolean	false	"Check the document without applying it"
//	@Param			comment		query		string	false	"Comment, for the version history"
//	@Param			author		query		string	false	"Author, for the version history"
//	@Param			body		body		string	true	"Configuration document"
//	@Success		200			{object}	config.ApplyResult
//	@Header			200			{string}	ETag	"Version of the document"
//	@Failure		400			{object}	Problem
//	@Failure		401			{object}	Problem
//	@Failure		412			{object}	Problem
//	@Failure		413			{object}	Problem
//	@Failure		415			{object}	Problem
//	@Failure		422			{object}	Problem
//	@Failure		428			{object}	Problem
//	@Failure		503			{object}	Problem
//	@Security		Bearer
//	@x-any-body		true
//	@Router			/api/v1/config [put]
func (s *API) putConfig(c echo.Context) error {
	q := readQuery(c)
	in := config.Input{
		DryRun: q.flag("dry_run"), Comment: clip(q.text("comment")), Author: clip(q.text("author")),
		IfMatch: c.Request().Header.Get("If-Match"),
	}
	if err := q.err(); err != nil {
		return err
	}
	if in.IfMatch == "" && !in.DryRun {
		return errPrecondition
	}
	var err error
	if in.Format, err = documentFormat(c.Request().Header.Get(echo.HeaderContentType)); err != nil {
		return err
	}
	body, err := readBody(nil, c.Request(), config.MaxDocumentBytes)
	if err != nil {
		return err
	}
	in.Document = string(body)
	applied, err := s.Config.Apply(uncanceled(c), in)
	if err != nil {
		return err
	}
	c.Response().Header().Set("ETag", etag(applied.Version))
	return c.JSON(http.StatusOK, applied)
}

// documentFormat returns the format of a document with this content type. The
// default content type of curl stands for YAML.
func documentFormat(contentType string) (config.Format, error) {
	if contentType == "" {
		return config.YAML, nil
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	switch {
	case err == nil && mediaType == echo.MIMEApplicationJSON:
		return config.JSON, nil
	case err == nil && (strings.Contains(mediaType, "yaml") || mediaType == echo.MIMETextPlain ||
		mediaType == echo.MIMEApplicationForm || mediaType == echo.MIMEOctetStream):
		return config.YAML, nil
	default:
		return "", fmt.Errorf("%w %s: send application/yaml or application/json", errMediaType, clip(contentType))
	}
}

// listVersions lists the versions of the configuration. Administrators may call it.
//
//	@Summary		List configuration versions
//	@Description	Returns one page of configuration versions, newest first, with the author, time, and comment of each, without the documents.
//	@ID				listConfigVersions
//	@Tags			configuration
//	@Produce		json
//	@Param			cursor	query		string	false	"Value of `next` of the previous page"
//	@Param			limit	query		int		false	"Page size, from 1 to 1000 (default 50)"
//	@Success		200		{object}	config.VersionList
//	@Failure		401		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/config/versions [get]
func (s *API) listVersions(c echo.Context) error {
	q := readQuery(c)
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return respond(c)(s.Config.Versions(c.Request().Context(), page))
}

// getVersion returns a version of the configuration. Administrators may call it.
//
//	@Summary		Get a configuration version
//	@Description	Returns one version of the configuration with its document.
//	@ID				getConfigVersion
//	@Tags			configuration
//	@Produce		json
//	@Param			n	path		int	true	"Version number"
//	@Success		200	{object}	config.VersionView
//	@Failure		401	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Failure		422	{object}	Problem
//	@Failure		503	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/config/versions/{n} [get]
func (s *API) getVersion(c echo.Context) error {
	n, err := versionNumber(c)
	if err != nil {
		return err
	}
	return respond(c)(s.Config.Version(c.Request().Context(), n))
}

// restoreVersion applies an older version of the configuration. Administrators may
// call it.
//
//	@Summary		Restore a configuration version
//	@Description	Applies the document of an older version as a new version. It is checked like any other document.
//	@ID				restoreConfigVersion
//	@Tags			configuration
//	@Produce		json
//	@Param			n		path		int		true	"Version number"
//	@Param			author	query		string	false	"Author, for the version history"
//	@Success		200		{object}	config.ApplyResult
//	@Header			200		{string}	ETag	"Version of the document"
//	@Failure		401		{object}	Problem
//	@Failure		404		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/config/versions/{n}/restore [post]
func (s *API) restoreVersion(c echo.Context) error {
	q := readQuery(c)
	author := clip(q.text("author"))
	if err := q.err(); err != nil {
		return err
	}
	n, err := versionNumber(c)
	if err != nil {
		return err
	}
	applied, err := s.Config.Restore(uncanceled(c), n, author)
	if err != nil {
		return err
	}
	c.Response().Header().Set("ETag", etag(applied.Version))
	return c.JSON(http.StatusOK, applied)
}

func versionNumber(c echo.Context) (int64, error) {
	n, err := strconv.ParseInt(c.Param("n"), 10, 64)
	if err != nil || n < 1 {
		return 0, fieldError("n", "must be a version number")
	}
	return n, nil
}
