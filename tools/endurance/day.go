package endurance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"calltracker/storage/storetest/postgrestest"
	"calltracker/storage/storetest/redistest"
	"calltracker/ziwo/ziwotest"
)

// DayOptions are the options of Day. Program is required.
type DayOptions struct {
	Program Program
	Calls   int     // calls in the day; 0 means 1000
	Share   float64 // share of the calls that each fault affects; 0 means 0.06
	Seed    uint64
	Dir     string    // directory for all files
	Log     io.Writer // human-readable progress; may be nil
}

// DayVerdict is the outcome of Day.
type DayVerdict struct {
	Calls        int            // simulated calls
	Faults       map[string]int // simulated faults of Ziwo
	Broken       int            // requests that failed because a replica was killed
	Acknowledged int            // calls with a complete end call that was answered with 200
	Dropped      int            // calls without an end call
	Backfilled   int            // calls that reconciliation stored first
	Runs         int            // reconciliation runs of all replicas
	Equal        int            // calls whose stored fields all equal the simulated ones
	Differing    int            // calls with a stored field that differs
	Duplicated   int            // calls that are stored twice
	Missing      int            // calls that are not stored
	Invented     int            // stored calls that were not simulated
	Lost         int            // acknowledged calls that were not stored before reconciliation
	Unreconciled int            // changes that a second reconciliation made
	Complaints   []string
}

// OK reports whether the stored calls equal the simulated ones and the trial included
// acknowledged, dropped, and backfilled calls.
func (v DayVerdict) OK() bool {
	return v.Differing+v.Duplicated+v.Missing+v.Invented+v.Lost+v.Unreconciled+len(v.Complaints) == 0 &&
		v.Equal == v.Calls && v.Acknowledged > 0 && v.Dropped > 0 && v.Backfilled >= v.Dropped
}

func (v DayVerdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "faults of Ziwo %v, requests failed because of the kill %d, reconciliations %d\n", v.Faults, v.Broken, v.Runs)
	fmt.Fprintf(&b, "calls %d, acknowledged %d, dropped by Ziwo %d, backfilled %d, equal %d, differing=%d, duplicated=%d, missing=%d, invented=%d, lost=%d\n",
		v.Calls, v.Acknowledged, v.Dropped, v.Backfilled, v.Equal, v.Differing, v.Duplicated, v.Missing, v.Invented, v.Lost)
	for _, c := range v.Complaints {
		fmt.Fprintln(&b, " ", c)
	}
	return b.String()
}

func (v *DayVerdict) complain(format string, arguments ...any) {
	if len(v.Complaints) < maxComplaints {
		v.Complaints = append(v.Complaints, fmt.Sprintf(format, arguments...))
	}
}

// dayDocument is the configuration of the replicas. Its verbs stand for the address
// and the credentials of the contact center.
const dayDocument = `
contact_centers:
  aldebaran: {api: %q, username: %q, password: %q, api_key: %q}
trackers:
  sales:
    keys: {start: ["` + startKey + `"], end: ["` + endKey + `"]}
    region: AE
    numbers: ["042345678", {did: "042345679", campaign: outdoor}]
    caller_id: "042223344"
    routes:
      - id: all
        dial: [{number: "0501112233", timeout: 12s}, {number: "045556677", timeout: 20s}]
        order: rotate
        voicemail: true
  support:
    keys: {start: ["` + startKey + `"], end: ["` + endKey + `"]}
    region: AE
    numbers: ["042345680"]
    routes:
      - id: two-teams
        split:
          - {weight: 70, dial: [{number: "0501112244", timeout: 15s}]}
          - {weight: 30, dial: [{number: "0501112255", timeout: 15s}], voicemail: true}
      - id: otherwise
        voicemail: true
`

// day is one run of Day.
type day struct {
	DayOptions
	from        time.Time
	ziwo        *ziwotest.Ziwo
	balancer    *balancer
	environment []string // of every replica
	document    string
	replicas    [2]*process // nil while one is down
	verdict     DayVerdict
}

// Day simulates a day of calls with every fault of Ziwo on two replicas. It kills one
// replica in the middle and restarts it. Then it reconciles the day and compares the
// stored calls with the simulated ones. An error means that the trial itself failed.
func Day(ctx context.Context, o DayOptions) (verdict DayVerdict, err error) {
	if o.Calls == 0 {
		o.Calls = 1000
	}
	if o.Share == 0 {
		o.Share = 0.06
	}
	d := &day{DayOptions: o, ziwo: ziwotest.New(ziwotest.Options{Seed: o.Seed}), balancer: newBalancer()}
	// The day is in the past, but recent enough for one reconciliation run.
	d.from = time.Now().UTC().Add(-25 * time.Hour).Truncate(time.Second)
	defer d.ziwo.Close()
	api, front := httptest.NewServer(d.ziwo), httptest.NewServer(d.balancer)
	defer func() {
		front.Close()
		d.balancer.close()
		api.Close()
	}()
	database, err := postgrestest.New()
	if err != nil {
		return d.verdict, err
	}
	defer func() { err = errors.Join(err, database.Close()) }()
	redis, err := redistest.New()
	if err != nil {
		return d.verdict, err
	}
	defer func() { err = errors.Join(err, redis.Close()) }()
	username, password, key := d.ziwo.Credentials()
	d.document = fmt.Sprintf(dayDocument, api.URL, username, password, key)
	d.environment = []string{"CALLTRACKER_DATABASE_URL=" + database.URL(), "CALLTRACKER_REDIS_URL=" + redis.URL(), "CALLTRACKER_RECONCILE_EVERY=10s"}
	for tracker, numbers := range map[string][]string{"sales": {"042345678", "042345679"}, "support": {"042345680"}} {
		address := front.URL + "/callTrackers/" + tracker
		d.ziwo.AddTracker(ziwotest.Tracker{
			Name: tracker, StartRequestURL: address + "/startCall", StartRequestKey: startKey, EndRequestURL: address + "/endCall", EndRequestKey: endKey,
		})
		for _, number := range numbers {
			d.ziwo.AddNumber(ziwotest.Number{E164: "+971" + number[1:], DIDCalled: number, Tracker: tracker})
		}
	}
	err = d.run(ctx)
	for n := range d.replicas {
		if d.replicas[n] != nil {
			err = errors.Join(err, d.killReplica(n))
		}
	}
	return d.verdict, err
}

func (d *day) logf(format string, arguments ...any) {
	if d.Log != nil {
		fmt.Fprintf(d.Log, format+"\n", arguments...)
	}
}

// startReplica starts a replica. The first one applies the document.
func (d *day) startReplica(n int) error {
	dir := filepath.Join(d.Dir, fmt.Sprintf("replica-%d", n+1))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s, err := d.Program.launch(dir, filepath.Join(dir, "data"), d.document, d.environment...)
	if err != nil {
		return err
	}
	d.document = ""
	d.replicas[n] = s
	return d.balancer.add(n, s.baseURL)
}

// killReplica kills a replica.
func (d *day) killReplica(n int) error {
	s := d.replicas[n]
	d.replicas[n] = nil
	return s.kill()
}

// run runs the trial on two new replicas.
func (d *day) run(ctx context.Context) error {
	for n := range d.replicas {
		if err := d.startReplica(n); err != nil {
			return err
		}
	}
	d.logf("seed %d", d.Seed)
	began := time.Now()
	if err := d.simulate(ctx); err != nil {
		return err
	}
	d.logf("simulated the day in %.1f s", time.Since(began).Seconds())
	for _, s := range d.replicas {
		if err := s.waitDrained(ctx, drainTimeout); err != nil {
			return err
		}
	}
	if err := d.checkAcknowledged(ctx); err != nil {
		return err
	}
	// An hour later, Ziwo has the late recordings. Both replicas reconcile concurrently.
	d.ziwo.SetNow(time.Now().Add(time.Hour))
	began = time.Now()
	if _, err := d.reconcile(ctx, 0, 1); err != nil {
		return err
	}
	d.logf("reconciled in %.1f s", time.Since(began).Seconds())
	runs, err := d.reconcile(ctx, 1)
	if err != nil {
		return err
	}
	d.verdict.Unreconciled = runs[0].Backfilled + runs[0].Enriched + runs[0].Differing
	if err := d.compare(ctx); err != nil {
		return err
	}
	for n, s := range d.replicas {
		d.replicas[n] = nil
		if err := s.terminate(); err != nil {
			return err
		}
	}
	return nil
}

// simulate simulates the calls of the day and restarts a replica meanwhile.
func (d *day) simulate(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	marks := newMilestones(d.Calls*2/5, d.Calls*3/5)
	var (
		report ziwotest.Report
		failed error
		tasks  sync.WaitGroup
		done   = make(chan struct{})
	)
	tasks.Go(func() {
		defer close(done)
		report, failed = d.ziwo.Simulate(ctx, ziwotest.Simulation{
			From: d.from, Length: 24 * time.Hour, Calls: d.Calls, Profile: ziwotest.BusinessDay(), Faults: ziwotest.EveryFault(d.Share),
			OnEnd: func(ziwotest.Call) { marks.pass() },
		})
	})
	err := d.restartReplica(ctx, marks, done)
	if err != nil {
		stop()
	}
	tasks.Wait()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	d.verdict.Faults = report.Faults
	for _, violation := range report.Violations {
		d.verdict.complain("protocol violation: %s", violation)
	}
	if report.Calls != d.Calls {
		return fmt.Errorf("%d of %d calls ended", report.Calls, d.Calls)
	}
	return nil
}

// restartReplica kills the second replica at the first milestone. At the second one,
// it starts the replica and makes it reconcile while calls continue.
func (d *day) restartReplica(ctx context.Context, marks *milestones, done <-chan struct{}) error {
	for n, act := range []func() error{
		func() error { return d.killReplica(1) },
		func() error {
			if err := d.startReplica(1); err != nil {
				return err
			}
			_, err := d.reconcile(ctx, 1)
			return err
		},
	} {
		select {
		case <-marks.reached[n]:
		case <-done:
			return errors.New("the simulation ended before the replica was restarted")
		}
		if err := act(); err != nil {
			return err
		}
	}
	return nil
}

// reconciliation is one reconciliation run, from the API.
type reconciliation struct {
	State, Error                    string
	Backfilled, Enriched, Differing int
}

// reconcile makes replicas reconcile the whole day concurrently.
func (d *day) reconcile(ctx context.Context, replicas ...int) ([]reconciliation, error) {
	body := fmt.Sprintf(`{"from":%q,"to":%q}`, d.from.Add(-time.Hour).Format(time.RFC3339), time.Now().UTC().Add(time.Hour).Format(time.RFC3339))
	var (
		runs  = make([]reconciliation, len(replicas))
		errs  = make([]error, len(replicas))
		tasks sync.WaitGroup
	)
	for i, n := range replicas {
		tasks.Go(func() {
			var list struct{ Runs []reconciliation }
			if errs[i] = d.replicas[n].request(ctx, drainTimeout, http.MethodPost, "/api/v1/reconciliation", body, &list); errs[i] != nil {
				return
			}
			if len(list.Runs) != 1 || list.Runs[0].State != "done" {
				errs[i] = fmt.Errorf("reconcile with replica %d: %+v", n+1, list.Runs)
				return
			}
			runs[i] = list.Runs[0]
		})
	}
	tasks.Wait()
	return runs, errors.Join(errs...)
}

// milestones counts calls and closes a channel when it reaches a mark.
type milestones struct {
	mu      sync.Mutex
	passed  int
	marks   []int
	reached []chan struct{}
}

// newMilestones returns milestones that close reached[n] after marks[n] calls.
func newMilestones(marks ...int) *milestones {
	m := &milestones{marks: marks}
	for range marks {
		m.reached = append(m.reached, make(chan struct{}))
	}
	return m
}

// pass counts one call.
func (m *milestones) pass() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.passed++
	for i, mark := range m.marks {
		if m.passed == mark {
			close(m.reached[i])
		}
	}
}
