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

// The site that looks callers up, and its CRM.
const (
	deskSite   = "desk"
	deskOrigin = "https://desk.example.com"
	deskCRM    = "kustomer"
	deskKey    = "bench-kustomer-key"
)

// Sizes of the measurements of the pop-up.
const (
	ringing      = 96 // callers who are known: as many as the CRM may be asked about at once
	manyAgents   = 1000
	slowAnswer   = 300 * time.Millisecond // of the CRM, so that a thousand agents ask before it answered
	askEvery     = 20 * time.Millisecond  // one agent asks about a new caller, while start calls are measured
	askersAtOnce = 64
)

// kustomer is a CRM of this process. Its address is that of a server that ends
// with close.
func kustomer() (crm *crmtest.Kustomer, address string, stop func(), err error) {
	crm = &crmtest.Kustomer{Key: deskKey}
	for i := range ringing {
		crm.Put(crmtest.Person{ID: fmt.Sprint(50_000 + i), Name: fmt.Sprintf("Caller %d", i), Phones: []string{ringingNumber(i)}, Tags: []string{"vip"}})
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	server := &http.Server{Handler: crm, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // ends with close
	return crm, "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

func ringingNumber(i int) string { return fmt.Sprintf("+9715055%05d", i) }

// desk adds a site that looks its callers up in the CRM at an address.
func desk(crm string) extension {
	return func(doc *configuration) {
		doc.Connections = map[string]connection{deskCRM: {Driver: deskCRM, Settings: map[string]string{"base_url": crm, "org": "acme", "api_key": deskKey}}}
		doc.Sites[deskSite] = site{Origins: []string{deskOrigin}, Jorel: &jorel{"aldebaran", "AE"}, Popup: &popup{[]string{deskCRM}}}
	}
}

// deskTokens are tokens for the pages of agents, which differ.
func deskTokens(ctx context.Context, address string, n int) ([]string, error) {
	tokens := make([]string, n)
	for i := range tokens {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost,
			fmt.Sprintf("http://%s/api/v1/sites/%s/token?ttl=%d", address, deskSite, 3600+i), http.NoBody)
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
			return nil, fmt.Errorf("a token of site %s: %s, %w", deskSite, res.Status, err)
		}
		tokens[i] = answer.Token
	}
	return tokens, nil
}

// askRequest asks for a caller's page as the script of the site does.
func askRequest(token, number string) request {
	var wire bytes.Buffer
	fmt.Fprintf(&wire, "GET /crm/url?site=%s&number=%s&token=%s HTTP/1.1\r\nHost: calls.example.com\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nOrigin: %s\r\nReferer: %[4]s/\r\n\r\n",
		deskSite, url.QueryEscape(number), url.QueryEscape(token), deskOrigin)
	return request{wire: wire.Bytes(), didCalled: number}
}

// checkCaller tells whether a body has the one customer of the request.
func checkCaller(q request, body []byte) error {
	var a struct{ Status, URL, Number string }
	if err := json.Unmarshal(body, &a); err != nil {
		return err
	}
	if a.Status != "found" || a.Number != q.didCalled || a.URL == "" {
		return errors.New("not the page of this caller")
	}
	return nil
}

// popup compares look-ups of callers who are cached with start calls. Each has a
// server of its own: one goes on recording the decisions of a flood for some time,
// which would count in the turn of the other.
func (b *bench) popup(ctx context.Context) error {
	_, crm, stop, err := kustomer()
	if err != nil {
		return err
	}
	defer stop()
	calls, err := startRequests(b.trackers, callerPool)
	if err != nil {
		return err
	}
	ours, err := b.loaded(ctx, b.trackers, routesPerTracker, desk(crm))
	if err != nil {
		return err
	}
	defer ours.stop()
	asked, err := b.loaded(ctx, b.trackers, routesPerTracker, desk(crm))
	if err != nil {
		return err
	}
	defer asked.stop()
	tokens, err := deskTokens(ctx, asked.address, connections)
	if err != nil {
		return err
	}
	asks := make([]request, ringing)
	for i := range asks {
		asks[i] = askRequest(tokens[i%connections], ringingNumber(i))
	}
	results, err := b.compete(ctx, []contender{
		{name: "calltracker, startCall", process: ours, clients: share(calls, connections), check: checkAnswer, records: true},
		{name: "calltracker, /crm/url of cached callers", process: asked, clients: share(asks, connections), check: checkCaller},
	})
	if err != nil {
		return err
	}
	rate := median(results, func(r []result) float64 { return r[1].rate() / r[0].rate() })
	b.add("/crm/url from the cache, requests/s against startCall", fmt.Sprintf("%.2f", rate), ">= 0.80", rate >= 0.8)
	return nil
}

// popupHanging compares start calls while agents ask a CRM that hangs with start
// calls while they ask one that answers.
func (b *bench) popupHanging(ctx context.Context) error {
	calls, err := startRequests(b.trackers, callerPool)
	if err != nil {
		return err
	}
	hanging, stop, err := b.ringing(ctx, calls, true)
	if err != nil {
		return err
	}
	defer stop()
	answering, stop, err := b.ringing(ctx, calls, false)
	if err != nil {
		return err
	}
	defer stop()
	results, err := b.compete(ctx, []contender{hanging, answering})
	if err != nil {
		return err
	}
	slow := median(results, func(r []result) float64 { return float64(r[0].latency(99)) / float64(r[1].latency(99)) })
	b.add("startCall, p99 while the CRM hangs against while it answers", fmt.Sprintf("%.2f", slow), "< 1.10", slow < 1.1)
	return nil
}

// ringing is a contender whose agents ask a CRM about new callers meanwhile. It
// ends with stop.
func (b *bench) ringing(ctx context.Context, calls []request, hangs bool) (c contender, stop func(), err error) {
	crm, address, closeCRM, err := kustomer()
	if err != nil {
		return c, nil, err
	}
	c = contender{name: "startCall, while the CRM answers", clients: share(calls, connections), check: checkAnswer, records: true}
	if hangs {
		c.name = "startCall, while the CRM hangs"
		crm.Break(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	}
	if c.process, err = b.loaded(ctx, b.trackers, routesPerTracker, desk(address)); err != nil {
		closeCRM()
		return c, nil, err
	}
	stop = func() {
		c.process.stop()
		closeCRM()
	}
	tokens, err := deskTokens(ctx, c.process.address, 1)
	if err != nil {
		stop()
		return c, nil, err
	}
	c.beside = agents(c.process.address, tokens[0])
	return c, stop, nil
}

// agents ask about one new caller after the other, whatever became of those
// before: phones ring on.
func agents(address, token string) func(context.Context) {
	next := 0
	return func(ctx context.Context) {
		ring := time.NewTicker(askEvery)
		defer ring.Stop()
		asking := make(chan struct{}, askersAtOnce)
		var all sync.WaitGroup
		defer all.Wait()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ring.C:
			}
			next++
			asked := fmt.Sprintf("+9715066%05d", next)
			select {
			case asking <- struct{}{}:
				all.Go(func() {
					_ = ask(ctx, address, token, asked) // it is the start calls that are measured
					<-asking
				})
			default:
			}
		}
	}
}

func ask(ctx context.Context, address, token, number string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/crm/url?site=%s&number=%s&token=%s",
		address, deskSite, url.QueryEscape(number), url.QueryEscape(token)), http.NoBody)
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

// popupFlood counts what a CRM is asked when the phone of a thousand agents rings
// with the same new caller.
func (b *bench) popupFlood(ctx context.Context) error {
	crm, address, stop, err := kustomer()
	if err != nil {
		return err
	}
	defer stop()
	p, err := b.loaded(ctx, fewTrackers, routesForGrowth, desk(address))
	if err != nil {
		return err
	}
	defer p.stop()
	tokens, err := deskTokens(ctx, p.address, 1)
	if err != nil {
		return err
	}
	crm.Delay(slowAnswer)
	failed := make(chan error, manyAgents)
	var all sync.WaitGroup
	for range manyAgents {
		all.Go(func() { failed <- ask(ctx, p.address, tokens[0], ringingNumber(0)) })
	}
	all.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return fmt.Errorf("one of %d agents: %w", manyAgents, err)
		}
	}
	requests := len(crm.Requests())
	b.add(fmt.Sprintf("requests to the CRM when %d agents ask about one caller", manyAgents), fmt.Sprint(requests), "1", requests == 1)
	return nil
}
