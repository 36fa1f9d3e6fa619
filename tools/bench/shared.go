package main

import (
	"context"
	"fmt"

	"calltracker/storage/storetest/redistest"
)

// shared compares calltracker with PostgreSQL and Redis with calltracker on SQLite,
// first while both are running and then while neither answers. A start call must
// not wait for them.
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
	standalone, err := b.startConfigured(ctx, b.trackers, routesPerTracker)
	if err != nil {
		return err
	}
	defer standalone.stop()
	scaledOut, err := b.startConfiguredWith(ctx, []string{"CALLTRACKER_DATABASE_URL=" + database.URL(), "CALLTRACKER_REDIS_URL=" + redis.URL()}, b.trackers, routesPerTracker)
	if err != nil {
		return err
	}
	defer scaledOut.stop()
	requests, err := startRequests(b.trackers, callerPool)
	if err != nil {
		return err
	}
	clients := distribute(requests, connections)
	compare := func(condition, description string) error {
		results, err := b.runRounds(ctx, []contender{ // fails if a start call fails
			{name: "calltracker with PostgreSQL and Redis" + condition, process: scaledOut, clients: clients, check: checkAnswer, records: true},
			{name: "calltracker with SQLite", process: standalone, clients: clients, check: checkAnswer, records: true},
		})
		if err != nil {
			return fmt.Errorf("start calls%s: %w", condition, err)
		}
		rate := medianOfRounds(results, func(r []result) float64 { return r[0].rate() / r[1].rate() })
		b.add("startCall, requests/s "+description+" against SQLite", fmt.Sprintf("%.2f", rate), fmt.Sprintf(">= %.2f", goal), rate >= goal)
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
	return compare(", neither of which answers", "with PostgreSQL paused and Redis stopped")
}
