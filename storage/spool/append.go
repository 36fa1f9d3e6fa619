package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// pendingAppend is one Append that has not returned yet.
type pendingAppend struct {
	payload []byte
	at      time.Time
	done    chan struct{} // closed once err is final
	err     error
}

const (
	maxBatch  = 1 << 20      // bytes of payload that share a flush
	maxBuffer = 2 * maxBatch // bytes of the write buffer that are kept between batches
)

// Append adds a payload to the end of the spool. If it returns nil, the payload
// has been written and flushed to disk. Concurrent appends share one flush.
//
// Append returns ErrTooLarge, ErrFull with its cause, ErrClosed, the error of
// ctx, or an error of the file system. After an error the payload is not in the
// spool, with two exceptions: ctx ended while the payload was being written, or
// the disk failed so badly that the write could not be undone. Then the payload
// may be in the spool. ctx does not interrupt a write that has started.
func (s *Spool) Append(ctx context.Context, payload []byte) error {
	if len(payload) > MaxPayload {
		return fmt.Errorf("append to spool: %w: %d bytes, at most %d", ErrTooLarge, len(payload), MaxPayload)
	}
	if err := s.append(ctx, payload); err != nil {
		return fmt.Errorf("append to spool: %w", err)
	}
	return nil
}

func (s *Spool) append(ctx context.Context, payload []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// The payload is copied because a caller whose ctx ended may reuse it while it
	// is still being written.
	p := &pendingAppend{payload: bytes.Clone(payload), at: s.now().UTC(), done: make(chan struct{})}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.pending = append(s.pending, p)
	s.mu.Unlock()

	// The caller that acquires the writer token writes for all pending appends.
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		s.withdraw(p)
		return ctx.Err()
	case s.writer <- struct{}{}:
	}
	defer func() { <-s.writer }()
	for {
		select {
		case <-p.done:
			return p.err
		default:
			s.writeBatch()
		}
	}
}

// withdraw removes an append from the queue unless its write has started.
func (s *Spool) withdraw(p *pendingAppend) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = slices.DeleteFunc(s.pending, func(other *pendingAppend) bool { return other == p })
}

// dequeue removes and returns the oldest pending appends, up to limit bytes of
// payload. It returns at least one if any is pending.
func (s *Spool) dequeue(limit int) []*pendingAppend {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.pending) && (n == 0 || limit >= len(s.pending[n].payload)) {
		limit -= len(s.pending[n].payload)
		n++
	}
	batch := slices.Clone(s.pending[:n])
	s.pending = slices.Delete(s.pending, 0, n)
	return batch
}

// complete ends the appends of a batch with err.
func complete(batch []*pendingAppend, err error) {
	for _, p := range batch {
		p.err = err
		close(p.done)
	}
}

// writeBatch writes one batch of pending appends. The caller holds the writer
// token.
func (s *Spool) writeBatch() {
	batch := s.dequeue(maxBatch)
	err := s.write(batch)
	if len(batch) == 1 || !errors.Is(err, ErrFull) {
		complete(batch, err)
		return
	}
	// A smaller payload may fit where the whole batch does not.
	for _, p := range batch {
		complete([]*pendingAppend{p}, s.write([]*pendingAppend{p}))
	}
}

// write writes and flushes a batch, completely or not at all, and records the error
// for Stats. The caller holds the writer token.
func (s *Spool) write(batch []*pendingAppend) error {
	err := markFull(s.writeFrames(batch))
	s.mu.Lock()
	s.appendError = ""
	if err != nil {
		s.appendError = err.Error()
	}
	s.mu.Unlock()
	return err
}

func (s *Spool) writeFrames(batch []*pendingAppend) error {
	var length int64
	for _, p := range batch {
		length += frameHeaderSize + int64(len(p.payload))
	}
	if s.file != nil && s.active.size > headerSize && s.active.size+length > s.maxSegment {
		s.seal()
	}
	if s.file == nil {
		if err := s.create(); err != nil {
			return err
		}
	}
	seg := s.active
	frames := s.buffer[:0]
	for _, p := range batch {
		frames = appendFrame(frames, seg.marker, p.at, p.payload)
	}
	if cap(frames) <= maxBuffer {
		s.buffer = frames
	}
	if _, err := s.file.WriteAt(frames, seg.size); err != nil {
		if truncateErr := s.file.Truncate(seg.size); truncateErr != nil {
			return errors.Join(err, truncateErr, s.abandon())
		}
		return err
	}
	// After a failed flush the kernel may mark pages as clean that never reached
	// the disk, and the next flush would not report them. Nothing more is written
	// to that file. https://wiki.postgresql.org/wiki/Fsync_Errors
	if err := s.sync(s.file); err != nil {
		return errors.Join(err, s.file.Truncate(seg.size), s.abandon())
	}
	s.mu.Lock()
	if seg.records == 0 {
		seg.oldest = batch[0].at
	}
	seg.size += length
	seg.records += len(batch)
	seg.bytes += length
	s.mu.Unlock()
	s.notify()
	return nil
}

// abandon seals the active segment after a failed write, and removes its file if
// it holds no frame. If part of the failed write remains, it is at the end of the
// file, where readers expect damage. The caller holds the writer token.
func (s *Spool) abandon() error {
	seg := s.active
	s.seal()
	if seg.size > headerSize {
		return nil
	}
	return s.remove(seg)
}

// notify wakes a running Drain.
func (s *Spool) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
