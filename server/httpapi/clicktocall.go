package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/clicktocall"
)

// clickToCall makes Ziwo ring an agent and then call a customer. It continues if the
// client disconnects, because the phone may already be ringing. Administrators may call
// it.
//
//	@Summary		Click-to-call: ring an agent, then call a customer
//	@Description	Asks Ziwo to ring an agent; when the agent answers, Ziwo calls the customer's number. Status 202 means that Ziwo is ringing the agent, 409 that Ziwo refused (for example, because the agent is not logged in or is in a call), and 504 that it is unknown whether the phone is ringing, so check `/api/v1/live` before retrying.
//	@ID				clickToCall
//	@Tags			live
//	@Accept			json
//	@Produce		json
//	@Param			body	body		clicktocall.Input	true	"Agent and number to call"
//	@Success		202		{object}	clicktocall.View
//	@Failure		400		{object}	Problem
//	@Failure		401		{object}	Problem
//	@Failure		404		{object}	Problem
//	@Failure		409		{object}	Problem
//	@Failure		413		{object}	Problem
//	@Failure		415		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		502		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Failure		504		{object}	Problem
//	@Header			503		{integer}	Retry-After	"Seconds to wait before retrying"
//	@Security		Bearer
//	@Router			/api/v1/calls [post]
func (s *API) clickToCall(c echo.Context) error {
	var in clicktocall.Input
	if err := readJSON(c, &in); err != nil {
		return err
	}
	view, err := s.ClickToCall.Call(uncanceled(c), in)
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return c.JSON(http.StatusAccepted, view)
}
