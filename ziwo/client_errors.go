package ziwo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// APIError is a request to Ziwo that failed. Its text names what was asked and
// why it failed, never a token, a password or a key.
type APIError struct {
	Op         string // what was asked: "list call trackers"
	Kind       ErrorKind
	Status     int           // of HTTP; 0 when there was no answer
	Message    string        // Ziwo's own words, or ours; may be empty
	RetryAfter time.Duration // what Ziwo asks to wait; 0 when it does not
	Err        error         // the cause, such as context.DeadlineExceeded; may be nil
}

// ErrorKind says what a failure means to whoever asked. The zero value is
// invalid.
type ErrorKind string

// The kinds of failure.
const (
	Unavailable  ErrorKind = "unavailable"  // no connection, too slow, or an error of Ziwo's
	RateLimited  ErrorKind = "rate_limited" // too many requests
	Unauthorized ErrorKind = "unauthorized" // the credentials are missing, wrong or not enough
	NotFound     ErrorKind = "not_found"
	Rejected     ErrorKind = "rejected"   // understood and refused
	Unreadable   ErrorKind = "unreadable" // an answer that is not Ziwo's: HTML, nothing, other JSON
)

// Error is one line.
func (e *APIError) Error() string {
	var text strings.Builder
	text.WriteString(e.Op)
	text.WriteString(": ")
	text.WriteString(strings.ReplaceAll(string(e.Kind), "_", " "))
	if e.Status != 0 {
		fmt.Fprintf(&text, " (%d)", e.Status)
	}
	if e.Message != "" {
		text.WriteString(": ")
		text.WriteString(e.Message)
	}
	if e.Err != nil {
		text.WriteString(": ")
		text.WriteString(e.Err.Error())
	}
	return text.String()
}

// Unwrap is the cause.
func (e *APIError) Unwrap() error { return e.Err }

// Temporary tells whether the same request may succeed later.
func (e *APIError) Temporary() bool {
	switch e.Kind {
	case Unavailable, RateLimited, Unreadable:
		return !errors.Is(e.Err, context.Canceled)
	default:
		return false
	}
}

// KindOf is the kind of a failure; "" when err is none of a Client.
func KindOf(err error) ErrorKind {
	var failure *APIError
	if errors.As(err, &failure) {
		return failure.Kind
	}
	return ""
}

// failed is a request without an answer. The URL stays out: it may hold a token.
func (c *Client) failed(op string, err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err
	}
	return &APIError{Op: op, Kind: Unavailable, Err: err}
}

// unsecret makes Ziwo's words fit for a log: short, printable, and without the
// credentials, should Ziwo repeat them.
func (c *Client) unsecret(text string) string {
	for _, secret := range c.session.secrets(c.apiKey) {
		text = strings.ReplaceAll(text, secret, mask)
	}
	return clip(text)
}

// clip keeps text from outside short and printable.
func clip(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return strings.TrimSpace(text)
}

// retryAfter reads Retry-After, in seconds or as a date
// (https://www.rfc-editor.org/rfc/rfc9110#field.retry-after). What makes no
// sense is 0.
func (c *Client) retryAfter(header http.Header) time.Duration {
	const longest = 24 * time.Hour
	text := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, longest)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, min(at.Sub(c.now()), longest))
	}
	return 0
}
