package config

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

// Intervals and timeouts of Follow. While the database sends notifications, polling
// only covers missed ones.
const (
	pollInterval          = time.Second
	pollIntervalListening = 4 * time.Second
	followTimeout         = 10 * time.Second
)

// listenBackoff are the pauses before reconnecting to listen for changes.
var listenBackoff = jobs.Backoff{First: 250 * time.Millisecond, Longest: 10 * time.Second}

// PendingVersion is the newest stored version if this process cannot activate it.
type PendingVersion struct {
	Version int64 // version that could not be activated
	Err     error
}

// Pending returns the version that this process failed to activate, or nil if the
// newest known configuration is active.
func (c *Controller) Pending() *PendingVersion { return c.pending.Load() }

// Follow activates the documents and secrets that other replicas store, until ctx
// ends. It reacts immediately if the database sends notifications, and otherwise within
// five seconds. A document that this process cannot activate, for example because an
// environment variable is missing here, changes nothing; it is logged and reported
// by Pending. Follow returns nil.
func (c *Controller) Follow(ctx context.Context) error {
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
		case errors.Is(err, storage.ErrUnavailable) || ctx.Err() != nil: // poll again soon
		case err != nil:
			c.logger.LogAttrs(ctx, slog.LevelError, "newer configuration not activated; previous one stays active", slog.Any("error", err))
			seen = mark
		default:
			seen = mark
		}
		poll.Reset(c.pollDelay(err == nil && listening.Load()))
	}
}

func (c *Controller) pollDelay(listening bool) time.Duration {
	switch {
	case c.pollInterval > 0:
		return c.pollInterval
	case listening:
		return pollIntervalListening
	default:
		return pollInterval
	}
}

// listen sends to changed when the database reports a change, and reconnects when the
// connection breaks, until ctx ends. listening is true while it is connected.
func (c *Controller) listen(ctx context.Context, changed chan<- struct{}, listening *atomic.Bool) {
	failures := 0
	for {
		err := c.store.ListenConfig(ctx, func() {
			failures = 0
			listening.Store(true)
			notify(changed)
		})
		if ctx.Err() != nil {
			return
		}
		if listening.Swap(false) {
			notify(changed) // changes during the interruption were not reported
		}
		c.logger.LogAttrs(ctx, slog.LevelDebug, "change notifications lost; polling", slog.Any("error", err))
		failures++
		timer := time.NewTimer(listenBackoff.Pause(failures))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// notify sends a message unless one is already pending.
func notify(message chan<- struct{}) {
	select {
	case message <- struct{}{}:
	default:
	}
}

// follow activates the stored configuration if its mark differs from seen.
func (c *Controller) follow(ctx context.Context, seen string) (mark string, err error) {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	if mark, err = c.store.ConfigChangeToken(ctx); err != nil || mark == seen {
		return mark, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	version, err := c.store.ActiveConfig(ctx)
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
	if err := c.activate(version, secrets, false); err != nil {
		c.pending.Store(&PendingVersion{Version: version.Version, Err: err})
		return mark, fmt.Errorf("follow: %w", err)
	}
	return mark, nil
}
