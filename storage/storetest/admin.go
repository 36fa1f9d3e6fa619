package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"calltracker/storage"
)

func rejectionTests() []testCase {
	return []testCase{
		{"are listed completely, newest first, in pages", func(t *testing.T, s Store) {
			var all []storage.Rejection
			for n := range 7 {
				all = append(all, storage.Rejection{
					ID: newID(), At: noon.Add(time.Duration(n/3) * time.Second), Method: "POST",
					Path: "/callTrackers/sales/endCall", Tracker: "sales", Address: "192.0.2.7", Status: 401,
					Reason: "wrong_key", Message: "wrong key", ContentType: "application/json", UserAgent: "ق", Bytes: int64(n),
				})
			}
			rejectAll(t, s, all...)
			rejectAll(t, s, all[0]) // recorded twice
			rejectAll(t, s)         // no rejections
			slices.Reverse(all)
			got, next, err := s.Rejections(t.Context(), storage.Page{})
			if err != nil || next != "" {
				t.Fatalf("next %q, %v", next, err)
			}
			expectEqual(t, "rejections", all, got)
			expectPages(t, len(all), 2, func(p storage.Page) ([]string, string, error) {
				page, next, err := s.Rejections(t.Context(), p)
				return ids(page, rejectionID), next, err
			})
		}},
		{"only the newest 10,000 are stored", func(t *testing.T, s Store) {
			const stored, more = 10_000, 25
			batch := make([]storage.Rejection, stored+more)
			for n := range batch {
				batch[n] = storage.Rejection{ID: newID(), At: noon.Add(time.Duration(n) * time.Second)}
			}
			rejectAll(t, s, batch[:stored]...)
			rejectAll(t, s, batch[stored:]...)
			late := storage.Rejection{ID: newID(), At: noon.Add(-time.Hour)} // older than all stored ones
			rejectAll(t, s, late)
			expectPages(t, stored, storage.MaxLimit, func(p storage.Page) ([]string, string, error) {
				page, next, err := s.Rejections(t.Context(), p)
				for _, r := range page {
					if r.At.Before(noon.Add(more * time.Second)) {
						t.Errorf("rejection of %s is stored, want it deleted", r.At)
					}
				}
				return ids(page, rejectionID), next, err
			})
		}},
		{"invalid text is cleaned", func(t *testing.T, s Store) {
			rejectAll(t, s, storage.Rejection{ID: newID(), At: noon, UserAgent: "a\x00b\xff", Path: "/\x00"})
			got, _, err := s.Rejections(t.Context(), storage.Page{})
			if err != nil || len(got) != 1 || got[0].UserAgent != "ab\uFFFD" || got[0].Path != "/" {
				t.Errorf("rejections %+v, %v", got, err)
			}
		}},
	}
}

func rejectionID(r storage.Rejection) string { return r.ID }

func rejectAll(t *testing.T, s Store, rejections ...storage.Rejection) {
	t.Helper()
	if err := s.RecordRejections(t.Context(), rejections); err != nil {
		t.Fatal(err)
	}
}

func configTests() []testCase {
	version := func(n int) storage.ConfigVersion {
		return storage.ConfigVersion{
			At: noon.Add(time.Duration(n) * time.Minute), Author: "Omar", Comment: fmt.Sprint("change ", n), Format: "yaml",
			Document: fmt.Sprintf("# %d ق\ntrackers: {}\n", n),
		}
	}
	return []testCase{
		{"a new store has none", func(t *testing.T, s Store) {
			if _, err := s.ActiveConfig(t.Context()); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("active: %v, want storage.ErrNotFound", err)
			}
			if _, err := s.ConfigVersion(t.Context(), 1); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("version 1: %v, want storage.ErrNotFound", err)
			}
			versions, next, err := s.ConfigVersions(t.Context(), storage.Page{})
			if err != nil || len(versions) > 0 || next != "" {
				t.Errorf("versions %v, next %q, %v; want none", versions, next, err)
			}
		}},
		{"versions are numbered and stored completely", func(t *testing.T, s Store) {
			var all []storage.ConfigVersion
			for n := range 5 {
				want := version(n)
				want.Version = int64(n + 1)
				sent := version(n)
				sent.Version = 99 // ignored by the store
				got, err := s.SaveConfig(t.Context(), sent, int64(n))
				if err != nil {
					t.Fatal(err)
				}
				expectEqual(t, "saved", want, got)
				active, err := s.ActiveConfig(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				expectEqual(t, "active", want, active)
				all = append(all, want)
			}
			second, err := s.ConfigVersion(t.Context(), 2)
			if err != nil {
				t.Fatal(err)
			}
			expectEqual(t, "version 2", all[1], second)

			slices.Reverse(all)
			for i := range all {
				all[i].Document = ""
			}
			var listed []storage.ConfigVersion
			expectPages(t, len(all), 2, func(p storage.Page) ([]string, string, error) {
				page, next, err := s.ConfigVersions(t.Context(), p)
				listed = append(listed, page...)
				return ids(page, func(v storage.ConfigVersion) string { return fmt.Sprint(v.Version) }), next, err
			})
			expectEqual(t, "list", all, listed)
		}},
		{"an expected version that is not the newest is a conflict", func(t *testing.T, s Store) {
			if _, err := s.SaveConfig(t.Context(), version(0), 1); !errors.Is(err, storage.ErrConflict) {
				t.Errorf("expected 1 with no versions: %v, want storage.ErrConflict", err)
			}
			for n := range 2 {
				if _, err := s.SaveConfig(t.Context(), version(n), -1); err != nil {
					t.Fatal(err)
				}
			}
			for _, expected := range []int64{0, 1, 3} {
				if _, err := s.SaveConfig(t.Context(), version(9), expected); !errors.Is(err, storage.ErrConflict) {
					t.Errorf("expected %d with 2 versions: %v, want storage.ErrConflict", expected, err)
				}
			}
			if active, err := s.ActiveConfig(t.Context()); err != nil || active.Version != 2 || active.Document != version(1).Document {
				t.Errorf("active %+v, %v; want version 2 unchanged", active, err)
			}
		}},
		{"one of several concurrent writers that expect the same version succeeds", func(t *testing.T, s Store) {
			var succeeded atomic.Int64
			_, err := runConcurrently(func(n int) (storage.SaveResult, error) {
				saved, err := s.SaveConfig(t.Context(), version(n), 0)
				if err == nil && saved.Version == 1 {
					succeeded.Add(1)
				}
				if errors.Is(err, storage.ErrConflict) {
					err = nil
				}
				return storage.SaveResult{}, err
			})
			if err != nil || succeeded.Load() != 1 {
				t.Errorf("%d writers succeeded, %v; want 1", succeeded.Load(), err)
			}
		}},
		{"all concurrent writers that expect no version succeed", func(t *testing.T, s Store) {
			_, err := runConcurrently(func(n int) (storage.SaveResult, error) {
				_, err := s.SaveConfig(t.Context(), version(n), -1)
				return storage.SaveResult{}, err
			})
			if err != nil {
				t.Fatal(err)
			}
			if active, err := s.ActiveConfig(t.Context()); err != nil || active.Version != writers {
				t.Errorf("version %d, %v; want %d", active.Version, err, writers)
			}
		}},
	}
}

func secretTests() []testCase {
	return []testCase{
		{"are stored, replaced, listed by name, and deleted", func(t *testing.T, s Store) {
			late := noon.Add(time.Hour)
			for _, secret := range []storage.Secret{
				{Name: "zendesk", Sealed: []byte{0, 1, 0xff}, CreatedAt: noon, UpdatedAt: noon},
				{Name: "Kustomer", Sealed: []byte("k"), CreatedAt: noon, UpdatedAt: noon},
				{Name: "a_b", Sealed: []byte("u"), CreatedAt: noon, UpdatedAt: noon},
				{Name: "a-b", Sealed: []byte("d"), CreatedAt: noon, UpdatedAt: noon},
				{Name: "zendesk", Sealed: []byte{2}, CreatedAt: late, UpdatedAt: late},
			} {
				if err := s.PutSecret(t.Context(), secret); err != nil {
					t.Fatal(err)
				}
			}
			secrets, err := s.Secrets(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			expectEqual(t, "secrets", []storage.Secret{
				{Name: "Kustomer", Sealed: []byte("k"), CreatedAt: noon, UpdatedAt: noon},
				{Name: "a-b", Sealed: []byte("d"), CreatedAt: noon, UpdatedAt: noon},
				{Name: "a_b", Sealed: []byte("u"), CreatedAt: noon, UpdatedAt: noon},
				{Name: "zendesk", Sealed: []byte{2}, CreatedAt: noon, UpdatedAt: late},
			}, secrets)

			if err := s.DeleteSecret(t.Context(), "zendesk"); err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteSecret(t.Context(), "zendesk"); !errors.Is(err, storage.ErrNotFound) {
				t.Errorf("second delete: %v, want storage.ErrNotFound", err)
			}
			if secrets, err = s.Secrets(t.Context()); err != nil || len(secrets) != 3 {
				t.Errorf("%d secrets, %v; want 3", len(secrets), err)
			}
		}},
	}
}
