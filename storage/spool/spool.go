// Package spool stores records in files on the local disk while the database is
// unavailable, and delivers them in order once it is back.
//
// When Append returns, the record has been written and flushed to disk. Records
// are delivered at least once: after a crash, some records may be delivered
// again, so the receiver must recognize a repeated record. A record that cannot
// be read, or that is permanently rejected, goes to the directory "quarantine" and
// does not block the records behind it.
//
// The directory must be on a local file system of a Unix system.
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

// Sentinel errors, for errors.Is.
var (
	// ErrFull is returned by Append and Check if the disk, a quota, or a file size
	// limit leaves no space.
	ErrFull = errors.New("no space left for the spool")
	// ErrTooLarge is returned by Append if the payload is larger than MaxPayload.
	ErrTooLarge = errors.New("record too large for the spool")
	// ErrRejected is returned by the save function of Drain for a payload that will
	// never be accepted. Drain moves that payload to quarantine.
	ErrRejected = errors.New("record permanently rejected")
	// ErrClosed is returned by the methods of a closed spool.
	ErrClosed = errors.New("spool is closed")
	// ErrDraining is returned by Drain if another Drain is running.
	ErrDraining = errors.New("spool is already being drained")
)

// MaxPayload is the largest payload of a record, in bytes.
const MaxPayload = 2 << 20

// Options configures a Spool. Only Dir is required.
type Options struct {
	Dir        string
	MaxSegment int64            // size at which a new file is started, which limits what is delivered again after a crash; 0 means 8 MiB
	Logger     *slog.Logger     // nil disables logging
	Now        func() time.Time // nil means time.Now
}

// Stats describes the records that wait in a spool, and what it has done since it
// was opened.
type Stats struct {
	Records     int       // records that wait to be drained
	Bytes       int64     // disk space that they take
	Oldest      time.Time // when the oldest of them was appended, precise to a batch; zero if none waits
	Drained     int64     // records that were saved
	Quarantined int64     // files that were moved to quarantine
	LastError   string    // error of the latest Append or save; empty if both succeeded
}

// Spool is a directory of spooled records. Create it with Open. It is safe for
// concurrent use, with at most one Drain at a time.
type Spool struct {
	dir        string
	maxSegment int64
	logger     *slog.Logger
	now        func() time.Time
	sync       func(*os.File) error // flushes a file or directory
	lock       *os.File             // locked while the spool is open
	dirFile    *os.File             // dir, for flushing its entries

	// writer holds a token while one goroutine writes for all others. The token guards
	// file, next, and buffer.
	writer chan struct{}
	file   *os.File // file of the active segment; nil if there is none
	next   uint64   // number of the next segment
	buffer []byte

	wake chan struct{} // holds a token if there may be something new to drain

	mu           sync.Mutex
	closed       bool
	stopDrain    context.CancelFunc // nil if no Drain is running
	drainStopped chan struct{}      // closed when the latest Drain has returned
	pending      []*pendingAppend   // appends whose write has not started
	segments     []*segment         // oldest first
	active       *segment           // last of segments if it can grow, otherwise nil; set only while holding the writer token
	drained      int64
	quarantined  int64
	appendError  string
	drainError   string
}

const (
	defaultMaxSegment = 8 << 20
	lockName          = "lock"
	quarantineName    = "quarantine"
)

// Open creates the directory (mode 0700) if necessary, and reads everything that
// earlier processes left there. It changes no record. It fails if another
// Spool of any process has the directory open.
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
	err := s.lockDir()
	if err == nil {
		err = s.loadSegments()
	}
	if err != nil {
		return nil, fmt.Errorf("open spool %s: %w", o.Dir, errors.Join(markFull(err), s.closeFiles()))
	}
	return s, nil
}

// lockDir creates and locks the directory, and removes the temporary files of
// earlier processes.
func (s *Spool) lockDir() error {
	quarantine := filepath.Join(s.dir, quarantineName)
	err := os.MkdirAll(quarantine, 0o700)
	if err != nil {
		return err
	}
	if s.lock, err = os.OpenFile(filepath.Join(s.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	// The kernel releases the lock when the process ends, even if it crashes.
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("used by another process (%w): stop the other server, or use another data directory", err)
	}
	if s.dirFile, err = os.Open(s.dir); err != nil {
		return err
	}
	for _, pattern := range []string{filepath.Join(s.dir, probePattern), filepath.Join(quarantine, "*"+partial)} {
		leftovers, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range leftovers {
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return errors.Join(s.syncDir(filepath.Dir(s.dir)), s.sync(s.dirFile))
}

// closeFiles closes the directory and releases the lock.
func (s *Spool) closeFiles() error {
	var err error
	for _, f := range []*os.File{s.dirFile, s.lock} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// syncDir flushes a directory, so that the creation, renaming, and removal of its
// files survive a power failure.
func (s *Spool) syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(s.sync(dir), dir.Close())
}

// Stats returns the current statistics.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Stats{Drained: s.drained, Quarantined: s.quarantined, LastError: s.appendError}
	if st.LastError == "" {
		st.LastError = s.drainError
	}
	for _, seg := range s.segments {
		if st.Records == 0 && seg.records > 0 {
			st.Oldest = seg.oldest
		}
		st.Records += seg.records
		st.Bytes += seg.bytes
	}
	return st
}

const (
	probePattern = "probe-*"
	probeSize    = 64 << 10
)

// Check returns the error that an Append of an ordinary record would return now,
// or nil. It writes a file of 64 KiB to the directory, flushes it, and removes it.
func (s *Spool) Check() error {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return ErrClosed
	}
	probe, err := os.CreateTemp(s.dir, probePattern)
	if err != nil {
		return fmt.Errorf("check spool: %w", markFull(err))
	}
	content := make([]byte, probeSize)
	rand.Read(content) // some file systems store zeros without using space
	_, err = probe.Write(content)
	if err == nil {
		err = s.sync(probe)
	}
	if err = errors.Join(err, probe.Close(), os.Remove(probe.Name())); err != nil {
		return fmt.Errorf("check spool: %w", markFull(err))
	}
	return nil
}

// Close stops a running Drain and waits for it, lets a write that has started
// finish, fails the pending appends, and unlocks the directory. Records that wait
// stay on disk. Calling Close again does nothing.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	stop, stopped := s.stopDrain, s.drainStopped
	s.mu.Unlock()
	if stop != nil {
		stop()
		<-stopped
	}

	s.writer <- struct{}{}
	defer func() { <-s.writer }()
	complete(s.dequeue(math.MaxInt), ErrClosed)
	s.seal()
	var err error
	for _, seg := range s.drainedSegments() {
		err = errors.Join(err, s.remove(seg))
	}
	if err = errors.Join(err, s.closeFiles()); err != nil {
		return fmt.Errorf("close spool %s: %w", s.dir, err)
	}
	return nil
}

// markFull wraps errors that mean that there is no space with ErrFull.
func markFull(err error) error {
	for _, cause := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		if errors.Is(err, cause) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	return err
}
