package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"calltracker/crm"
	"calltracker/handlers"
)

func (s *server) listConnections(c echo.Context) error {
	if err := queryOf(c).err(); err != nil {
		return err
	}
	return answer(c)(s.connections.List(c.Request().Context()))
}

func (s *server) testConnection(c echo.Context) error {
	var in handlers.ConnectionTestInput
	if err := readJSON(c, &in); err != nil {
		return err
	}
	return answer(c)(s.connections.Test(c.Request().Context(), c.Param("name"), in))
}

func (s *server) enrichCall(c echo.Context) error {
	state, err := s.enricher.Enrich(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusAccepted, state)
}

// cacheKey makes keys of numbers in the shared cache. It is the same on every
// replica, and the secret key cannot be told from it.
func cacheKey(secretKey []byte) []byte {
	mac := hmac.New(sha256.New, secretKey)
	mac.Write([]byte("numbers in the cache"))
	return mac.Sum(nil)
}

// crmTransport carries the requests to all CRMs. Each request has a time of its
// own; this bounds what it may spend on connecting.
func crmTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 16
	t.TLSHandshakeTimeout = time.Second
	t.MaxResponseHeaderBytes = 64 << 10
	return t
}

// crmMetrics counts what the CRMs answer.
type crmMetrics struct {
	lookups  *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newCRMMetrics(registry prometheus.Registerer) *crmMetrics {
	m := &crmMetrics{
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_crm_lookups_total", Help: "Look-ups that a CRM was asked, by connection and outcome: ok, or why not.",
		}, []string{"connection", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "calltracker_crm_lookup_duration_seconds", Help: "Time until a CRM had answered a look-up, waiting for its budget included.",
			Buckets: []float64{.01, .025, .05, .1, .15, .25, .5, 1, 1.5, 5, 30},
		}, []string{"connection"}),
	}
	registry.MustRegister(m.lookups, m.duration)
	return m
}

func (m *crmMetrics) observe(connection, outcome string, took time.Duration) {
	m.lookups.WithLabelValues(connection, outcome).Inc()
	m.duration.WithLabelValues(connection).Observe(took.Seconds())
}

// crmState reads how the connections do at the time of a scrape.
type crmState struct {
	directory *crm.Directory
	open      *prometheus.Desc
	left      *prometheus.Desc
}

// scrapeTimeout bounds how long a scrape may wait for the budgets in Redis.
const scrapeTimeout = time.Second

func newCRMState(d *crm.Directory) *crmState {
	return &crmState{
		directory: d,
		open:      prometheus.NewDesc("calltracker_crm_breaker_open", "1 when a CRM failed and is left alone until a probe finds it well.", []string{"connection"}, nil),
		left:      prometheus.NewDesc("calltracker_crm_budget_left", "Requests that could be sent to a CRM at once.", []string{"connection", "budget"}, nil),
	}
}

// Describe names the metrics.
func (s *crmState) Describe(out chan<- *prometheus.Desc) {
	out <- s.open
	out <- s.left
}

// Collect reads them.
func (s *crmState) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	for _, status := range s.directory.Status(ctx) {
		open := 0.0
		if status.Open {
			open = 1
		}
		out <- prometheus.MustNewConstMetric(s.open, prometheus.GaugeValue, open, status.Name)
		for _, b := range status.Budgets {
			out <- prometheus.MustNewConstMetric(s.left, prometheus.GaugeValue, float64(b.Left), status.Name, b.Name)
		}
	}
}
