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
	missingCalls     = 10_000 // of dayCalls
	presentLimit     = time.Minute
	missingLimit     = 3 * time.Minute
	requestsLimit    = 100 // requests to Ziwo
	reconcileTimeout = 10 * time.Minute
	benchCenter      = "aldebaran"
)

// simulate measures how many calls per second the simulated Ziwo makes with a server
// that does almost nothing. Each call is a start call and an end call.
func (b *bench) simulate(ctx context.Context) error {
	constant, err := b.baseline(ctx, constantBaseline)
	if err != nil {
		return err
	}
	defer constant.stop()
	z := ziwotest.New(ziwotest.Options{Seed: 1})
	defer z.Close()
	addTrackers(z, constant.address, 1)
	report, err := z.Simulate(ctx, ziwotest.Simulation{From: yesterday(), Length: 24 * time.Hour, Calls: simulatedCalls})
	if err != nil {
		return err
	}
	if len(report.Violations) > 0 || report.Ends[http.StatusOK] != simulatedCalls {
		return fmt.Errorf("simulate calls: ends %v, violations %v", report.Ends, report.Violations)
	}
	rate := float64(simulatedCalls) / report.Took.Seconds()
	b.add("simulated Ziwo, calls/s", fmt.Sprintf("%.0f", rate), fmt.Sprintf(">= %d", simulatedGoal), rate >= simulatedGoal)
	return nil
}

// addTrackers adds trackers of the generated document to Ziwo, each with one number.
// Their requests go to the server at the address.
func addTrackers(z *ziwotest.Ziwo, address string, trackers int) {
	for t := range trackers {
		name := trackerID(t)
		base := "http://" + address + "/callTrackers/" + name
		z.AddTracker(ziwotest.Tracker{
			Name: name, StartRequestURL: base + "/startCall", StartRequestKey: startKey, EndRequestURL: base + "/endCall", EndRequestKey: startKey,
		})
		did := nationalDID(t, 0)
		z.AddNumber(ziwotest.Number{E164: "+971" + did[1:], DIDCalled: did, Tracker: name})
	}
}

func yesterday() time.Time { return time.Now().UTC().Add(-25 * time.Hour).Truncate(time.Second) }

// reconcilePostgres measures the reconciliation of a day of calls on PostgreSQL.
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

// reconcileSQLite measures the reconciliation of a day of calls on SQLite.
func (b *bench) reconcileSQLite(ctx context.Context) error { return b.reconcile(ctx, "SQLite", "") }

func (b *bench) reconcile(ctx context.Context, database, address string) error {
	z := ziwotest.New(ziwotest.Options{Seed: 2, ContactCenter: benchCenter})
	defer z.Close()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	web := &http.Server{Handler: z, ReadHeaderTimeout: time.Minute}
	go func() { _ = web.Serve(listener) }() // returns when Close is called
	defer func() { _ = web.Close() }()

	username, password, key := z.Credentials()
	p, err := b.startConfiguredOn(ctx, address, fewTrackers, routesForGrowth, func(doc *configuration) {
		doc.ContactCenters = map[string]map[string]string{
			benchCenter: {"api": "http://" + listener.Addr().String(), "username": username, "password": password, "api_key": key},
		}
	})
	if err != nil {
		return err
	}
	defer p.stop()
	addTrackers(z, p.address, fewTrackers)
	for _, round := range []struct {
		missing int // calls that Ziwo has and the server does not
		measure string
		limit   time.Duration
	}{
		{missing: dayCalls - missingCalls},
		{missingCalls, fmt.Sprintf("%d calls missing of %d", missingCalls, dayCalls), missingLimit},
		{0, fmt.Sprintf("%d calls present", dayCalls), presentLimit},
	} {
		if round.missing > 0 {
			_, err := z.Simulate(ctx, ziwotest.Simulation{From: yesterday(), Length: 24 * time.Hour, Calls: round.missing, Profile: ziwotest.BusinessDay(), HistoryOnly: true})
			if err != nil {
				return err
			}
		}
		z.SetNow(time.Time{})
		run, elapsed, err := p.reconcile(ctx)
		if err != nil {
			return err
		}
		if run.Backfilled != round.missing {
			return fmt.Errorf("reconcile: backfilled %d of %d calls", run.Backfilled, round.missing)
		}
		if round.measure == "" {
			continue
		}
		b.add(fmt.Sprintf("reconcile on %s, %s", database, round.measure), fmt.Sprintf("%.1fs, %d requests", elapsed.Seconds(), run.Requests),
			fmt.Sprintf("< %s, < %d", round.limit, requestsLimit), elapsed < round.limit && run.Requests < requestsLimit)
	}
	return nil
}

// reconciliation is the result of one reconciliation, from the API.
type reconciliation struct {
	State, Error                string
	Found, Backfilled, Requests int
}

// reconcile makes the server reconcile the last 26 hours and measures the time.
func (p *process) reconcile(ctx context.Context) (run reconciliation, elapsed time.Duration, err error) {
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
