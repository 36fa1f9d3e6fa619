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

// office is a CRM as a transport, so that a fast clock reaches it. It notes when
// each request came, and refuses those that come too soon after others, as the
// real one would.
type office struct {
	handler http.Handler
	limits  []limit

	mutex   sync.Mutex
	times   map[string][]time.Time // by limit
	refused int
}

type limit struct {
	name   string
	most   int // in any minute
	counts func(path string) bool
}

func (o *office) RoundTrip(req *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	if o.takes(req.URL.Path) {
		inbound := req.Clone(req.Context())
		inbound.RequestURI = req.URL.RequestURI()
		o.handler.ServeHTTP(answer, inbound)
	} else {
		answer.Header().Set("Retry-After", "30")
		answer.WriteHeader(http.StatusTooManyRequests)
	}
	return answer.Result(), nil
}

func (o *office) takes(path string) bool {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	now, full := time.Now(), false
	for _, l := range o.limits {
		if !l.counts(path) {
			continue
		}
		times := append(o.times[l.name], now)
		o.times[l.name] = times
		full = full || len(times) > l.most && now.Sub(times[len(times)-1-l.most]) < time.Minute
	}
	if full {
		o.refused++
	}
	return !full
}

// TestABacklogKeepsInsideTheBudgetsOfTheRealDrivers looks thousands of calls
// up, as the enrichment does, by a fast clock: in Kustomer 10,000. Nobody has most
// of the numbers, so that it has to be searched, which it allows least.
func TestABacklogKeepsInsideTheBudgetsOfTheRealDrivers(t *testing.T) {
	t.Parallel()
	const known, enrichers = 20, 16
	every := func(string) bool { return true }
	for _, tt := range []struct {
		name     string
		driver   crm.Driver
		settings integration.Settings
		upstream func() (http.Handler, *crmtest.Upstream)
		limits   []limit
		backlog  int
		longest  time.Duration
	}{
		{
			name: "kustomer", driver: kustomer.Driver(), settings: integration.Settings{"base_url": "https://acme.api.kustomerapp.com", "org": "acme", "api_key": "key"},
			upstream: func() (http.Handler, *crmtest.Upstream) {
				k := &crmtest.Kustomer{Key: "key"}
				return k, &k.Upstream
			},
			limits: []limit{
				{"organisation", 1000, every},
				{"search", 100, func(path string) bool { return strings.HasSuffix(path, "/search") }},
			},
			backlog: 10_000,
			longest: 120 * time.Minute, // 9,980 searches at 100 a minute are 100
		},
		{
			name: "zendesk", driver: zendesk.Driver(), settings: integration.Settings{"base_url": "https://acme.zendesk.com", "access_token": "token", "plan": "professional"},
			upstream: func() (http.Handler, *crmtest.Upstream) {
				z := &crmtest.Zendesk{AccessToken: "token"}
				return z, &z.Upstream
			},
			limits:  []limit{{"account", 400, every}},
			backlog: 2_500,
			longest: 9 * time.Minute, // 2,500 requests at 400 a minute are 6
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				handler, upstream := tt.upstream()
				for i := range known {
					upstream.Add(crmtest.Person{ID: fmt.Sprint(1000 + i), Name: "Known", Phones: []string{caller(i * tt.backlog / known).E164}})
				}
				o := &office{handler: handler, limits: tt.limits, times: map[string][]time.Time{}}
				connection, err := crm.Open(tt.name, "", "", tt.driver, tt.settings, o)
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
				found := enrich(t, directory, tt.backlog, enrichers)
				if took := time.Since(start); took > tt.longest {
					t.Errorf("it took %s", took)
				}
				if found != known || o.refused > 0 || len(upstream.InvalidRequests()) > 0 {
					t.Errorf("%d were found of %d; %d requests too soon; not understood: %.3q", found, known, o.refused, upstream.InvalidRequests())
				}
				for _, l := range tt.limits {
					times := o.times[l.name]
					for i := range max(len(times)-l.most, 0) {
						if span := times[i+l.most].Sub(times[i]); span < time.Minute {
							t.Fatalf("%s: %d requests within %s", l.name, l.most+1, span)
						}
					}
					t.Logf("%s: %d requests in %s", l.name, len(times), time.Since(start).Round(time.Second))
				}
			})
		})
	}
}

// enrich looks a backlog up until every number was answered for, and counts
// those that somebody has.
func enrich(t *testing.T, directory *crm.Directory, backlog, enrichers int) (found int) {
	t.Helper()
	work, results := make(chan phone.Number), make(chan crm.State, backlog)
	var working sync.WaitGroup
	for range enrichers {
		working.Go(func() {
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
	working.Wait()
	close(results)
	for state := range results {
		if state == crm.Found {
			found++
		}
	}
	return found
}

func caller(i int) phone.Number { return phone.Parse(fmt.Sprintf("+9715012%05d", i), "AE") }
