package httpapi

import (
	"github.com/labstack/echo/v4"

	"calltracker/handlers/connections"
)

// listConnections lists the CRM connections and their state. Administrators may call
// it.
//
//	@Summary		List CRM connections
//	@Description	Returns each CRM connection with its state, remaining request budget, circuit breaker, and last error.
//	@ID				listConnections
//	@Tags			connections
//	@Produce		json
//	@Success		200	{object}	connections.List
//	@Failure		401	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/connections [get]
func (s *API) listConnections(c echo.Context) error {
	if err := readQuery(c).err(); err != nil {
		return err
	}
	return respond(c)(s.Connections.List(c.Request().Context()))
}

// testConnection tests the credentials of a CRM connection. Administrators may call
// it.
//
//	@Summary		Test a CRM connection
//	@Description	Checks the credentials of a CRM connection and looks up a phone number, without using the cache. A success closes the circuit breaker.
//	@ID				testConnection
//	@Tags			connections
//	@Accept			json
//	@Produce		json
//	@Param			name	path		string							true	"Name of the connection"
//	@Param			body	body		connections.TestInput	true	"Phone number to look up"
//	@Success		200		{object}	connections.TestResult
//	@Failure		400		{object}	Problem
//	@Failure		401		{object}	Problem
//	@Failure		404		{object}	Problem
//	@Failure		413		{object}	Problem
//	@Failure		415		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/connections/{name}/test [post]
func (s *API) testConnection(c echo.Context) error {
	var in connections.TestInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	return respond(c)(s.Connections.Test(c.Request().Context(), c.Param("name"), in))
}
