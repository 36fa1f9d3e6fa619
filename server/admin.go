package main

import (
	"encoding/csv"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/config"
	"calltracker/handlers"
)

// This file turns admin requests into calls of handlers, and their results into
// answers.

func (s *api) getConfig(c echo.Context) error {
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

func (s *api) putConfig(c echo.Context) error {
	q := queryOf(c)
	in := handlers.ConfigInput{
		DryRun: q.flag("dry_run"), Comment: clipped(q.text("comment")), Author: clipped(q.text("author")),
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
		return "", fmt.Errorf("%w: send application/yaml or application/json, not %s", errMediaType, clipped(contentType))
	}
}

func (s *api) listVersions(c echo.Context) error {
	q := queryOf(c)
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.Config.Versions(c.Request().Context(), page))
}

func (s *api) getVersion(c echo.Context) error {
	n, err := versionNumber(c)
	if err != nil {
		return err
	}
	return answer(c)(s.Config.Version(c.Request().Context(), n))
}

func (s *api) restoreVersion(c echo.Context) error {
	q := queryOf(c)
	author := clipped(q.text("author"))
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

func (s *api) simulate(c echo.Context) error {
	var in handlers.SimulateInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	return answer(c)(s.Simulator.Simulate(in))
}

func (s *api) listCalls(c echo.Context) error {
	q := queryOf(c)
	filter, page := callQuery(q), q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.Calls.List(c.Request().Context(), filter, page))
}

func callQuery(q *query) handlers.CallQuery {
	return handlers.CallQuery{
		From: q.instant("from"), To: q.instant("to"), Tracker: q.text("tracker"), DID: q.text("did"), Caller: q.text("caller"),
		Result: q.text("result"), Campaign: q.text("campaign"), Customer: q.text("customer"),
	}
}

func (s *api) getCall(c echo.Context) error {
	return answer(c)(s.Calls.Get(c.Request().Context(), c.Param("id")))
}

// csvColumns are the columns of the export, in their order.
var csvColumns = []string{
	"id", "contactCenter", "tracker", "callID", "direction", "did", "rawDid", "caller", "rawCaller", "callerName",
	"startedAt", "answeredAt", "endedAt", "duration", "ringTime", "talkTime", "holdTime", "result", "hangupCause", "hangupBy",
	"agent", "position", "recordingFile", "campaign", "route", "decision",
}

// csvPatience is how long a client may take over each part of an export.
const csvPatience = 30 * time.Second

// exportCalls streams: memory does not grow with the number of calls.
func (s *api) exportCalls(c echo.Context) error {
	q := queryOf(c)
	filter := callQuery(q)
	if err := q.err(); err != nil {
		return err
	}
	header := c.Response().Header()
	control := http.NewResponseController(c.Response())
	var out *csv.Writer
	begin := func() error {
		header.Set(echo.HeaderContentType, "text/csv; charset=utf-8")
		header.Set(echo.HeaderContentDisposition, `attachment; filename="calls.csv"`)
		out = csv.NewWriter(c.Response())
		return out.Write(csvColumns)
	}
	// Reading the request is over; its deadline would end the export as well.
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	rows := 0
	err := s.Calls.Each(c.Request().Context(), filter, func(call handlers.CallView) error {
		if out == nil {
			if err := begin(); err != nil {
				return err
			}
		}
		if rows%500 == 0 { // a long export is fine, a client that stopped reading is not
			if err := control.SetWriteDeadline(time.Now().Add(csvPatience)); err != nil {
				return err
			}
		}
		rows++
		return out.Write(csvRow(call))
	})
	if err == nil && out == nil {
		err = begin()
	}
	if err != nil && c.Response().Committed {
		// The status is gone: a connection that breaks tells the client that the export is not whole.
		s.Logger.Warn("export broken off", slog.Any("error", err))
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

func csvRow(c handlers.CallView) []string {
	row := []string{
		c.ID, c.ContactCenter, c.Tracker, c.CallID, c.Direction, c.DID, c.RawDID, c.Caller, c.RawCaller, c.CallerName,
		csvTime(c.StartedAt), csvTime(c.AnsweredAt), csvTime(c.EndedAt),
		strconv.Itoa(c.Duration), strconv.Itoa(c.RingTime), strconv.Itoa(c.TalkTime), strconv.Itoa(c.HoldTime),
		c.Result, c.HangupCause, c.HangupBy, c.Agent, c.Position, c.RecordingFile, c.Campaign, c.Route, c.Decision,
	}
	for i, cell := range row {
		row[i] = inert(cell)
	}
	return row
}

func csvTime(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.Format(time.RFC3339Nano)
}

var numberLike = regexp.MustCompile(`^[+-]?[0-9 ().-]*$`)

// inert keeps a spreadsheet from running a cell that came from outside as a
// formula (https://owasp.org/www-community/attacks/CSV_Injection); numbers stay
// as they are.
func inert(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) && !numberLike.MatchString(cell) {
		return "'" + cell
	}
	return cell
}

func (s *api) listDecisions(c echo.Context) error {
	q := queryOf(c)
	filter := handlers.DecisionQuery{
		From: q.instant("from"), To: q.instant("to"), Tracker: q.text("tracker"), DID: q.text("did"), Caller: q.text("caller"),
		Route: q.text("route"),
	}
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.Decisions.List(c.Request().Context(), filter, page))
}

func (s *api) getDecision(c echo.Context) error {
	return answer(c)(s.Decisions.Get(c.Request().Context(), c.Param("id")))
}

func (s *api) listRejections(c echo.Context) error {
	q := queryOf(c)
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.Rejections.List(c.Request().Context(), page))
}

func (s *api) listSecrets(c echo.Context) error {
	return answer(c)(s.Secrets.List(c.Request().Context()))
}

func (s *api) getSecret(c echo.Context) error {
	return answer(c)(s.Secrets.Get(c.Request().Context(), c.Param("name")))
}

func (s *api) putSecret(c echo.Context) error {
	var in handlers.SecretInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	return answer(c)(s.Secrets.Put(detached(c), c.Param("name"), in))
}

func (s *api) deleteSecret(c echo.Context) error {
	if err := s.Secrets.Delete(detached(c), c.Param("name")); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// answer sends what a handler returned.
func answer(c echo.Context) func(result any, err error) error {
	return func(result any, err error) error {
		if err != nil {
			return err
		}
		c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
		return c.JSON(http.StatusOK, result)
	}
}
