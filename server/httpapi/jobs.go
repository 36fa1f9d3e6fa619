package httpapi

import (
	"github.com/labstack/echo/v4"

	"calltracker/handlers"
)

func (s *API) listJobs(c echo.Context) error {
	q := queryOf(c)
	in, page := handlers.JobQuery{State: q.text("state"), Kind: q.text("kind")}, q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.Jobs.List(c.Request().Context(), in, page))
}

func (s *API) retryJob(c echo.Context) error {
	return answer(c)(s.Jobs.Retry(detached(c), c.Param("id")))
}
