package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var errDatabaseDown = errors.New("database unavailable")

func TestDrainRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{}, noFlush)
		appendAll(t, s, "a", "b", "c")
		outageEnd := time.Now().Add(30 * time.Second)
		var got []string
		var attempts []time.Time
		drainFor(t, s, time.Minute, func(_ context.Context, payloads [][]byte) error {
			if time.Now().Before(outageEnd) {
				if len(payloads) == 1 {
					expect(t, "payload", string(payloads[0]), "a")
					attempts = append(attempts, time.Now())
				}
				return errDatabaseDown
			}
			for _, p := range payloads {
				got = append(got, string(p))
			}
			return nil
		})
		expect(t, "records", got, []string{"a", "b", "c"})
		var longest time.Duration
		for i := 1; i < len(attempts); i++ {
			pause := attempts[i].Sub(attempts[i-1])
			longest = max(longest, pause)
			if pause < firstPause/2 || pause > maxPause {
				t.Errorf("pause %d: %s", i, pause)
			}
		}
		if longest < maxPause/2 || len(attempts) > 30 {
			t.Errorf("%d attempts in 30 s with pauses of up to %s", len(attempts), longest)
		}
	})
}

func TestPausesGrowAndVary(t *testing.T) {
	for failures := 1; failures < 100; failures++ {
		upper := min(maxPause, firstPause<<min(failures-1, 20))
		seen := map[time.Duration]bool{}
		for range 20 {
			pause := pauseAfter(failures)
			if pause < upper/2 || pause > upper {
				t.Errorf("pause after %d failures is %s, want %s to %s", failures, pause, upper/2, upper)
			}
			seen[pause] = true
		}
		if len(seen) < 2 {
			t.Errorf("pause after %d failures is always the same", failures)
		}
	}
}

func TestRejectedRecordsDoNotBlock(t *testing.T) {
	tests := []struct {
		name     string
		records  []string
		saved    []string
		rejected []string
	}{
		{name: "alone", records: []string{"bad 1"}, saved: []string{}, rejected: []string{"bad 1"}},
		{name: "first", records: []string{"bad 1", "a", "b"}, saved: []string{"a", "b"}, rejected: []string{"bad 1"}},
		{name: "last", records: []string{"a", "b", "bad 1"}, saved: []string{"a", "b"}, rejected: []string{"bad 1"}},
		{name: "in between", records: []string{"a", "bad 1", "b", "bad 2", "c"}, saved: []string{"a", "b", "c"}, rejected: []string{"bad 1", "bad 2"}},
		{name: "all", records: []string{"bad 1", "bad 2"}, saved: []string{}, rejected: []string{"bad 1", "bad 2"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openWith(t, Options{}, noFlush)
				appendAll(t, s, test.records...)
				got := []string{}
				drainFor(t, s, time.Minute, func(_ context.Context, payloads [][]byte) error {
					if slices.ContainsFunc(payloads, func(p []byte) bool { return strings.HasPrefix(string(p), "bad") }) {
						return fmt.Errorf("invalid record: %w", ErrRejected)
					}
					for _, p := range payloads {
						got = append(got, string(p))
					}
					return nil
				})
				expect(t, "saved", got, test.saved)
				_, quarantine := files(t, s)
				expect(t, "quarantine", quarantine, map[string][]string{rejected: test.rejected})
				expect(t, "statistics", s.Stats(), Stats{Drained: int64(len(test.saved)), Quarantined: int64(len(test.rejected))})
				s = reopen(t, s)
				expect(t, "drained after a restart", drained(t, s), []string{})
			})
		})
	}
}

// TestFullQuarantine checks that without space for quarantine files nothing is
// lost and the other records are still delivered.
func TestFullQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &flushCounter{}
		s := openWith(t, Options{}, c.flush)
		appendAll(t, s, "a", "bad", "b")
		c.gate = func(f *os.File, dir bool) error {
			if !dir && strings.Contains(f.Name(), quarantineName) {
				return syscall.ENOSPC
			}
			return nil
		}
		var got []string
		drainFor(t, s, time.Minute, func(_ context.Context, payloads [][]byte) error {
			if len(payloads) > 1 || string(payloads[0]) == "bad" {
				return ErrRejected
			}
			got = append(got, string(payloads[0]))
			return nil
		})
		expect(t, "saved", got, []string{"a", "b"})
		segments, quarantine := files(t, s)
		if len(segments) > 0 || len(quarantine) != 1 || !strings.Contains(quarantine[suffix][0], "bad") {
			t.Errorf("remaining files: %v, in quarantine: %v", segments, quarantine)
		}
		expect(t, "statistics", s.Stats(), Stats{Drained: 2, Quarantined: 1})
	})
}

func TestAppendWakesDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{}, noFlush)
		ctx, cancel := context.WithCancel(t.Context())
		delivered, stopped := make(chan string), make(chan error, 1)
		go func() {
			stopped <- s.Drain(ctx, func(_ context.Context, payloads [][]byte) error {
				for _, p := range payloads {
					delivered <- string(p)
				}
				return nil
			})
		}()
		for _, wait := range []time.Duration{0, idleTimeout / 2, 10 * idleTimeout} { // appends to an empty spool, a drained segment, an empty spool
			<-time.After(wait)
			start := time.Now()
			appendAll(t, s, wait.String())
			expect(t, "payload", <-delivered, wait.String())
			expect(t, "delay", time.Since(start), 0)
		}
		if err := s.Drain(ctx, nil); !errors.Is(err, ErrDraining) {
			t.Errorf("second Drain: %v", err)
		}
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

// TestIdleDrainDoesNotPoll checks that an idle Drain has no timer: then no time
// passes until Close.
func TestIdleDrainDoesNotPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{}, noFlush)
		appendAll(t, s, "a")
		expect(t, "records", drained(t, s), []string{"a"})
		start := time.Now()
		stopped := make(chan error, 1)
		go func() { stopped <- s.Drain(t.Context(), nil) }()
		synctest.Wait()
		closeSpool(t, s)
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		expect(t, "elapsed", time.Since(start), 0)
	})
}

func TestDrainedFilesAreRemovedWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &flushCounter{}
		s := openWith(t, Options{}, c.flush)
		before := c.dirs
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		delivered := make(chan struct{}, 10)
		go func() {
			stopped <- s.Drain(ctx, func(context.Context, [][]byte) error {
				delivered <- struct{}{}
				return nil
			})
		}()
		fileCount := func() int {
			synctest.Wait()
			segments, _ := files(t, s)
			return len(segments)
		}
		for range 3 { // occasional records share one file
			appendAll(t, s, "a")
			<-delivered
			expect(t, "files with occasional records", fileCount(), 1)
			<-time.After(idleTimeout / 2)
		}
		<-time.After(idleTimeout)
		expect(t, "files when idle", fileCount(), 0)
		expect(t, "directory flushes", c.dirs-before, 2)
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

func TestCloseRemovesDrainedFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{}, noFlush)
		appendAll(t, s, "a")
		ctx, cancel := context.WithCancel(t.Context())
		err := s.Drain(ctx, func(context.Context, [][]byte) error {
			cancel()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		before, _ := files(t, s)
		closeSpool(t, s)
		after, _ := files(t, s)
		expect(t, "files before and after", []int{len(before), len(after)}, []int{1, 0})
	})
}

func TestCloseStopsDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, backlog := range [][]string{nil, {"a", "b"}} { // Drain waits for records, or in save
			s := openWith(t, Options{}, noFlush)
			appendAll(t, s, backlog...)
			stopped := make(chan error, 1)
			go func() {
				stopped <- s.Drain(t.Context(), func(ctx context.Context, _ [][]byte) error {
					<-ctx.Done()
					return ctx.Err()
				})
			}()
			synctest.Wait()
			closeSpool(t, s)
			if err := <-stopped; err != nil {
				t.Error(err)
			}
			s = openWith(t, Options{Dir: s.dir}, noFlush)
			expect(t, "records", drained(t, s), append([]string{}, backlog...))
			expect(t, "error", s.Stats().LastError, "")
		}
	})
}

func TestDrainContinuesWhereItStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{MaxSegment: 200}, noFlush)
		want := records(20)
		appendAll(t, s, want...)
		var got []string
		for len(got) < len(want) {
			ctx, cancel := context.WithCancel(t.Context())
			err := s.Drain(ctx, func(_ context.Context, payloads [][]byte) error {
				if len(payloads) > 1 {
					return errDatabaseDown
				}
				got = append(got, string(payloads[0]))
				cancel()
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		expect(t, "records", got, want)
		expect(t, "remaining records", drained(t, s), []string{})
	})
}

func TestUnreadableSegments(t *testing.T) {
	tests := []struct {
		name        string
		damage      func(t *testing.T, path string)
		want        []string
		quarantined int
	}{
		{
			name: "every read fails",
			damage: func(t *testing.T, path string) {
				if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"later"}, quarantined: 1,
		},
		{
			name: "missing",
			damage: func(t *testing.T, path string) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"later"},
		},
		{
			name: "cannot be opened",
			damage: func(t *testing.T, path string) {
				if err := errors.Join(os.Remove(path), os.Symlink(path, path)); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{},
		},
	}
	for _, test := range tests {
		for _, when := range []string{"before Open", "while open"} {
			t.Run(test.name+", "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := openWith(t, Options{MaxSegment: 1}, noFlush)
					appendAll(t, s, "a")
					path := s.path(s.segments[0])
					if when == "before Open" {
						closeSpool(t, s)
						test.damage(t, path)
						s = openWith(t, Options{Dir: s.dir}, noFlush)
					} else {
						test.damage(t, path)
					}
					appendAll(t, s, "later")
					expect(t, "records", drained(t, s), test.want)
					_, quarantine := files(t, s)
					expect(t, "segments in quarantine", len(quarantine[suffix]), test.quarantined)
					if len(test.want) == 0 {
						// The process may have run out of file descriptors, so the file stays.
						if s.Stats().LastError == "" {
							t.Error("LastError is empty")
						}
						if err := os.Remove(path); err != nil {
							t.Fatal(err)
						}
						expect(t, "records once the file is gone", drained(t, s), []string{"later"})
					}
				})
			})
		}
	}
}

func TestActiveSegmentTruncated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{}, noFlush)
		appendAll(t, s, "a", "b", "c")
		if err := os.Truncate(s.path(s.active), s.active.size-1); err != nil {
			t.Fatal(err)
		}
		expect(t, "records", drained(t, s), []string{"a", "b"})
		_, quarantine := files(t, s)
		expect(t, "segments in quarantine", len(quarantine[suffix]), 1)
		appendAll(t, s, "d")
		expect(t, "records", drained(t, s), []string{"d"})
	})
}

func TestNewerVersionGoesToQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{MaxSegment: 1}, noFlush)
		appendAll(t, s, "a", "b")
		path := s.path(s.segments[0])
		closeSpool(t, s)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(magic)]++
		copy(content[headerSize-4:], checksum(content[:headerSize-4]))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s = openWith(t, Options{Dir: s.dir}, noFlush)
		expect(t, "waiting", s.Stats().Records, 1)
		expect(t, "records", drained(t, s), []string{"b"})
		_, quarantine := files(t, s)
		expect(t, "quarantine", quarantine, map[string][]string{suffix: {string(content)}})
		if _, err := os.Stat(filepath.Join(s.dir, quarantineName, filepath.Base(path))); err != nil {
			t.Error(err)
		}
	})
}
