package builtin_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"calltracker/crm"
	"calltracker/crm/crmtest"
	"calltracker/crm/kustomer"
	"calltracker/crm/zendesk"
	"calltracker/integration"
	"calltracker/phone"
	"calltracker/storage/cache"
)

// upstream is a CRM as an http.RoundTripper, so that it runs on the clock of a
// synctest bubble. It records the time of each request and enforces the rate limits
// of the real CRM.
type upstream struct {
	handler http.Handler
	limits  []limit

	mutex   sync.Mutex
	times   map[string][]time.Time // by limit
	limited int                    // requests over a limit
}

type limit struct {
	name     string
	requests int // in any minute
	counts   func(path string) bool
}

func (u *upstream) RoundTrip(req *http.Request) (*http.Response, error) {
	response := httptest.NewRecorder()
	if u.allows(req.URL.Path) {
		inbound := req.Clone(req.Context())
		inbound.RequestURI = req.URL.RequestURI()
		u.handler.ServeHTTP(response, inbound)
	} else {
		response.Header().Set("Retry-After", "30")
		response.WriteHeader(http.StatusTooManyRequests)
	}
	return response.Result(), nil
}

func (u *upstream) allows(path string) bool {
	u.mutex.Lock()
	defer u.mutex.Unlock()
	now, over := time.Now(), false
	for _, l := range u.limits {
		if !l.counts(path) {
			continue
		}
		times := append(u.times[l.name], now)
		u.times[l.name] = times
		over = over || len(times) > l.requests && now.Sub(times[len(times)-1-l.requests]) < time.Minute
	}
	if over {
		u.limited++
	}
	return !over
}

// TestBacklogStaysWithinDriverBudgets looks up the numbers of a backlog of calls, as
// the enrichment of calls does. Most numbers have no customer, so that each Kustomer
// lookup needs a search, which has the smallest budget.
func TestBacklogStaysWithinDriverBudgets(t *testing.T) {
	t.Parallel()
	const known, workers = 20, 16
	all := func(string) bool { return true }
	for _, tt := range []struct {
		name        string
		driver      crm.Driver
		settings    integration.Settings
		fake        func() (http.Handler, *crmtest.Upstream)
		limits      []limit
		backlog     int
		maxDuration time.Duration
	}{
		{
			name: "kustomer", driver: kustomer.Driver(), settings: integration.Settings{"base_url": "https://acme.api.kustomerapp.com", "org": "acme", "api_key": "key"},
			fake: func() (http.Handler, *crmtest.Upstream) {
				k := &crmtest.Kustomer{Key: "key"}
				return k, &k.Upstream
			},
			limits: []limit{
				{"organization", 1000, all},
				{"search", 100, func(path string) bool { return strings.HasSuffix(path, "/search") }},
			},
			backlog:     10_000,
			maxDuration: 120 * time.Minute, // 9,980 searches at 100 per minute take 100 minutes
		},
		{
			name: "zendesk", driver: zendesk.Driver(), settings: integration.Settings{"base_url": "https://acme.zendesk.com", "access_token": "token", "plan": "professional"},
			fake: func() (http.Handler, *crmtest.Upstream) {
				z := &crmtest.Zendesk{AccessToken: "token"}
				return z, &z.Upstream
			},
			limits:      []limit{{"account", 400, all}},
			backlog:     2_500,
			maxDuration: 9 * time.Minute, // 2,500 requests at 400 per minute take 6 minutes
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				handler, fake := tt.fake()
				for i := range known {
					fake.Add(crmtest.Person{ID: fmt.Sprint(1000 + i), Name: "Customer", Phones: []string{caller(i * tt.backlog / known).E164}})
				}
				u := &upstream{handler: handler, limits: tt.limits, times: map[string][]time.Time{}}
				connection, err := crm.Open(tt.name, "", "", tt.driver, tt.settings, u)
				if err != nil {
					t.Fatal(err)
				}
				directory := crm.NewDirectory(crm.Options{Cache: cache.NewMemory(time.Now)})
				directory.SetConnections([]*crm.Connection{connection})
				ctx, stop := context.WithCancel(t.Context())
				var running sync.WaitGroup
				running.Go(func() { _ = directory.Run(ctx) }) // always nil
				defer running.Wait()
				defer stop()

				start := time.Now()
				found := findAll(t, directory, tt.backlog, workers)
				if took := time.Since(start); took > tt.maxDuration {
					t.Errorf("the backlog took %s, want at most %s", took, tt.maxDuration)
				}
				if found != known || u.limited > 0 || len(fake.InvalidRequests()) > 0 {
					t.Errorf("found %d customers, want %d; %d rate-limited requests; invalid requests: %.3q", found, known, u.limited, fake.InvalidRequests())
				}
				for _, l := range tt.limits {
					times := u.times[l.name]
					for i := range max(len(times)-l.requests, 0) {
						if span := times[i+l.requests].Sub(times[i]); span < time.Minute {
							t.Fatalf("%s: %d requests within %s, want at least a minute", l.name, l.requests+1, span)
						}
					}
					t.Logf("%s: %d requests in %s", l.name, len(times), time.Since(start).Round(time.Second))
				}
			})
		})
	}
}

// findAll looks up all numbers of a backlog, repeats lookups that fail, and returns
// how many numbers have a customer.
func findAll(t *testing.T, directory *crm.Directory, backlog, workers int) (found int) {
	t.Helper()
	work, results := make(chan phone.Number), make(chan crm.State, backlog)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for number := range work {
				for {
					got := directory.Find(t.Context(), crm.Query{Number: number, Priority: crm.Background})
					if got.State != crm.Unknown {
						results <- got.State
						break
					}
					<-time.After(max(got.RetryAfter(), time.Second))
				}
			}
		})
	}
	for i := range backlog {
		work <- caller(i)
	}
	close(work)
	running.Wait()
	close(results)
	for state := range results {
		if state == crm.Found {
			found++
		}
	}
	return found
}

func caller(i int) phone.Number { return phone.Parse(fmt.Sprintf("+9715012%05d", i), "AE") }
