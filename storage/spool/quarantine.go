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

// Files of the quarantine are named after the segment and the offset in it, so
// that what comes again after a crash replaces itself.
const (
	rejected = ".rejected" // the payload of a frame
	broken   = ".broken"   // bytes that are no frame
	partial  = ".partial"  // still being written
)

// quarantineFrame sets a payload aside that was refused for good.
func (s *Spool) quarantineFrame(ctx context.Context, seg *segment, f piece, cause error) {
	name := quarantined(seg, f.from, rejected)
	if s.setAside(ctx, seg, name, bytes.NewReader(f.payload)) {
		s.logger.LogAttrs(ctx, slog.LevelError, "a spooled record was refused and set aside", slog.String("file", name), slog.Any("cause", cause))
	}
}

// quarantineGap sets bytes aside that are no frame. They may be a frame that was
// damaged, or one that was never finished because the process was killed: such
// a record was not acknowledged, but perhaps nobody has another copy.
func (s *Spool) quarantineGap(ctx context.Context, seg *segment, gap piece, src io.ReaderAt) {
	size := gap.to - gap.from
	if size <= frameHead || onlyZeros(io.NewSectionReader(src, gap.from, size)) {
		// Power failures leave such ends; there is nothing of a record in them.
		s.logger.LogAttrs(ctx, slog.LevelWarn, "empty bytes in a file of the spool were skipped",
			slog.String("file", seg.name), slog.Int64("offset", gap.from), slog.Int64("bytes", size))
		return
	}
	name := quarantined(seg, gap.from, broken)
	if s.setAside(ctx, seg, name, io.NewSectionReader(src, gap.from, size)) {
		s.logger.LogAttrs(ctx, slog.LevelError, "a broken part of the spool was set aside", slog.String("file", name), slog.Int64("bytes", size))
	}
}

func quarantined(seg *segment, offset int64, kind string) string {
	return fmt.Sprintf("%s-%d%s", seg.name, offset, kind)
}

// setAside writes a file of the quarantine and tells whether it could. What could
// not be, for want of room perhaps, must neither be lost nor hold others up: then
// the whole segment is kept in the end, which takes no room.
func (s *Spool) setAside(ctx context.Context, seg *segment, name string, content io.Reader) bool {
	err := s.quarantine(name, content)
	s.mutex.Lock()
	if err != nil {
		seg.spoiled = true
	} else {
		s.quarantined++
	}
	s.mutex.Unlock()
	if err != nil {
		s.logger.LogAttrs(ctx, slog.LevelError, "a part of the spool cannot be set aside, its whole file will be",
			slog.String("file", name), slog.Any("error", err))
	}
	return err == nil
}

// quarantine writes a file there, whole or not at all.
func (s *Spool) quarantine(name string, content io.Reader) error {
	folder := filepath.Join(s.dir, quarantineName)
	path := filepath.Join(folder, name)
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
	return s.syncFolder(folder)
}

// quarantineWhole moves a segment there.
func (s *Spool) quarantineWhole(seg *segment) error {
	folder := filepath.Join(s.dir, quarantineName)
	if err := os.Rename(s.path(seg), filepath.Join(folder, seg.name)); err != nil {
		return err
	}
	s.mutex.Lock()
	s.quarantined++
	s.mutex.Unlock()
	return errors.Join(s.syncFolder(folder), s.sync(s.folder))
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
