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

// noFlush replaces flushing in tests that are not about it: many small tests would
// spend their time waiting for the disk.
func noFlush(*os.File) error { return nil }

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

// drained runs Drain for an hour of synctest time, which is enough to drain
// everything, and returns the payloads in order.
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

func drainFor(t testing.TB, s *Spool, d time.Duration, save func(context.Context, [][]byte) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := s.Drain(ctx, save); err != nil {
		t.Fatal(err)
	}
}

func expect[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// files returns the names of the segments, and the contents of the quarantine
// files by file extension.
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

func TestRecordsAreDeliveredInOrder(t *testing.T) {
	tests := []struct {
		name       string
		maxSegment int64
		records    int
		reopen     bool
	}{
		{name: "none"},
		{name: "one", records: 1},
		{name: "several batches", records: 3*maxDrainRecords + 5},
		{name: "several segments", maxSegment: 500, records: 200},
		{name: "one segment per record", maxSegment: 1, records: 20},
		{name: "left by an earlier process", records: 10, reopen: true},
		{name: "several segments left by an earlier process", maxSegment: 500, records: 100, reopen: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openWith(t, Options{MaxSegment: test.maxSegment}, noFlush)
				want := records(test.records)
				appendAll(t, s, want...)
				if test.reopen {
					s = reopen(t, s)
					want = append(want, "later")
					appendAll(t, s, "later")
				}
				expect(t, "records", drained(t, s), append([]string{}, want...))
				expect(t, "statistics", s.Stats(), Stats{Drained: int64(len(want))})
				segments, quarantine := files(t, s)
				if len(segments)+len(quarantine) > 0 {
					t.Errorf("remaining files: %v, in quarantine: %v", segments, quarantine)
				}
			})
		})
	}
}

func TestPayloads(t *testing.T) {
	segmentCopy := appendFrame(segmentHeader(), marker{1, 2, 3}, time.Now(), []byte("inner"))
	tests := []struct {
		name    string
		payload []byte
		err     error
	}{
		{name: "empty", payload: []byte{}},
		{name: "one byte", payload: []byte{0}},
		{name: "a segment", payload: segmentCopy},
		{name: "larger than the reader's window", payload: bytes.Repeat([]byte("abc"), windowSize)},
		{name: "largest", payload: bytes.Repeat([]byte{0xfe}, MaxPayload)},
		{name: "too large", payload: make([]byte, MaxPayload+1), err: ErrTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openWith(t, Options{}, noFlush)
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
					t.Errorf("got %d records, want %d unchanged ones", len(got), len(want))
				}
			})
		})
	}
}

func TestDirectoryIsLocked(t *testing.T) {
	s := openWith(t, Options{}, noFlush)
	if _, err := Open(Options{Dir: s.dir}); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("second Open: %v", err)
	}
	info, err := os.Stat(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "mode", info.Mode().Perm(), os.FileMode(0o700))
	closeSpool(t, s)
	again := openWith(t, Options{Dir: s.dir}, noFlush)
	appendAll(t, again, "a")
}

func TestOpenFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: file}); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("Open on a file: %v", err)
	}
	want := errors.New("flush failed")
	if _, err := open(Options{Dir: t.TempDir()}, func(*os.File) error { return want }); !errors.Is(err, want) {
		t.Errorf("Open on a directory that cannot be flushed: %v", err)
	}
}

func TestClosed(t *testing.T) {
	s := openWith(t, Options{}, noFlush)
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
		s := openWith(t, o, noFlush)
		expect(t, "empty", s.Stats(), Stats{})
		for range 5 {
			appendAll(t, s, "0123456789")
			now = now.Add(time.Minute)
		}
		waiting := Stats{Records: 5, Bytes: 5 * (frameHeaderSize + 10), Oldest: start}
		expect(t, "waiting", s.Stats(), waiting)
		closeSpool(t, s)
		s = openWith(t, o, noFlush)
		expect(t, "waiting after a restart", s.Stats(), waiting)

		calls := 0
		drainFor(t, s, time.Minute, func(context.Context, [][]byte) error {
			if calls++; calls > 1 { // the first call saves a whole segment of two records
				return errDatabaseDown
			}
			return nil
		})
		remaining := Stats{Records: 3, Bytes: 3 * (frameHeaderSize + 10), Oldest: start.Add(2 * time.Minute), Drained: 2, LastError: errDatabaseDown.Error()}
		expect(t, "partly drained", s.Stats(), remaining)
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
		t.Errorf("remaining files: %v", segments)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without the directory: %v", err)
	}
}

func TestOpenRemovesTemporaryFiles(t *testing.T) {
	s := openWith(t, Options{}, noFlush)
	foreign := []string{"notes.txt", "1-0123456789abcdef.spool", "00000000000000000001-0123456789ABCDEF.spool", "00000000000000000001.spool"}
	for _, name := range append(slices.Clone(foreign), "probe-123", "quarantine/a.rejected"+partial) {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte("text"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = reopen(t, s)
	slices.Sort(foreign)
	remaining, quarantine := files(t, s)
	expect(t, "files", remaining, foreign)
	expect(t, "quarantine", quarantine, map[string][]string{})
	expect(t, "statistics", s.Stats(), Stats{})
}

// flushCounter counts the flushes of files and directories. Its gate can delay or
// fail them.
type flushCounter struct {
	mu          sync.Mutex
	files, dirs int
	gate        func(f *os.File, dir bool) error // called without the mutex
}

func (c *flushCounter) flush(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	c.mu.Lock()
	if info.IsDir() {
		c.dirs++
	} else {
		c.files++
	}
	gate := c.gate
	c.mu.Unlock()
	if gate != nil {
		return gate(f, info.IsDir())
	}
	return nil
}

func TestParallelAppendsShareFlushes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const appends = 64
		unblock := make(chan struct{})
		c := &flushCounter{}
		s := openWith(t, Options{}, c.flush)
		c.gate = func(_ *os.File, dir bool) error {
			if !dir {
				<-unblock
			}
			return nil
		}
		before := c.dirs
		errs := make(chan error, appends)
		for i := range appends {
			go func() { errs <- s.Append(t.Context(), fmt.Appendf(nil, "%d", i)) }()
		}
		synctest.Wait() // one append is being flushed, the others wait
		expect(t, "acknowledged before the flush", len(errs), 0)
		close(unblock)
		for range appends {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		if c.files > 2 {
			t.Errorf("%d flushes for %d concurrent appends", c.files, appends)
		}
		expect(t, "directory flushes", c.dirs-before, 1)
		got := drained(t, s)
		slices.Sort(got)
		if got = slices.Compact(got); len(got) != appends {
			t.Errorf("got %d different records, want %d", len(got), appends)
		}
	})
}

func TestAppendHonorsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unblock := make(chan struct{})
		c := &flushCounter{}
		s := openWith(t, Options{}, c.flush)
		c.gate = func(_ *os.File, dir bool) error {
			if !dir {
				<-unblock
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
			t.Errorf("waiting Append: %v", err)
		}
		if err := s.Append(ctx, []byte("late")); !errors.Is(err, context.Canceled) {
			t.Errorf("Append after cancel: %v", err)
		}
		close(unblock)
		if err := <-first; err != nil {
			t.Errorf("Append that is being written: %v", err)
		}
		appendAll(t, s, "next")
		expect(t, "records", drained(t, s), []string{"being written", "next"})
	})
}

func TestCloseWaitsForWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unblock := make(chan struct{})
		c := &flushCounter{}
		s := openWith(t, Options{}, c.flush)
		c.gate = func(_ *os.File, dir bool) error {
			if !dir {
				<-unblock
			}
			return nil
		}
		first, closed := make(chan error, 1), make(chan error, 1)
		go func() { first <- s.Append(t.Context(), []byte("being written")) }()
		synctest.Wait()
		go func() { closed <- s.Close() }()
		synctest.Wait()
		expect(t, "Close calls that returned during a write", len(closed), 0)
		close(unblock)
		if err := errors.Join(<-first, <-closed); err != nil {
			t.Error(err)
		}
		s = openWith(t, Options{Dir: s.dir}, noFlush)
		expect(t, "records", drained(t, s), []string{"being written"})
	})
}

func TestFailedFlush(t *testing.T) {
	tests := []struct {
		name    string
		cause   error
		dir     bool // the flush of the directory fails, not that of the file
		records []string
		full    bool
	}{
		{name: "new file", cause: syscall.EIO},
		{name: "new file, disk full", cause: syscall.ENOSPC, full: true},
		{name: "directory", cause: syscall.EIO, dir: true},
		{name: "directory, quota exceeded", cause: syscall.EDQUOT, dir: true, full: true},
		{name: "file with records", cause: syscall.EIO, records: []string{"a", "b"}},
		{name: "file with records, disk full", cause: syscall.ENOSPC, records: []string{"a", "b"}, full: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &flushCounter{}
				s := openWith(t, Options{}, c.flush)
				appendAll(t, s, test.records...)
				before, _ := files(t, s)
				c.gate = func(_ *os.File, dir bool) error {
					if dir == test.dir {
						return test.cause
					}
					return nil
				}
				for range 3 {
					err := s.Append(t.Context(), []byte("not stored"))
					if !errors.Is(err, test.cause) || errors.Is(err, ErrFull) != test.full {
						t.Errorf("Append: %v", err)
					}
				}
				if s.Stats().LastError == "" {
					t.Error("LastError is empty")
				}
				c.gate = nil
				after, _ := files(t, s)
				expect(t, "files", after, before)
				appendAll(t, s, "c")
				expect(t, "LastError after a successful append", s.Stats().LastError, "")
				if now, _ := files(t, s); len(now) != len(before)+1 {
					t.Errorf("files after a failed flush: %v, want a new one", now)
				}
				s = reopen(t, s)
				expect(t, "records", drained(t, s), append(slices.Clone(test.records), "c"))
			})
		})
	}
}

// TestFullBatch appends a batch that does not fit, with records that do.
func TestFullBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unblock := make(chan struct{})
		c := &flushCounter{}
		s := openWith(t, Options{}, c.flush)
		c.gate = func(f *os.File, dir bool) error {
			if dir {
				return nil
			}
			<-unblock
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
		close(unblock)
		all.Wait()
		expect(t, "records", drained(t, s), []string{"aaaaaaaaaa", "bbbbbbbbbb", "dddddddddd", "eeeeeeeeee"})
	})
}
