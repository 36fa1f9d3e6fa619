package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/reconcile"
)

func (s *API) listReconciliations(c echo.Context) error {
	q := queryOf(c)
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.Reconciler.List(c.Request().Context(), page))
}

// reconcilePatience is how long a comparison that was asked for may take.
const reconcilePatience = 20 * time.Minute

// reconcile answers when it is done, which may take longer than other answers.
func (s *API) reconcile(c echo.Context) error {
	var in reconcile.ReconciliationInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	control := http.NewResponseController(c.Response())
	if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Now().Add(reconcilePatience+writeTimeout))); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), reconcilePatience)
	defer cancel()
	return answer(c)(s.Reconciler.Reconcile(ctx, in))
}
