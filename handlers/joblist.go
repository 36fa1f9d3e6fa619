package handlers

import (
	"context"
	"fmt"
	"slices"
	"time"

	"calltracker/problem"
	"calltracker/storage"
)

// jobReader is what Jobs needs of a store.
type jobReader interface {
	Jobs(ctx context.Context, f storage.JobFilter, p storage.Page) ([]storage.Job, string, error)
	RetryJob(ctx context.Context, id string, now time.Time) (storage.Job, error)
}

// Jobs shows the work that goes on behind the requests.
type Jobs struct {
	Store  jobReader
	Runner *Runner
	Now    func() time.Time
}

// JobView is a job as it is shown.
type JobView struct {
	ID        string    `json:"id"`
	Kind      string    `json:"kind" example:"retention"`
	Key       string    `json:"key"` // one job of a kind for each: the id of a call, or a name
	State     string    `json:"state" enums:"waiting,running,done,dead"`
	Priority  int       `json:"priority"`
	Attempts  int       `json:"attempts"`
	RunAt     time.Time `json:"runAt" format:"date-time"` // not before
	Error     string    `json:"error"`                    // why the last try failed
	CreatedAt time.Time `json:"createdAt" format:"date-time"`
	ChangedAt time.Time `json:"changedAt" format:"date-time"`
}

// JobList is a page of jobs, newest first.
type JobList struct {
	Jobs []JobView `json:"jobs"`
	Next string    `json:"next"`
}

// JobQuery narrows the list; empty fields do not.
type JobQuery struct{ State, Kind string }

// List returns a page of jobs.
//
//	@Summary	Jobs: work that outlives the request that caused it
//	@ID		listJobs
//	@Tags		operation
//	@Produce	json
//	@Param		state	query		string	false	"waiting, running, done or dead"
//	@Param		kind	query		string	false	"Of this kind"
//	@Param		cursor	query		string	false	"From the page before"
//	@Param		limit	query		int		false	"1 to 1000, 50 by default"
//	@Success	200		{object}	JobList
//	@Failure	401		{object}	Problem
//	@Failure	422		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/jobs [get]
func (h *Jobs) List(ctx context.Context, q JobQuery, page storage.Page) (JobList, error) {
	state := storage.JobState(q.State)
	if q.State != "" && !slices.Contains(storage.JobStates(), state) {
		return JobList{}, problem.Errorf("state", "must be waiting, running, done or dead")
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

// Retry makes a job run at once, with all its tries before it. Errors:
// storage.ErrNotFound, and storage.ErrConflict while it is running.
//
//	@Summary	Run a job again now, whatever became of it
//	@ID		retryJob
//	@Tags		operation
//	@Produce	json
//	@Param		id	path		string	true	"Id"
//	@Success	200	{object}	JobView
//	@Failure	401	{object}	Problem
//	@Failure	404	{object}	Problem
//	@Failure	409	{object}	Problem
//	@Failure	503	{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/jobs/{id}/retry [post]
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
