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

func (s *API) putConfig(c echo.Context) error {
	q := queryOf(c)
	in := config.Input{
		DryRun: q.flag("dry_run"), Comment: Clipped(q.text("comment")), Author: Clipped(q.text("author")),
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
	applied, err := s.Config.Apply(detached(c), in)
	if err != nil {
		return err
	}
	c.Response().Header().Set("ETag", etag(applied.Version))
	return c.JSON(http.StatusOK, applied)
}

// documentFormat tells the notation from the content type. What curl sends by
// default counts as YAML.
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
		return "", fmt.Errorf("%w: send application/yaml or application/json, not %s", errMediaType, Clipped(contentType))
	}
}

func (s *API) listVersions(c echo.Context) error {
	q := queryOf(c)
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.Config.Versions(c.Request().Context(), page))
}

func (s *API) getVersion(c echo.Context) error {
	n, err := versionNumber(c)
	if err != nil {
		return err
	}
	return answer(c)(s.Config.Version(c.Request().Context(), n))
}

func (s *API) restoreVersion(c echo.Context) error {
	q := queryOf(c)
	author := Clipped(q.text("author"))
	if err := q.err(); err != nil {
		return err
	}
	n, err := versionNumber(c)
	if err != nil {
		return err
	}
	applied, err := s.Config.Restore(detached(c), n, author)
	if err != nil {
		return err
	}
	c.Response().Header().Set("ETag", etag(applied.Version))
	return c.JSON(http.StatusOK, applied)
}

func versionNumber(c echo.Context) (int64, error) {
	n, err := strconv.ParseInt(c.Param("n"), 10, 64)
	if err != nil || n < 1 {
		return 0, fieldError("n", "must be the number of a version")
	}
	return n, nil
}
