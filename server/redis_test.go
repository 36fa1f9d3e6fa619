package main

import (
	"strings"
	"testing"
	"time"

	"calltracker/server/httpapi"
	"calltracker/storage/cache"
	"calltracker/storage/storetest/redistest"
)

// serveShared is a server whose counters are in the Redis at address.
func serveShared(t *testing.T, address, prefix string) *harness {
	t.Helper()
	return serveWith(t, t.TempDir(), document, func(set *settings) {
		set.redisURL = address
		// A busy machine must not make a test count on its own.
		set.redis = cache.Options{Prefix: prefix, CountTimeout: time.Minute, ValueTimeout: time.Minute, ProbeEvery: time.Millisecond}
	})
}

// turn is the number that the rotating route rings first.
func (h *harness) turn() string {
	h.t.Helper()
	answer := h.startCall("sales", "start-key-old", "didCalled", "061234567", "queue", "support").want(h.t, 200).body
	_, rest, _ := strings.Cut(answer, `"number":"`)
	number, _, _ := strings.Cut(rest, `"`)
	return number
}

func TestReplicasRotateTogether(t *testing.T) {
	address, prefix := redistest.Address(t), redistest.Prefix()
	a, b := serveShared(t, address, prefix), serveShared(t, address, prefix)
	// Each on its own, both would begin with the first number.
	if got := [4]string{a.turn(), b.turn(), b.turn(), a.turn()}; got != [4]string{"0500000001", "0500000002", "0500000001", "0500000002"} {
		t.Errorf("two replicas rang %v", got)
	}
	for range 15 {
		a.startCall("sales", "wrong", "didCalled", "061234567").want(t, 401)
		b.startCall("sales", "wrong", "didCalled", "061234567").want(t, 401)
	}
	a.startCall("sales", "wrong", "didCalled", "061234567").want(t, 429)
	b.startCall("sales", "start-key-old", "didCalled", "061234567").want(t, 200)
}

func TestWithoutRedisCallsAreAnswered(t *testing.T) {
	server := redistest.Start(t)
	h := serveShared(t, server.URL(), "")
	state := func(metric, ready string) {
		t.Helper()
		if body := h.do(request{method: "GET", path: "/metrics"}).body; !strings.Contains(body, "calltracker_redis_up "+metric) {
			t.Errorf("calltracker_redis_up is not %s", metric)
		}
		got := h.do(request{method: "GET", path: "/readyz"}).want(t, 200)
		if r := into[httpapi.Readiness](t, got); r.Redis == nil || r.Redis.State != ready || r.Status != "ready" {
			t.Errorf("ready: %s", got.body)
		}
	}
	first := h.turn()
	state("1", "ok")
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "noticing that redis is away", func() bool { return !h.parts.redis.Up() })
	if second := h.turn(); second == first {
		t.Error("the rotation did not go on")
	}
	state("0", "failing")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "noticing that redis is back", h.parts.redis.Up)
	h.turn()
	state("1", "ok")
	if n := strings.Count(h.log.String(), "redis unavailable"); n != 1 {
		t.Errorf("the outage was logged %d times", n)
	}
}
