package httpapi

import (
	"github.com/labstack/echo/v4"

	"calltracker/jobs"
)

// listJobs handles the operation listJobs.
//
//	@Summary	List background jobs
//	@Description	Returns the background jobs that match the filters, newest first.
//	@ID		listJobs
//	@Tags		operation
//	@Produce	json
//	@Param		state	query		string	false	"Job state: waiting, running, done, or dead"
//	@Param		kind	query		string	false	"Job kind"
//	@Param		cursor	query		string	false	"Value of next from the previous page"
//	@Param		limit	query		int		false	"Page size, from 1 to 1000 (default 50)"
//	@Success	200		{object}	jobs.Page
//	@Failure	401		{object}	Problem
//	@Failure	422		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/jobs [get]
func (s *API) listJobs(c echo.Context) error {
	q := queryOf(c)
	in, page := jobs.Query{State: q.text("state"), Kind: q.text("kind")}, q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.Jobs.Page(c.Request().Context(), in, page))
}

// retryJob handles the operation retryJob.
//
//	@Summary	Retry a job
//	@Description	Runs a job again immediately, whatever its state, and resets its attempts. A running job cannot be retried.
//	@ID		retryJob
//	@Tags		operation
//	@Produce	json
//	@Param		id	path		string	true	"Job ID"
//	@Success	200	{object}	jobs.View
//	@Failure	401	{object}	Problem
//	@Failure	404	{object}	Problem
//	@Failure	409	{object}	Problem
//	@Failure	503	{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/jobs/{id}/retry [post]
func (s *API) retryJob(c echo.Context) error {
	return answer(c)(s.Jobs.Retry(detached(c), c.Param("id")))
}
