package jobs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"calltracker/problem"
	"calltracker/storage"
)

// listStore is what List needs of a store.
type listStore interface {
	Jobs(ctx context.Context, f storage.JobFilter, p storage.Page) ([]storage.Job, string, error)
	RetryJob(ctx context.Context, id string, now time.Time) (storage.Job, error)
}

// List lists jobs for administrators and retries them. It is safe for concurrent use.
type List struct {
	store listStore
	wake  func()
	now   func() time.Time
}

// NewList returns a List of the jobs in store. It calls wake, such as Runner.Wake, when
// a job is due. It returns an error if a dependency is missing.
func NewList(store listStore, wake func(), now func() time.Time) (*List, error) {
	if store == nil || wake == nil || now == nil {
		return nil, errors.New("job list has no store, wake function, or clock")
	}
	return &List{store: store, wake: wake, now: now}, nil
}

// View is a job as administrators see it.
type View struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind" example:"retention"`
	Key       string    `json:"key"` // unique per kind: a call ID or a name
	State     string    `json:"state" enums:"waiting,running,done,dead"`
	Priority  int       `json:"priority"`
	Attempts  int       `json:"attempts"`
	RunAt     time.Time `json:"runAt" format:"date-time"` // earliest start of the next attempt
	Error     string    `json:"error"`                    // error of the last attempt
	CreatedAt time.Time `json:"createdAt" format:"date-time"`
	ChangedAt time.Time `json:"changedAt" format:"date-time"`
} // @name JobView

// Page is a page of jobs, newest first.
type Page struct {
	Jobs []View `json:"jobs"`
	Next string `json:"next"`
} // @name JobList

// Query narrows a list of jobs. Empty fields match all jobs.
type Query struct{ State, Kind string }

// Page returns a page of jobs, newest first. It returns a *problem.Invalid for an
// invalid state and storage.ErrBadCursor for an invalid cursor.
func (l *List) Page(ctx context.Context, q Query, page storage.Page) (Page, error) {
	state := storage.JobState(q.State)
	if q.State != "" && !slices.Contains(storage.JobStates(), state) {
		return Page{}, problem.Errorf("state", "must be waiting, running, done, or dead")
	}
	stored, next, err := l.store.Jobs(ctx, storage.JobFilter{State: state, Kind: q.Kind}, page)
	if err != nil {
		return Page{}, fmt.Errorf("list jobs: %w", err)
	}
	out := Page{Jobs: make([]View, len(stored)), Next: next}
	for i, j := range stored {
		out.Jobs[i] = viewOf(j)
	}
	return out, nil
}

// Retry makes a job due now and resets its attempts. It returns storage.ErrNotFound for
// an unknown job, and storage.ErrConflict if the job is running.
func (l *List) Retry(ctx context.Context, id string) (View, error) {
	job, err := l.store.RetryJob(ctx, id, l.now().UTC())
	if err != nil {
		return View{}, fmt.Errorf("retry job %q: %w", problem.Clip(id), err)
	}
	l.wake()
	return viewOf(job), nil
}

func viewOf(j storage.Job) View {
	return View{
		ID: j.ID, Kind: j.Kind, Key: j.Key, State: string(j.State), Priority: j.Priority, Attempts: j.Attempts,
		RunAt: j.RunAt, Error: j.Error, CreatedAt: j.At, ChangedAt: j.ChangedAt,
	}
}
