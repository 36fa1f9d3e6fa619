// Package recordings stores audio files in a directory, or in a bucket of an
// S3-compatible object store. It depends on neither calls nor databases: a file
// has a name, a size, and a digest. Only this package uses the S3 client.
package recordings

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// incoming is the subdirectory of a Folder for files that are still being written.
const incoming = "incoming"

// abandonedAfter is the age at which an incoming file counts as abandoned. No
// download takes that long.
const abandonedAfter = 24 * time.Hour

// receive writes content to a new file in the incoming directory, and flushes it.
// The caller closes the file and removes or renames it.
func receive(ctx context.Context, root *os.Root, name string, content io.Reader) (file *os.File, size int64, digest string, err error) {
	if err := root.MkdirAll(incoming, 0o700); err != nil {
		return nil, 0, "", err
	}
	file, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, 0, "", err
	}
	sum := sha256.New()
	size, err = io.Copy(io.MultiWriter(file, sum), contextReader(ctx, content))
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return nil, 0, "", errors.Join(fmt.Errorf("receive recording: %w", err), file.Close(), root.Remove(name))
	}
	return file, size, hex.EncodeToString(sum.Sum(nil)), nil
}

// contextReader returns a reader that fails when ctx ends.
func contextReader(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
