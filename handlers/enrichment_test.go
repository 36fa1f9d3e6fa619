package handlers_test

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

	"calltracker/crm"
	"calltracker/handlers"
	"calltracker/integration"
	"calltracker/phone"
	"calltracker/storage"
	"calltracker/storage/cache"
	"calltracker/storage/sqlstore"
)

// clerk is a CRM in memory, so that a fake clock reaches it: every number that
// does not end in 7 is a customer. It notes when it was asked.
type clerk struct {
	mutex sync.Mutex
	away  bool
	times []time.Time
}

func (c *clerk) RoundTrip(req *http.Request) (*http.Response, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.times = append(c.times, time.Now())
	if c.away {
		return nil, context.DeadlineExceeded
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("")), Request: req}, nil
}

func (c *clerk) leaves(away bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.away = away
}

func (c *clerk) asked() int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return len(c.times)
}

type clerkClient struct{ http *http.Client }

func (c clerkClient) FindCustomers(ctx context.Context, n phone.Number) ([]crm.Customer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://clerk.example/", nil)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, &crm.Error{Kind: crm.Unavailable, Message: "it is away", Err: err}
	}
	defer res.Body.Close()
	if strings.HasSuffix(n.E164, "7") {
		return nil, nil
	}
	return []crm.Customer{{ID: n.E164, Name: "Customer", MatchedBy: "phone"}}, nil
}

func (clerkClient) SearchURL(phone.Number) string { return "" }

// enriching is a store with calls, and an enricher at work on them. It has to be
// called in a bubble.
func enriching(t *testing.T, calls int, c *clerk) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.New(sqlstore.Options{DataDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	const savers = 32 // they share transactions
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
	connection, err := crm.Open("clerk", "", "", crm.Driver{
		Name: "clerk", Budgets: []crm.Budget{{Name: "requests", Requests: 1000, Per: time.Minute}},
		Open: func(_ integration.Settings, h *http.Client) (crm.Client, error) { return clerkClient{h}, nil },
	}, nil, c)
	if err != nil {
		t.Fatal(err)
	}
	directory := crm.NewDirectory(crm.Options{Cache: cache.NewMemory(time.Now)})
	directory.SetConnections([]*crm.Connection{connection})
	enricher := &handlers.LookupWorker{Store: store, Directory: directory, Now: time.Now, Logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() { _ = directory.Run(ctx) }) // always nil
	running.Go(func() { _ = enricher.Run(ctx) })  // always nil
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

// TestABacklogOfCallsKeepsInsideTheBudget enriches more calls of a real
// database than a minute allows, by a fast clock; package crm does so with 10,000
// look-ups and no database.
func TestABacklogOfCallsKeepsInsideTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 1_200
		c := &clerk{}
		store := enriching(t, calls, c)
		for range 60 {
			if <-time.After(time.Minute); c.asked() >= calls {
				break
			}
		}
		<-time.After(time.Minute)
		if got := states(t, store); got[storage.EnrichmentFound] != calls*9/10 || got[storage.EnrichmentNone] != calls/10 {
			t.Errorf("states: %v", got)
		}
		const most = 1000
		if len(c.times) != calls {
			t.Errorf("%d requests for %d calls", len(c.times), calls)
		}
		for i := range len(c.times) - most {
			if span := c.times[i+most].Sub(c.times[i]); span < time.Minute {
				t.Fatalf("%d requests within %s", most+1, span)
			}
		}
		t.Logf("%d calls in %s", calls, c.times[len(c.times)-1].Sub(c.times[0]))
	})
}

func TestACRMThatIsAwayForHoursDelaysAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const calls = 50
		c := &clerk{away: true}
		store := enriching(t, calls, c)
		<-time.After(6 * time.Hour)
		if got := states(t, store); got[storage.EnrichmentPending] != calls {
			t.Errorf("after hours: %v", got)
		}
		if n := c.asked(); n > 6*60*60/10 {
			t.Errorf("%d requests in six hours to a CRM that is away", n)
		}
		c.leaves(false)
		<-time.After(5 * time.Minute)
		if got := states(t, store); got[storage.EnrichmentFound] != calls*9/10 || got[storage.EnrichmentNone] != calls/10 {
			t.Errorf("after it came back: %v", got)
		}
	})
}
