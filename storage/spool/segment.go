package spool

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// segment is one file of frames. Once it is in the list of a Spool, what is
// not part of its name is guarded by the mutex.
type segment struct {
	name   string
	number uint64
	marker marker

	size         int64 // bytes that are flushed and end with a whole frame; all of the file if an earlier process wrote it, unknown if it could not tell
	offset       int64 // how far it is drained
	frames       int   // that wait
	bytes        int64 // that those take
	oldest       time.Time
	readFailures int
	spoiled      bool // keep the file: something in it could not be put into quarantine
}

// unknown is the size of a segment that could not be opened.
const unknown = -1

// Names sort as the segments do: "00000000000000000001-0123456789abcdef.spool".
const (
	numberDigits = 20
	suffix       = ".spool"
)

func newSegment(number uint64) *segment {
	seg := &segment{number: number}
	rand.Read(seg.marker[:])
	seg.name = fmt.Sprintf("%0*d-%x%s", numberDigits, number, seg.marker, suffix)
	return seg
}

// segmentOf is the segment of that name; false of a name that no segment has.
func segmentOf(name string) (*segment, bool) {
	number, random, _ := strings.Cut(strings.TrimSuffix(name, suffix), "-")
	seg := &segment{name: name}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || len(random) != hex.EncodedLen(len(seg.marker)) {
		return nil, false
	}
	if _, err := hex.Decode(seg.marker[:], []byte(random)); err != nil {
		return nil, false
	}
	seg.number = n
	return seg, name == fmt.Sprintf("%0*d-%x%s", numberDigits, n, seg.marker, suffix)
}

func (s *Spool) path(seg *segment) string { return filepath.Join(s.dir, seg.name) }

// takeStock lists the segments of earlier processes. None of them is written to
// again.
func (s *Spool) takeStock() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		seg, ok := segmentOf(e.Name())
		if !ok {
			continue
		}
		seg.size = unknown
		// One that cannot be read now is Drain's to deal with: it must not keep
		// the server from taking more.
		if err := s.count(seg); err != nil {
			s.logger.LogAttrs(context.Background(), slog.LevelError, "a file of the spool cannot be read", slog.String("file", seg.name), slog.Any("error", err))
		}
		s.segments = append(s.segments, seg)
		s.next = seg.number + 1
	}
	if st := s.Stats(); st.Frames > 0 {
		s.logger.LogAttrs(context.Background(), slog.LevelInfo, "the spool holds records of an earlier run",
			slog.Int("records", st.Frames), slog.Int64("bytes", st.Bytes), slog.Time("oldest", st.Oldest))
	}
	return nil
}

// count finds the size of a segment and the intact frames in it.
func (s *Spool) count(seg *segment) error {
	file, err := os.Open(s.path(seg))
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	seg.size = info.Size()
	r := &reader{src: file, marker: seg.marker, end: seg.size}
	err = r.open()
	for err == nil {
		var p piece
		if p, err = r.next(); err == nil && !p.gap {
			if seg.frames == 0 {
				seg.oldest = p.at
			}
			seg.frames++
			seg.bytes += p.to - p.from
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, errVersion) {
		return nil
	}
	return err
}

// create begins the active segment; of the writer alone.
func (s *Spool) create() error {
	seg := newSegment(s.next)
	file, err := os.OpenFile(s.path(seg), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(segmentHead())
	if err == nil {
		err = s.sync(s.folder) // the first flush of the file comes with its first frames
	}
	if err != nil {
		return errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	seg.size, seg.offset = headSize, headSize
	s.next++
	s.file = file
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.segments = append(s.segments, seg)
	s.active = seg
	return nil
}

// seal ends the active segment, if there is one; of the writer alone.
func (s *Spool) seal() {
	if s.file == nil {
		return
	}
	s.file.Close() // all of it that counts is flushed
	s.file = nil
	s.mutex.Lock()
	s.active = nil
	s.mutex.Unlock()
	s.notify()
}

// done lists the segments of which nothing is left to drain.
func (s *Spool) done() []*segment {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var done []*segment
	for _, seg := range s.segments {
		if seg.offset == seg.size && seg != s.active {
			done = append(done, seg)
		}
	}
	return done
}

// finish removes a segment that does not grow any more, from the list in any
// case: if the file stays, the next Open finds it, and its records are handed
// over again.
func (s *Spool) finish(seg *segment) error {
	s.mutex.Lock()
	s.segments = slices.DeleteFunc(s.segments, func(other *segment) bool { return other == seg })
	spoiled := seg.spoiled
	s.mutex.Unlock()
	if spoiled {
		return s.quarantineWhole(seg)
	}
	if err := os.Remove(s.path(seg)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.sync(s.folder)
}
