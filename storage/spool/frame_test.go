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

// segmentBytes is a segment of these payloads and where each frame ends.
func segmentBytes(payloads ...string) (content []byte, ends []int) {
	content = segmentHead()
	for i, p := range payloads {
		content = appendFrame(content, testMarker, time.Unix(int64(i), 0), []byte(p))
		ends = append(ends, len(content))
	}
	return content, ends
}

// take reads a segment to its end: the payloads in it, and the bytes that are
// no frame, after a check that the pieces cover it without a hole.
func take(t testing.TB, content []byte) (payloads []string, gaps [][]byte) {
	t.Helper()
	r := &reader{src: bytes.NewReader(content), marker: testMarker, end: int64(len(content))}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	for at := r.offset; ; {
		p, err := r.next()
		if errors.Is(err, io.EOF) {
			if at != int64(len(content)) {
				t.Fatalf("the last piece ends at %d of %d", at, len(content))
			}
			return payloads, gaps
		}
		if err != nil {
			t.Fatal(err)
		}
		if p.from != at || p.to <= p.from || p.to > int64(len(content)) || r.offset != p.to {
			t.Fatalf("a piece from %d to %d after one that ended at %d", p.from, p.to, at)
		}
		at = p.to
		if p.gap {
			gaps = append(gaps, content[p.from:p.to])
			continue
		}
		if again := appendFrame(nil, testMarker, p.at, p.payload); !bytes.Equal(again, content[p.from:p.to]) {
			t.Fatalf("the frame at %d is not what is written there", p.from)
		}
		payloads = append(payloads, string(p.payload))
	}
}

func TestDamagedSegments(t *testing.T) {
	// A payload may hold a segment, but nobody outside knows the marker of this one.
	inner := appendFrame(segmentHead(), marker{'g', 'u', 'e', 's', 's'}, time.Unix(0, 0), []byte("never alone"))
	whole, ends := segmentBytes("first", string(inner), "third")
	with := func(from, to int, replacement ...byte) []byte {
		return slices.Concat(whole[:from], replacement, whole[to:])
	}
	longer := bytes.Clone(whole)
	longer[ends[0]+12]++ // the length of the second, which holds what looks like frames
	huge := bytes.Clone(whole)
	huge[ends[0]+15] = 0xff
	tests := []struct {
		name    string
		content []byte
		want    []string
		gaps    []int // their lengths
	}{
		{name: "none", content: whole, want: []string{"first", string(inner), "third"}},
		{name: "nothing in it"},
		{name: "half a head", content: whole[:9], gaps: []int{9}},
		{name: "no frame", content: whole[:headSize]},
		{name: "zeros only", content: make([]byte, 4096), gaps: []int{4096}},
		{name: "zeros at the end", content: append(bytes.Clone(whole), make([]byte, 100000)...), want: []string{"first", string(inner), "third"}, gaps: []int{100000}},
		{name: "zeros for the head", content: with(0, headSize, make([]byte, headSize)...), want: []string{"first", string(inner), "third"}, gaps: []int{headSize}},
		{name: "zeros for the first block", content: with(0, ends[0], make([]byte, ends[0])...), want: []string{string(inner), "third"}, gaps: []int{ends[0]}},
		{name: "torn end", content: whole[:len(whole)-3], want: []string{"first", string(inner)}, gaps: []int{frameHead + 2}},
		{name: "torn head of a frame", content: whole[:ends[1]+10], want: []string{"first", string(inner)}, gaps: []int{10}},
		{name: "longer length", content: longer, want: []string{"first", "third"}, gaps: []int{ends[1] - ends[0]}},
		{name: "impossible length", content: huge, want: []string{"first", "third"}, gaps: []int{ends[1] - ends[0]}},
		{name: "inserted bytes", content: with(ends[0], ends[0], []byte("inserted")...), want: []string{"first", string(inner), "third"}, gaps: []int{8}},
		{name: "inserted marker", content: with(ends[0], ends[0], testMarker[:]...), want: []string{"first", string(inner), "third"}, gaps: []int{8}},
		{name: "removed byte", content: with(ends[0]+30, ends[0]+31), want: []string{"first", "third"}, gaps: []int{ends[1] - ends[0] - 1}},
		{name: "another segment's frames", content: slices.Concat(whole, bytes.ReplaceAll(whole, testMarker[:], []byte("OTHERONE"))), want: []string{"first", string(inner), "third"}, gaps: []int{len(whole)}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			payloads, gaps := take(t, test.content)
			expect(t, "payloads", payloads, test.want)
			var lengths []int
			for _, gap := range gaps {
				lengths = append(lengths, len(gap))
			}
			expect(t, "gaps", lengths, test.gaps)
		})
	}
}

// damages of a whole segment, one for each byte: cut there, or changed.
func damages(content []byte) map[string][][]byte {
	all := map[string][][]byte{}
	for i := range content {
		all["cut"] = append(all["cut"], content[:i])
		for _, mask := range []byte{0x01, 0x80, 0xff} {
			name := fmt.Sprintf("changed by %#x", mask)
			changed := bytes.Clone(content)
			changed[i] ^= mask
			all[name] = append(all[name], changed)
		}
	}
	return all
}

// untouched lists the payloads whose frames do not hold the byte at i, and, of a
// cut, end before it.
func untouched(payloads []string, ends []int, i int, cut bool) []string {
	left := []string{}
	start := headSize
	for n, p := range payloads {
		if ends[n] <= i || (!cut && start > i) {
			left = append(left, p)
		}
		start = ends[n]
	}
	return left
}

func TestDamageAtEveryByte(t *testing.T) {
	payloads := []string{"first", "", string(testMarker[:5]), "fourth with more text", "\x00\x00\x00", "last"}
	content, ends := segmentBytes(payloads...)
	for name, damaged := range damages(content) {
		for i, bad := range damaged {
			got, _ := take(t, bad)
			if want := untouched(payloads, ends, i, name == "cut"); !slices.Equal(got, want) {
				t.Errorf("%s at %d: got %q, want %q", name, i, got, want)
			}
		}
	}
}

// TestSpoolWithDamageAtEveryByte does the same through the front door, with
// segments before and behind.
func TestSpoolWithDamageAtEveryByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		payloads := []string{"first", "second", "third"}
		content, ends := segmentBytes(payloads...)
		for name, damaged := range damages(content) {
			if name != "cut" && name != "changed by 0xff" {
				continue
			}
			for i, bad := range damaged {
				s := openWith(t, Options{MaxSegment: 1}, unflushed)
				appendAll(t, s, "before", "damaged", "behind")
				path := strings.Replace(s.path(s.segments[1]), fmt.Sprintf("%x", s.segments[1].marker), fmt.Sprintf("%x", testMarker), 1)
				if err := errors.Join(os.Remove(s.path(s.segments[1])), os.WriteFile(path, bad, 0o600)); err != nil {
					t.Fatal(err)
				}
				s = reopen(t, s)
				appendAll(t, s, "new")
				want := slices.Concat([]string{"before"}, untouched(payloads, ends, i, name == "cut"), []string{"behind", "new"})
				if waiting := s.Stats().Frames; waiting != len(want) {
					t.Errorf("%s at %d: %d wait, want %d", name, i, waiting, len(want))
				}
				if got := drained(t, s); !slices.Equal(got, want) {
					t.Errorf("%s at %d: got %q, want %q", name, i, got, want)
				}
				segments, quarantine := files(t, s)
				if len(segments) > 0 {
					t.Errorf("%s at %d: left behind: %v", name, i, segments)
				}
				if name != "cut" && i >= headSize { // what was damaged is there to be looked at
					if len(quarantine[broken]) != 1 || !bytes.Contains(bad, []byte(quarantine[broken][0])) {
						t.Errorf("%s at %d: quarantine %q", name, i, quarantine)
					}
				}
				closeSpool(t, s)
			}
		}
	})
}

// sparse is a large file with nothing but zeros between its parts.
type sparse struct {
	parts map[int64][]byte
	size  int64
}

func (f sparse) ReadAt(b []byte, at int64) (int, error) {
	clear(b)
	for start, part := range f.parts {
		from, to := max(at, start), min(at+int64(len(b)), start+int64(len(part)))
		if from < to {
			copy(b[from-at:], part[from-start:to-start])
		}
	}
	return len(b), nil
}

func TestReadingTakesLittleMemory(t *testing.T) {
	frame := appendFrame(nil, testMarker, time.Unix(0, 0), []byte("behind"))
	long := bytes.Clone(frame)
	binary.LittleEndian.PutUint32(long[12:], 200<<20)
	start := int64(256<<20 + 7)
	src := sparse{parts: map[int64][]byte{0: long, start: frame}, size: start + int64(len(frame))}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := &reader{src: src, marker: testMarker, end: src.size}
	gap, err := r.next()
	if err != nil || !gap.gap || gap.to != start {
		t.Fatalf("first: %+v, %v", gap, err)
	}
	p, err := r.next()
	if err != nil || string(p.payload) != "behind" {
		t.Fatalf("second: %+v, %v", p, err)
	}
	runtime.ReadMemStats(&after)
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 1<<20 {
		t.Errorf("%d bytes for a segment of %d", taken, src.size)
	}
}

func TestMarkersAcrossWindowsAreFound(t *testing.T) {
	frame := appendFrame(nil, testMarker, time.Unix(0, 0), []byte("behind"))
	for gap := windowSize - 2*frameHead; gap < windowSize+2*frameHead; gap++ {
		payloads, gaps := take(t, slices.Concat(segmentHead(), make([]byte, gap), frame))
		if !slices.Equal(payloads, []string{"behind"}) || len(gaps) != 1 || len(gaps[0]) != gap {
			t.Errorf("after %d zeros: %q, %d gaps", gap, payloads, len(gaps))
		}
	}
}

// failing is a file with a bad sector.
type failing struct {
	io.ReaderAt
	from, to int64
}

func (f failing) ReadAt(b []byte, at int64) (int, error) {
	if at < f.to && at+int64(len(b)) > f.from {
		n, _ := f.ReaderAt.ReadAt(b[:max(0, f.from-at)], at)
		return n, io.ErrNoProgress
	}
	return f.ReaderAt.ReadAt(b, at)
}

func TestFramesBeforeAnUnreadablePlaceCome(t *testing.T) {
	content, ends := segmentBytes("first", "second", strings.Repeat("third", 30000), "fourth")
	for bad := ends[1]; bad < ends[2]; bad += 1000 {
		src := failing{ReaderAt: bytes.NewReader(content), from: int64(bad), to: int64(bad) + 10}
		r := &reader{src: src, marker: testMarker, end: int64(len(content)), offset: headSize}
		frames, _, err := r.batch()
		if len(frames) != 2 || !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("bad sector at %d: %d frames, %v", bad, len(frames), err)
		}
	}
}

// FuzzRead puts anything into a segment: alone it is taken apart without a hole,
// and between frames it hides none of them.
func FuzzRead(f *testing.F) {
	whole, ends := segmentBytes("first", "second", strings.Repeat("third", 100))
	f.Add(whole)
	f.Add(whole[headSize:])
	f.Add(whole[ends[0] : len(whole)-1])
	f.Add(whole[:ends[0]+12])
	f.Add(testMarker[:])
	f.Add(append(testMarker[:], make([]byte, 40)...))
	f.Add(make([]byte, 100))
	f.Add([]byte(magic))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, junk []byte) {
		r := &reader{src: bytes.NewReader(junk), marker: testMarker, end: int64(len(junk))}
		if err := r.open(); err == nil {
			take(t, junk)
		}

		// Junk that itself begins frames of the right marker may not swallow others.
		before, after := whole[:ends[0]], whole[ends[0]:]
		alone, _ := take(t, slices.Concat(before, junk))
		payloads, _ := take(t, slices.Concat(before, junk, after))
		if want := append(alone, "second", strings.Repeat("third", 100)); !slices.Equal(payloads, want) {
			t.Fatalf("with frames around: %q, want %q", payloads, want)
		}
	})
}
