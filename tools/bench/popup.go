package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"calltracker/crm/crmtest"
)

// The site with a pop-up and its CRM.
const (
	popupSite   = "desk"
	popupOrigin = "https://desk.example.com"
	popupCRM    = "kustomer"
	popupCRMKey = "bench-kustomer-key"
)

// Sizes of the measurements of the pop-up.
const (
	knownCallers     = 96 // as many as the budget of the CRM allows in a burst
	manyAgents       = 1000
	slowAnswer       = 300 * time.Millisecond // of the CRM; long enough for a thousand agents to ask first
	ringEvery        = 20 * time.Millisecond  // between new callers while start calls are measured
	maxPopupRequests = 64                     // in flight while start calls are measured
)

// startKustomer starts a simulated Kustomer in this process. The caller must call
// stop.
func startKustomer() (crm *crmtest.Kustomer, address string, stop func(), err error) {
	crm = &crmtest.Kustomer{Key: popupCRMKey}
	for i := range knownCallers {
		crm.Add(crmtest.Person{ID: fmt.Sprint(50_000 + i), Name: fmt.Sprintf("Caller %d", i), Phones: []string{knownCaller(i)}, Tags: []string{"vip"}})
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	server := &http.Server{Handler: crm, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // returns when stop is called
	return crm, "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

// knownCaller returns the phone number of a customer in the CRM.
func knownCaller(i int) string { return fmt.Sprintf("+9715055%05d", i) }

// withPopup adds a site whose pop-up searches the CRM at an address.
func withPopup(crm string) extension {
	return func(doc *configuration) {
		doc.Connections = map[string]connection{popupCRM: {Driver: popupCRM, Settings: map[string]string{"base_url": crm, "org": "acme", "api_key": popupCRMKey}}}
		doc.Sites[popupSite] = site{Origins: []string{popupOrigin}, Jorel: &jorel{"aldebaran", "AE"}, Popup: &popup{[]string{popupCRM}}}
	}
}

// popupTokens returns n distinct site tokens for the pages of agents.
func popupTokens(ctx context.Context, address string, n int) ([]string, error) {
	tokens := make([]string, n)
	for i := range tokens {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost,
			fmt.Sprintf("http://%s/api/v1/sites/%s/token?ttl=%d", address, popupSite, 3600+i), http.NoBody)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+adminToken)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		var answer struct{ Token string }
		err = json.NewDecoder(res.Body).Decode(&answer)
		_ = res.Body.Close()
		if err != nil || answer.Token == "" {
			return nil, fmt.Errorf("create token of site %s: %s, %w", popupSite, res.Status, err)
		}
		tokens[i] = answer.Token
	}
	return tokens, nil
}

// popupRequest returns the request of the site's script for the page of a caller.
func popupRequest(token, number string) request {
	var wire bytes.Buffer
	fmt.Fprintf(&wire, "GET /crm/url?site=%s&number=%s&token=%s HTTP/1.1\r\nHost: calls.example.com\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nOrigin: %s\r\nReferer: %[4]s/\r\n\r\n",
		popupSite, url.QueryEscape(number), url.QueryEscape(token), popupOrigin)
	return request{wire: wire.Bytes(), didCalled: number}
}

// checkCaller returns an error unless a body has the customer of the request.
func checkCaller(q request, body []byte) error {
	var a struct{ Status, URL, Number string }
	if err := json.Unmarshal(body, &a); err != nil {
		return err
	}
	if a.Status != "found" || a.Number != q.didCalled || a.URL == "" {
		return errors.New("answer does not match the caller")
	}
	return nil
}

// popup compares cached caller lookups with start calls. Each has its own server,
// because a server continues to record decisions after its turn, which would be
// measured in the next one.
func (b *bench) popup(ctx context.Context) error {
	_, crm, stop, err := startKustomer()
	if err != nil {
		return err
	}
	defer stop()
	calls, err := startRequests(b.trackers, callerPool)
	if err != nil {
		return err
	}
	callServer, err := b.startConfigured(ctx, b.trackers, routesPerTracker, withPopup(crm))
	if err != nil {
		return err
	}
	defer callServer.stop()
	popupServer, err := b.startConfigured(ctx, b.trackers, routesPerTracker, withPopup(crm))
	if err != nil {
		return err
	}
	defer popupServer.stop()
	tokens, err := popupTokens(ctx, popupServer.address, connections)
	if err != nil {
		return err
	}
	requests := make([]request, knownCallers)
	for i := range requests {
		requests[i] = popupRequest(tokens[i%connections], knownCaller(i))
	}
	results, err := b.runRounds(ctx, []contender{
		{name: "calltracker, startCall", process: callServer, clients: distribute(calls, connections), check: checkAnswer, records: true},
		{name: "calltracker, /crm/url of cached callers", process: popupServer, clients: distribute(requests, connections), check: checkCaller},
	})
	if err != nil {
		return err
	}
	rate := medianOfRounds(results, func(r []result) float64 { return r[1].rate() / r[0].rate() })
	b.add("/crm/url from the cache, requests/s against startCall", fmt.Sprintf("%.2f", rate), ">= 0.80", rate >= 0.8)
	return nil
}

// popupHanging compares start calls during pop-up requests to a CRM that hangs with
// start calls during pop-up requests to a CRM that answers.
func (b *bench) popupHanging(ctx context.Context) error {
	calls, err := startRequests(b.trackers, callerPool)
	if err != nil {
		return err
	}
	hanging, stop, err := b.popupContender(ctx, calls, true)
	if err != nil {
		return err
	}
	defer stop()
	answering, stop, err := b.popupContender(ctx, calls, false)
	if err != nil {
		return err
	}
	defer stop()
	results, err := b.runRounds(ctx, []contender{hanging, answering})
	if err != nil {
		return err
	}
	p99 := medianOfRounds(results, func(r []result) float64 { return float64(r[0].latency(99)) / float64(r[1].latency(99)) })
	b.add("startCall, p99 while the CRM hangs against while it answers", fmt.Sprintf("%.2f", p99), "< 1.10", p99 < 1.1)
	return nil
}

// popupContender returns a contender that serves start calls while agents request
// pop-ups for new callers. The caller must call stop.
func (b *bench) popupContender(ctx context.Context, calls []request, hangs bool) (c contender, stop func(), err error) {
	crm, address, closeCRM, err := startKustomer()
	if err != nil {
		return c, nil, err
	}
	c = contender{name: "startCall, while the CRM answers", clients: distribute(calls, connections), check: checkAnswer, records: true}
	if hangs {
		c.name = "startCall, while the CRM hangs"
		crm.SetFault(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	}
	if c.process, err = b.startConfigured(ctx, b.trackers, routesPerTracker, withPopup(address)); err != nil {
		closeCRM()
		return c, nil, err
	}
	stop = func() {
		c.process.stop()
		closeCRM()
	}
	tokens, err := popupTokens(ctx, c.process.address, 1)
	if err != nil {
		stop()
		return c, nil, err
	}
	c.background = ringPhones(c.process.address, tokens[0])
	return c, stop, nil
}

// ringPhones returns a function that requests a pop-up for a new caller at a fixed
// rate, whether or not the earlier ones were answered.
func ringPhones(address, token string) func(context.Context) {
	next := 0
	return func(ctx context.Context) {
		ring := time.NewTicker(ringEvery)
		defer ring.Stop()
		slots := make(chan struct{}, maxPopupRequests)
		var all sync.WaitGroup
		defer all.Wait()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ring.C:
			}
			next++
			caller := fmt.Sprintf("+9715066%05d", next)
			select {
			case slots <- struct{}{}:
				all.Go(func() {
					_ = requestPopup(ctx, address, token, caller) // only start calls are measured
					<-slots
				})
			default:
			}
		}
	}
}

// requestPopup requests a pop-up and checks the answer.
func requestPopup(ctx context.Context, address, token, number string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/crm/url?site=%s&number=%s&token=%s",
		address, popupSite, url.QueryEscape(number), url.QueryEscape(token)), http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200q", res.Status, body)
	}
	if err != nil {
		return err
	}
	return checkCaller(request{didCalled: number}, body)
}

// popupFlood counts the CRM requests when the phones of a thousand agents ring with
// the same new caller.
func (b *bench) popupFlood(ctx context.Context) error {
	crm, address, stop, err := startKustomer()
	if err != nil {
		return err
	}
	defer stop()
	p, err := b.startConfigured(ctx, fewTrackers, routesForGrowth, withPopup(address))
	if err != nil {
		return err
	}
	defer p.stop()
	tokens, err := popupTokens(ctx, p.address, 1)
	if err != nil {
		return err
	}
	crm.SetDelay(slowAnswer)
	failed := make(chan error, manyAgents)
	var all sync.WaitGroup
	for range manyAgents {
		all.Go(func() { failed <- requestPopup(ctx, p.address, tokens[0], knownCaller(0)) })
	}
	all.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return fmt.Errorf("pop-up for one of %d agents: %w", manyAgents, err)
		}
	}
	requests := len(crm.Requests())
	b.add(fmt.Sprintf("CRM requests when the phones of %d agents ring with one caller", manyAgents), fmt.Sprint(requests), "1", requests == 1)
	return nil
}
