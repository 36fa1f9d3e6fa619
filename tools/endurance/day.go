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

// DayOptions say what Day does. Program is mandatory.
type DayOptions struct {
	Program Program
	Calls   int     // of the day; 0 is 1000
	Share   float64 // of the calls that each fault happens to; 0 is 0.06
	Seed    uint64
	Dir     string    // for everything that is written
	Log     io.Writer // what happens, for people
}

// DayVerdict is the outcome of Day.
type DayVerdict struct {
	Calls        int            // that happened
	Faults       map[string]int // of Ziwo
	Broken       int            // requests that the killed replica left unanswered
	Acknowledged int            // calls with an end call that was whole and answered with 200
	Dropped      int            // calls of which Ziwo sent nothing
	Backfilled   int            // calls that were heard of first by reconciliation
	Runs         int            // of reconciliation, over all replicas
	Equal        int            // calls stored as they happened, in every field
	Differing    int
	Doubled      int
	Missing      int
	Invented     int // stored calls that never happened
	Lost         int // acknowledged, and not there when the day was over
	Restless     int // what another reconciliation still found to do
	Complaints   []string
}

// OK tells whether what is stored is what happened, and whether there was
// anything to it.
func (v DayVerdict) OK() bool {
	return v.Differing+v.Doubled+v.Missing+v.Invented+v.Lost+v.Restless+len(v.Complaints) == 0 &&
		v.Equal == v.Calls && v.Acknowledged > 0 && v.Dropped > 0 && v.Backfilled >= v.Dropped
}

func (v DayVerdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "faults of Ziwo %v, requests broken by the kill %d, reconciliations %d\n", v.Faults, v.Broken, v.Runs)
	fmt.Fprintf(&b, "calls %d, acknowledged %d, dropped by the platform %d, backfilled %d, equal %d, differing=%d, doubled=%d, missing=%d, invented=%d, lost=%d\n",
		v.Calls, v.Acknowledged, v.Dropped, v.Backfilled, v.Equal, v.Differing, v.Doubled, v.Missing, v.Invented, v.Lost)
	for _, c := range v.Complaints {
		fmt.Fprintln(&b, " ", c)
	}
	return b.String()
}

func (v *DayVerdict) complain(format string, arguments ...any) {
	if len(v.Complaints) < mostComplaints {
		v.Complaints = append(v.Complaints, fmt.Sprintf(format, arguments...))
	}
}

// dayDocument is what the replicas serve; the verbs are for the contact center.
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

// day is one run.
type day struct {
	DayOptions
	from     time.Time
	ziwo     *ziwotest.Ziwo
	balancer *balancer
	shared   []string // environment of every replica
	document string
	replicas [2]*process // nil while one is down
	verdict  DayVerdict
}

// Day lives through a day of calls with everything going wrong that Ziwo can do
// wrong, on two replicas, one of which is killed in the middle and started again;
// then it has what is missing fetched, and compares the stored calls with what
// happened. An error means that the trial itself failed.
func Day(ctx context.Context, o DayOptions) (verdict DayVerdict, err error) {
	if o.Calls == 0 {
		o.Calls = 1000
	}
	if o.Share == 0 {
		o.Share = 0.06
	}
	d := &day{DayOptions: o, ziwo: ziwotest.New(ziwotest.Options{Seed: o.Seed}), balancer: newBalancer()}
	// It must be over now, and not too long ago to be looked through at once.
	d.from = time.Now().UTC().Add(-25 * time.Hour).Truncate(time.Second)
	defer d.ziwo.Close()
	api, front := httptest.NewServer(d.ziwo), httptest.NewServer(d.balancer)
	defer func() {
		front.Close()
		d.balancer.close()
		api.Close()
	}()
	base, err := postgrestest.New()
	if err != nil {
		return d.verdict, err
	}
	defer func() { err = errors.Join(err, base.Close()) }()
	redis, err := redistest.New()
	if err != nil {
		return d.verdict, err
	}
	defer func() { err = errors.Join(err, redis.Close()) }()
	username, password, key := d.ziwo.Credentials()
	d.document = fmt.Sprintf(dayDocument, api.URL, username, password, key)
	d.shared = []string{"CALLTRACKER_DATABASE_URL=" + base.URL(), "CALLTRACKER_REDIS_URL=" + redis.URL(), "CALLTRACKER_RECONCILE_EVERY=10s"}
	for tracker, numbers := range map[string][]string{"sales": {"042345678", "042345679"}, "support": {"042345680"}} {
		address := front.URL + "/callTrackers/" + tracker
		d.ziwo.AddTracker(ziwotest.Tracker{
			Name: tracker, StartRequestURL: address + "/startCall", StartRequestKey: startKey, EndRequestURL: address + "/endCall", EndRequestKey: endKey,
		})
		for _, number := range numbers {
			d.ziwo.AddNumber(ziwotest.Number{E164: "+971" + number[1:], Called: number, Tracker: tracker})
		}
	}
	err = d.run(ctx)
	for n := range d.replicas {
		if d.replicas[n] != nil {
			err = errors.Join(err, d.kill(n))
		}
	}
	return d.verdict, err
}

func (d *day) note(format string, arguments ...any) {
	if d.Log != nil {
		fmt.Fprintf(d.Log, format+"\n", arguments...)
	}
}

// up starts a replica; the first to do so brings the document.
func (d *day) up(n int) error {
	dir := filepath.Join(d.Dir, fmt.Sprintf("replica-%d", n+1))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s, err := d.Program.launch(dir, filepath.Join(dir, "data"), d.document, d.shared...)
	if err != nil {
		return err
	}
	d.document = ""
	d.replicas[n] = s
	return d.balancer.put(n, s.base)
}

func (d *day) kill(n int) error {
	s := d.replicas[n]
	d.replicas[n] = nil
	return s.kill()
}

func (d *day) run(ctx context.Context) error {
	for n := range d.replicas {
		if err := d.up(n); err != nil {
			return err
		}
	}
	d.note("seed %d", d.Seed)
	began := time.Now()
	if err := d.live(ctx); err != nil {
		return err
	}
	d.note("the day was over after %.1f s", time.Since(began).Seconds())
	for _, s := range d.replicas {
		if err := s.settled(ctx, settleLimit); err != nil {
			return err
		}
	}
	if err := d.acknowledged(ctx); err != nil {
		return err
	}
	// Late recordings are there by now. Both replicas look at once.
	d.ziwo.SetNow(time.Now().Add(time.Hour))
	began = time.Now()
	if _, err := d.reconcile(ctx, 0, 1); err != nil {
		return err
	}
	d.note("it was reconciled in %.1f s", time.Since(began).Seconds())
	runs, err := d.reconcile(ctx, 1)
	if err != nil {
		return err
	}
	d.verdict.Restless = runs[0].Backfilled + runs[0].Enriched + runs[0].Differing
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

// live is the day itself.
func (d *day) live(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	marks := newMilestones(d.Calls*2/5, d.Calls*3/5)
	var (
		report ziwotest.Report
		failed error
		all    sync.WaitGroup
		over   = make(chan struct{})
	)
	all.Go(func() {
		defer close(over)
		report, failed = d.ziwo.Simulate(ctx, ziwotest.Simulation{
			From: d.from, Length: 24 * time.Hour, Calls: d.Calls, Profile: ziwotest.BusinessDay(), Faults: ziwotest.EveryFault(d.Share),
			OnEnd: func(ziwotest.Call) { marks.pass() },
		})
	})
	err := d.strike(ctx, marks, over)
	if err != nil {
		stop()
	}
	all.Wait()
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	d.verdict.Faults = report.Faults
	for _, violation := range report.Violations {
		d.verdict.complain("Ziwo could not follow: %s", violation)
	}
	if report.Calls != d.Calls {
		return fmt.Errorf("%d calls ended of %d", report.Calls, d.Calls)
	}
	return nil
}

// strike kills the second replica, starts it again and has it look for what is
// missing while calls go on.
func (d *day) strike(ctx context.Context, marks *milestones, over <-chan struct{}) error {
	for n, act := range []func() error{
		func() error { return d.kill(1) },
		func() error {
			if err := d.up(1); err != nil {
				return err
			}
			_, err := d.reconcile(ctx, 1)
			return err
		},
	} {
		select {
		case <-marks.reached[n]:
		case <-over:
			return errors.New("the day was over too early")
		}
		if err := act(); err != nil {
			return err
		}
	}
	return nil
}

// reconciliation is one run of it, as it is told.
type reconciliation struct {
	State, Error                    string
	Backfilled, Enriched, Differing int
}

// reconcile has replicas compare the whole day, at the same time.
func (d *day) reconcile(ctx context.Context, replicas ...int) ([]reconciliation, error) {
	body := fmt.Sprintf(`{"from":%q,"to":%q}`, d.from.Add(-time.Hour).Format(time.RFC3339), time.Now().UTC().Add(time.Hour).Format(time.RFC3339))
	var (
		runs   = make([]reconciliation, len(replicas))
		errs   = make([]error, len(replicas))
		asking sync.WaitGroup
	)
	for i, n := range replicas {
		asking.Go(func() {
			var list struct{ Runs []reconciliation }
			if errs[i] = d.replicas[n].request(ctx, settleLimit, http.MethodPost, "/api/v1/reconciliation", body, &list); errs[i] != nil {
				return
			}
			if len(list.Runs) != 1 || list.Runs[0].State != "done" {
				errs[i] = fmt.Errorf("reconciliation by replica %d: %+v", n+1, list.Runs)
				return
			}
			runs[i] = list.Runs[0]
		})
	}
	asking.Wait()
	return runs, errors.Join(errs...)
}

// milestones are told when so many calls have ended.
type milestones struct {
	mu      sync.Mutex
	passed  int
	marks   []int
	reached []chan struct{}
}

// newMilestones makes reached[n] close after marks[n] calls.
func newMilestones(marks ...int) *milestones {
	m := &milestones{marks: marks}
	for range marks {
		m.reached = append(m.reached, make(chan struct{}))
	}
	return m
}

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
