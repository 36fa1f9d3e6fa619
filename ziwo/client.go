package ziwo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/retrypolicy"
	"golang.org/x/time/rate"
)

// Client is a client of the REST API of one contact center. NewClient creates it.
// A Client is safe for concurrent use and starts no goroutines. Close closes its
// idle connections.
//
// The client implements what https://www.ziwo.io/api-integration-developers/ and
// integrators of Ziwo publish. Every request that fails returns an *APIError. The
// client retries GET requests that fail temporarily. It sends every other request
// once.
type Client struct {
	base           *url.URL
	session        session
	apiKey         string
	recordings     []RecordingStyle
	http           *http.Client
	limiter        *rate.Limiter
	requestSlots   chan struct{} // semaphore of concurrent requests
	recordingSlots chan struct{} // semaphore of concurrent recordings
	timeout        time.Duration
	backoff        time.Duration
	attempts       int
	now            func() time.Time
}

// ClientOptions configures a Client. Name or BaseURL is required. Every other
// field may be zero, but most requests fail without credentials.
type ClientOptions struct {
	Name        string // subdomain of the contact center: "example" for example.aswat.co
	BaseURL     string // default https://<Name>-api.aswat.co
	Credentials Credentials
	Recordings  []RecordingStyle // styles to try, in this order; default all

	HTTP        *http.Client     // default a client with its own transport
	Rate        float64          // maximum requests per second; default 10
	Concurrency int              // maximum concurrent requests; default 4
	Timeout     time.Duration    // timeout of one attempt; default 30s
	Attempts    int              // maximum attempts of a GET request; default 3
	Backoff     time.Duration    // delay before the second attempt, doubled for each further one; default 500ms
	Now         func() time.Time // clock; default time.Now
}

// Credentials authenticate a Client to Ziwo. They are redacted when formatted or
// logged.
type Credentials struct {
	Username, Password string // login for /auth/login
	AccessToken        string // token to use until Ziwo rejects it
	APIKey             string // key of the CTI endpoints
}

// String returns a mask instead of the values.
func (Credentials) String() string { return "***" }

// GoString returns a mask instead of the values.
func (Credentials) GoString() string { return "***" }

// LogValue returns a mask instead of the values.
func (Credentials) LogValue() slog.Value { return slog.StringValue("***") }

const (
	defaultRate        = 10
	defaultConcurrency = 4
	defaultTimeout     = 30 * time.Second
	defaultAttempts    = 3
	defaultBackoff     = 500 * time.Millisecond

	// maxRetryAfter is the longest Retry-After that the client waits for. A request
	// with a longer one fails immediately.
	maxRetryAfter = 20 * time.Second

	// maxBackoff is the longest delay between attempts without a Retry-After.
	maxBackoff = 20 * time.Second

	// retryJitter is the share by which the delay between attempts varies, so that
	// replicas do not retry in step.
	retryJitter = 0.2

	maxResponse = 64 << 20 // bytes; a page of 1000 records has a few megabytes
)

// NewClient returns a client for the contact center in o. It sends no request.
func NewClient(o ClientOptions) (*Client, error) {
	address := o.BaseURL
	if address == "" {
		if o.Name == "" {
			return nil, errors.New("ziwo client: no name and no base URL of the contact center")
		}
		address = "https://" + url.PathEscape(o.Name) + "-api.aswat.co"
	}
	base, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || base.Host == "" || base.User != nil || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("ziwo client: invalid base URL %q: use https://host", clip(address))
	}
	base.RawQuery, base.Fragment = "", ""
	c := &Client{
		base: base, apiKey: o.Credentials.APIKey, recordings: o.Recordings, http: o.HTTP,
		timeout: o.Timeout, backoff: o.Backoff, attempts: o.Attempts, now: o.Now,
	}
	if len(c.recordings) == 0 {
		c.recordings = RecordingStyles()
	}
	for _, style := range c.recordings {
		if !style.valid() {
			return nil, fmt.Errorf("ziwo client: unknown recording style %q", clip(string(style)))
		}
	}
	perSecond, concurrency := o.Rate, o.Concurrency
	if perSecond <= 0 {
		perSecond = defaultRate
	}
	if concurrency <= 0 {
		concurrency = defaultConcurrency
	}
	if c.http == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = concurrency
		c.http = &http.Client{Transport: transport}
	} else {
		clone := *c.http
		c.http = &clone
	}
	// On a redirect to another host, net/http would forward the access_token header.
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if c.timeout <= 0 {
		c.timeout = defaultTimeout
	}
	if c.backoff <= 0 {
		c.backoff = defaultBackoff
	}
	if c.attempts <= 0 {
		c.attempts = defaultAttempts
	}
	if c.now == nil {
		c.now = time.Now
	}
	c.limiter = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
	c.requestSlots = make(chan struct{}, concurrency)
	c.recordingSlots = make(chan struct{}, maxRecordings)
	c.session = newSession(o.Credentials)
	return c, nil
}

// Host returns the host to which the client sends its requests.
func (c *Client) Host() string { return c.base.Host }

// Close closes idle connections. The client remains usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// auth is the way in which a request authenticates.
type auth uint8

const (
	withToken auth = iota
	withAPIKey
	withoutAuth
)

// request is one request to the API.
type request struct {
	op     string // operation, for errors
	method string
	path   string // escaped path with a leading slash
	query  url.Values
	form   url.Values // body; nil sends none
	auth   auth
}

// response is a successful response, with its envelope removed.
type response struct {
	content, info value
	date          time.Time // Date header; zero if missing
}

// do sends a request. It retries a GET request that fails temporarily.
func (c *Client) do(ctx context.Context, r request) (response, error) {
	if r.method != http.MethodGet {
		return c.sendAuthorized(ctx, r)
	}
	policy := retrypolicy.NewBuilder[any]().
		WithMaxAttempts(c.attempts).
		WithBackoff(c.backoff, max(c.backoff, maxBackoff)).
		WithJitterFactor(retryJitter).
		WithDelayFunc(func(attempt failsafe.ExecutionAttempt[any]) time.Duration {
			return retryAfterDelay(attempt.LastError())
		}).
		AbortIf(func(_ any, err error) bool { return !c.retryable(ctx, err) }).
		Build()
	// Run's own result may be a bare context error instead of an *APIError.
	var res response
	var err error
	_ = failsafe.With(policy).WithContext(ctx).Run(func() error {
		res, err = c.sendAuthorized(ctx, r)
		return err
	})
	return res, err
}

// retryable reports whether another attempt may succeed before ctx ends.
func (c *Client) retryable(ctx context.Context, err error) bool {
	var failure *APIError
	if !errors.As(err, &failure) || !failure.Temporary() || failure.RetryAfter > maxRetryAfter {
		return false
	}
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > max(failure.RetryAfter, c.backoff)
}

// retryAfterDelay returns the delay that Ziwo asked for, or -1 for the usual
// backoff. The delay allows for the jitter, so that it never ends early.
func retryAfterDelay(err error) time.Duration {
	var failure *APIError
	if !errors.As(err, &failure) || failure.RetryAfter == 0 {
		return -1
	}
	return time.Duration(float64(failure.RetryAfter) / (1 - retryJitter))
}

// sendAuthorized sends a request. If Ziwo rejects the token, it logs in and sends
// the request again.
func (c *Client) sendAuthorized(ctx context.Context, r request) (response, error) {
	if r.auth != withToken {
		return c.sendOnce(ctx, r, "")
	}
	token, err := c.token(ctx, "")
	if err != nil {
		return response{}, err
	}
	res, err := c.sendOnce(ctx, r, token)
	if !tokenRejected(err) {
		return res, err
	}
	fresh, loginErr := c.token(ctx, token)
	if loginErr != nil {
		return response{}, loginErr
	}
	return c.sendOnce(ctx, r, fresh)
}

// tokenRejected reports whether err means that Ziwo rejected the token.
func tokenRejected(err error) bool {
	var failure *APIError
	return errors.As(err, &failure) && failure.Status == http.StatusUnauthorized
}

// sendOnce sends a request and decodes its response.
func (c *Client) sendOnce(ctx context.Context, r request, token string) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	res, release, err := c.open(ctx, r, token) //nolint:bodyclose // release closes it
	if err != nil {
		return response{}, err
	}
	defer release()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxResponse+1))
	if err != nil {
		return response{}, c.transportError(r.op, err)
	}
	if len(body) > maxResponse {
		return response{}, &APIError{Op: r.op, Kind: Unreadable, Status: res.StatusCode, Message: fmt.Sprintf("the response is larger than %d MiB", maxResponse>>20)}
	}
	return c.decode(r, res, body)
}

// open sends a request and waits for the headers of the response. release closes
// the body and frees the request's slot.
func (c *Client) open(ctx context.Context, r request, token string) (res *http.Response, release func(), err error) {
	target := *c.base
	target.RawPath = c.base.EscapedPath() + r.path
	if target.Path, err = url.PathUnescape(target.RawPath); err != nil {
		return nil, nil, c.transportError(r.op, err)
	}
	target.RawQuery = r.query.Encode()
	var body io.Reader
	if r.form != nil {
		body = strings.NewReader(r.form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, nil, c.transportError(r.op, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "calltracker")
	if r.form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	switch r.auth {
	case withToken:
		req.Header.Set("access_token", token)
	case withAPIKey:
		if c.apiKey == "" {
			return nil, nil, &APIError{Op: r.op, Kind: Unauthorized, Message: "the contact center has no api_key, which CTI requires"}
		}
		req.Header.Set("api_key", c.apiKey)
	}
	res, free, err := c.roundTrip(r.op, req)
	if err != nil {
		return nil, nil, err
	}
	return res, func() {
		_ = res.Body.Close()
		free()
	}, nil
}

// roundTrip sends req within the limits on rate and concurrency. free frees its
// slot.
func (c *Client) roundTrip(op string, req *http.Request) (res *http.Response, free func(), err error) {
	ctx := req.Context()
	select {
	case c.requestSlots <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, c.transportError(op, ctx.Err())
	}
	if err := c.limiter.Wait(ctx); err != nil {
		<-c.requestSlots
		return nil, nil, c.transportError(op, err)
	}
	if res, err = c.http.Do(req); err != nil {
		<-c.requestSlots
		return nil, nil, c.transportError(op, err)
	}
	return res, func() { <-c.requestSlots }, nil
}

// decode returns the content of a response, or an *APIError.
func (c *Client) decode(r request, res *http.Response, body []byte) (response, error) {
	var decoded response
	decoded.date, _ = http.ParseTime(res.Header.Get("Date"))
	top, ok := parseJSON(body, new(notes))
	message := c.redact(errorMessage(top))
	fail := func(kind ErrorKind, message string) error {
		return &APIError{Op: r.op, Kind: kind, Status: res.StatusCode, Message: message, RetryAfter: c.retryAfter(res.Header)}
	}
	switch code := res.StatusCode; {
	case code == http.StatusTooManyRequests:
		return decoded, fail(RateLimited, message)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return decoded, fail(Unauthorized, message)
	case code == http.StatusNotFound:
		return decoded, fail(NotFound, message)
	case code >= 500, code == http.StatusRequestTimeout:
		return decoded, fail(Unavailable, message)
	case code >= 400:
		return decoded, fail(Rejected, message)
	case code >= 300:
		return decoded, fail(Rejected, "the API redirects to another address; check the api setting of the contact center")
	case code == http.StatusNoContent && r.method != http.MethodGet:
		return decoded, nil
	case len(body) == 0:
		return decoded, fail(Unreadable, "the response is empty")
	case !ok:
		return decoded, fail(Unreadable, "the response is "+describeBody(body))
	}
	switch top.kind {
	case kindArray: // no envelope
		decoded.content = top
	case kindObject:
		e := envelopeOf(top)
		if e.failed {
			return decoded, fail(Rejected, message)
		}
		decoded.content, decoded.info = e.content, e.info
		if !e.wrapped {
			decoded.content = top
		}
	default:
		return decoded, fail(Unreadable, "the response is a bare JSON "+top.kind.String())
	}
	return decoded, nil
}

// describeBody describes a body that is not JSON, without quoting it.
func describeBody(body []byte) string {
	if start := skipSpace(body, 0); start < len(body) && body[start] == '<' {
		return "HTML, not JSON"
	}
	return "not JSON"
}

// envelope is the object {"result": …, "content": …, "info": …}.
type envelope struct {
	content, info value
	wrapped       bool // whether there is a content or a result
	failed        bool // whether the result is false
}

func envelopeOf(top value) envelope {
	var e envelope
	for all := top.members(); ; {
		name, v, ok := all.next()
		if !ok {
			return e
		}
		switch strings.ToLower(string(name)) {
		case "content":
			e.content, e.wrapped = v, true
		case "info":
			e.info = v
		case "result":
			if v.kind == kindBool {
				e.wrapped = true
				e.failed = string(v.raw) == "false"
			}
		}
	}
}

// errorMessage returns the error message in a response, which Ziwo puts in
// error.message, content.message or message.
func errorMessage(top value) string {
	if top.kind != kindObject {
		return ""
	}
	for _, path := range [][]string{{"error", "message"}, {"content", "message"}, {"message"}, {"error"}, {"info", "message"}} {
		if v := top.get(path...); v.kind == kindString {
			if t := strings.TrimSpace(string(v.bytes())); t != "" {
				return t
			}
		}
	}
	return ""
}

// get returns the value at a path of member names, which it matches without regard
// to case. It returns an absent value if there is none.
func (v value) get(names ...string) value {
	for _, want := range names {
		if v.kind != kindObject {
			return value{}
		}
		found := value{}
		for all := v.members(); ; {
			name, inner, ok := all.next()
			if !ok {
				break
			}
			if strings.EqualFold(string(name), want) {
				found = inner
				break
			}
		}
		v = found
	}
	return v
}

// lookup returns the text at the first of the dotted paths that has one. It skips
// empty and "unknown" texts.
func (v value) lookup(names ...string) string {
	for _, name := range names {
		if f := v.get(strings.Split(name, ".")...); f.isScalar() && !f.isUnknown() {
			return string(f.bytes())
		}
	}
	return ""
}

// elements returns the elements of an array.
func (v value) elements() []value {
	var out []value
	for i := 1; ; {
		i = skipSpace(v.raw, i)
		if i < len(v.raw) && v.raw[i] == ',' {
			i = skipSpace(v.raw, i+1)
		}
		if i >= len(v.raw) || v.raw[i] == ']' {
			return out
		}
		end := valueEnd(v.raw, i)
		if end <= i {
			return out
		}
		out = append(out, jsonValue(v.raw[i:end]))
		i = end
	}
}

// items returns the records of a list response. Ziwo's documentation shows the
// content of a list as an object; its integrators read an array. An object with
// one of idFields is a single record. Any other object holds the records.
func (res response) items(idFields ...string) []value {
	switch res.content.kind {
	case kindArray:
		return objects(res.content.elements())
	case kindObject:
	default:
		return nil
	}
	for _, name := range idFields {
		if res.content.get(name).isScalar() {
			return []value{res.content}
		}
	}
	var members []value
	for all := res.content.members(); ; {
		_, v, ok := all.next()
		if !ok {
			return members
		}
		switch v.kind {
		case kindArray: // {"callTrackers": […]}
			return objects(v.elements())
		case kindObject: // {"1": {…}, "2": {…}}
			members = append(members, v)
		}
	}
}

// objects returns the objects among values. It reuses the slice.
func objects(values []value) []value {
	out := values[:0]
	for _, v := range values {
		if v.kind == kindObject {
			out = append(out, v)
		}
	}
	return out
}

// total returns the number of records on all pages, or -1 if Ziwo does not send it.
func (res response) total() int {
	for _, v := range []value{res.info, res.content} {
		if v.kind != kindObject {
			continue
		}
		for _, name := range []string{"total", "totalRecords"} {
			if f := v.get(name); f.kind == kindNumber || f.kind == kindString {
				if n, ok := numeral(f.bytes()); ok && n >= 0 && n <= 1e12 {
					return int(n)
				}
			}
		}
	}
	return -1
}
