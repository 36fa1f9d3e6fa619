package main

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"calltracker/config"
	"calltracker/phone"
	"calltracker/rules"
	"calltracker/ziwo"
)

func keys(string, string) (string, error) { return startKey, nil }

// The document is the same each time and compiles without warnings about keys or
// numbers. Its callers spread over its routes.
func TestDocument(t *testing.T) {
	const trackers = 20
	text, err := document(trackers, routesPerTracker)
	if err != nil {
		t.Fatal(err)
	}
	again, err := document(trackers, routesPerTracker)
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("second document differs from the first (error %v)", err)
	}
	_, set, problems := config.Load(text, config.JSON, keys)
	if set == nil {
		t.Fatal(problems)
	}
	for _, p := range problems {
		if !strings.Contains(p.Message, "never gets a call") { // expected: conditions are random
			t.Error(p)
		}
	}
	if got := len(set.Trackers()); got != trackers {
		t.Errorf("%d trackers, want %d", got, trackers)
	}
	taken := map[string]int{}
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for i, caller := range callers(2000) {
		router, ok := set.Router(trackerID(i % trackers))
		if !ok {
			t.Fatalf("tracker %s not found", trackerID(i%trackers))
		}
		number := phone.Parse(caller, router.Region())
		if number.E164 == "" {
			t.Errorf("caller %q is not a valid phone number", caller)
		}
		did, listed := router.FindDID(nationalDID(i%trackers, i%didsPerTracker))
		if !listed {
			t.Errorf("DID %q is not in the tracker", did.Raw)
		}
		taken[router.Decide(rules.Facts{At: at, DID: did, Caller: number}).Route]++
	}
	if len(taken) < routesPerTracker*3/4 || taken["route-19"] > 1500 {
		t.Errorf("calls per route = %v, want them spread over the routes", taken)
	}
}

// calltracker parses each request into the expected start call.
func TestRequests(t *testing.T) {
	requests, err := startRequests(10, 200)
	if err != nil {
		t.Fatal(err)
	}
	callers := map[string]bool{}
	for _, q := range requests {
		head, body, _ := bytes.Cut(q.wire, []byte("\r\n\r\n"))
		_, contentType, _ := strings.Cut(string(head), "Content-Type: ")
		start, err := ziwo.ParseStartRequest(contentType, "", body)
		if err != nil {
			t.Fatal(err)
		}
		writeDecimal(q.callID, 42)
		want := ziwo.StartRequest{DIDCalled: q.didCalled, Caller: start.Caller, CallID: callIDPrefix + callIDDigits}
		if diff := cmp.Diff(want, start); diff != "" {
			t.Errorf("start call (-want +got):\n%s", diff)
		}
		if !bytes.Contains(q.wire, []byte(callIDPrefix+"000000000042\r\n")) {
			t.Errorf("callID not replaced in %q", q.wire)
		}
		callers[start.Caller] = true
	}
	if len(callers) != len(requests) {
		t.Errorf("%d distinct callers in %d requests", len(callers), len(requests))
	}
}

func TestLoad(t *testing.T) {
	requests, err := startRequests(10, 40)
	if err != nil {
		t.Fatal(err)
	}
	constant, err := constantHandler()
	if err != nil {
		t.Fatal(err)
	}
	echoServer := echoHandler()
	failing := func(after int64) http.Handler {
		var served atomic.Int64
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if served.Add(1) > after {
				http.Error(w, "overloaded", http.StatusServiceUnavailable)
				return
			}
			echoServer.ServeHTTP(w, r)
		})
	}
	tests := map[string]struct {
		handler  http.Handler
		check    func(request, []byte) error
		duration time.Duration
		err      string // part of the expected error; empty: none
	}{
		"constant handler": {handler: constant, check: checkConstant},
		"echo handler":     {handler: echoServer, check: checkAnswer},
		"timed":            {handler: echoServer, check: checkAnswer, duration: 50 * time.Millisecond},
		"error status":     {handler: failing(0), check: checkAnswer, err: "503 Service Unavailable: \"overloaded"},
		"late error":       {handler: failing(30), check: checkAnswer, err: "503 Service Unavailable"},
		"wrong answer":     {handler: constant, check: checkAnswer, err: "answer does not match the request"},
		"failing check":    {handler: constant, check: func(request, []byte) error { return errors.New("check failed") }, err: "check failed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var served atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				served.Add(1)
				tt.handler.ServeHTTP(w, r)
			}))
			defer server.Close()
			r, err := load(t.Context(), server.Listener.Addr().String(), distribute(requests, 4), tt.duration, tt.check)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want an error containing %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.requests != served.Load() || r.latencies.TotalCount() != r.requests {
				t.Errorf("counted %d requests and %d latencies, want %d", r.requests, r.latencies.TotalCount(), served.Load())
			}
			if tt.duration == 0 && r.requests != int64(len(requests)) {
				t.Errorf("warm-up sent %d requests, want %d", r.requests, len(requests))
			}
			if r.elapsed < tt.duration || r.rate() <= 0 || r.latency(99) < r.latency(50) {
				t.Errorf("elapsed %v, %.0f requests/s, p50 %v, p99 %v", r.elapsed, r.rate(), r.latency(50), r.latency(99))
			}
		})
	}
}

func TestMedian(t *testing.T) {
	tests := map[string]struct {
		values []float64
		want   float64
	}{
		"one":  {[]float64{3}, 3},
		"odd":  {[]float64{9, 1, 2}, 2},
		"even": {[]float64{4, 1, 3, 2}, 2.5},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := median(tt.values); got != tt.want {
				t.Errorf("median = %v, want %v", got, tt.want)
			}
		})
	}
}

// Only the last route of the benchmarked tracker matches the benchmarked call.
func TestDecide(t *testing.T) {
	router, facts, err := unmatchedCall(50)
	if err != nil {
		t.Fatal(err)
	}
	if got := router.Decide(facts).Route; got != "route-50" {
		t.Errorf("route %s, want route-50", got)
	}
}
