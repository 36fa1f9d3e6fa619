package main

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"calltracker/handlers"
)

func (s *api) listConnections(c echo.Context) error {
	if err := queryOf(c).err(); err != nil {
		return err
	}
	return answer(c)(s.Connections.List(c.Request().Context()))
}

func (s *api) testConnection(c echo.Context) error {
	var in handlers.ConnectionTestInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	return answer(c)(s.Connections.Test(c.Request().Context(), c.Param("name"), in))
}

func (s *api) enrichCall(c echo.Context) error {
	state, err := s.Lookups.Enrich(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusAccepted, state)
}
