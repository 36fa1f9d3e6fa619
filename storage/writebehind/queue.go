// Package writebehind writes records in batches in the background, for requests that must
// not wait for the database. Its records are lost if the process crashes.
package writebehind

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Queue collects records from requests that must not wait, and writes them in
// batches in the background. If the queue is full or a write fails, records are
// dropped and counted; requests never block. Create a Queue with New and start it with
// Run. It is safe for concurrent use.
type Queue[T any] struct {
	name    string
	items   chan T
	write   func(context.Context, []T) error
	logger  *slog.Logger
	dropped atomic.Int64
	written atomic.Int64
	waiting atomic.Int64 // records taken from items and not yet written
	failing bool         // whether the last write failed; used only by Run
}

// Batch sizes and write pacing. Writing a record costs more than the request that
// produced it, and requests wait during a write. Batches are therefore small.
// Under overload, long pauses limit the share of the machine that writing uses.
// Otherwise records are written promptly, and a short pause collects a few.
const (
	batchSize           = 16
	overloadRate        = 1000 // records per second
	overloadPauseFactor = 30   // pause under overload, as a multiple of the last write
	backlogPauseFactor  = 4    // pause while a backlog remains after an overload, as a multiple of the last write
	minPause            = 10 * time.Millisecond
	maxPause            = 500 * time.Millisecond
	drainBatchSize      = 500 // while shutting down
	writeTimeout        = 2 * time.Second
	drainTimeout        = 3 * time.Second
)

// New returns a queue that holds at most size records. Run passes them to write, which
// must not keep the batch.
func New[T any](name string, size int, logger *slog.Logger, write func(context.Context, []T) error) *Queue[T] {
	if logger == nil || write == nil {
		panic("writebehind.New: logger and write are required")
	}
	return &Queue[T]{name: name, items: make(chan T, size), write: write, logger: logger}
}

// Add queues a record, or drops it if the queue is full. It never blocks.
func (q *Queue[T]) Add(item T) {
	select {
	case q.items <- item:
	default:
		q.dropped.Add(1)
	}
}

// Depth returns the number of records that are not yet written.
func (q *Queue[T]) Depth() int { return len(q.items) + int(q.waiting.Load()) }

// Dropped returns the number of records lost since New.
func (q *Queue[T]) Dropped() int64 { return q.dropped.Load() }

// Written returns the number of records written since New.
func (q *Queue[T]) Written() int64 { return q.written.Load() }

// Run writes records until ctx ends, and then drains the queue for up to 5
// seconds. It returns nil.
func (q *Queue[T]) Run(ctx context.Context) error {
	batch := make([]T, 0, drainBatchSize)
	pause := time.NewTimer(minPause)
	defer pause.Stop()
	var pacer writePacer
	for {
		select {
		case <-ctx.Done():
			q.drain(batch)
			return nil
		case item := <-q.items:
			start := time.Now()
			batch = q.collect(append(batch[:0], item), batchSize)
			q.flush(context.WithoutCancel(ctx), batch)
			clear(batch)
			waiting := len(q.items)
			added := q.Written() + q.Dropped() + int64(waiting)
			pause.Reset(pacer.delay(start, time.Now(), added, waiting))
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
		}
	}
}

// writePacer measures the rate of new records. The zero value is ready to use.
type writePacer struct {
	at    time.Time
	added int64 // records added until then
}

// delay returns how long to pause after a write that took from start until now.
// added is the number of records added since New, of which waiting are
// still queued.
func (p *writePacer) delay(start, now time.Time, added int64, waiting int) time.Duration {
	newRecords, elapsed := added-p.added, now.Sub(p.at)
	p.at, p.added = now, added
	took := now.Sub(start)
	switch {
	case float64(newRecords) > overloadRate*elapsed.Seconds():
		return min(max(overloadPauseFactor*took, minPause), maxPause)
	case waiting >= batchSize: // the backlog of an overload, or the records of one pause
		return backlogPauseFactor * took
	default:
		return minPause
	}
}

func (q *Queue[T]) drain(batch []T) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	for ctx.Err() == nil {
		if batch = q.collect(batch[:0], drainBatchSize); len(batch) == 0 {
			return
		}
		q.flush(ctx, batch)
	}
}

// collect appends queued records to batch until it has size records.
func (q *Queue[T]) collect(batch []T, size int) []T {
	for len(batch) < size {
		select {
		case item := <-q.items:
			batch = append(batch, item)
		default:
			return batch
		}
	}
	return batch
}

func (q *Queue[T]) flush(ctx context.Context, batch []T) {
	q.waiting.Store(int64(len(batch)))
	defer q.waiting.Store(0)
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	err := q.write(ctx, batch)
	if err != nil {
		q.dropped.Add(int64(len(batch)))
	} else {
		q.written.Add(int64(len(batch)))
	}
	if failing := err != nil; failing != q.failing { // log an outage once, not once per batch
		q.failing = failing
		if failing {
			q.logger.LogAttrs(ctx, slog.LevelError, "record writes failing; records dropped", slog.String("queue", q.name), slog.Any("error", err))
		} else {
			q.logger.LogAttrs(ctx, slog.LevelInfo, "record writes resumed",
				slog.String("queue", q.name), slog.Int64("dropped_since_start", q.Dropped()))
		}
	}
}
