package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// entry is one Append on its way.
type entry struct {
	payload []byte
	at      time.Time
	done    chan struct{} // closed once err is final
	err     error
}

const (
	maxBatch   = 1 << 20 // bytes of payload that share a flush
	keptBuffer = 2 * maxBatch
)

// Append puts a payload at the end of the spool. When it returns nil, the
// payload is on the disk, flushed. Appends that come together share one flush.
//
// The error is ErrTooLarge, ErrFull with its cause, ErrClosed, that of ctx, or
// one of the file system. After an error the payload is not in the spool, unless
// ctx ended while it was being written, or the disk failed so badly that it could
// not be taken back: then it may be. A write under way is not broken off by ctx.
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
	// A copy, since who gives up may reuse the payload while it is written.
	e := &entry{payload: bytes.Clone(payload), at: s.now().UTC(), done: make(chan struct{})}
	s.mutex.Lock()
	if s.closed {
		s.mutex.Unlock()
		return ErrClosed
	}
	s.pending = append(s.pending, e)
	s.mutex.Unlock()

	// Whoever gets the token writes for all that wait.
	select {
	case <-e.done:
		return e.err
	case <-ctx.Done():
		s.withdraw(e)
		return ctx.Err()
	case s.writer <- struct{}{}:
	}
	defer func() { <-s.writer }()
	for {
		select {
		case <-e.done:
			return e.err
		default:
			s.commit()
		}
	}
}

func (s *Spool) withdraw(e *entry) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.pending = slices.DeleteFunc(s.pending, func(other *entry) bool { return other == e })
}

// take removes the first entries that wait: at least one if there is any, and
// no more than have so many bytes together.
func (s *Spool) take(limit int) []*entry {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	n := 0
	for n < len(s.pending) && (n == 0 || limit >= len(s.pending[n].payload)) {
		limit -= len(s.pending[n].payload)
		n++
	}
	taken := slices.Clone(s.pending[:n])
	s.pending = slices.Delete(s.pending, 0, n)
	return taken
}

// settle tells the entries what became of them.
func settle(entries []*entry, err error) {
	for _, e := range entries {
		e.err = err
		close(e.done)
	}
}

// commit writes one batch of what waits; of the writer alone.
func (s *Spool) commit() {
	batch := s.take(maxBatch)
	err := s.write(batch)
	if len(batch) == 1 || !errors.Is(err, ErrFull) {
		settle(batch, err)
		return
	}
	// Some may find the room that all together do not.
	for _, e := range batch {
		settle([]*entry{e}, s.write([]*entry{e}))
	}
}

// write brings entries to the disk, all or none; of the writer alone.
func (s *Spool) write(entries []*entry) error {
	err := full(s.writeFrames(entries))
	s.mutex.Lock()
	s.appendError = ""
	if err != nil {
		s.appendError = err.Error()
	}
	s.mutex.Unlock()
	return err
}

func (s *Spool) writeFrames(entries []*entry) error {
	var length int64
	for _, e := range entries {
		length += frameHead + int64(len(e.payload))
	}
	if s.file != nil && s.active.size > headSize && s.active.size+length > s.maxSegment {
		s.seal()
	}
	if s.file == nil {
		if err := s.create(); err != nil {
			return err
		}
	}
	seg := s.active
	frames := s.buffer[:0]
	for _, e := range entries {
		frames = appendFrame(frames, seg.marker, e.at, e.payload)
	}
	if cap(frames) <= keptBuffer {
		s.buffer = frames
	}
	if _, err := s.file.WriteAt(frames, seg.size); err != nil {
		if cut := s.file.Truncate(seg.size); cut != nil {
			return errors.Join(err, cut, s.abandon())
		}
		return err
	}
	// After a failed flush the kernel may hold for clean what never reached the
	// disk, and the next flush would not tell: nothing more is written to that
	// file. https://wiki.postgresql.org/wiki/Fsync_Errors
	if err := s.sync(s.file); err != nil {
		return errors.Join(err, s.file.Truncate(seg.size), s.abandon())
	}
	s.mutex.Lock()
	if seg.frames == 0 {
		seg.oldest = entries[0].at
	}
	seg.size += length
	seg.frames += len(entries)
	seg.bytes += length
	s.mutex.Unlock()
	s.notify()
	return nil
}

// abandon seals the active segment after a failure, and does not leave an empty
// one behind; of the writer alone. Should a part of what was written stay, it is
// at the end, where readers expect it.
func (s *Spool) abandon() error {
	seg := s.active
	s.seal()
	if seg.size > headSize {
		return nil
	}
	return s.finish(seg)
}

// notify wakes who drains.
func (s *Spool) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
