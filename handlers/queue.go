package handlers

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// Queue takes records from requests that must not wait and writes them in
// batches in the background. When it is full, or when what it writes to fails,
// records are dropped and counted: the request is never held up. Make it with
// NewQueue; it is safe for concurrent use.
type Queue[T any] struct {
	name    string
	items   chan T
	write   func(context.Context, []T) error
	logger  *slog.Logger
	dropped atomic.Int64
	written atomic.Int64
	waiting atomic.Int64 // taken from items, not yet written
	failing bool         // the last write failed; of Run alone
}

// Sizes of a batch and the pace of writing. A record costs more to write than the
// request that made it, and requests wait while one is written. So batches are
// small, and in a flood of requests long pauses bound the share of the machine
// that records take from them. Otherwise all are written as they come, and pauses
// only gather a few.
const (
	batchSize           = 16
	overloadRate        = 1000 // records a second
	overloadPauseFactor = 30   // pauses in a flood are so many times as long as the writing before them
	backlogPauseFactor  = 4    // and those after it, until everything is written
	minPause            = 10 * time.Millisecond
	maxPause            = 500 * time.Millisecond
	drainBatchSize      = 500 // when nothing else is left to do
	writeTimeout        = 2 * time.Second
	drainTimeout        = 3 * time.Second
)

// NewQueue makes a queue of at most size records. Nothing is written until Run.
func NewQueue[T any](name string, size int, logger *slog.Logger, write func(context.Context, []T) error) *Queue[T] {
	return &Queue[T]{name: name, items: make(chan T, size), write: write, logger: logger}
}

// Offer hands over a record; it never waits.
func (q *Queue[T]) Add(item T) {
	select {
	case q.items <- item:
	default:
		q.dropped.Add(1)
	}
}

// Depth is how many records are not yet written.
func (q *Queue[T]) Depth() int { return len(q.items) + int(q.waiting.Load()) }

// Dropped is how many records were lost since the start.
func (q *Queue[T]) Dropped() int64 { return q.dropped.Load() }

// Written is how many records were written since the start.
func (q *Queue[T]) Written() int64 { return q.written.Load() }

// Run writes until ctx ends, and then what is left, for 5 seconds at most. It
// returns nil.
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

// pace tells how fast records come. The zero value is that of a quiet start.
type writePacer struct {
	at    time.Time
	added int64 // until then
}

// pause is how long to wait after writing from start until now, when so many
// records were offered since the beginning, of which some wait.
func (p *writePacer) delay(start, now time.Time, added int64, waiting int) time.Duration {
	newRecords, elapsed := added-p.added, now.Sub(p.at)
	p.at, p.added = now, added
	took := now.Sub(start)
	switch {
	case float64(newRecords) > overloadRate*elapsed.Seconds():
		return min(max(overloadPauseFactor*took, minPause), maxPause)
	case waiting >= batchSize: // the rest of a flood, or what one pause has gathered
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

// collect adds what has arrived, up to size records.
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
	if failing := err != nil; failing != q.failing { // an outage is one message, not one a batch
		q.failing = failing
		if failing {
			q.logger.LogAttrs(ctx, slog.LevelError, "records are dropped", slog.String("queue", q.name), slog.Any("error", err))
		} else {
			q.logger.LogAttrs(ctx, slog.LevelInfo, "records are written again",
				slog.String("queue", q.name), slog.Int64("dropped_since_start", q.Dropped()))
		}
	}
}
