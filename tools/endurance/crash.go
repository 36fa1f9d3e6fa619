package endurance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"calltracker/storage/storetest/redistest"
)

// CrashOptions are the options of Crash. Program is required.
type CrashOptions struct {
	Program  Program
	Duration time.Duration // of the fault cycles, without the final verification
	Seed     uint64        // selects the faults; the timing of requests is not deterministic
	Database string        // one of Databases
	Dir      string        // directory for all files
	Writers  int           // concurrent clients; 0 means 6
	Log      io.Writer     // human-readable progress; may be nil
}

// CrashVerdict is the outcome of Crash.
type CrashVerdict struct {
	Database     string
	Disk         string // how the data disk was filled
	Cycles       int
	Kills        int
	Stops        int
	Faults       map[string]int
	Acknowledged int // distinct callIDs
	Found        int // acknowledged callIDs that are stored
	Lost         int // acknowledged callIDs that are not stored
	Duplicated   int // callIDs that are stored more than once, or one of their bodies
	Damaged      int // acknowledged bodies that are not stored
	Unavailable  int // 503 answers
	Unanswered   int // requests without an answer
	Spooled      int // spooled CDRs, without those since the last metrics of a killed server
	Quarantined  int // files in quarantine that contain a whole CDR
	Unexpected   map[string]int
	Complaints   []string // the first few
}

const maxComplaints = 20

func (v *CrashVerdict) complain(format string, arguments ...any) {
	if len(v.Complaints) < maxComplaints {
		v.Complaints = append(v.Complaints, fmt.Sprintf(format, arguments...))
	}
}

// OK reports whether everything that was acknowledged is stored exactly as it was
// sent, without duplicates.
func (v CrashVerdict) OK() bool {
	return v.Lost+v.Duplicated+v.Damaged+v.Quarantined+len(v.Unexpected) == 0 && v.Found == v.Acknowledged && v.Acknowledged > 0
}

func (v CrashVerdict) String() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s: cycles %d (kills %d, stops %d), faults %v, full disk by %s\n", v.Database, v.Cycles, v.Kills, v.Stops, v.Faults, v.Disk)
	fmt.Fprintf(&b, "%s: acknowledged %d, found %d, lost %d, duplicated %d, damaged %d\n", v.Database, v.Acknowledged, v.Found, v.Lost, v.Duplicated, v.Damaged)
	fmt.Fprintf(&b, "%s: spooled at least %d, quarantined %d, 503 answers %d, unanswered %d, unexpected answers %v\n",
		v.Database, v.Spooled, v.Quarantined, v.Unavailable, v.Unanswered, v.Unexpected)
	for _, c := range v.Complaints {
		fmt.Fprintln(&b, " ", c)
	}
	return b.String()
}

// crash is one run of Crash.
type crash struct {
	CrashOptions
	random  *rand.Rand
	ledger  *ledger
	data    *disk // of the server
	redis   *redistest.Server
	db      database
	server  *process // nil while it is down
	baseURL atomic.Pointer[string]
	verdict CrashVerdict
}

// Crash runs clients that post CDRs while the server is killed and the database,
// Redis and the disk fail. Then it repairs everything and verifies that every
// acknowledged CDR is stored. An error means that the trial itself failed.
func Crash(ctx context.Context, o CrashOptions) (verdict CrashVerdict, err error) {
	if o.Writers == 0 {
		o.Writers = 6
	}
	c := &crash{CrashOptions: o, random: rand.New(rand.NewPCG(o.Seed, 1)), ledger: newLedger()} //nolint:gosec // deterministic: a seed selects the faults
	c.verdict = CrashVerdict{Faults: map[string]int{}}
	closeLater := func(closing func() error) func() {
		return func() { err = errors.Join(err, closing()) }
	}
	if c.data, err = newDisk(ctx, filepath.Join(o.Dir, "disk")); err != nil {
		return c.verdict, err
	}
	defer closeLater(c.data.close)()
	c.verdict.Disk = c.data.kind()
	if c.redis, err = redistest.New(); err != nil {
		return c.verdict, err
	}
	defer closeLater(c.redis.Close)()
	if c.db, err = c.openDatabase(ctx); err != nil {
		return c.verdict, err
	}
	defer closeLater(c.db.close)()
	c.verdict.Database = o.Database
	defer func() {
		if c.server != nil {
			err = errors.Join(err, c.server.kill())
		}
	}()

	load, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	var writers sync.WaitGroup
	for n := range o.Writers {
		writers.Go(func() { c.write(load, n) })
	}
	err = c.cycles(ctx)
	stopLoad()
	writers.Wait()
	if err != nil {
		return c.verdict, err
	}
	return c.verify(ctx)
}

func (c *crash) logf(format string, arguments ...any) {
	if c.Log != nil {
		fmt.Fprintf(c.Log, format+"\n", arguments...)
	}
}

// randomDuration returns a duration of at least shortest and less than longest.
func (c *crash) randomDuration() time.Duration {
	return shortest + time.Duration(c.random.Int64N(int64(longest-shortest)))
}

// wait waits for a duration or until ctx is done.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Lengths of the parts of a cycle, and of the time that a trial may exceed its
// duration.
const (
	shortest = 20 * time.Millisecond
	longest  = 900 * time.Millisecond

	maxOvertime = 2 * time.Minute
)

// cycles injects one fault after another until the trial is finished.
func (c *crash) cycles(ctx context.Context) error {
	if err := c.startServer(); err != nil {
		return err
	}
	faults := c.faults()
	for end := time.Now().Add(c.Duration); !c.finished(end); c.verdict.Cycles++ {
		f := faults[c.random.IntN(len(faults))]
		if c.verdict.Cycles < len(faults) { // every fault once, if there is time
			f = faults[c.verdict.Cycles]
		}
		c.verdict.Faults[f.name]++
		if err := f.inject(ctx); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		duration := c.randomDuration()
		if f.long > 0 && c.random.IntN(2) == 0 {
			duration = f.long
		}
		if err := wait(ctx, duration); err != nil {
			return err
		}
		// The server stops during the fault, after it, or not at all.
		early := c.random.IntN(2) == 0
		if early {
			if err := c.stopServer(ctx); err != nil {
				return err
			}
		}
		if err := f.repair(ctx); err != nil {
			return fmt.Errorf("repair %s: %w", f.name, err)
		}
		if err := c.startServer(); err != nil {
			return err
		}
		if err := wait(ctx, c.randomDuration()); err != nil {
			return err
		}
		if !early && c.random.IntN(3) > 0 {
			if err := c.stopServer(ctx); err != nil {
				return err
			}
		}
		if err := c.startServer(); err != nil {
			return err
		}
		c.logf("cycle %d: %s, %d CDRs acknowledged", c.verdict.Cycles, f.name, c.ledger.answers())
	}
	return nil
}

// finished reports whether the cycles may end. A short trial on a slow machine
// continues until a CDR was spooled, for at most maxOvertime.
func (c *crash) finished(end time.Time) bool {
	over := time.Since(end)
	return over > maxOvertime || over > 0 && c.verdict.Spooled > 0
}

// startServer starts the server if it is down.
func (c *crash) startServer() error {
	if c.server != nil {
		return nil
	}
	s, err := c.Program.launch(c.Dir, filepath.Join(c.data.dir, "data"), trialDocument, "CALLTRACKER_REDIS_URL="+c.redis.URL(), "CALLTRACKER_DATABASE_URL="+c.db.url())
	if err != nil {
		return err
	}
	c.server = s
	c.baseURL.Store(&s.baseURL)
	return nil
}

// stopServer kills the server, or terminates it in one of four cases.
func (c *crash) stopServer(ctx context.Context) error {
	c.countSpooled(ctx)
	s := c.server
	c.server = nil
	if c.random.IntN(4) == 0 {
		c.verdict.Stops++
		return s.terminate()
	}
	c.verdict.Kills++
	return s.kill()
}

// countSpooled adds the number of CDRs that the server has spooled, if it answers.
func (c *crash) countSpooled(ctx context.Context) {
	if m, err := c.server.metrics(ctx); err == nil {
		c.verdict.Spooled += int(m["calltracker_spool_spooled_total"])
	}
}

// What the clients send: one CDR in repeatEvery is repeated, one in enrichEvery is
// followed by a revision, and one in largeEvery is large.
const (
	repeatEvery = 10
	enrichEvery = 10
	largeEvery  = 50
	largeBody   = 200 << 10
)

// write posts CDRs until ctx is done. Each writer has its own random numbers.
func (c *crash) write(ctx context.Context, writer int) {
	random := rand.New(rand.NewPCG(c.Seed, uint64(writer)+2)) //nolint:gosec // deterministic, and not negative
	client := &http.Client{Timeout: requestTimeout, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		callID := fmt.Sprintf("%016x-%d-%d", c.Seed, writer, n)
		padding := 10 + random.IntN(2000)
		if random.IntN(largeEvery) == 0 {
			padding = largeBody
		}
		body := cdrBody(callID, padding, "")
		for try := 0; !c.post(ctx, client, callID, body) && ctx.Err() == nil; try++ {
			_ = wait(ctx, time.Duration(5+random.IntN(30))*time.Millisecond)
			if try > 5 && random.IntN(2) == 0 { // like Ziwo, it gives up
				break
			}
		}
		if random.IntN(repeatEvery) == 0 {
			c.post(ctx, client, callID, body)
		}
		if random.IntN(enrichEvery) == 0 {
			c.post(ctx, client, callID, cdrBody(callID, padding, callID+".mp3"))
		}
		_ = wait(ctx, time.Duration(random.IntN(10))*time.Millisecond)
	}
}

// cdrBody returns the body of an end call as compact JSON.
func cdrBody(callID string, padding int, recording string) []byte {
	body := fmt.Appendf(nil, `{"callID":%q,"didCalled":"+97142345678","callerIDNumber":"0501234567","direction":"inbound","startedAt":"%s","duration":31`,
		callID, time.Now().UTC().Truncate(time.Minute).Format(time.RFC3339))
	if recording != "" {
		body = fmt.Appendf(body, `,"recordingFile":%q`, recording)
	}
	return fmt.Appendf(body, `,"padding":"%s"}`, bytes.Repeat([]byte("x"), padding))
}

// post sends a CDR and reports whether it was acknowledged.
func (c *crash) post(ctx context.Context, client *http.Client, callID string, body []byte) bool {
	baseURL := c.baseURL.Load()
	if baseURL == nil {
		return false
	}
	// The end of the trial does not cancel a request: its answer counts.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, *baseURL+"/callTrackers/"+trackerID+"/endCall", bytes.NewReader(body))
	if err != nil {
		return false
	}
	req.Header.Set("X-Api-Key", endKey)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		c.ledger.unanswered()
		return false
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.ledger.unanswered()
		return false
	}
	c.ledger.record(callID, body, res.StatusCode, string(text))
	return res.StatusCode == http.StatusOK
}

const (
	drainTimeout = 3 * time.Minute
	readers      = 4
)

// verify starts the server, waits until the spool is empty, and compares the stored
// calls with the ledger.
func (c *crash) verify(ctx context.Context) (CrashVerdict, error) {
	if err := c.startServer(); err != nil {
		return c.verdict, err
	}
	if err := c.server.waitDrained(ctx, drainTimeout); err != nil {
		return c.verdict, err
	}
	c.countSpooled(ctx)
	all, err := c.storedCalls(ctx)
	if err != nil {
		return c.verdict, err
	}
	v := c.ledger.verdict(all)
	v.Database, v.Disk, v.Cycles, v.Kills, v.Stops, v.Faults, v.Spooled =
		c.verdict.Database, c.verdict.Disk, c.verdict.Cycles, c.verdict.Kills, c.verdict.Stops, c.verdict.Faults, c.verdict.Spooled
	quarantined, err := filepath.Glob(filepath.Join(c.data.dir, "data", "spool", "quarantine", "*"))
	if err != nil {
		return v, err
	}
	for _, path := range quarantined {
		// A kill during a write leaves a part of a record, which is not a loss.
		if filepath.Ext(path) != ".broken" {
			v.Quarantined++
			v.complain("quarantined: %s", filepath.Base(path))
		}
	}
	stopped := c.server
	c.server = nil
	return v, stopped.terminate()
}

// storedCalls reads all calls with their bodies from the API.
func (c *crash) storedCalls(ctx context.Context) (map[string]*storedCopies, error) {
	type call struct{ ID, CallID string }
	var calls []call
	for next := ""; ; {
		var page struct {
			Calls []call
			Next  string
		}
		if err := c.server.get(ctx, "/api/v1/calls?limit=1000&cursor="+next, &page); err != nil {
			return nil, err
		}
		calls = append(calls, page.Calls...)
		if next = page.Next; next == "" {
			break
		}
	}
	var mu sync.Mutex
	all := map[string]*storedCopies{}
	var failed error
	var reading sync.WaitGroup
	for part := range slices.Chunk(calls, len(calls)/readers+1) {
		reading.Go(func() {
			for _, one := range part {
				var detail struct {
					Revisions []struct{ Raw json.RawMessage }
				}
				err := c.server.get(ctx, "/api/v1/calls/"+one.ID, &detail)
				mu.Lock()
				if err != nil {
					failed = err
					mu.Unlock()
					return
				}
				copies := all[one.CallID]
				if copies == nil {
					copies = &storedCopies{bodies: map[digest]int{}}
					all[one.CallID] = copies
				}
				copies.calls++
				for _, r := range detail.Revisions {
					copies.bodies[digestOf(r.Raw)]++
				}
				mu.Unlock()
			}
		})
	}
	reading.Wait()
	return all, failed
}
