// Package daemon runs the programs of other companies' servers for tests: each on
// a free port of this machine, with what it says kept for the error message of a
// start that fails.
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

// Daemon is a server that can be stopped, frozen and started again on the port
// that it has. Its methods are for one goroutine.
type Daemon struct {
	Name string // for messages
	Port int

	// Command makes the command that runs the server on Port.
	Command func() (*exec.Cmd, error)
	// Ready returns once the server answers, or when ctx ends.
	Ready func(ctx context.Context) error
	// Limit is how long that may take.
	Limit time.Duration
	// Kill ends the server without letting it finish anything.
	Kill syscall.Signal

	command *exec.Cmd // nil while it is stopped
	exited  chan struct{}
}

// errEnded means that a server ended before it answered.
var errEnded = errors.New("it ended at once")

// logged is how much of what a server says is kept.
const logged = 1 << 16

// StartAnywhere starts the server on a free port, and tries another one when
// somebody else has taken it meanwhile.
func (d *Daemon) StartAnywhere() (err error) {
	for range 5 {
		if d.Port, err = freePort(); err != nil {
			return err
		}
		if err = d.Start(); !errors.Is(err, errEnded) {
			return err
		}
	}
	return err
}

// Start starts a server that was stopped and waits until it answers.
func (d *Daemon) Start() error {
	if d.command != nil {
		return fmt.Errorf("%s: it runs already", d.Name)
	}
	command, err := d.Command()
	if err != nil {
		return err
	}
	out, into, err := os.Pipe()
	if err != nil {
		return err
	}
	command.Stdout, command.Stderr = into, into
	err = errors.Join(command.Start(), into.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("%s: %w", d.Name, err), out.Close())
	}
	var said log
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		said.keep(out) // to the end of the server and of its children
		_ = out.Close()
		_ = command.Wait() // killed, most likely
	}()
	ctx, cancel := context.WithTimeout(context.Background(), d.Limit)
	defer cancel()
	ready := make(chan struct{})
	var unready error
	go func() {
		defer close(ready)
		unready = d.Ready(ctx)
	}()
	select {
	case <-ready:
		err = unready
	case <-exited:
		cancel()
		<-ready
		err = errEnded
	}
	if err != nil {
		_ = command.Process.Signal(d.Kill)
		<-exited
		return fmt.Errorf("%s: %w\n%s", d.Name, err, said.String())
	}
	d.command, d.exited = command, exited
	return nil
}

// log is the beginning of what a server says.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) keep(from io.Reader) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		l.mu.Lock()
		if l.text.Len() < logged {
			fmt.Fprintln(&l.text, lines.Text())
		}
		l.mu.Unlock()
	}
	_, _ = io.Copy(io.Discard, from) // a line too long for the scanner must not block the server
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Stop ends the server at once, as a crash would, and waits for its end.
func (d *Daemon) Stop() error {
	if d.command == nil {
		return nil
	}
	err := d.command.Process.Signal(d.Kill)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-d.exited
	d.command = nil
	return err
}

// Process is the running server.
func (d *Daemon) Process() (*os.Process, error) {
	if d.command == nil {
		return nil, fmt.Errorf("%s: it does not run", d.Name)
	}
	return d.command.Process, nil
}

// Host is the server's address and port, for clients.
func (d *Daemon) Host() string { return fmt.Sprintf("127.0.0.1:%d", d.Port) }

// Until calls try, again and again, until it succeeds or ctx ends.
func Until(ctx context.Context, try func(ctx context.Context) error) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
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

// closer is a server that can be taken away.
type closer interface{ Close() error }

// ForTest is a new server that ends with the test.
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

// Given is the address in an environment variable, else that of a server that is
// started.
func Given(variable string, start func() string) string {
	if given := os.Getenv(variable); given != "" {
		return given
	}
	return start()
}
