package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// This file turns admin requests into calls of handlers, and their results into
// answers.

// answer sends what a handler returned.
func answer(c echo.Context) func(result any, err error) error {
	return func(result any, err error) error {
		if err != nil {
			return err
		}
		c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
		return c.JSON(http.StatusOK, result)
	}
}
