package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/secrets"
)

func (s *API) listSecrets(c echo.Context) error {
	return answer(c)(s.Secrets.List(c.Request().Context()))
}

func (s *API) getSecret(c echo.Context) error {
	return answer(c)(s.Secrets.Get(c.Request().Context(), c.Param("name")))
}

func (s *API) putSecret(c echo.Context) error {
	var in secrets.SecretInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	return answer(c)(s.Secrets.Put(detached(c), c.Param("name"), in))
}

func (s *API) deleteSecret(c echo.Context) error {
	if err := s.Secrets.Delete(detached(c), c.Param("name")); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
