package main

import (
	"os"
	"testing"
	"time"

	"calltracker/tools/endurance"
)

// TestFaultsLoseNoAcknowledgedRecord is the short form of `make crash-test`. While
// clients post, it kills and stops the binary, locks its database, and fills the disk.
func TestFaultsLoseNoAcknowledgedRecord(t *testing.T) {
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
				t.Error("verdict is not OK")
			}
			if verdict.Cycles == 0 || verdict.Spooled == 0 {
				t.Errorf("%d cycles and %d spooled records, want at least 1 of each", verdict.Cycles, verdict.Spooled)
			}
		})
	}
}

// TestFaultyDayIsStoredCorrectly is an end-to-end test. A simulated Ziwo with many
// faults sends calls to two replicas on one PostgreSQL and one Redis. One replica
// is killed and restarted, and reconciliation fetches the missing records.
// `make e2e` runs the same test with more calls.
func TestFaultyDayIsStoredCorrectly(t *testing.T) {
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
		t.Error("stored calls differ from the calls that Ziwo made")
	}
}
