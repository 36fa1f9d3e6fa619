// Package recordings keeps files of sound: in a folder, or in a bucket of an
// object store that speaks S3's protocol. It is a room of its own, since it knows
// neither calls nor databases, and the client of S3 must not spread.
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

	"calltracker/storage"
)

// incoming is the folder of files that are not whole yet, within that of a Folder.
const incoming = "incoming"

// abandoned is after how long an incoming file is nobody's: no download takes that
// long.
const abandoned = 24 * time.Hour

// receive writes content to a new file among the incoming, and flushes it. Who
// calls it closes the file and removes it from there.
func receive(ctx context.Context, root *os.Root, name string, content io.Reader) (file *os.File, kept storage.Recording, err error) {
	if err := root.MkdirAll(incoming, 0o700); err != nil {
		return nil, kept, err
	}
	file, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, kept, err
	}
	sum := sha256.New()
	kept.Bytes, err = io.Copy(io.MultiWriter(file, sum), readerOf(ctx, content))
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return nil, kept, errors.Join(fmt.Errorf("receive recording: %w", err), file.Close(), root.Remove(name))
	}
	kept.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return file, kept, nil
}

// readerOf stops reading when the context ends.
func readerOf(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
