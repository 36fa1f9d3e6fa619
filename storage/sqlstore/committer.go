package sqlstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"calltracker/storage"
)

// Limits of a batch. Requests beyond them wait for the next batch.
const (
	maxBatchRequests = 256
	maxBatchBytes    = 4 << 20 // total size of the CDR bodies
)

// After a commit, the committer waits for more requests in steps, as long as each
// step brings some.
const (
	gatherStep  = 200 * time.Microsecond
	gatherSteps = 10
)

// drainTimeout is how long close waits for accepted requests.
const drainTimeout = 10 * time.Second

// committer commits CDRs in batches (group commit). A commit waits for the disk,
// and requests that arrive together share that wait. A request that arrives alone
// is committed immediately. Requests that arrive during a commit form the next
// batch.
//
// There is one commit at a time. One large batch costs the database less than
// several small ones, and a slow commit makes the next batch larger. If a commit
// hangs, each request leaves at its own deadline, so that its caller can spool the
// CDR in time. When the last request of the hanging batch has left, the batch is
// canceled and the next one starts.
//
// SQLite waits for the disk in a system call, during which the goroutines that
// bring the next requests may not get a processor (the Go runtime takes it back
// after up to 10 ms). The committer therefore lets them run before it takes the
// next batch; otherwise each would be committed alone.
//
// The committer's goroutine runs only while there are requests. close waits for it.
type committer struct {
	writeLock chan struct{} // database.writeLock; acquired before a batch is taken
	gather    time.Duration // gatherStep, or 0 to not wait for more requests
	commit    func(ctx context.Context, batch []*saveRequest)

	mu      sync.Mutex
	queue   []*saveRequest // in the order of arrival
	current *batch         // being committed; nil between commits
	running bool           // the goroutine is running
	closed  bool
	gaveUp  bool // close has timed out

	goroutine sync.WaitGroup
}

// saveRequest is one CDR that waits to be committed.
type saveRequest struct {
	cdr    storage.ReceivedCDR
	digest digest        // of the CDR body
	done   chan struct{} // closed when result and err are final
	result storage.SaveResult
	err    error

	batch *batch // nil while the request is queued; guarded by committer.mu
}

// batch is a set of requests that are committed together.
type batch struct {
	requests []*saveRequest
	waiting  int                // requests whose caller is still waiting; guarded by committer.mu
	cancel   context.CancelFunc // called when no caller is waiting
}

func newCommitter(writeLock chan struct{}, commit func(context.Context, []*saveRequest)) *committer {
	return &committer{writeLock: writeLock, commit: commit}
}

// save commits a CDR and returns the result. It returns early when ctx ends. Then
// a CDR that was still queued is not saved, and one that was being committed may
// be saved.
func (c *committer) save(ctx context.Context, cdr storage.ReceivedCDR) (storage.SaveResult, error) {
	if err := ctx.Err(); err != nil {
		return storage.SaveResult{}, err
	}
	r := &saveRequest{cdr: cdr, done: make(chan struct{})}
	if !c.enqueue(r) {
		return storage.SaveResult{}, fmt.Errorf("%w: closed", storage.ErrUnavailable)
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if !c.withdraw(r) {
			return storage.SaveResult{}, ctx.Err()
		}
	}
	return r.result, r.err
}

// enqueue queues a request and starts the goroutine if necessary. It reports
// whether the committer is open.
func (c *committer) enqueue(r *saveRequest) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.queue = append(c.queue, r)
	if !c.running {
		c.running = true
		c.goroutine.Go(c.run)
	}
	return true
}

// withdraw removes a request whose caller stops waiting. It reports whether the
// request is already done.
func (c *committer) withdraw(r *saveRequest) (done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-r.done:
		return true
	default:
	}
	if r.batch == nil {
		for i, queued := range c.queue {
			if queued == r {
				c.queue = append(c.queue[:i], c.queue[i+1:]...)
				break
			}
		}
		return false
	}
	if r.batch.waiting--; r.batch.waiting == 0 {
		r.batch.cancel()
	}
	return false
}

// run commits batches until the queue is empty.
func (c *committer) run() {
	for c.commitNext() {
		c.waitForMore()
	}
}

// waitForMore waits while the queue grows. It sleeps because there is no event to
// wait for: the requests have not been read from their connections yet.
func (c *committer) waitForMore() {
	if c.gather == 0 {
		return
	}
	for before, step := c.queued(), 0; step < gatherSteps && before < maxBatchRequests; step++ {
		time.Sleep(c.gather)
		now := c.queued()
		if now == before {
			return
		}
		before = now
	}
}

func (c *committer) queued() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

// commitNext commits the next batch. It reports whether there was one.
func (c *committer) commitNext() bool {
	// The lock comes first: while the committer waits for it, the batch grows.
	if c.writeLock != nil {
		c.writeLock <- struct{}{} // every holder has a deadline
		defer func() { <-c.writeLock }()
	}
	ctx, cancel := context.WithCancel(context.Background()) // shared by many requests
	defer cancel()
	b := c.takeBatch(cancel)
	if b == nil {
		return false
	}
	c.commit(ctx, b.requests)
	c.mu.Lock()
	c.current = nil
	c.mu.Unlock()
	for _, r := range b.requests {
		close(r.done)
	}
	return true
}

// takeBatch takes the next batch from the queue. It returns nil, and the goroutine
// must end, if the queue is empty.
func (c *committer) takeBatch(cancel context.CancelFunc) *batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		c.running = false
		return nil
	}
	n, size := 0, 0
	for n < len(c.queue) && n < maxBatchRequests && (n == 0 || size+len(c.queue[n].cdr.Raw) <= maxBatchBytes) {
		size += len(c.queue[n].cdr.Raw)
		n++
	}
	b := &batch{requests: c.queue[:n:n], waiting: n, cancel: cancel}
	for _, r := range b.requests {
		r.batch = b
	}
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil // release the backing array
	}
	if c.current = b; c.gaveUp {
		cancel()
	}
	return b
}

// close rejects new requests and waits until the accepted ones are committed. It
// cancels them if that takes longer than drainTimeout.
func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	timer := time.AfterFunc(drainTimeout, c.giveUp)
	defer timer.Stop()
	c.goroutine.Wait()
}

func (c *committer) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gaveUp = true
	if c.current != nil {
		c.current.cancel()
	}
}
