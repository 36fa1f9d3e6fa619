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

// upstream is a CRM in memory: a transport, so that a fake clock reaches it. It
// notes when each request came.
type upstream struct {
	mutex  sync.Mutex
	answer way
	times  map[string][]time.Time // by path
}

// way is how an upstream answers.
type way func(req *http.Request) reply

type reply struct {
	err        error
	status     int
	body       string
	retryAfter string
}

func (u *upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	u.mutex.Lock()
	u.times[req.URL.Path] = append(u.times[req.URL.Path], time.Now())
	answer := u.answer
	u.mutex.Unlock()
	r := answer(req)
	if r.err != nil {
		return nil, r.err
	}
	header := http.Header{}
	if r.retryAfter != "" {
		header.Set("Retry-After", r.retryAfter)
	}
	return &http.Response{StatusCode: r.status, Body: io.NopCloser(strings.NewReader(r.body)), Header: header}, nil
}

// becomes changes how it answers.
func (u *upstream) becomes(answer way) {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	u.answer = answer
}

// requests counts those to paths, all of them when there is none.
func (u *upstream) requests(paths ...string) int { return len(u.sent(paths...)) }

func (u *upstream) sent(paths ...string) []time.Time {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	var all []time.Time
	for path, times := range u.times {
		if len(paths) == 0 || slices.Contains(paths, path) {
			all = append(all, times...)
		}
	}
	slices.SortFunc(all, time.Time.Compare)
	return all
}

// The ways of an upstream.
func knows(customers ...crm.Customer) way {
	body, err := json.Marshal(customers)
	return func(*http.Request) reply { return reply{status: 200, body: string(body), err: err} }
}

func slowly(d time.Duration, then way) way {
	return func(req *http.Request) reply {
		select {
		case <-time.After(d):
			return then(req)
		case <-req.Context().Done():
			return reply{err: req.Context().Err()}
		}
	}
}

func hangs(req *http.Request) reply {
	<-req.Context().Done()
	return reply{err: req.Context().Err()}
}

func dead(*http.Request) reply { return reply{err: errors.New("connection refused")} }

func status(code int, retryAfter string) way {
	return func(*http.Request) reply { return reply{status: code, retryAfter: retryAfter} }
}

// pass lets time pass in a bubble.
func pass(d time.Duration) { <-time.After(d) }

// client asks an upstream: the exact look-up first, and a search when that finds
// nobody, as CRMs want it.
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
		return nil, &crm.Error{Kind: crm.Unauthorized, Status: 401, Message: "the key expired"}
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

// driver has the budgets of a CRM that limits searches more than the rest.
var driver = crm.Driver{
	Name: "example",
	Budgets: []crm.Budget{
		{Name: "search", Requests: 100, Per: time.Minute, Counts: func(req *http.Request) bool { return req.URL.Path == "/search" }},
		{Name: "organisation", Requests: 1000, Per: time.Minute},
	},
	AgentURL: func(integration.Settings) string { return "https://crm.example.com" },
	Open:     func(_ integration.Settings, h *http.Client) (crm.Client, error) { return client{h}, nil },
}

// account is an open connection to a new upstream.
func account(t *testing.T, name string, answer way) (*crm.Connection, *upstream) {
	t.Helper()
	u := &upstream{answer: answer, times: map[string][]time.Time{}}
	c, err := crm.Open(name, "", "", driver, nil, u)
	if err != nil {
		t.Fatal(err)
	}
	return c, u
}

// directory runs until its test ends, which has to be in a bubble.
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
			t.Errorf("Run returned %v", err)
		}
	})
	return d
}

func number(text string) phone.Number { return phone.Parse(text, "AE") }

// mobile is the nth of many numbers.
func mobile(n int) phone.Number { return number(fmt.Sprintf("+9715012%05d", n)) }

var layla = crm.Customer{ID: "c1", Name: "Layla", URL: "https://crm.example.com/c1", MatchedBy: "phone", Phones: []string{"050 123 4567"}, Tags: []string{"vip"}}

var ask = crm.Query{Number: phone.Parse("+971501234567", "")}

func want(t *testing.T, got crm.Result, state crm.State, customers ...string) {
	t.Helper()
	var ids []string
	for _, c := range got.Customers {
		ids = append(ids, c.Connection+"/"+c.ID)
	}
	if got.State != state || !slices.Equal(ids, customers) {
		t.Errorf("found %s %v, want %s %v (%+v)", got.State, ids, state, customers, got.Answers)
	}
}

func TestAThousandAgentsCauseOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", slowly(200*time.Millisecond, knows(layla)))
		d := directory(t, c)
		var agents sync.WaitGroup
		for i := range 1000 {
			agents.Go(func() {
				pass(time.Duration(i) * time.Millisecond) // in the clock of the bubble
				want(t, d.Find(t.Context(), ask), crm.Found, "a/c1")
			})
		}
		agents.Wait()
		if n := u.requests(); n != 1 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestOnlyOwnersOfTheNumberAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := account(t, "a", knows(
			crm.Customer{ID: "other-code", Phones: []string{"+966501234567"}},
			crm.Customer{ID: "national", Phones: []string{"04 123 4567", "050-123-4567"}},
			crm.Customer{ID: "tail", Phones: []string{"1234567"}},
			crm.Customer{ID: "double-zero", Phones: []string{"00971 50 123 4567"}},
			crm.Customer{ID: "national", Phones: []string{"+971501234567"}},
			crm.Customer{ID: "not-told"},
		))
		got := directory(t, c).Find(t.Context(), ask)
		want(t, got, crm.Many, "a/national", "a/double-zero", "a/not-told")
		for _, m := range got.Customers {
			if m.Phones != nil {
				t.Errorf("%s comes with all numbers: %v", m.ID, m.Phones)
			}
		}
	})
}

func TestNumbersOfNobodyAreNotLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", knows(layla))
		d := directory(t, c)
		for _, text := range []string{"", "anonymous", "0026", "agent-0029", "no number"} {
			want(t, d.Find(t.Context(), crm.Query{Number: number(text)}), crm.Skipped)
		}
		if n := u.requests(); n != 0 {
			t.Errorf("%d requests", n)
		}
	})
}

func TestConnectionsAnswerTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := account(t, "a", slowly(time.Second, knows(layla)))
		b, _ := account(t, "b", slowly(time.Second, knows(layla)))
		c, _ := account(t, "c", dead)
		e, _ := account(t, "e", knows())
		d := directory(t, b, a, c, e)
		start := time.Now()
		got := d.Find(t.Context(), ask)
		want(t, got, crm.Many, "a/c1", "b/c1")
		if took := time.Since(start); took != time.Second {
			t.Errorf("two that take a second each took %s", took)
		}
		if got.Complete() || got.Answers[2].Err == nil || got.Answers[2].SearchURL == "" {
			t.Errorf("that one did not answer is not told: %+v", got.Answers)
		}
		of := func(state crm.State, names ...string) {
			t.Helper()
			q := ask
			q.Connections = names
			if got := d.Find(t.Context(), q); got.State != state {
				t.Errorf("%v: %s, want %s", names, got.State, state)
			}
		}
		of(crm.Found, "a")
		of(crm.Found, "a", "e", "c")
		of(crm.None, "e")
		of(crm.Unknown, "e", "c")
		of(crm.None, "unheard-of")
	})
}

func TestAnswersAreKeptForTheirTime(t *testing.T) {
	for _, tt := range []struct {
		name         string
		answer       way
		state        crm.State
		fresh, stale time.Duration
	}{
		{"found", knows(layla), crm.Found, 5 * time.Minute, 12 * time.Hour},
		{"nobody", knows(), crm.None, 30 * time.Second, 5 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := account(t, "a", slowly(100*time.Millisecond, tt.answer))
				d := directory(t, c)
				find := func() (crm.Answer, time.Duration) {
					start := time.Now()
					got := d.Find(t.Context(), ask)
					took := time.Since(start)
					if got.State != tt.state {
						t.Errorf("found %s", got.State)
					}
					pass(time.Second) // for what goes on behind the answer
					return got.Answers[0], took
				}
				find()
				first := u.requests("/exact")
				pass(tt.fresh - 3*time.Second)
				if _, took := find(); took != 0 || u.requests("/exact") != first {
					t.Error("a fresh answer was asked for again")
				}
				pass(time.Second)
				if old, took := find(); took != 0 || !old.Stale || u.requests("/exact") != first+1 {
					t.Errorf("a stale answer took %s (stale: %t) and caused %d requests", took, old.Stale, u.requests("/exact")-first)
				}
				if again, _ := find(); again.Stale {
					t.Error("the answer that was behind the stale one is stale, too")
				}
				u.becomes(slowly(100*time.Millisecond, tt.answer))
				pass(tt.stale)
				if old, took := find(); took == 0 || old.Stale {
					t.Error("an answer that is too old was given")
				}
			})
		})
	}
}

func TestAnewAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", knows())
		d := directory(t, c)
		want(t, d.Find(t.Context(), ask), crm.None)
		u.becomes(knows(layla))
		want(t, d.Find(t.Context(), ask), crm.None)
		anew := ask
		anew.SkipCache = true
		want(t, d.Find(t.Context(), anew), crm.Found, "a/c1")
		want(t, d.Find(t.Context(), ask), crm.Found, "a/c1")
	})
}

func TestAFailingAccountIsLeftAloneAndComesBack(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fails way
		first time.Duration // how long a person waits for it
	}{
		{"hanging", hangs, crm.DefaultWait},
		{"dead", dead, 0},
		{"broken", status(502, ""), 0},
		{"key expired", status(401, ""), 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := account(t, "a", knows(layla))
				d := directory(t, c)
				want(t, d.Find(t.Context(), ask), crm.Found, "a/c1")
				u.becomes(tt.fails)
				for i := range 3 {
					start := time.Now()
					want(t, d.Find(t.Context(), crm.Query{Number: mobile(i)}), crm.Unknown)
					if took := time.Since(start); took != tt.first {
						t.Errorf("look-up %d took %s, not %s", i, took, tt.first)
					}
				}
				synctest.Wait()
				before := u.requests()
				for i := range 100 {
					start := time.Now()
					got := d.Find(t.Context(), crm.Query{Number: mobile(100 + i)})
					want(t, got, crm.Unknown)
					if took := time.Since(start); took != 0 || got.RetryAfter() <= 0 {
						t.Fatalf("an account known to be away took %s and is to be asked again in %s", took, got.RetryAfter())
					}
				}
				want(t, d.Find(t.Context(), ask), crm.Found, "a/c1") // what is known stays known
				if n := u.requests(); n != before {
					t.Errorf("%d requests to an account that is left alone", n-before)
				}
				if s := d.Status(t.Context())[0]; !s.Open || s.LastError == nil {
					t.Errorf("the status is %+v", s)
				}
				pass(10 * time.Minute)
				if n := u.requests() - before; n < 20 || n > 60 {
					t.Errorf("%d probes in 10 minutes", n)
				}
				u.becomes(knows(layla))
				pass(20 * time.Second) // a probe comes by itself
				if s := d.Status(t.Context())[0]; s.Open {
					t.Error("the account is well and still left alone")
				}
				want(t, d.Find(t.Context(), crm.Query{Number: mobile(999), Connections: []string{"a"}}), crm.None)
			})
		})
	}
}

func TestTooManyRequestsAreNotRepeated(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer way
		pause  time.Duration
	}{
		{"it said for how long", status(429, "60"), time.Minute},
		{"it did not say", status(429, ""), 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, u := account(t, "a", tt.answer)
				d := directory(t, c)
				got := d.Find(t.Context(), ask)
				want(t, got, crm.Unknown)
				if got.Answers[0].Err.Kind != crm.RateLimited {
					t.Errorf("the error is %v", got.Answers[0].Err)
				}
				u.becomes(knows(layla))
				pass(tt.pause - 2*time.Second)
				start := time.Now()
				got = d.Find(t.Context(), ask)
				want(t, got, crm.Unknown)
				if took := time.Since(start); took != 0 || got.RetryAfter() != 2*time.Second {
					t.Errorf("took %s, and is to be asked again in %s", took, got.RetryAfter())
				}
				if n := u.requests(); n != 1 {
					t.Errorf("%d requests within the pause", n)
				}
				pass(2 * time.Second)
				want(t, d.Find(t.Context(), ask), crm.Found, "a/c1")
				if s := d.Status(t.Context())[0]; s.Open {
					t.Error("a CRM that limits us is treated as broken")
				}
			})
		})
	}
}

// TestABacklogKeepsInsideTheBudgets looks 10,000 numbers up in the background,
// by eight at a time, and lets an agent in between get through at once.
func TestABacklogKeepsInsideTheBudgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const backlog = 10_000
		known := func(req *http.Request) bool { return req.URL.Query().Get("n")[11] != '0' } // one in ten is nobody
		c, u := account(t, "a", slowly(50*time.Millisecond, func(req *http.Request) reply {
			if known(req) {
				return knows(crm.Customer{ID: req.URL.Query().Get("n")})(req)
			}
			return knows()(req)
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
						pass(got.RetryAfter())
					}
				}
			})
		}
		start := time.Now()
		var agents sync.WaitGroup
		for i := range 60 {
			agents.Go(func() {
				pass(time.Duration(i) * 7 * time.Second)
				asked := time.Now()
				got := d.Find(t.Context(), crm.Query{Number: mobile(20_001 + i*10)})
				if took := time.Since(asked); got.State != crm.Found || took != 50*time.Millisecond {
					t.Errorf("an agent waited %s for %s", took, got.State)
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
		within(t, "organisation", u.sent(), 1000)
		within(t, "search", u.sent("/search"), 100)
		if n := u.requests("/exact"); n < backlog || n > backlog*11/10 {
			t.Errorf("%d exact look-ups for %d numbers", n, backlog)
		}
		t.Logf("%d numbers in %s, %d requests, %d of them searches", backlog, took, u.requests(), u.requests("/search"))
	})
}

// within checks that no minute has more than most of the times.
func within(t *testing.T, name string, times []time.Time, most int) {
	t.Helper()
	for i := range len(times) - most {
		if span := times[i+most].Sub(times[i]); span < time.Minute {
			t.Fatalf("%s: %d requests within %s", name, most+1, span)
		}
	}
}

func TestAPersonHurriesWhatWasAskedInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", knows(layla))
		d := directory(t, c)
		for i := range 50 { // the half of the budget that is not kept for people
			d.Find(t.Context(), crm.Query{Number: mobile(i), Priority: crm.Background})
		}
		var background sync.WaitGroup
		background.Go(func() {
			q := ask
			q.Priority = crm.Background
			want(t, d.Find(t.Context(), q), crm.Found, "a/c1")
		})
		synctest.Wait()
		before := u.requests()
		start := time.Now()
		want(t, d.Find(t.Context(), ask), crm.Found, "a/c1")
		if took := time.Since(start); took != 0 || u.requests() != before+1 {
			t.Errorf("a person waited %s, with %d requests, for what background work had asked", took, u.requests()-before)
		}
		background.Wait()
	})
}

func TestCallersWithLittleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", slowly(400*time.Millisecond, knows(layla)))
		d := directory(t, c)
		find := func(n phone.Number, wait time.Duration) (crm.Result, time.Duration) {
			start := time.Now()
			got := d.Find(t.Context(), crm.Query{Number: n, Wait: wait})
			return got, time.Since(start)
		}
		if got, took := find(ask.Number, -1); got.State != crm.Unknown || took != 0 {
			t.Errorf("who does not wait got %s after %s", got.State, took)
		}
		pass(time.Second)
		if got, took := find(ask.Number, -1); got.State != crm.Found || took != 0 {
			t.Errorf("what was asked by one who did not wait is %s after %s", got.State, took)
		}
		// Three wait in vain; from then on nobody with as little time does.
		u.becomes(slowly(400*time.Millisecond, knows()))
		for i, want := range []int64{150, 150, 150, 0, 0} {
			if _, took := find(mobile(i), 150*time.Millisecond); took.Milliseconds() != want {
				t.Errorf("look-up %d took %s, want %d ms", i, took, want)
			}
		}
		pass(time.Second)
		// Once the account is quick, they wait again.
		u.becomes(slowly(10*time.Millisecond, knows(layla)))
		find(mobile(10), 150*time.Millisecond)
		pass(time.Second)
		if _, took := find(mobile(11), 150*time.Millisecond); took != 10*time.Millisecond {
			t.Errorf("with a quick account it took %s", took)
		}
	})
}

func TestConnectionsAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := account(t, "a", knows(layla))
		b, _ := account(t, "b", dead)
		d := directory(t, a, b)
		for i := range 3 {
			d.Find(t.Context(), crm.Query{Number: mobile(i), Connections: []string{"b"}})
		}
		want(t, d.Find(t.Context(), ask), crm.Found, "a/c1")
		other, u := account(t, "a", knows())
		other.Fingerprint = "other settings"
		d.SetConnections([]*crm.Connection{b, other})
		if s := d.Status(t.Context()); len(s) != 2 || s[0].Name != "a" || !s[1].Open {
			t.Errorf("the connection that stayed lost its state: %+v", s)
		}
		want(t, d.Find(t.Context(), crm.Query{Number: ask.Number, Connections: []string{"a"}}), crm.None)
		if u.requests() == 0 {
			t.Error("the answer of another account was given")
		}
		d.SetConnections(nil)
		want(t, d.Find(t.Context(), ask), crm.None)
	})
}

func TestADriverThatPanicsHasFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := account(t, "a", func(*http.Request) reply { panic("no") })
		want(t, directory(t, c).Find(t.Context(), ask), crm.Unknown)
	})
}

func TestAfterItsEndADirectoryAnswersFromTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, u := account(t, "a", knows(layla))
		d := crm.NewDirectory(crm.Options{Cache: cache.NewMemory(time.Now)})
		d.SetConnections([]*crm.Connection{c})
		want(t, d.Find(t.Context(), ask), crm.Found, "a/c1")
		u.becomes(hangs)
		ctx, cancel := context.WithCancel(t.Context())
		asked := make(chan crm.Result)
		go func() { asked <- d.Find(t.Context(), crm.Query{Number: mobile(1)}) }()
		synctest.Wait()
		start := time.Now()
		cancel()
		if err := d.Run(ctx); err != nil {
			t.Error(err)
		}
		want(t, <-asked, crm.Unknown)
		want(t, d.Find(t.Context(), crm.Query{Number: mobile(2)}), crm.Unknown)
		want(t, d.Find(t.Context(), ask), crm.Found, "a/c1")
		if took := time.Since(start); took != 0 {
			t.Errorf("ending took %s", took)
		}
	})
}

// checked is a client with a self-check.
type checked struct {
	client
	err error
}

func (c checked) Check(context.Context) error { return c.err }

func TestTestAsksWhateverIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wrong := &crm.Error{Kind: crm.Unauthorized, Message: "the key expired"}
		self := driver
		self.Open = func(_ integration.Settings, h *http.Client) (crm.Client, error) {
			return checked{client{h}, wrong}, nil
		}
		u := &upstream{answer: dead, times: map[string][]time.Time{}}
		c, err := crm.Open("a", "", "", self, nil, u)
		if err != nil {
			t.Fatal(err)
		}
		d := directory(t, c)
		for i := range 3 {
			d.Find(t.Context(), crm.Query{Number: mobile(i)})
		}
		u.becomes(knows(layla))
		check, answer, ok := d.Test(t.Context(), "a", ask.Number)
		if !ok || !errors.Is(check, wrong) || answer.State != crm.Found {
			t.Errorf("%t %v %+v", ok, check, answer)
		}
		if d.Status(t.Context())[0].Open {
			t.Error("it answered a test and is still left alone")
		}
		if _, answer, _ := d.Test(t.Context(), "a", phone.Number{}); answer.State != crm.Skipped {
			t.Errorf("a test without a number is %s", answer.State)
		}
		if _, _, ok := d.Test(t.Context(), "b", ask.Number); ok {
			t.Error("a connection that is not there was tested")
		}
	})
}
