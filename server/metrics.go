package main

import (
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"calltracker/handlers"
	"calltracker/storage"
	"calltracker/storage/spool"
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

// registerState exposes what is read at the time of a scrape.
func registerState(registry prometheus.Registerer, config *handlers.ConfigController,
	decisions *handlers.Queue[handlers.DecisionRecord], rejections *handlers.Queue[storage.Rejection], ready func() bool,
) {
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
		if live := config.Current(); live != nil {
			return float64(live.Version.Version)
		}
		return 0
	})
	gauge("calltracker_database_up", "1 when the database is in use, else 0.", nil, func() float64 {
		if ready() {
			return 1
		}
		return 0
	})
	type queue interface {
		Depth() int
		Dropped() int64
		Written() int64
	}
	for name, q := range map[string]queue{"decisions": decisions, "rejections": rejections} {
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
	gauge("records", "Records on the local disk that wait for the database.", func(s spool.Stats) float64 { return float64(s.Frames) })
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
