package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func checksum(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(nil, crc32.Checksum(b, castagnoli))
}

var testMarker = marker{0xc5, 'm', 'a', 'r', 'k', 'e', 'r', 0x81}

// segmentBytes returns a segment with these payloads, and the end of each frame.
func segmentBytes(payloads ...string) (content []byte, ends []int) {
	content = segmentHeader()
	for i, p := range payloads {
		content = appendFrame(content, testMarker, time.Unix(int64(i), 0), []byte(p))
		ends = append(ends, len(content))
	}
	return content, ends
}

// readAll reads a segment to its end and returns its payloads and the bytes of its
// gaps. It fails the test unless the chunks cover the segment exactly.
func readAll(t testing.TB, content []byte) (payloads []string, gaps [][]byte) {
	t.Helper()
	r := &reader{src: bytes.NewReader(content), marker: testMarker, end: int64(len(content))}
	if err := r.readHeader(); err != nil {
		t.Fatal(err)
	}
	for at := r.offset; ; {
		c, err := r.next()
		if errors.Is(err, io.EOF) {
			if at != int64(len(content)) {
				t.Fatalf("the last chunk ends at %d of %d", at, len(content))
			}
			return payloads, gaps
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.from != at || c.to <= c.from || c.to > int64(len(content)) || r.offset != c.to {
			t.Fatalf("chunk from %d to %d follows one that ended at %d", c.from, c.to, at)
		}
		at = c.to
		if c.gap {
			gaps = append(gaps, content[c.from:c.to])
			continue
		}
		if encoded := appendFrame(nil, testMarker, c.at, c.payload); !bytes.Equal(encoded, content[c.from:c.to]) {
			t.Fatalf("the frame at %d differs from the file", c.from)
		}
		payloads = append(payloads, string(c.payload))
	}
}

func TestDamagedSegments(t *testing.T) {
	// A payload may contain a segment, but its sender cannot know the marker of this one.
	inner := appendFrame(segmentHeader(), marker{'g', 'u', 'e', 's', 's'}, time.Unix(0, 0), []byte("inner"))
	whole, ends := segmentBytes("first", string(inner), "third")
	with := func(from, to int, replacement ...byte) []byte {
		return slices.Concat(whole[:from], replacement, whole[to:])
	}
	longer := bytes.Clone(whole)
	longer[ends[0]+12]++ // the length of the second frame, whose payload looks like frames
	huge := bytes.Clone(whole)
	huge[ends[0]+15] = 0xff
	tests := []struct {
		name    string
		content []byte
		want    []string
		gaps    []int // lengths
	}{
		{name: "undamaged", content: whole, want: []string{"first", string(inner), "third"}},
		{name: "empty"},
		{name: "half a header", content: whole[:9], gaps: []int{9}},
		{name: "no frames", content: whole[:headerSize]},
		{name: "zeros only", content: make([]byte, 4096), gaps: []int{4096}},
		{name: "zeros at the end", content: append(bytes.Clone(whole), make([]byte, 100000)...), want: []string{"first", string(inner), "third"}, gaps: []int{100000}},
		{name: "header zeroed", content: with(0, headerSize, make([]byte, headerSize)...), want: []string{"first", string(inner), "third"}, gaps: []int{headerSize}},
		{name: "header and first frame zeroed", content: with(0, ends[0], make([]byte, ends[0])...), want: []string{string(inner), "third"}, gaps: []int{ends[0]}},
		{name: "torn end", content: whole[:len(whole)-3], want: []string{"first", string(inner)}, gaps: []int{frameHeaderSize + 2}},
		{name: "torn frame header", content: whole[:ends[1]+10], want: []string{"first", string(inner)}, gaps: []int{10}},
		{name: "increased length", content: longer, want: []string{"first", "third"}, gaps: []int{ends[1] - ends[0]}},
		{name: "impossible length", content: huge, want: []string{"first", "third"}, gaps: []int{ends[1] - ends[0]}},
		{name: "inserted bytes", content: with(ends[0], ends[0], []byte("inserted")...), want: []string{"first", string(inner), "third"}, gaps: []int{8}},
		{name: "inserted marker", content: with(ends[0], ends[0], testMarker[:]...), want: []string{"first", string(inner), "third"}, gaps: []int{8}},
		{name: "removed byte", content: with(ends[0]+30, ends[0]+31), want: []string{"first", "third"}, gaps: []int{ends[1] - ends[0] - 1}},
		{name: "frames of another segment", content: slices.Concat(whole, bytes.ReplaceAll(whole, testMarker[:], []byte("OTHERONE"))), want: []string{"first", string(inner), "third"}, gaps: []int{len(whole)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			payloads, gaps := readAll(t, test.content)
			expect(t, "payloads", payloads, test.want)
			var lengths []int
			for _, gap := range gaps {
				lengths = append(lengths, len(gap))
			}
			expect(t, "gaps", lengths, test.gaps)
		})
	}
}

// damagedCopies returns copies of a segment by kind of damage, one for each byte:
// truncated at that byte, or with that byte changed.
func damagedCopies(content []byte) map[string][][]byte {
	all := map[string][][]byte{}
	for i := range content {
		all["truncated"] = append(all["truncated"], content[:i])
		for _, mask := range []byte{0x01, 0x80, 0xff} {
			name := fmt.Sprintf("changed by %#x", mask)
			changed := bytes.Clone(content)
			changed[i] ^= mask
			all[name] = append(all[name], changed)
		}
	}
	return all
}

// undamaged returns the payloads of the frames that a damaged byte at i does not
// affect. A truncation affects all later frames too.
func undamaged(payloads []string, ends []int, i int, truncated bool) []string {
	intact := []string{}
	start := headerSize
	for n, p := range payloads {
		if ends[n] <= i || (!truncated && start > i) {
			intact = append(intact, p)
		}
		start = ends[n]
	}
	return intact
}

func TestDamageAtEveryByte(t *testing.T) {
	payloads := []string{"first", "", string(testMarker[:5]), "fourth with more text", "\x00\x00\x00", "last"}
	content, ends := segmentBytes(payloads...)
	for name, segments := range damagedCopies(content) {
		for i, damaged := range segments {
			got, _ := readAll(t, damaged)
			if want := undamaged(payloads, ends, i, name == "truncated"); !slices.Equal(got, want) {
				t.Errorf("%s at %d: got %q, want %q", name, i, got, want)
			}
		}
	}
}

// TestSpoolWithDamageAtEveryByte does the same with a Spool, and with a segment
// before and after the damaged one.
func TestSpoolWithDamageAtEveryByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		payloads := []string{"first", "second", "third"}
		content, ends := segmentBytes(payloads...)
		for name, copies := range damagedCopies(content) {
			if name != "truncated" && name != "changed by 0xff" {
				continue
			}
			for i, damaged := range copies {
				s := openWith(t, Options{MaxSegment: 1}, noFlush)
				appendAll(t, s, "before", "damaged", "after")
				path := strings.Replace(s.path(s.segments[1]), fmt.Sprintf("%x", s.segments[1].marker), fmt.Sprintf("%x", testMarker), 1)
				if err := errors.Join(os.Remove(s.path(s.segments[1])), os.WriteFile(path, damaged, 0o600)); err != nil {
					t.Fatal(err)
				}
				s = reopen(t, s)
				appendAll(t, s, "new")
				want := slices.Concat([]string{"before"}, undamaged(payloads, ends, i, name == "truncated"), []string{"after", "new"})
				if waiting := s.Stats().Records; waiting != len(want) {
					t.Errorf("%s at %d: %d records wait, want %d", name, i, waiting, len(want))
				}
				if got := drained(t, s); !slices.Equal(got, want) {
					t.Errorf("%s at %d: got %q, want %q", name, i, got, want)
				}
				segments, quarantine := files(t, s)
				if len(segments) > 0 {
					t.Errorf("%s at %d: remaining files: %v", name, i, segments)
				}
				if name != "truncated" && i >= headerSize { // the damaged frame is in quarantine
					if len(quarantine[broken]) != 1 || !bytes.Contains(damaged, []byte(quarantine[broken][0])) {
						t.Errorf("%s at %d: quarantine %q", name, i, quarantine)
					}
				}
				closeSpool(t, s)
			}
		}
	})
}

// sparseFile is a large file with zeros between its parts.
type sparseFile struct {
	parts map[int64][]byte
	size  int64
}

func (f sparseFile) ReadAt(b []byte, at int64) (int, error) {
	clear(b)
	for start, part := range f.parts {
		from, to := max(at, start), min(at+int64(len(b)), start+int64(len(part)))
		if from < to {
			copy(b[from-at:], part[from-start:to-start])
		}
	}
	return len(b), nil
}

func TestReaderUsesLittleMemory(t *testing.T) {
	frame := appendFrame(nil, testMarker, time.Unix(0, 0), []byte("after"))
	long := bytes.Clone(frame)
	binary.LittleEndian.PutUint32(long[12:], 200<<20)
	start := int64(256<<20 + 7)
	src := sparseFile{parts: map[int64][]byte{0: long, start: frame}, size: start + int64(len(frame))}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := &reader{src: src, marker: testMarker, end: src.size}
	gap, err := r.next()
	if err != nil || !gap.gap || gap.to != start {
		t.Fatalf("first: %+v, %v", gap, err)
	}
	c, err := r.next()
	if err != nil || string(c.payload) != "after" {
		t.Fatalf("second: %+v, %v", c, err)
	}
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 1<<20 {
		t.Errorf("allocated %d bytes for a segment of %d", allocated, src.size)
	}
}

func TestMarkersAcrossWindows(t *testing.T) {
	frame := appendFrame(nil, testMarker, time.Unix(0, 0), []byte("after"))
	for gap := windowSize - 2*frameHeaderSize; gap < windowSize+2*frameHeaderSize; gap++ {
		payloads, gaps := readAll(t, slices.Concat(segmentHeader(), make([]byte, gap), frame))
		if !slices.Equal(payloads, []string{"after"}) || len(gaps) != 1 || len(gaps[0]) != gap {
			t.Errorf("after %d zeros: %q, %d gaps", gap, payloads, len(gaps))
		}
	}
}

// badSectorFile is a file with a bad sector.
type badSectorFile struct {
	io.ReaderAt
	from, to int64
}

func (f badSectorFile) ReadAt(b []byte, at int64) (int, error) {
	if at < f.to && at+int64(len(b)) > f.from {
		n, _ := f.ReaderAt.ReadAt(b[:max(0, f.from-at)], at)
		return n, io.ErrNoProgress
	}
	return f.ReaderAt.ReadAt(b, at)
}

func TestFramesBeforeABadSector(t *testing.T) {
	content, ends := segmentBytes("first", "second", strings.Repeat("third", 30000), "fourth")
	for bad := ends[1]; bad < ends[2]; bad += 1000 {
		src := badSectorFile{ReaderAt: bytes.NewReader(content), from: int64(bad), to: int64(bad) + 10}
		r := &reader{src: src, marker: testMarker, end: int64(len(content)), offset: headerSize}
		frames, _, err := r.batch()
		if len(frames) != 2 || !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("bad sector at %d: %d frames, %v", bad, len(frames), err)
		}
	}
}

// FuzzRead puts arbitrary bytes into a segment. Alone, they are split into chunks
// that cover them exactly. Between frames, they hide none of the frames.
func FuzzRead(f *testing.F) {
	whole, ends := segmentBytes("first", "second", strings.Repeat("third", 100))
	f.Add(whole)
	f.Add(whole[headerSize:])
	f.Add(whole[ends[0] : len(whole)-1])
	f.Add(whole[:ends[0]+12])
	f.Add(testMarker[:])
	f.Add(append(testMarker[:], make([]byte, 40)...))
	f.Add(make([]byte, 100))
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, junk []byte) {
		r := &reader{src: bytes.NewReader(junk), marker: testMarker, end: int64(len(junk))}
		if err := r.readHeader(); err == nil {
			readAll(t, junk)
		}

		// Junk that starts a frame with the right marker must not hide other frames.
		before, after := whole[:ends[0]], whole[ends[0]:]
		alone, _ := readAll(t, slices.Concat(before, junk))
		payloads, _ := readAll(t, slices.Concat(before, junk, after))
		if want := append(alone, "second", strings.Repeat("third", 100)); !slices.Equal(payloads, want) {
			t.Fatalf("between frames: %q, want %q", payloads, want)
		}
	})
}
