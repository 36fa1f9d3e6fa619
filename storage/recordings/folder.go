package recordings

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"time"
)

// Folder stores recordings as files in a directory. It gives no access to files
// outside the directory. It is safe for concurrent use, including by several
// processes.
type Folder struct {
	root *os.Root
	name string
}

// idFile is a file with a random ID, which distinguishes the directory from those
// of other servers.
const idFile = "id"

// OpenFolder opens a directory, and creates it if it does not exist.
func OpenFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open recordings directory: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open recordings directory: %w", err)
	}
	id, err := folderID(root)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open recordings directory: %w", err), root.Close())
	}
	return &Folder{root: root, name: "folder " + id}, nil
}

func folderID(root *os.Root) (string, error) {
	file, err := root.OpenFile(idFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		_, err = file.WriteString(rand.Text())
		if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
			return "", errors.Join(err, root.Remove(idFile))
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	id, err := root.ReadFile(idFile)
	if err == nil && len(id) == 0 {
		err = fmt.Errorf("%s file is empty: delete it to create a new one", idFile)
	}
	return string(id), err
}

// Close closes the directory.
func (f *Folder) Close() error { return f.root.Close() }

// Name returns a name that identifies this directory among all stores, including
// those of other servers. It stays the same when the directory is moved.
func (f *Folder) Name() string { return f.name }

// shardedPath spreads files over 65,536 subdirectories, so that each stays small.
func shardedPath(name string) string {
	digest := sha256.Sum256([]byte(name))
	shard := hex.EncodeToString(digest[:2])
	return path.Join(shard[:2], shard[2:], name)
}

// Put stores content as a file, completely or not at all, and replaces an earlier file
// of that name. After a crash the file has either the old or the new content. It
// returns the path within the directory, and the size and hexadecimal SHA-256 digest
// of the content.
func (f *Folder) Put(ctx context.Context, name, _ string, content io.Reader) (stored string, size int64, digest string, err error) {
	if !fs.ValidPath(name) || path.Base(name) != name || name == "." {
		return "", 0, "", fmt.Errorf("invalid recording file name %q: use a name without a path", name)
	}
	temporary := path.Join(incoming, rand.Text())
	file, size, digest, err := receive(ctx, f.root, temporary, content)
	if err != nil {
		return "", 0, "", err
	}
	stored = shardedPath(name)
	err = errors.Join(file.Close(), f.root.MkdirAll(path.Dir(stored), 0o700))
	if err == nil {
		err = f.root.Rename(temporary, stored)
	}
	if err != nil {
		return "", 0, "", errors.Join(fmt.Errorf("store recording: %w", err), f.root.Remove(temporary))
	}
	// New parent directories must survive a power failure too.
	for dir := path.Dir(stored); ; dir = path.Dir(dir) {
		if err := f.syncDir(dir); err != nil {
			return "", 0, "", fmt.Errorf("store recording: %w", err)
		}
		if dir == "." {
			return stored, size, digest, nil
		}
	}
}

func (f *Folder) syncDir(name string) error {
	dir, err := f.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Open reads length bytes of a stored file, starting at an offset. It returns an
// error that wraps fs.ErrNotExist if the file does not exist, or if its size is
// not size.
func (f *Folder) Open(_ context.Context, stored string, size, offset, length int64) (io.ReadCloser, error) {
	file, err := f.root.Open(stored)
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.Size() != size {
		err = fmt.Errorf("open recording: size is %d bytes, not %d: %w", info.Size(), size, fs.ErrNotExist)
	}
	if err == nil {
		_, err = file.Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(file, length), file}, nil
}

// Delete deletes a stored file. It returns nil if there is none.
func (f *Folder) Delete(_ context.Context, stored string) error {
	err := f.root.Remove(stored)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = f.syncDir(path.Dir(stored))
	}
	if err != nil {
		return fmt.Errorf("delete recording: %w", err)
	}
	return nil
}

// RemoveAbandoned deletes the files of downloads that a crash interrupted.
func (f *Folder) RemoveAbandoned(now time.Time) error {
	entries, err := fs.ReadDir(f.root.FS(), incoming)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, entry := range entries {
		info, err := entry.Info()
		if err == nil && now.Sub(info.ModTime()) > abandonedAfter {
			errs = append(errs, f.root.Remove(path.Join(incoming, entry.Name())))
		}
	}
	return errors.Join(errs...)
}
