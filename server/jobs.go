package main

import (
	"github.com/labstack/echo/v4"

	"calltracker/jobs"
)

// listJobs returns a page of jobs.
//
//	@Summary	List jobs, the work that outlives the request that caused it
//	@ID		listJobs
//	@Tags		operation
//	@Produce	json
//	@Param		state	query		string	false	"waiting, running, done or dead"
//	@Param		kind	query		string	false	"Kind of the jobs"
//	@Param		cursor	query		string	false	"next of the previous page"
//	@Param		limit	query		int		false	"1 to 1000, 50 by default"
//	@Success	200		{object}	jobs.Page
//	@Failure	401		{object}	handlers.Problem
//	@Failure	422		{object}	handlers.Problem
//	@Failure	503		{object}	handlers.Problem
//	@Security	Bearer
//	@Router		/api/v1/jobs [get]
func (s *api) listJobs(c echo.Context) error {
	q := queryOf(c)
	in, page := jobs.Query{State: q.text("state"), Kind: q.text("kind")}, q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.Jobs.Page(c.Request().Context(), in, page))
}

// retryJob makes a job due now.
//
//	@Summary	Run a job again now, whether it is done, dead or waiting
//	@ID		retryJob
//	@Tags		operation
//	@Produce	json
//	@Param		id	path		string	true	"Id"
//	@Success	200	{object}	jobs.View
//	@Failure	401	{object}	handlers.Problem
//	@Failure	404	{object}	handlers.Problem
//	@Failure	409	{object}	handlers.Problem
//	@Failure	503	{object}	handlers.Problem
//	@Security	Bearer
//	@Router		/api/v1/jobs/{id}/retry [post]
func (s *api) retryJob(c echo.Context) error {
	return answer(c)(s.Jobs.Retry(detached(c), c.Param("id")))
}
