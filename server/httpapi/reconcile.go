package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/reconcile"
)

// listReconciliations lists comparisons with Ziwo's call history. Administrators may
// call it.
//
//	@Summary		List reconciliation runs
//	@Description	Returns one page of reconciliation runs, newest first. A run compares stored calls with Ziwo's call history.
//	@ID				listReconciliations
//	@Tags			calls
//	@Produce		json
//	@Param			cursor	query		string	false	"Value of `next` of the previous page"
//	@Param			limit	query		int		false	"Page size, from 1 to 1000 (default 50)"
//	@Success		200		{object}	reconcile.List
//	@Failure		401		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/reconciliation [get]
func (s *API) listReconciliations(c echo.Context) error {
	q := readQuery(c)
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return respond(c)(s.Reconciler.List(c.Request().Context(), page))
}

// reconcileTimeout is how long a requested reconciliation may take.
const reconcileTimeout = 20 * time.Minute

// reconcile compares a period with Ziwo's call history, and answers when it is done.
// That may take longer than other requests may last. Administrators may call it.
//
//	@Summary		Reconcile a period with Ziwo now
//	@Description	Compares a period with Ziwo's call history, stores missing calls, and returns the result of each contact center. The response arrives when the run is done, after a few seconds for a day of 50,000 calls; if Ziwo cannot be reached, the state of the contact center is `delayed`.
//	@ID				reconcile
//	@Tags			calls
//	@Accept			json
//	@Produce		json
//	@Param			body	body		reconcile.Input	true	"Period of at most 31 days"
//	@Success		200		{object}	reconcile.List
//	@Failure		400		{object}	Problem
//	@Failure		401		{object}	Problem
//	@Failure		413		{object}	Problem
//	@Failure		415		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/reconciliation [post]
func (s *API) reconcile(c echo.Context) error {
	var in reconcile.Input
	if err := readJSON(c, &in); err != nil {
		return err
	}
	control := http.NewResponseController(c.Response())
	if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Now().Add(reconcileTimeout+writeTimeout))); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), reconcileTimeout)
	defer cancel()
	return respond(c)(s.Reconciler.Reconcile(ctx, in))
}
