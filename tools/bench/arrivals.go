package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// arrivalKind is the request of an arrival.
type arrivalKind int

const (
	startArrival  arrivalKind = iota
	endArrival                // first end call of a call
	repeatArrival             // same end call again
)

// arrival is one request of a schedule.
type arrival struct {
	at     time.Duration // since the beginning of the schedule
	call   int           // number of the call, from 0
	kind   arrivalKind
	warmUp bool // its latency is not measured
}

// callSchedule describes calls that start at a constant rate. Each has a start call and,
// endAfter later, an end call.
type callSchedule struct {
	rate   int // calls per second
	warmUp int // number of calls before those that are measured
	calls  int // number of measured calls
	repeat bool
}

// Times within a call. A third of the interval between two calls is added to each,
// so that start calls, end calls and repeated end calls never coincide.
const (
	endAfter    = 300 * time.Millisecond // since the start call
	repeatAfter = 100 * time.Millisecond // since the end call
)

// arrivals returns the requests in the order in which they are due.
func (s callSchedule) arrivals() []arrival {
	interval := time.Second / time.Duration(s.rate)
	end := endAfter.Truncate(interval) + interval/3
	repeated := end + repeatAfter.Truncate(interval) + interval/3
	var out []arrival
	for call := range s.warmUp + s.calls {
		at := time.Duration(call) * time.Second / time.Duration(s.rate)
		warmUp := call < s.warmUp
		out = append(out, arrival{at, call, startArrival, warmUp}, arrival{at + end, call, endArrival, warmUp})
		if s.repeat {
			out = append(out, arrival{at + repeated, call, repeatArrival, warmUp})
		}
	}
	slices.SortFunc(out, func(a, b arrival) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.call, b.call), cmp.Compare(a.kind, b.kind))
	})
	return out
}

// lateAfter is the delay above which a request counts as late. The generator causes
// this delay, not the server.
const lateAfter = 5 * time.Millisecond

// tally has the results of a schedule. Its methods are safe for concurrent use.
type tally struct {
	mu      sync.Mutex
	starts  *hdrhistogram.Histogram // latencies since the scheduled instant, in microseconds
	ends    *hdrhistogram.Histogram // the same, with repeated end calls
	delays  *hdrhistogram.Histogram // from the scheduled instant to the time the generator begins to send
	late    int64                   // measured requests that began later than lateAfter
	failed  int64                   // requests without a confirming answer, with those of the warm-up
	failure error                   // first failure
}

func newTally() *tally {
	return &tally{starts: newHistogram(), ends: newHistogram(), delays: newHistogram()}
}

// add adds one request: the times at which it was due, at which the generator began
// to send it and at which it was answered or failed.
func (t *tally) add(a arrival, due, began, done time.Time, failure error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if failure != nil {
		t.failed++
		if t.failure == nil {
			t.failure = failure
		}
	}
	if a.warmUp {
		return
	}
	latencies := t.ends
	if a.kind == startArrival {
		latencies = t.starts
	}
	delay := began.Sub(due)
	if delay > lateAfter {
		t.late++
	}
	// Values are below an hour, the limit of the histograms, because answers time out.
	_ = t.delays.RecordValue(delay.Microseconds())
	_ = latencies.RecordValue(done.Sub(due).Microseconds())
}

// requests returns the number of measured requests.
func (t *tally) requests() int64 { return t.delays.TotalCount() }

// percentile returns a percentile of a histogram of microseconds.
func percentile(h *hdrhistogram.Histogram, p float64) time.Duration {
	return time.Duration(h.ValueAtPercentile(p)) * time.Microsecond
}

// Limits of connections.
const (
	answerTimeout = time.Minute
	reuseLimit    = 5 * time.Second // less than the idle timeout of the servers
)

// clientConn is a keep-alive connection with its buffers.
type clientConn struct {
	net.Conn
	answers    *bufio.Reader
	wire, body []byte
	used       time.Time
}

// sender sends requests over keep-alive connections. It opens another whenever all
// are in use, so that no request waits for the answer to another.
type sender struct {
	address string

	mu   sync.Mutex
	idle []*clientConn // most recently used last
}

// run sends the requests of a schedule at their instants, whether or not earlier ones
// were answered, and waits for all answers. write appends a request to a buffer.
func (s *sender) run(ctx context.Context, arrivals []arrival, write func(dst []byte, a arrival) []byte) (*tally, error) {
	t := newTally()
	var all sync.WaitGroup
	begin := time.Now()
	for _, a := range arrivals {
		due := begin.Add(a.at)
		sleepUntil(due)
		if ctx.Err() != nil {
			break
		}
		all.Go(func() {
			began := time.Now()
			err := s.send(ctx, a, write)
			t.add(a, due, began, time.Now(), err)
		})
	}
	all.Wait()
	s.closeIdle()
	return t, ctx.Err()
}

// send sends a request and checks the answer.
func (s *sender) send(ctx context.Context, a arrival, write func(dst []byte, a arrival) []byte) error {
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	c.wire = write(c.wire[:0], a)
	if err = c.exchange(); err != nil {
		_ = c.Close()
		return fmt.Errorf("%.60q: %w", c.wire, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.used = time.Now()
	s.idle = append(s.idle, c)
	return nil
}

// exchange sends the request in wire and reads the answer.
func (c *clientConn) exchange() (err error) {
	if err := c.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(c.wire); err != nil {
		return err
	}
	if c.body, err = readAnswer(c.answers, c.body[:0]); err != nil {
		return err
	}
	if !bytes.HasPrefix(c.body, []byte(`{"result":true,`)) {
		return errors.New("answer does not confirm the request")
	}
	return nil
}

// connect returns an idle connection or opens one.
func (s *sender) connect(ctx context.Context) (*clientConn, error) {
	s.mu.Lock()
	if n := len(s.idle); n > 0 && time.Since(s.idle[n-1].used) < reuseLimit {
		c := s.idle[n-1]
		s.idle = s.idle[:n-1]
		s.mu.Unlock()
		return c, nil
	}
	s.mu.Unlock()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", s.address)
	if err != nil {
		return nil, err
	}
	return &clientConn{Conn: conn, answers: bufio.NewReader(conn)}, nil
}

// closeIdle closes the idle connections.
func (s *sender) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.idle {
		_ = c.Close()
	}
	s.idle = nil
}
