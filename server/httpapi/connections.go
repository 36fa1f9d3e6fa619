package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/connections"
)

// listConnections handles the operation listConnections.
//
//	@Summary		List the CRM connections
//	@Description	Returns the state, remaining request budgets, circuit breaker, and last error of each connection.
//	@ID		listConnections
//	@Tags			connections
//	@Produce		json
//	@Success		200	{object}	connections.ConnectionList
//	@Failure		401	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/connections [get]
func (s *API) listConnections(c echo.Context) error {
	if err := readQuery(c).err(); err != nil {
		return err
	}
	return respond(c)(s.Connections.List(c.Request().Context()))
}

// testConnection handles the operation testConnection.
//
//	@Summary		Test a CRM connection
//	@Description	Checks the credentials of the account and looks up a number without using the cache. A success closes the circuit breaker.
//	@ID		testConnection
//	@Tags			connections
//	@Accept			json
//	@Produce		json
//	@Param			name	path		string				true	"Connection name"
//	@Param			body	body		connections.ConnectionTestInput	true	"Number to look up"
//	@Success		200		{object}	connections.ConnectionTest
//	@Failure		400		{object}	Problem
//	@Failure		401		{object}	Problem
//	@Failure		404		{object}	Problem
//	@Failure		413		{object}	Problem
//	@Failure		415		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/connections/{name}/test [post]
func (s *API) testConnection(c echo.Context) error {
	var in connections.ConnectionTestInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	return respond(c)(s.Connections.Test(c.Request().Context(), c.Param("name"), in))
}

// enrichCall handles the operation enrichCall.
//
//	@Summary		Look up the customers of a call again
//	@Description	Queues a lookup that bypasses the cache. The state is none for a call whose number is withheld, internal, or invalid.
//	@ID		enrichCall
//	@Tags			calls
//	@Produce		json
//	@Param			id	path		string	true	"Call ID"
//	@Success		202	{object}	storage.Enrichment
//	@Failure		401	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Failure		422	{object}	Problem
//	@Failure		503	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/calls/{id}/enrich [post]
func (s *API) enrichCall(c echo.Context) error {
	state, err := s.Lookups.Enrich(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusAccepted, state)
}
