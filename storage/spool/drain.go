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

// Sizes and times of draining.
const (
	drainFrames  = 64      // at most, handed over together
	drainBytes   = 1 << 20 // of payload, after which no other is added
	firstPause   = 50 * time.Millisecond
	longestPause = 5 * time.Second
	idle         = time.Second // after which a drained segment is not kept for more frames
	readTries    = 5           // of a file that can be opened
)

// Drain hands the spooled payloads to keep, oldest first, up to 64 or 1 MiB of
// them at a time, until ctx ends or the spool is closed; then it returns nil. It
// waits for more when there are none. A second Drain at the same time gets
// ErrDraining, one after Close ErrClosed.
//
// A payload is gone once keep has returned nil. When keep fails for several,
// they are handed over again one by one. When it fails for one, that one comes
// again after a pause that grows up to 5 s, and the others wait, unless the error
// is ErrReject: then its payload goes to quarantine. keep should bound its own
// time, must know a repeat, and may hold on to the payloads.
func (s *Spool) Drain(ctx context.Context, keep func(ctx context.Context, payloads [][]byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mutex.Lock()
	switch {
	case s.closed:
		s.mutex.Unlock()
		return ErrClosed
	case s.stopDrain != nil:
		s.mutex.Unlock()
		return ErrDraining
	}
	ended := make(chan struct{})
	s.stopDrain, s.drainEnded = cancel, ended
	s.mutex.Unlock()
	defer func() {
		s.mutex.Lock()
		s.stopDrain = nil
		s.mutex.Unlock()
		close(ended)
	}()

	d := drainer{Spool: s, keep: keep}
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

func (s *Spool) first() *segment {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(s.segments) == 0 {
		return nil
	}
	return s.segments[0]
}

// drainer is one running Drain.
type drainer struct {
	*Spool
	keep     func(context.Context, [][]byte) error
	failures int // in a row, decide the pause
}

// drain goes through one segment from where it was left. It returns when the
// segment is finished, when ctx has ended, or after a pause when the file cannot
// be read; the caller comes again.
func (d *drainer) drain(ctx context.Context, seg *segment) {
	file, err := os.Open(d.path(seg))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.logger.LogAttrs(ctx, slog.LevelError, "a file of the spool is gone", slog.String("file", seg.name))
		d.end(ctx, seg)
		return
	case err != nil:
		d.pause(ctx, err)
		return
	}
	defer file.Close()
	r, err := d.reader(seg, file)
	for ctx.Err() == nil {
		if err != nil {
			d.unreadable(ctx, seg, err)
			return
		}
		var frames []piece
		var gap piece
		frames, gap, err = r.batch()
		d.deliver(ctx, seg, frames)
		if ctx.Err() != nil {
			return
		}
		if gap.gap {
			d.quarantineGap(ctx, seg, gap, file)
			d.passed(ctx, seg, []piece{gap})
		}
		if errors.Is(err, io.EOF) {
			err = nil
			if !d.more(ctx, seg, r) {
				return
			}
		}
	}
}

// reader stands where the segment was left.
func (d *drainer) reader(seg *segment, file *os.File) (*reader, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	d.mutex.Lock()
	if seg.size == unknown {
		seg.size = info.Size()
	}
	r := &reader{src: file, marker: seg.marker, offset: seg.offset, end: seg.size}
	d.mutex.Unlock()
	if r.offset == 0 {
		err = r.open()
	}
	return r, err
}

// batch collects frames up to the next gap, which it returns too, up to the
// size of a batch, or up to an error.
func (r *reader) batch() (frames []piece, gap piece, err error) {
	size := 0
	for len(frames) < drainFrames && size < drainBytes {
		p, err := r.next()
		if err != nil || p.gap {
			return frames, p, err
		}
		p.payload = bytes.Clone(p.payload)
		frames = append(frames, p)
		size += len(p.payload)
	}
	return frames, piece{}, nil
}

// deliver hands frames over until each is kept or in quarantine, or ctx has
// ended.
func (d *drainer) deliver(ctx context.Context, seg *segment, frames []piece) {
	if len(frames) == 0 {
		return
	}
	d.mutex.Lock()
	seg.oldest = frames[0].at
	d.mutex.Unlock()
	if len(frames) > 1 && d.hand(ctx, frames) == nil {
		d.kept(ctx, seg, frames)
		return
	}
	for len(frames) > 0 && ctx.Err() == nil {
		err := d.hand(ctx, frames[:1])
		switch {
		case err == nil:
			d.kept(ctx, seg, frames[:1])
		case ctx.Err() != nil:
			return
		case errors.Is(err, ErrReject):
			d.quarantineFrame(ctx, seg, frames[0], err)
			d.passed(ctx, seg, frames[:1])
		default:
			d.pause(ctx, err)
			continue
		}
		frames = frames[1:]
	}
}

func (d *drainer) hand(ctx context.Context, frames []piece) error {
	payloads := make([][]byte, len(frames))
	for i, f := range frames {
		payloads[i] = f.payload
	}
	return d.keep(ctx, payloads)
}

// kept accounts for frames that were handed over.
func (d *drainer) kept(ctx context.Context, seg *segment, frames []piece) {
	d.mutex.Lock()
	d.drained += int64(len(frames))
	d.mutex.Unlock()
	d.passed(ctx, seg, frames)
}

// passed accounts for pieces that wait no more. It also means that nothing is in
// the way of draining.
func (d *drainer) passed(ctx context.Context, seg *segment, pieces []piece) {
	d.mutex.Lock()
	for _, p := range pieces {
		if !p.gap { // the stock may have missed some, when the file could not be read then
			seg.frames = max(0, seg.frames-1)
			seg.bytes = max(0, seg.bytes-(p.to-p.from))
		}
		seg.offset = p.to
	}
	d.drainError = ""
	d.mutex.Unlock()
	if d.failures > 0 {
		d.failures = 0
		d.logger.LogAttrs(ctx, slog.LevelInfo, "the spool is drained again")
	}
}

// pause waits after a failure, longer after each. An outage is one message.
func (d *drainer) pause(ctx context.Context, err error) {
	d.mutex.Lock()
	d.drainError = err.Error()
	d.mutex.Unlock()
	d.failures++
	if d.failures == 1 {
		d.logger.LogAttrs(ctx, slog.LevelWarn, "the spool cannot be drained, it will be tried again and again", slog.Any("error", err))
	}
	timer := time.NewTimer(pauseAfter(d.failures))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pauseAfter is between a half and the whole of a time that doubles: replicas
// that lost the same database do not come back to it at the same instant.
func pauseAfter(failures int) time.Duration {
	const doublings = 10 // enough to reach the longest
	whole := min(longestPause, firstPause<<min(failures-1, doublings))
	var random [8]byte
	rand.Read(random[:])
	return whole/2 + time.Duration(binary.LittleEndian.Uint64(random[:])%uint64(whole/2+1))
}

// more tells whether to read on in a segment that was read to its end: when
// frames have come, or after waiting for them. A segment that does not grow any
// more is finished.
func (d *drainer) more(ctx context.Context, seg *segment, r *reader) bool {
	d.mutex.Lock()
	size, active := seg.size, seg == d.active
	d.mutex.Unlock()
	switch {
	case r.end < size:
		r.end = size
		return true
	case !active:
		d.end(ctx, seg)
		return false
	}
	timer := time.NewTimer(idle)
	defer timer.Stop()
	select {
	case <-d.wake:
	case <-timer.C:
		d.retire(ctx, seg)
	case <-ctx.Done():
	}
	return true
}

// retire seals a segment, unless it has grown.
func (d *drainer) retire(ctx context.Context, seg *segment) {
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

// unreadable puts a segment that cannot be read into quarantine: at once when
// another program must read it, else when it has failed several times.
func (d *drainer) unreadable(ctx context.Context, seg *segment, err error) {
	d.mutex.Lock()
	seg.readFailures++
	giveUp := seg.readFailures >= readTries || errors.Is(err, errVersion)
	seg.spoiled = seg.spoiled || giveUp
	d.mutex.Unlock()
	if !giveUp {
		d.pause(ctx, err)
		return
	}
	d.logger.LogAttrs(ctx, slog.LevelError, "a file of the spool is set aside whole", slog.String("file", seg.name), slog.Any("error", err))
	d.end(ctx, seg)
}

// end finishes a segment, which must not grow for that.
func (d *drainer) end(ctx context.Context, seg *segment) {
	select {
	case d.writer <- struct{}{}:
	case <-ctx.Done():
		return
	}
	if seg == d.active {
		d.seal()
	}
	<-d.writer
	if err := d.finish(seg); err != nil {
		d.logger.LogAttrs(ctx, slog.LevelError, "a drained file of the spool cannot be removed", slog.String("file", seg.name), slog.Any("error", err))
	}
}
