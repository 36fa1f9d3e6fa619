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

// RecordingStyle is one of the ways to fetch a recording that are in use; none
// is promised to work on every instance.
type RecordingStyle string

// The styles. Only the first is on Ziwo's page
// (https://www.ziwo.io/api-integration-developers/).
const (
	RecordingSurveillance RecordingStyle = "surveillance" // /surveillance/recordings/<callID>.mp3
	RecordingSignedURL    RecordingStyle = "signed_url"   // /callHistory/<callID>/recording/signed-url, which names the file
	RecordingHistory      RecordingStyle = "history"      // /callHistory/<record>/recording
	RecordingStatic       RecordingStyle = "static"       // /static/callRecordingsEndpoint?callId=<callID>
)

// RecordingStyles lists all styles in the order in which they are tried.
func RecordingStyles() []RecordingStyle {
	return []RecordingStyle{RecordingSurveillance, RecordingSignedURL, RecordingHistory, RecordingStatic}
}

func (s RecordingStyle) known() bool {
	return slices.Contains(RecordingStyles(), s)
}

// RecordingQuery names a recording, and the part of it that is wanted.
type RecordingQuery struct {
	CallID   string
	RecordID string // Ziwo's number of the record; empty: CallID is tried in its place
	Range    string // as in HTTP: "bytes=0-1023"; empty: all of it
	IfRange  string // an ETag or a date
}

// Recording is a recording on its way. Body must be closed. Its fields can be
// shown to others: what is not well-formed, or repeats a secret, is left out.
type Recording struct {
	Body          io.ReadCloser
	Partial       bool   // a part, as ContentRange says
	ContentType   string // audio/…
	ContentLength int64  // -1 when Ziwo does not say; never 0
	ContentRange  string
	ETag          string
	LastModified  string
	Style         RecordingStyle // that worked
}

// staticField is the only field of our own in the address of a recording.
const staticField = "callId"

// How long a recording may take.
const (
	recordingHead = 10 * time.Second // until its head is there
	recordingIdle = 20 * time.Second // that it may stand still on its way
)

// RecordID is Ziwo's number of the record that a body reports, for
// RecordingQuery; empty when the body tells none. The number of 2016, such as
// 46:5196, is another one.
func RecordID(body []byte) string {
	top, _ := parseJSON(body, new(notes))
	if content := top.at("content"); content.kind == object {
		top = content
	}
	id := top.at("id")
	if id.kind != number && id.kind != quoted {
		return ""
	}
	if n, err := strconv.ParseUint(string(id.bytes()), 10, 63); err == nil {
		return strconv.FormatUint(n, 10)
	}
	return ""
}

// recordingsAtOnce are on their way at the same time. They do not count as
// requests under way, or a few slow listeners would keep all others from Ziwo.
const recordingsAtOnce = 16

// errManyRecordings is a cause of Unavailable.
var errManyRecordings = errors.New("too many recordings are on their way")

// Recording opens a recording. It tries the styles of the client in their order
// and goes on to the next when one finds nothing: NotFound means that none did.
// A range that the file does not have is Rejected with the status 416.
//
// There is room for some recordings at a time. Who finds none within 10 seconds
// gets Unavailable.
func (c *Client) Recording(ctx context.Context, q RecordingQuery) (*Recording, error) {
	const op = "fetch recording"
	room := time.NewTimer(recordingHead)
	defer room.Stop()
	select {
	case c.streams <- struct{}{}:
	case <-room.C:
		return nil, &APIError{Op: op, Kind: Unavailable, Err: errManyRecordings}
	case <-ctx.Done():
		return nil, c.failed(op, ctx.Err())
	}
	recording, err := c.findRecording(ctx, op, q)
	if err != nil {
		<-c.streams
		return nil, err
	}
	recording.Body = &onClose{ReadCloser: recording.Body, do: func() { <-c.streams }}
	return recording, nil
}

// onClose does something once when a body is closed.
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
		asking, cancel := context.WithTimeout(ctx, recordingHead)
		a, err := c.do(asking, request{op: op, method: http.MethodGet, path: "/callHistory/" + id + "/recording/signed-url"})
		cancel()
		if err != nil {
			return nil, err
		}
		signed, err := c.signedURL(op, a.content.field("url", "signedUrl", "signedURL"))
		if err != nil {
			return nil, err
		}
		return c.stream(ctx, op, style, signed, q, "")
	}
	for try := 0; ; try++ {
		token, err := c.token(ctx, "")
		if err != nil {
			return nil, err
		}
		target := *c.base
		target.RawPath = c.base.EscapedPath() + r.path
		if target.Path, err = url.PathUnescape(target.RawPath); err != nil {
			return nil, c.failed(op, err)
		}
		target.RawQuery = r.query.Encode()
		recording, err := c.stream(ctx, op, style, &target, q, token)
		if !refused(err) || try > 0 {
			return recording, err
		}
		if _, err := c.token(ctx, token); err != nil {
			return nil, err
		}
	}
}

// signedURL checks an address that Ziwo gave. It is a secret itself.
func (c *Client) signedURL(op, text string) (*url.URL, error) {
	signed, err := url.Parse(text)
	switch {
	case text == "":
		return nil, &APIError{Op: op, Kind: NotFound, Message: "Ziwo gave no address of the recording"}
	case err != nil || signed.Host == "" || signed.User != nil,
		signed.Scheme != "https" && signed.Scheme != c.base.Scheme:
		return nil, &APIError{Op: op, Kind: Unreadable, Message: "Ziwo gave an address of the recording that cannot be used"}
	}
	return signed, nil
}

// maxHops is how many redirects a recording may take.
const maxHops = 5

// stream opens an address. The token goes to Ziwo only: a redirect elsewhere
// is followed without it.
func (c *Client) stream(ctx context.Context, op string, style RecordingStyle, target *url.URL, q RecordingQuery, token string) (*Recording, error) {
	for range maxHops {
		recording, next, err := c.hop(ctx, op, style, target, q, token)
		if err != nil || recording != nil {
			return recording, err
		}
		if target, err = target.Parse(next); err != nil {
			return nil, &APIError{Op: op, Kind: Unreadable, Message: "Ziwo gave an address of the recording that cannot be used"}
		}
		if target, err = c.signedURL(op, target.String()); err != nil {
			return nil, err
		}
	}
	return nil, &APIError{Op: op, Kind: Unreadable, Message: "too many redirects"}
}

// hop asks one address. It returns the recording, or where to go on.
func (c *Client) hop(ctx context.Context, op string, style RecordingStyle, target *url.URL, q RecordingQuery, token string) (*Recording, string, error) {
	// The head must come in time, and then each part of the body.
	ctx, cancel := context.WithCancelCause(ctx)
	idle := time.AfterFunc(min(c.timeout, recordingHead), func() { cancel(context.DeadlineExceeded) })
	release := func() {
		idle.Stop()
		cancel(nil)
	}
	req, err := c.recordingRequest(ctx, target, q, token)
	if err != nil {
		release()
		return nil, "", c.failed(op, err)
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
	free() // a listener takes the time that a listener takes
	body := &streamBody{Reader: res.Body, idle: idle, longest: min(c.timeout, recordingIdle), release: func() {
		_ = res.Body.Close()
		release()
	}}
	if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusPartialContent {
		recording, err := c.recordingOf(op, style, res, body)
		if err != nil {
			_ = body.Close()
		}
		return recording, "", err
	}
	defer func() { _ = body.Close() }()
	_, err = c.read(request{op: op, method: http.MethodGet}, res, readSome(body))
	if next := res.Header.Get("Location"); next != "" && res.StatusCode >= 300 && res.StatusCode <= 399 {
		return nil, next, nil
	}
	if err == nil {
		err = &APIError{Op: op, Kind: Unreadable, Status: res.StatusCode, Message: "this is no recording"}
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
	// Go would ask for a compressed body, of which no part is a part of the recording.
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

func readSome(body io.Reader) []byte {
	const some = 64 << 10
	text, err := io.ReadAll(io.LimitReader(body, some))
	if err != nil {
		return nil
	}
	return text
}

// recordingOf tells a recording from a page, an error or nothing that came with 200.
func (c *Client) recordingOf(op string, style RecordingStyle, res *http.Response, body io.ReadCloser) (*Recording, error) {
	fail := func(kind ErrorKind, message string) error {
		return &APIError{Op: op, Kind: kind, Status: res.StatusCode, Message: message}
	}
	media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	switch {
	case res.Header.Get("Content-Encoding") != "" && res.Header.Get("Content-Encoding") != "identity":
		return nil, fail(Unreadable, "it came compressed, which nobody asked for")
	case res.ContentLength == 0:
		return nil, fail(NotFound, "the recording is empty")
	case strings.HasPrefix(media, "audio/"):
	case media == "application/octet-stream", media == "binary/octet-stream", err != nil && res.Header.Get("Content-Type") == "":
		media = "audio/mpeg" // its recordings are .mp3
	case strings.HasSuffix(media, "json"):
		_, err := c.read(request{op: op, method: http.MethodGet}, res, readSome(body))
		if refused := (*APIError)(nil); errors.As(err, &refused) && refused.Kind == Rejected {
			return nil, fail(NotFound, refused.Message)
		}
		fallthrough
	default:
		return nil, fail(Unreadable, fmt.Sprintf("it came as %s, which is no recording", clip(media)))
	}
	r := &Recording{
		Body: body, Partial: res.StatusCode == http.StatusPartialContent, ContentType: media, ContentLength: res.ContentLength, Style: style,
		ContentRange: c.harmless(contentRange, res, "Content-Range"), ETag: c.harmless(entityTag, res, "ETag"),
	}
	if at, err := http.ParseTime(res.Header.Get("Last-Modified")); err == nil {
		r.LastModified = at.UTC().Format(http.TimeFormat)
	}
	if r.Partial && r.ContentRange == "" {
		return nil, fail(Unreadable, "it is a part, and does not say which")
	}
	if r.ContentLength < 0 {
		ahead := bufio.NewReader(body)
		if _, err := ahead.Peek(1); errors.Is(err, io.EOF) {
			return nil, fail(NotFound, "the recording is empty")
		} else if err != nil {
			return nil, c.failed(op, err)
		}
		r.Body = readCloser{ahead, body}
	}
	return r, nil
}

type readCloser struct {
	io.Reader
	io.Closer
}

// Fields of an answer as they are passed on.
var (
	contentRange = regexp.MustCompile(`^bytes [0-9]{1,18}-[0-9]{1,18}/([0-9]{1,18}|\*)$`)
	entityTag    = regexp.MustCompile(`^(W/)?"[^"[:cntrl:][:^ascii:] ]{1,100}"$`)
)

// harmless is a field that can be passed on: it is well-formed and repeats
// neither a credential nor anything of a signed address.
func (c *Client) harmless(form *regexp.Regexp, res *http.Response, name string) string {
	text := res.Header.Get(name)
	if !form.MatchString(text) || c.unsecret(text) != text {
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

// streamBody breaks off a body that stands still, and gives everything back
// once when it is closed.
type streamBody struct {
	io.Reader
	idle    *time.Timer
	longest time.Duration
	once    sync.Once
	release func()
}

func (b *streamBody) Read(p []byte) (int, error) {
	b.idle.Reset(b.longest)
	return b.Reader.Read(p)
}

func (b *streamBody) Close() error {
	b.once.Do(b.release)
	return nil
}
