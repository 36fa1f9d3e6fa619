package handlers

import "github.com/prometheus/client_golang/prometheus"

// Metrics holds the counters of jobs. Create it with NewMetrics. It is safe for
// concurrent use.
type Metrics struct{ jobs *prometheus.CounterVec }

// NewMetrics returns registered metrics.
func NewMetrics(registry prometheus.Registerer) *Metrics {
	m := &Metrics{
		jobs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_job_tries_total", Help: "Job attempts, by kind and outcome: done, retry, delayed, stopped, or dead.",
		}, []string{"kind", "outcome"}),
	}
	registry.MustRegister(m.jobs)
	return m
}
