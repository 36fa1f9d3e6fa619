package spool

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
)

// Each of these makes the test binary another program, working in that folder.
const (
	appendDirVariable = "SPOOL_TEST_APPEND_DIR"
	fullDirVariable   = "SPOOL_TEST_FULL_DIR"
)

// crashPayload has a content and a length that can be told from its key.
func crashPayload(key string) []byte {
	n := 1
	for _, c := range []byte(key) {
		n = n*31 + int(c)
	}
	return bytes.Repeat([]byte(key+";"), 1+n%500)
}

func crashKey(payload []byte) (string, bool) {
	key, _, _ := strings.Cut(string(payload), ";")
	return key, bytes.Equal(payload, crashPayload(key))
}

// child runs what a test binary does as another program, and ends the process.
func child(run func() error) {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

const crashWriters = 4

// appendUntilKilled appends from several goroutines and drains at the same time,
// through a database that is away now and then. It prints what was acknowledged
// and what was handed over.
func appendUntilKilled(dir string) {
	child(func() error {
		s, err := Open(Options{Dir: dir, MaxSegment: 64 << 10})
		if err != nil {
			return err
		}
		failed := make(chan error, crashWriters+1)
		for writer := range crashWriters {
			go func() {
				for n := 0; ; n++ {
					key := fmt.Sprintf("%d-%d-%d", os.Getpid(), writer, n)
					if err := s.Append(context.Background(), crashPayload(key)); err != nil {
						failed <- err
						return
					}
					fmt.Fprintln(os.Stdout, "acknowledged", key) // one write, so lines stay whole
				}
			}()
		}
		go func() {
			failed <- s.Drain(context.Background(), func(_ context.Context, payloads [][]byte) error {
				if rand.IntN(3) == 0 {
					return errAway
				}
				var lines bytes.Buffer
				for _, p := range payloads {
					key, _ := crashKey(p)
					fmt.Fprintln(&lines, "kept", key)
				}
				_, err := os.Stdout.Write(lines.Bytes())
				return err
			})
		}()
		return <-failed
	})
}

func TestAcknowledgedRecordsSurviveKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	var acknowledged, kept []string
	for range 6 {
		for _, line := range killedAfter(t, dir, 1+rand.IntN(400)) {
			verb, key, _ := strings.Cut(line, " ")
			switch verb {
			case "acknowledged":
				acknowledged = append(acknowledged, key)
			case "kept":
				kept = append(kept, key)
			default:
				t.Fatalf("the child said %q", line)
			}
		}
	}
	early := len(kept)
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{Dir: dir}, unflushed)
		for _, p := range drained(t, s) {
			key, whole := crashKey([]byte(p))
			if !whole {
				t.Fatalf("a record that nobody appended: %.60q", p)
			}
			kept = append(kept, key)
		}
	})
	t.Logf("%d acknowledged, %d handed over before the kills, %d after", len(acknowledged), early, len(kept)-early)

	first := map[string]int{}
	last := map[string]int{} // by process and writer
	for _, key := range kept {
		if first[key]++; first[key] > 1 {
			continue
		}
		var process, writer, n int
		if _, err := fmt.Sscanf(key, "%d-%d-%d", &process, &writer, &n); err != nil {
			t.Fatal(err)
		}
		line := fmt.Sprintf("%d-%d", process, writer)
		if previous, known := last[line]; known && previous > n {
			t.Errorf("%s came after %d of the same writer", key, previous)
		}
		last[line] = n
	}
	for _, key := range acknowledged {
		if first[key] == 0 {
			t.Errorf("%s was acknowledged and is lost", key)
		}
	}
}

// killedAfter runs a child, kills it once it has acknowledged so many records,
// and returns all that it said.
func killedAfter(t *testing.T, dir string, records int) []string {
	t.Helper()
	command, complaints := childCommand(t, appendDirVariable, dir)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // a line without its end was not said
		}
		said = append(said, strings.TrimSuffix(line, "\n"))
		if strings.HasPrefix(line, "acknowledged") {
			if records--; records == 0 {
				if err := command.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := command.Wait(); err == nil || complaints.Len() > 0 {
		t.Fatalf("the child ended by itself: %v\n%s", err, complaints)
	}
	return said
}

func childCommand(t *testing.T, variable, dir string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self)
	command.Env = append(os.Environ(), variable+"="+dir)
	complaints := &strings.Builder{}
	command.Stderr = complaints
	return command, complaints
}

// fullLimit is how large the child's files may grow. A limit needs no rights and
// no file system of its own, and like a full disk it takes the first part of a
// write and refuses the rest.
const fullLimit = 50_000

// appendUntilFull appends until there is no room, sees to it that nothing is
// spoiled by that, and appends again when there is room.
func appendUntilFull(dir string) {
	child(func() error {
		var limit syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
		small := syscall.Rlimit{Cur: fullLimit, Max: limit.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
			return err
		}
		s, err := Open(Options{Dir: dir})
		if err != nil {
			return err
		}
		add := func(key string) error {
			err := s.Append(context.Background(), crashPayload(key))
			if err == nil {
				fmt.Fprintln(os.Stdout, key)
			}
			return err
		}
		n := 0
		for ; err == nil; n++ {
			err = add(fmt.Sprint("before-", n))
		}
		if !errors.Is(err, ErrFull) || !errors.Is(err, syscall.EFBIG) {
			return fmt.Errorf("when full: %w", err)
		}
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if err := s.Append(context.Background(), make([]byte, fullLimit+i)); !errors.Is(err, ErrFull) {
					fmt.Fprintln(os.Stderr, "too large for the rest of the room:", err)
				}
			})
		}
		all.Wait()
		if err := s.Check(); !errors.Is(err, ErrFull) {
			return fmt.Errorf("check when full: %w", err)
		}
		info, err := s.file.Stat()
		if err != nil {
			return err
		}
		if info.Size() != s.active.size {
			return fmt.Errorf("the file has %d bytes, its frames end at %d", info.Size(), s.active.size)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
		return errors.Join(s.Check(), add("after-1"), add("after-2")) // and no Close: it is killed, as it were
	})
}

func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	command, complaints := childCommand(t, fullDirVariable, dir)
	out, err := command.Output()
	if err != nil || complaints.Len() > 0 {
		t.Fatalf("%v\n%s", err, complaints)
	}
	acknowledged := strings.Fields(string(out))
	if len(acknowledged) < 5 || !slices.Contains(acknowledged, "after-2") {
		t.Fatalf("acknowledged: %v", acknowledged)
	}
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{Dir: dir}, unflushed)
		var keys []string
		for _, p := range drained(t, s) {
			key, whole := crashKey([]byte(p))
			if !whole {
				t.Errorf("a record that nobody appended: %.60q", p)
			}
			keys = append(keys, key)
		}
		expect(t, "records", keys, acknowledged)
		expect(t, "statistics", s.Stats(), Stats{Drained: int64(len(acknowledged))})
	})
}
