package handlers

import (
	"context"
	"fmt"
	"slices"
	"time"

	"calltracker/problem"
	"calltracker/storage"
)

// jobReader is the part of a store that Jobs uses.
type jobReader interface {
	Jobs(ctx context.Context, f storage.JobFilter, p storage.Page) ([]storage.Job, string, error)
	RetryJob(ctx context.Context, id string, now time.Time) (storage.Job, error)
}

// Jobs reads and retries background jobs.
type Jobs struct {
	Store  jobReader
	Runner *Runner
	Now    func() time.Time
}

// JobView is a stored job.
type JobView struct {
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
}

// JobList is a page of jobs, newest first.
type JobList struct {
	Jobs []JobView `json:"jobs"`
	Next string    `json:"next"`
}

// JobQuery filters a list of jobs. Empty fields match everything.
type JobQuery struct{ State, Kind string }

// List returns a page of jobs.
func (h *Jobs) List(ctx context.Context, q JobQuery, page storage.Page) (JobList, error) {
	state := storage.JobState(q.State)
	if q.State != "" && !slices.Contains(storage.JobStates(), state) {
		return JobList{}, problem.Errorf("state", "must be waiting, running, done, or dead")
	}
	stored, next, err := h.Store.Jobs(ctx, storage.JobFilter{State: state, Kind: q.Kind}, page)
	if err != nil {
		return JobList{}, fmt.Errorf("list jobs: %w", err)
	}
	out := JobList{Jobs: make([]JobView, len(stored)), Next: next}
	for i, j := range stored {
		out.Jobs[i] = jobView(j)
	}
	return out, nil
}

// Retry runs a job immediately with all its attempts available again. Errors:
// storage.ErrNotFound, and storage.ErrConflict if the job is running.
func (h *Jobs) Retry(ctx context.Context, id string) (JobView, error) {
	job, err := h.Store.RetryJob(ctx, id, h.Now().UTC())
	if err != nil {
		return JobView{}, fmt.Errorf("retry job %q: %w", problem.Clip(id), err)
	}
	h.Runner.Wake()
	return jobView(job), nil
}

func jobView(j storage.Job) JobView {
	return JobView{
		ID: j.ID, Kind: j.Kind, Key: j.Key, State: string(j.State), Priority: j.Priority, Attempts: j.Attempts,
		RunAt: j.RunAt, Error: j.Error, CreatedAt: j.At, ChangedAt: j.ChangedAt,
	}
}
