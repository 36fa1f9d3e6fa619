package main

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"calltracker/handlers"
)

// clickToCall goes on when the client hangs up: the phone rings by then.
func (s *server) clickToCall(c echo.Context) error {
	var in handlers.ClickToCallInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	view, err := s.clicker.Call(detached(c), in)
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return c.JSON(http.StatusAccepted, view)
}
