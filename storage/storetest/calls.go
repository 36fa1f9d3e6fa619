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

func callTests() []testCase {
	return []testCase{
		{"a call is stored completely", func(t *testing.T, s Store) {
			r := newCDR("c1", 0)
			saved := save(t, s, r)
			if !saved.Created || saved.Revised {
				t.Errorf("saved %+v, want created", saved)
			}
			call, revisions := load(t, s, saved.ID)
			want := r.Call
			want.ID = saved.ID
			expectEqual(t, "call", want, call)
			expectEqual(t, "revisions", []storage.Revision{
				{Number: 1, ReceivedAt: r.Call.ReceivedAt, Source: "endCall", Raw: r.Raw},
			}, revisions)
		}},
		{"a call with few fields is stored", func(t *testing.T, s Store) {
			r := storage.ReceivedCDR{
				Call:   storage.Call{Key: "sha256:00", Result: storage.Unreadable, ReceivedAt: noon},
				Source: "endCall", Raw: []byte("not a CDR"),
			}
			saved := save(t, s, r)
			call, _ := load(t, s, saved.ID)
			r.Call.ID = saved.ID
			expectEqual(t, "call", r.Call, call)
		}},
		{"IDs increase", func(t *testing.T, s Store) {
			first, second := save(t, s, newCDR("c1", 0)), save(t, s, newCDR("c2", 0))
			if len(first.ID) != 36 || first.ID >= second.ID {
				t.Errorf("IDs %s, %s; want increasing UUIDv7", first.ID, second.ID)
			}
		}},
		{"a CDR without a key is rejected", func(t *testing.T, s Store) {
			r := newCDR("c1", 0)
			r.Call.Key = ""
			if _, err := s.SaveCall(t.Context(), r); err == nil || errors.Is(err, storage.ErrUnavailable) {
				t.Errorf("error %v, want one other than storage.ErrUnavailable", err)
			}
			expectEmpty(t, s)
		}},
		{"an exact repeat changes nothing", func(t *testing.T, s Store) {
			first := save(t, s, newCDR("c1", 0))
			before, _ := load(t, s, first.ID)
			expectEqual(t, "saved", storage.SaveResult{ID: first.ID}, save(t, s, newCDR("c1", 0)))
			after, revisions := load(t, s, first.ID)
			expectEqual(t, "call", before, after)
			if len(revisions) != 1 {
				t.Errorf("%d revisions, want 1", len(revisions))
			}
		}},
		{"a later CDR adds data", func(t *testing.T, s Store) {
			first := editedCDR(newCDR("c1", 0), func(c *storage.Call) { c.RecordingFile = ""; c.Agent = "" })
			saved := save(t, s, first)
			second := newCDR("c1", 0)
			second.Source = "callHistory"
			second.Call.Tracker = "" // the webhook has no tracker
			second.Call.ReceivedAt = first.Call.ReceivedAt.Add(time.Minute)
			expectEqual(t, "saved", storage.SaveResult{ID: saved.ID, Revised: true}, save(t, s, second))

			call, revisions := load(t, s, saved.ID)
			want := newCDR("c1", 0).Call
			want.ID = saved.ID
			expectEqual(t, "call", want, call)
			expectEqual(t, "revisions", []storage.Revision{
				{Number: 1, ReceivedAt: first.Call.ReceivedAt, Source: "endCall", Raw: first.Raw},
				{Number: 2, ReceivedAt: second.Call.ReceivedAt, Source: "callHistory", Raw: second.Raw},
			}, revisions)
		}},
		{"CDRs that arrive out of order make the same call", func(t *testing.T, s Store) {
			early := editedCDR(newCDR("c", 0), func(c *storage.Call) { c.HangupCause = "UNKNOWN"; c.RecordingFile = "" })
			late := editedCDR(newCDR("c", 0), func(c *storage.Call) { c.RevisedAt = c.RevisedAt.Add(time.Hour); c.Agent = "" })
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
			expectEqual(t, "in order and out of order", merged[0], merged[1])
			if got := merged[0]; got.HangupCause != "NORMAL_CLEARING" || got.Agent != "0017" || got.RecordingFile != "c.mp3" {
				t.Errorf("merged %+v, want the fields of the later revision to win", got)
			}
		}},
		{"a repeat of an old CDR does not undo later ones", func(t *testing.T, s Store) {
			undated := func(cause string) storage.ReceivedCDR {
				return editedCDR(newCDR("c1", 0), func(c *storage.Call) { c.RevisedAt = time.Time{}; c.HangupCause = cause })
			}
			save(t, s, undated("FIRST"))
			save(t, s, undated("SECOND"))
			saved := save(t, s, undated("FIRST"))
			call, revisions := load(t, s, saved.ID)
			if call.HangupCause != "SECOND" || len(revisions) != 2 || saved.Revised {
				t.Errorf("hangup cause %s, %d revisions, %+v; want SECOND, 2, not revised", call.HangupCause, len(revisions), saved)
			}
		}},
		{"a repeat adds the tracker that the webhook did not have", func(t *testing.T, s Store) {
			r := newCDR("c1", 0)
			r.Call.Tracker = ""
			save(t, s, r)
			saved := save(t, s, newCDR("c1", 0))
			if call, _ := load(t, s, saved.ID); call.Tracker != "sales" || saved.Revised {
				t.Errorf("tracker %q, %+v; want sales, not revised", call.Tracker, saved)
			}
		}},
		{"a call moves in the list when its time becomes known", func(t *testing.T, s Store) {
			timeless := editedCDR(newCDR("c1", 0), func(c *storage.Call) {
				c.StartedAt, c.EndedAt, c.AnsweredAt, c.ReceivedAt = time.Time{}, time.Time{}, time.Time{}, noon.Add(time.Hour)
			})
			save(t, s, timeless)
			save(t, s, newCDR("c1", 0))
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
			north, south := newCDR("c1", 0), newCDR("c1", 0)
			north.Call.ContactCenter, south.Call.ContactCenter = "north", "south"
			a, b := save(t, s, north), save(t, s, south)
			if !a.Created || !b.Created || a.ID == b.ID {
				t.Errorf("saved %+v and %+v, want two calls", a, b)
			}
		}},
		{"concurrent identical CDRs make one call", concurrentIdentical},
		{"concurrent different CDRs of one call are all stored", concurrentDifferent},
		{"bodies are stored byte for byte", func(t *testing.T, s Store) {
			all := make([]byte, 256)
			for i := range all {
				all[i] = byte(i)
			}
			for name, raw := range map[string][]byte{"all": all, "none": {}, "nil": nil, "NUL": {0}, "large": []byte(strings.Repeat("\xff\x00ق", 200_000))} {
				r := newCDR(name, 0)
				r.Raw = raw
				_, revisions := load(t, s, save(t, s, r).ID)
				if len(revisions) != 1 || string(revisions[0].Raw) != string(raw) {
					t.Errorf("%s: body of %d bytes was changed", name, len(raw))
				}
			}
		}},
		{"text is stored unchanged except for invalid characters", func(t *testing.T, s Store) {
			r := newCDR("c1", 0)
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
		{"text of any length is accepted", func(t *testing.T, s Store) {
			// Random, because a database may compress indexed text.
			var long strings.Builder
			for long.Len() < 20_000 {
				long.WriteString(newID())
			}
			r := editedCDR(newCDR("c1", 0), func(c *storage.Call) {
				for _, field := range []*string{
					&c.ContactCenter, &c.Tracker, &c.CallID, &c.Direction, &c.DID, &c.RawDID, &c.Caller, &c.RawCaller,
					&c.CallerName, &c.HangupCause, &c.HangupBy, &c.Agent, &c.Position, &c.RecordingFile, &c.Campaign,
				} {
					*field = long.String() + "ق"
				}
			})
			call, _ := load(t, s, save(t, s, r).ID)
			if call.RawDID != r.Call.RawDID {
				t.Error("the raw number was cut")
			}
			if !strings.HasPrefix(r.Call.DID, call.DID) || call.DID == "" {
				t.Error("the number to search by is not a prefix of the one in the CDR")
			}
			found, _, err := s.Calls(t.Context(), storage.CallFilter{DIDs: []string{r.Call.DID}, Campaign: r.Call.Campaign}, storage.Page{})
			if err != nil || len(found) != 1 {
				t.Errorf("found %d calls, %v; want 1", len(found), err)
			}
		}},
		{"long keys stay distinct", func(t *testing.T, s Store) {
			long := strings.Repeat("x", 5_000)
			a, b, again := save(t, s, newCDR(long+"a", 0)), save(t, s, newCDR(long+"b", 0)), save(t, s, newCDR(long+"a", 0))
			if !a.Created || !b.Created || again.ID != a.ID || again.Created {
				t.Errorf("saved %+v, %+v, %+v; want two calls, the third a repeat", a, b, again)
			}
		}},
		{"times have microsecond precision", func(t *testing.T, s Store) {
			startedAt := time.Date(1969, time.July, 20, 20, 17, 40, 123_456_789, time.FixedZone("", 4*3600))
			r := editedCDR(newCDR("c1", 0), func(c *storage.Call) {
				c.StartedAt, c.AnsweredAt, c.EndedAt = startedAt, time.Time{}, time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)
				c.RevisedAt, c.ReceivedAt = noon.Add(999*time.Nanosecond), noon.Add(time.Microsecond)
			})
			call, _ := load(t, s, save(t, s, r).ID)
			want := time.Date(1969, time.July, 20, 16, 17, 40, 123_456_000, time.UTC)
			if call.StartedAt != want {
				t.Errorf("started at %s, want %s", call.StartedAt, want)
			}
			if !call.AnsweredAt.IsZero() || !call.EndedAt.IsZero() {
				t.Errorf("answered %s, ended %s; want none, because year 12026 cannot be represented", call.AnsweredAt, call.EndedAt)
			}
			if !call.RevisedAt.Equal(noon) || !call.ReceivedAt.Equal(noon.Add(time.Microsecond)) {
				t.Errorf("revised %s, received %s; want noon, a microsecond later", call.RevisedAt, call.ReceivedAt)
			}
		}},
		{"an unknown call is not found", func(t *testing.T, s Store) {
			for _, id := range []string{newID(), "", "x\x00y", "'"} {
				if _, _, err := s.Call(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
					t.Errorf("call %q: %v, want storage.ErrNotFound", id, err)
				}
			}
		}},
	}
}

const writers = 32

// runConcurrently calls save in several goroutines at the same time, with n from 0 to
// writers - 1.
func runConcurrently(save func(n int) (storage.SaveResult, error)) ([]storage.SaveResult, error) {
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

func concurrentIdentical(t *testing.T, s Store) {
	saved, err := runConcurrently(func(int) (storage.SaveResult, error) { return s.SaveCall(t.Context(), newCDR("c1", 0)) })
	if err != nil {
		t.Fatal(err)
	}
	created := 0
	for _, one := range saved {
		if one.ID != saved[0].ID || one.Revised {
			t.Errorf("result %+v, want %s, not revised", one, saved[0].ID)
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

func concurrentDifferent(t *testing.T, s Store) {
	saved, err := runConcurrently(func(n int) (storage.SaveResult, error) {
		return s.SaveCall(t.Context(), editedCDR(newCDR("c1", 0), func(c *storage.Call) {
			c.RevisedAt = c.RevisedAt.Add(time.Duration(n) * time.Second)
			c.HangupCause = fmt.Sprint("CAUSE_", n)
		}))
	})
	if err != nil {
		t.Fatal(err)
	}
	call, revisions := load(t, s, saved[0].ID)
	if want := fmt.Sprint("CAUSE_", writers-1); call.HangupCause != want {
		t.Errorf("hangup cause %s, want %s, from the last revision", call.HangupCause, want)
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
