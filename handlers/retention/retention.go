// Package retention removes old data as configured.
package retention

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"calltracker/config"
	"calltracker/jobs"
	"calltracker/storage"
)

// store is the part of a store that Retention uses.
type store interface {
	ApplyRetention(ctx context.Context, f storage.RetentionStep) (storage.RetentionResult, error)
	AddJobs(ctx context.Context, now time.Time, jobs []storage.NewJob) error
}

// Retention removes bodies and personal fields from old calls and decisions, as
// configured. It runs as one job per day, so that only one process does the work and
// another can continue it.
type Retention struct {
	store  store
	config *config.Controller
	now    func() time.Time
	logger *slog.Logger
}

// New returns a Retention that deletes from store what the active configuration does
// not keep.
func New(store store, config *config.Controller, now func() time.Time, logger *slog.Logger) *Retention {
	if store == nil || config == nil || now == nil || logger == nil {
		panic("retention.New: store, config, now, and logger are required")
	}
	return &Retention{store: store, config: config, now: now, logger: logger}
}

const (
	kind           = "retention"
	batchSize      = 200                   // calls per transaction, for which end calls may have to wait
	batchPause     = 20 * time.Millisecond // between batches that changed something
	attemptBudget  = 30 * time.Second      // working time of an attempt; the work continues in the next attempt
	attemptTimeout = time.Minute
)

// Kind returns the kind of retention jobs.
func (h *Retention) Kind() jobs.Kind {
	return jobs.Kind{Name: kind, Run: h.run, Timeout: attemptTimeout}
}

// Schedule adds the job of the day unless all data is kept. It is idempotent.
func (h *Retention) Schedule(ctx context.Context) error {
	now := h.now().UTC()
	if f := h.cutoffs(now); f.BodiesBefore.IsZero() && f.PersonalBefore.IsZero() {
		return nil
	}
	return h.store.AddJobs(ctx, now, []storage.NewJob{{Kind: kind, Key: now.Format(time.DateOnly)}})
}

// cutoffs returns the limits of the active configuration at the given time.
func (h *Retention) cutoffs(now time.Time) (f storage.RetentionStep) {
	snapshot := h.config.Current()
	if snapshot == nil || snapshot.Document.Retention == nil {
		return f
	}
	keep := snapshot.Document.Retention
	cutoff := func(days int) time.Time {
		if days <= 0 {
			return time.Time{}
		}
		return now.AddDate(0, 0, -days)
	}
	f.BodiesBefore, f.PersonalBefore = cutoff(keep.RawDays), cutoff(keep.PersonalDays)
	return f
}

func (h *Retention) run(ctx context.Context, j storage.Job) error {
	start := h.now().UTC()
	f := h.cutoffs(start)
	f.Cursor, f.Limit = string(j.Payload), batchSize
	pause := time.NewTimer(0)
	defer pause.Stop()
	var calls, decisions int
	for !f.BodiesBefore.IsZero() || !f.PersonalBefore.IsZero() {
		done, err := h.store.ApplyRetention(ctx, f)
		switch {
		case errors.Is(err, storage.ErrBadCursor): // written by another version of this program
			f.Cursor = ""
			continue
		case errors.Is(err, storage.ErrUnavailable):
			return jobs.Delay(time.Minute, err)
		case err != nil:
			return err
		}
		calls, decisions, f.Cursor = calls+done.Calls, decisions+done.Decisions, done.NextCursor
		if f.Cursor == "" {
			break
		}
		if h.now().Sub(start) >= attemptBudget {
			return jobs.Continue(0, []byte(f.Cursor))
		}
		if done.Calls+done.Decisions > 0 {
			pause.Reset(batchPause)
			select {
			case <-ctx.Done():
				return jobs.Continue(0, []byte(f.Cursor))
			case <-pause.C:
			}
		}
	}
	if calls+decisions > 0 {
		h.logger.LogAttrs(ctx, slog.LevelInfo, "expired call data deleted",
			slog.Int("calls", calls), slog.Int("decisions", decisions))
	}
	return nil
}
