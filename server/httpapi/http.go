package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
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
	"calltracker/ziwo"
)

// Limits on what a client may send and how long it may take.
const (
	maxZiwoBody  = 1 << 20
	MaxAdminBody = 33 << 20 // a document, and JSON around it

	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 120 * time.Second
	maxHeader     = 64 << 10
)

// Errors of reading a request, before any handler sees it.
var (
	errTooLarge     = errors.New("the body is too large")
	errBodyCut      = errors.New("the body ended before its announced length; send it again")
	errMediaType    = errors.New("this content type is not taken here")
	errPrecondition = errors.New("say which version this replaces: send If-Match with the ETag of GET /api/v1/config, or If-Match: *")
)

// retryAfter is what a client is told to wait while the database is away.
const retryAfter = 5 * time.Second

// status is the one mapping from errors to HTTP statuses; reason is a fixed word
// for metrics and the list of rejections.
func status(err error) (code int, reason string) {
	var (
		tracker *access.UnknownTracker
		embed   *embeds.UnknownEmbed
		site    *popup.UnknownSite
		guesser *access.TooManyWrongKeys
		invalid *problem.Invalid
		center  *clicktocall.ContactCenterError
		sound   *recordings.RecordingError
		read    *ziwo.ParseError
		plain   *echo.HTTPError
	)
	switch {
	case errors.As(err, &sound):
		return recordingStatus(sound), string(sound.Code)
	case errors.As(err, &tracker):
		return http.StatusNotFound, "unknown_tracker"
	case errors.As(err, &embed):
		return http.StatusNotFound, "unknown_embed"
	case errors.As(err, &site):
		return http.StatusNotFound, "unknown_site"
	case errors.Is(err, popup.ErrOriginNotAllowed):
		return http.StatusForbidden, "no_origin"
	case errors.As(err, &guesser):
		return http.StatusTooManyRequests, "too_many_wrong_keys"
	case errors.As(err, &invalid):
		return http.StatusUnprocessableEntity, "invalid"
	case errors.As(err, &center):
		return centerStatus(center)
	case errors.Is(err, access.ErrUnauthorized):
		return http.StatusUnauthorized, "wrong_key"
	case errors.Is(err, access.ErrBlocked):
		return http.StatusForbidden, "blocked"
	case errors.Is(err, ziwo.ErrNoDID):
		return http.StatusBadRequest, "no_did"
	case errors.Is(err, endcall.ErrEmptyBody):
		return http.StatusBadRequest, "empty_body"
	case errors.As(err, &read):
		return http.StatusBadRequest, "unreadable"
	case errors.Is(err, errTooLarge):
		return http.StatusRequestEntityTooLarge, "too_large"
	case errors.Is(err, errBodyCut):
		return http.StatusBadRequest, "body_cut"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, "too_slow"
	case errors.Is(err, errMediaType):
		return http.StatusUnsupportedMediaType, "media_type"
	case errors.Is(err, errPrecondition):
		return http.StatusPreconditionRequired, "no_precondition"
	case errors.Is(err, config.ErrStale):
		return http.StatusPreconditionFailed, "stale"
	case errors.Is(err, config.ErrNoConfig), errors.Is(err, storage.ErrNotFound):
		return http.StatusNotFound, "not_found"
	case errors.Is(err, storage.ErrBadCursor):
		return http.StatusUnprocessableEntity, "invalid"
	case errors.Is(err, storage.ErrConflict):
		return http.StatusConflict, "conflict"
	case errors.Is(err, live.ErrTooManyListeners), errors.Is(err, live.ErrStopped):
		return http.StatusServiceUnavailable, "not_watched"
	case errors.Is(err, endcall.ErrNotStored):
		return http.StatusServiceUnavailable, "not_kept"
	case errors.Is(err, storage.ErrUnavailable):
		return http.StatusServiceUnavailable, "database_away"
	case errors.As(err, &plain):
		return plain.Code, "http"
	default:
		return http.StatusInternalServerError, "internal"
	}
}

// centerStatus is status for what a contact center did not do.
func centerStatus(err *clicktocall.ContactCenterError) (code int, reason string) {
	switch {
	case err.Uncertain:
		return http.StatusGatewayTimeout, "ziwo_unsure"
	case err.Kind == ziwo.Rejected:
		return http.StatusConflict, "ziwo_refuses"
	case err.Kind == ziwo.NotFound:
		return http.StatusNotFound, "not_found"
	case err.Kind == ziwo.Unavailable, err.Kind == ziwo.RateLimited:
		return http.StatusServiceUnavailable, "ziwo_away"
	default:
		return http.StatusBadGateway, "ziwo_fails"
	}
}

// told is what the client reads. Causes inside of the server stay in its log.
func told(err error, code int) string {
	var (
		plain  *echo.HTTPError
		center *clicktocall.ContactCenterError
		sound  *recordings.RecordingError
	)
	switch {
	case errors.As(err, &center):
		return center.Error()
	case errors.As(err, &sound):
		return sound.Message
	case errors.Is(err, live.ErrTooManyListeners), errors.Is(err, live.ErrStopped):
		return err.Error()
	case errors.Is(err, endcall.ErrNotStored):
		return "the record cannot be kept now: neither the database nor the disk takes it; send it again"
	case code == http.StatusServiceUnavailable:
		return "the database cannot be reached now; try again"
	case code == http.StatusInternalServerError:
		return "something went wrong inside the server; its log says what"
	case errors.As(err, &plain):
		return fmt.Sprint(plain.Message)
	default:
		return err.Error()
	}
}

// answerError is echo's error handler: the last stop of every error.
func (s *API) answerError(err error, c echo.Context) {
	if c.Response().Committed {
		s.Logger.LogAttrs(c.Request().Context(), slog.LevelError, "answer broken off", slog.String("path", c.Path()), slog.Any("error", err))
		return
	}
	if strings.HasPrefix(c.Request().URL.Path, "/callTrackers/") || strings.HasPrefix(c.Request().URL.Path, "/webhooks/") {
		s.answerZiwoError(c, err, 0)
		return
	}
	s.answerProblem(c, err)
}

// answerProblem answers an error of the admin API.
func (s *API) answerProblem(c echo.Context, err error) {
	code, _ := status(err)
	document := Problem{Type: "about:blank", Title: http.StatusText(code), Status: code, Detail: told(err, code)}
	var invalid *problem.Invalid
	if errors.As(err, &invalid) {
		document.Detail = fmt.Sprintf("%d problems", len(invalid.Problems))
		if len(invalid.Problems) == 1 {
			document.Detail = "1 problem"
		}
		document.Errors = invalid.Problems
	}
	if errors.Is(err, storage.ErrBadCursor) {
		document.Errors = problem.List{{Path: "cursor", Message: storage.ErrBadCursor.Error()}}
	}
	var sound *recordings.RecordingError
	if errors.As(err, &sound) {
		document.Type, document.Code = "urn:calltracker:problem:"+string(sound.Code), string(sound.Code)
		if sound.Size > 0 {
			c.Response().Header().Set("Content-Range", "bytes */"+strconv.FormatInt(sound.Size, 10))
		}
	}
	setRetryAfter(c, err, code)
	if code == http.StatusUnauthorized && strings.HasPrefix(c.Path(), "/crm/") {
		document.Detail = "send a key of the site as X-Embed-Key or key=, or a token of POST /api/v1/sites/{site}/token as token="
	} else if code == http.StatusUnauthorized {
		document.Detail = "send the admin token: Authorization: Bearer …; without CALLTRACKER_ADMIN_TOKEN it is in the file admin-token of the data directory"
		c.Response().Header().Set(echo.HeaderWWWAuthenticate, `Bearer realm="calltracker"`)
	}
	level, cause := slog.LevelInfo, slog.Any("error", err)
	if code >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	if invalid != nil { // the messages quote what was sent, which may be anybody's number
		cause = slog.Any("fields", invalid.Paths())
	}
	s.Logger.LogAttrs(c.Request().Context(), level, "request refused", slog.Int("status", code),
		slog.String("method", c.Request().Method), slog.String("route", c.Path()), slog.String("address", c.RealIP()), cause)
	body, _ := json.Marshal(document) // of strings and numbers only
	if err := c.Blob(code, "application/problem+json", body); err != nil {
		s.Logger.LogAttrs(c.Request().Context(), slog.LevelInfo, "answer not delivered", slog.Any("error", err))
	}
}

// answerZiwoError answers an error in the envelope that Ziwo expects, logs it
// and remembers it. bytes is how much of the body was read.
func (s *API) answerZiwoError(c echo.Context, err error, bytes int64) {
	code, reason := status(err)
	message := told(err, code)
	req := c.Request()
	level := slog.LevelWarn
	if code >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	s.Logger.LogAttrs(req.Context(), level, "request refused", slog.Int("status", code), slog.String("reason", reason),
		slog.String("method", req.Method), slog.String("path", Clipped(req.URL.Path)), slog.String("address", c.RealIP()), slog.Any("error", err))
	s.Rejections.Add(storage.Rejection{
		Method: req.Method, Path: Clipped(req.URL.Path), Tracker: Clipped(c.Param("tracker")), Address: c.RealIP(),
		Status: code, Reason: reason, Message: message,
		ContentType: Clipped(req.Header.Get(echo.HeaderContentType)), UserAgent: Clipped(req.UserAgent()), Bytes: bytes,
	})
	setRetryAfter(c, err, code)
	if err := c.JSONBlob(code, ziwo.AppendError(nil, message)); err != nil {
		s.Logger.LogAttrs(req.Context(), slog.LevelInfo, "answer not delivered", slog.Any("error", err))
	}
}

func setRetryAfter(c echo.Context, err error, code int) {
	var wait time.Duration
	var (
		guesser *access.TooManyWrongKeys
		center  *clicktocall.ContactCenterError
		sound   *recordings.RecordingError
	)
	switch {
	case errors.As(err, &guesser):
		wait = guesser.RetryAfter
	case code == http.StatusServiceUnavailable && errors.As(err, &center) && center.RetryAfter > 0:
		wait = center.RetryAfter
	case errors.As(err, &sound) && sound.RetryAfter == 0:
		return
	case sound != nil:
		wait = sound.RetryAfter
	case code == http.StatusServiceUnavailable:
		wait = retryAfter
	default:
		return
	}
	seconds := int((wait + time.Second - 1) / time.Second)
	c.Response().Header().Set(echo.HeaderRetryAfter, strconv.Itoa(max(seconds, 1)))
}

// clipped keeps what a client sent short where it is kept.
func Clipped(text string) string {
	const most = 200
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// recovered turns a panic into an error of its request alone.
func (s *API) recovered(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			r := recover()
			if cause, ok := r.(error); ok && errors.Is(cause, http.ErrAbortHandler) {
				panic(r) // meant for net/http: break the connection
			}
			if r != nil {
				s.Logger.LogAttrs(c.Request().Context(), slog.LevelError, "panic",
					slog.Any("panic", r), slog.String("route", c.Path()), slog.String("stack", string(debug.Stack())))
				err = fmt.Errorf("panic: %v", r)
			}
		}()
		return next(c)
	}
}

// authorized asks for the admin token, in constant time.
func (s *API) authorized(next echo.HandlerFunc) echo.HandlerFunc {
	want := sha256.Sum256([]byte(s.AdminToken))
	return func(c echo.Context) error {
		scheme, token, _ := strings.Cut(c.Request().Header.Get(echo.HeaderAuthorization), " ")
		got := sha256.Sum256([]byte(strings.TrimSpace(token)))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
			return s.Keys.WrongKey(token, "admin "+address(c))
		}
		return next(c)
	}
}

// presentedKey is the key of a request of Ziwo: X-API-Key, else the password of
// HTTP Basic.
func presentedKey(req *http.Request) string {
	if key := req.Header.Get("X-Api-Key"); key != "" {
		return key
	}
	_, password, _ := req.BasicAuth()
	return password
}

// address tells clients apart: by their IPv4 address, or the network that is
// one client's in IPv6.
func address(c echo.Context) string {
	text := c.RealIP()
	if !strings.Contains(text, ":") {
		return text
	}
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return text
	}
	if ip = ip.Unmap(); ip.Is4() {
		return ip.String()
	}
	network, err := ip.Prefix(64)
	if err != nil {
		return text
	}
	return network.String()
}

// readBody reads at most limit bytes into dst. What was read is returned with an
// error, too.
func readBody(dst []byte, req *http.Request, limit int64) ([]byte, error) {
	if req.ContentLength > limit {
		return dst, fmt.Errorf("%w: %d bytes, and at most %d are taken", errTooLarge, req.ContentLength, limit)
	}
	buffer := bytes.NewBuffer(dst)
	if req.ContentLength > 0 {
		buffer.Grow(int(req.ContentLength) + bytes.MinRead)
	}
	_, err := buffer.ReadFrom(io.LimitReader(req.Body, limit+1))
	switch {
	case int64(buffer.Len()) > limit:
		return buffer.Bytes(), fmt.Errorf("%w: at most %d bytes are taken", errTooLarge, limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return buffer.Bytes(), err
	case err != nil:
		return buffer.Bytes(), fmt.Errorf("%w (%w)", errBodyCut, err)
	}
	return buffer.Bytes(), nil
}

// readJSON decodes the JSON body of an admin request strictly.
func readJSON(c echo.Context, into any) error {
	req := c.Request()
	if mediaType, _, err := mime.ParseMediaType(req.Header.Get(echo.HeaderContentType)); err == nil && mediaType != echo.MIMEApplicationJSON {
		return fmt.Errorf("%w: send application/json, not %s", errMediaType, mediaType)
	}
	body, err := readBody(nil, req, MaxAdminBody)
	if err != nil {
		return err
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(into)
	if err == nil && decoder.More() {
		err = errors.New("there is something after the end of the JSON value")
	}
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return fieldError(wrongType.Field, "expected "+wrongType.Type.String()+", found "+wrongType.Value)
	case err != nil && strings.HasPrefix(err.Error(), "json: unknown field "):
		field := strings.Trim(strings.TrimPrefix(err.Error(), "json: unknown field "), `"`)
		return fieldError(field, "is not known here")
	case err != nil:
		return echo.NewHTTPError(http.StatusBadRequest, "the body is not the JSON that is expected: "+err.Error())
	}
	return nil
}

func fieldError(path, message string) error {
	return &problem.Invalid{Problems: problem.List{{Path: path, Message: message}}}
}

// query reads the parameters of an admin request strictly: a parameter that is
// not known, or comes twice, is an error and not ignored.
type query struct {
	values url.Values
	known  []string
	errors problem.List
}

func queryOf(c echo.Context) *query { return &query{values: c.QueryParams()} }

func (q *query) text(name string) string {
	q.known = append(q.known, name)
	if len(q.values[name]) > 1 {
		q.errors = append(q.errors, problem.Problem{Path: name, Message: "is there more than once"})
	}
	// A "+" that was not encoded arrives as a space.
	text := q.values.Get(name)
	if strings.HasPrefix(text, " ") {
		text = "+" + text[1:]
	}
	return text
}

func (q *query) instant(name string) time.Time {
	text := strings.ReplaceAll(q.text(name), " ", "+") // of an offset
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		q.errors = append(q.errors, problem.Problem{Path: name, Message: fmt.Sprintf("%q is no instant; write it like 2026-11-22T20:00:00Z", Clipped(text))})
	}
	return at.UTC()
}

func (q *query) page() storage.Page {
	p := storage.Page{Cursor: q.text("cursor")}
	if text := q.text("limit"); text != "" {
		limit, err := strconv.Atoi(text)
		if err != nil || limit < 1 || limit > storage.MaxLimit {
			q.errors = append(q.errors, problem.Problem{Path: "limit", Message: fmt.Sprintf("must be from 1 to %d", storage.MaxLimit)})
		}
		p.Limit = limit
	}
	return p
}

func (q *query) flag(name string) bool {
	switch q.text(name) {
	case "", "false", "0":
		return false
	case "true", "1":
		return true
	default:
		q.errors = append(q.errors, problem.Problem{Path: name, Message: "must be true or false"})
		return false
	}
}

// err lists everything wrong with the parameters, after all were asked for.
func (q *query) err() error {
	for name := range q.values {
		if !slices.Contains(q.known, name) {
			q.errors = append(q.errors, problem.Problem{Path: Clipped(name), Message: "is not known here; known are " + strings.Join(q.known, ", ")})
		}
	}
	if len(q.errors) == 0 {
		return nil
	}
	slices.SortFunc(q.errors, func(a, b problem.Problem) int { return strings.Compare(a.Path, b.Path) })
	return &problem.Invalid{Problems: q.errors}
}

// detached keeps a write alive when the client hangs up: what it sent is worth
// keeping whether or not it waits for the answer. The write has its own deadline.
func detached(c echo.Context) context.Context { return context.WithoutCancel(c.Request().Context()) }
