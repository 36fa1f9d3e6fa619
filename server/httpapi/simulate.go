package httpapi

import (
	"github.com/labstack/echo/v4"

	"calltracker/handlers/simulate"
)

// simulate handles the operation simulate.
//
//	@Summary		Simulate a call
//	@Description	Decides a call with the active configuration, or with the document in the request, and explains the decision. Nothing is stored.
//	@ID		simulate
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
