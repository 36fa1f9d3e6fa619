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

	"calltracker/storage"
)

// Folder keeps recordings as files. Nothing outside of it can be reached through
// it. It is safe for concurrent use, also by several processes.
type Folder struct {
	root *os.Root
	name string
}

// idFile holds what tells a folder from those of other servers.
const idFile = "id"

// OpenFolder opens a folder, and makes it when there is none.
func OpenFolder(path string) (*Folder, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("folder of recordings: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("folder of recordings: %w", err)
	}
	id, err := folderID(root)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("folder of recordings: %w", err), root.Close())
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
		err = fmt.Errorf("%s is empty; remove it to have another one made", idFile)
	}
	return string(id), err
}

// Close lets go of the folder.
func (f *Folder) Close() error { return f.root.Close() }

// Name tells this place from others, those of other servers included. It moves
// with the folder.
func (f *Folder) Name() string { return f.name }

// sharded spreads files over 65,536 folders, so that none gets large.
func sharded(name string) string {
	digest := sha256.Sum256([]byte(name))
	shard := hex.EncodeToString(digest[:2])
	return path.Join(shard[:2], shard[2:], name)
}

// Put keeps content under a name, whole or not at all, and durably: after a crash
// there is the old content or the new. It tells place, name, size and digest.
func (f *Folder) Put(ctx context.Context, name, _ string, content io.Reader) (kept storage.Recording, err error) {
	if !fs.ValidPath(name) || path.Base(name) != name || name == "." {
		return kept, fmt.Errorf("%q is no name of a file", name)
	}
	temporary := path.Join(incoming, rand.Text())
	file, kept, err := receive(ctx, f.root, temporary, content)
	if err != nil {
		return kept, err
	}
	at := sharded(name)
	kept.Place, kept.Name = f.Name(), at
	err = errors.Join(file.Close(), f.root.MkdirAll(path.Dir(at), 0o700))
	if err == nil {
		err = f.root.Rename(temporary, at)
	}
	if err != nil {
		return kept, errors.Join(fmt.Errorf("keep recording: %w", err), f.root.Remove(temporary))
	}
	// The new folders, too, have to be there after a power failure.
	for folder := path.Dir(at); ; folder = path.Dir(folder) {
		if err := f.flush(folder); err != nil {
			return kept, fmt.Errorf("keep recording: %w", err)
		}
		if folder == "." {
			return kept, nil
		}
	}
}

func (f *Folder) flush(folder string) error {
	opened, err := f.root.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}

// Open reads a part of what was kept. It returns storage.ErrNotFound when there
// is no such file, or it has another size.
func (f *Folder) Open(_ context.Context, r storage.Recording, from, length int64) (io.ReadCloser, error) {
	file, err := f.root.Open(r.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open recording: %w", storage.ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open recording: %w", err)
	}
	info, err := file.Stat()
	if err == nil && info.Size() != r.Bytes {
		err = fmt.Errorf("open recording: %w: it has another size", storage.ErrNotFound)
	}
	if err == nil {
		_, err = file.Seek(from, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{io.LimitReader(file, length), file}, nil
}

// Delete removes a file; that there is none is no error.
func (f *Folder) Delete(_ context.Context, r storage.Recording) error {
	err := f.root.Remove(r.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = f.flush(path.Dir(r.Name))
	}
	if err != nil {
		return fmt.Errorf("delete recording: %w", err)
	}
	return nil
}

// Tidy removes what downloads that were broken off by a crash have left.
func (f *Folder) Tidy(now time.Time) error {
	left, err := fs.ReadDir(f.root.FS(), incoming)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, entry := range left {
		info, err := entry.Info()
		if err == nil && now.Sub(info.ModTime()) > abandoned {
			errs = append(errs, f.root.Remove(path.Join(incoming, entry.Name())))
		}
	}
	return errors.Join(errs...)
}
