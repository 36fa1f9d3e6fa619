package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

const (
	typeScript = "text/javascript; charset=utf-8"
	typeStyles = "text/css; charset=utf-8"
	typeJSON   = "application/json; charset=utf-8" // for Ziwo and browsers; the admin API sends application/json
)

// respond answers with what a use case returned: a result as JSON with status
// 200, or an error.
func respond(c echo.Context) func(result any, err error) error {
	return func(result any, err error) error {
		if err != nil {
			return err
		}
		c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
		return c.JSON(http.StatusOK, result)
	}
}
