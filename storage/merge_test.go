package storage_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"calltracker/storage"
)

func TestMerge(t *testing.T) {
	early := time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	late := early.Add(time.Minute)
	tests := []struct {
		name            string
		known, incoming storage.Call
		want            storage.Call
	}{
		{
			name:     "a later CDR adds the recording",
			known:    storage.Call{Key: "k", Result: storage.Answered, TalkTime: 40},
			incoming: storage.Call{Key: "k", Result: storage.Answered, RecordingFile: "k.mp3"},
			want:     storage.Call{Key: "k", Result: storage.Answered, TalkTime: 40, RecordingFile: "k.mp3"},
		},
		{
			name:     "a CDR without a tracker keeps the known tracker",
			known:    storage.Call{Tracker: "sales", Campaign: "spring", Agent: "0031"},
			incoming: storage.Call{Agent: "0032"},
			want:     storage.Call{Tracker: "sales", Campaign: "spring", Agent: "0032"},
		},
		{
			name:     "the CDR written later wins even if it arrived first",
			known:    storage.Call{HangupCause: "NORMAL_CLEARING", RevisedAt: late},
			incoming: storage.Call{HangupCause: "ORIGINATOR_CANCEL", RevisedAt: early, HoldTime: 3},
			want:     storage.Call{HangupCause: "NORMAL_CLEARING", RevisedAt: late, HoldTime: 3},
		},
		{
			name:     "without a revision time the later arrival wins",
			known:    storage.Call{HangupCause: "NORMAL_CLEARING", RevisedAt: late},
			incoming: storage.Call{HangupCause: "ORIGINATOR_CANCEL"},
			want:     storage.Call{HangupCause: "ORIGINATOR_CANCEL", RevisedAt: late},
		},
		{
			name:     "answered does not become missed",
			known:    storage.Call{Result: storage.Answered, RevisedAt: early},
			incoming: storage.Call{Result: storage.Missed, RevisedAt: late, HangupBy: "originator"},
			want:     storage.Call{Result: storage.Answered, RevisedAt: late, HangupBy: "originator"},
		},
		{
			name:     "an older CDR turns missed into voicemail",
			known:    storage.Call{Result: storage.Missed, RevisedAt: late},
			incoming: storage.Call{Result: storage.Voicemail, RevisedAt: early},
			want:     storage.Call{Result: storage.Voicemail, RevisedAt: late},
		},
		{
			name:     "busy becomes cancelled",
			known:    storage.Call{Result: storage.Busy},
			incoming: storage.Call{Result: storage.Cancelled},
			want:     storage.Call{Result: storage.Cancelled},
		},
		{
			name:     "an unreadable CDR does not change known fields",
			known:    storage.Call{Result: storage.Missed, DID: "+97142220001"},
			incoming: storage.Call{Result: storage.Unreadable, DID: "?", RevisedAt: late, Flags: []string{"unreadable"}},
			want:     storage.Call{Result: storage.Missed, DID: "+97142220001", RevisedAt: late, Flags: []string{"unreadable"}},
		},
		{
			name:     "a readable CDR replaces an unreadable one",
			known:    storage.Call{Result: storage.Unreadable, DID: "?", RevisedAt: late},
			incoming: storage.Call{Result: storage.Busy, DID: "+97142220001", RevisedAt: early},
			want:     storage.Call{Result: storage.Busy, DID: "+97142220001", RevisedAt: early},
		},
		{
			name:     "a parsed number is not replaced by an unparsed one",
			known:    storage.Call{DID: "+97142220001", RawDID: "042220001"},
			incoming: storage.Call{DID: "42220001", RawDID: "42220001"},
			want:     storage.Call{DID: "+97142220001", RawDID: "042220001"},
		},
		{
			name:     "the later of two parsed numbers wins",
			known:    storage.Call{Caller: "+97142220001", RawCaller: "042220001"},
			incoming: storage.Call{Caller: "+97142220002", RawCaller: "042220002"},
			want:     storage.Call{Caller: "+97142220002", RawCaller: "042220002"},
		},
		{
			name:     "flags are combined",
			known:    storage.Call{Flags: []string{"b", "c"}},
			incoming: storage.Call{Flags: []string{"a", "b"}},
			want:     storage.Call{Flags: []string{"a", "b", "c"}},
		},
		{
			name:     "the identity comes from the known call",
			known:    storage.Call{ID: "1", Key: "k", ContactCenter: "north", Decision: "d", Route: "r", ReceivedAt: late},
			incoming: storage.Call{Key: "other", ContactCenter: "south", ReceivedAt: early},
			want:     storage.Call{ID: "1", Key: "k", ContactCenter: "north", Decision: "d", Route: "r", ReceivedAt: early},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, storage.Merge(tt.known, tt.incoming), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("merged (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFillBlanksWinsNoConflict(t *testing.T) {
	known := storage.Call{ID: "1", Agent: "0031", Result: storage.Missed}
	again := storage.Call{Agent: "0099", Tracker: "sales", Result: storage.Busy}
	want := storage.Call{ID: "1", Agent: "0031", Result: storage.Missed, Tracker: "sales"}
	if diff := cmp.Diff(want, storage.FillBlanks(known, again), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("filled (-want +got):\n%s", diff)
	}
}

// drawCall draws one version of the same call. It uses few distinct values, so
// that versions often agree, differ, and have blanks.
func drawCall(t *rapid.T) storage.Call {
	text := func(label string) string { return rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, label) }
	phone := func(label string) string { return rapid.SampledFrom([]string{"", "04", "+1", "+2"}).Draw(t, label) }
	seconds := func(label string) int { return rapid.IntRange(0, 2).Draw(t, label) }
	moment := func(label string) time.Time {
		n := rapid.Int64Range(0, 4).Draw(t, label)
		if n == 0 {
			return time.Time{}
		}
		return time.Unix(1_700_000_000+n, 0).UTC()
	}
	flags := rapid.SliceOfDistinct(rapid.SampledFrom([]string{"x", "y", "z"}), rapid.ID[string]).Draw(t, "flags")
	slices.Sort(flags)
	return storage.Call{
		ID: "id", ContactCenter: "north", Key: "key", Tracker: text("tracker"), CallID: text("callID"),
		Direction: text("direction"), DID: phone("did"), RawDID: text("rawDid"), Caller: phone("caller"),
		RawCaller: text("rawCaller"), CallerName: text("callerName"), StartedAt: moment("startedAt"),
		AnsweredAt: moment("answeredAt"), EndedAt: moment("endedAt"), Duration: seconds("duration"),
		RingTime: seconds("ringTime"), TalkTime: seconds("talkTime"), HoldTime: seconds("holdTime"),
		Result:      rapid.SampledFrom(storage.Results()).Draw(t, "result"),
		HangupCause: text("hangupCause"), HangupBy: text("hangupBy"), Agent: text("agent"),
		Position: text("position"), RecordingFile: text("recordingFile"), Campaign: text("campaign"),
		Route: text("route"), Decision: text("decision"), Flags: flags,
		RevisedAt: moment("revisedAt"), ReceivedAt: moment("receivedAt"),
	}
}

func TestMergeIsIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known, incoming := drawCall(t), drawCall(t)
		once := storage.Merge(known, incoming)
		for name, again := range map[string]storage.Call{
			"merge":  storage.Merge(once, incoming),
			"itself": storage.Merge(once, once),
			"fill":   storage.FillBlanks(once, incoming),
		} {
			if diff := cmp.Diff(once, again, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("%s is not idempotent (-once +again):\n%s", name, diff)
			}
		}
	})
}

func TestMergeNeverBlanks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known, incoming := drawCall(t), drawCall(t)
		for name, merged := range map[string]storage.Call{
			"merge": storage.Merge(known, incoming),
			"fill":  storage.FillBlanks(known, incoming),
		} {
			was, got := reflect.ValueOf(known), reflect.ValueOf(merged)
			for i := range was.NumField() {
				field := was.Type().Field(i).Name
				if field != "Flags" && !was.Field(i).IsZero() && got.Field(i).IsZero() {
					t.Fatalf("%s blanked %s", name, field)
				}
			}
			if result := merged.Result; known.Result == storage.Answered && result != storage.Answered && result != storage.Voicemail {
				t.Fatalf("%s turned answered into %s", name, result)
			}
			if known.Result != storage.Unreadable && merged.Result == storage.Unreadable {
				t.Fatalf("%s made the call unreadable", name)
			}
			for _, flag := range slices.Concat(known.Flags, incoming.Flags) {
				if !slices.Contains(merged.Flags, flag) {
					t.Fatalf("%s lost flag %s", name, flag)
				}
			}
		}
	})
}

func TestMergeIgnoresOrderWhenRevisionTimesDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawCall(t), drawCall(t)
		b.Decision, b.Route = a.Decision, a.Route // set by the store, not by a CDR
		a.RevisedAt = time.Unix(1_700_000_000, 0).UTC()
		apart := rapid.Int64Range(1, 60).Draw(t, "apart")
		if rapid.Bool().Draw(t, "a is later") {
			apart = -apart
		}
		b.RevisedAt = a.RevisedAt.Add(time.Duration(apart) * time.Second)
		if diff := cmp.Diff(storage.Merge(a, b), storage.Merge(b, a), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("merge depends on the order (-a,b +b,a):\n%s", diff)
		}
	})
}
