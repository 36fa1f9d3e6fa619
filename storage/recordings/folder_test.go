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

	"calltracker/storage"
	"calltracker/storage/recordings"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// place is what both places are held to.
type place interface {
	Name() string
	Put(ctx context.Context, name, contentType string, content io.Reader) (storage.Recording, error)
	Open(ctx context.Context, r storage.Recording, from, length int64) (io.ReadCloser, error)
	Delete(ctx context.Context, r storage.Recording) error
}

func folder(t *testing.T) (*recordings.Folder, string) {
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

// files are those in a folder, by their paths within it, but for its id.
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

func read(t *testing.T, p place, r storage.Recording, from, length int64) string {
	t.Helper()
	body, err := p.Open(t.Context(), r, from, length)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		t.Error(err)
	}
	return string(content)
}

// behaves is how every place behaves.
func behaves(t *testing.T, p place) {
	t.Helper()
	content := bytes.Repeat([]byte("sound and "), 100_000)
	kept, err := p.Put(t.Context(), "call-1.mp3", "audio/mpeg", iotest.HalfReader(bytes.NewReader(content)))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	if kept.Place != p.Name() || !strings.HasSuffix(kept.Name, "call-1.mp3") || kept.Bytes != int64(len(content)) || kept.SHA256 != hex.EncodeToString(sum[:]) {
		t.Errorf("%+v", kept)
	}
	if read(t, p, kept, 0, kept.Bytes) != string(content) || read(t, p, kept, 3, 10) != string(content[3:13]) || read(t, p, kept, kept.Bytes-1, 1) != " " {
		t.Error("what is read is not what was kept")
	}
	shorter := kept
	shorter.Bytes--
	if _, err := p.Open(t.Context(), shorter, 0, 10); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("of another size: %v", err)
	}

	again, err := p.Put(t.Context(), "call-1.mp3", "audio/mpeg", strings.NewReader("another"))
	if err != nil || again.Name != kept.Name || read(t, p, again, 0, 7) != "another" {
		t.Errorf("in its place: %+v, %v", again, err)
	}
	broken := errors.New("the line broke")
	if _, err := p.Put(t.Context(), "call-1.mp3", "audio/mpeg", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("half a recording: %v", err)
	}
	if read(t, p, again, 0, 7) != "another" {
		t.Error("half a recording took the place of a whole one")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Put(ctx, "call-2.mp3", "audio/mpeg", strings.NewReader("late")); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	for range 2 {
		if err := p.Delete(t.Context(), again); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if _, err := p.Open(t.Context(), again, 0, 7); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

func TestFolder(t *testing.T) {
	f, path := folder(t)
	behaves(t, f)
	if left := files(t, path); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func TestFoldersAreToldApart(t *testing.T) {
	f, path := folder(t)
	other, _ := folder(t)
	again, err := recordings.OpenFolder(path)
	if err != nil {
		t.Fatal(err)
	}
	if f.Name() != again.Name() || f.Name() == other.Name() {
		t.Errorf("%s, again %s, another %s", f.Name(), again.Name(), other.Name())
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestFolderSpreadsItsFilesAndKeepsThemPrivate(t *testing.T) {
	f, path := folder(t)
	kept, err := f.Put(t.Context(), "a.mp3", "audio/mpeg", strings.NewReader("sound"))
	if err != nil {
		t.Fatal(err)
	}
	if parts := strings.Split(kept.Name, "/"); len(parts) != 3 || len(parts[0]) != 2 || len(parts[1]) != 2 {
		t.Errorf("it is at %s", kept.Name)
	}
	info, err := os.Stat(filepath.Join(path, filepath.FromSlash(kept.Name)))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestFolderCannotBeLeft(t *testing.T) {
	f, path := folder(t)
	outside := filepath.Join(filepath.Dir(path), "outside")
	if err := os.WriteFile(outside, []byte("private"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"../outside", "a/b", "", ".", "..", "/etc/passwd"} {
		if _, err := f.Put(t.Context(), name, "audio/mpeg", strings.NewReader("x")); err == nil {
			t.Errorf("%q is kept", name)
		}
	}
	if body, err := f.Open(t.Context(), storage.Recording{Name: "../outside", Bytes: 7}, 0, 7); err == nil {
		_ = body.Close()
		t.Error("what is outside is read")
	}
	if err := f.Delete(t.Context(), storage.Recording{Name: "../outside"}); err == nil {
		t.Error("what is outside is deleted")
	}
	if _, err := os.Stat(outside); err != nil {
		t.Error(err)
	}
}

// What a crash left among the incoming goes once it is old.
func TestFolderTidiesUp(t *testing.T) {
	f, path := folder(t)
	if err := f.Tidy(time.Now()); err != nil {
		t.Errorf("nothing to do: %v", err)
	}
	left := filepath.Join(path, "incoming", "left")
	if err := errors.Join(os.MkdirAll(filepath.Dir(left), 0o700), os.WriteFile(left, []byte("half"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := f.Tidy(time.Now().Add(time.Hour)); err != nil || len(files(t, path)) != 1 {
		t.Errorf("a download that may be under way: %v, %v", files(t, path), err)
	}
	if err := f.Tidy(time.Now().Add(25 * time.Hour)); err != nil || len(files(t, path)) != 0 {
		t.Errorf("an old one: %v, %v", files(t, path), err)
	}
}
