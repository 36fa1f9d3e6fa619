package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/reconcile"
)

// listReconciliations handles the operation listReconciliations.
//
//	@Summary	List reconciliations
//	@Description	Returns the comparisons with Ziwo's call history, newest first.
//	@ID		listReconciliations
//	@Tags		calls
//	@Produce	json
//	@Param		cursor	query		string	false	"Value of next from the previous page"
//	@Param		limit	query		int		false	"Page size, from 1 to 1000 (default 50)"
//	@Success	200		{object}	reconcile.ReconciliationList
//	@Failure	401		{object}	Problem
//	@Failure	422		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/reconciliation [get]
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

// reconcile answers when it is done, which may take longer than other answers.
//
//	@Summary		Reconcile with Ziwo's call history
//	@Description	Compares a span with Ziwo's call history and stores missing calls. The response is sent when the comparison is done, which takes some seconds for a day of 50,000 calls. If Ziwo is unavailable, the run has the state delayed.
//	@ID		reconcile
//	@Tags			calls
//	@Accept			json
//	@Produce		json
//	@Param			body	body		reconcile.ReconciliationInput	true	"Span of at most 31 days"
//	@Success		200		{object}	reconcile.ReconciliationList
//	@Failure		400		{object}	Problem
//	@Failure		401		{object}	Problem
//	@Failure		413		{object}	Problem
//	@Failure		415		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/reconciliation [post]
func (s *API) reconcile(c echo.Context) error {
	var in reconcile.ReconciliationInput
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
