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

// The document compiles without a warning about keys or numbers, the same each
// time, and its callers spread over its routes.
func TestDocument(t *testing.T) {
	const trackers = 20
	text, err := document(trackers, routesPerTracker)
	if err != nil {
		t.Fatal(err)
	}
	again, err := document(trackers, routesPerTracker)
	if err != nil || !bytes.Equal(text, again) {
		t.Errorf("the second document differs from the first (%v)", err)
	}
	_, set, problems := config.Load(text, config.JSON, keys)
	if set == nil {
		t.Fatal(problems)
	}
	for _, p := range problems {
		if !strings.Contains(p.Message, "never gets a call") { // conditions are rolled, so that happens
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
			t.Fatalf("no tracker %s", trackerID(i%trackers))
		}
		number := phone.Parse(caller, router.Region())
		if number.E164 == "" {
			t.Errorf("caller %q cannot be read", caller)
		}
		did, listed := router.FindDID(nationalDID(i%trackers, i%didsPerTracker))
		if !listed {
			t.Errorf("DID %q is not listed", did.Raw)
		}
		taken[router.Decide(rules.Facts{At: at, DID: did, Caller: number}).Route]++
	}
	if len(taken) < routesPerTracker*3/4 || taken["route-19"] > 1500 {
		t.Errorf("calls do not spread over the routes: %v", taken)
	}
}

// Each request is one that both calltracker and the ordinary handler understand.
func TestRequests(t *testing.T) {
	requests, err := startRequests(10, 200)
	if err != nil {
		t.Fatal(err)
	}
	callers := map[string]bool{}
	for _, q := range requests {
		head, body, _ := bytes.Cut(q.wire, []byte("\r\n\r\n"))
		_, contentType, _ := strings.Cut(string(head), "Content-Type: ")
		start, err := ziwo.ReadStart(contentType, "", body)
		if err != nil {
			t.Fatal(err)
		}
		number(q.callID, 42)
		want := ziwo.Start{DIDCalled: q.didCalled, Caller: start.Caller, CallID: callIDPrefix + callIDDigits}
		if diff := cmp.Diff(want, start); diff != "" {
			t.Errorf("start call (-want +got):\n%s", diff)
		}
		if !bytes.Contains(q.wire, []byte(callIDPrefix+"000000000042\r\n")) {
			t.Errorf("the callID was not changed in %q", q.wire)
		}
		callers[start.Caller] = true
	}
	if len(callers) != len(requests) {
		t.Errorf("%d different callers in %d requests", len(callers), len(requests))
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
	ordinary := ordinaryHandler()
	failing := func(after int64) http.Handler {
		var served atomic.Int64
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if served.Add(1) > after {
				http.Error(w, "no more", http.StatusServiceUnavailable)
				return
			}
			ordinary.ServeHTTP(w, r)
		})
	}
	tests := map[string]struct {
		handler http.Handler
		check   func(request, []byte) error
		during  time.Duration
		err     string // part of it; empty for none
	}{
		"the constant":           {handler: constant, check: checkConstant},
		"the ordinary handler":   {handler: ordinary, check: checkAnswer},
		"for a time":             {handler: ordinary, check: checkAnswer, during: 50 * time.Millisecond},
		"a status":               {handler: failing(0), check: checkAnswer, err: "503 Service Unavailable: \"no more"},
		"a status, later":        {handler: failing(30), check: checkAnswer, err: "503 Service Unavailable"},
		"another answer":         {handler: constant, check: checkAnswer, err: "not the answer to this request"},
		"a check that complains": {handler: constant, check: func(request, []byte) error { return errors.New("odd") }, err: "odd"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var served atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				served.Add(1)
				tt.handler.ServeHTTP(w, r)
			}))
			defer server.Close()
			r, err := load(t.Context(), server.Listener.Addr().String(), share(requests, 4), tt.during, tt.check)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.requests != served.Load() || r.latencies.TotalCount() != r.requests {
				t.Errorf("%d requests and %d latencies counted, %d served", r.requests, r.latencies.TotalCount(), served.Load())
			}
			if tt.during == 0 && r.requests != int64(len(requests)) {
				t.Errorf("%d requests in a warm-up of %d", r.requests, len(requests))
			}
			if r.took < tt.during || r.rate() <= 0 || r.latency(99) < r.latency(50) {
				t.Errorf("took %v, %.0f/s, p50 %v, p99 %v", r.took, r.rate(), r.latency(50), r.latency(99))
			}
		})
	}
}

func TestMiddle(t *testing.T) {
	tests := map[string]struct {
		figures []float64
		want    float64
	}{
		"one":  {[]float64{3}, 3},
		"odd":  {[]float64{9, 1, 2}, 2},
		"even": {[]float64{4, 1, 3, 2}, 2.5},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := middle(tt.figures); got != tt.want {
				t.Errorf("middle = %v, want %v", got, tt.want)
			}
		})
	}
}

// The engine's measure proves by itself that no route but the last takes its call.
func TestDecide(t *testing.T) {
	router, facts, err := unmatched(50)
	if err != nil {
		t.Fatal(err)
	}
	if got := router.Decide(facts).Route; got != "route-50" {
		t.Errorf("route %s, want the last", got)
	}
}
