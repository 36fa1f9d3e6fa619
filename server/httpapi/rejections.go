package httpapi

import (
	"github.com/labstack/echo/v4"
)

func (s *API) listRejections(c echo.Context) error {
	q := queryOf(c)
	page := q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.Rejections.List(c.Request().Context(), page))
}
