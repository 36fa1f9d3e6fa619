package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Redis shares everything between the replicas that use the same server and
// prefix. When Redis is away, slow or full it goes on in this process, as Memory
// does: no method fails, and none waits longer than Options allow. It is safe for
// concurrent use. Make it with NewRedis; Run keeps an eye on the server.
type Redis struct {
	client *redis.Client
	memory *Memory
	o      Options
	up     atomic.Bool
	misses atomic.Int32 // failures in a row
}

// Options are how Redis is used. Zero values are the defaults.
type Options struct {
	Prefix       string        // of every key; "calltracker:"
	CountTimeout time.Duration // of Next and Hit, which answer calls; 5 ms
	ValueTimeout time.Duration // of all else; 50 ms
	ProbeEvery   time.Duration // how often Run asks whether it is there; 500 ms
	Near         time.Duration // how long a value that was read is served again without asking; 5 s, below 0 for never
	Now          func() time.Time
	Logger       *slog.Logger
}

const (
	probeTimeout = time.Second
	tolerated    = 3       // failures in a row until it counts as away
	bufferBytes  = 4 << 10 // of a connection; the values are small
	leastPool    = 32
)

// CheckURL tells what is wrong with the address of a Redis server. The message
// holds nothing of the address: it may have a password.
func CheckURL(address string) error {
	_, err := parse(address)
	return err
}

func parse(address string) (*redis.Options, error) {
	u, err := url.Parse(address)
	if err != nil || !slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme) || u.Host == "" && u.Scheme != "unix" {
		return nil, errors.New("is no address of a Redis server; write redis://:password@redis.example.com:6379/0, or rediss:// for TLS")
	}
	o, err := redis.ParseURL(address)
	if err != nil {
		return nil, errors.New("has a part that is not understood: after the host comes the number of the database, redis://redis.example.com:6379/0")
	}
	return o, nil
}

// NewRedis prepares to use the server at address; it connects to nothing yet and
// counts in this process until Probe or Run has found the server.
func NewRedis(address string, o Options) (*Redis, error) {
	options, err := parse(address)
	if err != nil {
		return nil, fmt.Errorf("the address %w", err)
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
	if o.Near == 0 {
		o.Near = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	logging.Disable() // its messages name no connection and come by the hundred; ours tell of each change once
	options.MaxRetries, options.DialerRetries = -1, 1
	options.ContextTimeoutEnabled = true
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.PoolTimeout = probeTimeout, probeTimeout, probeTimeout, probeTimeout
	options.PoolSize, options.PipelinePoolSize = max(options.PoolSize, leastPool), -1
	options.ReadBufferSize, options.WriteBufferSize = bufferBytes, bufferBytes
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &Redis{client: redis.NewClient(options), memory: NewMemory(o.Now), o: o}, nil
}

// Up tells whether Redis is in use at the moment.
func (r *Redis) Up() bool { return r.up.Load() }

// Run looks after the server until ctx ends: it notices when it goes away or
// comes back, so that no call has to. It always returns nil.
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

// Close gives the connections back. From then on all is counted in this process.
func (r *Redis) Close() error {
	r.up.Store(false)
	return r.client.Close()
}

// Probe asks the server once, for at most a second, and takes it into use or out
// of it. It writes: a server that is full or a replica answers a ping as well.
func (r *Redis) Probe(ctx context.Context) {
	attempt, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	err := r.client.Set(attempt, r.o.Prefix+"probe", 1, time.Minute).Err()
	switch {
	case ctx.Err() != nil: // we are stopping, which says nothing of the server
	case err != nil:
		r.lost(ctx, err)
	default:
		r.misses.Store(0)
		if r.up.CompareAndSwap(false, true) {
			r.o.Logger.LogAttrs(ctx, slog.LevelInfo, "redis is in use: counters, budgets and cached customers are shared")
		}
	}
}

func (r *Redis) lost(ctx context.Context, err error) {
	if r.up.CompareAndSwap(true, false) {
		r.o.Logger.LogAttrs(ctx, slog.LevelWarn, "redis is away: this process counts on its own until it is back", slog.Any("error", err))
	}
}

// try runs one command if Redis is in use, for so long at most, and tells whether
// it answered. Failures in a row take it out of use.
func (r *Redis) try(ctx context.Context, timeout time.Duration, command func(ctx context.Context) error) bool {
	if !r.up.Load() {
		return false
	}
	attempt, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := command(attempt)
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		if r.misses.Load() != 0 {
			r.misses.Store(0)
		}
		return true
	case ctx.Err() == nil && r.misses.Add(1) >= tolerated:
		r.lost(ctx, err)
	}
	return false
}

// Next is Memory.Next, shared.
func (r *Redis) Next(key string) uint64 {
	var next int64
	ok := r.try(context.Background(), r.o.CountTimeout, func(ctx context.Context) (err error) {
		next, err = r.client.Incr(ctx, r.o.Prefix+"next:"+key).Result()
		return err
	})
	if !ok || next < 1 {
		return r.memory.Next(key)
	}
	r.memory.caughtUp(key, uint64(next))
	return uint64(next) - 1
}

// hitScript counts a hit in the window that the first one opens.
var hitScript = redis.NewScript(`
local hits = redis.call('INCR', KEYS[1])
local closes = redis.call('PTTL', KEYS[1])
if closes < 0 then
	redis.call('PEXPIRE', KEYS[1], ARGV[1])
	closes = tonumber(ARGV[1])
end
return {hits, closes}`)

// Hit is Memory.Hit, shared.
func (r *Redis) Hit(key string, length time.Duration) (hits int, closes time.Duration) {
	var answer []int64
	ok := r.try(context.Background(), r.o.CountTimeout, func(ctx context.Context) (err error) {
		answer, err = hitScript.Run(ctx, r.client, []string{r.o.Prefix + "hits:" + key}, max(length.Milliseconds(), 1)).Int64Slice()
		return err
	})
	if !ok || len(answer) != 2 {
		return r.memory.Hit(key, length)
	}
	return int(answer[0]), time.Duration(answer[1]) * time.Millisecond
}

// Get is Memory.Get, shared. A value that this process read or wrote within
// Options.Near is answered without asking.
func (r *Redis) Get(ctx context.Context, key string) ([]byte, bool) {
	near, known := r.memory.get(key)
	if known && r.o.Now().Sub(near.written) < r.o.Near {
		return near.bytes, true
	}
	var read *redis.StringCmd
	var left *redis.DurationCmd
	ok := r.try(ctx, r.o.ValueTimeout, func(ctx context.Context) error {
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			read, left = p.Get(ctx, r.o.Prefix+"value:"+key), p.PTTL(ctx, r.o.Prefix+"value:"+key)
			return nil
		})
		return err
	})
	if !ok || read.Err() != nil || left.Val() <= 0 {
		return near.bytes, known // what Redis has lost is still good
	}
	bytes, _ := read.Bytes() // its error was looked at
	r.memory.Set(ctx, key, bytes, left.Val())
	return bytes, true
}

// Set is Memory.Set, shared.
func (r *Redis) Set(ctx context.Context, key string, bytes []byte, ttl time.Duration) {
	r.memory.Set(ctx, key, bytes, ttl)
	r.try(ctx, r.o.ValueTimeout, func(ctx context.Context) error {
		if ttl <= 0 {
			return r.client.Del(ctx, r.o.Prefix+"value:"+key).Err()
		}
		return r.client.Set(ctx, r.o.Prefix+"value:"+key, bytes, max(ttl, time.Millisecond)).Err()
	})
}

// budgetScript is Memory's budget with the clock of the server, so that the
// replicas' clocks need not agree. All times are microseconds. Its arguments are
// size, every, leave and wait: with a wait it is Drain, else with a leave of -1
// it is TokensLeft, else TakeToken. It returns how long until a token can be taken, 0 when
// one was, and how long until the budget is full.
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

// budget runs budgetScript; ok is false when Redis is away.
func (r *Redis) budget(ctx context.Context, key string, size int, every time.Duration, leave int, wait time.Duration) (blocked, debt time.Duration, ok bool) {
	var answer []int64
	ok = r.try(ctx, r.o.ValueTimeout, func(ctx context.Context) (err error) {
		answer, err = budgetScript.Run(ctx, r.client, []string{r.o.Prefix + "budget:" + key},
			size, every.Microseconds(), leave, wait.Microseconds()).Int64Slice()
		return err
	})
	if !ok || len(answer) != 2 {
		return 0, 0, false
	}
	blocked, debt = time.Duration(answer[0])*time.Microsecond, time.Duration(answer[1])*time.Microsecond
	r.memory.know(key, debt)
	return blocked, debt, true
}

// TakeToken is Memory.TakeToken, shared.
func (r *Redis) TakeToken(ctx context.Context, key string, size int, every time.Duration, leave int) time.Duration {
	if blocked, _, ok := r.budget(ctx, key, size, every, max(leave, 0), 0); ok {
		return blocked
	}
	return r.memory.TakeToken(ctx, key, size, every, leave)
}

// Drain is Memory.Drain, shared.
func (r *Redis) Drain(ctx context.Context, key string, size int, every, wait time.Duration) {
	if wait <= 0 {
		return
	}
	if _, _, ok := r.budget(ctx, key, size, every, 0, wait); !ok {
		r.memory.Drain(ctx, key, size, every, wait)
	}
}

// TokensLeft is Memory.TokensLeft, shared.
func (r *Redis) TokensLeft(ctx context.Context, key string, size int, every time.Duration) int {
	if _, debt, ok := r.budget(ctx, key, size, every, -1, 0); ok {
		return left(debt, size, every)
	}
	return r.memory.TokensLeft(ctx, key, size, every)
}
