package crm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// API sends requests to a CRM that speaks JSON, and tells its failures apart. It
// is what drivers have in common. Make it with NewAPI.
type API struct {
	base   string
	client *http.Client
	sign   func(*http.Request)
}

// NewAPI makes an API below base, whose requests sign puts the credentials on.
func NewAPI(base string, client *http.Client, sign func(*http.Request)) *API {
	return &API{base: strings.TrimRight(base, "/"), client: client, sign: sign}
}

// Get reads path, which may have a query, into the value that into points to.
// Errors are *Error; one whose Status is 404 says that there is no such thing.
func (a *API) Get(ctx context.Context, path string, into any) error {
	return a.do(ctx, http.MethodGet, path, nil, into)
}

// Post is Get with a body; only for requests that change nothing.
func (a *API) Post(ctx context.Context, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return &Error{Kind: Rejected, Message: "the request cannot be written", Err: err}
	}
	return a.do(ctx, http.MethodPost, path, text, into)
}

func (a *API) do(ctx context.Context, method, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return &Error{Kind: Rejected, Message: "its address cannot be used"}
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	a.sign(req)
	res, err := a.client.Do(req)
	if err != nil {
		return unreached(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	switch {
	case res.StatusCode/100 != 2: // whatever came of the body may say why
		return refused(res, text)
	case err != nil:
		return unreached(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return &Error{Kind: Unavailable, Status: res.StatusCode, Message: "it answered something that is not the JSON of its documentation"}
	}
	return nil
}

// unreached is a request that got no answer. The error of net/http names the
// address, and with it the number that was looked for: only its cause is kept.
func unreached(err error) error {
	var known *Error
	if errors.As(err, &known) {
		return known
	}
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	message := "it cannot be reached"
	var network net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout() {
		message = "it did not answer in time"
	}
	return &Error{Kind: Unavailable, Message: message, Err: err}
}

// usualWait is how long a CRM that limits us without saying for how long is left
// alone, and longestSaid the longest wait that is believed.
const (
	usualWait   = time.Minute
	longestSaid = 10 * time.Minute
)

// refused is an answer that is no success.
func refused(res *http.Response, body []byte) error {
	e := &Error{Status: res.StatusCode, Message: said(body)}
	switch code := res.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusPaymentRequired:
		e.Kind = Unauthorized
	case code == http.StatusTooManyRequests:
		e.Kind, e.RetryAfter = RateLimited, retryAfter(res.Header, usualWait)
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code >= 500:
		e.Kind, e.RetryAfter = Unavailable, retryAfter(res.Header, 0)
	case code/100 == 3:
		e.Kind, e.Message = Unavailable, "it sent us to another address, where our credentials do not belong; check base_url"
	default:
		e.Kind = Rejected
	}
	return e
}

// retryAfter is how long to wait: by Retry-After, in seconds or as a date, else
// by X-RateLimit-Reset, an instant in seconds
// (https://developer.kustomer.com/docs/concepts/rate-limits), or by
// RateLimit-Reset, in seconds (https://developer.zendesk.com/api-reference/introduction/rate-limits/).
func retryAfter(header http.Header, unsaid time.Duration) time.Duration {
	within := func(wait time.Duration) time.Duration { return min(max(wait, time.Second), longestSaid) }
	if text := header.Get("Retry-After"); text != "" {
		if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 {
			return within(time.Duration(min(seconds, int(longestSaid/time.Second))) * time.Second)
		}
		if at, err := http.ParseTime(text); err == nil {
			return within(time.Until(at))
		}
	}
	if at, err := strconv.ParseInt(header.Get("X-Ratelimit-Reset"), 10, 64); err == nil {
		return within(time.Until(time.Unix(at, 0)))
	}
	if seconds, err := strconv.Atoi(header.Get("Ratelimit-Reset")); err == nil && seconds >= 0 {
		return within(time.Duration(min(seconds, int(longestSaid/time.Second))) * time.Second)
	}
	return unsaid
}

// numbers are what a message may repeat of the request.
var numbers = regexp.MustCompile(`[0-9][0-9 ().-]{4,}[0-9]`)

// said is what the body of a refusal tells, in whichever of the usual shapes:
// errors as a list, error as a text or an object, or plain text. A page of HTML
// tells nothing.
func said(body []byte) string {
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
	var told []string
	for _, part := range parts {
		if part = strings.TrimSpace(part); part != "" && len(told) < 3 {
			told = append(told, part)
		}
	}
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, numbers.ReplaceAllString(strings.ToValidUTF8(strings.Join(told, ": "), ""), "…"))
	const most = 200
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}

// Page is the address of a page for people below base: the path, whose texts are
// escaped already, or "" when base is not https. It cannot lead to another host.
func Page(base, path string) string {
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

// CreatePage fills a create_url in; "" when there is none, or it is not on the host
// of base.
func CreatePage(base, template string, n phone.Number) string {
	path, ok := strings.CutPrefix(strings.ReplaceAll(template, "{number}", url.QueryEscape(n.E164)), strings.TrimRight(hostOf(base), "/")+"/")
	if template == "" || !ok {
		return ""
	}
	return Page(hostOf(base), "/"+path)
}

// hostOf is an address without its path.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Scheme + "://" + u.Host
}

// NotFound tells whether an error says that there is no such thing.
func NotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// Unreadable is the error of an answer that is JSON and makes no sense.
func Unreadable(format string, args ...any) error {
	return &Error{Kind: Unavailable, Message: fmt.Sprintf(format, args...)}
}
