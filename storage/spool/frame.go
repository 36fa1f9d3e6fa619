package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"time"
)

// A segment is a header followed by frames. Integers are little-endian.
//
//	header: magic 8, version 4, CRC-32C of these 4
//	frame:  marker 8, CRC-32C of everything after it 4, length of the payload 4, nanoseconds since 1970 8, payload
//
// The marker is random and differs for each segment. It is stored in the file
// name, where damage to the content cannot reach it. Senders cannot know it, so
// bytes of a payload are never mistaken for a frame.
const (
	magic           = "ctspool\n"
	version         = 1
	headerSize      = 16
	frameHeaderSize = 24
)

type marker [8]byte

// castagnoli is the polynomial that most storage systems use. Processors have
// instructions for it, and it detects more errors in records of this size than
// the older IEEE polynomial.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errVersion reports a segment that a newer program wrote.
var errVersion = errors.New("unknown segment version")

func segmentHeader() []byte {
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

// chunk is a range of bytes in a segment: one frame, or a gap between frames.
type chunk struct {
	from, to int64
	gap      bool // the bytes are not a frame
	at       time.Time
	payload  []byte
}

// reader splits a segment into chunks. Its memory does not grow with the segment.
type reader struct {
	src    io.ReaderAt
	marker marker
	offset int64 // start of the next chunk
	end    int64 // nothing is read from here on

	window   []byte // most recent read of src
	windowAt int64
	payload  []byte // payload of the most recent frame
}

const windowSize = 64 << 10

// readHeader reads the segment header. It leaves a damaged header to next, which
// returns it as a gap.
func (r *reader) readHeader() error {
	header, err := r.peek(0, headerSize)
	switch {
	case err != nil:
		return err
	case len(header) < headerSize, string(header[:len(magic)]) != magic:
		return nil
	case crc32.Checksum(header[:headerSize-4], castagnoli) != binary.LittleEndian.Uint32(header[headerSize-4:]):
		return nil
	case binary.LittleEndian.Uint32(header[len(magic):]) != version:
		return errVersion
	}
	r.offset = headerSize
	return nil
}

// next returns the chunk at the offset, io.EOF at the end, or a read error. The
// payload is valid until the next call.
func (r *reader) next() (chunk, error) {
	start := r.offset
	if start >= r.end {
		return chunk{}, io.EOF
	}
	for at := start; at < r.end; {
		frame, ok, err := r.frame(at)
		switch {
		case err != nil:
			return chunk{}, err
		case ok && at == start:
			r.offset = frame.to
			return frame, nil
		case ok:
			r.offset = at
			return chunk{from: start, to: at, gap: true}, nil
		}
		if at, err = r.findMarker(at + 1); err != nil {
			return chunk{}, err
		}
	}
	r.offset = r.end
	return chunk{from: start, to: r.end, gap: true}, nil
}

// frame reads the frame at an offset. It reports false if there is no complete,
// undamaged frame.
func (r *reader) frame(at int64) (chunk, bool, error) {
	header, err := r.peek(at, frameHeaderSize)
	if err != nil || len(header) < frameHeaderSize || !bytes.Equal(header[:8], r.marker[:]) {
		return chunk{}, false, err
	}
	wantSum, sum := binary.LittleEndian.Uint32(header[8:]), crc32.Checksum(header[12:], castagnoli)
	length := int64(binary.LittleEndian.Uint32(header[12:]))
	appendedAt := time.Unix(0, int64(binary.LittleEndian.Uint64(header[16:]))).UTC()
	from, to := at+frameHeaderSize, at+frameHeaderSize+length
	if length > MaxPayload || to > r.end {
		return chunk{}, false, nil
	}
	if r.payload, err = r.appendBytes(r.payload[:0], from, to); err != nil {
		return chunk{}, false, err
	}
	if crc32.Update(sum, castagnoli, r.payload) != wantSum {
		return chunk{}, false, nil
	}
	return chunk{from: at, to: to, at: appendedAt, payload: r.payload}, true, nil
}

// findMarker returns the offset of the next marker, or the end.
func (r *reader) findMarker(at int64) (int64, error) {
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

// peek returns n bytes at an offset, fewer near the end. n is at most windowSize.
func (r *reader) peek(at int64, n int) ([]byte, error) {
	n = int(min(int64(n), r.end-at))
	if i := at - r.windowAt; i >= 0 && i+int64(n) <= int64(len(r.window)) {
		return r.window[i : i+int64(n)], nil
	}
	if r.window == nil {
		r.window = make([]byte, windowSize)
	}
	// Bytes that were read before an error are still valid.
	got, err := r.src.ReadAt(r.window[:min(windowSize, r.end-at)], at)
	r.window, r.windowAt = r.window[:got], at
	if got < n {
		return nil, unexpectedEOF(err)
	}
	return r.window[:n], nil
}

// appendBytes appends the bytes of the segment between two offsets to b.
func (r *reader) appendBytes(b []byte, from, to int64) ([]byte, error) {
	if to-from <= windowSize {
		window, err := r.peek(from, int(to-from))
		return append(b, window...), err
	}
	start := len(b)
	b = append(b, make([]byte, to-from)...)
	if got, err := r.src.ReadAt(b[start:], from); got < len(b)-start {
		return nil, unexpectedEOF(err)
	}
	return b, nil
}

// unexpectedEOF turns io.EOF into a read error: the file became shorter than its
// recorded size. io.EOF itself means the end of the chunks.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
