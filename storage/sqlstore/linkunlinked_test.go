package sqlstore

import (
	"database/sql"
	"errors"
	"slices"
	"testing"
	"time"

	"calltracker/storage"
	"calltracker/storage/storetest/postgrestest"
)

// TestLinkUnlinkedCalls saves calls while the transaction with their decisions is open,
// so that neither transaction sees the rows of the other.
func TestLinkUnlinkedCalls(t *testing.T) {
	s := openURL(t, postgrestest.Database(t, postgrestest.Address(t)))
	at := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	decision := func(n string, edit func(*storage.Decision)) storage.Decision {
		d := storage.Decision{ID: "decision-" + n, Tracker: "sales", At: at, DID: "+97148880001", Caller: "+9715012345" + n, Route: "route-" + n}
		if edit != nil {
			edit(&d)
		}
		return d
	}
	cdr := func(n string, edit func(*storage.Call)) storage.ReceivedCDR {
		c := storage.Call{
			Key: n, Tracker: "sales", Result: storage.Missed, DID: "+97148880001", Caller: "+9715012345" + n,
			StartedAt: at.Add(time.Second), ReceivedAt: at.Add(time.Minute),
		}
		if edit != nil {
			edit(&c)
		}
		return storage.ReceivedCDR{Source: storage.FromEndCall, Raw: []byte(n), Call: c}
	}
	decisions := []storage.Decision{
		decision("10", nil),
		decision("11", func(d *storage.Decision) { d.CallID, d.DID = "call-11", "+97140000000" }),
		decision("12", func(d *storage.Decision) { d.At = at.Add(59 * time.Second) }),
		decision("13", func(d *storage.Decision) { d.Tracker = "support" }),
	}
	cdrs := []storage.ReceivedCDR{
		cdr("10", nil),
		cdr("11", func(c *storage.Call) { c.CallID = "call-11" }),
		cdr("12", func(c *storage.Call) { c.StartedAt = at.AddDate(-5, 0, 0) }), // linked by the time of arrival
		cdr("13", nil),
	}
	ids := make([]string, len(cdrs))
	err := s.db.Load().transaction(t.Context(), func(tx *sql.Tx) error {
		if err := s.db.Load().recordAll(t.Context(), tx, decisions); err != nil {
			return err
		}
		for i, r := range cdrs {
			saved, err := s.SaveCall(t.Context(), r)
			if err != nil {
				return err
			}
			ids[i] = saved.ID
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	links := func() (routes []string) {
		t.Helper()
		for i, id := range ids {
			call, _, err := s.Call(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			d, err := s.Decision(t.Context(), decisions[i].ID)
			if err != nil {
				t.Fatal(err)
			}
			if linked := call.Decision == d.ID && d.Call == id; linked != (call.Decision != "" || d.Call != "") {
				t.Errorf("call %d has decision %q, which has call %q", i, call.Decision, d.Call)
			}
			routes = append(routes, call.Route)
		}
		return routes
	}
	if got := links(); !slices.Equal(got, []string{"", "", "", ""}) {
		t.Fatalf("linked to %q before LinkUnlinkedCalls, want no links: the test proves nothing", got)
	}
	if n, err := s.LinkUnlinkedCalls(t.Context(), time.Now().Add(time.Minute)); err != nil || n != 0 {
		t.Errorf("%d calls linked that were saved before since, %v; want none", n, err)
	}
	if n, err := s.LinkUnlinkedCalls(t.Context(), time.Now().Add(-time.Minute)); err != nil || n != 3 {
		t.Errorf("%d calls linked, %v; want 3", n, err)
	}
	if got := links(); !slices.Equal(got, []string{"route-10", "route-11", "route-12", ""}) {
		t.Errorf("linked to %q", got)
	}
}

// TestUpdateKeepsAConcurrentLink checks that an update of a call keeps a decision that was
// linked after the call was read.
func TestUpdateKeepsAConcurrentLink(t *testing.T) {
	s := openURL(t, postgrestest.Database(t, postgrestest.Address(t)))
	db := s.db.Load()
	saved, err := s.SaveCall(t.Context(), storage.ReceivedCDR{Source: storage.FromEndCall, Raw: []byte("1"), Call: storage.Call{Key: "k", Result: storage.Missed}})
	if err != nil {
		t.Fatal(err)
	}
	call, _, err := s.Call(t.Context(), saved.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.write.ExecContext(t.Context(), `UPDATE calls SET decision_id = 'd', route = 'r'`); err != nil {
		t.Fatal(err)
	}
	call.Agent = "0099"
	merged := &batchCall{call: call, storedAt: micros(call.At()), modified: true, revisions: 1}
	conn, err := db.write.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = db.batchWriter.inTransaction(t.Context(), conn, func(tx *transaction) error { return db.writeAll(t.Context(), tx, []*batchCall{merged}) })
	if err := errors.Join(err, conn.Close()); err != nil {
		t.Fatal(err)
	}
	if call, _, err = s.Call(t.Context(), saved.ID); err != nil || call.Agent != "0099" || call.Decision != "d" || call.Route != "r" {
		t.Errorf("call %+v, %v", call, err)
	}
}
