package handlers

import (
	"github.com/prometheus/client_golang/prometheus"

	"calltracker/storage"
)

// Metrics counts what happens to calls. Make it with NewMetrics; it is safe for
// concurrent use.
type Metrics struct {
	decisions  *prometheus.CounterVec
	calls      *prometheus.CounterVec
	reports    *prometheus.CounterVec
	rejections *prometheus.CounterVec
}

// NewMetrics makes the counters and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_decisions_total", Help: "Start calls answered, by tracker and route.",
		}, []string{"tracker", "route"}),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_calls_stored_total", Help: "Calls stored for the first time, by result.",
		}, []string{"result"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_call_reports_total", Help: "Records received: the first of a call, a revision with news, or an exact repeat.",
		}, []string{"kind"}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_rejections_total", Help: "Requests of Ziwo refused, or kept without being understood, by reason.",
		}, []string{"reason"}),
	}
	registry.MustRegister(m.decisions, m.calls, m.reports, m.rejections)
	return m
}

// Decided counts a decision.
func (m *Metrics) Decided(tracker, route string) {
	m.decisions.WithLabelValues(tracker, route).Inc()
}

// Stored counts a record that was kept.
func (m *Metrics) Stored(result storage.Result, saved storage.Saved) {
	switch {
	case saved.Created:
		m.calls.WithLabelValues(string(result)).Inc()
		m.reports.WithLabelValues("first").Inc()
	case saved.Revised:
		m.reports.WithLabelValues("revision").Inc()
	default:
		m.reports.WithLabelValues("repeat").Inc()
	}
}
