package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"calltracker/storage"
)

func callTests() []test {
	return []test{
		{"saves a call whole", func(t *testing.T, s Store) {
			r := body("c1", 0)
			saved := save(t, s, r)
			if !saved.Created || saved.Revised {
				t.Errorf("saved %+v, want created", saved)
			}
			call, revisions := load(t, s, saved.ID)
			want := r.Call
			want.ID = saved.ID
			equal(t, "call", want, call)
			equal(t, "revisions", []storage.Revision{
				{Number: 1, ReceivedAt: r.Call.ReceivedAt, Source: "endCall", Raw: r.Raw},
			}, revisions)
		}},
		{"saves a call of which little is known", func(t *testing.T, s Store) {
			r := storage.ReceivedCDR{
				Call:   storage.Call{Key: "sha256:00", Result: storage.Unreadable, ReceivedAt: noon},
				Source: "endCall", Raw: []byte("not a CDR"),
			}
			saved := save(t, s, r)
			call, _ := load(t, s, saved.ID)
			r.Call.ID = saved.ID
			equal(t, "call", r.Call, call)
		}},
		{"ids are given in order", func(t *testing.T, s Store) {
			first, second := save(t, s, body("c1", 0)), save(t, s, body("c2", 0))
			if len(first.ID) != 36 || first.ID >= second.ID {
				t.Errorf("ids %s, %s; want UUIDv7, increasing", first.ID, second.ID)
			}
		}},
		{"refuses a report without a key", func(t *testing.T, s Store) {
			r := body("c1", 0)
			r.Call.Key = ""
			if _, err := s.SaveCall(t.Context(), r); err == nil || errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("error %v, want a refusal", err)
			}
			empty(t, s)
		}},
		{"an exact repeat changes nothing", func(t *testing.T, s Store) {
			first := save(t, s, body("c1", 0))
			before, _ := load(t, s, first.ID)
			equal(t, "saved", storage.SaveResult{ID: first.ID}, save(t, s, body("c1", 0)))
			after, revisions := load(t, s, first.ID)
			equal(t, "call", before, after)
			if len(revisions) != 1 {
				t.Errorf("%d revisions, want 1", len(revisions))
			}
		}},
		{"a repeat with more enriches", func(t *testing.T, s Store) {
			first := with(body("c1", 0), func(c *storage.Call) { c.RecordingFile = ""; c.Agent = "" })
			saved := save(t, s, first)
			second := body("c1", 0)
			second.Source = "callHistory"
			second.Call.Tracker = "" // the webhook knows none
			second.Call.ReceivedAt = first.Call.ReceivedAt.Add(time.Minute)
			equal(t, "saved", storage.SaveResult{ID: saved.ID, Revised: true}, save(t, s, second))

			call, revisions := load(t, s, saved.ID)
			want := body("c1", 0).Call
			want.ID = saved.ID
			equal(t, "call", want, call)
			equal(t, "revisions", []storage.Revision{
				{Number: 1, ReceivedAt: first.Call.ReceivedAt, Source: "endCall", Raw: first.Raw},
				{Number: 2, ReceivedAt: second.Call.ReceivedAt, Source: "callHistory", Raw: second.Raw},
			}, revisions)
		}},
		{"bodies out of order give the same call", func(t *testing.T, s Store) {
			early := with(body("c", 0), func(c *storage.Call) { c.HangupCause = "UNKNOWN"; c.RecordingFile = "" })
			late := with(body("c", 0), func(c *storage.Call) { c.RevisedAt = c.RevisedAt.Add(time.Hour); c.Agent = "" })
			var merged []storage.Call
			for i, order := range [][]storage.ReceivedCDR{{early, late}, {late, early}} {
				var saved storage.SaveResult
				for _, r := range order {
					r.Call.ContactCenter = fmt.Sprint("center-", i)
					saved = save(t, s, r)
				}
				call, _ := load(t, s, saved.ID)
				call.ID, call.ContactCenter = "", ""
				merged = append(merged, call)
			}
			equal(t, "in order and out of order", merged[0], merged[1])
			if got := merged[0]; got.HangupCause != "NORMAL_CLEARING" || got.Agent != "0017" || got.RecordingFile != "c.mp3" {
				t.Errorf("merged %+v, want the later body over the earlier one", got)
			}
		}},
		{"an old body sent again does not win over what came after it", func(t *testing.T, s Store) {
			undated := func(cause string) storage.ReceivedCDR {
				return with(body("c1", 0), func(c *storage.Call) { c.RevisedAt = time.Time{}; c.HangupCause = cause })
			}
			save(t, s, undated("FIRST"))
			save(t, s, undated("SECOND"))
			saved := save(t, s, undated("FIRST"))
			call, revisions := load(t, s, saved.ID)
			if call.HangupCause != "SECOND" || len(revisions) != 2 || saved.Revised {
				t.Errorf("cause %s, %d revisions, %+v; want SECOND, 2, not revised", call.HangupCause, len(revisions), saved)
			}
		}},
		{"a repeat tells the tracker that the webhook did not know", func(t *testing.T, s Store) {
			r := body("c1", 0)
			r.Call.Tracker = ""
			save(t, s, r)
			saved := save(t, s, body("c1", 0))
			if call, _ := load(t, s, saved.ID); call.Tracker != "sales" || saved.Revised {
				t.Errorf("tracker %q, %+v; want sales, not revised", call.Tracker, saved)
			}
		}},
		{"a call whose time becomes known moves in the list", func(t *testing.T, s Store) {
			timeless := with(body("c1", 0), func(c *storage.Call) {
				c.StartedAt, c.EndedAt, c.AnsweredAt, c.ReceivedAt = time.Time{}, time.Time{}, time.Time{}, noon.Add(time.Hour)
			})
			save(t, s, timeless)
			save(t, s, body("c1", 0))
			for _, tt := range []struct {
				from time.Time
				want int
			}{{noon, 1}, {noon.Add(time.Minute), 0}} {
				calls, _, err := s.Calls(t.Context(), storage.CallFilter{From: tt.from}, storage.Page{})
				if err != nil || len(calls) != tt.want {
					t.Errorf("from %s: %d calls, %v; want %d", tt.from, len(calls), err, tt.want)
				}
			}
		}},
		{"the same callID in two contact centers is two calls", func(t *testing.T, s Store) {
			north, south := body("c1", 0), body("c1", 0)
			north.Call.ContactCenter, south.Call.ContactCenter = "north", "south"
			a, b := save(t, s, north), save(t, s, south)
			if !a.Created || !b.Created || a.ID == b.ID {
				t.Errorf("saved %+v and %+v, want two calls", a, b)
			}
		}},
		{"parallel identical reports are one call", parallelIdentical},
		{"parallel different bodies of one call are all kept", parallelDifferent},
		{"keeps any bytes as they came", func(t *testing.T, s Store) {
			all := make([]byte, 256)
			for i := range all {
				all[i] = byte(i)
			}
			for name, raw := range map[string][]byte{"all": all, "none": {}, "nil": nil, "NUL": {0}, "large": []byte(strings.Repeat("\xff\x00ق", 200_000))} {
				r := body(name, 0)
				r.Raw = raw
				_, revisions := load(t, s, save(t, s, r).ID)
				if len(revisions) != 1 || string(revisions[0].Raw) != string(raw) {
					t.Errorf("%s: body of %d bytes came back different", name, len(raw))
				}
			}
		}},
		{"keeps any text that is text", func(t *testing.T, s Store) {
			r := body("c1", 0)
			r.Call.CallerName = `ليلى 'O"Brien' ; -- \ 👩‍👩‍👧 é`
			r.Call.Agent = "a\x00b\x00"
			r.Call.HangupCause = "\xff\xfecut\xc3"
			r.Call.Campaign = "\u2028"
			r.Call.Flags = []string{`a"b`, "ق"}
			r.Source = "end\x00Call"
			call, revisions := load(t, s, save(t, s, r).ID)
			for _, tt := range []struct{ what, want, got string }{
				{"caller name", r.Call.CallerName, call.CallerName},
				{"agent", "ab", call.Agent},
				{"hangup cause", "\uFFFDcut\uFFFD", call.HangupCause},
				{"campaign", "\u2028", call.Campaign},
				{"flags", `a"b ق`, strings.Join(call.Flags, " ")},
				{"source", "endCall", string(revisions[0].Source)},
			} {
				if tt.got != tt.want {
					t.Errorf("%s %q, want %q", tt.what, tt.got, tt.want)
				}
			}
		}},
		{"takes text of any length", func(t *testing.T, s Store) {
			// Random, since a database may compress what it indexes.
			var long strings.Builder
			for long.Len() < 20_000 {
				long.WriteString(newID())
			}
			r := with(body("c1", 0), func(c *storage.Call) {
				for _, field := range []*string{
					&c.ContactCenter, &c.Tracker, &c.CallID, &c.Direction, &c.DID, &c.RawDID, &c.Caller, &c.RawCaller,
					&c.CallerName, &c.HangupCause, &c.HangupBy, &c.Agent, &c.Position, &c.RecordingFile, &c.Campaign,
				} {
					*field = long.String() + "ق"
				}
			})
			call, _ := load(t, s, save(t, s, r).ID)
			if call.RawDID != r.Call.RawDID {
				t.Error("the number as it came was cut")
			}
			if !strings.HasPrefix(r.Call.DID, call.DID) || call.DID == "" {
				t.Error("the number to search by is not the start of what came")
			}
			found, _, err := s.Calls(t.Context(), storage.CallFilter{DIDs: []string{r.Call.DID}, Campaign: r.Call.Campaign}, storage.Page{})
			if err != nil || len(found) != 1 {
				t.Errorf("found %d calls, %v; want 1", len(found), err)
			}
		}},
		{"keys of any length stay apart", func(t *testing.T, s Store) {
			long := strings.Repeat("x", 5_000)
			a, b, again := save(t, s, body(long+"a", 0)), save(t, s, body(long+"b", 0)), save(t, s, body(long+"a", 0))
			if !a.Created || !b.Created || again.ID != a.ID || again.Created {
				t.Errorf("saved %+v, %+v, %+v; want two calls, the third a repeat", a, b, again)
			}
		}},
		{"instants keep their microseconds", func(t *testing.T, s Store) {
			moment := time.Date(1969, time.July, 20, 20, 17, 40, 123_456_789, time.FixedZone("", 4*3600))
			r := with(body("c1", 0), func(c *storage.Call) {
				c.StartedAt, c.AnsweredAt, c.EndedAt = moment, time.Time{}, time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)
				c.RevisedAt, c.ReceivedAt = noon.Add(999*time.Nanosecond), noon.Add(time.Microsecond)
			})
			call, _ := load(t, s, save(t, s, r).ID)
			want := time.Date(1969, time.July, 20, 16, 17, 40, 123_456_000, time.UTC)
			if call.StartedAt != want {
				t.Errorf("started at %s, want %s", call.StartedAt, want)
			}
			if !call.AnsweredAt.IsZero() || !call.EndedAt.IsZero() {
				t.Errorf("answered %s, ended %s; want none: no clock shows year 12026", call.AnsweredAt, call.EndedAt)
			}
			if !call.RevisedAt.Equal(noon) || !call.ReceivedAt.Equal(noon.Add(time.Microsecond)) {
				t.Errorf("revised %s, received %s; want noon, a microsecond later", call.RevisedAt, call.ReceivedAt)
			}
		}},
		{"says what it does not have", func(t *testing.T, s Store) {
			for _, id := range []string{newID(), "", "x\x00y", "'"} {
				if _, _, err := s.Call(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("call %q: %v, want storage.ErrNotFound", id, err)
				}
			}
		}},
	}
}

const writers = 32

// together runs save in as many goroutines as there are writers, all at once.
func together(save func(n int) (storage.SaveResult, error)) ([]storage.SaveResult, error) {
	var (
		wg    sync.WaitGroup
		start = make(chan struct{})
		saved = make([]storage.SaveResult, writers)
		errs  = make([]error, writers)
	)
	for n := range writers {
		wg.Go(func() {
			<-start
			saved[n], errs[n] = save(n)
		})
	}
	close(start)
	wg.Wait()
	return saved, errors.Join(errs...)
}

func parallelIdentical(t *testing.T, s Store) {
	saved, err := together(func(int) (storage.SaveResult, error) { return s.SaveCall(t.Context(), body("c1", 0)) })
	if err != nil {
		t.Fatal(err)
	}
	created := 0
	for _, one := range saved {
		if one.ID != saved[0].ID || one.Revised {
			t.Errorf("saved %+v, want an unrevised %s", one, saved[0].ID)
		}
		if one.Created {
			created++
		}
	}
	if created != 1 {
		t.Errorf("%d writers created the call, want 1", created)
	}
	calls, _, err := s.Calls(t.Context(), storage.CallFilter{}, storage.Page{})
	if err != nil || len(calls) != 1 {
		t.Fatalf("%d calls, %v; want 1", len(calls), err)
	}
	if _, revisions := load(t, s, saved[0].ID); len(revisions) != 1 {
		t.Errorf("%d revisions, want 1", len(revisions))
	}
}

func parallelDifferent(t *testing.T, s Store) {
	saved, err := together(func(n int) (storage.SaveResult, error) {
		return s.SaveCall(t.Context(), with(body("c1", 0), func(c *storage.Call) {
			c.RevisedAt = c.RevisedAt.Add(time.Duration(n) * time.Second)
			c.HangupCause = fmt.Sprint("CAUSE_", n)
		}))
	})
	if err != nil {
		t.Fatal(err)
	}
	call, revisions := load(t, s, saved[0].ID)
	if want := fmt.Sprint("CAUSE_", writers-1); call.HangupCause != want {
		t.Errorf("cause %s, want %s: it was written last", call.HangupCause, want)
	}
	if len(revisions) != writers {
		t.Fatalf("%d revisions, want %d", len(revisions), writers)
	}
	for i, r := range revisions {
		if r.Number != i+1 {
			t.Errorf("revision %d has number %d", i+1, r.Number)
		}
	}
}
