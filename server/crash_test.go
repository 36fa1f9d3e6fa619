package main

import (
	"os"
	"testing"
	"time"

	"calltracker/tools/endurance"
)

// TestNothingAcknowledgedIsLost is the short form of `make crash-test`: the real
// program is killed and stopped, locked out of its database and without room on
// the disk, while clients post.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, database := range endurance.Databases() {
		t.Run(database, func(t *testing.T) {
			verdict, err := endurance.Crash(t.Context(), endurance.CrashOptions{
				Program:  endurance.Program{Command: []string{self}, Environment: []string{asProgram + "=1"}},
				Database: database, Duration: 6 * time.Second, Seed: uint64(time.Now().UnixNano()), Dir: t.TempDir(), Log: t.Output(), Writers: 4,
			})
			t.Logf("\n%s", verdict)
			if err != nil {
				t.Fatal(err)
			}
			if !verdict.OK() {
				t.Error("a promise was broken")
			}
			if verdict.Cycles == 0 || verdict.Spooled == 0 {
				t.Error("the trial tried nothing")
			}
		})
	}
}

// TestADayIsStoredAsItHappened is the whole product end to end: a simulated Ziwo
// that does everything wrong, two replicas on one PostgreSQL and one Redis, one of
// them killed and started again, and reconciliation. `make e2e` is the same with
// more calls.
func TestADayIsStoredAsItHappened(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	verdict, err := endurance.Day(t.Context(), endurance.DayOptions{
		Program: endurance.Program{Command: []string{self}, Environment: []string{asProgram + "=1"}},
		Calls:   300, Seed: uint64(time.Now().UnixNano()), Dir: t.TempDir(), Log: t.Output(),
	})
	t.Logf("\n%s", verdict)
	if err != nil {
		t.Fatal(err)
	}
	if !verdict.OK() {
		t.Error("what is stored is not what happened")
	}
}
