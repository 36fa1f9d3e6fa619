package cache

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Redis shares its state between the replicas that use the same server and
// prefix. While the server is unavailable, slow, or full, Redis uses the memory of
// the process, as Memory does: no method fails, and none waits longer than its
// timeout in Options. It is safe for concurrent use. Create it with NewRedis, and
// start Run to watch the server.
type Redis struct {
	client   *redis.Client
	memory   *Memory
	o        Options
	up       atomic.Bool
	reported atomic.Bool  // the state has been logged at least once
	failures atomic.Int32 // failed commands in a row
}

// Options configures Redis. A zero value selects the default.
type Options struct {
	Prefix       string        // prefix of every key; default "calltracker:"
	CountTimeout time.Duration // timeout of Next and CountInWindow, which callers wait for; default 5 ms
	ValueTimeout time.Duration // timeout of all other methods; default 50 ms
	ProbeEvery   time.Duration // interval between the probes of Run; default 500 ms
	Now          func() time.Time
	Logger       *slog.Logger
}

const (
	probeTimeout = time.Second
	maxFailures  = 3       // consecutive failures at which the server counts as unavailable
	bufferBytes  = 4 << 10 // buffer size of a connection; values are small
	minPoolSize  = 32
)

// CheckURL reports what is wrong with the URL of a Redis server. The error does
// not contain the URL, which may hold a password.
func CheckURL(address string) error {
	_, err := parse(address)
	return err
}

func parse(address string) (*redis.Options, error) {
	u, err := url.Parse(address)
	if err != nil || !slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme) || u.Host == "" && u.Scheme != "unix" {
		return nil, errors.New("invalid Redis URL: use the form redis://user:password@host:6379/0, or rediss:// for TLS")
	}
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, errors.New("invalid port, database number or parameter in Redis URL: use the form redis://user:password@host:6379/0")
	}
	return o, nil
}

// NewRedis returns a Redis for the server at address. It does not connect. Until
// Probe or Run has reached the server, the state is in process memory.
func NewRedis(address string, o Options) (*Redis, error) {
	options, err := parse(address)
	if err != nil {
		return nil, err
	}
	if o.Prefix == "" {
		o.Prefix = "calltracker:"
	}
	if o.CountTimeout == 0 {
		o.CountTimeout = 5 * time.Millisecond
	}
	if o.ValueTimeout == 0 {
		o.ValueTimeout = 50 * time.Millisecond
	}
	if o.ProbeEvery == 0 {
		o.ProbeEvery = 500 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	logging.Disable() // the client logs hundreds of messages per outage that name no server; this package logs each change once
	options.MaxRetries, options.DialerRetries = -1, 1
	options.ContextTimeoutEnabled = true
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.PoolTimeout = probeTimeout, probeTimeout, probeTimeout, probeTimeout
	options.PoolSize, options.PipelinePoolSize = max(options.PoolSize, minPoolSize), -1
	options.ReadBufferSize, options.WriteBufferSize = bufferBytes, bufferBytes
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &Redis{client: redis.NewClient(options), memory: NewMemory(o.Now), o: o}, nil
}

// Up reports whether the server is in use.
func (r *Redis) Up() bool { return r.up.Load() }

// Run probes the server until ctx ends, so that calls do not have to discover that
// it became unavailable or available. It always returns nil.
func (r *Redis) Run(ctx context.Context) error {
	tick := time.NewTicker(r.o.ProbeEvery)
	defer tick.Stop()
	for {
		r.Probe(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Close closes the connections. From then on the state is in process memory.
func (r *Redis) Close() error {
	r.up.Store(false)
	return r.client.Close()
}

// Probe sends one command to the server, with a timeout of a second, and marks the
// server as available or unavailable. The command is a write, because a server that
// is full or read-only also answers a ping.
func (r *Redis) Probe(ctx context.Context) {
	attempt, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := r.client.Set(attempt, r.o.Prefix+"probe", 1, time.Minute).Err()
	switch {
	case ctx.Err() != nil: // the caller gave up; the server may be available
	case err != nil:
		r.markUnavailable(ctx, err)
	default:
		r.failures.Store(0)
		r.reported.Store(true)
		if r.up.CompareAndSwap(false, true) {
			r.o.Logger.LogAttrs(ctx, slog.LevelInfo, "redis available")
		}
	}
}

func (r *Redis) markUnavailable(ctx context.Context, err error) {
	lost := r.up.CompareAndSwap(true, false)
	if first := r.reported.CompareAndSwap(false, true); lost || first {
		r.o.Logger.LogAttrs(ctx, slog.LevelWarn, "redis unavailable; using process memory", slog.Any("error", err))
	}
}

// run runs a command with a timeout if the server is in use, and reports whether
// the server answered. After maxFailures failures in a row the server is no longer
// in use.
func (r *Redis) run(ctx context.Context, timeout time.Duration, command func(ctx context.Context) error) bool {
	if !r.up.Load() {
		return false
	}
	attempt, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := command(attempt)
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		if r.failures.Load() != 0 {
			r.failures.Store(0)
		}
		return true
	case ctx.Err() == nil && r.failures.Add(1) >= maxFailures:
		r.markUnavailable(ctx, err)
	}
	return false
}

// Next is Memory.Next, shared between replicas.
func (r *Redis) Next(key string) uint64 {
	var next int64
	ok := r.run(context.Background(), r.o.CountTimeout, func(ctx context.Context) (err error) {
		next, err = r.client.Incr(ctx, r.o.Prefix+"next:"+key).Result()
		return err
	})
	if !ok || next < 1 {
		return r.memory.Next(key)
	}
	r.memory.copyCounter(key, uint64(next))
	return uint64(next) - 1
}

// windowScript counts an event in the window that the first event opens.
var windowScript = redis.NewScript(`
local count = redis.call('INCR', KEYS[1])
local closes = redis.call('PTTL', KEYS[1])
if closes < 0 then
	redis.call('PEXPIRE', KEYS[1], ARGV[1])
	closes = tonumber(ARGV[1])
end
return {count, closes}`)

// CountInWindow is Memory.CountInWindow, shared between replicas.
func (r *Redis) CountInWindow(key string, length time.Duration) (count int, closesIn time.Duration) {
	var answer []int64
	ok := r.run(context.Background(), r.o.CountTimeout, func(ctx context.Context) (err error) {
		answer, err = windowScript.Run(ctx, r.client, []string{r.o.Prefix + "hits:" + key}, max(length.Milliseconds(), 1)).Int64Slice()
		return err
	})
	if !ok || len(answer) != 2 {
		return r.memory.CountInWindow(key, length)
	}
	return int(answer[0]), time.Duration(answer[1]) * time.Millisecond
}

// Get is Memory.Get, shared between replicas. If the server is unavailable or has
// lost the value, Get returns the one that this process read or wrote last.
func (r *Redis) Get(ctx context.Context, key string) ([]byte, bool) {
	var read *redis.StringCmd
	var ttl *redis.DurationCmd
	answered := r.run(ctx, r.o.ValueTimeout, func(ctx context.Context) error {
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			read, ttl = p.Get(ctx, r.o.Prefix+"value:"+key), p.PTTL(ctx, r.o.Prefix+"value:"+key)
			return nil
		})
		return err
	})
	if !answered || read.Err() != nil || ttl.Val() <= 0 {
		return r.memory.Get(ctx, key)
	}
	content, _ := read.Bytes() // read.Err was checked above
	r.memory.Set(ctx, key, content, ttl.Val())
	return content, true
}

// Set is Memory.Set, shared between replicas.
func (r *Redis) Set(ctx context.Context, key string, content []byte, ttl time.Duration) {
	r.memory.Set(ctx, key, content, ttl)
	r.run(ctx, r.o.ValueTimeout, func(ctx context.Context) error {
		if ttl <= 0 {
			return r.client.Del(ctx, r.o.Prefix+"value:"+key).Err()
		}
		return r.client.Set(ctx, r.o.Prefix+"value:"+key, content, max(ttl, time.Millisecond)).Err()
	})
}

// budgetScript is Memory's budget with the clock of the server, so that the clocks
// of the replicas need not agree. All times are in microseconds. Its arguments are
// size, every, leave and wait. With a wait above 0 it is Drain, otherwise with a
// leave of -1 it is TokensLeft, otherwise it is TakeToken. It returns the time until a token
// can be taken (0 if one was taken) and the time until the budget is full.
var budgetScript = redis.NewScript(`
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local size, every, leave, wait = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now)
local blocked = 0
if wait > 0 then
	full = math.max(full, now + wait + (size - 1) * every)
elseif leave >= 0 then
	blocked = math.max(0, full + every - now - (size - leave) * every)
	if blocked == 0 then full = full + every end
end
if full > now and (wait > 0 or leave >= 0 and blocked == 0) then
	redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
end
return {blocked, full - now}`)

// budget runs budgetScript. It reports false if the server did not answer.
func (r *Redis) budget(ctx context.Context, key string, size int, every time.Duration, leave int, wait time.Duration) (blocked, untilFull time.Duration, ok bool) {
	var answer []int64
	ok = r.run(ctx, r.o.ValueTimeout, func(ctx context.Context) (err error) {
		answer, err = budgetScript.Run(ctx, r.client, []string{r.o.Prefix + "budget:" + key},
			size, every.Microseconds(), leave, wait.Microseconds()).Int64Slice()
		return err
	})
	if !ok || len(answer) != 2 {
		return 0, 0, false
	}
	blocked, untilFull = time.Duration(answer[0])*time.Microsecond, time.Duration(answer[1])*time.Microsecond
	r.memory.copyBudget(key, untilFull)
	return blocked, untilFull, true
}

// TakeToken is Memory.TakeToken, shared between replicas.
func (r *Redis) TakeToken(ctx context.Context, key string, size int, every time.Duration, leave int) time.Duration {
	if blocked, _, ok := r.budget(ctx, key, size, every, max(leave, 0), 0); ok {
		return blocked
	}
	return r.memory.TakeToken(ctx, key, size, every, leave)
}

// Drain is Memory.Drain, shared between replicas.
func (r *Redis) Drain(ctx context.Context, key string, size int, every, wait time.Duration) {
	if wait <= 0 {
		return
	}
	if _, _, ok := r.budget(ctx, key, size, every, 0, wait); !ok {
		r.memory.Drain(ctx, key, size, every, wait)
	}
}

// TokensLeft is Memory.TokensLeft, shared between replicas.
func (r *Redis) TokensLeft(ctx context.Context, key string, size int, every time.Duration) int {
	if _, untilFull, ok := r.budget(ctx, key, size, every, -1, 0); ok {
		return tokens(untilFull, size, every)
	}
	return r.memory.TokensLeft(ctx, key, size, every)
}
