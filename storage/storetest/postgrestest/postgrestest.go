// Package postgrestest starts PostgreSQL servers for tests, each on a free port
// with a folder of its own, and takes them away again. It needs PostgreSQL's
// programs; .ci/setup installs them. As root it runs them as the user postgres,
// since PostgreSQL refuses to run as root.
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

// Server is a PostgreSQL server that a test may stop, freeze and start again.
// fsync is on: what it acknowledges is on disk. Its methods are for one
// goroutine.
type Server struct {
	dir string
	daemon.Daemon
}

// startTimeout is generous: the machine may be busy, and recovery takes a while.
const startTimeout = time.Minute

// New makes a database cluster and starts a server on it. Close takes both away.
// Settings, such as "wal_level=minimal", come after its own.
func New(settings ...string) (*Server, error) { return NewIn("", settings...) }

// NewIn is New with the cluster in a folder of parent, such as a small disk of
// its own; empty is that for temporary files.
func NewIn(parent string, settings ...string) (*Server, error) {
	dir, err := os.MkdirTemp(parent, "postgrestest")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	s.Daemon = daemon.Daemon{
		Name: "postgrestest", Limit: startTimeout, Kill: syscall.SIGQUIT,
		Command: func() (*exec.Cmd, error) { return s.command(settings) },
		// There is nothing to be told by: its log says so before it is true of the address.
		Ready: func(ctx context.Context) error {
			return daemon.Until(ctx, func(ctx context.Context) error {
				connection, err := pgx.Connect(ctx, s.URL())
				if err != nil {
					return err
				}
				return connection.Close(ctx)
			})
		},
	}
	if err = s.initialize(); err == nil {
		err = s.StartAnywhere()
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
	// initdb's own fsync of a few thousand new files proves nothing here.
	command, err := program("initdb", "--pgdata", s.data(), "--auth", "trust", "--username", "postgres", "--encoding", "UTF8",
		"--locale", "C", "--no-sync")
	if err != nil {
		return err
	}
	if said, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("postgrestest: initdb: %w:\n%s", err, said)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// Row reads the only row of a statement's answer, on a connection of its own: as
// somebody who is not the server under test.
func Row(t testing.TB, address, statement string, into ...any) {
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

// account is who runs PostgreSQL; nil for whoever runs the test.
func account() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // nobody else is an answer
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("postgrestest: PostgreSQL does not run as root: %w", err)
	}
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(who.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// program is one of PostgreSQL's; Debian keeps those of the server out of PATH.
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
	who, err := account()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(context.Background(), path, args...)
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	return command, nil
}

// URL is the address of its database postgres. It stays the same over Stop and
// Start.
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

// Pause freezes the server and all its processes: connections stay open and
// nothing answers.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

// signal reaches the parent first, so that it makes no more children meanwhile
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

// Close stops the server and removes what it left.
func (s *Server) Close() error { return errors.Join(s.Stop(), os.RemoveAll(s.dir)) }

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	return daemon.ForTest(t, func() (*Server, error) { return New() })
}

// Address is that of a running server for tests that neither stop it nor own it:
// the one of TEST_POSTGRES_URL, else one that ends with the test. Whoever uses it
// keeps to databases made by Database.
func Address(t testing.TB) string {
	t.Helper()
	return daemon.Given("TEST_POSTGRES_URL", func() string { return Start(t).URL() })
}

// Database makes a new database on a server and gives its address. It goes with the server, or with
// the test where the server stays: dropping a database takes the server seconds.
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
