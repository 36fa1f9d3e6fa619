// Package postgrestest starts PostgreSQL servers for tests, each on a free port with its
// own directory, and removes them when the test ends. It needs the PostgreSQL server programs,
// which .ci/setup installs. PostgreSQL refuses to run as root, so root runs it as the
// user postgres.
package postgrestest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"calltracker/storage/storetest/daemon"
)

// Server is a PostgreSQL server that a test may stop, pause, and restart. fsync is on, so
// acknowledged commits are on disk. Its methods must not be called concurrently.
type Server struct {
	dir string
	daemon.Daemon
}

// startTimeout is long because the machine may be busy and recovery takes time.
const startTimeout = time.Minute

// New creates a database cluster and starts a server on it. Close removes both.
// Settings such as "wal_level=minimal" override the defaults of this package.
func New(settings ...string) (*Server, error) { return NewIn("", settings...) }

// NewIn is like New but creates the cluster in a subdirectory of parent, such as a small
// file system. If parent is empty, it uses the directory for temporary files.
func NewIn(parent string, settings ...string) (*Server, error) {
	dir, err := os.MkdirTemp(parent, "postgrestest")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	s.Daemon = daemon.Daemon{
		Name: "postgrestest", StartTimeout: startTimeout, KillSignal: syscall.SIGQUIT,
		Command: func() (*exec.Cmd, error) { return s.command(settings) },
		// Poll, because the server logs that it is ready before it accepts connections.
		Ready: func(ctx context.Context) error {
			return daemon.RetryUntil(ctx, func(ctx context.Context) error {
				connection, err := pgx.Connect(ctx, s.URL())
				if err != nil {
					return err
				}
				return connection.Close(ctx)
			})
		},
	}
	if err = s.initialize(); err == nil {
		err = s.StartOnFreePort()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func (s *Server) initialize() error {
	owner, err := account()
	if err != nil {
		return err
	}
	if owner != nil {
		if err := os.Chown(s.dir, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	// --no-sync skips the fsync of thousands of new files, which tests do not need.
	command, err := program("initdb", "--pgdata", s.data(), "--auth", "trust", "--username", "postgres", "--encoding", "UTF8",
		"--locale", "C", "--no-sync")
	if err != nil {
		return err
	}
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("postgrestest: initdb: %w:\n%s", err, output)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// QueryRow runs a statement and scans its only row. It uses its own connection,
// independent of the server under test.
func QueryRow(t testing.TB, address, statement string, into ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	connection, err := pgx.Connect(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close(ctx) }()
	if err := connection.QueryRow(ctx, statement).Scan(into...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// account returns the user that runs PostgreSQL, or nil for the current user.
func account() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // nil is a valid credential
	}
	postgres, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("postgrestest: PostgreSQL cannot run as root and needs a user postgres: %w", err)
	}
	uid, err := strconv.ParseUint(postgres.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(postgres.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// program returns a command for a PostgreSQL program. On Debian the server programs are
// not in PATH.
func program(name string, args ...string) (*exec.Cmd, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
		if len(found) == 0 {
			return nil, fmt.Errorf("postgrestest: %s is not installed", name)
		}
		slices.Sort(found)
		path = found[len(found)-1]
	}
	credential, err := account()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(context.Background(), path, args...)
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	return command, nil
}

// URL returns the URL of the database postgres. It does not change when the server is
// restarted.
func (s *Server) URL() string { return s.database("postgres") }

func (s *Server) database(name string) string {
	return fmt.Sprintf("postgres://postgres@%s/%s?sslmode=disable", s.Host(), name)
}

func (s *Server) command(settings []string) (*exec.Cmd, error) {
	arguments := []string{"-D", s.data(), "-p", strconv.Itoa(s.Port)}
	for _, setting := range slices.Concat([]string{
		"listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=300", "shared_buffers=64MB",
		"fsync=on", "synchronous_commit=on", "log_min_messages=fatal", "logging_collector=off",
	}, settings) {
		arguments = append(arguments, "-c", setting)
	}
	return program("postgres", arguments...)
}

// Pause suspends all processes of the server. Connections stay open but get no reply.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume ends a pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

// signal sends a signal to the parent first, so that it cannot start more children
// (proc_pid_tid_children(5)).
func (s *Server) signal(sig syscall.Signal) error {
	process, err := s.Process()
	if err != nil {
		return err
	}
	parent := process.Pid
	if err := syscall.Kill(parent, sig); err != nil {
		return err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		return err
	}
	for field := range strings.FieldsSeq(string(text)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return err
		}
		if err := syscall.Kill(child, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// Close stops the server and removes its directory.
func (s *Server) Close() error { return errors.Join(s.Stop(), os.RemoveAll(s.dir)) }

// Start starts a server and closes it when the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	return daemon.ForTest(t, func() (*Server, error) { return New() })
}

// Address returns the URL of a server that tests share: the one in TEST_POSTGRES_URL or,
// if that is not set, a new one that is closed when the test ends. Tests must not stop
// it and must use only databases created by Database.
func Address(t testing.TB) string {
	t.Helper()
	return daemon.AddressFromEnv("TEST_POSTGRES_URL", func() string { return Start(t).URL() })
}

// Database creates a database on a server and returns its URL. It drops the database
// when the test ends only if the server is the one in TEST_POSTGRES_URL, because
// dropping takes seconds and other servers are removed anyway.
func Database(t testing.TB, server string) string {
	t.Helper()
	name := "test_" + strings.ToLower(rand.Text())
	execute(t.Context(), t, server, "CREATE DATABASE "+name)
	if os.Getenv("TEST_POSTGRES_URL") != "" {
		t.Cleanup(func() {
			execute(context.WithoutCancel(t.Context()), t, server, "DROP DATABASE "+name+" WITH (FORCE)")
		})
	}
	address, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	address.Path = "/" + name
	return address.String()
}

func execute(ctx context.Context, t testing.TB, server, statement string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	connection, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = connection.Close(ctx) }()
	if _, err := connection.Exec(ctx, statement); err != nil {
		t.Errorf("%s: %v", statement, err)
	}
}
