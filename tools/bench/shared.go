package main

import (
	"context"
	"fmt"

	"calltracker/storage/storetest/redistest"
)

// shared compares start calls of calltracker on PostgreSQL and Redis with those
// of calltracker on its own, while both are there and while neither answers: the
// way of a start call must not touch them.
func (b *bench) shared(ctx context.Context) error {
	const goal = 0.95
	database, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = database.Close() }()
	redis, err := redistest.New()
	if err != nil {
		return err
	}
	defer func() { _ = redis.Close() }()
	alone, err := b.loaded(ctx, b.trackers, routesPerTracker)
	if err != nil {
		return err
	}
	defer alone.stop()
	both, err := b.loadedWith(ctx, []string{"CALLTRACKER_DATABASE_URL=" + database.URL(), "CALLTRACKER_REDIS_URL=" + redis.URL()}, b.trackers, routesPerTracker)
	if err != nil {
		return err
	}
	defer both.stop()
	requests, err := startRequests(b.trackers, callerPool)
	if err != nil {
		return err
	}
	clients := share(requests, connections)
	compare := func(when, what string) error {
		results, err := b.compete(ctx, []contender{ // a start call that fails is an error of all
			{name: "calltracker with PostgreSQL and Redis" + when, process: both, clients: clients, check: checkAnswer, records: true},
			{name: "calltracker on its own", process: alone, clients: clients, check: checkAnswer, records: true},
		})
		if err != nil {
			return fmt.Errorf("start calls%s: %w", when, err)
		}
		rate := median(results, func(r []result) float64 { return r[0].rate() / r[1].rate() })
		b.add("startCall, requests/s "+what+" against without them", fmt.Sprintf("%.2f", rate), fmt.Sprintf(">= %.2f", goal), rate >= goal)
		return nil
	}
	if err := compare("", "with PostgreSQL and Redis"); err != nil {
		return err
	}
	if err := database.Pause(); err != nil {
		return err
	}
	defer func() { _ = database.Resume() }()
	if err := redis.Stop(); err != nil {
		return err
	}
	return compare(", neither answers", "with PostgreSQL paused and Redis stopped")
}
