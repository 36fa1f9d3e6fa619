package httpapi

import (
	"github.com/labstack/echo/v4"

	"calltracker/handlers/simulate"
)

// simulate decides a call without storing anything. Administrators may call it.
//
//	@Summary		Simulate a call
//	@Description	Returns the decision that a call would get at a given time, with its trace and the answer that Ziwo would receive. It uses the active configuration, or a document in the request.
//	@ID				simulate
//	@Tags			configuration
//	@Accept			json
//	@Produce		json
//	@Param			body	body		simulate.Input	true	"Call to simulate"
//	@Success		200		{object}	simulate.Simulation
//	@Failure		400		{object}	Problem
//	@Failure		401		{object}	Problem
//	@Failure		404		{object}	Problem
//	@Failure		413		{object}	Problem
//	@Failure		415		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/simulate [post]
func (s *API) simulate(c echo.Context) error {
	var in simulate.Input
	if err := readJSON(c, &in); err != nil {
		return err
	}
	return respond(c)(s.Simulator.Simulate(in))
}
