// Package daemon runs servers of other projects for tests. Each server listens on a free
// local port. If a start fails, the error contains the output of the server.
package daemon

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Daemon is a server that can be stopped, paused, and restarted on the same port. Its
// methods must not be called concurrently.
type Daemon struct {
	Name string // name for errors
	Port int

	// Command returns the command that runs the server on Port.
	Command func() (*exec.Cmd, error)
	// Ready returns when the server answers or ctx ends.
	Ready func(ctx context.Context) error
	// StartTimeout limits the time until the server answers.
	StartTimeout time.Duration
	// KillSignal ends the server immediately.
	KillSignal syscall.Signal

	command *exec.Cmd // nil while the server is stopped
	exited  chan struct{}
}

// errExited is returned if a server exits before it answers.
var errExited = errors.New("server exited during start")

// maxOutput limits the output of a server that is kept.
const maxOutput = 1 << 16

// StartOnFreePort starts the server on a free port. It tries another port if the server
// exits, because another process may have taken the port.
func (d *Daemon) StartOnFreePort() (err error) {
	for range 5 {
		if d.Port, err = freePort(); err != nil {
			return err
		}
		if err = d.Start(); !errors.Is(err, errExited) {
			return err
		}
	}
	return err
}

// Start starts a stopped server on Port and waits until it answers.
func (d *Daemon) Start() error {
	if d.command != nil {
		return fmt.Errorf("%s: already running", d.Name)
	}
	command, err := d.Command()
	if err != nil {
		return err
	}
	pipe, writer, err := os.Pipe()
	if err != nil {
		return err
	}
	command.Stdout, command.Stderr = writer, writer
	err = errors.Join(command.Start(), writer.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", d.Name, err), pipe.Close())
	}
	var out output
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		out.readAll(pipe) // until the server and its children have exited
		_ = pipe.Close()
		_ = command.Wait() // usually an error, because the server was killed
	}()
	ctx, cancel := context.WithTimeout(context.Background(), d.StartTimeout)
	defer cancel()
	ready := make(chan struct{})
	var readyErr error
	go func() {
		defer close(ready)
		readyErr = d.Ready(ctx)
	}()
	select {
	case <-ready:
		err = readyErr
	case <-exited:
		cancel()
		<-ready
		err = errExited
	}
	if err != nil {
		_ = command.Process.Signal(d.KillSignal)
		<-exited
		return fmt.Errorf("%s: %w\n%s", d.Name, err, out.String())
	}
	d.command, d.exited = command, exited
	return nil
}

// output is the first part of the output of a server.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

// readAll reads until the end of the output.
func (o *output) readAll(from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		o.mu.Lock()
		if o.text.Len() < maxOutput {
			fmt.Fprintln(&o.text, lines.Text())
		}
		o.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, from) // the scanner stops at a line that is too long, but the server must not block
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Stop kills the server, as a crash would, and waits until it has exited.
func (d *Daemon) Stop() error {
	if d.command == nil {
		return nil
	}
	err := d.command.Process.Signal(d.KillSignal)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-d.exited
	d.command = nil
	return err
}

// Process returns the process of the running server.
func (d *Daemon) Process() (*os.Process, error) {
	if d.command == nil {
		return nil, fmt.Errorf("%s: not running", d.Name)
	}
	return d.command.Process, nil
}

// Host returns the host and port of the server.
func (d *Daemon) Host() string { return fmt.Sprintf("127.0.0.1:%d", d.Port) }

// RetryUntil calls attempt repeatedly until it succeeds or ctx ends.
func RetryUntil(ctx context.Context, attempt func(ctx context.Context) error) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := attempt(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("server does not answer: %w", err)
		}
	}
}

func freePort() (int, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	port := listener.Addr().(*net.TCPAddr).Port
	return port, listener.Close()
}

// closer is a server that can be closed.
type closer interface{ Close() error }

// ForTest starts a server and closes it when the test ends.
func ForTest[S closer](t testing.TB, start func() (S, error)) S {
	t.Helper()
	s, err := start()
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

// AddressFromEnv returns the value of an environment variable or, if it is not set, the
// address that start returns.
func AddressFromEnv(variable string, start func() string) string {
	if address := os.Getenv(variable); address != "" {
		return address
	}
	return start()
}
