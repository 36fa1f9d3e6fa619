package httpapi

import (
	"github.com/labstack/echo/v4"

	"calltracker/handlers/simulate"
)

func (s *API) simulate(c echo.Context) error {
	var in simulate.Input
	if err := readJSON(c, &in); err != nil {
		return err
	}
	return answer(c)(s.Simulator.Simulate(in))
}
