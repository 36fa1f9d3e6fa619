// Package spool keeps records in files of the local disk while the database is
// away, and hands them over in order once it is back.
//
// A record is on the disk, flushed, when Append returns. It is handed over at
// least once: after a crash, some that were handed over before may come again,
// so whoever takes them must know a repeat. What cannot be read, or is refused
// for good, goes to the folder "quarantine" and holds nobody up.
//
// The folder must be on a local file system of a Unix.
package spool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Errors to tell apart with errors.Is.
var (
	// ErrFull is returned by Append and Check when the disk, a quota or a limit
	// on the size of files leaves no room.
	ErrFull = errors.New("no room left for the spool")
	// ErrTooLarge is returned by Append for a payload of more than MaxPayload.
	ErrTooLarge = errors.New("record is too large for the spool")
	// ErrReject is for the function given to Drain: the payload will never be
	// accepted, set it aside.
	ErrReject = errors.New("record is refused for good")
	// ErrClosed is returned by everything that comes after Close.
	ErrClosed = errors.New("spool is closed")
	// ErrDraining is returned by a second Drain at the same time.
	ErrDraining = errors.New("spool is being drained already")
)

// MaxPayload is the most bytes that one record may have.
const MaxPayload = 2 << 20

// Options say where and how to spool. Only Dir is mandatory.
type Options struct {
	Dir        string
	MaxSegment int64            // bytes after which another file is begun, so also what may be handed over again after a crash; 0 is 8 MiB
	Logger     *slog.Logger     // nil is silence
	Now        func() time.Time // nil is time.Now
}

// Stats tell what waits in a spool, and what was done since it was opened.
type Stats struct {
	Frames      int       // records that wait
	Bytes       int64     // that they take on the disk
	Oldest      time.Time // when the one that waits longest was appended, to within a batch; zero when none waits
	Drained     int64     // records that were handed over
	Quarantined int64     // files that were put into quarantine
	LastError   string    // why the last Append or hand-over failed; empty when the last one of either succeeded
}

// Spool is one folder of spooled records. Make it with Open. It is safe for
// concurrent use, with at most one Drain at a time.
type Spool struct {
	dir        string
	maxSegment int64
	logger     *slog.Logger
	now        func() time.Time
	sync       func(*os.File) error // flushes a file or a folder
	lock       *os.File             // held while the spool is open
	folder     *os.File             // dir, to flush its entries

	// writer is held, as a token in the channel, by the one who writes for all;
	// file, next and buffer are its own.
	writer chan struct{}
	file   *os.File // of the active segment, nil when there is none
	next   uint64   // number of the next segment
	buffer []byte

	wake chan struct{} // has a token when there may be something new to drain

	mutex       sync.Mutex
	closed      bool
	stopDrain   context.CancelFunc // nil when nobody drains
	drainEnded  chan struct{}
	pending     []*entry   // appends that nobody has written yet
	segments    []*segment // oldest first
	active      *segment   // the last of them, if it may still grow; nil if none; the writer alone sets it
	drained     int64
	quarantined int64
	appendError string
	drainError  string
}

const (
	defaultMaxSegment = 8 << 20
	lockName          = "lock"
	quarantineName    = "quarantine"
)

// Open makes the folder (mode 0700) if need be and takes stock of what an
// earlier process left there, which reads it all once. It fails if another
// Spool, of whatever process, has the folder open. It changes no record.
func Open(o Options) (*Spool, error) { return open(o, (*os.File).Sync) }

func open(o Options, flush func(*os.File) error) (*Spool, error) {
	s := &Spool{
		dir: o.Dir, maxSegment: o.MaxSegment, logger: o.Logger, now: o.Now, sync: flush,
		writer: make(chan struct{}, 1), wake: make(chan struct{}, 1), next: 1,
	}
	if s.maxSegment == 0 {
		s.maxSegment = defaultMaxSegment
	}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	err := s.takeFolder()
	if err == nil {
		err = s.takeStock()
	}
	if err != nil {
		return nil, fmt.Errorf("open spool %s: %w", o.Dir, errors.Join(full(err), s.release()))
	}
	return s, nil
}

// takeFolder makes the folders and locks them.
func (s *Spool) takeFolder() error {
	quarantine := filepath.Join(s.dir, quarantineName)
	err := os.MkdirAll(quarantine, 0o700)
	if err != nil {
		return err
	}
	if s.lock, err = os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	// The kernel drops the lock with the process, however that ends.
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("in use by another process: %w", err)
	}
	if s.folder, err = os.Open(s.dir); err != nil {
		return err
	}
	for _, pattern := range []string{filepath.Join(s.dir, probePattern), filepath.Join(quarantine, "*"+partial)} {
		left, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range left {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return errors.Join(s.syncFolder(filepath.Dir(s.dir)), s.sync(s.folder))
}

func (s *Spool) release() error {
	var err error
	for _, f := range []*os.File{s.folder, s.lock} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// syncFolder makes what was made, renamed or removed in a folder outlive a
// power failure.
func (s *Spool) syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(s.sync(folder), folder.Close())
}

// Stats is what waits now, and what was done.
func (s *Spool) Stats() Stats {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	st := Stats{Drained: s.drained, Quarantined: s.quarantined, LastError: s.appendError}
	if st.LastError == "" {
		st.LastError = s.drainError
	}
	for _, seg := range s.segments {
		if st.Frames == 0 && seg.frames > 0 {
			st.Oldest = seg.oldest
		}
		st.Frames += seg.frames
		st.Bytes += seg.bytes
	}
	return st
}

const (
	probePattern = "probe-*"
	probeSize    = 64 << 10
)

// Check tells whether an Append of an ordinary record would succeed now: it
// writes a file of 64 KiB to the folder, flushes it and removes it. The error is
// that which Append would return.
func (s *Spool) Check() error {
	s.mutex.Lock()
	closed := s.closed
	s.mutex.Unlock()
	if closed {
		return ErrClosed
	}
	probe, err := os.CreateTemp(s.dir, probePattern)
	if err != nil {
		return fmt.Errorf("check spool: %w", full(err))
	}
	content := make([]byte, probeSize)
	rand.Read(content) // some file systems keep no room for zeros
	_, err = probe.Write(content)
	if err == nil {
		err = s.sync(probe)
	}
	if err = errors.Join(err, probe.Close(), os.Remove(probe.Name())); err != nil {
		return fmt.Errorf("check spool: %w", full(err))
	}
	return nil
}

// Close lets a write that is under way end, fails the appends that wait, ends a
// Drain that runs and waits for it, and gives the folder free. What waits stays
// on the disk. Further calls do nothing.
func (s *Spool) Close() error {
	s.mutex.Lock()
	if s.closed {
		s.mutex.Unlock()
		return nil
	}
	s.closed = true
	stop, ended := s.stopDrain, s.drainEnded
	s.mutex.Unlock()
	if stop != nil {
		stop()
		<-ended
	}

	s.writer <- struct{}{}
	defer func() { <-s.writer }()
	settle(s.take(math.MaxInt), ErrClosed)
	s.seal()
	var err error
	for _, seg := range s.done() {
		err = errors.Join(err, s.finish(seg))
	}
	if err = errors.Join(err, s.release()); err != nil {
		return fmt.Errorf("close spool %s: %w", s.dir, err)
	}
	return nil
}

// full marks the errors that mean that there is no room.
func full(err error) error {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	return err
}
