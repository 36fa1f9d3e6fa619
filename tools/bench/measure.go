package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/rules"
)

// startCall compares start calls of calltracker with both baselines.
func (b *bench) startCall(ctx context.Context) error {
	requests, err := startRequests(b.trackers, callerPool)
	if err != nil {
		return err
	}
	clients := distribute(requests, connections)
	server, err := b.startConfigured(ctx, b.trackers, routesPerTracker)
	if err != nil {
		return err
	}
	defer server.stop()
	echoServer, err := b.baseline(ctx, echoBaseline)
	if err != nil {
		return err
	}
	defer echoServer.stop()
	constantServer, err := b.baseline(ctx, constantBaseline)
	if err != nil {
		return err
	}
	defer constantServer.stop()

	results, err := b.runRounds(ctx, []contender{
		{name: fmt.Sprintf("calltracker, %d trackers of %d routes", b.trackers, routesPerTracker), process: server, clients: clients, check: checkAnswer, records: true},
		{name: "echo, FormValue, and c.JSON", process: echoServer, clients: clients, check: checkAnswer},
		{name: "net/http, constant answer", process: constantServer, clients: clients, check: checkConstant},
	})
	if err != nil {
		return err
	}
	rateAgainst := func(other int) float64 {
		return medianOfRounds(results, func(r []result) float64 { return r[0].rate() / r[other].rate() })
	}
	p99 := medianOfRounds(results, func(r []result) float64 { return float64(r[0].latency(99)) / float64(r[1].latency(99)) })
	b.add("startCall, requests/s against echo", fmt.Sprintf("%.2f", rateAgainst(1)), ">= 1.10", rateAgainst(1) >= 1.1)
	b.add("startCall, requests/s against net/http", fmt.Sprintf("%.2f", rateAgainst(2)), ">= 0.50", rateAgainst(2) >= 0.5)
	b.add("startCall, p99 against echo", fmt.Sprintf("%.2f", p99), "<= 1.00", p99 <= 1)
	return nil
}

// growth compares start calls with few trackers and with many.
func (b *bench) growth(ctx context.Context) error {
	var contenders []contender
	defer func() {
		for _, c := range contenders {
			c.process.stop()
		}
	}()
	for _, trackers := range []int{fewTrackers, manyTrackers} {
		p, err := b.startConfigured(ctx, trackers, routesForGrowth)
		if err != nil {
			return err
		}
		requests, err := startRequests(trackers, callerPool)
		if err != nil {
			p.stop()
			return err
		}
		contenders = append(contenders, contender{
			name: fmt.Sprintf("calltracker, %d trackers of %d routes", trackers, routesForGrowth), process: p,
			clients: distribute(requests, connections), check: checkAnswer, records: true,
		})
	}
	results, err := b.runRounds(ctx, contenders)
	if err != nil {
		return err
	}
	growth := medianOfRounds(results, func(r []result) float64 { return r[0].rate()/r[1].rate() - 1 })
	b.add(fmt.Sprintf("startCall, added cost with %d trackers instead of %d", manyTrackers, fewTrackers), fmt.Sprintf("%+.1f%%", 100*growth), "< +10%", growth < 0.1)
	return nil
}

// decide measures the routing engine alone.
func (b *bench) decide(context.Context) error {
	const routes = 1000
	router, facts, err := unmatchedCall(routes)
	if err != nil {
		return err
	}
	r := testing.Benchmark(func(t *testing.B) {
		t.ReportAllocs()
		for t.Loop() {
			router.Decide(facts)
		}
	})
	perCall := time.Duration(r.NsPerOp())
	b.add(fmt.Sprintf("Decide, %d routes that do not match", routes), perCall.String(), "< 20µs", perCall < 20*time.Microsecond)
	b.add("Decide, allocations", strconv.FormatInt(r.AllocsPerOp(), 10), "0", r.AllocsPerOp() == 0)
	return nil
}

// unmatchedCall returns a router and the facts of a call that only its last route
// matches, after the given number of routes.
func unmatchedCall(routes int) (*rules.Router, rules.Facts, error) {
	text, err := document(1, routes+1)
	if err != nil {
		return nil, rules.Facts{}, err
	}
	_, set, problems := config.Load(text, config.JSON, func(string, string) (string, error) { return startKey, nil })
	if set == nil {
		return nil, rules.Facts{}, fmt.Errorf("generated document: %v", problems.Errors())
	}
	router, ok := set.Router(trackerID(0))
	if !ok {
		return nil, rules.Facts{}, errors.New("generated document: no tracker")
	}
	at, err := time.Parse(time.RFC3339, unmatchedAt)
	if err != nil {
		return nil, rules.Facts{}, err
	}
	facts := rules.Facts{At: at, DID: phone.Parse(unmatchedDID, "AE"), Caller: phone.Parse(unmatchedCaller, "AE")}
	if _, trace := router.Explain(facts); len(trace) != routes+1 {
		return nil, rules.Facts{}, fmt.Errorf("route %v matches; only the last route may", trace[len(trace)-1])
	}
	return router, facts, nil
}

// start measures the time from the start of a process to its first answer, and its
// memory at that time.
func (b *bench) start(ctx context.Context) error {
	const file = "examples/quickstart.yaml"
	var seconds, memory []float64
	for range starts {
		begin := time.Now()
		p, err := b.startServer(ctx, nil, "--apply", file)
		if err != nil {
			return err
		}
		err = firstAnswer(ctx, p.address)
		seconds = append(seconds, time.Since(begin).Seconds())
		resident, memoryErr := p.residentMemory()
		p.stop()
		if err != nil {
			return err
		}
		if memoryErr == nil {
			memory = append(memory, float64(resident))
		}
	}
	first := time.Duration(median(seconds) * float64(time.Second)).Round(time.Millisecond)
	b.add("startup to first answer", first.String(), "< 300ms", first < 300*time.Millisecond)
	if len(memory) > 0 {
		resident := median(memory) / (1 << 20)
		b.add("resident memory after first answer", fmt.Sprintf("%.1f MB", resident), "< 60 MB", resident < 60)
	}
	return nil
}

// firstAnswer sends the start call of the example configuration.
func firstAnswer(ctx context.Context, address string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/callTrackers/sales/startCall", strings.NewReader("didCalled=061234567"))
	if err != nil {
		return err
	}
	req.Header.Set("X-API-Key", "quickstart-start-key")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("first start call: %s: %s", res.Status, body)
	}
	return err
}

// checkAnswer returns an error unless a body answers the request.
func checkAnswer(q request, body []byte) error {
	var a startAnswer
	if err := json.Unmarshal(body, &a); err != nil {
		return err
	}
	if !a.Result || a.Content.DIDCalled != q.didCalled || len(a.Content.Rules) != 2 || !a.Content.Voicemail {
		return errors.New("answer does not match the request")
	}
	return nil
}

func checkConstant(_ request, body []byte) error {
	if !bytes.HasPrefix(body, []byte(`{"result":true,`)) {
		return errors.New("unexpected answer")
	}
	return nil
}
