package sqlstore

import (
	"context"
	"fmt"
	"sync"
	"time"

	"calltracker/storage"
)

// Limits of a batch. What is over them waits for the next one.
const (
	batchReports = 256
	batchBytes   = 4 << 20 // of bodies
)

// How the next batch gathers after a commit: for as long as more comes within a
// step.
const (
	gatherStep  = 200 * time.Microsecond
	gatherSteps = 10
)

// patience is how long a batch may take before the next does not wait for it: one
// that waits for a lock must not hold up all others. Otherwise they go one after
// the other, since a large batch costs the database less than two small ones.
const patience = 100 * time.Millisecond

// drainLimit is how long close waits for reports that were accepted, before it
// gives them up.
const drainLimit = 10 * time.Second

// A committer gives reports that arrive together one transaction: a commit
// costs a wait for the disk, and one is enough for all of them. A report that
// arrives alone is committed at once, nothing waits for company; while a batch
// is being committed, the next one gathers.
//
// A commit that waits for the disk within a system call, as SQLite's does, may
// keep the processor from those who bring the next reports (the runtime takes it
// away up to 10 ms later). They have their turn after it, since otherwise each of
// them would find nobody else and be committed alone.
//
// Its goroutines live as long as there are reports, and close waits for them.
type committer struct {
	turn   chan struct{} // as in database; a batch is taken once it is its turn
	lanes  int           // batches that may be committed at the same time, if all but one are slow
	gather time.Duration // a step of it; 0 for not at all
	commit func(ctx context.Context, batch []*pending)

	mu      sync.Mutex
	queue   []*pending // in the order of arrival
	busy    int        // lanes
	batches map[*batch]bool
	closed  bool
	gaveUp  bool
	watched bool // watch will look

	running sync.WaitGroup
}

// pending is a report on its way to the disk.
type pending struct {
	report storage.ReceivedCDR
	digest digest        // of its body
	done   chan struct{} // closed when saved and err are final
	saved  storage.SaveResult
	err    error

	batch *batch // that took it; nil while it waits. Guarded by the committer.
}

// batch is reports that are being committed. When all who asked for them have
// gone, nobody waits for the database.
type batch struct {
	reports []*pending
	began   time.Time
	waiting int // guarded by the committer
	cancel  context.CancelFunc
}

func newCommitter(lanes int, turn chan struct{}, commit func(context.Context, []*pending)) *committer {
	return &committer{turn: turn, lanes: lanes, commit: commit, batches: make(map[*batch]bool, lanes)}
}

// save commits a report and tells what became of it. It returns when the context
// ends: then a report that waited was not saved, and one that was being
// committed may be.
func (c *committer) save(ctx context.Context, r storage.ReceivedCDR) (storage.SaveResult, error) {
	if err := ctx.Err(); err != nil {
		return storage.SaveResult{}, err
	}
	p := &pending{report: r, done: make(chan struct{})}
	if !c.enqueue(p) {
		return storage.SaveResult{}, fmt.Errorf("%w: closed", storage.ErrUnavailable)
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		if !c.leave(p) {
			return storage.SaveResult{}, ctx.Err()
		}
	}
	return p.saved, p.err
}

func (c *committer) enqueue(p *pending) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.queue = append(c.queue, p)
	c.begin()
	c.watchLater()
	return true
}

// begin opens a lane if there may be another and none will take the next batch
// soon. The lock is held.
func (c *committer) begin() {
	if c.busy < c.lanes && c.slow(c.busy) {
		c.busy++
		c.running.Go(c.run)
	}
}

// watchLater looks after those that wait, where there may be another lane. The
// lock is held.
func (c *committer) watchLater() {
	if !c.watched && len(c.queue) > 0 && c.busy < c.lanes {
		c.watched = true
		time.AfterFunc(patience, c.watch)
	}
}

func (c *committer) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched = false
	if len(c.queue) > 0 {
		c.begin()
	}
	c.watchLater()
}

// slow tells whether so many lanes have a batch that takes long. The lock is held.
func (c *committer) slow(lanes int) bool {
	for b := range c.batches {
		if time.Since(b.began) >= patience {
			lanes--
		}
	}
	return lanes <= 0
}

// leave withdraws a report whose sender is going, unless it is done already.
func (c *committer) leave(p *pending) (done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-p.done:
		return true
	default:
	}
	if p.batch == nil {
		for i, other := range c.queue {
			if other == p {
				c.queue = append(c.queue[:i], c.queue[i+1:]...)
				break
			}
		}
		return false
	}
	if p.batch.waiting--; p.batch.waiting == 0 {
		p.batch.cancel()
	}
	return false
}

// run commits batches until none is left.
func (c *committer) run() {
	for c.runOnce() {
		c.await()
	}
}

// await lets reports gather that are on their way. It sleeps, since nothing can
// tell of a request that has not been read yet.
func (c *committer) await() {
	if c.gather == 0 {
		return
	}
	for before, step := c.waiting(), 0; step < gatherSteps && before < batchReports; step++ {
		time.Sleep(c.gather)
		now := c.waiting()
		if now == before {
			return
		}
		before = now
	}
}

func (c *committer) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.queue)
}

func (c *committer) runOnce() bool {
	// The batch is taken when its transaction can begin: until then it grows.
	if c.turn != nil {
		c.turn <- struct{}{} // who holds it has a deadline
		defer func() { <-c.turn }()
	}
	ctx, cancel := context.WithCancel(context.Background()) // of many requests, and of none
	defer cancel()
	b := c.take(cancel)
	if b == nil {
		return false
	}
	c.commit(ctx, b.reports)
	c.mu.Lock()
	delete(c.batches, b)
	c.mu.Unlock()
	for _, p := range b.reports {
		close(p.done)
	}
	return true
}

// take is the next batch; nil, and one lane less, when nothing waits, or when
// another lane will take it.
func (c *committer) take(cancel context.CancelFunc) *batch {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 || !c.slow(c.busy-1) {
		c.busy--
		c.watchLater()
		return nil
	}
	n, bytes := 0, 0
	for n < len(c.queue) && n < batchReports && (n == 0 || bytes+len(c.queue[n].report.Raw) <= batchBytes) {
		bytes += len(c.queue[n].report.Raw)
		n++
	}
	b := &batch{reports: c.queue[:n:n], began: time.Now(), waiting: n, cancel: cancel}
	for _, p := range b.reports {
		p.batch = b
	}
	if c.queue = c.queue[n:]; len(c.queue) == 0 {
		c.queue = nil // let go of what was taken
	}
	if c.batches[b] = true; c.gaveUp {
		cancel()
	}
	return b
}

// close accepts nothing more and waits until what was accepted is committed. If
// the database does not let that happen in time, the rest is given up.
func (c *committer) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	limit := time.AfterFunc(drainLimit, c.giveUp)
	defer limit.Stop()
	c.running.Wait()
}

func (c *committer) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gaveUp = true
	for b := range c.batches {
		b.cancel()
	}
}
