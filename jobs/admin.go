package jobs

import (
	"context"
	"fmt"
	"slices"
	"time"

	"calltracker/problem"
	"calltracker/storage"
)

// adminStore is what Admin needs of a store.
type adminStore interface {
	Jobs(ctx context.Context, f storage.JobFilter, p storage.Page) ([]storage.Job, string, error)
	RetryJob(ctx context.Context, id string, now time.Time) (storage.Job, error)
}

// Admin lists jobs for administrators and retries them. It is safe for concurrent use.
type Admin struct {
	store adminStore
	wake  func()
	now   func() time.Time
}

// NewAdmin returns an Admin of the jobs in store. It calls wake, such as Runner.Wake,
// when a job is due.
func NewAdmin(store adminStore, wake func(), now func() time.Time) *Admin {
	if store == nil || wake == nil || now == nil {
		panic("jobs.NewAdmin: store, wake, and now are required")
	}
	return &Admin{store: store, wake: wake, now: now}
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

// List is a page of jobs, newest first.
type List struct {
	Jobs []View `json:"jobs"`
	Next string `json:"next"`
} // @name JobList

// Query narrows a list of jobs. Empty fields match all jobs.
type Query struct{ State, Kind string }

// List returns a page of jobs, newest first. It returns a *problem.Invalid for an
// invalid state and storage.ErrBadCursor for an invalid cursor.
func (a *Admin) List(ctx context.Context, q Query, page storage.Page) (List, error) {
	state := storage.JobState(q.State)
	if q.State != "" && !slices.Contains(storage.JobStates(), state) {
		return List{}, problem.Errorf("state", "must be waiting, running, done, or dead")
	}
	stored, next, err := a.store.Jobs(ctx, storage.JobFilter{State: state, Kind: q.Kind}, page)
	if err != nil {
		return List{}, fmt.Errorf("list jobs: %w", err)
	}
	out := List{Jobs: make([]View, len(stored)), Next: next}
	for i, j := range stored {
		out.Jobs[i] = viewOf(j)
	}
	return out, nil
}

// Retry makes a job due now and resets its attempts. It returns storage.ErrNotFound for
// an unknown job, and storage.ErrConflict if the job is running.
func (a *Admin) Retry(ctx context.Context, id string) (View, error) {
	job, err := a.store.RetryJob(ctx, id, a.now().UTC())
	if err != nil {
		return View{}, fmt.Errorf("retry job %q: %w", problem.Clip(id), err)
	}
	a.wake()
	return viewOf(job), nil
}

func viewOf(j storage.Job) View {
	return View{
		ID: j.ID, Kind: j.Kind, Key: j.Key, State: string(j.State), Priority: j.Priority, Attempts: j.Attempts,
		RunAt: j.RunAt, Error: j.Error, CreatedAt: j.At, ChangedAt: j.ChangedAt,
	}
}
