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

var errAway = errors.New("the database is away")

func TestDrainTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{}, unflushed)
		appendAll(t, s, "a", "b", "c")
		outage := time.Now().Add(30 * time.Second)
		var got []string
		var tries []time.Time
		drainFor(t, s, time.Minute, func(_ context.Context, payloads [][]byte) error {
			if time.Now().Before(outage) {
				if len(payloads) == 1 {
					expect(t, "tried", string(payloads[0]), "a")
					tries = append(tries, time.Now())
				}
				return errAway
			}
			for _, p := range payloads {
				got = append(got, string(p))
			}
			return nil
		})
		expect(t, "records", got, []string{"a", "b", "c"})
		var longest time.Duration
		for i := 1; i < len(tries); i++ {
			pause := tries[i].Sub(tries[i-1])
			longest = max(longest, pause)
			if pause < firstPause/2 || pause > longestPause {
				t.Errorf("pause %d: %s", i, pause)
			}
		}
		if longest < longestPause/2 || len(tries) > 30 {
			t.Errorf("%d tries in 30 s, pauses up to %s", len(tries), longest)
		}
	})
}

func TestPausesGrowAndDiffer(t *testing.T) {
	for failures := 1; failures < 100; failures++ {
		whole := min(longestPause, firstPause<<min(failures-1, 20))
		seen := map[time.Duration]bool{}
		for range 20 {
			pause := pauseAfter(failures)
			if pause < whole/2 || pause > whole {
				t.Errorf("after %d failures: %s", failures, pause)
			}
			seen[pause] = true
		}
		if len(seen) < 2 {
			t.Errorf("after %d failures there is one pause", failures)
		}
	}
}

func TestRefusedRecordsHoldNobodyUp(t *testing.T) {
	tests := []struct {
		name    string
		records []string
		kept    []string
		refused []string
	}{
		{name: "alone", records: []string{"bad 1"}, kept: []string{}, refused: []string{"bad 1"}},
		{name: "first", records: []string{"bad 1", "a", "b"}, kept: []string{"a", "b"}, refused: []string{"bad 1"}},
		{name: "last", records: []string{"a", "b", "bad 1"}, kept: []string{"a", "b"}, refused: []string{"bad 1"}},
		{name: "between", records: []string{"a", "bad 1", "b", "bad 2", "c"}, kept: []string{"a", "b", "c"}, refused: []string{"bad 1", "bad 2"}},
		{name: "all", records: []string{"bad 1", "bad 2"}, kept: []string{}, refused: []string{"bad 1", "bad 2"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := openWith(t, Options{}, unflushed)
				appendAll(t, s, test.records...)
				got := []string{}
				drainFor(t, s, time.Minute, func(_ context.Context, payloads [][]byte) error {
					if slices.ContainsFunc(payloads, func(p []byte) bool { return strings.HasPrefix(string(p), "bad") }) {
						return fmt.Errorf("not a record: %w", ErrReject)
					}
					for _, p := range payloads {
						got = append(got, string(p))
					}
					return nil
				})
				expect(t, "kept", got, test.kept)
				_, quarantine := files(t, s)
				expect(t, "quarantine", quarantine, map[string][]string{rejected: test.refused})
				expect(t, "statistics", s.Stats(), Stats{Drained: int64(len(test.kept)), Quarantined: int64(len(test.refused))})
				s = reopen(t, s)
				expect(t, "come again", drained(t, s), []string{})
			})
		})
	}
}

// TestFullQuarantine has no room for what is set aside: nothing is lost, and the
// others still come.
func TestFullQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &flushes{}
		s := openWith(t, Options{}, c.flush)
		appendAll(t, s, "a", "bad", "b")
		c.gate = func(f *os.File, folder bool) error {
			if !folder && strings.Contains(f.Name(), quarantineName) {
				return syscall.ENOSPC
			}
			return nil
		}
		var got []string
		drainFor(t, s, time.Minute, func(_ context.Context, payloads [][]byte) error {
			if len(payloads) > 1 || string(payloads[0]) == "bad" {
				return ErrReject
			}
			got = append(got, string(payloads[0]))
			return nil
		})
		expect(t, "kept", got, []string{"a", "b"})
		segments, quarantine := files(t, s)
		if len(segments) > 0 || len(quarantine) != 1 || !strings.Contains(quarantine[suffix][0], "bad") {
			t.Errorf("left behind: %v, %v", segments, quarantine)
		}
		expect(t, "statistics", s.Stats(), Stats{Drained: 2, Quarantined: 1})
	})
}

func TestDrainWaitsAndIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{}, unflushed)
		ctx, cancel := context.WithCancel(t.Context())
		came, ended := make(chan string), make(chan error, 1)
		go func() {
			ended <- s.Drain(ctx, func(_ context.Context, payloads [][]byte) error {
				for _, p := range payloads {
					came <- string(p)
				}
				return nil
			})
		}()
		for _, wait := range []time.Duration{0, idle / 2, 10 * idle} { // into an empty spool, a drained segment, an empty spool
			<-time.After(wait)
			start := time.Now()
			appendAll(t, s, wait.String())
			expect(t, "came", <-came, wait.String())
			expect(t, "after", time.Since(start), 0)
		}
		if err := s.Drain(ctx, nil); !errors.Is(err, ErrDraining) {
			t.Errorf("second Drain: %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestNothingIsPolled has a bubble deadlock if a timer were left running.
func TestNothingIsPolled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{}, unflushed)
		appendAll(t, s, "a")
		expect(t, "records", drained(t, s), []string{"a"})
		start := time.Now()
		ended := make(chan error, 1)
		go func() { ended <- s.Drain(t.Context(), nil) }()
		synctest.Wait()
		closeSpool(t, s)
		if err := <-ended; err != nil {
			t.Error(err)
		}
		expect(t, "waited", time.Since(start), 0)
	})
}

func TestDrainedFilesGoWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &flushes{}
		s := openWith(t, Options{}, c.flush)
		before := c.folders
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		came := make(chan struct{}, 10)
		go func() {
			ended <- s.Drain(ctx, func(context.Context, [][]byte) error {
				came <- struct{}{}
				return nil
			})
		}()
		left := func() int {
			synctest.Wait()
			segments, _ := files(t, s)
			return len(segments)
		}
		for range 3 { // a trickle uses one file
			appendAll(t, s, "a")
			<-came
			expect(t, "files in a trickle", left(), 1)
			<-time.After(idle / 2)
		}
		<-time.After(idle)
		expect(t, "files when idle", left(), 0)
		expect(t, "flushes of the folder", c.folders-before, 2)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestCloseRemovesWhatIsDrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{}, unflushed)
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

func TestCloseEndsDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, backlog := range [][]string{nil, {"a", "b"}} { // it waits for frames, it waits in keep
			s := openWith(t, Options{}, unflushed)
			appendAll(t, s, backlog...)
			ended := make(chan error, 1)
			go func() {
				ended <- s.Drain(t.Context(), func(ctx context.Context, _ [][]byte) error {
					<-ctx.Done()
					return ctx.Err()
				})
			}()
			synctest.Wait()
			closeSpool(t, s)
			if err := <-ended; err != nil {
				t.Error(err)
			}
			s = openWith(t, Options{Dir: s.dir}, unflushed)
			expect(t, "records", drained(t, s), append([]string{}, backlog...))
			expect(t, "error", s.Stats().LastError, "")
		}
	})
}

func TestDrainGoesOnWhereItWasLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{MaxSegment: 200}, unflushed)
		want := records(20)
		appendAll(t, s, want...)
		var got []string
		for len(got) < len(want) {
			ctx, cancel := context.WithCancel(t.Context())
			err := s.Drain(ctx, func(_ context.Context, payloads [][]byte) error {
				if len(payloads) > 1 {
					return errAway
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
		expect(t, "left", drained(t, s), []string{})
	})
}

func TestUnreadableSegments(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, path string)
		want  []string
		aside int
	}{
		{
			name: "fails at every read",
			spoil: func(t *testing.T, path string) {
				if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o700)); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"later"}, aside: 1,
		},
		{
			name: "is gone",
			spoil: func(t *testing.T, path string) {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"later"},
		},
		{
			name: "cannot be opened",
			spoil: func(t *testing.T, path string) {
				if err := errors.Join(os.Remove(path), os.Symlink(path, path)); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{},
		},
	}
	for _, test := range tests {
		for _, when := range []string{"before the start", "while open"} {
			t.Run(test.name+" "+when, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := openWith(t, Options{MaxSegment: 1}, unflushed)
					appendAll(t, s, "a")
					path := s.path(s.segments[0])
					if when == "before the start" {
						closeSpool(t, s)
						test.spoil(t, path)
						s = openWith(t, Options{Dir: s.dir}, unflushed)
					} else {
						test.spoil(t, path)
					}
					appendAll(t, s, "later")
					expect(t, "records", drained(t, s), test.want)
					_, quarantine := files(t, s)
					expect(t, "set aside", len(quarantine[suffix]), test.aside)
					if len(test.want) == 0 {
						// It may be for want of file descriptors, so it is not given up.
						if s.Stats().LastError == "" {
							t.Error("the statistics do not tell")
						}
						if err := os.Remove(path); err != nil {
							t.Fatal(err)
						}
						expect(t, "records afterwards", drained(t, s), []string{"later"})
					}
				})
			})
		}
	}
}

func TestActiveSegmentCutUnderneath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{}, unflushed)
		appendAll(t, s, "a", "b", "c")
		if err := os.Truncate(s.path(s.active), s.active.size-1); err != nil {
			t.Fatal(err)
		}
		expect(t, "records", drained(t, s), []string{"a", "b"})
		_, quarantine := files(t, s)
		expect(t, "set aside", len(quarantine[suffix]), 1)
		appendAll(t, s, "d")
		expect(t, "records", drained(t, s), []string{"d"})
	})
}

func TestNewerVersionIsSetAsideWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{MaxSegment: 1}, unflushed)
		appendAll(t, s, "a", "b")
		path := s.path(s.segments[0])
		closeSpool(t, s)
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		content[len(magic)]++
		copy(content[headSize-4:], checksum(content[:headSize-4]))
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s = openWith(t, Options{Dir: s.dir}, unflushed)
		expect(t, "waiting", s.Stats().Frames, 1)
		expect(t, "records", drained(t, s), []string{"b"})
		_, quarantine := files(t, s)
		expect(t, "quarantine", quarantine, map[string][]string{suffix: {string(content)}})
		if _, err := os.Stat(filepath.Join(s.dir, quarantineName, filepath.Base(path))); err != nil {
			t.Error(err)
		}
	})
}
