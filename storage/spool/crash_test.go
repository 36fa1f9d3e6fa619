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

// Each of these variables names a directory and makes the test binary run another
// program in it.
const (
	appendDirVariable = "SPOOL_TEST_APPEND_DIR"
	fullDirVariable   = "SPOOL_TEST_FULL_DIR"
)

// crashPayload returns a payload whose content and length follow from its key.
func crashPayload(key string) []byte {
	n := 1
	for _, c := range []byte(key) {
		n = n*31 + int(c)
	}
	return bytes.Repeat([]byte(key+";"), 1+n%500)
}

// crashKey returns the key of a payload, and whether the payload is complete.
func crashKey(payload []byte) (string, bool) {
	key, _, _ := strings.Cut(string(payload), ";")
	return key, bytes.Equal(payload, crashPayload(key))
}

// runChild runs the test binary as another program and exits the process.
func runChild(run func() error) {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

const crashWriters = 4

// appendUntilKilled appends from several goroutines and drains at the same time,
// into a database that is sometimes unavailable. It prints which records were
// acknowledged and which were saved.
func appendUntilKilled(dir string) {
	runChild(func() error {
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
					fmt.Fprintln(os.Stdout, "acknowledged", key) // a single write keeps lines intact
				}
			}()
		}
		go func() {
			failed <- s.Drain(context.Background(), func(_ context.Context, payloads [][]byte) error {
				if rand.IntN(3) == 0 {
					return errDatabaseDown
				}
				var lines bytes.Buffer
				for _, p := range payloads {
					key, _ := crashKey(p)
					fmt.Fprintln(&lines, "saved", key)
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
	var acknowledged, saved []string
	for range 6 {
		for _, line := range killedAfter(t, dir, 1+rand.IntN(400)) {
			verb, key, _ := strings.Cut(line, " ")
			switch verb {
			case "acknowledged":
				acknowledged = append(acknowledged, key)
			case "saved":
				saved = append(saved, key)
			default:
				t.Fatalf("unexpected output of the child: %q", line)
			}
		}
	}
	early := len(saved)
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{Dir: dir}, noFlush)
		for _, p := range drained(t, s) {
			key, complete := crashKey([]byte(p))
			if !complete {
				t.Fatalf("drained a record that was never appended: %.60q", p)
			}
			saved = append(saved, key)
		}
	})
	t.Logf("%d acknowledged, %d saved before the last kill, %d after", len(acknowledged), early, len(saved)-early)

	count := map[string]int{}
	last := map[string]int{} // by process and writer
	for _, key := range saved {
		if count[key]++; count[key] > 1 {
			continue
		}
		var process, writer, n int
		if _, err := fmt.Sscanf(key, "%d-%d-%d", &process, &writer, &n); err != nil {
			t.Fatal(err)
		}
		source := fmt.Sprintf("%d-%d", process, writer)
		if previous, ok := last[source]; ok && previous > n {
			t.Errorf("%s was drained after record %d of the same writer", key, previous)
		}
		last[source] = n
	}
	for _, key := range acknowledged {
		if count[key] == 0 {
			t.Errorf("%s was acknowledged and lost", key)
		}
	}
}

// killedAfter runs a child, kills it when it has acknowledged a number of records,
// and returns the lines that it printed.
func killedAfter(t *testing.T, dir string, records int) []string {
	t.Helper()
	command, stderr := childCommand(t, appendDirVariable, dir)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var printed []string
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // an incomplete line does not count
		}
		printed = append(printed, strings.TrimSuffix(line, "\n"))
		if strings.HasPrefix(line, "acknowledged") {
			if records--; records == 0 {
				if err := command.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := command.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("the child exited before it was killed: %v\n%s", err, stderr)
	}
	return printed
}

func childCommand(t *testing.T, variable, dir string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self)
	command.Env = append(os.Environ(), variable+"="+dir)
	stderr := &strings.Builder{}
	command.Stderr = stderr
	return command, stderr
}

// fullLimit is the size limit of the child's files. A limit needs no privileges
// and no extra file system. Like a full disk, it accepts the first part of a write
// and fails the rest.
const fullLimit = 50_000

// appendUntilFull appends until there is no space, checks that the files are still
// intact, and appends again when there is space.
func appendUntilFull(dir string) {
	runChild(func() error {
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
			return fmt.Errorf("append when full: %w", err)
		}
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if err := s.Append(context.Background(), make([]byte, fullLimit+i)); !errors.Is(err, ErrFull) {
					fmt.Fprintln(os.Stderr, "record larger than the remaining space:", err)
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
			return fmt.Errorf("file has %d bytes, but its frames end at %d", info.Size(), s.active.size)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
		return errors.Join(s.Check(), add("after-1"), add("after-2")) // no Close, as if the process were killed
	})
}

func TestFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	command, stderr := childCommand(t, fullDirVariable, dir)
	out, err := command.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%v\n%s", err, stderr)
	}
	acknowledged := strings.Fields(string(out))
	if len(acknowledged) < 5 || !slices.Contains(acknowledged, "after-2") {
		t.Fatalf("acknowledged: %v", acknowledged)
	}
	synctest.Test(t, func(t *testing.T) {
		s := openWith(t, Options{Dir: dir}, noFlush)
		var keys []string
		for _, p := range drained(t, s) {
			key, complete := crashKey([]byte(p))
			if !complete {
				t.Errorf("drained a record that was never appended: %.60q", p)
			}
			keys = append(keys, key)
		}
		expect(t, "records", keys, acknowledged)
		expect(t, "statistics", s.Stats(), Stats{Drained: int64(len(acknowledged))})
	})
}
