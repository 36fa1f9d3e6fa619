package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// requestMetrics measures requests by route. The labels are set when a route is
// registered, so clients cannot create new ones.
type requestMetrics struct {
	durations *prometheus.HistogramVec
	answers   *prometheus.CounterVec
}

func newRequestMetrics(registry prometheus.Registerer) *requestMetrics {
	m := &requestMetrics{
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "calltracker_request_duration_seconds", Help: "Time to answer, by route.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"method", "route"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_requests_total", Help: "Requests answered, by route and status.",
		}, []string{"method", "route", "status"}),
	}
	registry.MustRegister(m.durations, m.answers)
	return m
}

// observe returns a handler that calls next and measures it.
func (m *requestMetrics) observe(method, route string, next echo.HandlerFunc) echo.HandlerFunc {
	labels := prometheus.Labels{"method": method, "route": route}
	duration := m.durations.With(labels)
	answers := m.answers.MustCurryWith(labels)
	ok := answers.WithLabelValues("200")
	return func(c echo.Context) error {
		start := time.Now()
		err := next(c)
		if err != nil {
			c.Error(err) // sends the answer, which sets the status
		}
		duration.Observe(time.Since(start).Seconds())
		if status := c.Response().Status; status == http.StatusOK {
			ok.Inc()
		} else {
			answers.WithLabelValues(strconv.Itoa(status)).Inc()
		}
		return nil
	}
}

// recoverPanics turns a panic of a handler into an error of its request.
func (s *API) recoverPanics(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			r := recover()
			if cause, ok := r.(error); ok && errors.Is(cause, http.ErrAbortHandler) {
				panic(r) // net/http then closes the connection
			}
			if r != nil {
				s.Logger.LogAttrs(c.Request().Context(), slog.LevelError, "panic",
					slog.Any("panic", r), slog.String("route", c.Path()), slog.String("stack", string(debug.Stack())))
				err = fmt.Errorf("panic: %v", r)
			}
		}()
		return next(c)
	}
}
