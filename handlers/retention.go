package handlers

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"calltracker/jobs"
	"calltracker/storage"
)

// retentionStore is what Retention needs of a store.
type retentionStore interface {
	ApplyRetention(ctx context.Context, f storage.RetentionStep) (storage.RetentionResult, error)
	AddJobs(ctx context.Context, now time.Time, jobs []storage.NewJob) error
}

// Retention takes bodies and personal fields away from calls and decisions that
// are older than the configuration keeps them. It is a job a day, so one process
// at a time does it, and another one goes on where it was stopped.
type Retention struct {
	Store  retentionStore
	Config *Config
	Now    func() time.Time
	Logger *slog.Logger
}

const (
	retentionKind    = "retention"
	retentionStep    = 200                   // calls in a transaction, for which end calls may wait
	retentionPause   = 20 * time.Millisecond // between the steps that changed something
	retentionTry     = 30 * time.Second      // of working; then it goes on as a try of its own
	retentionTimeout = time.Minute
)

// Kind returns the kind of the jobs that apply retention.
func (h *Retention) Kind() jobs.Kind {
	return jobs.Kind{Name: retentionKind, Run: h.run, Timeout: retentionTimeout}
}

// Schedule asks for the job of the day, unless everything is kept. Asking again
// changes nothing.
func (h *Retention) Schedule(ctx context.Context) error {
	now := h.Now().UTC()
	if f := h.forget(now); f.BodiesBefore.IsZero() && f.PersonalBefore.IsZero() {
		return nil
	}
	return h.Store.AddJobs(ctx, now, []storage.NewJob{{Kind: retentionKind, Key: now.Format(time.DateOnly)}})
}

// forget is what is older than the configuration in force keeps it.
func (h *Retention) forget(now time.Time) (f storage.RetentionStep) {
	live := h.Config.Live()
	if live == nil || live.Document.Retention == nil {
		return f
	}
	keep := live.Document.Retention
	before := func(days int) time.Time {
		if days <= 0 {
			return time.Time{}
		}
		return now.AddDate(0, 0, -days)
	}
	f.BodiesBefore, f.PersonalBefore = before(keep.RawDays), before(keep.PersonalDays)
	return f
}

func (h *Retention) run(ctx context.Context, j storage.Job) error {
	start := h.Now().UTC()
	f := h.forget(start)
	f.Cursor, f.Limit = string(j.Payload), retentionStep
	pause := time.NewTimer(0)
	defer pause.Stop()
	var calls, decisions int
	for !f.BodiesBefore.IsZero() || !f.PersonalBefore.IsZero() {
		done, err := h.Store.ApplyRetention(ctx, f)
		switch {
		case errors.Is(err, storage.ErrBadCursor): // of another version of this program
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
		if h.Now().Sub(start) >= retentionTry {
			return jobs.Continue(0, []byte(f.Cursor))
		}
		if done.Calls+done.Decisions > 0 {
			pause.Reset(retentionPause)
			select {
			case <-ctx.Done():
				return jobs.Continue(0, []byte(f.Cursor))
			case <-pause.C:
			}
		}
	}
	if calls+decisions > 0 {
		h.Logger.LogAttrs(ctx, slog.LevelInfo, "old calls were stripped of what is not kept",
			slog.Int("calls", calls), slog.Int("decisions", decisions))
	}
	return nil
}
