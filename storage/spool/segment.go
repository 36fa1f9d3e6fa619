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

// segment is one file of frames. Once it is in the list of a Spool, the mutex
// guards all fields except those that the file name encodes.
type segment struct {
	name   string
	number uint64
	marker marker

	size         int64 // flushed bytes that end with a complete frame; the file size if an earlier process wrote it; unknownSize if that could not be read
	offset       int64 // end of the drained part
	records      int   // records that wait to be drained
	bytes        int64 // size of their frames
	oldest       time.Time
	readFailures int
	keepWhole    bool // remove moves the file to quarantine instead of deleting it
}

// unknownSize is the size of a segment that could not be opened.
const unknownSize = -1

// Names sort in the order of the segments: "00000000000000000001-0123456789abcdef.spool".
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

// parseSegmentName returns the segment with a file name. It reports false if the
// name is not that of a segment.
func parseSegmentName(name string) (*segment, bool) {
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

// loadSegments lists the segments of earlier processes. They are not written to
// again.
func (s *Spool) loadSegments() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		seg, ok := parseSegmentName(e.Name())
		if !ok {
			continue
		}
		seg.size = unknownSize
		// A segment that cannot be read must not keep the server from accepting
		// records. Drain deals with it.
		if err := s.count(seg); err != nil {
			s.logger.LogAttrs(context.Background(), slog.LevelError, "spool file unreadable", slog.String("file", seg.name), slog.Any("error", err))
		}
		s.segments = append(s.segments, seg)
		s.next = seg.number + 1
	}
	if st := s.Stats(); st.Records > 0 {
		s.logger.LogAttrs(context.Background(), slog.LevelInfo, "spool contains records of an earlier run",
			slog.Int("records", st.Records), slog.Int64("bytes", st.Bytes), slog.Time("oldest", st.Oldest))
	}
	return nil
}

// count reads the size of a segment and counts its undamaged frames.
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
	err = r.readHeader()
	for err == nil {
		var c chunk
		if c, err = r.next(); err == nil && !c.gap {
			if seg.records == 0 {
				seg.oldest = c.at
			}
			seg.records++
			seg.bytes += c.to - c.from
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, errVersion) {
		return nil
	}
	return err
}

// create creates the active segment. The caller holds the writer token.
func (s *Spool) create() error {
	seg := newSegment(s.next)
	file, err := os.OpenFile(s.path(seg), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(segmentHeader())
	if err == nil {
		err = s.sync(s.dirFile) // the file itself is flushed with its first frames
	}
	if err != nil {
		return errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	seg.size, seg.offset = headerSize, headerSize
	s.next++
	s.file = file
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments = append(s.segments, seg)
	s.active = seg
	return nil
}

// seal ends the active segment, if there is one, so that it cannot grow. The
// caller holds the writer token.
func (s *Spool) seal() {
	if s.file == nil {
		return
	}
	s.file.Close() // every acknowledged frame has been flushed
	s.file = nil
	s.mu.Lock()
	s.active = nil
	s.mu.Unlock()
	s.notify()
}

// drainedSegments returns the sealed segments that have nothing left to drain.
func (s *Spool) drainedSegments() []*segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*segment
	for _, seg := range s.segments {
		if seg.offset == seg.size && seg != s.active {
			all = append(all, seg)
		}
	}
	return all
}

// remove removes a sealed segment from the list and deletes its file, or moves
// the file to quarantine. If the file cannot be deleted, the next Open finds it
// and its records are delivered again.
func (s *Spool) remove(seg *segment) error {
	s.mu.Lock()
	s.segments = slices.DeleteFunc(s.segments, func(other *segment) bool { return other == seg })
	keepWhole := seg.keepWhole
	s.mu.Unlock()
	if keepWhole {
		return s.quarantineSegment(seg)
	}
	if err := os.Remove(s.path(seg)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.sync(s.dirFile)
}
