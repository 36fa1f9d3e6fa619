package httpapi

import (
	"encoding/csv"
	"log/slog"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/calls"
)

// listCalls lists stored calls. Administrators may call it.
//
//	@Summary		List calls
//	@Description	Returns one page of stored calls, newest first. Filters combine; pass `next` of a page as `cursor` to get the following one.
//	@ID				listCalls
//	@Tags			calls
//	@Produce		json
//	@Param			from		query		string	false	"Earliest start of the call, inclusive (RFC 3339)"
//	@Param			to			query		string	false	"Latest start of the call, exclusive (RFC 3339)"
//	@Param			tracker		query		string	false	"Name of the tracker"
//	@Param			did			query		string	false	"Number that the caller dialed (DID), in any format"
//	@Param			caller		query		string	false	"Number of the caller, in any format"
//	@Param			result		query		string	false	"Result of the call"	Enums(answered,missed,voicemail,busy,failed,cancelled,unreadable)
//	@Param			campaign	query		string	false	"Campaign of the DID"
//	@Param			customer	query		string	false	"ID of a customer"
//	@Param			cursor		query		string	false	"Value of `next` of the previous page"
//	@Param			limit		query		int		false	"Page size, from 1 to 1000 (default 50)"
//	@Success		200			{object}	calls.List
//	@Failure		401			{object}	Problem
//	@Failure		422			{object}	Problem
//	@Failure		503			{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/calls [get]
func (s *API) listCalls(c echo.Context) error {
	q := readQuery(c)
	filter, page := callQuery(q), q.page()
	if err := q.err(); err != nil {
		return err
	}
	return respond(c)(s.Calls.List(c.Request().Context(), filter, page))
}

// callQuery reads the filters of calls.
func callQuery(q *queryReader) calls.Query {
	return calls.Query{
		From: q.instant("from"), To: q.instant("to"), Tracker: q.text("tracker"), DID: q.text("did"), Caller: q.text("caller"),
		Result: q.text("result"), Campaign: q.text("campaign"), Customer: q.text("customer"),
	}
}

// getCall returns a stored call with every body that reported it. Administrators may call it.
//
//	@Summary		Get a call
//	@Description	Returns one call with every request body that reported it. Passwords and tokens in the bodies are masked.
//	@ID				getCall
//	@Tags			calls
//	@Produce		json
//	@Param			id	path		string	true	"ID of the call"
//	@Success		200	{object}	calls.Detail
//	@Failure		401	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Failure		503	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/calls/{id} [get]
func (s *API) getCall(c echo.Context) error {
	return respond(c)(s.Calls.Get(c.Request().Context(), c.Param("id")))
}

// enrichCall queues a new CRM lookup of a call. Administrators may call it.
//
//	@Summary		Look up the customers of a call again
//	@Description	Queues a new CRM lookup of the call's customers, which bypasses the cache. The state is `none` if the caller's number is withheld, internal, or unreadable.
//	@ID				enrichCall
//	@Tags			calls
//	@Produce		json
//	@Param			id	path		string	true	"ID of the call"
//	@Success		202	{object}	storage.Enrichment
//	@Failure		401	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Failure		422	{object}	Problem
//	@Failure		503	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/calls/{id}/enrich [post]
func (s *API) enrichCall(c echo.Context) error {
	state, err := s.Lookups.Enrich(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusAccepted, state)
}

// csvColumns are the columns of the CSV export, in order.
var csvColumns = []string{
	"id", "contactCenter", "tracker", "callID", "direction", "did", "rawDid", "caller", "rawCaller", "callerName",
	"startedAt", "answeredAt", "endedAt", "duration", "ringTime", "talkTime", "holdTime", "result", "hangupCause", "hangupBy",
	"agent", "position", "recordingFile", "campaign", "route", "decision",
}

// The write deadline of an export is extended by exportTimeout after every
// exportBatch rows.
const (
	exportTimeout = 30 * time.Second
	exportBatch   = 500
)

// exportCalls exports stored calls as CSV. It streams them, so memory does not grow
// with the number of calls. Administrators may call it.
//
//	@Summary		Export calls as CSV
//	@Description	Returns all stored calls that match the filters as CSV, newest first, without paging.
//	@ID				exportCalls
//	@Tags			calls
//	@Produce		text/csv
//	@Param			from		query		string	false	"Earliest start of the call, inclusive (RFC 3339)"
//	@Param			to			query		string	false	"Latest start of the call, exclusive (RFC 3339)"
//	@Param			tracker		query		string	false	"Name of the tracker"
//	@Param			did			query		string	false	"Number that the caller dialed (DID), in any format"
//	@Param			caller		query		string	false	"Number of the caller, in any format"
//	@Param			result		query		string	false	"Result of the call"	Enums(answered,missed,voicemail,busy,failed,cancelled,unreadable)
//	@Param			campaign	query		string	false	"Campaign of the DID"
//	@Param			customer	query		string	false	"ID of a customer"
//	@Success		200			{string}	string	"CSV with a header row"
//	@Failure		401			{object}	Problem
//	@Failure		422			{object}	Problem
//	@Failure		503			{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/calls.csv [get]
func (s *API) exportCalls(c echo.Context) error {
	q := readQuery(c)
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
	// The deadline for reading the request would interrupt the export.
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	rows := 0
	err := s.Calls.Each(c.Request().Context(), filter, func(call calls.View) error {
		if out == nil {
			if err := begin(); err != nil {
				return err
			}
		}
		if rows%exportBatch == 0 { // an export may take long, unless the client stops reading
			if err := control.SetWriteDeadline(time.Now().Add(exportTimeout)); err != nil {
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
		// The status has been sent. Closing the connection shows the client that the export is incomplete.
		s.Logger.Warn("export interrupted", slog.Any("error", err))
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

func csvRow(c calls.View) []string {
	row := []string{
		c.ID, c.ContactCenter, c.Tracker, c.CallID, c.Direction, c.DID, c.RawDID, c.Caller, c.RawCaller, c.CallerName,
		csvTime(c.StartedAt), csvTime(c.AnsweredAt), csvTime(c.EndedAt),
		strconv.Itoa(c.Duration), strconv.Itoa(c.RingTime), strconv.Itoa(c.TalkTime), strconv.Itoa(c.HoldTime),
		c.Result, c.HangupCause, c.HangupBy, c.Agent, c.Position, c.RecordingFile, c.Campaign, c.Route, c.Decision,
	}
	for i, cell := range row {
		row[i] = escapeFormula(cell)
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

// escapeFormula prefixes a cell that a spreadsheet would run as a formula
// (https://owasp.org/www-community/attacks/CSV_Injection). Numbers are unchanged.
func escapeFormula(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) && !numberLike.MatchString(cell) {
		return "'" + cell
	}
	return cell
}
