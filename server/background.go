package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"calltracker/handlers"
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
			{Name: "link calls to decisions", Interval: linkEvery, Run: s.linkCalls},
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

func (s *server) linkCalls(ctx context.Context) error {
	_, err := s.store.LinkUnlinkedCalls(ctx, time.Now().Add(-linkSince))
	return err
}
