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
