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

// APIError is the error of a failed request to Ziwo. Its text never contains a
// token, a password or a key.
type APIError struct {
	Op         string // operation, such as "list call trackers"
	Kind       ErrorKind
	Status     int           // HTTP status; 0 if there was no response
	Message    string        // message from Ziwo or from the client; may be empty
	RetryAfter time.Duration // delay that Ziwo asked for; 0 if it did not
	Err        error         // cause, such as context.DeadlineExceeded; may be nil
}

// ErrorKind classifies an APIError for the caller. The zero value is invalid.
type ErrorKind string

// The kinds of APIError.
const (
	Unavailable  ErrorKind = "unavailable"  // no connection, a timeout, or a server error
	RateLimited  ErrorKind = "rate_limited" // too many requests
	Unauthorized ErrorKind = "unauthorized" // missing, wrong, or insufficient credentials
	NotFound     ErrorKind = "not_found"    // no such record
	Rejected     ErrorKind = "rejected"     // valid response that reports a failure
	Unreadable   ErrorKind = "unreadable"   // invalid response: HTML, an empty body, or unexpected JSON
)

// Error returns the operation, the kind and the cause on one line.
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

// Unwrap returns the cause.
func (e *APIError) Unwrap() error { return e.Err }

// Temporary reports whether the same request may succeed later.
func (e *APIError) Temporary() bool {
	switch e.Kind {
	case Unavailable, RateLimited, Unreadable:
		return !errors.Is(e.Err, context.Canceled)
	default:
		return false
	}
}

// KindOf returns the kind of the APIError in err, or "" if there is none.
func KindOf(err error) ErrorKind {
	var failure *APIError
	if errors.As(err, &failure) {
		return failure.Kind
	}
	return ""
}

// transportError returns the error of a request that got no response. It omits the
// URL, which may contain a token.
func (c *Client) transportError(op string, err error) error {
	var urlErr *url.Error
	if errors.As(err, &urlErr) {
		err = urlErr.Err
	}
	return &APIError{Op: op, Kind: Unavailable, Err: err}
}

// redact prepares text from Ziwo for a log: it removes credentials, shortens the
// text and replaces what is not printable.
func (c *Client) redact(text string) string {
	for _, secret := range c.session.secrets(c.apiKey) {
		text = strings.ReplaceAll(text, secret, mask)
	}
	return clip(text)
}

// clip shortens external text and replaces what is not printable with spaces.
func clip(text string) string {
	const maxRunes = 200
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
	if runes := []rune(text); len(runes) > maxRunes {
		text = string(runes[:maxRunes]) + "…"
	}
	return strings.TrimSpace(text)
}

// retryAfter parses the Retry-After header, which is a number of seconds or a date
// (https://www.rfc-editor.org/rfc/rfc9110#field.retry-after). It returns 0 for a
// missing or invalid header.
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
