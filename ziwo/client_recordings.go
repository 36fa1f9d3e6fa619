package ziwo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
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

// Recording is a recording on its way. Body must be closed.
type Recording struct {
	Body          io.ReadCloser
	Partial       bool // a part, as ContentRange says
	ContentType   string
	ContentLength int64 // -1 when Ziwo does not say
	ContentRange  string
	ETag          string
	LastModified  string
	Style         RecordingStyle // that worked
}

// recordingIdle is how long a recording may stand still on its way.
const recordingIdle = 30 * time.Second

// Recording opens a recording. It tries the styles of the client in their order
// and goes on to the next when one finds nothing: NotFound means that none did.
// A range that the file does not have is Rejected with the status 416.
func (c *Client) Recording(ctx context.Context, q RecordingQuery) (*Recording, error) {
	var last error
	for _, style := range c.recordings {
		recording, err := c.openRecording(ctx, style, q)
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

func (c *Client) openRecording(ctx context.Context, style RecordingStyle, q RecordingQuery) (*Recording, error) {
	const op = "fetch recording"
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
		r.query = url.Values{"callId": {q.CallID}}
	case RecordingSignedURL:
		a, err := c.do(ctx, request{op: op, method: http.MethodGet, path: "/callHistory/" + id + "/recording/signed-url"})
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
		// The head must come in time, and then each part of the body.
		ctx, cancel := context.WithCancelCause(ctx)
		idle := time.AfterFunc(c.timeout, func() { cancel(context.DeadlineExceeded) })
		give := func() {
			idle.Stop()
			cancel(nil)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
		if err != nil {
			give()
			return nil, c.failed(op, err)
		}
		req.Header.Set("Accept", "audio/*, */*;q=0.5")
		req.Header.Set("User-Agent", "calltracker")
		for name, text := range map[string]string{"Range": q.Range, "If-Range": q.IfRange} {
			if text != "" {
				req.Header.Set(name, text)
			}
		}
		if token != "" && target.Host == c.base.Host && target.Scheme == c.base.Scheme {
			req.Header.Set("access_token", token)
		}
		res, release, err := c.roundTrip(op, req) //nolint:bodyclose // release closes it
		if err != nil {
			cause := context.Cause(ctx)
			give()
			if errors.Is(cause, context.DeadlineExceeded) {
				err = &APIError{Op: op, Kind: Unavailable, Err: cause}
			}
			return nil, err
		}
		if res.StatusCode == http.StatusOK || res.StatusCode == http.StatusPartialContent {
			recording, err := c.recordingOf(op, style, res)
			if err != nil {
				release()
				give()
				return nil, err
			}
			idle.Reset(recordingIdle)
			recording.Body = &streamBody{ReadCloser: res.Body, idle: idle, release: func() { release(); give() }}
			return recording, nil
		}
		location := res.Header.Get("Location")
		_, err = c.read(request{op: op, method: http.MethodGet}, res, readSome(res.Body))
		release()
		give()
		if res.StatusCode < 300 || res.StatusCode > 399 || location == "" {
			if err == nil {
				err = &APIError{Op: op, Kind: Unreadable, Status: res.StatusCode, Message: "this is no recording"}
			}
			return nil, err
		}
		if target, err = target.Parse(location); err != nil {
			return nil, &APIError{Op: op, Kind: Unreadable, Status: res.StatusCode, Message: "Ziwo gave an address of the recording that cannot be used"}
		}
		if target, err = c.signedURL(op, target.String()); err != nil {
			return nil, err
		}
	}
	return nil, &APIError{Op: op, Kind: Unreadable, Message: "too many redirects"}
}

func readSome(body io.Reader) []byte {
	const some = 64 << 10
	text, err := io.ReadAll(io.LimitReader(body, some))
	if err != nil {
		return nil
	}
	return text
}

// recordingOf tells a recording from a page or an error that came with 200.
func (c *Client) recordingOf(op string, style RecordingStyle, res *http.Response) (*Recording, error) {
	media, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err == nil && (strings.HasPrefix(media, "text/") || strings.HasSuffix(media, "json") || strings.HasSuffix(media, "xml")) {
		_, err := c.read(request{op: op, method: http.MethodGet}, res, readSome(res.Body))
		if KindOf(err) == Rejected {
			return nil, &APIError{Op: op, Kind: NotFound, Status: res.StatusCode, Message: err.(*APIError).Message} //nolint:errorlint,forcetypeassert // KindOf has looked
		}
		return nil, &APIError{Op: op, Kind: Unreadable, Status: res.StatusCode, Message: fmt.Sprintf("it came as %s, which is no recording", clip(media))}
	}
	return &Recording{
		Partial:     res.StatusCode == http.StatusPartialContent,
		ContentType: res.Header.Get("Content-Type"), ContentLength: res.ContentLength, ContentRange: res.Header.Get("Content-Range"),
		ETag: res.Header.Get("ETag"), LastModified: res.Header.Get("Last-Modified"), Style: style,
	}, nil
}

// streamBody breaks off a body that stands still, and gives everything back
// once when it is closed.
type streamBody struct {
	io.ReadCloser
	idle    *time.Timer
	once    sync.Once
	release func()
}

func (b *streamBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.idle.Reset(recordingIdle)
	return n, err
}

func (b *streamBody) Close() error {
	b.once.Do(b.release)
	return nil
}
