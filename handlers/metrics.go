package handlers

import (
	"github.com/prometheus/client_golang/prometheus"

	"calltracker/storage"
)

// Metrics counts what happens to calls. Make it with NewMetrics; it is safe for
// concurrent use.
type Metrics struct {
	calls      *prometheus.CounterVec
	reports    *prometheus.CounterVec
	rejections *prometheus.CounterVec

	reconciliations *prometheus.CounterVec
	reconciled      *prometheus.CounterVec
	reached         *prometheus.GaugeVec
}

// NewMetrics makes the counters and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_calls_stored_total", Help: "Calls stored for the first time, by result.",
		}, []string{"result"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_call_reports_total", Help: "Records received: the first of a call, a revision with news, or an exact repeat.",
		}, []string{"kind"}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_rejections_total", Help: "Requests of Ziwo refused, or kept without being understood, by reason.",
		}, []string{"reason"}),
		reconciliations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_reconciliations_total", Help: "Comparisons with Ziwo's call history, by contact center and state.",
		}, []string{"contact_center", "state"}),
		reconciled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_reconciled_calls_total", Help: "Calls that such a comparison stored, completed or found to differ.",
		}, []string{"contact_center", "kind"}),
		reached: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "calltracker_reconciled_until_seconds", Help: "Unix time up to which the calls of a contact center were compared with Ziwo's.",
		}, []string{"contact_center"}),
	}
	registry.MustRegister(m.calls, m.reports, m.rejections, m.reconciliations, m.reconciled, m.reached)
	return m
}

// Stored counts a record that was kept.
func (m *Metrics) Stored(result storage.Result, saved storage.SaveResult) {
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

// Reconciled counts a reconciliation.
func (m *Metrics) Reconciled(r storage.Reconciliation) {
	m.reconciliations.WithLabelValues(r.ContactCenter, string(r.State)).Inc()
	for kind, n := range map[string]int{"backfilled": r.Counts.Backfilled, "enriched": r.Counts.Enriched, "differing": r.Counts.Differing} {
		m.reconciled.WithLabelValues(r.ContactCenter, kind).Add(float64(n))
	}
	if r.Trigger == storage.TriggerSchedule && !r.Reached.IsZero() {
		m.reached.WithLabelValues(r.ContactCenter).Set(float64(r.Reached.Unix()))
	}
}
