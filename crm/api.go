package crm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"calltracker/integration"
	"calltracker/phone"
)

// API makes requests to a CRM that speaks JSON and classifies its failures. Drivers
// share it. Create it with NewAPI.
type API struct {
	base   string
	client *http.Client
	sign   func(*http.Request)
}

// NewAPI returns an API whose paths are relative to base. sign adds the credentials
// to a request.
func NewAPI(base string, client *http.Client, sign func(*http.Request)) *API {
	return &API{base: strings.TrimRight(base, "/"), client: client, sign: sign}
}

// Get requests path, which can include a query, and decodes the response into the
// value that into points to. Its errors are of type *Error.
func (a *API) Get(ctx context.Context, path string, into any) error {
	return a.do(ctx, http.MethodGet, path, nil, into)
}

// Post is like Get but sends a body. Use it only for requests that change nothing.
func (a *API) Post(ctx context.Context, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return &Error{Kind: Rejected, Message: "cannot encode the request", Err: err}
	}
	return a.do(ctx, http.MethodPost, path, text, into)
}

func (a *API) do(ctx context.Context, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return &Error{Kind: Rejected, Message: "invalid request URL"}
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	a.sign(req)
	res, err := a.client.Do(req)
	if err != nil {
		return requestError(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	switch {
	case res.StatusCode/100 != 2: // even an incomplete body may name the reason
		return responseError(res, text)
	case err != nil:
		return requestError(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return &Error{Kind: Unavailable, Status: res.StatusCode, Message: "unexpected response: not the documented JSON"}
	}
	return nil
}

// requestError returns the error of a request without a response. It retains only
// the cause of a *url.Error, because the URL contains the phone number.
func requestError(err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	message := "request failed"
	var network net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout() {
		message = "request timed out"
	}
	return &Error{Kind: Unavailable, Message: message, Err: err}
}

const (
	defaultRetryAfter = time.Minute      // after a rate limit without a delay
	maxRetryAfter     = 10 * time.Minute // longer times are shortened to this
)

// responseError returns the error of a response whose status is not 2xx.
func responseError(res *http.Response, body []byte) error {
	e := &Error{Status: res.StatusCode, Message: errorText(body)}
	switch code := res.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusPaymentRequired:
		e.Kind = Unauthorized
	case code == http.StatusTooManyRequests:
		e.Kind, e.RetryAfter = RateLimited, retryAfter(res.Header, defaultRetryAfter)
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		e.Kind, e.RetryAfter = Unavailable, retryAfter(res.Header, 0)
	case code/100 == 3:
		e.Kind, e.Message = Unavailable, "redirected to another address, which does not receive the credentials: check base_url"
	default:
		e.Kind = Rejected
	}
	return e
}

// retryAfter returns how long to wait before the next request. It reads Retry-After
// (seconds or a date), then X-RateLimit-Reset (a Unix time,
// https://developer.kustomer.com/docs/concepts/rate-limits), then RateLimit-Reset
// (seconds, https://developer.zendesk.com/api-reference/introduction/rate-limits/).
// If no header is valid, it returns fallback.
func retryAfter(header http.Header, fallback time.Duration) time.Duration {
	limited := func(wait time.Duration) time.Duration { return min(max(wait, time.Second), maxRetryAfter) }
	if text := header.Get("Retry-After"); text != "" {
		if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 {
			return limited(time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second)
		}
		if at, err := http.ParseTime(text); err == nil {
			return limited(time.Until(at))
		}
	}
	if at, err := strconv.ParseInt(header.Get("X-Ratelimit-Reset"), 10, 64); err == nil {
		return limited(time.Until(time.Unix(at, 0)))
	}
	if seconds, err := strconv.Atoi(header.Get("Ratelimit-Reset")); err == nil && seconds >= 0 {
		return limited(time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second)
	}
	return fallback
}

// phoneNumbers matches digits that may be a phone number, which a CRM can repeat
// in an error message.
var phoneNumbers = regexp.MustCompile(`[0-9][0-9 ().-]{4,}[0-9]`)

// errorText returns the message in the body of an error response, without phone
// numbers. It reads a list "errors", an "error" that is a string or an object, and
// plain text. It returns "" for HTML.
func errorText(body []byte) string {
	var shapes struct {
		Error       json.RawMessage `json:"error"`
		Description string          `json:"description"`
		Message     string          `json:"message"`
		Errors      []struct {
			Code, Title, Detail, Message string
		} `json:"errors"`
	}
	var parts []string
	if json.Unmarshal(body, &shapes) == nil {
		for _, e := range shapes.Errors {
			parts = append(parts, e.Code, e.Message, e.Title, e.Detail)
		}
		var text string
		var object struct{ Title, Message string }
		if json.Unmarshal(shapes.Error, &text) == nil {
			parts = append(parts, text)
		} else if json.Unmarshal(shapes.Error, &object) == nil {
			parts = append(parts, object.Title, object.Message)
		}
		parts = append(parts, shapes.Message, shapes.Description)
	} else if text := strings.TrimSpace(string(body)); !strings.HasPrefix(text, "<") && !strings.HasPrefix(text, "{") {
		parts = append(parts, text)
	}
	var texts []string
	for _, part := range parts {
		if part = strings.TrimSpace(part); part != "" && len(texts) < 3 {
			texts = append(texts, part)
		}
	}
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, phoneNumbers.ReplaceAllString(strings.ToValidUTF8(strings.Join(texts, ": "), ""), "…"))
	const maxLength = 200
	if r := []rune(text); len(r) > maxLength {
		return string(r[:maxLength]) + "…"
	}
	return text
}

// PageURL returns the address of a page below base, or "" if it is not an HTTPS
// page on the host of base. The values in path must already be escaped.
func PageURL(base, path string) string {
	u, err := url.Parse(strings.TrimRight(base, "/") + path)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return ""
	}
	if b, err := url.Parse(base); err != nil || u.Host != b.Host {
		return ""
	}
	return u.String()
}

// createURL is the name of the setting of CreateURLField.
const createURL = "create_url"

// CreateURLField returns the field for the page on which agents add a customer. The
// page must be on the host of the driver's AgentURL.
func CreateURLField() integration.Field {
	return integration.Field{
		Name: createURL, Label: "page that adds a customer; {number} is replaced with the caller's number", Pattern: `https://[A-Za-z0-9.:-]+/[^\s"'<>]*`,
		Help: "a page on the same host as ui_url, such as https://acme.example.com/new?phone={number}",
	}
}

// CreateURL returns the page of a create_url setting for the number, or "" if the
// setting is empty or the page is not on the host of base.
func CreateURL(base, template string, n phone.Number) string {
	origin := originOf(base)
	path, ok := strings.CutPrefix(strings.ReplaceAll(template, "{number}", url.QueryEscape(n.E164)), strings.TrimRight(origin, "/")+"/")
	if template == "" || !ok {
		return ""
	}
	return PageURL(origin, "/"+path)
}

// originOf returns the scheme and host of an address.
func originOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Scheme + "://" + u.Host
}

// NotFound reports whether err is a response with status 404.
func NotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}
