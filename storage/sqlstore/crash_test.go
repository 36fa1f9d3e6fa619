package sqlstore

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"calltracker/storage"
)

// crashDirVariable is the environment variable that makes the test binary save calls
// in the given directory until it is killed.
const crashDirVariable = "SQLSTORE_TEST_CRASH_DIR"

// crashCDR returns a CDR whose body follows from its key.
func crashCDR(key string) storage.ReceivedCDR {
	return storage.ReceivedCDR{
		Call: storage.Call{
			Key: key, CallID: key, Tracker: "sales", DID: "+97148880001", Caller: "+97155" + key, Result: storage.Missed,
			StartedAt: time.Now(), ReceivedAt: time.Now(),
		},
		Source: "endCall",
		Raw:    bytes.Repeat([]byte(key+";"), 300),
	}
}

// saveUntilKilled saves calls and decisions from several goroutines. It prints the key
// of each call when it is acknowledged.
func saveUntilKilled(dir string) {
	s, err := New(Options{DataDir: dir})
	if err == nil {
		err = s.Prepare(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var wg sync.WaitGroup
	for writer := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				key := fmt.Sprintf("%d-%d-%d", os.Getpid(), writer, n)
				r := crashCDR(key)
				d := storage.Decision{ID: "d-" + key, CallID: key, At: time.Now(), Tracker: "sales", Route: "otherwise"}
				_, err := s.SaveCall(context.Background(), r)
				if err == nil {
					err = s.RecordDecisions(context.Background(), []storage.Decision{d})
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Fprintln(os.Stdout, key) // one write per line, so lines do not mix
			}
		})
	}
	wg.Wait()
}

func TestAcknowledgedCallsSurviveKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := make(map[string]bool)
	for _, after := range []int{1, 40, 75} { // calls acknowledged before the kill
		for _, key := range killedAfter(t, dir, after) {
			acknowledged[key] = true
		}
	}

	s := open(t, dir)
	var verdict string
	if err := s.db.Load().read.QueryRowContext(t.Context(), "PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
		t.Errorf("integrity check: %s, %v", verdict, err)
	}
	found := make(map[string]int)
	err := s.EachCall(t.Context(), storage.CallFilter{}, func(c storage.Call) error {
		found[c.Key]++
		_, revisions, err := s.Call(t.Context(), c.ID)
		if err != nil {
			return err
		}
		if len(revisions) != 1 || !bytes.Equal(revisions[0].Raw, crashCDR(c.Key).Raw) {
			t.Errorf("%s: the stored body differs from the CDR", c.Key)
		}
		if acknowledged[c.Key] && c.Decision != "d-"+c.Key {
			t.Errorf("%s: decision %q, want the one recorded for the call", c.Key, c.Decision)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for key := range acknowledged {
		if found[key] != 1 {
			t.Errorf("acknowledged call %s is stored %d times, want once", key, found[key])
		}
	}
}

// killedAfter runs a process that saves calls and kills it when it has acknowledged
// the given number. It returns the keys of all acknowledged calls.
func killedAfter(t *testing.T, dir string, calls int) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), crashDirVariable+"="+filepath.Clean(dir))
	var stderr strings.Builder
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var keys []string
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			break // an incomplete line is not an acknowledgment
		}
		keys = append(keys, strings.TrimSuffix(line, "\n"))
		if len(keys) == calls {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil || stderr.Len() > 0 {
		t.Fatalf("the process ended before it was killed: %v\n%s", err, stderr.String())
	}
	if len(keys) < calls {
		t.Fatalf("%d calls acknowledged, want %d", len(keys), calls)
	}
	return keys
}
