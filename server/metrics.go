package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"calltracker/config"
	"calltracker/crm"
	"calltracker/handlers/live"
	"calltracker/storage"
	"calltracker/storage/cache"
	"calltracker/storage/spool"
)

// metricSources are the components whose state is exported as metrics.
type metricSources struct {
	config                *config.Controller
	decisions, rejections writeQueue
	wallboard             *live.Wallboard
	databaseUp            func() bool
	spool                 func() spool.Stats
	spooled               func() int64
	directory             *crm.Directory
	jobs                  jobCounter
	redis                 *cache.Redis // nil without Redis
}

// writeQueue is a queue of records that are written in the background.
type writeQueue interface {
	Depth() int
	Dropped() int64
	Written() int64
}

// registerMetrics registers the metrics that are read during each scrape.
func registerMetrics(registry prometheus.Registerer, from metricSources) {
	registerProcess(registry, from)
	registerSpool(registry, from.spool, from.spooled)
	registerWallboard(registry, from.wallboard)
	registry.MustRegister(newCRMState(from.directory), &jobState{store: from.jobs})
	if from.redis != nil {
		registerRedis(registry, from.redis.Up)
	}
}

// registerProcess exports the program, its configuration, its database and its
// queues.
func registerProcess(registry prometheus.Registerer, from metricSources) {
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "calltracker_build_info", Help: "Always 1. The labels identify the program.",
	}, []string{"version", "commit", "go"})
	about := currentBuild()
	build.WithLabelValues(about.Version, about.Commit, about.Go).Set(1)
	registry.MustRegister(build)
	gauge := func(name, help string, labels prometheus.Labels, read func() float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, read))
	}
	counter := func(name, help string, labels prometheus.Labels, read func() float64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, read))
	}
	gauge("calltracker_config_version", "Version of the active configuration; 0 if there is none.", nil, func() float64 {
		if current := from.config.Current(); current != nil {
			return float64(current.Version.Version)
		}
		return 0
	})
	gauge("calltracker_database_up", "1 if the database is in use, otherwise 0.", nil, func() float64 {
		if from.databaseUp() {
			return 1
		}
		return 0
	})
	for name, q := range map[string]writeQueue{"decisions": from.decisions, "rejections": from.rejections} {
		labels := prometheus.Labels{"queue": name}
		gauge("calltracker_queue_depth", "Records waiting to be written.", labels, func() float64 { return float64(q.Depth()) })
		counter("calltracker_queue_dropped_total", "Records lost because the queue was full or the database was unavailable.", labels, func() float64 { return float64(q.Dropped()) })
		counter("calltracker_queue_written_total", "Records written.", labels, func() float64 { return float64(q.Written()) })
	}
}

// registerSpool exports the state of the spool.
func registerSpool(registry prometheus.Registerer, stats func() spool.Stats, spooled func() int64) {
	gauge := func(name, help string, read func(spool.Stats) float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "calltracker_spool_" + name, Help: help},
			func() float64 { return read(stats()) }))
	}
	counter := func(name, help string, read func() int64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "calltracker_spool_" + name, Help: help},
			func() float64 { return float64(read()) }))
	}
	gauge("records", "Records on the local disk, waiting for the database.", func(s spool.Stats) float64 { return float64(s.Records) })
	gauge("bytes", "Bytes of the records on the local disk.", func(s spool.Stats) float64 { return float64(s.Bytes) })
	gauge("oldest_seconds", "Age of the oldest record on the local disk; 0 if there is none.", func(s spool.Stats) float64 {
		if s.Oldest.IsZero() {
			return 0
		}
		return max(time.Since(s.Oldest).Seconds(), 0)
	})
	counter("spooled_total", "Records written to the spool.", spooled)
	counter("drained_total", "Records moved from the spool to the database.", func() int64 { return stats().Drained })
	counter("quarantined_total", "Files moved to the spool's quarantine: damaged data, and records that the database rejects.",
		func() int64 { return stats().Quarantined })
}

// registerRedis exports whether Redis is in use.
func registerRedis(registry prometheus.Registerer, up func() bool) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "calltracker_redis_up", Help: "1 if Redis is in use, 0 if this process uses its own counters.",
	}, func() float64 {
		if up() {
			return 1
		}
		return 0
	}))
}

// crmMetrics measures CRM lookups.
type crmMetrics struct {
	lookups  *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func newCRMMetrics(registry prometheus.Registerer) *crmMetrics {
	m := &crmMetrics{
		lookups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "calltracker_crm_lookups_total", Help: "CRM lookups by connection and outcome: ok, or the kind of error.",
		}, []string{"connection", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "calltracker_crm_lookup_duration_seconds", Help: "Duration of CRM lookups, including the wait for the request budget.",
			Buckets: []float64{.01, .025, .05, .1, .15, .25, .5, 1, 1.5, 5, 30},
		}, []string{"connection"}),
	}
	registry.MustRegister(m.lookups, m.duration)
	return m
}

// observe counts a lookup.
func (m *crmMetrics) observe(connection, outcome string, took time.Duration) {
	m.lookups.WithLabelValues(connection, outcome).Inc()
	m.duration.WithLabelValues(connection).Observe(took.Seconds())
}

// crmState exports the state of the CRM connections.
type crmState struct {
	directory *crm.Directory
	open      *prometheus.Desc
	left      *prometheus.Desc
}

// scrapeTimeout limits how long a scrape waits for Redis or the database.
const scrapeTimeout = time.Second

func newCRMState(d *crm.Directory) *crmState {
	return &crmState{
		directory: d,
		open:      prometheus.NewDesc("calltracker_crm_breaker_open", "1 if the circuit breaker of a CRM is open, otherwise 0.", []string{"connection"}, nil),
		left:      prometheus.NewDesc("calltracker_crm_budget_left", "Requests that can be sent to a CRM immediately.", []string{"connection", "budget"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (s *crmState) Describe(out chan<- *prometheus.Desc) {
	out <- s.open
	out <- s.left
}

// Collect implements prometheus.Collector.
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

// jobCounter is the part of a store that jobState uses.
type jobCounter interface {
	CountJobs(ctx context.Context) ([]storage.JobCount, error)
}

// jobState exports the number of unfinished jobs.
type jobState struct{ store jobCounter }

var (
	jobsDesc      = prometheus.NewDesc("calltracker_jobs", "Unfinished jobs, by kind and state.", []string{"kind", "state"}, nil)
	oldestJobDesc = prometheus.NewDesc("calltracker_job_oldest_seconds", "How long the oldest waiting job of a kind has been due.", []string{"kind"}, nil)
)

// Describe implements prometheus.Collector.
func (*jobState) Describe(out chan<- *prometheus.Desc) {
	out <- jobsDesc
	out <- oldestJobDesc
}

// Collect implements prometheus.Collector. If the database is unavailable, it
// returns no metrics.
func (j *jobState) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	counts, err := j.store.CountJobs(ctx)
	if err != nil {
		return
	}
	for _, c := range counts {
		out <- prometheus.MustNewConstMetric(jobsDesc, prometheus.GaugeValue, float64(c.Count), c.Kind, string(c.State))
		if c.State == storage.JobWaiting {
			out <- prometheus.MustNewConstMetric(oldestJobDesc, prometheus.GaugeValue, max(time.Since(c.Oldest).Seconds(), 0), c.Kind)
		}
	}
}

// registerWallboard exports the number of live streams.
func registerWallboard(registry prometheus.Registerer, board *live.Wallboard) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "calltracker_live_listeners", Help: "Clients of live streams.",
	}, func() float64 {
		n, _ := board.Listeners()
		return float64(n)
	}))
}
