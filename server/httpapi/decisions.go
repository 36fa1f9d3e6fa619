package httpapi

import (
	"github.com/labstack/echo/v4"

	"calltracker/handlers/decisions"
)

// listDecisions handles the operation listDecisions.
//
//	@Summary	List decisions
//	@Description	Returns the decisions on start calls that match the filters, newest first, with their traces.
//	@ID		listDecisions
//	@Tags		calls
//	@Produce	json
//	@Param		from	query		string	false	"Decided at or after (RFC 3339)"
//	@Param		to		query		string	false	"Decided before (RFC 3339)"
//	@Param		tracker	query		string	false	"Tracker ID"
//	@Param		did		query		string	false	"Dialed number, in any format"
//	@Param		caller	query		string	false	"Caller number, in any format"
//	@Param		route	query		string	false	"Route ID"
//	@Param		cursor	query		string	false	"Value of next from the previous page"
//	@Param		limit	query		int		false	"Page size, from 1 to 1000 (default 50)"
//	@Success	200		{object}	decisions.DecisionList
//	@Failure	401		{object}	Problem
//	@Failure	422		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/decisions [get]
func (s *API) listDecisions(c echo.Context) error {
	q := readQuery(c)
	filter := decisions.DecisionQuery{
		From: q.instant("from"), To: q.instant("to"), Tracker: q.text("tracker"), DID: q.text("did"), Caller: q.text("caller"),
		Route: q.text("route"),
	}
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return respond(c)(s.Decisions.List(c.Request().Context(), filter, page))
}

// getDecision handles the operation getDecision.
//
//	@Summary	Get a decision
//	@Description	Returns the decision on a start call with its trace, and the ID of the resulting call.
//	@ID		getDecision
//	@Tags		calls
//	@Produce	json
//	@Param		id	path		string	true	"Decision ID"
//	@Success	200	{object}	decisions.DecisionView
//	@Failure	401	{object}	Problem
//	@Failure	404	{object}	Problem
//	@Failure	503	{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/decisions/{id} [get]
func (s *API) getDecision(c echo.Context) error {
	return respond(c)(s.Decisions.Get(c.Request().Context(), c.Param("id")))
}
