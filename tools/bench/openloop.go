package main

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/jackc/pgx/v5"

	"calltracker/storage/storetest/postgrestest"
	"calltracker/storage/storetest/redistest"
)

// Sizes of the open-loop measurement.
const (
	openRounds   = 3                      // at most
	openVariants = 2                      // every end call once, and twice
	openPool     = 4_000                  // calls with different contents
	openWarmUp   = 2                      // seconds in which latencies are not measured: the server was paused before
	recordLimit  = 10 * time.Second       // after the last answer, in which all decisions must be recorded
	recordPoll   = 500 * time.Millisecond // between two looks at the recorded decisions
)

// repeatOffset separates the callIDs of the plain handler's repeated end calls from
// the others.
const repeatOffset = 100_000_000_000

// Goals of the open-loop measurement, against the plain handler.
const (
	openGoalP50  = 2.0
	openGoalP99  = 3.0
	openGrace    = 10 * time.Millisecond // added to the goal of p99
	openGoalLate = 0.01                  // share of requests that the generator may send late
)

// openContender is a server that serves calls at a constant rate.
type openContender struct {
	name     string
	process  *process
	database string // address of the database with its decisions; empty if it records none
	doubles  bool   // whether a repeated end call gets its own callID, so that the server stores a second row
}

// openResult is one turn of an openContender.
type openResult struct {
	*tally
	calls   int           // with those of the warm-up
	cpuTime time.Duration // used by the server; 0 if unknown

	// Of calltracker only.
	recorded int   // decisions in the database within recordLimit
	written  int64 // decisions that the server counted as written in the same time
	dropped  int64 // decisions
	spooled  int64 // records
}

// openLoop measures calls that arrive at a constant rate, like those of a contact
// center: a slow server does not slow them down. Each latency counts from the
// scheduled instant of the request, so a stall delays every request that was due
// during it. The plain handler has the same schedule.
func (b *bench) openLoop(ctx context.Context) error {
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
	// The scheduling goroutine sleeps in a system call, during which the others need a
	// processor.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1))
	for _, repeat := range []bool{false, true} {
		s := callSchedule{rate: b.openRate, warmUp: openWarmUp * b.openRate, calls: int(b.openTurn.Seconds() * float64(b.openRate)), repeat: repeat}
		if err := b.openLoopOn(ctx, database, redis.URL(), s); err != nil {
			return err
		}
	}
	return nil
}

// openLoopOn runs the rounds of a schedule with new servers and databases, so that
// they have no backlog of another schedule.
func (b *bench) openLoopOn(ctx context.Context, database *postgrestest.Server, redis string, s callSchedule) error {
	var addresses [2]string
	for i := range addresses {
		var err error
		if addresses[i], err = b.migrated(ctx, database); err != nil {
			return err
		}
	}
	server, err := b.startConfiguredWith(ctx, []string{"CALLTRACKER_DATABASE_URL=" + addresses[0], "CALLTRACKER_REDIS_URL=" + redis}, fewTrackers, routesForGrowth)
	if err != nil {
		return err
	}
	defer server.stop()
	plain, err := b.baseline(ctx, pgxBaseline, databaseVariable+"="+addresses[1])
	if err != nil {
		return err
	}
	defer plain.stop()
	contenders := []openContender{
		{name: "calltracker with PostgreSQL and Redis", process: server, database: addresses[0]},
		{name: "plain handler on PostgreSQL", process: plain, doubles: true},
	}
	for _, c := range contenders {
		if err := c.process.pause(ctx); err != nil {
			return err
		}
	}
	results := make([][]openResult, b.openLoopRounds())
	for i := range results {
		first := i * (s.warmUp + s.calls) // callIDs are unique
		for _, c := range contenders {
			r, err := c.turn(ctx, s, first)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	title := fmt.Sprintf("%d calls/s", s.rate)
	if s.repeat {
		title += ", each end call twice"
	}
	if err := b.printOpenLoop(title, contenders, results); err != nil {
		return err
	}
	b.addOpenLoop(title, results)
	return nil
}

func (b *bench) openLoopRounds() int { return min(b.rounds, openRounds) }

// openLoopTime returns the time that the turns of the measurement take at most.
func (b *bench) openLoopTime() time.Duration {
	turns := b.openLoopRounds() * openVariants * 2
	return time.Duration(turns) * (b.openTurn + openWarmUp*time.Second + recordLimit)
}

// turn sends the requests of a schedule. first is the number of its first call.
func (c openContender) turn(ctx context.Context, s callSchedule, first int) (r openResult, err error) {
	calls, err := callRequests(fewTrackers, openPool)
	if err != nil {
		return r, err
	}
	write := func(dst []byte, a arrival) []byte {
		q, n := calls[a.call%len(calls)].end, first+a.call
		switch {
		case a.kind == startArrival:
			q = calls[a.call%len(calls)].start
		case a.kind == repeatArrival && c.doubles:
			n += repeatOffset
		}
		return appendRequest(dst, q, uint64(n))
	}
	if err := c.process.resume(ctx); err != nil {
		return r, err
	}
	before, err := c.counters(ctx)
	if err != nil {
		return r, err
	}
	cpuBefore, _ := c.process.cpuTime()
	r.calls = s.warmUp + s.calls
	if r.tally, err = (&sender{address: c.process.address}).run(ctx, s.arrivals(), write); err != nil {
		return r, err
	}
	if cpuAfter, err := c.process.cpuTime(); err == nil {
		r.cpuTime = cpuAfter - cpuBefore
	}
	if c.database != "" {
		if r.recorded, err = recordedDecisions(ctx, c.database, first, r.calls); err != nil {
			return r, err
		}
	}
	after, err := c.counters(ctx)
	if err != nil {
		return r, err
	}
	r.written, r.dropped, r.spooled = after[0]-before[0], after[1]-before[1], after[2]-before[2]
	return r, c.process.pause(ctx)
}

// counters returns the numbers of decisions written, decisions dropped and records
// spooled. They are 0 for a server that records none.
func (c openContender) counters(ctx context.Context) ([]int64, error) {
	if c.database == "" {
		return make([]int64, 3), nil
	}
	return c.process.counters(ctx, decisionsWritten, decisionsDropped, recordsSpooled)
}

// recordedDecisions returns how many of the calls have a decision in the database. It
// waits up to recordLimit for all of them.
func recordedDecisions(ctx context.Context, database string, first, calls int) (n int, err error) {
	limit := time.Now().Add(recordLimit)
	err = onConnection(ctx, database, func(ctx context.Context, connection *pgx.Conn) error {
		poll := time.NewTicker(recordPoll)
		defer poll.Stop()
		for {
			if err := connection.QueryRow(ctx, "SELECT count(DISTINCT call_id) FROM decisions WHERE call_id BETWEEN $1 AND $2",
				callID(uint64(first)), callID(uint64(first+calls-1))).Scan(&n); err != nil {
				return err
			}
			if n == calls || time.Now().After(limit) {
				return nil
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-poll.C:
			}
		}
	})
	return n, err
}

// call has the requests of one call.
type call struct{ start, end request }

// callRequests returns the requests of calls from n callers to random trackers and
// DIDs. Both requests of a call have the same tracker, DID and caller.
func callRequests(trackers, n int) ([]call, error) {
	d := generator(4)
	now := time.Now().UTC().Truncate(time.Second)
	out := make([]call, n)
	for i, caller := range callers(n) {
		t := d.intn(trackers)
		did := nationalDID(t, d.intn(didsPerTracker))
		var err error
		if out[i].start, err = startRequest(trackerID(t), did, caller); err != nil {
			return nil, err
		}
		if out[i].end, err = endRequest(&d, trackerID(t), did, caller, now); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// callID returns the callID with a number.
func callID(n uint64) string {
	id := []byte(callIDPrefix + callIDDigits)
	writeDecimal(id[len(callIDPrefix):], n)
	return string(id)
}

// appendRequest appends a request with the callID of a number. It does not change the
// request, which other goroutines may be sending.
func appendRequest(dst []byte, q request, n uint64) []byte {
	begin := len(dst)
	dst = append(dst, q.wire...)
	digits := begin + bytes.Index(dst[begin:], []byte(callIDPrefix)) + len(callIDPrefix)
	writeDecimal(dst[digits:digits+len(callIDDigits)], n)
	return dst
}

// openSums are the sums of the turns of one contender or of several.
type openSums struct {
	requests, late, failed    int64 // late and failed: as in tally
	worst                     time.Duration
	calls, recorded           int
	written, dropped, spooled int64
}

func (s *openSums) add(r openResult) {
	s.requests += r.requests()
	s.late += r.late
	s.failed += r.failed
	s.worst = max(s.worst, percentile(r.delays, 100))
	s.calls += r.calls
	s.recorded += r.recorded
	s.written += r.written
	s.dropped += r.dropped
	s.spooled += r.spooled
}

// sumTurns returns the sums of the turns of the i-th contender.
func sumTurns(results [][]openResult, i int) openSums {
	var s openSums
	for _, round := range results {
		s.add(round[i])
	}
	return s
}

func startLatencies(r openResult) *hdrhistogram.Histogram { return r.starts }
func endLatencies(r openResult) *hdrhistogram.Histogram   { return r.ends }

// printOpenLoop prints a table of the contenders.
func (b *bench) printOpenLoop(title string, contenders []openContender, results [][]openResult) error {
	fmt.Fprintf(b.out, "openLoop: %s, turns of %v, rounds: %d. Latencies count from the scheduled instant.\n", title, b.openTurn, len(results))
	t := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "\tstart call p50\tp99\tend call p50\tp99\tp99.9\tmax\tCPU/call\tsent > %v late\tlatest\tfailed\tdecisions recorded\tcounted\tdropped\tspooled\t\n", lateAfter)
	for i, c := range contenders {
		latency := func(histogram func(openResult) *hdrhistogram.Histogram, p float64) time.Duration {
			return time.Duration(medianOfRounds(results, func(r []openResult) float64 { return float64(percentile(histogram(r[i]), p)) }))
		}
		cpuTime := time.Duration(medianOfRounds(results, func(r []openResult) float64 { return float64(r[i].cpuTime) / float64(r[i].calls) }))
		sums := sumTurns(results, i)
		fmt.Fprintf(t, "%s\t%v\t%v\t%v\t%v\t%v\t%v\t%v\t%d of %d\t%v\t%d\t", c.name, latency(startLatencies, 50), latency(startLatencies, 99),
			latency(endLatencies, 50), latency(endLatencies, 99), latency(endLatencies, 99.9), latency(endLatencies, 100),
			cpuTime.Round(100*time.Nanosecond), sums.late, sums.requests, sums.worst, sums.failed)
		if c.database == "" {
			fmt.Fprint(t, "-\t-\t-\t-\t\n")
		} else {
			fmt.Fprintf(t, "%d of %d\t%d\t%d\t%d\t\n", sums.recorded, sums.calls, sums.written, sums.dropped, sums.spooled)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i, c := range contenders {
		for _, round := range results {
			if failure := round[i].failure; failure != nil {
				fmt.Fprintf(b.out, "%s failed: %v\n", c.name, failure)
				break
			}
		}
	}
	fmt.Fprintln(b.out)
	return nil
}

// addOpenLoop adds the rows of calltracker, the first contender, against the plain
// handler.
func (b *bench) addOpenLoop(title string, results [][]openResult) {
	add := func(metric, measured, goal string, ok bool) {
		b.add("openLoop, "+title+", "+metric, measured, goal, ok)
	}
	ratio := func(p float64) float64 {
		return medianOfRounds(results, func(r []openResult) float64 {
			return float64(percentile(r[0].ends, p)) / float64(percentile(r[1].ends, p))
		})
	}
	excess := time.Duration(medianOfRounds(results, func(r []openResult) float64 {
		return float64(percentile(r[0].ends, 99)) - openGoalP99*float64(percentile(r[1].ends, 99))
	}))
	p50 := ratio(50)
	add("end call p50 against a plain handler", fmt.Sprintf("%.2f", p50), fmt.Sprintf("<= %.2f", openGoalP50), p50 <= openGoalP50)
	add("end call p99 against a plain handler", fmt.Sprintf("%.2f", ratio(99)), fmt.Sprintf("<= %.2f plus %v", openGoalP99, openGrace), excess <= openGrace)
	server, plain := sumTurns(results, 0), sumTurns(results, 1)
	add(fmt.Sprintf("decisions recorded within %v", recordLimit), fmt.Sprintf("%.2f%%", 100*float64(server.recorded)/float64(server.calls)), "100%", server.recorded == server.calls)
	add("decisions dropped", fmt.Sprint(server.dropped), "0", server.dropped == 0)
	add("records spooled", fmt.Sprint(server.spooled), "0", server.spooled == 0)
	add("failed requests", fmt.Sprint(server.failed), "0", server.failed == 0)
	late := float64(server.late+plain.late) / float64(server.requests+plain.requests)
	add(fmt.Sprintf("sent > %v late by the load generator", lateAfter), fmt.Sprintf("%.2f%%", 100*late), fmt.Sprintf("<= %.0f%%", 100*openGoalLate), late <= openGoalLate)
}
