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

// patient has time-outs that a busy machine does not reach.
func patient(prefix string) cache.Options {
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

// inUse is a Redis that was found.
func inUse(t *testing.T, address string, o cache.Options) *cache.Redis {
	t.Helper()
	r := open(t, address, o)
	if r.Probe(t.Context()); !r.Up() {
		t.Fatal("redis is not in use")
	}
	return r
}

// passes lets real time pass: the clock of a Redis server cannot be set.
func passes(t *testing.T) func(time.Duration) {
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
		return inUse(t, address, patient(redistest.Prefix())), passes(t)
	})
}

// TestRedisAway holds Redis to the same behaviour when there is none.
func TestRedisAway(t *testing.T) {
	storetest.RunCache(t, func(t *testing.T) (storetest.Cache, func(time.Duration)) {
		c := &clock{at: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
		r := open(t, "redis://127.0.0.1:1", cache.Options{Now: c.now})
		r.Probe(t.Context())
		return r, c.pass
	})
}

func TestRedisIsSharedByReplicas(t *testing.T) {
	address, o := redistest.Address(t), patient(redistest.Prefix())
	o.Near = -1
	a, b := inUse(t, address, o), inUse(t, address, o)
	if got := [4]uint64{a.Next("k"), b.Next("k"), a.Next("k"), b.Next("k")}; got != [4]uint64{0, 1, 2, 3} {
		t.Errorf("two replicas counted %v", got)
	}
	a.Hit("k", time.Hour)
	if hits, _ := b.Hit("k", time.Hour); hits != 2 {
		t.Errorf("the second hit counted as %d", hits)
	}
	a.Set(t.Context(), "k", []byte("one"), time.Hour)
	if got, _ := b.Get(t.Context(), "k"); string(got) != "one" {
		t.Errorf("the other replica reads %q", got)
	}
	a.Set(t.Context(), "k", []byte("two"), time.Hour)
	if got, _ := b.Get(t.Context(), "k"); string(got) != "two" {
		t.Errorf("the other replica reads %q after a change", got)
	}
	for range 5 {
		a.TakeToken(t.Context(), "k", 10, time.Hour, 0)
		b.TakeToken(t.Context(), "k", 10, time.Hour, 0)
	}
	if a.TakeToken(t.Context(), "k", 10, time.Hour, 0) == 0 || b.TokensLeft(t.Context(), "k", 10, time.Hour) != 0 {
		t.Error("two replicas took more than one budget holds")
	}
}

func TestRedisPrefixesKeepApart(t *testing.T) {
	address := redistest.Address(t)
	a, b := inUse(t, address, patient(redistest.Prefix())), inUse(t, address, patient(redistest.Prefix()))
	a.Next("k")
	a.Set(t.Context(), "k", []byte("x"), time.Hour)
	if n := b.Next("k"); n != 0 {
		t.Errorf("another prefix counts from %d", n)
	}
	if got, ok := b.Get(t.Context(), "k"); ok {
		t.Errorf("another prefix reads %q", got)
	}
}

func TestRedisNearValuesAreNotAskedFor(t *testing.T) {
	c := &clock{at: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)}
	address, o := redistest.Address(t), patient(redistest.Prefix())
	o.Now, o.Near = c.now, 5*time.Second
	a, b := inUse(t, address, o), inUse(t, address, o)
	a.Set(t.Context(), "k", []byte("one"), time.Hour)
	b.Get(t.Context(), "k")
	a.Set(t.Context(), "k", []byte("two"), time.Hour)
	if got, _ := b.Get(t.Context(), "k"); string(got) != "one" {
		t.Errorf("a value that was just read is now %q: it was asked for again", got)
	}
	c.pass(5 * time.Second)
	if got, _ := b.Get(t.Context(), "k"); string(got) != "two" {
		t.Errorf("after a while it is still %q", got)
	}
}

// syncBuffer collects a log.
type syncBuffer struct {
	mutex sync.Mutex
	bytes bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.bytes.Write(p)
}

func (b *syncBuffer) lines() []string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return strings.Split(strings.TrimSpace(b.bytes.String()), "\n")
}

func TestRedisStoppedAndStarted(t *testing.T) {
	server, log := redistest.Start(t), &syncBuffer{}
	o := patient("")
	o.Near, o.Logger = -1, slog.New(slog.NewTextHandler(log, nil))
	r := inUse(t, server.URL(), o)
	r.Next("k")
	r.Next("k")
	r.Set(t.Context(), "k", []byte("kept"), time.Hour)
	for range 3 {
		r.TakeToken(t.Context(), "k", 5, time.Hour, 0)
	}
	if err := server.Stop(); err != nil {
		t.Fatal(err)
	}
	// Everything goes on from where Redis was, and the first failures take it out of use.
	if got := [3]uint64{r.Next("k"), r.Next("k"), r.Next("k")}; got != [3]uint64{2, 3, 4} {
		t.Errorf("without Redis it counts on with %v", got)
	}
	if r.Up() {
		t.Error("still in use after three failures in a row")
	}
	if got, _ := r.Get(t.Context(), "k"); string(got) != "kept" {
		t.Errorf("without Redis the value is %q", got)
	}
	if left := r.TokensLeft(t.Context(), "k", 5, time.Hour); left != 2 {
		t.Errorf("without Redis the budget holds %d of the 2 that were left", left)
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
	if got, _ := r.Get(t.Context(), "k"); string(got) != "kept" {
		t.Errorf("a Redis that came back empty made the value %q", got)
	}
	if lines := log.lines(); len(lines) != 3 || !strings.Contains(lines[0], "in use") || !strings.Contains(lines[1], "is away") || !strings.Contains(lines[2], "in use") {
		t.Errorf("logged, not each change once:\n%s", strings.Join(lines, "\n"))
	}
}

// TestRedisFrozen: a server that takes connections and never answers holds
// nobody up for longer than the time-out, and after a few failures not at all.
func TestRedisFrozen(t *testing.T) {
	server := redistest.Start(t)
	r := inUse(t, server.URL(), cache.Options{CountTimeout: 20 * time.Millisecond, ValueTimeout: 20 * time.Millisecond})
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		r.Next("k")
	}
	if r.Up() {
		t.Error("a frozen server is still in use")
	}
	// Whatever came in before or after: no number comes twice in a row.
	first := r.Next("k")
	if second := r.Next("k"); second != first+1 {
		t.Errorf("counted %d, then %d", first, second)
	}
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
	if r.Probe(t.Context()); !r.Up() {
		t.Error("not in use again")
	}
}

func TestRedisRunNoticesBothWays(t *testing.T) {
	server := redistest.Start(t)
	o := patient("")
	o.ProbeEvery = time.Millisecond
	changes := make(chan string, 8)
	o.Logger = slog.New(slog.NewTextHandler(lineWriter(func(line string) { changes <- line }), nil))
	r := open(t, server.URL(), o)
	if r.Up() {
		t.Error("in use before anybody looked")
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
		does func() error
		want string
	}{
		{nil, "in use"}, {server.Stop, "is away"}, {server.Start, "in use"},
	} {
		if step.does != nil {
			if err := step.does(); err != nil {
				t.Fatal(err)
			}
		}
		if line := <-changes; !strings.Contains(line, step.want) {
			t.Errorf("logged %q, want %q", line, step.want)
		}
	}
}

func TestRedisFullServerIsAway(t *testing.T) {
	server := redistest.Start(t)
	r := inUse(t, server.URL(), patient(""))
	send(t, server.URL(), "CONFIG SET maxmemory 1\r\n")
	for want := range uint64(4) {
		if got := r.Next("k"); got != want {
			t.Errorf("counted %d, want %d", got, want)
		}
	}
	if r.Probe(t.Context()); r.Up() {
		t.Error("a server that takes no writes is in use")
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
			t.Errorf("%q was taken", bad)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is in %q", err)
		}
	}
}
