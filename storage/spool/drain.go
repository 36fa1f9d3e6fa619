package spool

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

// Limits of draining.
const (
	maxDrainRecords = 64      // records of one batch
	maxDrainBytes   = 1 << 20 // bytes of payload at which a batch is full
	firstPause      = 50 * time.Millisecond
	maxPause        = 5 * time.Second
	idleTimeout     = time.Second // time without appends after which a drained segment is sealed
	maxReadFailures = 5           // failed reads of an open file, after which the whole file goes to quarantine
)

// Drain passes the spooled payloads to save, oldest first, up to 64 or 1 MiB of
// them at a time, and waits for more. It returns nil when ctx ends or the spool
// is closed. It returns ErrDraining if another Drain is running, and ErrClosed
// after Close.
//
// A payload is removed once save has returned nil. If save fails for several
// payloads, Drain passes them again one by one. If save fails for one payload
// with ErrRejected, that payload goes to quarantine. After any other error Drain
// passes the same payload again after a pause that grows up to 5 s, and the
// payloads behind it wait. save must limit its own duration and recognize a
// repeated payload; it may retain the payloads.
func (s *Spool) Drain(ctx context.Context, save func(ctx context.Context, payloads [][]byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return ErrClosed
	case s.stopDrain != nil:
		s.mu.Unlock()
		return ErrDraining
	}
	stopped := make(chan struct{})
	s.stopDrain, s.drainStopped = cancel, stopped
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.stopDrain = nil
		s.mu.Unlock()
		close(stopped)
	}()

	d := drainer{Spool: s, save: save}
	for ctx.Err() == nil {
		if seg := s.first(); seg != nil {
			d.drain(ctx, seg)
			continue
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
		}
	}
	return nil
}

// first returns the oldest segment, or nil if there is none.
func (s *Spool) first() *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segments) == 0 {
		return nil
	}
	return s.segments[0]
}

// drainer is one running Drain.
type drainer struct {
	*Spool
	save     func(context.Context, [][]byte) error
	failures int // failures in a row; they determine the pause
}

// drain reads one segment from seg.offset. It returns when the segment is
// drained, when ctx ends, or after a pause if the file cannot be read. The caller
// calls it again.
func (d *drainer) drain(ctx context.Context, seg *segment) {
	file, err := os.Open(d.path(seg))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.logger.LogAttrs(ctx, slog.LevelError, "spool file missing", slog.String("file", seg.name))
		d.sealAndRemove(ctx, seg)
		return
	case err != nil:
		d.pause(ctx, err)
		return
	}
	defer file.Close()
	r, err := d.reader(seg, file)
	for ctx.Err() == nil {
		if err != nil {
			d.readFailed(ctx, seg, err)
			return
		}
		var frames []chunk
		var gap chunk
		frames, gap, err = r.batch()
		d.deliver(ctx, seg, frames)
		if ctx.Err() != nil {
			return
		}
		if gap.gap {
			d.quarantineGap(ctx, seg, gap, file)
			d.advance(ctx, seg, []chunk{gap})
		}
		if errors.Is(err, io.EOF) {
			err = nil
			if !d.waitForMore(ctx, seg, r) {
				return
			}
		}
	}
}

// reader returns a reader of the segment that starts at seg.offset.
func (d *drainer) reader(seg *segment, file *os.File) (*reader, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	if seg.size == unknownSize {
		seg.size = info.Size()
	}
	r := &reader{src: file, marker: seg.marker, offset: seg.offset, end: seg.size}
	d.mu.Unlock()
	if r.offset == 0 {
		err = r.readHeader()
	}
	return r, err
}

// batch reads frames until the batch is full, an error occurs, or a gap follows.
// It returns the gap too.
func (r *reader) batch() (frames []chunk, gap chunk, err error) {
	size := 0
	for len(frames) < maxDrainRecords && size < maxDrainBytes {
		c, err := r.next()
		if err != nil || c.gap {
			return frames, c, err
		}
		c.payload = bytes.Clone(c.payload)
		frames = append(frames, c)
		size += len(c.payload)
	}
	return frames, chunk{}, nil
}

// deliver returns when each frame is saved or in quarantine, or when ctx ends.
func (d *drainer) deliver(ctx context.Context, seg *segment, frames []chunk) {
	if len(frames) == 0 {
		return
	}
	d.mu.Lock()
	seg.oldest = frames[0].at
	d.mu.Unlock()
	if len(frames) > 1 && d.savePayloads(ctx, frames) == nil {
		d.countSaved(ctx, seg, frames)
		return
	}
	for len(frames) > 0 && ctx.Err() == nil {
		err := d.savePayloads(ctx, frames[:1])
		switch {
		case err == nil:
			d.countSaved(ctx, seg, frames[:1])
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrRejected):
			d.quarantineFrame(ctx, seg, frames[0], err)
			d.advance(ctx, seg, frames[:1])
		default:
			d.pause(ctx, err)
			continue
		}
		frames = frames[1:]
	}
}

func (d *drainer) savePayloads(ctx context.Context, frames []chunk) error {
	payloads := make([][]byte, len(frames))
	for i, f := range frames {
		payloads[i] = f.payload
	}
	return d.save(ctx, payloads)
}

// countSaved counts frames as drained and advances past them.
func (d *drainer) countSaved(ctx context.Context, seg *segment, frames []chunk) {
	d.mu.Lock()
	d.drained += int64(len(frames))
	d.mu.Unlock()
	d.advance(ctx, seg, frames)
}

// advance moves the segment's offset past chunks that are saved or in quarantine,
// and ends a series of failures.
func (d *drainer) advance(ctx context.Context, seg *segment, chunks []chunk) {
	d.mu.Lock()
	for _, c := range chunks {
		if !c.gap { // counts stop at 0: count misses frames of a file that it cannot read
			seg.records = max(0, seg.records-1)
			seg.bytes = max(0, seg.bytes-(c.to-c.from))
		}
		seg.offset = c.to
	}
	d.drainError = ""
	d.mu.Unlock()
	if d.failures > 0 {
		d.failures = 0
		d.logger.LogAttrs(ctx, slog.LevelInfo, "spool draining resumed")
	}
}

// pause waits after a failure, longer after each one in a row. It logs only the
// first failure of an outage.
func (d *drainer) pause(ctx context.Context, err error) {
	d.mu.Lock()
	d.drainError = err.Error()
	d.mu.Unlock()
	d.failures++
	if d.failures == 1 {
		d.logger.LogAttrs(ctx, slog.LevelWarn, "spool draining failed; retrying", slog.Any("error", err))
	}
	timer := time.NewTimer(pauseAfter(d.failures))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pauseAfter returns a random pause between half and all of a duration that
// doubles with each failure, so that replicas that lost the same database do not
// all retry at the same instant.
func pauseAfter(failures int) time.Duration {
	const maxDoublings = 10 // enough to reach maxPause
	longest := min(maxPause, firstPause<<min(failures-1, maxDoublings))
	var random [8]byte
	rand.Read(random[:])
	return longest/2 + time.Duration(binary.LittleEndian.Uint64(random[:])%uint64(longest/2+1))
}

// waitForMore reports whether to continue reading a segment that was read to its
// end. It returns true immediately if the segment has grown, and waits for frames if
// the segment is active. A segment that cannot grow is removed.
func (d *drainer) waitForMore(ctx context.Context, seg *segment, r *reader) bool {
	d.mu.Lock()
	size, active := seg.size, seg == d.active
	d.mu.Unlock()
	switch {
	case r.end < size:
		r.end = size
		return true
	case !active:
		d.sealAndRemove(ctx, seg)
		return false
	}
	timer := time.NewTimer(idleTimeout)
	defer timer.Stop()
	select {
	case <-d.wake:
	case <-timer.C:
		d.sealIfDrained(ctx, seg)
	case <-ctx.Done():
	}
	return true
}

// sealIfDrained seals the segment unless it has grown.
func (d *drainer) sealIfDrained(ctx context.Context, seg *segment) {
	select {
	case d.writer <- struct{}{}:
	case <-ctx.Done():
		return
	}
	defer func() { <-d.writer }()
	if seg == d.active && seg.offset == seg.size {
		d.seal()
	}
}

// readFailed moves a segment that cannot be read to quarantine: immediately if its
// version is unknown, otherwise after maxReadFailures.
func (d *drainer) readFailed(ctx context.Context, seg *segment, err error) {
	d.mu.Lock()
	seg.readFailures++
	giveUp := seg.readFailures >= maxReadFailures || errors.Is(err, errVersion)
	seg.keepWhole = seg.keepWhole || giveUp
	d.mu.Unlock()
	if !giveUp {
		d.pause(ctx, err)
		return
	}
	d.logger.LogAttrs(ctx, slog.LevelError, "spool file unreadable; moving it to quarantine", slog.String("file", seg.name), slog.Any("error", err))
	d.sealAndRemove(ctx, seg)
}

// sealAndRemove seals the segment if it is active, so that it cannot grow, and
// removes it.
func (d *drainer) sealAndRemove(ctx context.Context, seg *segment) {
	select {
	case d.writer <- struct{}{}:
	case <-ctx.Done():
		return
	}
	if seg == d.active {
		d.seal()
	}
	<-d.writer
	if err := d.remove(seg); err != nil {
		d.logger.LogAttrs(ctx, slog.LevelError, "drained spool file not removed", slog.String("file", seg.name), slog.Any("error", err))
	}
}
