package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"calltracker/storage"
)

// Times of following what other replicas put in force.
const (
	followEvery   = time.Second
	followTimeout = 10 * time.Second
)

// Behind says why this process serves an older configuration than the newest.
type Behind struct {
	Version int64 // that it cannot use
	Err     error
}

// Behind is nil while the newest configuration that this process knows of is in
// force.
func (c *Config) Behind() *Behind { return c.behind.Load() }

// Follow puts in force what other replicas have stored, documents and secrets,
// within two seconds, until ctx ends. A document that this process cannot use
// (the environment of another one may have what this one's lacks) changes
// nothing, and is told by Behind and in the log. It returns nil.
func (c *Config) Follow(ctx context.Context) error {
	look := time.NewTicker(followEvery)
	defer look.Stop()
	seen := ""
	for {
		select {
		case <-ctx.Done():
			return nil
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
	}
}

// follow looks whether what is stored has changed since the mark seen, and takes
// it over.
func (c *Config) follow(ctx context.Context, seen string) (mark string, err error) {
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	if mark, err = c.Store.ConfigMark(ctx); err != nil || mark == seen {
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
