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

// CrashOptions say what Crash does. Program is mandatory.
type CrashOptions struct {
	Program  Program
	Duration time.Duration // of the cycles; putting right and counting come on top
	Seed     uint64        // decides on the faults, not on what they meet
	Database string        // one of Databases
	Dir      string        // for everything that is written
	Writers  int           // 0 is 6
	Log      io.Writer     // what happens, for people
}

// Verdict is the outcome of Crash.
type Verdict struct {
	Database     string
	Disk         string // what "full" means here
	Cycles       int
	Kills        int
	Stops        int
	Faults       map[string]int
	Acknowledged int // different callIDs
	Found        int // of those
	Lost         int
	Doubled      int
	Damaged      int // bodies
	Refused      int // answers of 503
	Unanswered   int
	Spooled      int // at least: what killed servers spooled last is not counted
	Set          int // aside: files of the quarantine that hold a whole record
	Odd          map[string]int
	Complaints   []string // the first few
}

const mostComplaints = 20

func (v *Verdict) complain(format string, arguments ...any) {
	if len(v.Complaints) < mostComplaints {
		v.Complaints = append(v.Complaints, fmt.Sprintf(format, arguments...))
	}
}

// OK tells whether everything that was acknowledged is there once and intact.
func (v Verdict) OK() bool {
	return v.Lost+v.Doubled+v.Damaged+v.Set+len(v.Odd) == 0 && v.Found == v.Acknowledged && v.Acknowledged > 0
}

func (v Verdict) String() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s: cycles %d (kills %d, stops %d), faults %v, full disk by %s\n", v.Database, v.Cycles, v.Kills, v.Stops, v.Faults, v.Disk)
	fmt.Fprintf(&b, "%s: acknowledged %d, found %d, lost %d, doubled %d, damaged %d\n", v.Database, v.Acknowledged, v.Found, v.Lost, v.Doubled, v.Damaged)
	fmt.Fprintf(&b, "%s: spooled %d or more, set aside %d, refused with 503 %d, unanswered %d, other answers %v\n",
		v.Database, v.Spooled, v.Set, v.Refused, v.Unanswered, v.Odd)
	for _, c := range v.Complaints {
		fmt.Fprintln(&b, " ", c)
	}
	return b.String()
}

// crash is one run.
type crash struct {
	CrashOptions
	dice    *rand.Rand
	ledger  *ledger
	data    *disk // of the server
	redis   *redistest.Server
	base    database
	server  *process // nil while it is down
	address atomic.Pointer[string]
	verdict Verdict
}

// Crash has clients post records while the server is killed, and the database,
// Redis and the disk fail; then it puts everything right and looks for what was
// acknowledged. An error means that the trial itself failed.
func Crash(ctx context.Context, o CrashOptions) (verdict Verdict, err error) {
	if o.Writers == 0 {
		o.Writers = 6
	}
	c := &crash{CrashOptions: o, dice: rand.New(rand.NewPCG(o.Seed, 1)), ledger: newLedger()} //nolint:gosec // the same seed must give the same faults
	c.verdict = Verdict{Faults: map[string]int{}}
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
	if c.base, err = c.openDatabase(ctx); err != nil {
		return c.verdict, err
	}
	defer closeLater(c.base.close)()
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
	return c.count(ctx)
}

func (c *crash) note(format string, arguments ...any) {
	if c.Log != nil {
		fmt.Fprintf(c.Log, format+"\n", arguments...)
	}
}

// between is a random time.
func (c *crash) between(least, most time.Duration) time.Duration {
	return least + time.Duration(c.dice.Int64N(int64(most-least)))
}

// during waits for a while, unless ctx ends.
func during(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Lengths of the parts of a cycle.
const (
	shortest = 20 * time.Millisecond
	longest  = 900 * time.Millisecond

	mostExtra = 2 * time.Minute
)

func (c *crash) cycles(ctx context.Context) error {
	if err := c.up(); err != nil {
		return err
	}
	faults := c.faults()
	for end := time.Now().Add(c.Duration); !c.enough(end); c.verdict.Cycles++ {
		f := faults[c.dice.IntN(len(faults))]
		if c.verdict.Cycles < len(faults) { // each at least once, if there is time
			f = faults[c.verdict.Cycles]
		}
		c.verdict.Faults[f.name]++
		if err := f.strike(ctx); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		lasts := c.between(shortest, longest)
		if f.lasts > 0 && c.dice.IntN(2) == 0 {
			lasts = f.lasts
		}
		if err := during(ctx, lasts); err != nil {
			return err
		}
		// The server ends during the fault, after it, or not at all.
		early := c.dice.IntN(2) == 0
		if early {
			if err := c.end(ctx); err != nil {
				return err
			}
		}
		if err := f.mend(ctx); err != nil {
			return fmt.Errorf("mend %s: %w", f.name, err)
		}
		if err := c.up(); err != nil {
			return err
		}
		if err := during(ctx, c.between(shortest, longest)); err != nil {
			return err
		}
		if !early && c.dice.IntN(3) > 0 {
			if err := c.end(ctx); err != nil {
				return err
			}
		}
		if err := c.up(); err != nil {
			return err
		}
		c.note("cycle %d: %s, %d answers of 200", c.verdict.Cycles, f.name, c.ledger.answers())
	}
	return nil
}

// enough tells whether the cycles may end. On a slow machine a short trial might
// spool nothing, and show little; it goes on until it has.
func (c *crash) enough(end time.Time) bool {
	over := time.Since(end)
	return over > mostExtra || over > 0 && c.verdict.Spooled > 0
}

// up starts the server if it is down.
func (c *crash) up() error {
	if c.server != nil {
		return nil
	}
	s, err := c.Program.launch(c.Dir, filepath.Join(c.data.dir, "data"), trialDocument, "CALLTRACKER_REDIS_URL="+c.redis.URL(), "CALLTRACKER_DATABASE_URL="+c.base.url())
	if err != nil {
		return err
	}
	c.server = s
	c.address.Store(&s.base)
	return nil
}

// end kills the server, or stops it.
func (c *crash) end(ctx context.Context) error {
	c.tally(ctx)
	s := c.server
	c.server = nil
	if c.dice.IntN(4) == 0 {
		c.verdict.Stops++
		return s.terminate()
	}
	c.verdict.Kills++
	return s.kill()
}

// tally adds up what the server spooled. Should it not answer, it is not counted.
func (c *crash) tally(ctx context.Context) {
	if m, err := c.server.metrics(ctx); err == nil {
		c.verdict.Spooled += int(m["calltracker_spool_spooled_total"])
	}
}

// Of the records that were acknowledged, one in so many is sent again, as it was
// or with more.
const (
	oneRepeats  = 10
	oneEnriched = 10
	oneLarge    = 50
	largeBody   = 200 << 10
)

// write posts records until ctx ends. The dice of the writers are their own: what
// they meet depends on the moment in any case.
func (c *crash) write(ctx context.Context, writer int) {
	dice := rand.New(rand.NewPCG(c.Seed, uint64(writer)+2)) //nolint:gosec // see above; it is not negative either
	client := &http.Client{Timeout: askLimit, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		callID := fmt.Sprintf("%016x-%d-%d", c.Seed, writer, n)
		padding := 10 + dice.IntN(2000)
		if dice.IntN(oneLarge) == 0 {
			padding = largeBody
		}
		body := record(callID, padding, "")
		for try := 0; !c.post(ctx, client, callID, body) && ctx.Err() == nil; try++ {
			_ = during(ctx, time.Duration(5+dice.IntN(30))*time.Millisecond)
			if try > 5 && dice.IntN(2) == 0 { // Ziwo does not try for ever either
				break
			}
		}
		if dice.IntN(oneRepeats) == 0 {
			c.post(ctx, client, callID, body)
		}
		if dice.IntN(oneEnriched) == 0 {
			c.post(ctx, client, callID, record(callID, padding, callID+".mp3"))
		}
		_ = during(ctx, time.Duration(dice.IntN(10))*time.Millisecond)
	}
}

// record is the body of an end call, in the one form that JSON is compacted to.
func record(callID string, padding int, recording string) []byte {
	body := fmt.Appendf(nil, `{"callID":%q,"didCalled":"+97142345678","callerIDNumber":"0501234567","direction":"inbound","startedAt":"%s","duration":31`,
		callID, time.Now().UTC().Truncate(time.Minute).Format(time.RFC3339))
	if recording != "" {
		body = fmt.Appendf(body, `,"recordingFile":%q`, recording)
	}
	return fmt.Appendf(body, `,"padding":"%s"}`, bytes.Repeat([]byte("x"), padding))
}

// post sends a record and tells whether it was acknowledged.
func (c *crash) post(ctx context.Context, client *http.Client, callID string, body []byte) bool {
	base := c.address.Load()
	if base == nil {
		return false
	}
	// A request is not broken off when the trial ends: its answer counts.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), http.MethodPost, *base+"/callTrackers/"+trackerID+"/endCall", bytes.NewReader(body))
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
	c.ledger.enter(callID, body, res.StatusCode, string(text))
	return res.StatusCode == http.StatusOK
}

const (
	settleLimit = 3 * time.Minute
	readers     = 4
)

// count brings everything up and compares.
func (c *crash) count(ctx context.Context) (Verdict, error) {
	if err := c.up(); err != nil {
		return c.verdict, err
	}
	if err := c.server.settled(ctx, settleLimit); err != nil {
		return c.verdict, err
	}
	c.tally(ctx)
	all, err := c.read(ctx)
	if err != nil {
		return c.verdict, err
	}
	v := c.ledger.verdict(all)
	v.Database, v.Disk, v.Cycles, v.Kills, v.Stops, v.Faults, v.Spooled =
		c.verdict.Database, c.verdict.Disk, c.verdict.Cycles, c.verdict.Kills, c.verdict.Stops, c.verdict.Faults, c.verdict.Spooled
	aside, err := filepath.Glob(filepath.Join(c.data.dir, "data", "spool", "quarantine", "*"))
	if err != nil {
		return v, err
	}
	for _, path := range aside {
		// A part of a record is what a kill in the middle of a write leaves.
		if filepath.Ext(path) != ".broken" {
			v.Set++
			v.complain("set aside: %s", filepath.Base(path))
		}
	}
	stopped := c.server
	c.server = nil
	return v, stopped.terminate()
}

// read gets all calls with their bodies over the API.
func (c *crash) read(ctx context.Context) (map[string]*found, error) {
	type call struct{ ID, CallID string }
	var calls []call
	for next := ""; ; {
		var page struct {
			Calls []call
			Next  string
		}
		if err := c.server.ask(ctx, "/api/v1/calls?limit=1000&cursor="+next, &page); err != nil {
			return nil, err
		}
		calls = append(calls, page.Calls...)
		if next = page.Next; next == "" {
			break
		}
	}
	var mu sync.Mutex
	all := map[string]*found{}
	var failed error
	var reading sync.WaitGroup
	for part := range slices.Chunk(calls, len(calls)/readers+1) {
		reading.Go(func() {
			for _, one := range part {
				var detail struct {
					Revisions []struct{ Raw json.RawMessage }
				}
				err := c.server.ask(ctx, "/api/v1/calls/"+one.ID, &detail)
				mu.Lock()
				if err != nil {
					failed = err
					mu.Unlock()
					return
				}
				f := all[one.CallID]
				if f == nil {
					f = &found{bodies: map[digest]int{}}
					all[one.CallID] = f
				}
				f.calls++
				for _, r := range detail.Revisions {
					f.bodies[digestOf(r.Raw)]++
				}
				mu.Unlock()
			}
		})
	}
	reading.Wait()
	return all, failed
}
