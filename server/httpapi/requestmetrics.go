package httpapi

import (
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
)

// requestMetrics times requests by route. Labels are fixed when the route is
// registered, so that nothing a client sends becomes one.
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

// observe wraps the handler of one route.
func (m *requestMetrics) observe(method, route string, next echo.HandlerFunc) echo.HandlerFunc {
	labels := prometheus.Labels{"method": method, "route": route}
	duration := m.durations.With(labels)
	answers := m.answers.MustCurryWith(labels)
	ok := answers.WithLabelValues("200")
	return func(c echo.Context) error {
		start := time.Now()
		err := next(c)
		if err != nil {
			c.Error(err) // answers it, so that the status is known
		}
		duration.Observe(time.Since(start).Seconds())
		if status := c.Response().Status; status == 200 {
			ok.Inc()
		} else {
			answers.WithLabelValues(strconv.Itoa(status)).Inc()
		}
		return nil
	}
}
