package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"time"
)

// A segment begins with a head, and then holds frames up to its end. Integers
// are little-endian.
//
//	head:  magic 8, version 4, CRC-32C of these 4
//	frame: marker 8, CRC-32C of all that follows 4, length of the payload 4, nanoseconds since 1970 8, payload
//
// The marker is random and of one segment. It stands in the segment's name, out
// of reach of damage to the content, and nobody outside knows it: bytes of a
// payload are never taken for a frame, however they were made.
const (
	magic     = "ctspool\n"
	version   = 1
	headSize  = 16
	frameHead = 24
)

type marker [8]byte

// castagnoli is what storage uses most: processors compute it, and it finds
// more errors in records of this size than the older polynomial.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errVersion is said of a segment that a newer program wrote.
var errVersion = errors.New("segment of an unknown version")

func segmentHead() []byte {
	b := binary.LittleEndian.AppendUint32([]byte(magic), version)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func appendFrame(b []byte, m marker, at time.Time, payload []byte) []byte {
	start := len(b)
	b = append(b, m[:]...)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint64(b, uint64(at.UnixNano()))
	b = append(b, payload...)
	binary.LittleEndian.PutUint32(b[start+8:], crc32.Checksum(b[start+12:], castagnoli))
	return b
}

// piece is a stretch of a segment: a frame, or a gap, which is bytes that are
// no frame.
type piece struct {
	from, to int64
	gap      bool
	at       time.Time
	payload  []byte
}

// reader takes a segment apart, in memory that does not grow with it.
type reader struct {
	src    io.ReaderAt
	marker marker
	offset int64 // of the next piece
	end    int64 // nothing is read from here on

	window   []byte // what was last read of src
	windowAt int64
	payload  []byte // of the last frame
}

const windowSize = 64 << 10

// open reads the head. A damaged one is left to next, as a gap.
func (r *reader) open() error {
	head, err := r.peek(0, headSize)
	switch {
	case err != nil:
		return err
	case len(head) < headSize, string(head[:len(magic)]) != magic:
		return nil
	case crc32.Checksum(head[:headSize-4], castagnoli) != binary.LittleEndian.Uint32(head[headSize-4:]):
		return nil
	case binary.LittleEndian.Uint32(head[len(magic):]) != version:
		return errVersion
	}
	r.offset = headSize
	return nil
}

// next is the piece at the offset, io.EOF at the end, or what went wrong with
// reading. The payload is valid until the next call.
func (r *reader) next() (piece, error) {
	start := r.offset
	if start >= r.end {
		return piece{}, io.EOF
	}
	for at := start; at < r.end; {
		frame, ok, err := r.frame(at)
		switch {
		case err != nil:
			return piece{}, err
		case ok && at == start:
			r.offset = frame.to
			return frame, nil
		case ok:
			r.offset = at
			return piece{from: start, to: at, gap: true}, nil
		}
		if at, err = r.find(at + 1); err != nil {
			return piece{}, err
		}
	}
	r.offset = r.end
	return piece{from: start, to: r.end, gap: true}, nil
}

// frame tells whether a whole and intact frame stands at the offset.
func (r *reader) frame(at int64) (piece, bool, error) {
	head, err := r.peek(at, frameHead)
	if err != nil || len(head) < frameHead || !bytes.Equal(head[:8], r.marker[:]) {
		return piece{}, false, err
	}
	sum, checked := binary.LittleEndian.Uint32(head[8:]), crc32.Checksum(head[12:], castagnoli)
	length := int64(binary.LittleEndian.Uint32(head[12:]))
	appended := time.Unix(0, int64(binary.LittleEndian.Uint64(head[16:]))).UTC()
	from, to := at+frameHead, at+frameHead+length
	if length > MaxPayload || to > r.end {
		return piece{}, false, nil
	}
	if r.payload, err = r.copy(r.payload[:0], from, to); err != nil {
		return piece{}, false, err
	}
	if crc32.Update(checked, castagnoli, r.payload) != sum {
		return piece{}, false, nil
	}
	return piece{from: at, to: to, at: appended, payload: r.payload}, true, nil
}

// find is where the next marker begins, or the end.
func (r *reader) find(at int64) (int64, error) {
	for at < r.end {
		window, err := r.peek(at, windowSize)
		if err != nil {
			return 0, err
		}
		if i := bytes.Index(window, r.marker[:]); i >= 0 {
			return at + int64(i), nil
		}
		if at+int64(len(window)) >= r.end {
			break
		}
		at += int64(len(window) - len(r.marker) + 1)
	}
	return r.end, nil
}

// peek is the n bytes at the offset, fewer before the end; n is at most
// windowSize.
func (r *reader) peek(at int64, n int) ([]byte, error) {
	n = int(min(int64(n), r.end-at))
	if i := at - r.windowAt; i >= 0 && i+int64(n) <= int64(len(r.window)) {
		return r.window[i : i+int64(n)], nil
	}
	if r.window == nil {
		r.window = make([]byte, windowSize)
	}
	// What could be read before a failure still counts.
	got, err := r.src.ReadAt(r.window[:min(windowSize, r.end-at)], at)
	r.window, r.windowAt = r.window[:got], at
	if got < n {
		return nil, unexpected(err)
	}
	return r.window[:n], nil
}

// copy appends the bytes of a stretch to b: what the window has, then the rest.
func (r *reader) copy(b []byte, from, to int64) ([]byte, error) {
	if to-from <= windowSize {
		window, err := r.peek(from, int(to-from))
		return append(b, window...), err
	}
	start := len(b)
	b = append(b, make([]byte, to-from)...)
	if got, err := r.src.ReadAt(b[start:], from); got < len(b)-start {
		return nil, unexpected(err)
	}
	return b, nil
}

// unexpected is the end of a file that was longer a moment ago: a failure like
// others, and not the end of the pieces.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
