package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/problem"
	"calltracker/storage"
)

const (
	maxZiwoBody  = 1 << 20  // bytes in the body of a request from Ziwo
	maxAdminBody = 33 << 20 // bytes in a JSON body: a configuration document of the largest size, and the JSON around it
	maxClipped   = 200      // bytes of a text from a request that is stored or logged
)

// readBody appends the body to buffer. A body of more than limit bytes is an
// error. readBody returns the bytes that it read even if it returns an error.
func readBody(buffer []byte, req *http.Request, limit int64) ([]byte, error) {
	if req.ContentLength > limit {
		return buffer, fmt.Errorf("%w: %d bytes, but the limit is %d", errTooLarge, req.ContentLength, limit)
	}
	body := bytes.NewBuffer(buffer)
	if req.ContentLength > 0 {
		body.Grow(int(req.ContentLength) + bytes.MinRead)
	}
	_, err := body.ReadFrom(io.LimitReader(req.Body, limit+1))
	switch {
	case int64(body.Len()) > limit:
		return body.Bytes(), fmt.Errorf("%w: the limit is %d bytes", errTooLarge, limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return body.Bytes(), err
	case err != nil:
		return body.Bytes(), fmt.Errorf("%w (%w)", errBodyCut, err)
	}
	return body.Bytes(), nil
}

// readJSON decodes the JSON body of an admin request into value. Unknown fields are
// errors.
func readJSON(c echo.Context, value any) error {
	req := c.Request()
	if mediaType, _, err := mime.ParseMediaType(req.Header.Get(echo.HeaderContentType)); err == nil && mediaType != echo.MIMEApplicationJSON {
		return fmt.Errorf("%w %s: send application/json", errMediaType, mediaType)
	}
	body, err := readBody(nil, req, maxAdminBody)
	if err != nil {
		return err
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return echo.NewHTTPError(http.StatusBadRequest, "empty body: send a JSON object")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err = decoder.Decode(value)
	if err == nil && decoder.More() {
		err = errors.New("unexpected text after the JSON value")
	}
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return fieldError(wrongType.Field, "expected "+wrongType.Type.String()+", found "+wrongType.Value)
	case err != nil && strings.HasPrefix(err.Error(), "json: unknown field "):
		field := strings.Trim(strings.TrimPrefix(err.Error(), "json: unknown field "), `"`)
		return fieldError(field, "unknown field")
	case err != nil:
		return echo.NewHTTPError(http.StatusBadRequest, "invalid JSON: "+err.Error())
	}
	return nil
}

// fieldError returns the error for one invalid field of a request.
func fieldError(path, message string) error {
	return &problem.Invalid{Problems: problem.List{{Path: path, Message: message}}}
}

// queryReader reads the query parameters of an admin request. Unknown and repeated
// parameters are errors. Read all parameters, and then call err.
type queryReader struct {
	values   url.Values
	names    []string     // parameters that were read
	problems problem.List // in the order of reading
}

func readQuery(c echo.Context) *queryReader { return &queryReader{values: c.QueryParams()} }

func (q *queryReader) fail(name, format string, args ...any) {
	q.problems = append(q.problems, problem.Problem{Path: name, Message: fmt.Sprintf(format, args...)})
}

// text returns a parameter, or "".
func (q *queryReader) text(name string) string {
	q.names = append(q.names, name)
	if len(q.values[name]) > 1 {
		q.fail(name, "repeated parameter")
	}
	// A "+" that the client did not encode, as in +971501234567, arrives as a space.
	text := q.values.Get(name)
	if strings.HasPrefix(text, " ") {
		text = "+" + text[1:]
	}
	return text
}

// instant returns a point in time, or zero.
func (q *queryReader) instant(name string) time.Time {
	text := strings.ReplaceAll(q.text(name), " ", "+") // in an offset such as +04:00
	if text == "" {
		return time.Time{}
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		q.fail(name, "invalid time %q: use RFC 3339, such as 2026-11-22T20:00:00Z", clip(text))
	}
	return at.UTC()
}

// page returns the cursor and the limit of a list.
func (q *queryReader) page() storage.Page {
	p := storage.Page{Cursor: q.text("cursor")}
	if text := q.text("limit"); text != "" {
		limit, err := strconv.Atoi(text)
		if err != nil || limit < 1 || limit > storage.MaxLimit {
			q.fail("limit", "must be from 1 to %d", storage.MaxLimit)
		}
		p.Limit = limit
	}
	return p
}

// flag returns a parameter that is true or false; it is false if absent.
func (q *queryReader) flag(name string) bool {
	switch q.text(name) {
	case "", "false", "0":
		return false
	case "true", "1":
		return true
	default:
		q.fail(name, "must be true or false")
		return false
	}
}

// err returns all problems with the parameters, including those that were not
// read, or nil.
func (q *queryReader) err() error {
	for name := range q.values {
		if slices.Contains(q.names, name) {
			continue
		}
		if len(q.names) == 0 {
			q.fail(clip(name), "unknown parameter; there are none here")
		} else {
			q.fail(clip(name), "unknown parameter: use one of %s", strings.Join(q.names, ", "))
		}
	}
	if len(q.problems) == 0 {
		return nil
	}
	slices.SortFunc(q.problems, func(a, b problem.Problem) int { return strings.Compare(a.Path, b.Path) })
	return &problem.Invalid{Problems: q.problems}
}

// uncanceled returns a context that does not end when the client disconnects. It is
// for writes, which have their own deadlines.
func uncanceled(c echo.Context) context.Context { return context.WithoutCancel(c.Request().Context()) }

// clip shortens a text from a request to the size that is stored or logged.
func clip(text string) string {
	if len(text) > maxClipped {
		text = text[:maxClipped]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
