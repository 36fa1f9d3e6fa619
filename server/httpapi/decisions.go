package httpapi

import (
	"github.com/labstack/echo/v4"

	"calltracker/handlers/decisions"
)

func (s *API) listDecisions(c echo.Context) error {
	q := queryOf(c)
	filter := decisions.DecisionQuery{
		From: q.instant("from"), To: q.instant("to"), Tracker: q.text("tracker"), DID: q.text("did"), Caller: q.text("caller"),
		Route: q.text("route"),
	}
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.Decisions.List(c.Request().Context(), filter, page))
}

func (s *API) getDecision(c echo.Context) error {
	return answer(c)(s.Decisions.Get(c.Request().Context(), c.Param("id")))
}
