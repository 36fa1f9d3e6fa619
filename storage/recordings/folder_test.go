package recordings_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"calltracker/storage/recordings"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// store is the behavior that Folder and Bucket share.
type store interface {
	Name() string
	Put(ctx context.Context, name, contentType string, content io.Reader) (stored string, size int64, digest string, err error)
	Open(ctx context.Context, stored string, size, offset, length int64) (io.ReadCloser, error)
	Delete(ctx context.Context, stored string) error
}

func openFolder(t *testing.T) (*recordings.Folder, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "recordings")
	f, err := recordings.OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f, path
}

// files returns the paths of the files in a directory, except for its ID file.
func files(t *testing.T, path string) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS(path), ".", func(at string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && at != "id" {
			found = append(found, at)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, s store, stored string, size, offset, length int64) string {
	t.Helper()
	body, err := s.Open(t.Context(), stored, size, offset, length)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		t.Error(err)
	}
	return string(content)
}

// testStore tests the behavior that every store has.
func testStore(t *testing.T, s store) {
	t.Helper()
	content := bytes.Repeat([]byte("sound and "), 100_000)
	stored, size, digest, err := s.Put(t.Context(), "call-1.mp3", "audio/mpeg", iotest.HalfReader(bytes.NewReader(content)))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	if !strings.HasSuffix(stored, "call-1.mp3") || size != int64(len(content)) || digest != hex.EncodeToString(sum[:]) {
		t.Errorf("Put returned %q, %d, %q", stored, size, digest)
	}
	if read(t, s, stored, size, 0, size) != string(content) || read(t, s, stored, size, 3, 10) != string(content[3:13]) || read(t, s, stored, size, size-1, 1) != " " {
		t.Error("Open read content that differs from the content of Put")
	}
	if _, err := s.Open(t.Context(), stored, size-1, 0, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open with another size: %v", err)
	}

	replaced, size, _, err := s.Put(t.Context(), "call-1.mp3", "audio/mpeg", strings.NewReader("another"))
	if err != nil || replaced != stored || read(t, s, stored, size, 0, 7) != "another" {
		t.Errorf("replacing: %q, %d, %v", replaced, size, err)
	}
	readErr := errors.New("connection lost")
	if _, _, _, err := s.Put(t.Context(), "call-1.mp3", "audio/mpeg", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(readErr))); !errors.Is(err, readErr) {
		t.Errorf("Put of half a recording: %v", err)
	}
	if read(t, s, stored, size, 0, 7) != "another" {
		t.Error("half a recording replaced a complete one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := s.Put(ctx, "call-2.mp3", "audio/mpeg", strings.NewReader("late")); !errors.Is(err, context.Canceled) {
		t.Errorf("Put with a canceled context: %v", err)
	}
	for range 2 {
		if err := s.Delete(t.Context(), stored); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if _, err := s.Open(t.Context(), stored, size, 0, 7); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open after Delete: %v", err)
	}
}

func TestFolder(t *testing.T) {
	f, path := openFolder(t)
	testStore(t, f)
	if remaining := files(t, path); len(remaining) > 0 {
		t.Errorf("remaining files: %v", remaining)
	}
}

func TestFolderNamesAreUnique(t *testing.T) {
	f, path := openFolder(t)
	other, _ := openFolder(t)
	again, err := recordings.OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	if f.Name() != again.Name() || f.Name() == other.Name() {
		t.Errorf("name %s, reopened %s, another folder %s", f.Name(), again.Name(), other.Name())
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestFolderShardsFilesWithPrivateMode(t *testing.T) {
	f, path := openFolder(t)
	stored, _, _, err := f.Put(t.Context(), "a.mp3", "audio/mpeg", strings.NewReader("sound"))
	if err != nil {
		t.Fatal(err)
	}
	if parts := strings.Split(stored, "/"); len(parts) != 3 || len(parts[0]) != 2 || len(parts[1]) != 2 {
		t.Errorf("stored at %s, want two levels of subdirectories", stored)
	}
	info, err := os.Stat(filepath.Join(path, filepath.FromSlash(stored)))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file info %v, error %v, want mode 0600", info, err)
	}
}

func TestFolderGivesNoAccessOutside(t *testing.T) {
	f, path := openFolder(t)
	outside := filepath.Join(filepath.Dir(path), "outside")
	if err := os.WriteFile(outside, []byte("private"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../outside", "a/b", "", ".", "..", "/etc/passwd"} {
		if _, _, _, err := f.Put(t.Context(), name, "audio/mpeg", strings.NewReader("x")); err == nil {
			t.Errorf("Put accepted the name %q", name)
		}
	}
	if body, err := f.Open(t.Context(), "../outside", 7, 0, 7); err == nil {
		_ = body.Close()
		t.Error("Open read a file outside the folder")
	}
	if err := f.Delete(t.Context(), "../outside"); err == nil {
		t.Error("Delete deleted a file outside the folder")
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

func TestFolderRemoveAbandoned(t *testing.T) {
	f, path := openFolder(t)
	if err := f.RemoveAbandoned(time.Now()); err != nil {
		t.Errorf("without incoming files: %v", err)
	}
	incoming := filepath.Join(path, "incoming", "file")
	if err := errors.Join(os.MkdirAll(filepath.Dir(incoming), 0o700), os.WriteFile(incoming, []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := f.RemoveAbandoned(time.Now().Add(time.Hour)); err != nil || len(files(t, path)) != 1 {
		t.Errorf("with a recent file: %v, %v", files(t, path), err)
	}
	if err := f.RemoveAbandoned(time.Now().Add(25 * time.Hour)); err != nil || len(files(t, path)) != 0 {
		t.Errorf("with an old file: %v, %v", files(t, path), err)
	}
}
