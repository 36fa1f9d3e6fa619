// Package postgrestest starts PostgreSQL servers for tests, each on a free port
// with a folder of its own, and takes them away again. It needs PostgreSQL's
// programs; .ci/setup installs them. As root it runs them as the user postgres,
// since PostgreSQL refuses to run as root.
package postgrestest

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Server is a PostgreSQL server that a test may stop, freeze and start again.
// fsync is on: what it acknowledges is on disk. Its methods are for one
// goroutine.
type Server struct {
	dir     string
	port    int
	command *exec.Cmd // nil while it is stopped
	exited  chan struct{}
}

// startTimeout is generous: the machine may be busy, and recovery takes a while.
const startTimeout = time.Minute

// New makes a database cluster and starts a server on it. Close takes both away.
func New() (*Server, error) { return NewIn("") }

// NewIn is New with the cluster in a folder of parent, such as a small disk of
// its own; empty is that for temporary files.
func NewIn(parent string) (*Server, error) {
	dir, err := os.MkdirTemp(parent, "postgrestest")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	err = s.initialize()
	for range 5 { // somebody else may take the port between choosing and using it
		if err != nil {
			break
		}
		if s.port, err = freePort(); err != nil {
			break
		}
		if err = s.Start(); err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(err, os.RemoveAll(dir))
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
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, name)
}

// Start starts a server that was stopped, on its old port, with what it has kept.
func (s *Server) Start() error {
	if s.command != nil {
		return errors.New("postgrestest: it runs already")
	}
	command, err := program("postgres", "-D", s.data(), "-p", strconv.Itoa(s.port),
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "max_connections=300",
		"-c", "shared_buffers=64MB", "-c", "fsync=on", "-c", "synchronous_commit=on", "-c", "log_min_messages=fatal", "-c", "logging_collector=off")
	if err != nil {
		return err
	}
	out, err := command.StderrPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("postgrestest: %w", err)
	}
	exited := make(chan struct{})
	var (
		mu  sync.Mutex
		log strings.Builder
	)
	go func() {
		defer close(exited)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			mu.Lock()
			if log.Len() < 1<<16 {
				fmt.Fprintln(&log, lines.Text())
			}
			mu.Unlock()
		}
		_, _ = io.Copy(io.Discard, out) // a line too long for the scanner must not block the server
		_ = command.Wait()              // killed, most likely
	}()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := answers(ctx, s.URL(), exited); err != nil {
		_ = command.Process.Signal(syscall.SIGQUIT)
		<-exited
		mu.Lock()
		defer mu.Unlock()
		return fmt.Errorf("postgrestest: %w:\n%s", err, log.String())
	}
	s.command, s.exited = command, exited
	return nil
}

// answers waits until a server takes connections. There is nothing to be told
// by: its log says so before it is true of the address.
func answers(ctx context.Context, address string, exited <-chan struct{}) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		connection, err := pgx.Connect(ctx, address)
		if err == nil {
			return connection.Close(ctx)
		}
		select {
		case <-again.C:
		case <-exited:
			return errors.New("postgres ended at once")
		case <-ctx.Done():
			return fmt.Errorf("postgres is not ready after %s: %w", startTimeout, err)
		}
	}
}

// Stop ends the server at once, as a crash would, and waits for its end. What it
// has acknowledged is there after the next Start.
func (s *Server) Stop() error {
	if s.command == nil {
		return nil
	}
	err := s.command.Process.Signal(syscall.SIGQUIT)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-s.exited
	s.command = nil
	return err
}

// Pause freezes the server and all its processes: connections stay open and
// nothing answers.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

// signal reaches the parent first, so that it makes no more children meanwhile
// (proc_pid_tid_children(5)).
func (s *Server) signal(sig syscall.Signal) error {
	if s.command == nil {
		return errors.New("postgrestest: it does not run")
	}
	parent := s.command.Process.Pid
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

func freePort() (int, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Address is that of a running server for tests that neither stop it nor own it:
// the one of TEST_POSTGRES_URL, else one that ends with the test. Whoever uses it
// keeps to databases made by Database.
func Address(t testing.TB) string {
	t.Helper()
	if given := os.Getenv("TEST_POSTGRES_URL"); given != "" {
		return given
	}
	return Start(t).URL()
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
