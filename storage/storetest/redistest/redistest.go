// Package redistest starts Redis servers for tests, each on a free port with its own
// directory, and removes them when the test ends. It needs the program redis-server, which
// .ci/setup installs.
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

// Server is a Redis server that a test may stop, pause, and restart. It stores nothing on
// disk, so it is empty after a restart. Its methods must not be called concurrently.
type Server struct {
	dir string
	daemon.Daemon
}

// startTimeout is long because the machine may be busy.
const startTimeout = 30 * time.Second

// New starts a server. Close removes it.
func New() (*Server, error) {
	dir, err := os.MkdirTemp("", "redistest")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	s.Daemon = daemon.Daemon{
		Name: "redistest", StartTimeout: startTimeout, KillSignal: syscall.SIGKILL,
		Command: func() (*exec.Cmd, error) {
			return exec.CommandContext(context.Background(), "redis-server", "--port", strconv.Itoa(s.Port), "--bind", "127.0.0.1",
				"--dir", s.dir, "--save", "", "--appendonly", "no", "--daemonize", "no"), nil
		},
		Ready: func(ctx context.Context) error { return daemon.RetryUntil(ctx, s.ping) },
	}
	if err := s.StartOnFreePort(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

// ping returns an error unless the server answers a PING.
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
	reply := make([]byte, 16)
	n, err := connection.Read(reply)
	if err == nil && string(reply[:n]) != "+PONG\r\n" {
		err = fmt.Errorf("unexpected reply %q", reply[:n])
	}
	return err
}

// URL returns the URL for clients. It does not change when the server is restarted.
func (s *Server) URL() string { return "redis://" + s.Host() }

// Pause suspends the server. Connections stay open but get no reply.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume ends a pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	process, err := s.Process()
	if err != nil {
		return err
	}
	return process.Signal(sig)
}

// Close stops the server and removes its directory.
func (s *Server) Close() error { return errors.Join(s.Stop(), os.RemoveAll(s.dir)) }

// Start starts a server and closes it when the test ends.
func Start(t testing.TB) *Server {
	t.Helper()
	return daemon.ForTest(t, New)
}

// Address returns the URL of a server that tests share: the one in TEST_REDIS_URL or, if
// that is not set, a new one that is closed when the test ends. Tests must not stop it
// and must use only keys that start with a Prefix.
func Address(t testing.TB) string {
	t.Helper()
	return daemon.AddressFromEnv("TEST_REDIS_URL", func() string { return Start(t).URL() })
}

// Prefix returns a unique key prefix.
func Prefix() string { return "calltracker-test:" + rand.Text() + ":" }
