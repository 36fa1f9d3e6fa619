package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"calltracker/openapi"
)

// schema serves the JSON Schema of the configuration. Any client may call it.
//
//	@Summary		Get the JSON Schema of the configuration
//	@Description	Returns the JSON Schema of the configuration document. Editors use it for completion and validation.
//	@ID				getConfigSchema
//	@Tags			configuration
//	@Produce		application/schema+json
//	@Success		200	{object}	object
//	@Router			/schema/config.json [get]
func (s *API) schema(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/schema+json", s.Schema)
}

// specification serves the OpenAPI description. Any client may call it.
//
//	@Summary		Get the OpenAPI description
//	@Description	Returns this OpenAPI description as JSON.
//	@ID				getOpenAPI
//	@Tags			operation
//	@Produce		json
//	@Success		200	{object}	object
//	@Router			/openapi.json [get]
func (s *API) specification(c echo.Context) error {
	return c.Blob(http.StatusOK, echo.MIMEApplicationJSON, openapi.Document())
}

// toDocs redirects to the API browser.
func toDocs(c echo.Context) error { return c.Redirect(http.StatusFound, "/docs/") }

// docs serves the API browser. Its Content-Security-Policy forbids loading anything
// from other hosts.
func docs() echo.HandlerFunc {
	files := http.StripPrefix("/docs/", http.FileServerFS(openapi.Browser()))
	return func(c echo.Context) error {
		header := c.Response().Header()
		header.Set(echo.HeaderContentSecurityPolicy, "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'")
		header.Set(echo.HeaderXContentTypeOptions, "nosniff")
		files.ServeHTTP(c.Response(), c.Request())
		return nil
	}
}
