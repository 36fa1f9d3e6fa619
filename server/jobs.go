package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"calltracker/handlers"
	"calltracker/storage"
)

// keptJobs is how long a job that is done is shown.
const (
	keptJobs  = 7 * 24 * time.Hour
	pruneSize = 1000
)

// prepareJobs wires what is done in the background: jobs, by any replica, and
// the tasks of the one that leads.
func (s *server) prepareJobs(counts *handlers.Metrics) {
	retention := &handlers.Retention{Store: s.store, Config: s.config, Now: time.Now, Logger: s.logger}
	s.runner = &handlers.Runner{
		Store: s.store, Metrics: counts, Now: time.Now, Random: rand.Float64, Logger: s.logger,
		Kinds: []handlers.JobKind{retention.Kind(), s.recordings.Kind(), s.recordings.RetentionKind()},
	}
	s.jobs = &handlers.Jobs{Store: s.store, Runner: s.runner, Now: time.Now}
	s.keeper.Wake = s.runner.Wake
	s.tasks = &handlers.Tasks{
		Store: s.store, Holder: uuid.NewString(), Now: time.Now, Logger: s.logger,
		List: []handlers.Task{
			{Name: "ask for retention", Interval: 10 * time.Minute, Run: retention.Schedule},
			{Name: "ask for retention of recordings", Interval: 10 * time.Minute, Run: s.recordings.Schedule},
			{Name: "forget jobs that are done", Interval: time.Hour, Run: s.pruneJobs},
			{Name: "link calls to decisions", Interval: linkEvery, Run: s.linkMissed},
			{Name: "make partitions", Interval: 6 * time.Hour, Run: func(ctx context.Context) error {
				return s.store.EnsurePartitions(ctx, time.Now())
			}},
		},
	}
	s.registry.MustRegister(&jobState{store: s.store})
}

func (s *server) pruneJobs(ctx context.Context) error {
	for {
		n, err := s.store.PruneJobs(ctx, time.Now().Add(-keptJobs), pruneSize)
		if err != nil || n < pruneSize {
			return err
		}
	}
}

// A call is linked to its decision late when both were stored at the same time:
// looked for in all that was saved since before the longest transaction.
const (
	linkEvery = 10 * time.Second
	linkSince = 90 * time.Second
)

func (s *server) linkMissed(ctx context.Context) error {
	_, err := s.store.LinkMissed(ctx, time.Now().Add(-linkSince))
	return err
}

func (s *server) listJobs(c echo.Context) error {
	q := queryOf(c)
	in, page := handlers.JobQuery{State: q.text("state"), Kind: q.text("kind")}, q.page()
	if err := q.err(); err != nil {
		return err
	}
	return answer(c)(s.jobs.List(c.Request().Context(), in, page))
}

func (s *server) retryJob(c echo.Context) error {
	return answer(c)(s.jobs.Retry(detached(c), c.Param("id")))
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
