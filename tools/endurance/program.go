// Package endurance puts the real program under load for longer than a test
// would, and reports whether it kept what it promised: Crash breaks everything
// around it and looks for what was acknowledged, Day compares what is stored with
// what happened, Soak watches what it takes up. It works from outside, over HTTP,
// and with the means of Linux.
package endurance

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Program is how to start calltracker.
type Program struct {
	Command     []string // what stands before the flags of serve
	Environment []string // beside our own
}

// The document that is served, and the secrets of it and of the server.
const (
	trackerID  = "sales"
	startKey   = "5f1d2c9a7be04c6e8f3390d1a4b7c2e6"
	endKey     = "0c7e51b8d96a4f02b1e4733f5ad8826b"
	adminToken = "b41c88f2d09e4f3a"
	secretKey  = "c2VjcmV0LWtleS1mb3ItYS10cmlhbC0zMi1ieXRlcyE="

	trialDocument = `
trackers:
  sales:
    keys: {start: ["` + startKey + `"], end: ["` + endKey + `"]}
    region: AE
    numbers:
      - {did: "+97142345678", campaign: outdoor}
    routes:
      - id: mobile
        when: [{field: caller, op: prefix, values: ["+9715"]}]
        dial: [{number: "0501112233", timeout: 10s}]
      - id: otherwise
        voicemail: true
`
)

// Limits of waiting, generous since the machine may be busy.
const (
	startLimit = time.Minute
	stopLimit  = 30 * time.Second
	askLimit   = 15 * time.Second
)

// process is a running server.
type process struct {
	command *exec.Cmd
	base    string // of its URLs
	log     *os.File
	ended   chan struct{} // closed when it has ended
}

// launch starts the program in a folder and waits until it listens. What it logs
// is appended to a file there. A document is applied where none is in force yet.
func (p Program) launch(dir, data, document string, environment ...string) (*process, error) {
	arguments := append(p.Command[1:len(p.Command):len(p.Command)], "--listen", "127.0.0.1:0", "--data-dir", data, "--log-format", "json")
	if _, err := os.Stat(filepath.Join(data, "last-good.json")); err != nil && document != "" {
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
			return nil, err
		}
		arguments = append(arguments, "--apply", file)
	}
	// It must outlive whatever context there is: how it ends is what matters.
	command := exec.CommandContext(context.Background(), p.Command[0], arguments...)
	command.Env = append(append(os.Environ(), p.Environment...),
		"CALLTRACKER_ADMIN_TOKEN="+adminToken, "CALLTRACKER_SECRET_KEY="+secretKey)
	command.Env = append(command.Env, environment...)
	said, err := command.StderrPipe()
	if err != nil {
		return nil, err
	}
	log, err := os.OpenFile(filepath.Join(dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	s := &process{command: command, log: log, ended: make(chan struct{})}
	limit := time.AfterFunc(startLimit, func() { _ = command.Process.Kill() })
	lines := bufio.NewReader(io.TeeReader(said, log))
	for s.base == "" {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			limit.Stop()
			_ = command.Wait()
			return nil, errors.Join(fmt.Errorf("the server ended before it listened; see %s", log.Name()), log.Close())
		}
		var entry struct{ Msg, Address string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "listening" {
			s.base = "http://" + entry.Address
		}
	}
	limit.Stop()
	go func() {
		defer close(s.ended)
		_, _ = io.Copy(io.Discard, lines) // ends with the process
		_ = command.Wait()
	}()
	return s, nil
}

// kill ends the process as a power failure would, for the process.
func (s *process) kill() error {
	err := s.command.Process.Kill()
	<-s.ended
	return errors.Join(err, s.log.Close())
}

// terminate asks the process to stop, and is an error when it does not do so
// well and in time.
func (s *process) terminate() error {
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.ended:
	case <-time.After(stopLimit):
		return errors.Join(fmt.Errorf("the server did not stop within %s", stopLimit), s.kill())
	}
	if code := s.command.ProcessState.ExitCode(); code != 0 {
		return errors.Join(fmt.Errorf("the server stopped with %s", s.command.ProcessState), s.log.Close())
	}
	return s.log.Close()
}

// ask reads JSON from the admin API.
func (s *process) ask(ctx context.Context, path string, into any) error {
	return s.request(ctx, askLimit, http.MethodGet, path, "", into)
}

// request asks the admin API for something that may take as long as limit.
func (s *process) request(ctx context.Context, limit time.Duration, method, path, body string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK && path != "/readyz" {
		return fmt.Errorf("%s: %s", path, res.Status)
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// metrics are the values of /metrics by their names with labels.
func (s *process) metrics(ctx context.Context) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	values := map[string]float64{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); err == nil && name != "#" {
			values[name] = value
		}
	}
	return values, lines.Err()
}

// settled waits until the database is in use and nothing waits in the spool.
func (s *process) settled(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	var state struct {
		Status   string
		Database struct{ State string }
		Spool    struct{ Records int }
	}
	for {
		err := s.ask(ctx, "/readyz", &state)
		if err == nil && state.Status == "ready" && state.Database.State == "ok" && state.Spool.Records == 0 {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("not settled within %s: %+v, %w", limit, state, err)
		}
	}
}
