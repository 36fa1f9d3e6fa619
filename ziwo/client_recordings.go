package ziwo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// RecordingStyle is an endpoint for recordings. No style is documented to work on
// every instance.
type RecordingStyle string

// The recording styles. Ziwo documents only RecordingSurveillance
// (https://www.ziwo.io/api-integration-developers/).
const (
	RecordingSurveillance RecordingStyle = "surveillance" // /surveillance/recordings/<callID>.mp3
	RecordingSignedURL    RecordingStyle = "signed_url"   // /callHistory/<callID>/recording/signed-url, which returns a URL
	RecordingHistory      RecordingStyle = "history"      // /callHistory/<record>/recording
	RecordingStatic       RecordingStyle = "static"       // /static/callRecordingsEndpoint?callId=<callID>
)

// RecordingStyles returns all styles in the order in which a Client tries them by
// default.
func RecordingStyles() []RecordingStyle {
	return []RecordingStyle{RecordingSurveillance, RecordingSignedURL, RecordingHistory, RecordingStatic}
}

func (s RecordingStyle) valid() bool {
	return slices.Contains(RecordingStyles(), s)
}

// RecordingQuery selects a recording and a range of it.
type RecordingQuery struct {
	CallID   string
	RecordID string // Ziwo's number of the record; defaults to CallID
	Range    string // HTTP range, such as "bytes=0-1023"; empty means all
	IfRange  string // ETag or date of the If-Range header
}

// Recording is an open recording. The caller must close Body. The other fields are
// safe to pass on: malformed headers and headers that contain a secret are empty.
type Recording struct {
	Body          io.ReadCloser
	Partial       bool   // whether Body is only the part in ContentRange
	ContentType   string // audio/…
	ContentLength int64  // -1 if Ziwo does not send it; never 0
	ContentRange  string
	ETag          string
	LastModified  string
	Style         RecordingStyle // style that succeeded
}

// staticField is the only query field of a recording's URL that holds no secret.
const staticField = "callId"

// Timeouts of a recording.
const (
	recordingHeaderTimeout = 10 * time.Second // until the response headers arrive
	recordingIdleTimeout   = 20 * time.Second // between two reads of the body
)

// RecordID returns Ziwo's number of the record in the body of an end call, for
// RecordingQuery. It returns "" if the body has none. The numbers of 2016, such as
// 46:5196, do not identify a record.
func RecordID(body []byte) string {
	top, _ := parseJSON(body, new(notes))
	if content := top.get("content"); content.kind == kindObject {
		top = content
	}
	id := top.get("id")
	if id.kind != kindNumber && id.kind != kindString {
		return ""
	}
	if n, err := strconv.ParseUint(string(id.bytes()), 10, 63); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return ""
}

// maxRecordings is the maximum number of open recordings. They do not count toward
// the concurrency of requests, which a few slow listeners would exhaust.
const maxRecordings = 16

// errTooManyRecordings is the cause of an Unavailable error.
var errTooManyRecordings = errors.New("too many open recordings")

// Recording opens a recording. It tries the styles of the client in order until
// one finds it. If none does, it returns a NotFound error. If the recording does
// not have the requested range, it returns a Rejected error with status 416.
//
// At most 16 recordings are open at a time. If none of them is closed within 10
// seconds, Recording returns an Unavailable error.
func (c *Client) Recording(ctx context.Context, q RecordingQuery) (*Recording, error) {
	const op = "fetch recording"
	timeout := time.NewTimer(recordingHeaderTimeout)
	defer timeout.Stop()
	select {
	case c.recordingSlots <- struct{}{}:
	case <-timeout.C:
		return nil, &APIError{Op: op, Kind: Unavailable, Err: errTooManyRecordings}
	case <-ctx.Done():
		return nil, c.transportError(op, ctx.Err())
	}
	recording, err := c.findRecording(ctx, op, q)
	if err != nil {
		<-c.recordingSlots
		return nil, err
	}
	recording.Body = &onClose{ReadCloser: recording.Body, do: func() { <-c.recordingSlots }}
	return recording, nil
}

// onClose calls do once, when the body is closed.
type onClose struct {
	io.ReadCloser
	once sync.Once
	do   func()
}

func (b *onClose) Close() error {
	err := b.ReadCloser.Close()
	b.once.Do(b.do)
	return err
}

// findRecording tries each style in turn.
func (c *Client) findRecording(ctx context.Context, op string, q RecordingQuery) (*Recording, error) {
	var last error
	for _, style := range c.recordings {
		recording, err := c.openRecording(ctx, op, style, q)
		if err == nil {
			return recording, nil
		}
		var failure *APIError
		if errors.As(err, &failure) && failure.Status == http.StatusRequestedRangeNotSatisfiable {
			return nil, err
		}
		switch KindOf(err) {
		case NotFound, Unreadable, Rejected:
			if last == nil || KindOf(last) == NotFound {
				last = err
			}
		default:
			return nil, err
		}
	}
	return nil, last
}

// openRecording opens a recording with one style.
func (c *Client) openRecording(ctx context.Context, op string, style RecordingStyle, q RecordingQuery) (*Recording, error) {
	if q.CallID == "" {
		return nil, &APIError{Op: op, Kind: NotFound, Message: "the call has no callID"}
	}
	id := url.PathEscape(q.CallID)
	r := request{op: op, method: http.MethodGet}
	switch style {
	case RecordingSurveillance:
		r.path = "/surveillance/recordings/" + id + ".mp3"
	case RecordingHistory:
		record := id
		if q.RecordID != "" {
			record = url.PathEscape(q.RecordID)
		}
		r.path = "/callHistory/" + record + "/recording"
	case RecordingStatic:
		r.path = "/static/callRecordingsEndpoint"
		r.query = url.Values{staticField: {q.CallID}}
	case RecordingSignedURL:
		urlCtx, cancel := context.WithTimeout(ctx, recordingHeaderTimeout)
		res, err := c.do(urlCtx, request{op: op, method: http.MethodGet, path: "/callHistory/" + id + "/recording/signed-url"})
		cancel()
		if err != nil {
			return nil, err
		}
		signed, err := c.signedURL(op, res.content.lookup("url", "signedUrl", "signedURL"))
		if err != nil {
			return nil, err
		}
		return c.follow(ctx, op, style, signed, q, "")
	}
	for try := 0; ; try++ {
		token, err := c.token(ctx, "")
		if err != nil {
			return nil, err
		}
		target := *c.base
		target.RawPath = c.base.EscapedPath() + r.path
		if target.Path, err = url.PathUnescape(target.RawPath); err != nil {
			return nil, c.transportError(op, err)
		}
		target.RawQuery = r.query.Encode()
		recording, err := c.follow(ctx, op, style, &target, q, token)
		if !tokenRejected(err) || try > 0 {
			return recording, err
		}
		if _, err := c.token(ctx, token); err != nil {
			return nil, err
		}
	}
}

// signedURL parses a URL of a recording. Errors omit the URL, which is a secret.
func (c *Client) signedURL(op, text string) (*url.URL, error) {
	signed, err := url.Parse(text)
	switch {
	case text == "":
		return nil, &APIError{Op: op, Kind: NotFound, Message: "Ziwo returned no URL of the recording"}
	case err != nil || signed.Host == "" || signed.User != nil,
		signed.Scheme != "https" && signed.Scheme != c.base.Scheme:
		return nil, &APIError{Op: op, Kind: Unreadable, Message: "Ziwo returned an invalid URL of the recording"}
	}
	return signed, nil
}

// maxRedirects is the maximum number of requests for one recording.
const maxRedirects = 5

// follow opens a recording's URL and follows redirects. It sends the token only to
// the API's own host.
func (c *Client) follow(ctx context.Context, op string, style RecordingStyle, target *url.URL, q RecordingQuery, token string) (*Recording, error) {
	for range maxRedirects {
		recording, next, err := c.fetch(ctx, op, style, target, q, token)
		if err != nil || recording != nil {
			return recording, err
		}
		if target, err = target.Parse(next); err != nil {
			return nil, &APIError{Op: op, Kind: Unreadable, Message: "Ziwo returned an invalid URL of the recording"}
		}
		if target, err = c.signedURL(op, target.String()); err != nil {
			return nil, err
		}
	}
	return nil, &APIError{Op: op, Kind: Unreadable, Message: "too many redirects"}
}

// fetch requests one URL. It returns the recording, or the target of a redirect.
func (c *Client) fetch(ctx context.Context, op string, style RecordingStyle, target *url.URL, q RecordingQuery, token string) (*Recording, string, error) {
	// The timer first limits the wait for the headers, then each read of the body.
	ctx, cancel := context.WithCancelCause(ctx)
	idle := time.AfterFunc(min(c.timeout, recordingHeaderTimeout), func() { cancel(context.DeadlineExceeded) })
	release := func() {
		idle.Stop()
		cancel(nil)
	}
	req, err := c.recordingRequest(ctx, target, q, token)
	if err != nil {
		release()
		return nil, "", c.transportError(op, err)
	}
	res, free, err := c.roundTrip(op, req) //nolint:bodyclose // release closes it
	if err != nil {
		cause := context.Cause(ctx)
		release()
		if errors.Is(cause, context.DeadlineExceeded) {
			err = &APIError{Op: op, Kind: Unavailable, Err: cause}
		}
		return nil, "", err
	}
	free() // an open recording does not count as a request
	body := &streamBody{Reader: res.Body, idle: idle, idleTimeout: min(c.timeout, recordingIdleTimeout), release: func() {
		_ = res.Body.Close()
		release()
	}}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusPartialContent {
		recording, err := c.newRecording(op, style, res, body)
		if err != nil {
			_ = body.Close()
		}
		return recording, "", err
	}
	defer func() { _ = body.Close() }()
	_, err = c.decode(request{op: op, method: http.MethodGet}, res, readPrefix(body))
	if next := res.Header.Get("Location"); next != "" && res.StatusCode >= 300 && res.StatusCode <= 399 {
		return nil, next, nil
	}
	if err == nil {
		err = &APIError{Op: op, Kind: Unreadable, Status: res.StatusCode, Message: "the response is not a recording"}
	}
	return nil, "", err
}

func (c *Client) recordingRequest(ctx context.Context, target *url.URL, q RecordingQuery, token string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "audio/*, */*;q=0.5")
	req.Header.Set("User-Agent", "calltracker")
	// Ranges of a compressed body are not ranges of the recording.
	req.Header.Set("Accept-Encoding", "identity")
	for name, text := range map[string]string{"Range": q.Range, "If-Range": q.IfRange} {
		if text != "" {
			req.Header.Set(name, text)
		}
	}
	if token != "" && target.Host == c.base.Host && target.Scheme == c.base.Scheme {
		req.Header.Set("access_token", token)
	}
	return req, nil
}

// readPrefix returns the first 64 KiB of body, or nil if reading fails.
func readPrefix(body io.Reader) []byte {
	const size = 64 << 10
	prefix, err := io.ReadAll(io.LimitReader(body, size))
	if err != nil {
		return nil
	}
	return prefix
}

// newRecording returns the recording in res. It returns an error if the body is
// something else, such as HTML or an error message with status 200.
func (c *Client) newRecording(op string, style RecordingStyle, res *http.Response, body io.ReadCloser) (*Recording, error) {
	fail := func(kind ErrorKind, message string) error {
		return &APIError{Op: op, Kind: kind, Status: res.StatusCode, Message: message}
	}
	media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case res.Header.Get("Content-Encoding") != "" && res.Header.Get("Content-Encoding") != "identity":
		return nil, fail(Unreadable, "the recording is compressed, contrary to Accept-Encoding")
	case res.ContentLength == 0:
		return nil, fail(NotFound, "the recording is empty")
	case strings.HasPrefix(media, "audio/"):
	case media == "application/octet-stream", media == "binary/octet-stream", err != nil && res.Header.Get("Content-Type") == "":
		media = "audio/mpeg" // Ziwo records MP3
	case strings.HasSuffix(media, "json"):
		_, err := c.decode(request{op: op, method: http.MethodGet}, res, readPrefix(body))
		var failure *APIError
		if errors.As(err, &failure) && failure.Kind == Rejected {
			return nil, fail(NotFound, failure.Message)
		}
		fallthrough
	default:
		return nil, fail(Unreadable, fmt.Sprintf("unexpected Content-Type %q of a recording", clip(media)))
	}
	r := &Recording{
		Body: body, Partial: res.StatusCode == http.StatusPartialContent, ContentType: media, ContentLength: res.ContentLength, Style: style,
		ContentRange: c.safeHeader(contentRange, res, "Content-Range"), ETag: c.safeHeader(entityTag, res, "ETag"),
	}
	if at, err := http.ParseTime(res.Header.Get("Last-Modified")); err == nil {
		r.LastModified = at.UTC().Format(http.TimeFormat)
	}
	if r.Partial && r.ContentRange == "" {
		return nil, fail(Unreadable, "the partial response has no valid Content-Range")
	}
	if r.ContentLength < 0 {
		buffered := bufio.NewReader(body)
		if _, err := buffered.Peek(1); errors.Is(err, io.EOF) {
			return nil, fail(NotFound, "the recording is empty")
		} else if err != nil {
			return nil, c.transportError(op, err)
		}
		r.Body = readCloser{buffered, body}
	}
	return r, nil
}

// readCloser reads from one value and closes another.
type readCloser struct {
	io.Reader
	io.Closer
}

// Headers that are safe to pass on.
var (
	contentRange = regexp.MustCompile(`^bytes [0-9]{1,18}-[0-9]{1,18}/([0-9]{1,18}|\*)$`)
	entityTag    = regexp.MustCompile(`^(W/)?"[^"[:cntrl:][:^ascii:] ]{1,100}"$`)
)

// safeHeader returns a header of res if it matches pattern and contains neither a
// credential nor a value from the query of a signed URL. Otherwise it returns "".
func (c *Client) safeHeader(pattern *regexp.Regexp, res *http.Response, name string) string {
	text := res.Header.Get(name)
	if !pattern.MatchString(text) || c.redact(text) != text {
		return ""
	}
	for field, values := range res.Request.URL.Query() {
		for _, value := range values {
			if field != staticField && value != "" && strings.Contains(text, value) {
				return ""
			}
		}
	}
	return text
}

// streamBody is the body of a recording. Each read restarts the timer idle. The
// first Close calls release.
type streamBody struct {
	io.Reader
	idle        *time.Timer
	idleTimeout time.Duration
	once        sync.Once
	release     func()
}

func (b *streamBody) Read(p []byte) (int, error) {
	b.idle.Reset(b.idleTimeout)
	return b.Reader.Read(p)
}

func (b *streamBody) Close() error {
	b.once.Do(b.release)
	return nil
}
