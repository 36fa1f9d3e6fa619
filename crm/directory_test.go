package crm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"calltracker/crm"
	"calltracker/integration"
	"calltracker/phone"
	"calltracker/storage/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream is a CRM as an http.RoundTripper, so that it runs on the clock of a
// synctest bubble. It records the time of each request.
type upstream struct {
	mu      sync.Mutex
	handler handler
	times   map[string][]time.Time // by path
}

// handler answers the requests to an upstream.
type handler func(req *http.Request) reply

type reply struct {
	err        error
	status     int
	body       string
	retryAfter string
}

func (u *upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	u.mu.Lock()
	u.times[req.URL.Path] = append(u.times[req.URL.Path], time.Now())
	handle := u.handler
	u.mu.Unlock()
	r := handle(req)
	if r.err != nil {
		return nil, r.err
	}
	header := http.Header{}
	if r.retryAfter != "" {
		header.Set("Retry-After", r.retryAfter)
	}
	return &http.Response{StatusCode: r.status, Body: io.NopCloser(strings.NewReader(r.body)), Header: header}, nil
}

// setHandler replaces the handler.
func (u *upstream) setHandler(h handler) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.handler = h
}

// requests returns the number of requests to paths, or of all requests without
// paths.
func (u *upstream) requests(paths ...string) int { return len(u.requestTimes(paths...)) }

// requestTimes returns the times of the requests to paths, or of all requests.
func (u *upstream) requestTimes(paths ...string) []time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []time.Time
	for path, times := range u.times {
		if len(paths) == 0 || slices.Contains(paths, path) {
			all = append(all, times...)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// found returns a handler that answers every request with these customers.
func found(customers ...crm.Customer) handler {
	body, err := json.Marshal(customers)
	return func(*http.Request) reply { return reply{status: 200, body: string(body), err: err} }
}

// delayed returns a handler that waits before it answers.
func delayed(d time.Duration, then handler) handler {
	return func(req *http.Request) reply {
		select {
		case <-time.After(d):
			return then(req)
		case <-req.Context().Done():
			return reply{err: req.Context().Err()}
		}
	}
}

// hang answers no request.
func hang(req *http.Request) reply {
	<-req.Context().Done()
	return reply{err: req.Context().Err()}
}

func refuseConnection(*http.Request) reply { return reply{err: errors.New("connection refused")} }

// fail returns a handler that answers every request with an error status.
func fail(code int, retryAfter string) handler {
	return func(*http.Request) reply { return reply{status: code, retryAfter: retryAfter} }
}

// advance waits on the clock of the bubble.
func advance(d time.Duration) { <-time.After(d) }

// client first requests an exact match. If there is none, it searches, as drivers
// do.
type client struct{ http *http.Client }

func (c client) FindCustomers(ctx context.Context, n phone.Number) ([]crm.Customer, error) {
	for _, path := range []string{"/exact", "/search"} {
		customers, err := c.get(ctx, path, n)
		if err != nil || len(customers) > 0 {
			return customers, err
		}
	}
	return nil, nil
}

func (c client) get(ctx context.Context, path string, n phone.Number) ([]crm.Customer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://crm.example.com"+path+"?n="+n.E164[1:], nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, &crm.Error{Kind: crm.Unavailable, Err: err}
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusTooManyRequests:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return nil, &crm.Error{Kind: crm.RateLimited, Status: 429, RetryAfter: time.Duration(seconds) * time.Second}
	case res.StatusCode == http.StatusUnauthorized:
		return nil, &crm.Error{Kind: crm.Unauthorized, Status: 401, Message: "expired key"}
	case res.StatusCode == http.StatusBadRequest:
		return nil, &crm.Error{Kind: crm.Rejected, Status: 400}
	case res.StatusCode != http.StatusOK:
		return nil, &crm.Error{Kind: crm.Unavailable, Status: res.StatusCode}
	}
	var customers []crm.Customer
	if err := json.NewDecoder(res.Body).Decode(&customers); err != nil {
		return nil, &crm.Error{Kind: crm.Unavailable, Err: err}
	}
	return customers, nil
}

func (c client) SearchURL(n phone.Number) string { return "https://crm.example.com/find?" + n.E164[1:] }

// driver describes a CRM that limits searches more than other requests.
var driver = crm.Driver{
	Name: "example",
	Budgets: []crm.Budget{
		{Name: "search", Requests: 100, Per: time.Minute, Counts: func(req *http.Request) bool { return req.URL.Path == "/search" }},
		{Name: "organization", Requests: 1000, Per: time.Minute},
	},
	AgentURL: func(integration.Settings) string { return "https://crm.example.com" },
	Open:     func(_ integration.Settings, h *http.Client) (crm.Client, error) { return client{h}, nil },
}

// account returns a connection to a new upstream.
func account(t *testing.T, name string, h handler) (*crm.Connection, *upstream) {
	t.Helper()
	u := &upstream{handler: h, times: map[string][]time.Time{}}
	c, err := crm.Open(name, "", "", driver, nil, u)
	if err != nil {
		t.Fatal(err)
	}
	return c, u
}

// directory returns a directory that runs until the test ends. The test must run in
// a synctest bubble.
func directory(t *testing.T, connections ...*crm.Connection) *crm.Directory {
	t.Helper()
	d := crm.NewDirectory(crm.Options{Cache: cache.NewMemory(time.Now)})
	d.SetConnections(connections)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run() = %v, want nil", err)
		}
	})
	return d
}

func number(text string) phone.Number { return phone.Parse(text, "AE") }

// mobile returns the nth number of a series of mobile numbers.
func mobile(n int) phone.Number { return number(fmt.Sprintf("+9715012%05d", n)) }

var layla = crm.Customer{ID: "c1", Name: "Layla", URL: "https://crm.example.com/c1", MatchedBy: "phone", Phones: []string{"050 123 4567"}, Tags: []string{"vip"}}

var query = crm.Query{Number: phone.Parse("+971501234567", "")}

// want checks the state and the customers of a result. A customer is written as
// connection/ID.
func want(t *testing.T, got crm.Result, state crm.State, customers ...string) {
	t.Helper()
	var ids []string
	for _, c := range got.Customers {
		ids = append(ids, c.Connection+"/"+c.ID)
	}
	if got.State != state || !slices.Equal(ids, customers) {
		t.Errorf("state %s with customers %v, want %s with %v (answers %+v)", got.State, ids, state, customers, got.Answers)
	}
}

func TestConcurrentQueriesShareOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", delayed(200*time.Millisecond, found(layla)))
		d := directory(t, c)
		var agents sync.WaitGroup
		for i := range 1000 {
			agents.Go(func() {
				advance(time.Duration(i) * time.Millisecond)
				want(t, d.Find(t.Context(), query), crm.Found, "a/c1")
			})
		}
		agents.Wait()
		if n := u.requests(); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
	})
}

func TestOnlyCustomersWithTheNumberAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := account(t, "a", found(
			crm.Customer{ID: "other-code", Phones: []string{"+966501234567"}},
			crm.Customer{ID: "national", Phones: []string{"04 123 4567", "050-123-4567"}},
			crm.Customer{ID: "tail", Phones: []string{"1234567"}},
			crm.Customer{ID: "double-zero", Phones: []string{"00971 50 123 4567"}},
			crm.Customer{ID: "national", Phones: []string{"+971501234567"}},
			crm.Customer{ID: "no-phones"},
		))
		got := directory(t, c).Find(t.Context(), query)
		want(t, got, crm.Many, "a/national", "a/double-zero", "a/no-phones")
		for _, m := range got.Customers {
			if m.Phones != nil {
				t.Errorf("customer %s has phones %v, want none", m.ID, m.Phones)
			}
		}
	})
}

func TestNonExternalNumbersAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", found(layla))
		d := directory(t, c)
		for _, text := range []string{"", "anonymous", "0026", "agent-0029", "not a number"} {
			want(t, d.Find(t.Context(), crm.Query{Number: number(text)}), crm.Skipped)
		}
		if n := u.requests(); n != 0 {
			t.Errorf("%d requests, want 0", n)
		}
	})
}

func TestConnectionsAreAskedConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := account(t, "a", delayed(time.Second, found(layla)))
		b, _ := account(t, "b", delayed(time.Second, found(layla)))
		c, _ := account(t, "c", refuseConnection)
		e, _ := account(t, "e", found())
		d := directory(t, b, a, c, e)
		start := time.Now()
		got := d.Find(t.Context(), query)
		want(t, got, crm.Many, "a/c1", "b/c1")
		if took := time.Since(start); took != time.Second {
			t.Errorf("two lookups of one second took %s, want 1s", took)
		}
		if got.Complete() || got.Answers[2].Err == nil || got.Answers[2].SearchURL == "" {
			t.Errorf("the failure of connection c is missing: %+v", got.Answers)
		}
		wantState := func(state crm.State, names ...string) {
			t.Helper()
			q := query
			q.Connections = names
			if got := d.Find(t.Context(), q); got.State != state {
				t.Errorf("connections %v: state %s, want %s", names, got.State, state)
			}
		}
		wantState(crm.Found, "a")
		wantState(crm.Found, "a", "e", "c")
		wantState(crm.None, "e")
		wantState(crm.Unknown, "e", "c")
		wantState(crm.None, "unknown")
	})
}

func TestCacheExpiry(t *testing.T) {
	for _, tt := range []struct {
		name         string
		handler      handler
		state        crm.State
		fresh, stale time.Duration
	}{
		{"found", found(layla), crm.Found, 5 * time.Minute, 12 * time.Hour},
		{"none", found(), crm.None, 30 * time.Second, 5 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := account(t, "a", delayed(100*time.Millisecond, tt.handler))
				d := directory(t, c)
				find := func() (crm.Answer, time.Duration) {
					start := time.Now()
					got := d.Find(t.Context(), query)
					took := time.Since(start)
					if got.State != tt.state {
						t.Errorf("state %s, want %s", got.State, tt.state)
					}
					advance(time.Second) // until the lookup behind a stale answer ends
					return got.Answers[0], took
				}
				find()
				first := u.requests("/exact")
				advance(tt.fresh - 3*time.Second)
				if _, took := find(); took != 0 || u.requests("/exact") != first {
					t.Error("a fresh answer caused a request")
				}
				advance(time.Second)
				if stale, took := find(); took != 0 || !stale.Stale || u.requests("/exact") != first+1 {
					t.Errorf("a stale answer took %s (Stale: %t) and caused %d requests, want 0s and 1 request", took, stale.Stale, u.requests("/exact")-first)
				}
				if refreshed, _ := find(); refreshed.Stale {
					t.Error("the answer after the refresh is stale")
				}
				u.setHandler(delayed(100*time.Millisecond, tt.handler))
				advance(tt.stale)
				if expired, took := find(); took == 0 || expired.Stale {
					t.Error("an expired answer was returned")
				}
			})
		})
	}
}

func TestSkipCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", found())
		d := directory(t, c)
		want(t, d.Find(t.Context(), query), crm.None)
		u.setHandler(found(layla))
		want(t, d.Find(t.Context(), query), crm.None)
		fresh := query
		fresh.SkipCache = true
		want(t, d.Find(t.Context(), fresh), crm.Found, "a/c1")
		want(t, d.Find(t.Context(), query), crm.Found, "a/c1")
	})
}

func TestBreakerOpensAndCloses(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler handler
		wait    time.Duration // of an interactive query while the breaker is closed
	}{
		{"no response", hang, crm.DefaultWait},
		{"connection refused", refuseConnection, 0},
		{"server error", fail(502, ""), 0},
		{"expired key", fail(401, ""), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := account(t, "a", found(layla))
				d := directory(t, c)
				want(t, d.Find(t.Context(), query), crm.Found, "a/c1")
				u.setHandler(tt.handler)
				for i := range 3 {
					start := time.Now()
					want(t, d.Find(t.Context(), crm.Query{Number: mobile(i)}), crm.Unknown)
					if took := time.Since(start); took != tt.wait {
						t.Errorf("lookup %d took %s, want %s", i, took, tt.wait)
					}
				}
				synctest.Wait()
				before := u.requests()
				for i := range 100 {
					start := time.Now()
					got := d.Find(t.Context(), crm.Query{Number: mobile(100 + i)})
					want(t, got, crm.Unknown)
					if took := time.Since(start); took != 0 || got.RetryAfter() <= 0 {
						t.Fatalf("with an open breaker, a lookup took %s, RetryAfter %s; want 0s and a positive RetryAfter", took, got.RetryAfter())
					}
				}
				want(t, d.Find(t.Context(), query), crm.Found, "a/c1") // cached
				if n := u.requests(); n != before {
					t.Errorf("%d requests while the breaker is open, want 0", n-before)
				}
				if s := d.Status(t.Context())[0]; !s.Open || s.LastError == nil {
					t.Errorf("status = %+v, want an open breaker and an error", s)
				}
				advance(10 * time.Minute)
				if n := u.requests() - before; n < 20 || n > 60 {
					t.Errorf("%d probes in 10 minutes, want 20 to 60", n)
				}
				u.setHandler(found(layla))
				advance(20 * time.Second) // until the next probe
				if s := d.Status(t.Context())[0]; s.Open {
					t.Error("the breaker is open after a successful probe")
				}
				want(t, d.Find(t.Context(), crm.Query{Number: mobile(999), Connections: []string{"a"}}), crm.None)
			})
		})
	}
}

func TestProbePauses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		opens  handler // opens the breaker
		probes handler // answers the probes
		want   []int   // seconds until each probe
	}{
		{"server error", fail(502, ""), fail(502, ""), []int{1, 2, 4, 8, 15, 15}},
		{"expired key", fail(401, ""), fail(401, ""), []int{15, 15, 15}},
		{"rate limit with Retry-After", fail(502, ""), fail(429, "6"), []int{1, 6, 6, 8, 15}},
		{"rate limit with a long Retry-After", fail(502, ""), fail(429, "600"), []int{1, 15}},
		{"rejected request", fail(502, ""), fail(400, ""), []int{1, 2, 4, 8, 15}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := account(t, "a", tt.opens)
				d := directory(t, c)
				for i := range 3 {
					d.Find(t.Context(), crm.Query{Number: mobile(i)})
				}
				u.setHandler(tt.probes)
				for i, pause := range tt.want {
					synctest.Wait()
					s := d.Status(t.Context())[0]
					for s.PendingLookups > 0 { // the probe waits for its budget
						advance(time.Millisecond)
						s = d.Status(t.Context())[0]
					}
					if want := time.Duration(pause) * time.Second; !s.Open || s.RetryAfter.Round(time.Second) != want {
						t.Fatalf("before probe %d: open %t, RetryAfter %s; want true, %s", i, s.Open, s.RetryAfter, want)
					}
					advance(s.RetryAfter)
				}
			})
		})
	}
}

func TestRateLimitPausesRequests(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler handler
		pause   time.Duration
	}{
		{"with Retry-After", fail(429, "60"), time.Minute},
		{"without Retry-After", fail(429, ""), 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := account(t, "a", tt.handler)
				d := directory(t, c)
				got := d.Find(t.Context(), query)
				want(t, got, crm.Unknown)
				if got.Answers[0].Err.Kind != crm.RateLimited {
					t.Errorf("error = %v, want kind rate_limited", got.Answers[0].Err)
				}
				u.setHandler(found(layla))
				advance(tt.pause - 2*time.Second)
				start := time.Now()
				got = d.Find(t.Context(), query)
				want(t, got, crm.Unknown)
				if took := time.Since(start); took != 0 || got.RetryAfter() != 2*time.Second {
					t.Errorf("took %s, RetryAfter %s; want 0s and 2s", took, got.RetryAfter())
				}
				if n := u.requests(); n != 1 {
					t.Errorf("%d requests, want only the first one", n)
				}
				advance(2 * time.Second)
				want(t, d.Find(t.Context(), query), crm.Found, "a/c1")
				if s := d.Status(t.Context())[0]; s.Open {
					t.Error("a rate limit opened the breaker")
				}
			})
		})
	}
}

// TestBacklogStaysWithinBudgets looks up 10,000 numbers in the background, eight at
// a time. Agents who look up numbers in between must not wait.
func TestBacklogStaysWithinBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const backlog = 10_000
		known := func(req *http.Request) bool { return req.URL.Query().Get("n")[11] != '0' } // one number in ten has no customer
		c, u := account(t, "a", delayed(50*time.Millisecond, func(req *http.Request) reply {
			if known(req) {
				return found(crm.Customer{ID: req.URL.Query().Get("n")})(req)
			}
			return found()(req)
		}))
		d := directory(t, c)
		work := make(chan int)
		var workers sync.WaitGroup
		var waited sync.Map
		for range 8 {
			workers.Go(func() {
				for i := range work {
					for {
						got := d.Find(t.Context(), crm.Query{Number: mobile(i), Priority: crm.Background})
						if got.State != crm.Unknown {
							break
						}
						waited.Store(i, true)
						advance(got.RetryAfter())
					}
				}
			})
		}
		start := time.Now()
		var agents sync.WaitGroup
		for i := range 60 {
			agents.Go(func() {
				advance(time.Duration(i) * 7 * time.Second)
				start := time.Now()
				got := d.Find(t.Context(), crm.Query{Number: mobile(20_001 + i*10)})
				if took := time.Since(start); got.State != crm.Found || took != 50*time.Millisecond {
					t.Errorf("an agent waited %s for state %s, want 50ms for found", took, got.State)
				}
			})
		}
		for i := range backlog {
			work <- i
		}
		close(work)
		workers.Wait()
		agents.Wait()
		took := time.Since(start)
		checkRate(t, "organization", u.requestTimes(), 1000)
		checkRate(t, "search", u.requestTimes("/search"), 100)
		if n := u.requests("/exact"); n < backlog || n > backlog*11/10 {
			t.Errorf("%d exact lookups for %d numbers", n, backlog)
		}
		t.Logf("%d numbers in %s, %d requests, %d of them searches", backlog, took, u.requests(), u.requests("/search"))
	})
}

// checkRate checks that no minute contains more than limit of the times.
func checkRate(t *testing.T, name string, times []time.Time, limit int) {
	t.Helper()
	for i := range len(times) - limit {
		if span := times[i+limit].Sub(times[i]); span < time.Minute {
			t.Fatalf("%s: %d requests within %s, want at least a minute", name, limit+1, span)
		}
	}
}

func TestInteractiveQueryPromotesBackgroundLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", found(layla))
		d := directory(t, c)
		for i := range 50 { // uses up the half of the budget that is open to background lookups
			d.Find(t.Context(), crm.Query{Number: mobile(i), Priority: crm.Background})
		}
		var background sync.WaitGroup
		background.Go(func() {
			q := query
			q.Priority = crm.Background
			want(t, d.Find(t.Context(), q), crm.Found, "a/c1")
		})
		synctest.Wait()
		before := u.requests()
		start := time.Now()
		want(t, d.Find(t.Context(), query), crm.Found, "a/c1")
		if took := time.Since(start); took != 0 || u.requests() != before+1 {
			t.Errorf("an interactive query waited %s for a background lookup, with %d requests; want 0s and 1 request", took, u.requests()-before)
		}
		background.Wait()
	})
}

func TestShortWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", delayed(400*time.Millisecond, found(layla)))
		d := directory(t, c)
		find := func(n phone.Number, wait time.Duration) (crm.Result, time.Duration) {
			start := time.Now()
			got := d.Find(t.Context(), crm.Query{Number: n, Wait: wait})
			return got, time.Since(start)
		}
		if got, took := find(query.Number, -1); got.State != crm.Unknown || took != 0 {
			t.Errorf("without a wait: state %s after %s, want unavailable after 0s", got.State, took)
		}
		advance(time.Second)
		if got, took := find(query.Number, -1); got.State != crm.Found || took != 0 {
			t.Errorf("after the lookup ended: state %s after %s, want found after 0s", got.State, took)
		}
		// After three queries time out, queries with the same wait do not wait.
		u.setHandler(delayed(400*time.Millisecond, found()))
		for i, want := range []int64{150, 150, 150, 0, 0} {
			if _, took := find(mobile(i), 150*time.Millisecond); took.Milliseconds() != want {
				t.Errorf("lookup %d took %s, want %d ms", i, took, want)
			}
		}
		advance(time.Second)
		// Once the account answers faster, they wait again.
		u.setHandler(delayed(10*time.Millisecond, found(layla)))
		find(mobile(10), 150*time.Millisecond)
		advance(time.Second)
		if _, took := find(mobile(11), 150*time.Millisecond); took != 10*time.Millisecond {
			t.Errorf("with a fast account, the lookup took %s, want 10ms", took)
		}
	})
}

func TestSetConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := account(t, "a", found(layla))
		b, _ := account(t, "b", refuseConnection)
		d := directory(t, a, b)
		for i := range 3 {
			d.Find(t.Context(), crm.Query{Number: mobile(i), Connections: []string{"b"}})
		}
		want(t, d.Find(t.Context(), query), crm.Found, "a/c1")
		other, u := account(t, "a", found())
		other.Fingerprint = "other settings"
		d.SetConnections([]*crm.Connection{b, other})
		if s := d.Status(t.Context()); len(s) != 2 || s[0].Name != "a" || !s[1].Open {
			t.Errorf("status = %+v, want the unchanged connection b with an open breaker", s)
		}
		want(t, d.Find(t.Context(), crm.Query{Number: query.Number, Connections: []string{"a"}}), crm.None)
		if u.requests() == 0 {
			t.Error("the new account got no request")
		}
		d.SetConnections(nil)
		want(t, d.Find(t.Context(), query), crm.None)
	})
}

func TestDriverPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := account(t, "a", func(*http.Request) reply { panic("no") })
		want(t, directory(t, c).Find(t.Context(), query), crm.Unknown)
	})
}

func TestClosedDirectoryAnswersFromCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", found(layla))
		d := crm.NewDirectory(crm.Options{Cache: cache.NewMemory(time.Now)})
		d.SetConnections([]*crm.Connection{c})
		want(t, d.Find(t.Context(), query), crm.Found, "a/c1")
		u.setHandler(hang)
		ctx, cancel := context.WithCancel(t.Context())
		pending := make(chan crm.Result)
		go func() { pending <- d.Find(t.Context(), crm.Query{Number: mobile(1)}) }()
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
		want(t, <-pending, crm.Unknown)
		want(t, d.Find(t.Context(), crm.Query{Number: mobile(2)}), crm.Unknown)
		want(t, d.Find(t.Context(), query), crm.Found, "a/c1")
		if took := time.Since(start); took != 0 {
			t.Errorf("closing took %s, want 0s", took)
		}
	})
}

// checkedClient is a client that can check its credentials.
type checkedClient struct {
	client
	err error
}

func (c checkedClient) Check(context.Context) error { return c.err }

func TestTestIgnoresCacheAndBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		checkErr := &crm.Error{Kind: crm.Unauthorized, Message: "expired key"}
		withCheck := driver
		withCheck.Open = func(_ integration.Settings, h *http.Client) (crm.Client, error) {
			return checkedClient{client{h}, checkErr}, nil
		}
		u := &upstream{handler: refuseConnection, times: map[string][]time.Time{}}
		c, err := crm.Open("a", "", "", withCheck, nil, u)
		if err != nil {
			t.Fatal(err)
		}
		d := directory(t, c)
		for i := range 3 {
			d.Find(t.Context(), crm.Query{Number: mobile(i)})
		}
		u.setHandler(found(layla))
		check, answer, ok := d.Test(t.Context(), "a", query.Number)
		if !ok || !errors.Is(check, checkErr) || answer.State != crm.Found {
			t.Errorf("Test() = %v, %+v, %t, want the error of the check and one customer", check, answer, ok)
		}
		if d.Status(t.Context())[0].Open {
			t.Error("the breaker is open after a successful test")
		}
		if _, answer, _ := d.Test(t.Context(), "a", phone.Number{}); answer.State != crm.Skipped {
			t.Errorf("without a number: state %s, want skipped", answer.State)
		}
		if _, _, ok := d.Test(t.Context(), "b", query.Number); ok {
			t.Error("ok = true for an unknown connection")
		}
	})
}
