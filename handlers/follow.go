package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"calltracker/jobs"
	"calltracker/storage"
)

// Times of following what other replicas put in force. While the database tells
// of changes, looking by itself is for what it could not tell.
const (
	lookEvery      = time.Second
	lookEveryTold  = 4 * time.Second
	followTimeout  = 10 * time.Second
)

// listenBackoff are the pauses before the connection that listens for changes is opened
// again.
var listenBackoff = jobs.Backoff{First: 250 * time.Millisecond, Longest: 10 * time.Second}

// Behind says why this process serves an older configuration than the newest.
type Behind struct {
	Version int64 // that it cannot use
	Err     error
}

// Behind is nil while the newest configuration that this process knows of is in
// force.
func (c *Config) Behind() *Behind { return c.behind.Load() }

// Follow puts in force what other replicas have stored, documents and secrets,
// until ctx ends: at once where the database tells of it, and within five seconds
// where it does not. A document that this process cannot use (the environment of
// another one may have what this one's lacks) changes nothing, and is told by
// Behind and in the log. It returns nil.
func (c *Config) Follow(ctx context.Context) error {
	var (
		told      = make(chan struct{}, 1)
		listening atomic.Bool
		listener  sync.WaitGroup
	)
	listener.Go(func() { c.listen(ctx, told, &listening) })
	defer listener.Wait()
	seen := ""
	look := time.NewTimer(c.lookAgain(false))
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-told:
		case <-look.C:
		}
		mark, err := c.follow(ctx, seen)
		switch {
		case errors.Is(err, storage.ErrUnavailable) || ctx.Err() != nil: // the next look is soon
		case err != nil:
			c.Logger.LogAttrs(ctx, slog.LevelError, "a newer configuration cannot be used here; the one before serves", slog.Any("error", err))
			seen = mark
		default:
			seen = mark
		}
		look.Reset(c.lookAgain(err == nil && listening.Load()))
	}
}

func (c *Config) lookAgain(listening bool) time.Duration {
	switch {
	case c.LookEvery > 0:
		return c.LookEvery
	case listening:
		return lookEveryTold
	default:
		return lookEvery
	}
}

// listen sends to told when the database tells of a change, and begins anew when
// the connection breaks, until ctx ends. listening is true meanwhile.
func (c *Config) listen(ctx context.Context, told chan<- struct{}, listening *atomic.Bool) {
	failures := 0
	for {
		err := c.Store.ListenConfig(ctx, func() {
			failures = 0
			listening.Store(true)
			notify(told)
		})
		if ctx.Err() != nil {
			return
		}
		if listening.Swap(false) {
			notify(told) // what happened while it broke was not told
		}
		c.Logger.LogAttrs(ctx, slog.LevelDebug, "the database does not tell of changes now", slog.Any("error", err))
		failures++
		again := time.NewTimer(listenBackoff.Pause(failures))
		select {
		case <-ctx.Done():
			again.Stop()
			return
		case <-again.C:
		}
	}
}

// notify leaves a message, unless there is one already.
func notify(message chan<- struct{}) {
	select {
	case message <- struct{}{}:
	default:
	}
}

// follow looks whether what is stored has changed since the mark seen, and takes
// it over.
func (c *Config) follow(ctx context.Context, seen string) (mark string, err error) {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	if mark, err = c.Store.ConfigChangeToken(ctx); err != nil || mark == seen {
		return mark, err
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	version, err := c.Store.ActiveConfig(ctx)
	if errors.Is(err, storage.ErrNotFound) {
		return mark, nil
	}
	if err != nil {
		return mark, err
	}
	secrets, err := c.sealedSecrets(ctx)
	if err != nil {
		return mark, err
	}
	if live := c.Live(); live != nil && live.Version.Version == version.Version && maps.EqualFunc(c.sealed, secrets, slices.Equal) {
		c.behind.Store(nil)
		return mark, nil
	}
	if err := c.force(version, secrets, true, false); err != nil {
		c.behind.Store(&Behind{Version: version.Version, Err: err})
		return mark, fmt.Errorf("follow: %w", err)
	}
	return mark, nil
}
