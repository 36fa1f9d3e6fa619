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

// metricSources are what the metrics are read from.
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

// registerMetrics registers the metrics that are read at each scrape.
func registerMetrics(registry prometheus.Registerer, from metricSources) {
	registerProcess(registry, from)
	registerSpool(registry, from.spool, from.spooled)
	registerWallboard(registry, from.wallboard)
	registry.MustRegister(newCRMState(from.directory), &jobState{store: from.jobs})
	if from.redis != nil {
		registerRedis(registry, from.redis.Up)
	}
}

func registerProcess(registry prometheus.Registerer, from metricSources) {
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "calltracker_build_info", Help: "Always 1; the labels tell what runs.",
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
	gauge("calltracker_config_version", "Version of the configuration in force; 0 when there is none.", nil, func() float64 {
		if live := from.config.Current(); live != nil {
			return float64(live.Version.Version)
		}
		return 0
	})
	gauge("calltracker_database_up", "1 when the database is in use, else 0.", nil, func() float64 {
		if from.databaseUp() {
			return 1
		}
		return 0
	})
	for name, q := range map[string]writeQueue{"decisions": from.decisions, "rejections": from.rejections} {
		labels := prometheus.Labels{"queue": name}
		gauge("calltracker_queue_depth", "Records that wait to be written.", labels, func() float64 { return float64(q.Depth()) })
		counter("calltracker_queue_dropped_total", "Records lost since the queue was full or the database away.", labels, func() float64 { return float64(q.Dropped()) })
		counter("calltracker_queue_written_total", "Records written.", labels, func() float64 { return float64(q.Written()) })
	}
}

// registerSpool exposes what waits in the spool, and what became of the rest.
func registerSpool(registry prometheus.Registerer, stats func() spool.Stats, spooled func() int64) {
	gauge := func(name, help string, read func(spool.Stats) float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "calltracker_spool_" + name, Help: help},
			func() float64 { return read(stats()) }))
	}
	counter := func(name, help string, read func() int64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "calltracker_spool_" + name, Help: help},
			func() float64 { return float64(read()) }))
	}
	gauge("records", "Records on the local disk that wait for the database.", func(s spool.Stats) float64 { return float64(s.Records) })
	gauge("bytes", "Bytes that those records take.", func(s spool.Stats) float64 { return float64(s.Bytes) })
	gauge("oldest_seconds", "How long the oldest of them has waited; 0 when none waits.", func(s spool.Stats) float64 {
		if s.Oldest.IsZero() {
			return 0
		}
		return max(time.Since(s.Oldest).Seconds(), 0)
	})
	counter("spooled_total", "Records that went to the spool.", spooled)
	counter("drained_total", "Records that were brought from there into the database.", func() int64 { return stats().Drained })
	counter("quarantined_total", "Files set aside in the spool's quarantine: broken parts, and records that the database refuses.",
		func() int64 { return stats().Quarantined })
}

// registerRedis exposes whether Redis is in use.
func registerRedis(registry prometheus.Registerer, up func() bool) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "calltracker_redis_up", Help: "1 when Redis is in use, 0 when this process counts on its own.",
	}, func() float64 {
		if up() {
			return 1
		}
		return 0
	}))
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

// jobCounter is what jobState needs of a store.
type jobCounter interface {
	CountJobs(ctx context.Context) ([]storage.JobCount, error)
}

// jobState counts the jobs that are not done at the time of a scrape.
type jobState struct{ store jobCounter }

var (
	jobsDesc      = prometheus.NewDesc("calltracker_jobs", "Jobs that are not done, by kind and state.", []string{"kind", "state"}, nil)
	oldestJobDesc = prometheus.NewDesc("calltracker_job_oldest_seconds", "How long the oldest waiting job of a kind has been due.", []string{"kind"}, nil)
)

// Describe names the metrics.
func (*jobState) Describe(out chan<- *prometheus.Desc) {
	out <- jobsDesc
	out <- oldestJobDesc
}

// Collect reads them; without the database there are none.
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

// registerWallboard exposes who watches.
func registerWallboard(registry prometheus.Registerer, board *live.Wallboard) {
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "calltracker_live_listeners", Help: "Listeners of what happens now.",
	}, func() float64 {
		n, _ := board.Listeners()
		return float64(n)
	}))
}
