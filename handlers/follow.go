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

	"calltracker/storage"
)

// Times of following what other replicas put in force. While the database tells
// of changes, looking by itself is for what it could not tell.
const (
	pollInterval          = time.Second
	pollIntervalListening = 4 * time.Second
	followTimeout         = 10 * time.Second
	minListenBackoff      = 250 * time.Millisecond // and twice as long after each failure
	maxListenBackoff      = 15 * time.Second
)

// Behind says why this process serves an older configuration than the newest.
type PendingVersion struct {
	Version int64 // that it cannot use
	Err     error
}

// Behind is nil while the newest configuration that this process knows of is in
// force.
func (c *ConfigController) Pending() *PendingVersion { return c.pending.Load() }

// Follow puts in force what other replicas have stored, documents and secrets,
// until ctx ends: at once where the database tells of it, and within five seconds
// where it does not. A document that this process cannot use (the environment of
// another one may have what this one's lacks) changes nothing, and is told by
// Behind and in the log. It returns nil.
func (c *ConfigController) Follow(ctx context.Context) error {
	var (
		changed   = make(chan struct{}, 1)
		listening atomic.Bool
		listener  sync.WaitGroup
	)
	listener.Go(func() { c.listen(ctx, changed, &listening) })
	defer listener.Wait()
	seen := ""
	poll := time.NewTimer(c.pollDelay(false))
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-poll.C:
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
		poll.Reset(c.pollDelay(err == nil && listening.Load()))
	}
}

func (c *ConfigController) pollDelay(listening bool) time.Duration {
	switch {
	case c.PollInterval > 0:
		return c.PollInterval
	case listening:
		return pollIntervalListening
	default:
		return pollInterval
	}
}

// listen sends to told when the database tells of a change, and begins anew when
// the connection breaks, until ctx ends. listening is true meanwhile.
func (c *ConfigController) listen(ctx context.Context, changed chan<- struct{}, listening *atomic.Bool) {
	pause := minListenBackoff
	for {
		err := c.Store.ListenConfig(ctx, func() {
			pause = minListenBackoff
			listening.Store(true)
			notify(changed)
		})
		if ctx.Err() != nil {
			return
		}
		if listening.Swap(false) {
			notify(changed) // what happened while it broke was not told
		}
		c.Logger.LogAttrs(ctx, slog.LevelDebug, "the database does not tell of changes now", slog.Any("error", err))
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		pause = min(2*pause, maxListenBackoff)
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
func (c *ConfigController) follow(ctx context.Context, seen string) (mark string, err error) {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	if mark, err = c.Store.ConfigMark(ctx); err != nil || mark == seen {
		return mark, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	version, err := c.Store.ActiveConfig(ctx)
	if errors.Is(err, storage.ErrNotFound) {
		return mark, nil
	}
	if err != nil {
		return mark, err
	}
	secrets, err := c.loadSecrets(ctx)
	if err != nil {
		return mark, err
	}
	if snapshot := c.Current(); snapshot != nil && snapshot.Version.Version == version.Version && maps.EqualFunc(c.secrets, secrets, slices.Equal) {
		c.pending.Store(nil)
		return mark, nil
	}
	if err := c.activate(version, secrets, true, false); err != nil {
		c.pending.Store(&PendingVersion{Version: version.Version, Err: err})
		return mark, fmt.Errorf("follow: %w", err)
	}
	return mark, nil
}
