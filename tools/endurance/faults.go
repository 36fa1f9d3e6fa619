package endurance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// fault is something that goes wrong around the server, and is put right again.
type fault struct {
	name   string
	lasts  time.Duration // when it lasts long; 0 is never
	strike func(context.Context) error
	mend   func(context.Context) error
}

// long is enough for saves to be given up.
const long = 4 * time.Second

func nothing(context.Context) error { return nil }

// faults lists what may happen to a server, whatever its database.
func (c *crash) faults() []fault {
	plain := func(act func() error) func(context.Context) error {
		return func(context.Context) error { return act() }
	}
	return append(c.base.faults(c),
		fault{name: "data disk full", strike: c.fill, mend: c.makeRoom},
		fault{name: "Redis stopped", strike: plain(c.redis.Stop), mend: plain(c.redis.Start)},
		fault{name: "Redis paused", strike: plain(c.redis.Pause), mend: plain(c.redis.Resume)},
		fault{name: "none", strike: nothing, mend: nothing},
	)
}

// fill makes the data disk full, for the server at least.
func (c *crash) fill(ctx context.Context) error {
	if c.data.mounted {
		return c.data.fill(ctx)
	}
	return limitFiles(ctx, c.server, 0)
}

func (c *crash) makeRoom(ctx context.Context) error {
	if c.data.mounted {
		return c.data.grow(ctx)
	}
	return c.unlimitFiles(ctx)
}

// unlimitFiles ends what limitFiles began, if the process is still there.
func (c *crash) unlimitFiles(ctx context.Context) error {
	if c.server == nil {
		return nil
	}
	return limitFiles(ctx, c.server, -1)
}

// limitFiles bounds how large the files of a process may grow, for as long as it
// lives or until the limit is unlimited (-1).
func limitFiles(ctx context.Context, s *process, most int64) error {
	limit := "unlimited"
	if most >= 0 {
		limit = strconv.FormatInt(most, 10)
	}
	said, err := exec.CommandContext(ctx, "prlimit", "--pid", strconv.Itoa(s.command.Process.Pid), "--fsize="+limit+":unlimited").CombinedOutput()
	if err != nil {
		return fmt.Errorf("prlimit: %w: %s", err, said)
	}
	return nil
}

// database is what the server keeps its records in.
type database interface {
	url() string
	faults(c *crash) []fault
	close() error
}

// The databases; SQLite is that of those who configure none.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Databases lists what Crash can be told to use.
func Databases() []string { return []string{SQLite, Postgres} }

func (c *crash) openDatabase(ctx context.Context) (database, error) {
	switch c.Database {
	case Postgres:
		return newPostgres(ctx)
	case SQLite:
		return sqlite{}, nil
	default:
		return nil, fmt.Errorf("%q is none of %v", c.Database, Databases())
	}
}

// sqlite is the file in the server's data directory.
type sqlite struct{}

func (sqlite) url() string  { return "" }
func (sqlite) close() error { return nil }

// largestWAL is as far as SQLite's log may grow when its disk is "full": it has
// outgrown that by then, while files of the spool have room below.
const largestWAL = 64 << 10

func (sqlite) faults(c *crash) []fault {
	var held *os.File
	return []fault{
		{
			name: "database locked", lasts: long,
			strike: func(context.Context) (err error) {
				held, err = lockWriters(filepath.Join(c.data.dir, "data", "calltracker.db-shm"))
				return err
			},
			mend: func(context.Context) error { return held.Close() },
		},
		{
			name:   "database full",
			strike: func(ctx context.Context) error { return limitFiles(ctx, c.server, largestWAL) },
			mend:   c.unlimitFiles,
		},
	}
}

// lockWriters takes the lock that a writer of SQLite holds in its log's index
// (https://www.sqlite.org/walformat.html, 2.3), as another program would that
// does not let go of it. Closing the file gives it back.
func lockWriters(path string) (*os.File, error) {
	const writeLock = 120
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Start: writeLock, Len: 1}
	if err := syscall.FcntlFlock(file.Fd(), syscall.F_SETLKW, &lock); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// disk is a small file system in memory, so that it can be full; a plain folder
// where we may not mount one.
type disk struct {
	dir     string
	mounted bool
}

const diskSize = "2g" // taken up only as far as it is used

func newDisk(ctx context.Context, dir string) (*disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // PostgreSQL runs as somebody else
		return nil, err
	}
	d := &disk{dir: dir}
	d.mounted = exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", "size="+diskSize, "calltracker-trial", dir).Run() == nil
	return d, nil
}

func (d *disk) kind() string {
	if d.mounted {
		return "a tmpfs that shrinks to what is used"
	}
	return "a limit on the size of files, since no tmpfs could be mounted"
}

// fillStep is what each try of filling a disk leaves free beyond the last.
const fillStep = 64 << 10

// fill leaves hardly any room: the file system shrinks to what is used. Files
// that grow fast may have to be given a little more.
func (d *disk) fill(ctx context.Context) (err error) {
	for free := int64(0); free < 100*fillStep; free += fillStep {
		var used syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &used); err != nil {
			return err
		}
		if err = d.resize(ctx, strconv.FormatInt(int64(used.Blocks-used.Bfree)*used.Bsize+free, 10)); err == nil {
			return nil
		}
	}
	return err
}

func (d *disk) grow(ctx context.Context) error { return d.resize(ctx, diskSize) }

func (d *disk) resize(ctx context.Context, size string) error {
	said, err := exec.CommandContext(ctx, "mount", "-o", "remount,size="+size, d.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("remount %s with %s: %w: %s", d.dir, size, err, strings.TrimSpace(string(said)))
	}
	return nil
}

func (d *disk) close() error {
	if !d.mounted {
		return nil
	}
	return syscall.Unmount(d.dir, 0)
}
