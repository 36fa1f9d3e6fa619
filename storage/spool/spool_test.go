package spool

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(appendDirVariable); dir != "" {
		appendUntilKilled(dir)
	}
	if dir := os.Getenv(fullDirVariable); dir != "" {
		appendUntilFull(dir)
	}
	goleak.VerifyTestMain(m)
}

// unflushed stands for flushing where a test is not about it: many small tests
// would spend their time waiting for the disk.
func unflushed(*os.File) error { return nil }

func openWith(t testing.TB, o Options, flush func(*os.File) error) *Spool {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "spool")
	}
	s, err := open(o, flush)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func reopen(t testing.TB, s *Spool) *Spool {
	t.Helper()
	closeSpool(t, s)
	return openWith(t, Options{Dir: s.dir, MaxSegment: s.maxSegment}, s.sync)
}

func closeSpool(t testing.TB, s *Spool) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func appendAll(t testing.TB, s *Spool, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if err := s.Append(t.Context(), []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
}

// drained runs Drain for an hour of a synctest bubble, which is as long as it
// takes to have nothing left to do, and returns what came, in order.
func drained(t testing.TB, s *Spool) []string {
	t.Helper()
	got := []string{}
	drainFor(t, s, time.Hour, func(_ context.Context, payloads [][]byte) error {
		for _, p := range payloads {
			got = append(got, string(p))
		}
		return nil
	})
	return got
}

func drainFor(t testing.TB, s *Spool, d time.Duration, keep func(context.Context, [][]byte) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := s.Drain(ctx, keep); err != nil {
		t.Fatal(err)
	}
}

func expect[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// files lists the segments in the folder and what is in quarantine, by the end
// of its name.
func files(t testing.TB, s *Spool) (segments []string, quarantine map[string][]string) {
	t.Helper()
	quarantine = map[string][]string{}
	for _, pattern := range []string{"*", "quarantine/*"} {
		paths, err := filepath.Glob(filepath.Join(s.dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			name := filepath.Base(path)
			if name == lockName || name == quarantineName {
				continue
			}
			if pattern == "*" {
				segments = append(segments, name)
				continue
			}
			content, err := os.ReadFile(path)
			if err != nil && !errors.Is(err, syscall.EISDIR) {
				t.Fatal(err)
			}
			quarantine[filepath.Ext(name)] = append(quarantine[filepath.Ext(name)], string(content))
		}
	}
	return segments, quarantine
}

func records(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`{"callID":"c-%d","note":"%s"}`, i, strings.Repeat("x", i%50))
	}
	return all
}

func TestRecordsComeInOrder(t *testing.T) {
	tests := []struct {
		name       string
		maxSegment int64
		records    int
		reopened   bool
	}{
		{name: "none"},
		{name: "one", records: 1},
		{name: "several batches", records: 3*drainFrames + 5},
		{name: "several segments", maxSegment: 500, records: 200},
		{name: "a segment for each", maxSegment: 1, records: 20},
		{name: "left by an earlier process", records: 10, reopened: true},
		{name: "several segments left by an earlier process", maxSegment: 500, records: 100, reopened: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openWith(t, Options{MaxSegment: test.maxSegment}, unflushed)
				want := records(test.records)
				appendAll(t, s, want...)
				if test.reopened {
					s = reopen(t, s)
					want = append(want, "later")
					appendAll(t, s, "later")
				}
				expect(t, "records", drained(t, s), append([]string{}, want...))
				expect(t, "drained", s.Stats(), Stats{Drained: int64(len(want))})
				segments, quarantine := files(t, s)
				if len(segments)+len(quarantine) > 0 {
					t.Errorf("left behind: %v, %v", segments, quarantine)
				}
			})
		})
	}
}

func TestPayloads(t *testing.T) {
	segmentCopy := appendFrame(segmentHead(), marker{1, 2, 3}, time.Now(), []byte("inner"))
	tests := []struct {
		name    string
		payload []byte
		err     error
	}{
		{name: "empty", payload: []byte{}},
		{name: "one byte", payload: []byte{0}},
		{name: "a segment", payload: segmentCopy},
		{name: "larger than the window of the reader", payload: bytes.Repeat([]byte("abc"), windowSize)},
		{name: "largest", payload: bytes.Repeat([]byte{0xfe}, MaxPayload)},
		{name: "too large", payload: make([]byte, MaxPayload+1), err: ErrTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openWith(t, Options{}, unflushed)
				err := s.Append(t.Context(), test.payload)
				if !errors.Is(err, test.err) {
					t.Fatalf("Append: %v, want %v", err, test.err)
				}
				want := []string{"next"}
				if err == nil {
					want = []string{string(test.payload), "next"}
				}
				appendAll(t, s, "next")
				s = reopen(t, s)
				if got := drained(t, s); !slices.Equal(got, want) {
					t.Errorf("%d records came, or not as they were", len(got))
				}
			})
		})
	}
}

func TestFolderBelongsToOne(t *testing.T) {
	s := openWith(t, Options{}, unflushed)
	if _, err := Open(Options{Dir: s.dir}); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("second Open: %v", err)
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "mode", info.Mode().Perm(), os.FileMode(0o700))
	closeSpool(t, s)
	again := openWith(t, Options{Dir: s.dir}, unflushed)
	appendAll(t, again, "a")
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: file}); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("a file for a folder: %v", err)
	}
	want := errors.New("no")
	if _, err := open(Options{Dir: t.TempDir()}, func(*os.File) error { return want }); !errors.Is(err, want) {
		t.Errorf("a folder that cannot be flushed: %v", err)
	}
}

func TestClosed(t *testing.T) {
	s := openWith(t, Options{}, unflushed)
	appendAll(t, s, "a")
	closeSpool(t, s)
	closeSpool(t, s)
	for name, err := range map[string]error{
		"Append": s.Append(t.Context(), nil),
		"Drain":  s.Drain(t.Context(), func(context.Context, [][]byte) error { return nil }),
		"Check":  s.Check(),
	} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().UTC()
		now := start
		o := Options{Dir: filepath.Join(t.TempDir(), "spool"), MaxSegment: 100, Now: func() time.Time { return now }}
		s := openWith(t, o, unflushed)
		expect(t, "empty", s.Stats(), Stats{})
		for range 5 {
			appendAll(t, s, "0123456789")
			now = now.Add(time.Minute)
		}
		waiting := Stats{Frames: 5, Bytes: 5 * (frameHead + 10), Oldest: start}
		expect(t, "waiting", s.Stats(), waiting)
		closeSpool(t, s)
		s = openWith(t, o, unflushed)
		expect(t, "waiting after a restart", s.Stats(), waiting)

		calls := 0
		drainFor(t, s, time.Minute, func(context.Context, [][]byte) error {
			if calls++; calls > 1 { // the first hands over a whole segment, of two records
				return errAway
			}
			return nil
		})
		left := Stats{Frames: 3, Bytes: 3 * (frameHead + 10), Oldest: start.Add(2 * time.Minute), Drained: 2, LastError: errAway.Error()}
		expect(t, "partly drained", s.Stats(), left)
		drained(t, s)
		expect(t, "drained", s.Stats(), Stats{Drained: 5})
	})
}

func TestCheck(t *testing.T) {
	var failure error
	s := openWith(t, Options{}, func(*os.File) error { return failure })
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	for _, test := range []struct{ cause, want error }{
		{syscall.EIO, syscall.EIO},
		{syscall.ENOSPC, ErrFull},
		{syscall.EDQUOT, ErrFull},
	} {
		failure = test.cause
		if err := s.Check(); !errors.Is(err, test.want) || !errors.Is(err, test.cause) {
			t.Errorf("%v: %v", test.cause, err)
		}
	}
	failure = nil
	if segments, _ := files(t, s); len(segments) > 0 {
		t.Errorf("left behind: %v", segments)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestLeftoversOfKilledProcessesGo(t *testing.T) {
	s := openWith(t, Options{}, unflushed)
	foreign := []string{"notes.txt", "1-0123456789abcdef.spool", "00000000000000000001-0123456789ABCDEF.spool", "00000000000000000001.spool"}
	for _, name := range append(slices.Clone(foreign), "probe-123", "quarantine/a.rejected"+partial) {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = reopen(t, s)
	slices.Sort(foreign)
	left, quarantine := files(t, s)
	expect(t, "files", left, foreign)
	expect(t, "quarantine", quarantine, map[string][]string{})
	expect(t, "stock", s.Stats(), Stats{})
}

// flushes counts the flushes of files and of folders, and can hold or fail them.
type flushes struct {
	mutex          sync.Mutex
	files, folders int
	gate           func(f *os.File, folder bool) error // called outside the mutex
}

func (c *flushes) flush(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c.mutex.Lock()
	if info.IsDir() {
		c.folders++
	} else {
		c.files++
	}
	gate := c.gate
	c.mutex.Unlock()
	if gate != nil {
		return gate(f, info.IsDir())
	}
	return nil
}

func TestParallelAppendsShareFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const appends = 64
		open := make(chan struct{})
		c := &flushes{}
		s := openWith(t, Options{}, c.flush)
		c.gate = func(_ *os.File, folder bool) error {
			if !folder {
				<-open
			}
			return nil
		}
		before := c.folders
		errs := make(chan error, appends)
		for i := range appends {
			go func() { errs <- s.Append(t.Context(), fmt.Appendf(nil, "%d", i)) }()
		}
		synctest.Wait() // one is being flushed, all others wait
		expect(t, "acknowledged before the flush", len(errs), 0)
		close(open)
		for range appends {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if c.files > 2 {
			t.Errorf("%d flushes for %d appends that came together", c.files, appends)
		}
		expect(t, "flushes of the folder", c.folders-before, 1)
		got := drained(t, s)
		slices.Sort(got)
		if got = slices.Compact(got); len(got) != appends {
			t.Errorf("%d different records came", len(got))
		}
	})
}

func TestAppendHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		c := &flushes{}
		s := openWith(t, Options{}, c.flush)
		c.gate = func(_ *os.File, folder bool) error {
			if !folder {
				<-open
			}
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- s.Append(ctx, []byte("being written")) }()
		synctest.Wait()
		go func() { second <- s.Append(ctx, []byte("waiting")) }()
		synctest.Wait()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("the one that waits: %v", err)
		}
		if err := s.Append(ctx, []byte("late")); !errors.Is(err, context.Canceled) {
			t.Errorf("one that comes too late: %v", err)
		}
		close(open)
		if err := <-first; err != nil {
			t.Errorf("the one that is written: %v", err)
		}
		appendAll(t, s, "next")
		expect(t, "records", drained(t, s), []string{"being written", "next"})
	})
}

func TestCloseFailsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		c := &flushes{}
		s := openWith(t, Options{}, c.flush)
		c.gate = func(_ *os.File, folder bool) error {
			if !folder {
				<-open
			}
			return nil
		}
		first, closed := make(chan error, 1), make(chan error, 1)
		go func() { first <- s.Append(t.Context(), []byte("being written")) }()
		synctest.Wait()
		go func() { closed <- s.Close() }()
		synctest.Wait()
		expect(t, "closed during a write", len(closed), 0)
		close(open)
		if err := errors.Join(<-first, <-closed); err != nil {
			t.Error(err)
		}
		s = openWith(t, Options{Dir: s.dir}, unflushed)
		expect(t, "records", drained(t, s), []string{"being written"})
	})
}

func TestFailedFlush(t *testing.T) {
	tests := []struct {
		name    string
		cause   error
		folder  bool // the folder's flush fails, not the file's
		records []string
		full    bool
	}{
		{name: "of a new file", cause: syscall.EIO},
		{name: "of a new file, full", cause: syscall.ENOSPC, full: true},
		{name: "of the folder", cause: syscall.EIO, folder: true},
		{name: "of the folder, quota", cause: syscall.EDQUOT, folder: true, full: true},
		{name: "of a file with records", cause: syscall.EIO, records: []string{"a", "b"}},
		{name: "of a file with records, full", cause: syscall.ENOSPC, records: []string{"a", "b"}, full: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &flushes{}
				s := openWith(t, Options{}, c.flush)
				appendAll(t, s, test.records...)
				before, _ := files(t, s)
				c.gate = func(_ *os.File, folder bool) error {
					if folder == test.folder {
						return test.cause
					}
					return nil
				}
				for range 3 {
					err := s.Append(t.Context(), []byte("not kept"))
					if !errors.Is(err, test.cause) || errors.Is(err, ErrFull) != test.full {
						t.Errorf("Append: %v", err)
					}
				}
				if s.Stats().LastError == "" {
					t.Error("the statistics do not tell")
				}
				c.gate = nil
				after, _ := files(t, s)
				expect(t, "files", after, before)
				appendAll(t, s, "c")
				expect(t, "error afterwards", s.Stats().LastError, "")
				if now, _ := files(t, s); len(now) != len(before)+1 {
					t.Errorf("after a failed flush the same file is used: %v", now)
				}
				s = reopen(t, s)
				expect(t, "records", drained(t, s), append(slices.Clone(test.records), "c"))
			})
		})
	}
}

// TestFullBatch has a batch that finds no room, and records in it that do.
func TestFullBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		c := &flushes{}
		s := openWith(t, Options{}, c.flush)
		c.gate = func(f *os.File, folder bool) error {
			if folder {
				return nil
			}
			<-open
			if info, err := f.Stat(); err != nil || info.Size() > 1000 {
				return errors.Join(syscall.ENOSPC, err)
			}
			return nil
		}
		var all sync.WaitGroup
		for i, size := range []int{10, 10, 5000, 10, 10} {
			all.Go(func() {
				err := s.Append(t.Context(), bytes.Repeat([]byte{byte('a' + i)}, size))
				if errors.Is(err, ErrFull) != (size == 5000) {
					t.Errorf("%d bytes: %v", size, err)
				}
			})
			synctest.Wait()
		}
		close(open)
		all.Wait()
		expect(t, "records", drained(t, s), []string{"aaaaaaaaaa", "bbbbbbbbbb", "dddddddddd", "eeeeeeeeee"})
	})
}
