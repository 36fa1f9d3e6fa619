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

// crashDirVariable makes the test binary save calls in that directory until it
// is killed.
const crashDirVariable = "SQLSTORE_TEST_CRASH_DIR"

// crashReport is a call whose body can be told from its key.
func crashReport(key string) storage.ReceivedCDR {
	return storage.ReceivedCDR{
		Call: storage.Call{
			Key: key, CallID: key, Tracker: "sales", DID: "+97148880001", Caller: "+97155" + key, Result: storage.Missed,
			StartedAt: time.Now(), ReceivedAt: time.Now(),
		},
		Source: "endCall",
		Raw:    bytes.Repeat([]byte(key+";"), 300),
	}
}

// saveUntilKilled saves calls from several goroutines, with decisions in
// between, and prints the key of each call once it is acknowledged.
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
				r := crashReport(key)
				d := storage.Decision{ID: "d-" + key, CallID: key, At: time.Now(), Tracker: "sales", Route: "otherwise"}
				_, err := s.SaveCall(context.Background(), r)
				if err == nil {
					err = s.RecordDecisions(context.Background(), []storage.Decision{d})
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				fmt.Fprintln(os.Stdout, key) // one write, so lines stay whole
			}
		})
	}
	wg.Wait()
}

func TestAcknowledgedCallsSurviveKill(t *testing.T) {
	dir := t.TempDir()
	acknowledged := make(map[string]bool)
	for _, after := range []int{1, 40, 75} { // acknowledged calls until the kill
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
		if len(revisions) != 1 || !bytes.Equal(revisions[0].Raw, crashReport(c.Key).Raw) {
			t.Errorf("%s: the body is not what was sent", c.Key)
		}
		if acknowledged[c.Key] && c.Decision != "d-"+c.Key {
			t.Errorf("%s: decision %q, want its own", c.Key, c.Decision)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for key := range acknowledged {
		if found[key] != 1 {
			t.Errorf("%s was acknowledged and is there %d times", key, found[key])
		}
	}
}

// killedAfter runs a saving process, kills it once it has acknowledged that
// many calls, and returns all that it acknowledged.
func killedAfter(t *testing.T, dir string, calls int) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self)
	child.Env = append(os.Environ(), crashDirVariable+"="+filepath.Clean(dir))
	var complaints strings.Builder
	child.Stderr = &complaints
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
			break // a line without its end was not acknowledged in full
		}
		keys = append(keys, strings.TrimSuffix(line, "\n"))
		if len(keys) == calls {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := child.Wait(); err == nil || complaints.Len() > 0 {
		t.Fatalf("the saving process ended by itself: %v\n%s", err, complaints.String())
	}
	if len(keys) < calls {
		t.Fatalf("%d calls acknowledged, want %d", len(keys), calls)
	}
	return keys
}
