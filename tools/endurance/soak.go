package endurance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// SoakOptions are the options of Soak. Program is required.
type SoakOptions struct {
	Program     Program
	Duration    time.Duration
	Rate        float64 // calls per second; each is a start call followed by an end call
	DatabaseURL string
	Dir         string
	Log         io.Writer // one human-readable line per sample; may be nil
}

// sample is the resource usage of the server at one time. Each client connection uses
// a file and a goroutine, which are not counted: clients open more connections when
// the machine is busy, and keep them.
type sample struct {
	at                                time.Duration
	resident, heap, goroutines, files float64 // heap includes garbage that is not collected yet
	connections                       float64
}

// SoakReport is the outcome of Soak.
type SoakReport struct {
	Calls              int64
	Failed             int64 // answers other than 200, and requests without an answer
	Missed             int64 // calls that were not sent because too many were in progress
	Dropped            int64 // decisions that were not recorded
	Spooled            int64 // CDRs in the spool at the end
	StartP50, StartP99 time.Duration
	EndP50, EndP99     time.Duration
	EarlyP99, LateP99  time.Duration // of end calls, in the second and the last quarter
	Early, Late        Usage         // means in the second and the last quarter
	Samples            int
	Growths            []string // resources that grew
	stopped            error
}

// Usage is the mean of several samples, in bytes and numbers.
type Usage struct{ Resident, Heap, Goroutines, Files float64 }

// OK reports whether every call was served and no resource grew.
func (r SoakReport) OK() bool {
	return r.Calls > 0 && r.Failed+r.Missed+r.Dropped+r.Spooled == 0 && len(r.Growths) == 0 && r.stopped == nil
}

func (r SoakReport) String() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "calls %d, failed %d, not sent in time %d, decisions dropped %d, left in the spool %d\n", r.Calls, r.Failed, r.Missed, r.Dropped, r.Spooled)
	fmt.Fprintf(&b, "start calls: p50 %v, p99 %v; end calls: p50 %v, p99 %v\n", r.StartP50, r.StartP99, r.EndP50, r.EndP99)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "mean of\tresident\theap\tgoroutines\tfiles\tend calls p99\t")
	for _, row := range []struct {
		name string
		u    Usage
		p99  time.Duration
	}{{"second quarter", r.Early, r.EarlyP99}, {"last quarter", r.Late, r.LateP99}} {
		fmt.Fprintf(t, "%s\t%.1f MiB\t%.1f MiB\t%.0f\t%.0f\t%v\t\n", row.name, row.u.Resident/mebibyte, row.u.Heap/mebibyte, row.u.Goroutines, row.u.Files, row.p99)
	}
	_ = t.Flush() // a buffer cannot fail
	for _, g := range r.Growths {
		fmt.Fprintln(&b, "grew:", g)
	}
	if r.stopped != nil {
		fmt.Fprintln(&b, r.stopped)
	}
	if r.OK() {
		fmt.Fprintln(&b, "verdict: ok")
	} else {
		fmt.Fprintln(&b, "verdict: NOT ok")
	}
	return b.String()
}

const (
	mebibyte      = 1 << 20
	maxInFlight   = 512 // calls; above it, the server is too slow for the rate
	samplesPerRun = 40
)

// Permitted growth from the second quarter to the last: a share plus a constant. The
// share is larger for latencies, which depend on the load of the machine.
const (
	growthShare   = 0.2
	latencyShare  = 1.0
	growthMemory  = 24 * mebibyte
	growthCount   = 40
	growthLatency = 20 * time.Millisecond
)

// soak is one run of Soak.
type soak struct {
	SoakOptions
	server *process
	client *http.Client
	failed atomic.Int64
	open   atomic.Int64 // open connections of client

	mu     sync.Mutex
	starts *hdrhistogram.Histogram
	ends   [4]*hdrhistogram.Histogram // by quarter
}

// Soak sends calls at a fixed rate, whether or not the earlier ones were answered. The
// latency of a start call is measured from the time at which it was due.
func Soak(ctx context.Context, o SoakOptions) (report SoakReport, err error) {
	s := &soak{SoakOptions: o, starts: newHistogram()}
	for i := range s.ends {
		s.ends[i] = newHistogram()
	}
	s.client = &http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: maxInFlight, DialContext: s.dial}}
	defer s.client.CloseIdleConnections()
	if s.server, err = o.Program.launch(o.Dir, filepath.Join(o.Dir, "data"), trialDocument, "CALLTRACKER_DATABASE_URL="+o.DatabaseURL); err != nil {
		return report, err
	}
	watchCtx, stopWatching := context.WithCancel(ctx)
	var samples []sample
	var watchErr error
	var watcher sync.WaitGroup
	start := time.Now()
	watcher.Go(func() { samples, watchErr = s.watch(watchCtx, start) })
	report.Calls, report.Missed = s.calls(ctx, start)
	stopWatching()
	watcher.Wait()
	if watchErr != nil {
		_ = s.server.kill()
		return report, watchErr
	}
	err = s.server.waitDrained(ctx, drainTimeout)
	m, metricsErr := s.server.metrics(ctx)
	if metricsErr == nil {
		report.Dropped = int64(m[`calltracker_queue_dropped_total{queue="decisions"}`])
		report.Spooled = int64(m["calltracker_spool_records"])
	}
	if err == nil {
		err = metricsErr
	}
	report.stopped = s.server.terminate()
	s.conclude(&report, samples)
	return report, err
}

// dial opens a connection and counts it until it is closed.
func (s *soak) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s.open.Add(1)
	return &countedConn{Conn: c, closed: sync.OnceFunc(func() { s.open.Add(-1) })}, nil
}

// countedConn is a connection that calls closed when it is closed.
type countedConn struct {
	net.Conn
	closed func()
}

// Close closes the connection.
func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Hour.Microseconds(), 3)
}

// calls sends each call when it is due and waits until all are answered.
func (s *soak) calls(ctx context.Context, start time.Time) (sent, missed int64) {
	interval := time.Duration(float64(time.Second) / s.Rate)
	slots := make(chan struct{}, maxInFlight)
	var inFlight sync.WaitGroup
	next := time.NewTimer(0)
	defer next.Stop()
	for n := int64(0); ; n++ {
		due := start.Add(time.Duration(n) * interval)
		if due.Sub(start) >= s.Duration {
			break
		}
		if wait := time.Until(due); wait > 0 {
			next.Reset(wait)
			select {
			case <-next.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			break
		}
		select {
		case slots <- struct{}{}:
		default:
			missed++
			continue
		}
		sent++
		inFlight.Go(func() {
			defer func() { <-slots }()
			s.call(ctx, n, start, due)
		})
	}
	inFlight.Wait()
	return sent, missed
}

// call sends a start call and then the end call of the same call.
func (s *soak) call(ctx context.Context, n int64, start, due time.Time) {
	callID := fmt.Sprintf("soak-%d-%d", start.UnixNano(), n)
	caller := fmt.Sprintf("+9715%08d", n%90_000_000)
	body := fmt.Appendf(nil, `{"didCalled":"+97142345678","callerIDNumber":%q,"callID":%q}`, caller, callID)
	if !s.post(ctx, "startCall", startKey, body) {
		return
	}
	s.mu.Lock()
	_ = s.starts.RecordValue(time.Since(due).Microseconds()) // out of range above an hour
	s.mu.Unlock()
	sent := time.Now()
	if !s.post(ctx, "endCall", endKey, cdrBody(callID, 1500, "")) {
		return
	}
	quarter := min(len(s.ends)-1, int(due.Sub(start)*time.Duration(len(s.ends))/s.Duration))
	s.mu.Lock()
	_ = s.ends[quarter].RecordValue(time.Since(sent).Microseconds()) // out of range above an hour
	s.mu.Unlock()
}

// post sends a request to an endpoint of the tracker and reports whether the answer
// is 200.
func (s *soak) post(ctx context.Context, endpoint, key string, body []byte) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server.baseURL+"/callTrackers/"+trackerID+"/"+endpoint, bytes.NewReader(body))
	if err != nil {
		return false
	}
	req.Header.Set("X-Api-Key", key)
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
	if err != nil || res.StatusCode != http.StatusOK {
		s.failed.Add(1)
		return false
	}
	return true
}

// watch takes samples until ctx is done.
func (s *soak) watch(ctx context.Context, start time.Time) ([]sample, error) {
	ticker := time.NewTicker(max(s.Duration/samplesPerRun, 100*time.Millisecond))
	defer ticker.Stop()
	var samples []sample
	for {
		select {
		case <-ctx.Done():
			return samples, nil
		case <-ticker.C:
		}
		m, err := s.server.metrics(ctx)
		if ctx.Err() != nil {
			return samples, nil
		}
		if err != nil {
			return samples, err
		}
		one := sample{
			at: time.Since(start), resident: m["process_resident_memory_bytes"], heap: m["go_memstats_heap_alloc_bytes"],
			connections: float64(s.open.Load()),
		}
		one.goroutines, one.files = m["go_goroutines"]-one.connections, m["process_open_fds"]-one.connections
		samples = append(samples, one)
		if s.Log != nil {
			fmt.Fprintf(s.Log, "%6.0f s: resident %6.1f MiB, heap %6.1f MiB, goroutines %4.0f, files %4.0f, connections %4.0f\n",
				one.at.Seconds(), one.resident/mebibyte, one.heap/mebibyte, one.goroutines, one.files, one.connections)
		}
	}
}

// conclude compares the second quarter with the last. The first is a warm-up.
func (s *soak) conclude(r *SoakReport, samples []sample) {
	r.Failed, r.Samples = s.failed.Load(), len(samples)
	at := func(h *hdrhistogram.Histogram, percentile float64) time.Duration {
		return time.Duration(h.ValueAtPercentile(percentile)) * time.Microsecond
	}
	all := newHistogram()
	for _, h := range s.ends {
		all.Merge(h)
	}
	r.StartP50, r.StartP99, r.EndP50, r.EndP99 = at(s.starts, 50), at(s.starts, 99), at(all, 50), at(all, 99)
	r.EarlyP99, r.LateP99 = at(s.ends[1], 99), at(s.ends[3], 99)
	r.Early, r.Late = s.mean(samples, 1), s.mean(samples, 3)
	checkGrowth := func(name string, early, late, share, most float64) {
		if late > early*(1+share)+most {
			r.Growths = append(r.Growths, fmt.Sprintf("%s, from %.0f to %.0f", name, early, late))
		}
	}
	checkGrowth("resident memory", r.Early.Resident, r.Late.Resident, growthShare, growthMemory)
	checkGrowth("heap", r.Early.Heap, r.Late.Heap, growthShare, growthMemory)
	checkGrowth("goroutines", r.Early.Goroutines, r.Late.Goroutines, growthShare, growthCount)
	checkGrowth("open files", r.Early.Files, r.Late.Files, growthShare, growthCount)
	checkGrowth("p99 of end calls in microseconds", float64(r.EarlyP99.Microseconds()), float64(r.LateP99.Microseconds()), latencyShare, float64(growthLatency.Microseconds()))
	if r.Early == (Usage{}) || r.Late == (Usage{}) {
		r.Growths = append(r.Growths, "too few samples")
	}
}

// mean returns the mean of the samples of a quarter.
func (s *soak) mean(samples []sample, quarter int) (u Usage) {
	n := 0.0
	for _, one := range samples {
		if int(one.at*4/s.Duration) == quarter {
			n++
			u.Resident, u.Heap = u.Resident+one.resident, u.Heap+one.heap
			u.Goroutines, u.Files = u.Goroutines+one.goroutines, u.Files+one.files
		}
	}
	if n > 0 {
		u = Usage{u.Resident / n, u.Heap / n, u.Goroutines / n, u.Files / n}
	}
	return u
}
