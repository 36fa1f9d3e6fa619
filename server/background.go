package main

import (
	"context"
	"time"

	"calltracker/handlers"
	"calltracker/jobs"
)

// Jobs that are done are deleted later, in transactions so small that end calls do not
// wait long for them.
const (
	keptJobs  = 7 * 24 * time.Hour
	pruneSize = 200
)

// prepareJobs makes the job runner, which every replica has.
func (s *server) prepareJobs(retention *handlers.Retention) (err error) {
	s.runner, err = jobs.NewRunner(jobs.RunnerOptions{
		Store: s.store, Registry: s.registry, Now: time.Now, Logger: s.logger,
		Kinds: []jobs.Kind{retention.Kind(), s.recordings.Kind(), s.recordings.RetentionKind(), s.enricher.Kind()},
	})
	if err != nil {
		return err
	}
	s.registry.MustRegister(&jobState{store: s.store})
	s.jobs, err = jobs.NewList(s.store, s.runner.Wake, time.Now)
	return err
}

// prepareTasks makes the tasks of the replica that is the leader.
func (s *server) prepareTasks(retention *handlers.Retention) (err error) {
	tasks := []jobs.Task{
		{Name: "queue lookups", Every: lookupsEvery, Run: s.queueLookups},
		{Name: "schedule retention", Every: 10 * time.Minute, Run: retention.Schedule},
		{Name: "schedule retention of recordings", Every: 10 * time.Minute, Run: s.recordings.Schedule},
		{Name: "delete finished jobs", Every: time.Hour, Run: s.pruneJobs},
		{Name: "link calls to decisions", Every: linkEvery, Run: s.linkCalls},
		{Name: "create partitions", Every: 6 * time.Hour, Run: func(ctx context.Context) error {
			return s.store.EnsurePartitions(ctx, time.Now())
		}},
	}
	if s.settings.reconcileEvery > 0 {
		tasks = append(tasks, s.reconciler.Task())
	}
	s.leader, err = jobs.NewLeader(jobs.LeaderOptions{Store: s.store, Tasks: tasks, Now: time.Now, Logger: s.logger})
	return err
}

// lookupsEvery is how soon the customer of a saved call is looked up.
const lookupsEvery = time.Second

func (s *server) queueLookups(ctx context.Context) error {
	queued, err := s.enricher.Queue(ctx)
	if queued > 0 {
		s.runner.Wake()
	}
	return err
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
