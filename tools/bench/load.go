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

// client is one keep-alive connection's share of the requests. It sends one
// after the other, each as soon as the last is answered.
type client struct {
	requests []request
	next     int
	calls    uint64 // numbers the call ids
}

// share deals the requests out to n clients.
func share(requests []request, n int) []*client {
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

// result is what one contender did in one round.
type result struct {
	requests  int64
	took      time.Duration
	latencies *hdrhistogram.Histogram // microseconds
	processor time.Duration           // time of the server's; 0 when the system does not tell
}

func (r result) rate() float64 { return float64(r.requests) / r.took.Seconds() }

func (r result) latency(percentile float64) time.Duration {
	return time.Duration(r.latencies.ValueAtPercentile(percentile)) * time.Microsecond
}

// longestOver is how long a connection may take beyond the time that it was
// given, before the run fails.
const longestOver = time.Minute

// checkEvery is how many answers there are to one whose body is looked at.
const checkEvery = 64

// load has the clients send for a duration, or every request once when it is 0,
// and measures. A status other than 200 and 304, or a body that check refuses, ends it
// with an error.
func load(ctx context.Context, address string, clients []*client, during time.Duration, check func(request, []byte) error) (result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		over    atomic.Bool
		all     sync.WaitGroup
		results = make([]result, len(clients))
	)
	start := time.Now()
	for i, c := range clients {
		all.Go(func() {
			stop := over.Load
			if during == 0 {
				last := c.next + len(c.requests)
				stop = func() bool { return c.next == last || over.Load() }
			}
			var err error
			if results[i], err = c.run(ctx, address, during, stop, check); err != nil {
				cancel(err)
				over.Store(true)
			}
		})
	}
	if during > 0 {
		select {
		case <-time.After(during):
		case <-ctx.Done():
		}
		over.Store(true)
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return result{}, err
	}
	sum := result{took: time.Since(start), latencies: newHistogram()}
	for _, r := range results {
		sum.requests += r.requests
		sum.latencies.Merge(r.latencies)
	}
	return sum, nil
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, time.Hour.Microseconds(), 3)
}

func (c *client) run(ctx context.Context, address string, during time.Duration, stop func() bool, check func(request, []byte) error) (result, error) {
	r := result{latencies: newHistogram()}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return r, err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(during + longestOver)); err != nil {
		return r, err
	}
	answers := bufio.NewReader(conn)
	var body []byte
	for ; !stop(); c.next++ {
		q := c.requests[c.next%len(c.requests)]
		c.calls++
		number(q.callID, c.calls)
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

// number writes n in decimal over all of digits.
func number(digits []byte, n uint64) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = '0' + byte(n%10)
		n /= 10
	}
}

// readAnswer reads one answer of HTTP/1.1 that says its length, and appends its
// body to dst.
func readAnswer(from *bufio.Reader, dst []byte) ([]byte, error) {
	status, err := from.ReadSlice('\n')
	if err != nil {
		return dst, err
	}
	refused, length := "", -1
	switch {
	case bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")):
	case bytes.HasPrefix(status, []byte("HTTP/1.1 304 ")):
		length = 0 // it never has a body, and need not say so
	default:
		refused = string(bytes.TrimSpace(status))
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
		return dst, errors.New("it does not say its length")
	}
	start := len(dst)
	for len(dst) < start+length {
		dst = append(dst, make([]byte, start+length-len(dst))...)
	}
	if _, err := io.ReadFull(from, dst[start:]); err != nil {
		return dst, err
	}
	if refused != "" {
		return dst, fmt.Errorf("%s: %.200q", refused, dst[start:])
	}
	return dst, nil
}
