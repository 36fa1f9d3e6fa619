// Package redistest starts Redis servers for tests, each on a free port with a
// folder of its own, and takes them away again. It needs the program
// redis-server; .ci/setup installs it.
package redistest

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Server is a Redis server that a test may stop, freeze and start again. Its
// methods are for one goroutine.
type Server struct {
	dir     string
	port    int
	command *exec.Cmd // nil while it is stopped
	exited  chan struct{}
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
	for range 5 { // somebody else may take the port between choosing and using it
		if s.port, err = freePort(); err != nil {
			break
		}
		if err = s.Start(); err == nil {
			return s, nil
		}
	}
	return nil, errors.Join(err, os.RemoveAll(dir))
}

// URL is the address for clients. It stays the same over Stop and Start.
func (s *Server) URL() string { return "redis://127.0.0.1:" + strconv.Itoa(s.port) }

// Start starts a server that was stopped, on its old port and empty: nothing is
// kept on disk.
func (s *Server) Start() error {
	if s.command != nil {
		return errors.New("redistest: it runs already")
	}
	command := exec.CommandContext(context.Background(), "redis-server",
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "", "--appendonly", "no", "--daemonize", "no")
	out, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return fmt.Errorf("redistest: %w", err)
	}
	ready, exited := make(chan struct{}), make(chan struct{})
	var log strings.Builder
	go func() {
		defer close(exited)
		lines, found := bufio.NewScanner(out), false
		for lines.Scan() {
			if !found {
				fmt.Fprintln(&log, lines.Text())
			}
			if !found && strings.Contains(lines.Text(), "Ready to accept connections") {
				found = true
				close(ready)
			}
		}
		_, _ = io.Copy(io.Discard, out) // a line too long for the scanner must not block the server
		_ = command.Wait()              // killed, most likely
	}()
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-ready:
		s.command, s.exited = command, exited
		return nil
	case <-exited:
		return fmt.Errorf("redistest: redis-server ended at once:\n%s", log.String())
	case <-timeout.C:
		err := command.Process.Kill()
		<-exited
		return errors.Join(fmt.Errorf("redistest: redis-server is not ready after %s", startTimeout), err)
	}
}

// Stop kills the server and waits for its end.
func (s *Server) Stop() error {
	if s.command == nil {
		return nil
	}
	err := s.command.Process.Signal(syscall.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-s.exited
	s.command = nil
	return err
}

// Pause freezes the server: connections stay open and nothing answers.
func (s *Server) Pause() error { return s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() error { return s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) error {
	if s.command == nil {
		return errors.New("redistest: it does not run")
	}
	return s.command.Process.Signal(sig)
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

// Address is that of a running server for tests that neither stop it nor own
// it: the one of TEST_REDIS_URL, else one that ends with the test. Whoever uses
// it keeps to keys that begin with Prefix.
func Address(t testing.TB) string {
	t.Helper()
	if given := os.Getenv("TEST_REDIS_URL"); given != "" {
		return given
	}
	return Start(t).URL()
}

// Prefix is one that no other test has.
func Prefix() string { return "calltracker-test:" + rand.Text() + ":" }
