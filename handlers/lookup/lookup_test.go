package lookup_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/crm"
	"calltracker/handlers/lookup"
	"calltracker/integration"
	"calltracker/jobs"
	"calltracker/phone"
	"calltracker/storage"
	"calltracker/storage/cache"
	"calltracker/storage/sqlstore"
)

// fakeCRM is an in-process CRM, so that it uses the fake clock. Every number that does
// not end in 7 is a customer. It records the time of each request.
type fakeCRM struct {
	mu          sync.Mutex
	unavailable bool
	times       []time.Time
}

func (c *fakeCRM) RoundTrip(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.times = append(c.times, time.Now())
	if c.unavailable {
		return nil, context.DeadlineExceeded
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("")), Request: req}, nil
}

func (c *fakeCRM) setUnavailable(unavailable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unavailable = unavailable
}

func (c *fakeCRM) requests() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.times)
}

type fakeCRMClient struct{ http *http.Client }

func (c fakeCRMClient) FindCustomers(ctx context.Context, n phone.Number) ([]crm.Customer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://crm.example/", nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, &crm.Error{Kind: crm.Unavailable, Message: "unavailable", Err: err}
	}
	defer res.Body.Close()
	if strings.HasSuffix(n.E164, "7") {
		return nil, nil
	}
	return []crm.Customer{{ID: n.E164, Name: "Customer", MatchedBy: "phone"}}, nil
}

func (fakeCRMClient) SearchURL(phone.Number) string { return "" }

// startWorker returns a store with calls and starts a worker for it. It must be
// called in a synctest bubble.
func startWorker(t *testing.T, calls int, c *fakeCRM) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.New(sqlstore.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	const savers = 32 // concurrent saves share transactions
	var saving sync.WaitGroup
	for saver := range savers {
		saving.Go(func() {
			for i := saver; i < calls; i += savers {
				key, caller := fmt.Sprint("call-", i), fmt.Sprintf("+9715098%05d", i)
				if _, err := store.SaveCall(t.Context(), storage.ReceivedCDR{
					Call:   storage.Call{Key: key, CallID: key, Caller: caller, RawCaller: caller, Result: storage.Answered, ReceivedAt: time.Now()},
					Source: storage.FromEndCall, Raw: []byte(key),
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	saving.Wait()
	connection, err := crm.Open("fake", "", "", crm.Driver{
		Name: "fake", Budgets: []crm.Budget{{Name: "requests", Requests: 1000, Per: time.Minute}},
		Open: func(_ integration.Settings, h *http.Client) (crm.Client, error) { return fakeCRMClient{h}, nil },
	}, nil, c)
	if err != nil {
		t.Fatal(err)
	}
	directory := crm.NewDirectory(crm.Options{Cache: cache.NewMemory(time.Now)})
	directory.SetConnections([]*crm.Connection{connection})
	lookups := lookup.New(store, directory, time.Now)
	logger := slog.New(slog.DiscardHandler)
	runner, err := jobs.NewRunner(jobs.RunnerOptions{
		Store: store, Kinds: []jobs.Kind{lookups.Kind()}, Registry: prometheus.NewRegistry(), Now: time.Now, Logger: logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := lookups.Queue(t.Context()); err != nil || n != calls {
		t.Fatalf("%d lookups queued, want %d: %v", n, calls, err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = directory.Run(ctx) }) // always returns nil
	running.Go(func() { _ = runner.Run(ctx) })    // always returns nil
	t.Cleanup(func() {
		cancel()
		running.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func states(t *testing.T, store *sqlstore.Store) map[storage.EnrichmentState]int {
	t.Helper()
	count := map[storage.EnrichmentState]int{}
	if err := store.EachCall(t.Context(), storage.CallFilter{}, func(c storage.Call) error {
		count[c.Enrichment.State]++
		if c.Enrichment.State == storage.EnrichmentFound && (len(c.Customers) != 1 || c.Customers[0].ID != c.Caller) {
			t.Errorf("call of %s: customers %+v", c.Caller, c.Customers)
		}
		if want := map[storage.EnrichmentState]int{storage.EnrichmentFound: 1, storage.EnrichmentNone: 1}[c.Enrichment.State]; c.Enrichment.Attempts != want {
			t.Errorf("%s after %d attempts", c.Enrichment.State, c.Enrichment.Attempts)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return count
}

// TestLookupBacklogStaysWithinBudget looks up more calls of a real database than the
// budget of a minute allows, with a fake clock. Package crm tests 10,000 lookups without
// a database.
func TestLookupBacklogStaysWithinBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 1_200
		c := &fakeCRM{}
		store := startWorker(t, calls, c)
		for range 60 {
			if <-time.After(time.Minute); c.requests() >= calls {
				break
			}
		}
		<-time.After(time.Minute)
		if got := states(t, store); got[storage.EnrichmentFound] != calls*9/10 || got[storage.EnrichmentNone] != calls/10 {
			t.Errorf("states: %v", got)
		}
		const limit = 1000
		if len(c.times) != calls {
			t.Errorf("%d requests for %d calls", len(c.times), calls)
		}
		for i := range len(c.times) - limit {
			if span := c.times[i+limit].Sub(c.times[i]); span < time.Minute {
				t.Fatalf("%d requests within %s", limit+1, span)
			}
		}
		t.Logf("%d calls in %s", calls, c.times[len(c.times)-1].Sub(c.times[0]))
	})
}

func TestLookupsSurviveLongOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 50
		c := &fakeCRM{unavailable: true}
		store := startWorker(t, calls, c)
		<-time.After(6 * time.Hour)
		if got := states(t, store); got[storage.EnrichmentPending] != calls {
			t.Errorf("states during the outage: %v", got)
		}
		if n := c.requests(); n > 6*60*60/10 {
			t.Errorf("%d requests in six hours to an unavailable CRM", n)
		}
		c.setUnavailable(false)
		<-time.After(5 * time.Minute)
		if got := states(t, store); got[storage.EnrichmentFound] != calls*9/10 || got[storage.EnrichmentNone] != calls/10 {
			t.Errorf("states after the outage: %v", got)
		}
	})
}
