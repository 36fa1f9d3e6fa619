package handlers

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"calltracker/storage"
)

// retentionStore is what Retention needs of a store.
type retentionStore interface {
	Forget(ctx context.Context, f storage.Forget) (storage.Forgotten, error)
	AddJobs(ctx context.Context, now time.Time, jobs []storage.NewJob) error
}

// Retention takes bodies and personal fields away from calls and decisions that
// are older than the configuration keeps them. It is a job a day, so one process
// at a time does it, and another one goes on where it was stopped.
type Retention struct {
	Store  retentionStore
	Config *ConfigController
	Now    func() time.Time
	Logger *slog.Logger
}

const (
	retentionKind    = "retention"
	retentionBatch   = 200                   // calls in a transaction, for which end calls may wait
	retentionPause   = 20 * time.Millisecond // between the steps that changed something
	retentionBudget  = 30 * time.Second      // of working; then it goes on as a try of its own
	retentionTimeout = time.Minute
)

// Kind is how its jobs are run.
func (h *Retention) Kind() JobKind {
	return JobKind{Kind: retentionKind, Run: h.run, Timeout: retentionTimeout}
}

// Schedule asks for the job of the day, unless everything is kept. Asking again
// changes nothing.
func (h *Retention) Schedule(ctx context.Context) error {
	now := h.Now().UTC()
	if f := h.cutoffs(now); f.Raw.IsZero() && f.Personal.IsZero() {
		return nil
	}
	return h.Store.AddJobs(ctx, now, []storage.NewJob{{Kind: retentionKind, Key: now.Format(time.DateOnly)}})
}

// forget is what is older than the configuration in force keeps it.
func (h *Retention) cutoffs(now time.Time) (f storage.Forget) {
	snapshot := h.Config.Current()
	if snapshot == nil || snapshot.Set.Document().Retention == nil {
		return f
	}
	keep := snapshot.Set.Document().Retention
	cutoff := func(days int) time.Time {
		if days <= 0 {
			return time.Time{}
		}
		return now.AddDate(0, 0, -days)
	}
	f.Raw, f.Personal = cutoff(keep.RawDays), cutoff(keep.PersonalDays)
	return f
}

func (h *Retention) run(ctx context.Context, j storage.Job) error {
	start := h.Now().UTC()
	f := h.cutoffs(start)
	f.After, f.Limit = string(j.Payload), retentionBatch
	pause := time.NewTimer(0)
	defer pause.Stop()
	var calls, decisions int
	for !f.Raw.IsZero() || !f.Personal.IsZero() {
		done, err := h.Store.Forget(ctx, f)
		switch {
		case errors.Is(err, storage.ErrBadCursor): // of another version of this program
			f.After = ""
			continue
		case errors.Is(err, storage.ErrUnavailable):
			return Delay(time.Minute, err)
		case err != nil:
			return err
		}
		calls, decisions, f.After = calls+done.Calls, decisions+done.Decisions, done.Next
		if f.After == "" {
			break
		}
		if h.Now().Sub(start) >= retentionBudget {
			return Continue(0, []byte(f.After))
		}
		if done.Calls+done.Decisions > 0 {
			pause.Reset(retentionPause)
			select {
			case <-ctx.Done():
				return Continue(0, []byte(f.After))
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
