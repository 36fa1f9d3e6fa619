package main

import (
	"strings"
	"testing"
	"time"

	"calltracker/server/httpapi"
	"calltracker/storage/cache"
	"calltracker/storage/storetest/redistest"
)

// serveWithRedis starts a server whose counters are in the Redis at address.
func serveWithRedis(t *testing.T, address, prefix string) *harness {
	t.Helper()
	return serveWith(t, t.TempDir(), document, func(set *settings) {
		set.redisURL = address
		// Long timeouts prevent a fallback to local counters on a busy machine.
		set.redis = cache.Options{Prefix: prefix, CountTimeout: time.Minute, ValueTimeout: time.Minute, ProbeEvery: time.Millisecond}
	})
}

// rotate makes a call to the rotating route and returns the first number of the answer.
func (h *harness) rotate() string {
	h.t.Helper()
	answer := h.startCall("sales", "start-key-old", "didCalled", "061234567", "queue", "support").want(h.t, 200).body
	_, rest, _ := strings.Cut(answer, `"number":"`)
	number, _, _ := strings.Cut(rest, `"`)
	return number
}

func TestReplicasShareCounters(t *testing.T) {
	address, prefix := redistest.Address(t), redistest.Prefix()
	a, b := serveWithRedis(t, address, prefix), serveWithRedis(t, address, prefix)
	// With separate counters, both replicas would start with the first number.
	if got := [4]string{a.rotate(), b.rotate(), b.rotate(), a.rotate()}; got != [4]string{"0500000001", "0500000002", "0500000001", "0500000002"} {
		t.Errorf("first numbers %v, want the two numbers to alternate", got)
	}
	for range 15 {
		a.startCall("sales", "wrong", "didCalled", "061234567").want(t, 401)
		b.startCall("sales", "wrong", "didCalled", "061234567").want(t, 401)
	}
	a.startCall("sales", "wrong", "didCalled", "061234567").want(t, 429)
	b.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
}

func TestCallsAreAnsweredWithoutRedis(t *testing.T) {
	server := redistest.Start(t)
	h := serveWithRedis(t, server.URL(), "")
	checkState := func(metric, ready string) {
		t.Helper()
		if body := h.do(request{method: "GET", path: "/metrics"}).body; !strings.Contains(body, "calltracker_redis_up "+metric) {
			t.Errorf("metric calltracker_redis_up is not %s", metric)
		}
		got := h.do(request{method: "GET", path: "/readyz"}).want(t, 200)
		if r := into[httpapi.Readiness](t, got); r.Redis == nil || r.Redis.State != ready || r.Status != "ready" {
			t.Errorf("readiness %s, want Redis state %q", got.body, ready)
		}
	}
	first := h.rotate()
	checkState("1", "ok")
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "detection of the Redis outage", func() bool { return !h.parts.redis.Up() })
	if second := h.rotate(); second == first {
		t.Error("the rotation stopped without Redis")
	}
	checkState("0", "failing")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "detection of the Redis recovery", h.parts.redis.Up)
	h.rotate()
	checkState("1", "ok")
	if n := strings.Count(h.log.String(), "redis unavailable"); n != 1 {
		t.Errorf("outage logged %d times, want 1", n)
	}
}
