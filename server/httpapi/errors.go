package httpapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/config"
	"calltracker/handlers/access"
	"calltracker/handlers/clicktocall"
	"calltracker/handlers/embeds"
	"calltracker/handlers/endcall"
	"calltracker/handlers/live"
	"calltracker/handlers/popup"
	"calltracker/handlers/recordings"
	"calltracker/problem"
	"calltracker/storage"
	"calltracker/web"
	"calltracker/ziwo"
)

// Errors of requests that no handler sees.
var (
	errTooLarge     = errors.New("the body is too large")
	errBodyCut      = errors.New("the body ended before its announced length; send it again")
	errMediaType    = errors.New("unsupported content type")
	errPrecondition = errors.New("missing If-Match: send the ETag of GET /api/v1/config, or * to replace any version")
	errNoAdminToken = errors.New("send the admin token: Authorization: Bearer …; unless CALLTRACKER_ADMIN_TOKEN is set, it is in the file admin-token in the data directory")
	errNoSiteKey    = errors.New("send a key of the site as X-Embed-Key or key=, or a token of POST /api/v1/sites/{site}/token as token=")
)

// Details of errors whose causes are only for the log.
const (
	detailDatabaseUnavailable = "the database is unavailable; try again"
	detailNotStored           = "the record cannot be stored: the database and the disk are unavailable; send it again"
	detailInternal            = "internal error; the server's log has the cause"
	detailTooSlow             = "the body arrived too slowly; send it again"
	detailNoPath              = "unknown path: /docs/ lists the valid ones"
	detailMethod              = "this path does not accept the method: use one of those in the Allow header"
)

// retryDelay is the Retry-After while the database is unavailable.
const retryDelay = 5 * time.Second

// failure is what a client may know about an error.
type failure struct {
	status     int           // HTTP status
	reason     string        // fixed word for logs and the list of rejections
	code       string        // problem code; empty if the status is specific enough
	detail     string        // human-readable text, without internal causes
	fields     problem.List  // invalid fields of the request; usually empty
	retryAfter time.Duration // 0 if a retry does not help, or if it is unknown when it will
	challenge  string        // WWW-Authenticate; empty for none
	size       int64         // size of the recording, if the requested range is outside of it; 0 if unknown
}

// describe maps an error to the answer that a client gets. It is the only place
// that chooses the statuses, reasons, codes, and delays of errors.
func describe(err error) failure {
	var (
		unknownTracker   *access.UnknownTracker
		tooManyWrongKeys *access.TooManyWrongKeys
		unknownEmbed     *embeds.NotFound
		unknownSite      *popup.UnknownSite
		invalid          *problem.Invalid
		contactCenter    *clicktocall.ContactCenterError
		recording        *recordings.Error
		unreadable       *ziwo.ParseError
		framework        *echo.HTTPError
	)
	f := failure{detail: err.Error()}
	switch {
	case errors.As(err, &recording):
		return describeRecording(recording)
	case errors.As(err, &contactCenter):
		return describeContactCenter(contactCenter)
	case errors.As(err, &unknownTracker):
		f.status, f.reason = http.StatusNotFound, "unknown_tracker"
	case errors.As(err, &unknownEmbed):
		f.status, f.reason = http.StatusNotFound, "unknown_embed"
	case errors.As(err, &unknownSite):
		f.status, f.reason = http.StatusNotFound, "unknown_site"
	case errors.As(err, &tooManyWrongKeys):
		f.status, f.reason = http.StatusTooManyRequests, "too_many_wrong_keys"
		f.retryAfter = max(tooManyWrongKeys.RetryAfter, time.Second)
	case errors.As(err, &invalid):
		f.status, f.reason = http.StatusUnprocessableEntity, "invalid"
		f.fields, f.detail = invalid.Problems, "1 problem"
		if n := len(invalid.Problems); n != 1 {
			f.detail = fmt.Sprintf("%d problems", n)
		}
	case errors.Is(err, popup.ErrOriginNotAllowed):
		f.status, f.reason = http.StatusForbidden, "no_origin"
	case errors.Is(err, errNoAdminToken):
		f.status, f.reason = http.StatusUnauthorized, "wrong_key"
		f.challenge = `Bearer realm="calltracker"`
	case errors.Is(err, errNoSiteKey), errors.Is(err, access.ErrUnauthorized):
		f.status, f.reason = http.StatusUnauthorized, "wrong_key"
	case errors.Is(err, access.ErrBlocked):
		f.status, f.reason = http.StatusForbidden, "blocked"
	case errors.Is(err, ziwo.ErrNoDID):
		f.status, f.reason = http.StatusBadRequest, "no_did"
	case errors.Is(err, endcall.ErrEmptyBody):
		f.status, f.reason = http.StatusBadRequest, "empty_body"
	case errors.As(err, &unreadable):
		f.status, f.reason = http.StatusBadRequest, "unreadable"
	case errors.Is(err, errTooLarge):
		f.status, f.reason = http.StatusRequestEntityTooLarge, "too_large"
	case errors.Is(err, errBodyCut):
		f.status, f.reason = http.StatusBadRequest, "body_cut"
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.status, f.reason, f.detail = http.StatusRequestTimeout, "too_slow", detailTooSlow
	case errors.Is(err, errMediaType):
		f.status, f.reason = http.StatusUnsupportedMediaType, "media_type"
	case errors.Is(err, errPrecondition):
		f.status, f.reason = http.StatusPreconditionRequired, "no_precondition"
	case errors.Is(err, config.ErrStale):
		f.status, f.reason = http.StatusPreconditionFailed, "stale"
	case errors.Is(err, config.ErrNoConfig), errors.Is(err, storage.ErrNotFound):
		f.status, f.reason = http.StatusNotFound, "not_found"
	case errors.Is(err, storage.ErrBadCursor):
		f.status, f.reason = http.StatusUnprocessableEntity, "invalid"
		f.fields = problem.List{{Path: "cursor", Message: storage.ErrBadCursor.Error()}}
	case errors.Is(err, storage.ErrConflict):
		f.status, f.reason = http.StatusConflict, "conflict"
	case errors.Is(err, live.ErrTooManyListeners), errors.Is(err, live.ErrStopped):
		f.status, f.reason, f.retryAfter = http.StatusServiceUnavailable, "not_watched", retryDelay
	case errors.Is(err, endcall.ErrNotStored):
		f.status, f.reason, f.retryAfter = http.StatusServiceUnavailable, "not_kept", retryDelay
		f.detail = detailNotStored
	case errors.Is(err, storage.ErrUnavailable):
		f.status, f.reason, f.retryAfter = http.StatusServiceUnavailable, "database_away", retryDelay
		f.detail = detailDatabaseUnavailable
	case errors.As(err, &framework):
		f.status, f.reason = framework.Code, "http"
		f.detail = fmt.Sprint(framework.Message)
		switch framework { // errors of the router
		case echo.ErrNotFound:
			f.detail = detailNoPath
		case echo.ErrMethodNotAllowed:
			f.detail = detailMethod
		}
	default:
		f.status, f.reason, f.detail = http.StatusInternalServerError, "internal", detailInternal
	}
	return f
}

// describeRecording maps the reason why a recording is unavailable.
func describeRecording(err *recordings.Error) failure {
	f := failure{
		status: http.StatusBadGateway, reason: string(err.Code), code: string(err.Code), detail: err.Message,
		retryAfter: err.RetryAfter, size: err.Size,
	}
	switch err.Code {
	case recordings.Pending, recordings.NoRecording:
		f.status = http.StatusNotFound
	case recordings.RangeNotSatisfiable:
		f.status = http.StatusRequestedRangeNotSatisfiable
	case recordings.ContactCenterUnavailable:
		f.status = http.StatusServiceUnavailable
	case recordings.ContactCenterUnknown:
		f.status = http.StatusConflict
	}
	return f
}

// describeContactCenter maps the reason why a contact center did not ring an
// agent.
func describeContactCenter(err *clicktocall.ContactCenterError) failure {
	f := failure{detail: err.Error()}
	switch {
	case err.Uncertain:
		f.status, f.reason = http.StatusGatewayTimeout, "ziwo_unsure"
	case err.Kind == ziwo.Rejected:
		f.status, f.reason = http.StatusConflict, "ziwo_refuses"
	case err.Kind == ziwo.NotFound:
		f.status, f.reason = http.StatusNotFound, "not_found"
	case err.Kind == ziwo.Unavailable, err.Kind == ziwo.RateLimited:
		f.status, f.reason = http.StatusServiceUnavailable, "ziwo_away"
		if f.retryAfter = err.RetryAfter; f.retryAfter <= 0 {
			f.retryAfter = retryDelay
		}
	default:
		f.status, f.reason = http.StatusBadGateway, "ziwo_fails"
	}
	return f
}

// setHeaders sets the headers that the answer to a failed request has in every
// format.
func (f failure) setHeaders(header http.Header) {
	if f.retryAfter > 0 {
		seconds := int64((f.retryAfter + time.Second - 1) / time.Second)
		header.Set(echo.HeaderRetryAfter, strconv.FormatInt(seconds, 10))
	}
	if f.challenge != "" {
		header.Set(echo.HeaderWWWAuthenticate, f.challenge)
	}
	if f.size > 0 {
		header.Set("Content-Range", "bytes */"+strconv.FormatInt(f.size, 10))
	}
}

// handleError is echo's error handler: it answers the errors that handlers return.
func (s *API) handleError(err error, c echo.Context) {
	switch {
	case c.Response().Committed:
		s.Logger.LogAttrs(c.Request().Context(), slog.LevelError, "response interrupted", slog.String("path", c.Path()), slog.Any("error", err))
	case isZiwoPath(c.Request().URL.Path):
		s.writeEnvelopeError(c, err, 0)
	default:
		s.writeProblem(c, err)
	}
}

// isZiwoPath reports whether Ziwo sends its requests to this path.
func isZiwoPath(path string) bool {
	return strings.HasPrefix(path, "/callTrackers/") || strings.HasPrefix(path, "/webhooks/")
}

// writeProblem answers with a Problem.
func (s *API) writeProblem(c echo.Context, err error) {
	f := describe(err)
	s.logFailure(c, f, err)
	document := Problem{
		Type: "about:blank", Title: http.StatusText(f.status), Status: f.status, Code: f.code, Detail: f.detail, Errors: f.fields,
	}
	if f.code != "" {
		document.Type = "urn:calltracker:problem:" + f.code
	}
	body, _ := json.Marshal(document) // strings and numbers only
	f.setHeaders(c.Response().Header())
	s.logDelivery(c, c.Blob(f.status, "application/problem+json", body))
}

// writeEnvelopeError answers a request from Ziwo with the envelope that Ziwo
// expects, and records the rejection. bytesRead is how much of the body was read.
func (s *API) writeEnvelopeError(c echo.Context, err error, bytesRead int64) {
	f := describe(err)
	s.logFailure(c, f, err)
	s.recordRejection(c, f.status, f.reason, f.detail, bytesRead)
	f.setHeaders(c.Response().Header())
	s.logDelivery(c, c.Blob(f.status, typeJSON, ziwo.AppendError(nil, f.detail)))
}

// writeScriptError answers a request for a script with a script that logs the
// error to the browser console.
func (s *API) writeScriptError(c echo.Context, err error) error {
	f := describe(err)
	s.logFailure(c, f, err)
	body, err := web.ErrorScript(f.detail)
	if err != nil {
		return err
	}
	header := c.Response().Header()
	header.Set(echo.HeaderCacheControl, "no-store") // the configuration may be corrected at any time
	header.Set(echo.HeaderXContentTypeOptions, "nosniff")
	f.setHeaders(header)
	return c.Blob(f.status, typeScript, body)
}

// recordRejection adds a request from Ziwo to the list of rejections.
func (s *API) recordRejection(c echo.Context, status int, reason, message string, bytesRead int64) {
	req := c.Request()
	s.Rejections.Add(storage.Rejection{
		Method: req.Method, Path: clip(req.URL.Path), Tracker: clip(c.Param("tracker")), Address: c.RealIP(),
		Status: status, Reason: reason, Message: message,
		ContentType: clip(req.Header.Get(echo.HeaderContentType)), UserAgent: clip(req.UserAgent()), Bytes: bytesRead,
	})
}

// logFailure logs a failed request with the cause of the error.
func (s *API) logFailure(c echo.Context, f failure, err error) {
	level := slog.LevelInfo
	switch {
	case f.status >= http.StatusInternalServerError:
		level = slog.LevelError
	case isZiwoPath(c.Request().URL.Path): // Ziwo may be set up incorrectly
		level = slog.LevelWarn
	}
	cause := slog.Any("error", err)
	var invalid *problem.Invalid
	if errors.As(err, &invalid) { // the messages quote the request, which may contain phone numbers
		cause = slog.Any("fields", invalid.Paths())
	} else if f.reason == "http" {
		cause = slog.String("error", f.detail)
	}
	req := c.Request()
	s.Logger.LogAttrs(req.Context(), level, "request rejected", slog.Int("status", f.status), slog.String("reason", f.reason),
		slog.String("method", req.Method), slog.String("route", c.Path()), slog.String("path", clip(req.URL.Path)),
		slog.String("address", c.RealIP()), cause)
}

// logDelivery logs that an answer did not reach the client.
func (s *API) logDelivery(c echo.Context, err error) {
	if err != nil {
		s.Logger.LogAttrs(c.Request().Context(), slog.LevelInfo, "response not delivered", slog.Any("error", err))
	}
}
