// Package redistest starts Redis servers for tests, each on a free port with a
// folder of its own, and takes them away again. It needs the program
// redis-server; .ci/setup installs it.
package redistest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"calltracker/storage/storetest/daemon"
)

// Server is a Redis server that a test may stop, freeze and start again, empty:
// nothing is kept on disk. Its methods are for one goroutine.
type Server struct {
	dir string
	daemon.Daemon
}

// startTimeout is generous: the machine may be busy.
const startTimeout = 30 * time.Second

// New starts a server. Close takes it away.
func New() (*Server, error) {
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	s.Daemon = daemon.Daemon{
		Name: "redistest", Limit: startTimeout, Kill: syscall.SIGKILL,
		Command: func() (*exec.Cmd, error) {
			return exec.CommandContext(context.Background(), "redis-server", "--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1",
				"--dir", s.dir, "--save", "", "--appendonly", "no", "--daemonize", "no"), nil
		},
		Ready: func(ctx context.Context) error { return daemon.Until(ctx, s.ping) },
	}
	if err := s.StartAnywhere(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// ping asks whether it answers.
func (s *Server) ping(ctx context.Context) error {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", s.Host())
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	if err := connection.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := connection.Write([]byte("PING\r\n")); err != nil {
		return err
	}
	answer := make([]byte, 16)
	n, err := connection.Read(answer)
	if err == nil && string(answer[:n]) != "+PONG\r\n" {
		err = fmt.Errorf("it said %q", answer[:n])
	}
	return err
}

// URL is the address for clients. It stays the same over Stop and Start.
func (s *Server) URL() string { return "redis://" + s.Host() }

// Pause freezes the server: connections stay open and nothing answers.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	process, err := s.Process()
	if err != nil {
		return err
	}
	return process.Signal(sig)
}

// Close stops the server and removes what it left.
func (s *Server) Close() error { return errors.Join(s.Stop(), os.RemoveAll(s.dir)) }

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	return daemon.ForTest(t, New)
}

// Address is that of a running server for tests that neither stop it nor own
// it: the one of TEST_REDIS_URL, else one that ends with the test. Whoever uses
// it keeps to keys that begin with Prefix.
func Address(t testing.TB) string {
	t.Helper()
	return daemon.Given("TEST_REDIS_URL", func() string { return Start(t).URL() })
}

// Prefix is one that no other test has.
func Prefix() string { return "calltracker-test:" + rand.Text() + ":" }
