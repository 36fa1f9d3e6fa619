package ziwo_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"calltracker/ziwo"
)

// failures is an http.RoundTripper that responds with each of its statuses once,
// and then with success.
type failures struct {
	statuses   []int
	retryAfter string
	requests   int
}

// RoundTrip implements http.RoundTripper.
func (f *failures) RoundTrip(req *http.Request) (*http.Response, error) {
	res := &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{}, Request: req,
		Body: io.NopCloser(strings.NewReader(`{"result":true,"content":{"username":"a"},"info":{}}`)),
	}
	if f.requests < len(f.statuses) {
		res.StatusCode = f.statuses[f.requests]
		res.Header.Set("Retry-After", f.retryAfter)
	}
	f.requests++
	return res, nil
}

func TestRetryDelays(t *testing.T) {
	profile := func(ctx context.Context, c *ziwo.Client) error {
		_, err := c.Profile(ctx)
		return err
	}
	for _, tc := range []struct {
		name       string
		statuses   []int
		retryAfter string
		deadline   time.Duration // 0 means none
		send       func(context.Context, *ziwo.Client) error
		kind       ziwo.ErrorKind // empty means success
		requests   int
		min, max   time.Duration // bounds of the total delay
	}{
		{name: "backoff", statuses: []int{500, 500}, send: profile, requests: 3, min: 2400 * time.Millisecond, max: 3600 * time.Millisecond},
		{name: "all attempts fail", statuses: []int{500, 500, 503}, send: profile, kind: ziwo.Unavailable, requests: 3, min: 2400 * time.Millisecond, max: 3600 * time.Millisecond},
		{name: "Retry-After", statuses: []int{429}, retryAfter: "10", send: profile, requests: 2, min: 10 * time.Second, max: 15 * time.Second},
		{name: "Retry-After of zero", statuses: []int{429}, retryAfter: "0", send: profile, requests: 2, min: 800 * time.Millisecond, max: 1200 * time.Millisecond},
		{name: "Retry-After beyond the limit", statuses: []int{429}, retryAfter: "21", send: profile, kind: ziwo.RateLimited, requests: 1},
		{name: "Retry-After beyond the deadline", statuses: []int{429}, retryAfter: "10", deadline: 5 * time.Second, send: profile, kind: ziwo.RateLimited, requests: 1},
		{name: "deadline during the second delay", statuses: []int{500, 500, 500}, deadline: 2300 * time.Millisecond, send: profile, kind: ziwo.Unavailable, requests: 2, min: 2300 * time.Millisecond, max: 2300 * time.Millisecond},
		{name: "permanent error", statuses: []int{404}, send: profile, kind: ziwo.NotFound, requests: 1},
		{
			name: "not a GET request", statuses: []int{500}, kind: ziwo.Unavailable, requests: 1,
			send: func(ctx context.Context, c *ziwo.Client) error { return c.DeleteTracker(ctx, "a") },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &failures{statuses: tc.statuses, retryAfter: tc.retryAfter}
				c, err := ziwo.NewClient(ziwo.ClientOptions{
					Name: "aldebaran", Backoff: time.Second, HTTP: &http.Client{Transport: server}, Credentials: ziwo.Credentials{AccessToken: "t"},
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx := t.Context()
				if tc.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.deadline)
					defer cancel()
				}
				start := time.Now()
				if err := tc.send(ctx, c); ziwo.KindOf(err) != tc.kind || (err == nil) != (tc.kind == "") {
					t.Errorf("got error %v, want kind %q", err, tc.kind)
				}
				if server.requests != tc.requests {
					t.Errorf("%d requests, want %d", server.requests, tc.requests)
				}
				if delay := time.Since(start); delay < tc.min || delay > tc.max {
					t.Errorf("total delay %v, want %v to %v", delay, tc.min, tc.max)
				}
			})
		})
	}
}

func TestCancelEndsRetryDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &failures{statuses: []int{429}, retryAfter: "10"}
		c, err := ziwo.NewClient(ziwo.ClientOptions{
			Name: "aldebaran", HTTP: &http.Client{Transport: server}, Credentials: ziwo.Credentials{AccessToken: "t"},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		start := time.Now()
		if _, err := c.Profile(ctx); ziwo.KindOf(err) != ziwo.RateLimited {
			t.Errorf("got error %v, want kind %s of the last attempt", err, ziwo.RateLimited)
		}
		if delay := time.Since(start); delay != time.Second {
			t.Errorf("Profile returned after %v, want 1s", delay)
		}
	})
}
