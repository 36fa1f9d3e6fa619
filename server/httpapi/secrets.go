package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/secrets"
)

// listSecrets handles the operation listSecrets.
//
//	@Summary	List the secrets
//	@Description	Returns the name and dates of each secret. Values are never returned.
//	@ID		listSecrets
//	@Tags		secrets
//	@Produce	json
//	@Success	200	{object}	secrets.SecretList
//	@Failure	401	{object}	Problem
//	@Failure	503	{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/secrets [get]
func (s *API) listSecrets(c echo.Context) error {
	return respond(c)(s.Secrets.List(c.Request().Context()))
}

// getSecret handles the operation getSecret.
//
//	@Summary	Get a secret
//	@Description	Returns the dates of a secret and whether the active configuration uses it. The value is never returned.
//	@ID		getSecret
//	@Tags		secrets
//	@Produce	json
//	@Param		name	path		string	true	"Secret name"
//	@Success	200		{object}	secrets.SecretView
//	@Failure	401		{object}	Problem
//	@Failure	404		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/secrets/{name} [get]
func (s *API) getSecret(c echo.Context) error {
	return respond(c)(s.Secrets.Get(c.Request().Context(), c.Param("name")))
}

// putSecret handles the operation putSecret.
//
//	@Summary	Store a secret
//	@Description	Stores the value encrypted and reloads the active configuration. An existing secret is replaced.
//	@ID		putSecret
//	@Tags		secrets
//	@Accept		json
//	@Produce	json
//	@Param		name	path		string		true	"Secret name"
//	@Param		body	body		secrets.SecretInput	true	"Secret value"
//	@Success	200		{object}	secrets.SecretView
//	@Failure	400		{object}	Problem
//	@Failure	401		{object}	Problem
//	@Failure	413		{object}	Problem
//	@Failure	415		{object}	Problem
//	@Failure	422		{object}	Problem
//	@Failure	503		{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/secrets/{name} [put]
func (s *API) putSecret(c echo.Context) error {
	var in secrets.SecretInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	return respond(c)(s.Secrets.Put(uncanceled(c), c.Param("name"), in))
}

// deleteSecret handles the operation deleteSecret.
//
//	@Summary	Delete a secret
//	@Description	Deletes a secret. A secret that the active configuration references cannot be deleted.
//	@ID		deleteSecret
//	@Tags		secrets
//	@Param		name	path	string	true	"Secret name"
//	@Success	204
//	@Failure	401	{object}	Problem
//	@Failure	404	{object}	Problem
//	@Failure	409	{object}	Problem
//	@Failure	503	{object}	Problem
//	@Security	Bearer
//	@Router		/api/v1/secrets/{name} [delete]
func (s *API) deleteSecret(c echo.Context) error {
	if err := s.Secrets.Delete(uncanceled(c), c.Param("name")); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}
