package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"calltracker/ziwo/ziwotest"
)

// Sizes of the measurements with a simulated Ziwo, which runs in this process.
const (
	simulatedCalls   = 20_000
	simulatedGoal    = 2_000 // calls a second
	dayCalls         = 50_000
	missingCalls     = 10_000 // of them
	presentLimit     = time.Minute
	missingLimit     = 3 * time.Minute
	requestsLimit    = 100 // to Ziwo
	reconcileTimeout = 10 * time.Minute
	benchCenter      = "aldebaran"
)

// simulate measures how many calls the simulated Ziwo makes, each a start call
// and an end call, with a server that does as little as it can.
func (b *bench) simulate(ctx context.Context) error {
	constant, err := b.baseline(ctx, constantBaseline)
	if err != nil {
		return err
	}
	defer constant.stop()
	z := ziwotest.New(ziwotest.Options{Seed: 1})
	defer z.Close()
	leadTo(z, constant.address, 1)
	report, err := z.Simulate(ctx, ziwotest.Simulation{From: yesterday(), Length: 24 * time.Hour, Calls: simulatedCalls})
	if err != nil {
		return err
	}
	if len(report.Violations) > 0 || report.Ends[http.StatusOK] != simulatedCalls {
		return fmt.Errorf("not every call could be made: ends %v, violations %v", report.Ends, report.Violations)
	}
	rate := float64(simulatedCalls) / report.Took.Seconds()
	b.add("simulated Ziwo, calls/s", fmt.Sprintf("%.0f", rate), fmt.Sprintf(">= %d", simulatedGoal), rate >= simulatedGoal)
	return nil
}

// leadTo has a number of each of so many trackers of the generated document lead
// to a server.
func leadTo(z *ziwotest.Ziwo, address string, trackers int) {
	for t := range trackers {
		name := trackerID(t)
		base := "http://" + address + "/callTrackers/" + name
		z.AddTracker(ziwotest.Tracker{
			Name: name, StartRequestURL: base + "/startCall", StartRequestKey: startKey, EndRequestURL: base + "/endCall", EndRequestKey: startKey,
		})
		did := nationalDID(t, 0)
		z.AddNumber(ziwotest.Number{E164: "+971" + did[1:], Called: did, Tracker: name})
	}
}

func yesterday() time.Time { return time.Now().UTC().Add(-25 * time.Hour).Truncate(time.Second) }

// reconcilePostgres compares a day of calls with Ziwo's history on PostgreSQL.
func (b *bench) reconcilePostgres(ctx context.Context) error {
	server, err := b.postgres(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = server.Close() }()
	address, err := b.migrated(ctx, server)
	if err != nil {
		return err
	}
	return b.reconcile(ctx, "PostgreSQL", address)
}

// reconcileSQLite does so on SQLite.
func (b *bench) reconcileSQLite(ctx context.Context) error { return b.reconcile(ctx, "SQLite", "") }

func (b *bench) reconcile(ctx context.Context, database, address string) error {
	z := ziwotest.New(ziwotest.Options{Seed: 2, ContactCenter: benchCenter})
	defer z.Close()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: z, ReadHeaderTimeout: time.Minute}
	go func() { _ = web.Serve(listener) }() // ends with Close
	defer func() { _ = web.Close() }()

	username, password, key := z.Credentials()
	p, err := b.loadedOn(ctx, address, fewTrackers, routesForGrowth, func(doc *configuration) {
		doc.ContactCenters = map[string]map[string]string{
			benchCenter: {"api": "http://" + listener.Addr().String(), "username": username, "password": password, "api_key": key},
		}
	})
	if err != nil {
		return err
	}
	defer p.stop()
	leadTo(z, p.address, fewTrackers)
	for _, round := range []struct {
		more    int // calls that Ziwo has and nobody has heard of
		measure string
		limit   time.Duration
	}{
		{more: dayCalls - missingCalls},
		{missingCalls, fmt.Sprintf("%d calls missing of %d", missingCalls, dayCalls), missingLimit},
		{0, fmt.Sprintf("%d calls present", dayCalls), presentLimit},
	} {
		if round.more > 0 {
			_, err := z.Simulate(ctx, ziwotest.Simulation{From: yesterday(), Length: 24 * time.Hour, Calls: round.more, Profile: ziwotest.BusinessDay(), Silent: true})
			if err != nil {
				return err
			}
		}
		z.SetNow(time.Time{})
		run, took, err := p.reconcile(ctx)
		if err != nil {
			return err
		}
		if run.Backfilled != round.more {
			return fmt.Errorf("reconcile: %d of %d calls were stored", run.Backfilled, round.more)
		}
		if round.measure == "" {
			continue
		}
		b.add(fmt.Sprintf("reconcile on %s, %s", database, round.measure), fmt.Sprintf("%.1fs, %d requests", took.Seconds(), run.Requests),
			fmt.Sprintf("< %s, < %d", round.limit, requestsLimit), took < round.limit && run.Requests < requestsLimit)
	}
	return nil
}

// reconciliation is what a run of it tells.
type reconciliation struct {
	State, Error                string
	Found, Backfilled, Requests int
}

// reconcile has the server compare the last days, and measures.
func (p *process) reconcile(ctx context.Context) (run reconciliation, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	now := time.Now().UTC()
	body := fmt.Sprintf(`{"from":%q,"to":%q}`, now.Add(-26*time.Hour).Format(time.RFC3339), now.Format(time.RFC3339))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.address+"/api/v1/reconciliation", strings.NewReader(body))
	if err != nil {
		return run, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	req.Header.Set("Content-Type", "application/json")
	begin := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return run, 0, err
	}
	defer func() { _ = res.Body.Close() }()
	var list struct{ Runs []reconciliation }
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
		return run, 0, fmt.Errorf("reconcile: %s: %w", res.Status, err)
	}
	if len(list.Runs) != 1 || list.Runs[0].State != "done" {
		return run, 0, fmt.Errorf("reconcile: %s: %+v", res.Status, list.Runs)
	}
	return list.Runs[0], time.Since(begin), nil
}
