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

// fault is a failure of something that the server depends on.
type fault struct {
	name   string
	long   time.Duration // duration of every second occurrence; 0 means always short
	inject func(context.Context) error
	repair func(context.Context) error
}

// longFault exceeds the time after which the server stops waiting for a save.
const longFault = 4 * time.Second

// noop is an action that does nothing.
func noop(context.Context) error { return nil }

// faults returns the faults of the database, and those that are the same for every
// database.
func (c *crash) faults() []fault {
	plain := func(act func() error) func(context.Context) error {
		return func(context.Context) error { return act() }
	}
	return append(c.db.faults(c),
		fault{name: "data disk full", inject: c.fill, repair: c.free},
		fault{name: "Redis stopped", inject: plain(c.redis.Stop), repair: plain(c.redis.Start)},
		fault{name: "Redis paused", inject: plain(c.redis.Pause), repair: plain(c.redis.Resume)},
		fault{name: "none", inject: noop, repair: noop},
	)
}

// fill fills the data disk. If it is not a file system, fill limits the size of the
// server's files.
func (c *crash) fill(ctx context.Context) error {
	if c.data.mounted {
		return c.data.fill(ctx)
	}
	return limitFiles(ctx, c.server, 0)
}

// free ends what fill started.
func (c *crash) free(ctx context.Context) error {
	if c.data.mounted {
		return c.data.grow(ctx)
	}
	return c.unlimitFiles(ctx)
}

// unlimitFiles removes the limit that limitFiles set, if the server is running.
func (c *crash) unlimitFiles(ctx context.Context) error {
	if c.server == nil {
		return nil
	}
	return limitFiles(ctx, c.server, -1)
}

// limitFiles limits the size of the files that a process writes. -1 removes the
// limit.
func limitFiles(ctx context.Context, s *process, most int64) error {
	limit := "unlimited"
	if most >= 0 {
		limit = strconv.FormatInt(most, 10)
	}
	output, err := exec.CommandContext(ctx, "prlimit", "--pid", strconv.Itoa(s.command.Process.Pid), "--fsize="+limit+":unlimited").CombinedOutput()
	if err != nil {
		return fmt.Errorf("prlimit: %w: %s", err, output)
	}
	return nil
}

// database is the database of the server.
type database interface {
	url() string
	faults(c *crash) []fault
	close() error
}

// The databases. SQLite is the default of the server.
const (
	SQLite   = "sqlite"
	Postgres = "postgres"
)

// Databases returns the valid values of CrashOptions.Database.
func Databases() []string { return []string{SQLite, Postgres} }

func (c *crash) openDatabase(ctx context.Context) (database, error) {
	switch c.Database {
	case Postgres:
		return newPostgres(ctx)
	case SQLite:
		return sqlite{}, nil
	default:
		return nil, fmt.Errorf("unknown database %q: use one of %v", c.Database, Databases())
	}
}

// sqlite is the SQLite database in the server's data directory.
type sqlite struct{}

func (sqlite) url() string  { return "" }
func (sqlite) close() error { return nil }

// largestWAL is the file size limit when the disk of SQLite is "full". The WAL is
// larger by then, and segments of the spool are smaller.
const largestWAL = 64 << 10

func (sqlite) faults(c *crash) []fault {
	var lock *os.File
	return []fault{
		{
			name: "database locked", long: longFault,
			inject: func(context.Context) (err error) {
				lock, err = lockWriters(filepath.Join(c.data.dir, "data", "calltracker.db-shm"))
				return err
			},
			repair: func(context.Context) error { return lock.Close() },
		},
		{
			name:   "database full",
			inject: func(ctx context.Context) error { return limitFiles(ctx, c.server, largestWAL) },
			repair: c.unlimitFiles,
		},
	}
}

// lockWriters acquires the lock that a writer of SQLite holds in the WAL index
// (https://www.sqlite.org/walformat.html, 2.3), like another program that never
// releases it. Closing the file releases the lock.
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

// disk is a small file system in memory that can be filled, or a plain directory if
// mounting is not permitted.
type disk struct {
	dir     string
	mounted bool
}

const diskSize = "2g" // allocated only when used

func newDisk(ctx context.Context, dir string) (*disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // PostgreSQL runs as another user
		return nil, err
	}
	d := &disk{dir: dir}
	d.mounted = exec.CommandContext(ctx, "mount", "-t", "tmpfs", "-o", "size="+diskSize, "calltracker-trial", dir).Run() == nil
	return d, nil
}

func (d *disk) kind() string {
	if d.mounted {
		return "a tmpfs that shrinks to its used size"
	}
	return "a limit on the size of files, because a tmpfs cannot be mounted"
}

// fillStep is the additional free space of each attempt to fill a disk.
const fillStep = 64 << 10

// fill shrinks the file system to its used size. If files grow while it does so, it
// tries a slightly larger size.
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
	output, err := exec.CommandContext(ctx, "mount", "-o", "remount,size="+size, d.dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("remount %s with %s: %w: %s", d.dir, size, err, strings.TrimSpace(string(output)))
	}
	return nil
}

func (d *disk) close() error {
	if !d.mounted {
		return nil
	}
	return syscall.Unmount(d.dir, 0)
}
