package httpapi

import (
	"github.com/labstack/echo/v4"

	"calltracker/jobs"
)

// listJobs lists background jobs. Administrators may call it.
//
//	@Summary		List background jobs
//	@Description	Returns one page of background jobs, newest first, such as CRM lookups, recording copies, and retention.
//	@ID				listJobs
//	@Tags			operation
//	@Produce		json
//	@Param			state	query		string	false	"State of the job: waiting, running, done, or dead"
//	@Param			kind	query		string	false	"Kind of the job"
//	@Param			cursor	query		string	false	"Value of `next` of the previous page"
//	@Param			limit	query		int		false	"Page size, from 1 to 1000 (default 50)"
//	@Success		200		{object}	jobs.List
//	@Failure		401		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/jobs [get]
func (s *API) listJobs(c echo.Context) error {
	q := readQuery(c)
	in, page := jobs.Query{State: q.text("state"), Kind: q.text("kind")}, q.page()
	if err := q.err(); err != nil {
		return err
	}
	return respond(c)(s.Jobs.List(c.Request().Context(), in, page))
}

// retryJob runs a background job again. Administrators may call it.
//
//	@Summary		Retry a background job
//	@Description	Runs a job again now, and resets its number of attempts. The status is 409 if the job is running.
//	@ID				retryJob
//	@Tags			operation
//	@Produce		json
//	@Param			id	path		string	true	"ID of the job"
//	@Success		200	{object}	jobs.View
//	@Failure		401	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Failure		409	{object}	Problem
//	@Failure		503	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/jobs/{id}/retry [post]
func (s *API) retryJob(c echo.Context) error {
	return respond(c)(s.Jobs.Retry(uncanceled(c), c.Param("id")))
}
