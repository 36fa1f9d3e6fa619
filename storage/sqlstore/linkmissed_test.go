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

// A decision whose transaction is open while its call is saved: neither sees the
// other.
func TestMissedLinks(t *testing.T) {
	s := openURL(t, postgrestest.Database(t, postgrestest.Address(t)))
	at := time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	decided := func(n string, edit func(*storage.Decision)) storage.Decision {
		d := storage.Decision{ID: "decision-" + n, Tracker: "sales", At: at, DID: "+97148880001", Caller: "+9715012345" + n, Route: "route-" + n}
		if edit != nil {
			edit(&d)
		}
		return d
	}
	reported := func(n string, edit func(*storage.Call)) storage.ReceivedCDR {
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
		decided("10", nil),
		decided("11", func(d *storage.Decision) { d.CallID, d.DID = "call-11", "+97140000000" }),
		decided("12", func(d *storage.Decision) { d.At = at.Add(59 * time.Second) }),
		decided("13", func(d *storage.Decision) { d.Tracker = "support" }),
	}
	reports := []storage.ReceivedCDR{
		reported("10", nil),
		reported("11", func(c *storage.Call) { c.CallID = "call-11" }),
		reported("12", func(c *storage.Call) { c.StartedAt = at.AddDate(-5, 0, 0) }), // only our clock tells
		reported("13", nil),
	}
	ids := make([]string, len(reports))
	err := s.db.Load().transaction(t.Context(), func(tx *sql.Tx) error {
		if err := s.db.Load().recordAll(t.Context(), tx, decisions); err != nil {
			return err
		}
		for i, r := range reports {
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
			if known := call.Decision == d.ID && d.Call == id; known != (call.Decision != "" || d.Call != "") {
				t.Errorf("call %d has decision %q, which has call %q", i, call.Decision, d.Call)
			}
			routes = append(routes, call.Route)
		}
		return routes
	}
	if got := links(); !slices.Equal(got, []string{"", "", "", ""}) {
		t.Fatalf("linked to %q: nothing was missed, so nothing is shown", got)
	}
	if n, err := s.LinkUnlinkedCalls(t.Context(), time.Now().Add(time.Minute)); err != nil || n != 0 {
		t.Errorf("%d calls that were not saved yet were linked, %v", n, err)
	}
	if n, err := s.LinkUnlinkedCalls(t.Context(), time.Now().Add(-time.Minute)); err != nil || n != 3 {
		t.Errorf("%d linked, %v", n, err)
	}
	if got := links(); !slices.Equal(got, []string{"route-10", "route-11", "route-12", ""}) {
		t.Errorf("linked to %q", got)
	}
}

// A body that was merged from what was read before the decision came leaves the
// link alone.
func TestASecondBodyKeepsALinkThatCameMeanwhile(t *testing.T) {
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
	merged := &saving{call: call, placed: micros(call.At()), dirty: true, number: 1}
	on, err := db.write.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = db.batch.within(t.Context(), on, func(tx *transaction) error { return db.writeAll(t.Context(), tx, []*saving{merged}) })
	if err := errors.Join(err, on.Close()); err != nil {
		t.Fatal(err)
	}
	if call, _, err = s.Call(t.Context(), saved.ID); err != nil || call.Agent != "0099" || call.Decision != "d" || call.Route != "r" {
		t.Errorf("call %+v, %v", call, err)
	}
}
