package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"calltracker/storage"
)

func recordingTests() []testCase {
	copyOf := func(call string, at time.Time) storage.Recording {
		return storage.Recording{
			Call: call, ContactCenter: "aldebaran", At: at, Place: "folder", Name: "ab/cd/" + call, SHA256: "00ff", Bytes: 5 << 32,
			ContentType: "audio/mpeg", CopiedAt: at.Add(time.Minute),
		}
	}
	return []testCase{
		{"each call has one copy", func(t *testing.T, s Store) {
			id := newID()
			if _, err := s.Recording(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("before saving: %v, want storage.ErrNotFound", err)
			}
			first, second := copyOf(id, noon), copyOf(id, noon)
			second.Place, second.Bytes = "bucket", 7
			for _, r := range []storage.Recording{first, second, second} {
				if err := s.SaveRecording(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				got, err := s.Recording(t.Context(), id)
				if diff := cmp.Diff(r, got); err != nil || diff != "" {
					t.Errorf("%v (-want +got):\n%s", err, diff)
				}
			}
			for range 2 {
				if err := s.DeleteRecording(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := s.Recording(t.Context(), id); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("after deleting: %v, want storage.ErrNotFound", err)
			}
		}},
		{"old copies are listed in steps", func(t *testing.T, s Store) {
			var want []string
			for n := range 5 {
				r := copyOf(newID(), noon.Add(time.Duration(n/2)*time.Hour)) // some at the same time
				if n == 4 {
					r.ContactCenter = "betelgeuse"
				}
				want = append(want, r.Call)
				if err := s.SaveRecording(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			for name, c := range map[string]struct {
				center string
				before time.Time
				want   []string
			}{
				"all":           {"", noon.Add(3 * time.Hour), want},
				"of one center": {"aldebaran", noon.Add(3 * time.Hour), want[:4]},
				"older ones":    {"", noon.Add(time.Hour), want[:2]},
				"none":          {"", noon, nil},
			} {
				var got []string
				f := storage.RecordingFilter{ContactCenter: c.center, Before: c.before, Limit: 2}
				for {
					step, err := s.OldRecordings(t.Context(), f)
					if err != nil {
						t.Fatal(err)
					}
					if len(step) == 0 {
						break
					}
					for _, r := range step {
						got = append(got, r.Call)
					}
					f.After = step[len(step)-1]
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		}},
	}
}
