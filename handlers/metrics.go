package handlers

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"calltracker/rules"
	"calltracker/storage"
)

// Metrics counts what happens to calls. Make it with NewMetrics; it is safe for
// concurrent use.
type Metrics struct {
	calls      *prometheus.CounterVec
	reports    *prometheus.CounterVec
	rejections *prometheus.CounterVec
	jobs       *prometheus.CounterVec

	reconciliations *prometheus.CounterVec
	reconciled      *prometheus.CounterVec
	reached         *prometheus.GaugeVec

	mu      sync.Mutex
	tallies map[string][]*tally // by tracker
}

// NewMetrics makes the counters and registers them.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		tallies: map[string][]*tally{},
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_calls_stored_total", Help: "Calls stored for the first time, by result.",
		}, []string{"result"}),
		reports: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_call_reports_total", Help: "Records received: the first of a call, a revision with news, or an exact repeat.",
		}, []string{"kind"}),
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_job_tries_total", Help: "Tries of jobs, by kind and outcome: done, retry, delayed, stopped or dead.",
		}, []string{"kind", "outcome"}),
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
	registry.MustRegister(m.jobs, m, m.calls, m.reports, m.rejections, m.reconciliations, m.reconciled, m.reached)
	return m
}

// tally counts the decisions of one tracker, by route. It goes over from one
// configuration to the next as long as the routes are the same.
type tally struct {
	tracker string
	routes  []string
	counts  []atomic.Uint64
}

// tally is that of a tracker, from now on.
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

// Describe and Collect make Metrics the collector of its tallies: they are one
// number a route, where a counter with labels would take half a kilobyte.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) { to <- decisionsDesc }

// Collect sends what Describe describes.
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
