package httpapi

import (
	"github.com/labstack/echo/v4"
)

// listRejections lists requests from Ziwo that were rejected or unreadable.
// Administrators may call it.
//
//	@Summary		List rejected requests
//	@Description	Returns one page of requests from Ziwo that were refused or could not be read, newest first, with the reason of each. Keys are not stored.
//	@ID				listRejections
//	@Tags			calls
//	@Produce		json
//	@Param			cursor	query		string	false	"Value of `next` of the previous page"
//	@Param			limit	query		int		false	"Page size, from 1 to 1000 (default 50)"
//	@Success		200		{object}	rejections.List
//	@Failure		401		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/rejections [get]
func (s *API) listRejections(c echo.Context) error {
	q := readQuery(c)
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return respond(c)(s.Rejections.List(c.Request().Context(), page))
}
