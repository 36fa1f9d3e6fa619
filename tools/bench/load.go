package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// client sends its share of the requests over one keep-alive connection, each as
// soon as the previous one is answered.
type client struct {
	requests []request
	next     int
	calls    uint64 // requests sent so far, plus an offset that makes callIDs unique
}

// distribute distributes the requests over n clients.
func distribute(requests []request, n int) []*client {
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = &client{calls: uint64(i) * 1e9}
	}
	for i, r := range requests {
		c := clients[i%n]
		c.requests = append(c.requests, r)
	}
	return clients
}

// result is the measurement of one contender in one round.
type result struct {
	requests  int64
	elapsed   time.Duration
	latencies *hdrhistogram.Histogram // microseconds
	cpuTime   time.Duration           // used by the server; 0 if unknown
}

func (r result) rate() float64 { return float64(r.requests) / r.elapsed.Seconds() }

func (r result) latency(percentile float64) time.Duration {
	return time.Duration(r.latencies.ValueAtPercentile(percentile)) * time.Microsecond
}

// longestOver is how long a connection may exceed its duration before the run
// fails.
const longestOver = time.Minute

// checkEvery is the number of answers for each one whose body is checked.
const checkEvery = 64

// load makes the clients send for a duration, or send every request once if the
// duration is 0, and measures. It fails on a status other than 200 and 304, and on
// a body for which check returns an error.
func load(ctx context.Context, address string, clients []*client, duration time.Duration, check func(request, []byte) error) (result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		stopped atomic.Bool
		running sync.WaitGroup
		results = make([]result, len(clients))
	)
	start := time.Now()
	for i, c := range clients {
		running.Go(func() {
			stop := stopped.Load
			if duration == 0 {
				last := c.next + len(c.requests)
				stop = func() bool { return c.next == last || stopped.Load() }
			}
			var err error
			if results[i], err = c.run(ctx, address, duration, stop, check); err != nil {
				cancel(err)
				stopped.Store(true)
			}
		})
	}
	if duration > 0 {
		select {
		case <-time.After(duration):
		case <-ctx.Done():
		}
		stopped.Store(true)
	}
	running.Wait()
	if err := context.Cause(ctx); err != nil {
		return result{}, err
	}
	sum := result{elapsed: time.Since(start), latencies: newHistogram()}
	for _, r := range results {
		sum.requests += r.requests
		sum.latencies.Merge(r.latencies)
	}
	return sum, nil
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Hour.Microseconds(), 3)
}

// run sends requests over a new connection until stop returns true.
func (c *client) run(ctx context.Context, address string, duration time.Duration, stop func() bool, check func(request, []byte) error) (result, error) {
	r := result{latencies: newHistogram()}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return r, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(duration + longestOver)); err != nil {
		return r, err
	}
	answers := bufio.NewReader(conn)
	var body []byte
	for ; !stop(); c.next++ {
		q := c.requests[c.next%len(c.requests)]
		c.calls++
		writeDecimal(q.callID, c.calls)
		sent := time.Now()
		if _, err := conn.Write(q.wire); err != nil {
			return r, fmt.Errorf("send: %w", err)
		}
		if body, err = readAnswer(answers, body[:0]); err != nil {
			return r, fmt.Errorf("answer to %.60q: %w", q.wire, err)
		}
		if err := r.latencies.RecordValue(time.Since(sent).Microseconds()); err != nil {
			return r, err
		}
		if r.requests%checkEvery == 0 {
			if err := check(q, body); err != nil {
				return r, fmt.Errorf("answer to %.60q: %w: %.200q", q.wire, err, body)
			}
		}
		r.requests++
	}
	return r, nil
}

// writeDecimal fills digits with the decimal form of n.
func writeDecimal(digits []byte, n uint64) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = '0' + byte(n%10)
		n /= 10
	}
}

// readAnswer reads one HTTP/1.1 answer with a Content-Length and appends its body to
// dst.
func readAnswer(from *bufio.Reader, dst []byte) ([]byte, error) {
	status, err := from.ReadSlice('\n')
	if err != nil {
		return dst, err
	}
	failure, length := "", -1
	switch {
	case bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")):
	case bytes.HasPrefix(status, []byte("HTTP/1.1 304 ")):
		length = 0 // never has a body; the header is optional
	default:
		failure = string(bytes.TrimSpace(status))
	}
	for {
		line, err := from.ReadSlice('\n')
		if err != nil {
			return dst, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		const name = "Content-Length: "
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(line[len(name):])); err != nil {
				return dst, err
			}
		}
	}
	if length < 0 {
		return dst, errors.New("answer without Content-Length")
	}
	start := len(dst)
	for len(dst) < start+length {
		dst = append(dst, make([]byte, start+length-len(dst))...)
	}
	if _, err := io.ReadFull(from, dst[start:]); err != nil {
		return dst, err
	}
	if failure != "" {
		return dst, fmt.Errorf("%s: %.200q", failure, dst[start:])
	}
	return dst, nil
}
