package httpapi

import (
	"github.com/labstack/echo/v4"

	"calltracker/handlers/decisions"
)

// listDecisions lists the decisions on start calls. Administrators may call it.
//
//	@Summary		List decisions
//	@Description	Returns one page of decisions, newest first: the start calls that Ziwo sent, the answers, and the traces that explain them.
//	@ID				listDecisions
//	@Tags			calls
//	@Produce		json
//	@Param			from	query		string	false	"Start of the period, inclusive (RFC 3339)"
//	@Param			to		query		string	false	"End of the period, exclusive (RFC 3339)"
//	@Param			tracker	query		string	false	"Name of the tracker"
//	@Param			did		query		string	false	"Number that the caller dialed (DID), in any format"
//	@Param			caller	query		string	false	"Number of the caller, in any format"
//	@Param			route	query		string	false	"ID of the route"
//	@Param			cursor	query		string	false	"Value of `next` of the previous page"
//	@Param			limit	query		int		false	"Page size, from 1 to 1000 (default 50)"
//	@Success		200		{object}	decisions.List
//	@Failure		401		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/decisions [get]
func (s *API) listDecisions(c echo.Context) error {
	q := readQuery(c)
	filter := decisions.Query{
		From: q.instant("from"), To: q.instant("to"), Tracker: q.text("tracker"), DID: q.text("did"), Caller: q.text("caller"),
		Route: q.text("route"),
	}
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return respond(c)(s.Decisions.List(c.Request().Context(), filter, page))
}

// getDecision returns the decision on a start call. Administrators may call it.
//
//	@Summary		Get a decision
//	@Description	Returns one decision with its trace, and the call that followed it.
//	@ID				getDecision
//	@Tags			calls
//	@Produce		json
//	@Param			id	path		string	true	"ID of the decision"
//	@Success		200	{object}	decisions.View
//	@Failure		401	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Failure		503	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/decisions/{id} [get]
func (s *API) getDecision(c echo.Context) error {
	return respond(c)(s.Decisions.Get(c.Request().Context(), c.Param("id")))
}
