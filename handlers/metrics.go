package handlers

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/rules"
	"calltracker/storage"
)

// Metrics holds the counters of calls, jobs, and reconciliations. Create it with
// NewMetrics. It is safe for concurrent use.
type Metrics struct {
	calls      *prometheus.CounterVec
	reports    *prometheus.CounterVec
	rejections *prometheus.CounterVec
	jobs       *prometheus.CounterVec

	reconciliations *prometheus.CounterVec
	reconciled      *prometheus.CounterVec
	reached         *prometheus.GaugeVec

	mu      sync.Mutex
	tallies map[string][]*tally // by tracker ID
}

// NewMetrics returns registered metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_calls_stored_total", Help: "Calls stored for the first time, by result.",
		}, []string{"result"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_call_reports_total", Help: "Call reports received, by kind: first, revision (with new data), or repeat (without).",
		}, []string{"kind"}),
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_job_tries_total", Help: "Job attempts, by kind and outcome: done, retry, delayed, stopped, or dead.",
		}, []string{"kind", "outcome"}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_rejections_total", Help: "Ziwo requests rejected, or stored although unreadable, by reason.",
		}, []string{"reason"}),
		reconciliations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_reconciliations_total", Help: "Comparisons with Ziwo's call history, by contact center and state.",
		}, []string{"contact_center", "state"}),
		reconciled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_reconciled_calls_total", Help: "Calls that reconciliation backfilled, enriched, or found to differ, by contact center and kind.",
		}, []string{"contact_center", "kind"}),
		reached: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "calltracker_reconciled_until_seconds", Help: "Unix time up to which calls are reconciled with Ziwo's history, by contact center.",
		}, []string{"contact_center"}),
	}
	registry.MustRegister(m.jobs, m.calls, m.reports, m.rejections, m.reconciliations, m.reconciled, m.reached)
	return m
}

// tally counts the decisions of a tracker by route. It is reused by later
// configurations until the routes change.
type tally struct {
	tracker string
	routes  []string
	counts  []atomic.Uint64
}

// tally returns the current tally of a tracker.
func (m *Metrics) tally(router *rules.Router) *tally {
	routes := router.RouteIDs()
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.tallies[router.ID()]
	for _, t := range known {
		if slices.Equal(t.routes, routes) {
			return t
		}
	}
	fresh := &tally{tracker: router.ID(), routes: routes, counts: make([]atomic.Uint64, len(routes))}
	m.tallies[router.ID()] = append(known, fresh)
	return fresh
}

var decisionsDesc = prometheus.NewDesc("calltracker_decisions_total", "Start calls answered, by tracker and route.", []string{"tracker", "route"}, nil)

// Describe and Collect implement prometheus.Collector for the tallies. A tally uses
// one number per route, while a labeled counter would use half a kilobyte.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) { to <- decisionsDesc }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for tracker, tallies := range m.tallies {
		sums := map[string]uint64{}
		for _, t := range tallies {
			for i := range t.counts {
				if n := t.counts[i].Load(); n > 0 {
					sums[t.routes[i]] += n
				}
			}
		}
		for route, n := range sums {
			to <- prometheus.MustNewConstMetric(decisionsDesc, prometheus.CounterValue, float64(n), tracker, route)
		}
	}
}

// Stored counts a stored report.
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

// Reconciled counts a finished reconciliation.
func (m *Metrics) Reconciled(r storage.Reconciliation) {
	m.reconciliations.WithLabelValues(r.ContactCenter, string(r.State)).Inc()
	for kind, n := range map[string]int{"backfilled": r.Counts.Backfilled, "enriched": r.Counts.Enriched, "differing": r.Counts.Differing} {
		m.reconciled.WithLabelValues(r.ContactCenter, kind).Add(float64(n))
	}
	if r.Trigger == storage.TriggerSchedule && !r.Reached.IsZero() {
		m.reached.WithLabelValues(r.ContactCenter).Set(float64(r.Reached.Unix()))
	}
}
