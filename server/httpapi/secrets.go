package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/secrets"
)

// listSecrets lists the names of stored secrets. Administrators may call it.
//
//	@Summary		List secrets
//	@Description	Returns the names and dates of all stored secrets. Values are never returned.
//	@ID				listSecrets
//	@Tags			secrets
//	@Produce		json
//	@Success		200	{object}	secrets.List
//	@Failure		401	{object}	Problem
//	@Failure		503	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/secrets [get]
func (s *API) listSecrets(c echo.Context) error {
	return respond(c)(s.Secrets.List(c.Request().Context()))
}

// getSecret returns the dates of a secret, but not its value. Administrators may
// call it.
//
//	@Summary		Get a secret
//	@Description	Returns the name and dates of a secret. Its value is never returned.
//	@ID				getSecret
//	@Tags			secrets
//	@Produce		json
//	@Param			name	path		string	true	"Name of the secret"
//	@Success		200		{object}	secrets.View
//	@Failure		401		{object}	Problem
//	@Failure		404		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/secrets/{name} [get]
func (s *API) getSecret(c echo.Context) error {
	return respond(c)(s.Secrets.Get(c.Request().Context(), c.Param("name")))
}

// putSecret stores a secret. Administrators may call it.
//
//	@Summary		Store a secret
//	@Description	Encrypts and stores a secret, or replaces its value. The active configuration uses the new value immediately.
//	@ID				putSecret
//	@Tags			secrets
//	@Accept			json
//	@Produce		json
//	@Param			name	path		string				true	"Name of the secret"
//	@Param			body	body		secrets.Input	true	"Value of the secret"
//	@Success		200		{object}	secrets.View
//	@Failure		400		{object}	Problem
//	@Failure		401		{object}	Problem
//	@Failure		413		{object}	Problem
//	@Failure		415		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/secrets/{name} [put]
func (s *API) putSecret(c echo.Context) error {
	var in secrets.Input
	if err := readJSON(c, &in); err != nil {
		return err
	}
	return respond(c)(s.Secrets.Put(uncanceled(c), c.Param("name"), in))
}

// deleteSecret deletes a secret that the configuration does not use. Administrators
// may call it.
//
//	@Summary		Delete a secret
//	@Description	Deletes a secret. The status is 409 if the active configuration refers to it.
//	@ID				deleteSecret
//	@Tags			secrets
//	@Param			name	path	string	true	"Name of the secret"
//	@Success		204
//	@Failure		401	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Failure		409	{object}	Problem
//	@Failure		503	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/secrets/{name} [delete]
func (s *API) deleteSecret(c echo.Context) error {
	if err := s.Secrets.Delete(uncanceled(c), c.Param("name")); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
