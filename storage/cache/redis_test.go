package cache_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"calltracker/storage/cache"
	"calltracker/storage/storetest"
	"calltracker/storage/storetest/redistest"
)

// longTimeouts returns options with timeouts that a busy machine does not reach.
func longTimeouts(prefix string) cache.Options {
	return cache.Options{Prefix: prefix, CountTimeout: time.Minute, ValueTimeout: time.Minute}
}

func open(t *testing.T, address string, o cache.Options) *cache.Redis {
	t.Helper()
	r, err := cache.NewRedis(address, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// openUp opens a Redis and probes it, so that the server is in use.
func openUp(t *testing.T, address string, o cache.Options) *cache.Redis {
	t.Helper()
	r := open(t, address, o)
	if r.Probe(t.Context()); !r.Up() {
		t.Fatal("Redis is not in use")
	}
	return r
}

// waitFor waits in real time, because the clock of a Redis server cannot be set.
func waitFor(t *testing.T) func(time.Duration) {
	return func(d time.Duration) {
		t.Helper()
		select {
		case <-time.After(d):
		case <-t.Context().Done():
		}
	}
}

func TestRedis(t *testing.T) {
	address := redistest.Address(t)
	storetest.RunCache(t, func(t *testing.T) (storetest.Cache, func(time.Duration)) {
		return openUp(t, address, longTimeouts(redistest.Prefix())), waitFor(t)
	})
}

// TestRedisUnavailable checks that Redis behaves the same without a server.
func TestRedisUnavailable(t *testing.T) {
	storetest.RunCache(t, func(t *testing.T) (storetest.Cache, func(time.Duration)) {
		c := &clock{at: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
		r := open(t, "redis://127.0.0.1:1", cache.Options{Now: c.now})
		r.Probe(t.Context())
		return r, c.advance
	})
}

func TestRedisSharesStateBetweenReplicas(t *testing.T) {
	address, o := redistest.Address(t), longTimeouts(redistest.Prefix())
	a, b := openUp(t, address, o), openUp(t, address, o)
	if got := [4]uint64{a.Next("k"), b.Next("k"), a.Next("k"), b.Next("k")}; got != [4]uint64{0, 1, 2, 3} {
		t.Errorf("two replicas counted %v, want 0 to 3", got)
	}
	a.CountInWindow("k", time.Hour)
	if count, _ := b.CountInWindow("k", time.Hour); count != 2 {
		t.Errorf("count of the second event is %d, want 2", count)
	}
	a.Set(t.Context(), "k", []byte("one"), time.Hour)
	if got, _ := b.Get(t.Context(), "k"); string(got) != "one" {
		t.Errorf("the other replica reads %q", got)
	}
	a.Set(t.Context(), "k", []byte("two"), time.Hour)
	if got, _ := b.Get(t.Context(), "k"); string(got) != "two" {
		t.Errorf("after a change the other replica reads %q", got)
	}
	for range 5 {
		a.TakeToken(t.Context(), "k", 10, time.Hour, 0)
		b.TakeToken(t.Context(), "k", 10, time.Hour, 0)
	}
	if a.TakeToken(t.Context(), "k", 10, time.Hour, 0) == 0 || b.TokensLeft(t.Context(), "k", 10, time.Hour) != 0 {
		t.Error("two replicas took more tokens than the budget holds")
	}
}

func TestRedisPrefixesAreSeparate(t *testing.T) {
	address := redistest.Address(t)
	a, b := openUp(t, address, longTimeouts(redistest.Prefix())), openUp(t, address, longTimeouts(redistest.Prefix()))
	a.Next("k")
	a.Set(t.Context(), "k", []byte("x"), time.Hour)
	if n := b.Next("k"); n != 0 {
		t.Errorf("another prefix starts counting at %d, want 0", n)
	}
	if got, ok := b.Get(t.Context(), "k"); ok {
		t.Errorf("another prefix reads %q", got)
	}
}

// syncBuffer collects a log.
type syncBuffer struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes.Write(p)
}

func (b *syncBuffer) lines() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Split(strings.TrimSpace(b.bytes.String()), "\n")
}

func TestRedisStoppedAndStarted(t *testing.T) {
	server, log := redistest.Start(t), &syncBuffer{}
	o := longTimeouts("")
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	r := openUp(t, server.URL(), o)
	r.Next("k")
	r.Next("k")
	r.Set(t.Context(), "k", []byte("cached"), time.Hour)
	for range 3 {
		r.TakeToken(t.Context(), "k", 5, time.Hour, 0)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	// The counter continues from its last value in Redis, and the first failures mark the server as unavailable.
	if got := [3]uint64{r.Next("k"), r.Next("k"), r.Next("k")}; got != [3]uint64{2, 3, 4} {
		t.Errorf("counts without Redis are %v, want 2 to 4", got)
	}
	if r.Up() {
		t.Error("still in use after three failures in a row")
	}
	if got, _ := r.Get(t.Context(), "k"); string(got) != "cached" {
		t.Errorf("without Redis the value is %q", got)
	}
	if left := r.TokensLeft(t.Context(), "k", 5, time.Hour); left != 2 {
		t.Errorf("without Redis the budget holds %d tokens, want 2", left)
	}
	r.Probe(t.Context())
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	r.Probe(t.Context())
	if !r.Up() {
		t.Error("not in use again")
	}
	r.Probe(t.Context())
	if got, _ := r.Get(t.Context(), "k"); string(got) != "cached" {
		t.Errorf("after Redis came back empty the value is %q", got)
	}
	if lines := log.lines(); len(lines) != 3 || !strings.Contains(lines[0], "redis available") || !strings.Contains(lines[1], "redis unavailable") || !strings.Contains(lines[2], "redis available") {
		t.Errorf("log does not have each change once:\n%s", strings.Join(lines, "\n"))
	}
}

// TestRedisFrozen checks that a server that accepts connections and never answers
// delays callers by no more than the timeout, and not at all after a few failures.
func TestRedisFrozen(t *testing.T) {
	server := redistest.Start(t)
	r := openUp(t, server.URL(), cache.Options{CountTimeout: 20 * time.Millisecond, ValueTimeout: 20 * time.Millisecond})
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		r.Next("k")
	}
	if r.Up() {
		t.Error("frozen server is still in use")
	}
	// Counting continues, whether or not the server received the earlier commands.
	first := r.Next("k")
	if second := r.Next("k"); second != first+1 {
		t.Errorf("counted %d, then %d, want consecutive numbers", first, second)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if r.Probe(t.Context()); !r.Up() {
		t.Error("not in use again")
	}
}

func TestRedisUnavailableFromTheStartIsLoggedOnce(t *testing.T) {
	log := &syncBuffer{}
	o := longTimeouts("")
	o.Logger = slog.New(slog.NewTextHandler(log, nil))
	r := open(t, "redis://127.0.0.1:1/0", o)
	for range 2 {
		r.Probe(t.Context())
	}
	if lines := log.lines(); len(lines) != 1 || !strings.Contains(lines[0], "redis unavailable") {
		t.Errorf("log does not have the outage once:\n%s", strings.Join(lines, "\n"))
	}
}

func TestRedisRunNoticesOutageAndReturn(t *testing.T) {
	server := redistest.Start(t)
	o := longTimeouts("")
	o.ProbeEvery = time.Millisecond
	changes := make(chan string, 8)
	o.Logger = slog.New(slog.NewTextHandler(lineWriter(func(line string) { changes <- line }), nil))
	r := open(t, server.URL(), o)
	if r.Up() {
		t.Error("in use before the first probe")
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	for _, step := range []struct {
		action func() error
		want   string
	}{
		{nil, "redis available"}, {server.Stop, "redis unavailable"}, {server.Start, "redis available"},
	} {
		if step.action != nil {
			if err := step.action(); err != nil {
				t.Fatal(err)
			}
		}
		if line := <-changes; !strings.Contains(line, step.want) {
			t.Errorf("logged %q, want %q", line, step.want)
		}
	}
}

func TestRedisFullServerIsUnavailable(t *testing.T) {
	server := redistest.Start(t)
	r := openUp(t, server.URL(), longTimeouts(""))
	send(t, server.URL(), "CONFIG SET maxmemory 1\r\n")
	for want := range uint64(4) {
		if got := r.Next("k"); got != want {
			t.Errorf("counted %d, want %d", got, want)
		}
	}
	if r.Probe(t.Context()); r.Up() {
		t.Error("a server that refuses writes is in use")
	}
}

func TestCheckURL(t *testing.T) {
	for _, good := range []string{
		"redis://localhost:6379", "redis://localhost", "rediss://user:secret@cache.example.com:6380/3", "unix:///run/redis.sock?db=2", "redis://[::1]:6379/1",
	} {
		if err := cache.CheckURL(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"x", "localhost:6379", "http://localhost:6379", "redis://", "redis://user:hunter2@host:port", "redis://:hunter2@host/database",
		"redis://:hunter2@host/1?nonsense=1", "redis://:hunter2@host\x00", "redis://:hunter2%zz@host",
	} {
		err := cache.CheckURL(bad)
		if err == nil {
			t.Errorf("%q was accepted", bad)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error contains the password: %q", err)
		}
	}
}
