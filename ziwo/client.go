package ziwo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Client speaks to the REST API of one contact center. Make it with NewClient.
// It is safe for concurrent use and starts nothing in the background; Close
// lets go of idle connections.
//
// What it knows of the API is at
// https://www.ziwo.io/api-integration-developers/ and in what integrators
// publish. Every failure is an *APIError. Reading requests (GET) are tried again
// when that may help; what changes something at Ziwo is sent once.
type Client struct {
	base       *url.URL
	session    session
	apiKey     string
	recordings []RecordingStyle
	http       *http.Client
	limit      *rate.Limiter
	slots      chan struct{} // one for each request under way
	streams    chan struct{} // one for each recording on its way
	timeout    time.Duration
	backoff    time.Duration
	attempts   int
	now        func() time.Time
}

// ClientOptions say which contact center a Client speaks to, and how hard. The
// zero values of all but the name and the credentials are sensible.
type ClientOptions struct {
	Name        string // of the contact center: "example" is example.aswat.co
	BaseURL     string // empty: https://<name>-api.aswat.co
	Credentials Credentials
	Recordings  []RecordingStyle // in the order of trial; empty: all

	HTTP        *http.Client  // nil: one of its own
	Rate        float64       // requests a second; 0: 10
	Concurrency int           // requests at a time; 0: 4
	Timeout     time.Duration // of one attempt; 0: 30 s
	Attempts    int           // of a reading request; 0: 3
	Backoff     time.Duration // before the second attempt, doubled for each further one; 0: 500 ms
	Now         func() time.Time
}

// Credentials are what Ziwo lets somebody in by. They never print themselves.
type Credentials struct {
	Username, Password string // for /auth/login
	AccessToken        string // instead of logging in, until Ziwo refuses it
	APIKey             string // of CTI
}

// String hides the values.
func (Credentials) String() string { return "***" }

// GoString hides the values.
func (Credentials) GoString() string { return "***" }

// LogValue hides the values.
func (Credentials) LogValue() slog.Value { return slog.StringValue("***") }

const (
	defaultRate        = 10
	defaultConcurrency = 4
	defaultTimeout     = 30 * time.Second
	defaultAttempts    = 3
	defaultBackoff     = 500 * time.Millisecond

	// longestWait is how long a request waits because Ziwo said so; a longer
	// Retry-After is handed to the caller.
	longestWait = 20 * time.Second

	maxAnswer = 64 << 20 // bytes; a page of 1000 records has some megabytes
)

// NewClient checks the options. It sends nothing.
func NewClient(o ClientOptions) (*Client, error) {
	address := o.BaseURL
	if address == "" {
		if o.Name == "" {
			return nil, errors.New("ziwo client: neither the name of a contact center nor its address")
		}
		address = "https://" + url.PathEscape(o.Name) + "-api.aswat.co"
	}
	base, err := url.Parse(strings.TrimRight(address, "/"))
	if err != nil || base.Host == "" || base.User != nil || base.Scheme != "https" && base.Scheme != "http" {
		return nil, fmt.Errorf("ziwo client: %q is no address; write https://host", clip(address))
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
		if !style.known() {
			return nil, fmt.Errorf("ziwo client: %q is no way to fetch recordings", clip(string(style)))
		}
	}
	perSecond, atOnce := o.Rate, o.Concurrency
	if perSecond <= 0 {
		perSecond = defaultRate
	}
	if atOnce <= 0 {
		atOnce = defaultConcurrency
	}
	if c.http == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.MaxIdleConnsPerHost = atOnce
		c.http = &http.Client{Transport: transport}
	} else {
		own := *c.http
		c.http = &own
	}
	// The token is in a header of its own, which net/http would take along to
	// whatever host a redirect names.
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
	c.limit = rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond)))
	c.slots = make(chan struct{}, atOnce)
	c.streams = make(chan struct{}, recordingsAtOnce)
	c.session = newSession(o.Credentials)
	return c, nil
}

// Host is where the client sends its requests.
func (c *Client) Host() string { return c.base.Host }

// Close lets go of idle connections. The client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// auth is what a request shows Ziwo.
type auth uint8

const (
	byToken auth = iota
	byAPIKey
	byNothing
)

// request is one thing asked of Ziwo.
type request struct {
	op     string // what it is for, in errors
	method string
	path   string // escaped, with a leading slash
	query  url.Values
	form   url.Values // the body; nil: none
	auth   auth
}

// answer is what Ziwo answered, in its envelope or without one.
type answer struct {
	content, info value
	at            time.Time // Ziwo's clock; zero when it does not say
}

// do sends a request until it succeeds or there is no sense in going on.
func (c *Client) do(ctx context.Context, r request) (answer, error) {
	for attempt := 1; ; attempt++ {
		a, err := c.ask(ctx, r)
		if err == nil {
			return a, nil
		}
		var failure *APIError
		if !errors.As(err, &failure) || r.method != http.MethodGet || attempt >= c.attempts ||
			!failure.Temporary() || failure.RetryAfter > longestWait {
			return answer{}, err
		}
		wait := max(failure.RetryAfter, c.pause(attempt))
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < wait {
			return answer{}, err
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return answer{}, err
		case <-timer.C:
		}
	}
}

// pause grows with each attempt; the random part keeps replicas apart.
func (c *Client) pause(attempt int) time.Duration {
	pause := c.backoff << (attempt - 1)
	return pause + rand.N(pause/2+1) //nolint:gosec // spreading requests needs no secrecy
}

// ask sends a request once, or twice when the token turned out to be stale.
func (c *Client) ask(ctx context.Context, r request) (answer, error) {
	if r.auth != byToken {
		return c.once(ctx, r, "")
	}
	token, err := c.token(ctx, "")
	if err != nil {
		return answer{}, err
	}
	a, err := c.once(ctx, r, token)
	if !refused(err) {
		return a, err
	}
	fresh, loginErr := c.token(ctx, token)
	if loginErr != nil {
		return answer{}, loginErr
	}
	return c.once(ctx, r, fresh)
}

// refused tells whether Ziwo did not take the token.
func refused(err error) bool {
	var failure *APIError
	return errors.As(err, &failure) && failure.Status == http.StatusUnauthorized
}

// once sends a request and reads the whole answer.
func (c *Client) once(ctx context.Context, r request, token string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	res, release, err := c.send(ctx, r, token) //nolint:bodyclose // release closes it
	if err != nil {
		return answer{}, err
	}
	defer release()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return answer{}, c.failed(r.op, err)
	}
	if len(body) > maxAnswer {
		return answer{}, &APIError{Op: r.op, Kind: Unreadable, Status: res.StatusCode, Message: fmt.Sprintf("the answer has more than %d MiB", maxAnswer>>20)}
	}
	return c.read(r, res, body)
}

// send sends a request and waits for the head of the answer. release gives the
// connection and the place among the requests under way back.
func (c *Client) send(ctx context.Context, r request, token string) (res *http.Response, release func(), err error) {
	target := *c.base
	target.RawPath = c.base.EscapedPath() + r.path
	if target.Path, err = url.PathUnescape(target.RawPath); err != nil {
		return nil, nil, c.failed(r.op, err)
	}
	target.RawQuery = r.query.Encode()
	var body io.Reader
	if r.form != nil {
		body = strings.NewReader(r.form.Encode())
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, nil, c.failed(r.op, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "calltracker")
	if r.form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	switch r.auth {
	case byToken:
		req.Header.Set("access_token", token)
	case byAPIKey:
		if c.apiKey == "" {
			return nil, nil, &APIError{Op: r.op, Kind: Unauthorized, Message: "the contact center has no api_key, which CTI asks for"}
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

// roundTrip keeps to the rate and to the number of requests at a time. free gives
// the place among those back.
func (c *Client) roundTrip(op string, req *http.Request) (res *http.Response, free func(), err error) {
	ctx := req.Context()
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, c.failed(op, ctx.Err())
	}
	if err := c.limit.Wait(ctx); err != nil {
		<-c.slots
		return nil, nil, c.failed(op, err)
	}
	if res, err = c.http.Do(req); err != nil {
		<-c.slots
		return nil, nil, c.failed(op, err)
	}
	return res, func() { <-c.slots }, nil
}

// read judges an answer.
func (c *Client) read(r request, res *http.Response, body []byte) (answer, error) {
	a := answer{}
	a.at, _ = http.ParseTime(res.Header.Get("Date"))
	top, ok := parseJSON(body, new(notes))
	said := c.unsecret(message(top))
	fail := func(kind ErrorKind, message string) error {
		return &APIError{Op: r.op, Kind: kind, Status: res.StatusCode, Message: message, RetryAfter: c.retryAfter(res.Header)}
	}
	switch code := res.StatusCode; {
	case code == http.StatusTooManyRequests:
		return a, fail(RateLimited, said)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return a, fail(Unauthorized, said)
	case code == http.StatusNotFound:
		return a, fail(NotFound, said)
	case code >= 500, code == http.StatusRequestTimeout:
		return a, fail(Unavailable, said)
	case code >= 400:
		return a, fail(Rejected, said)
	case code >= 300:
		return a, fail(Rejected, "it sends us to another address; check the address of the API")
	case code == http.StatusNoContent && r.method != http.MethodGet:
		return a, nil
	case len(body) == 0:
		return a, fail(Unreadable, "the answer is empty")
	case !ok:
		return a, fail(Unreadable, "the answer is "+looks(body))
	}
	switch top.kind {
	case list: // without an envelope
		a.content = top
	case object:
		e := envelopeOf(top)
		if e.refused {
			return a, fail(Rejected, said)
		}
		a.content, a.info = e.content, e.info
		if !e.wrapped {
			a.content = top
		}
	default:
		return a, fail(Unreadable, "the answer is a bare JSON "+top.kind.String())
	}
	return a, nil
}

// looks says what a body that is no JSON seems to be, without quoting it.
func looks(body []byte) string {
	if start := skipSpace(body, 0); start < len(body) && body[start] == '<' {
		return "HTML, not JSON"
	}
	return "not JSON"
}

// envelope is {"result": …, "content": …, "info": …}.
type envelope struct {
	content, info value
	wrapped       bool // there is a content, or a result
	refused       bool // the result is false
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
			if v.kind == boolean {
				e.wrapped = true
				e.refused = string(v.raw) == "false"
			}
		}
	}
}

// message is what an answer says went wrong, wherever it stands: Ziwo's errors
// have it in error.message, content.message or message.
func message(top value) string {
	if top.kind != object {
		return ""
	}
	for _, path := range [][]string{{"error", "message"}, {"content", "message"}, {"message"}, {"error"}, {"info", "message"}} {
		if v := top.at(path...); v.kind == quoted {
			if t := strings.TrimSpace(string(v.bytes())); t != "" {
				return t
			}
		}
	}
	return ""
}

// at is the value under names, without case; absent when there is none.
func (v value) at(names ...string) value {
	for _, want := range names {
		if v.kind != object {
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

// field is the text of the first of the names that says anything.
func (v value) field(names ...string) string {
	for _, name := range names {
		if f := v.at(strings.Split(name, ".")...); f.scalar() && !f.unknown() {
			return string(f.bytes())
		}
	}
	return ""
}

// elements are the elements of a list.
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

// items are the records of a list answer. Ziwo's page shows the content of a
// list as an object, its integrators read an array: an object is one record
// when it has one of the names that mark it, else what holds the records.
func (a answer) items(marks ...string) []value {
	switch a.content.kind {
	case list:
		return objects(a.content.elements())
	case object:
	default:
		return nil
	}
	for _, mark := range marks {
		if a.content.at(mark).scalar() {
			return []value{a.content}
		}
	}
	var members []value
	for all := a.content.members(); ; {
		_, v, ok := all.next()
		if !ok {
			return members
		}
		switch v.kind {
		case list: // {"callTrackers": […]}
			return objects(v.elements())
		case object: // {"1": {…}, "2": {…}}
			members = append(members, v)
		}
	}
}

func objects(values []value) []value {
	out := values[:0]
	for _, v := range values {
		if v.kind == object {
			out = append(out, v)
		}
	}
	return out
}

// total is how many records there are in all; -1 when Ziwo does not say.
func (a answer) total() int {
	for _, v := range []value{a.info, a.content} {
		if v.kind != object {
			continue
		}
		for _, name := range []string{"total", "totalRecords"} {
			if f := v.at(name); f.kind == number || f.kind == quoted {
				if n, ok := numeral(f.bytes()); ok && n >= 0 && n <= 1e12 {
					return int(n)
				}
			}
		}
	}
	return -1
}
