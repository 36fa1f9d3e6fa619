package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// Files in quarantine are named after their segment and the offset in it. If a
// crash makes the same bytes reach quarantine twice, the second file replaces the
// first.
const (
	rejected = ".rejected" // payload of a rejected record
	broken   = ".broken"   // bytes that are not a frame
	partial  = ".partial"  // file that is still being written
)

// quarantineFrame writes the payload of a rejected record to quarantine.
func (s *Spool) quarantineFrame(ctx context.Context, seg *segment, frame chunk, cause error) {
	name := quarantineFileName(seg, frame.from, rejected)
	if s.quarantine(ctx, seg, name, bytes.NewReader(frame.payload)) {
		s.logger.LogAttrs(ctx, slog.LevelError, "rejected record moved to quarantine", slog.String("file", name), slog.Any("cause", cause))
	}
}

// quarantineGap writes bytes that are not a frame to quarantine. They are a
// damaged frame, or one whose write a crash interrupted. An interrupted record was
// not acknowledged, but there may be no other copy of it.
func (s *Spool) quarantineGap(ctx context.Context, seg *segment, gap chunk, src io.ReaderAt) {
	size := gap.to - gap.from
	if size <= frameHeaderSize || onlyZeros(io.NewSectionReader(src, gap.from, size)) {
		// A power failure can leave such bytes; they are not part of a record.
		s.logger.LogAttrs(ctx, slog.LevelWarn, "empty bytes in spool file skipped",
			slog.String("file", seg.name), slog.Int64("offset", gap.from), slog.Int64("bytes", size))
		return
	}
	name := quarantineFileName(seg, gap.from, broken)
	if s.quarantine(ctx, seg, name, io.NewSectionReader(src, gap.from, size)) {
		s.logger.LogAttrs(ctx, slog.LevelError, "damaged part of spool file moved to quarantine", slog.String("file", name), slog.Int64("bytes", size))
	}
}

func quarantineFileName(seg *segment, offset int64, kind string) string {
	return fmt.Sprintf("%s-%d%s", seg.name, offset, kind)
}

// quarantine writes a file to quarantine and reports whether it succeeded. If it
// fails, for example because the disk is full, draining continues and nothing is
// lost: remove then moves the whole segment to quarantine, which takes no space.
func (s *Spool) quarantine(ctx context.Context, seg *segment, name string, content io.Reader) bool {
	err := s.writeQuarantineFile(name, content)
	s.mu.Lock()
	if err != nil {
		seg.keepWhole = true
	} else {
		s.quarantined++
	}
	s.mu.Unlock()
	if err != nil {
		s.logger.LogAttrs(ctx, slog.LevelError, "quarantine file not written; the whole spool file will be moved to quarantine",
			slog.String("file", name), slog.Any("error", err))
	}
	return err == nil
}

// writeQuarantineFile writes a file to quarantine, completely or not at all.
func (s *Spool) writeQuarantineFile(name string, content io.Reader) error {
	dir := filepath.Join(s.dir, quarantineName)
	path := filepath.Join(dir, name)
	file, err := os.OpenFile(path+partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	if err == nil {
		err = s.sync(file)
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(path+partial, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path+partial))
	}
	return s.syncDir(dir)
}

// quarantineSegment moves a whole segment to quarantine.
func (s *Spool) quarantineSegment(seg *segment) error {
	dir := filepath.Join(s.dir, quarantineName)
	if err := os.Rename(s.path(seg), filepath.Join(dir, seg.name)); err != nil {
		return err
	}
	s.mu.Lock()
	s.quarantined++
	s.mu.Unlock()
	return errors.Join(s.syncDir(dir), s.sync(s.dirFile))
}

func onlyZeros(r io.Reader) bool {
	b := make([]byte, windowSize)
	for {
		n, err := r.Read(b)
		if len(bytes.Trim(b[:n], "\x00")) > 0 {
			return false
		}
		if err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}
