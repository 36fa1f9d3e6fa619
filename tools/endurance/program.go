// Package endurance runs long trials of the real program and reports whether it meets
// its guarantees. Crash kills the server, makes its dependencies fail, and verifies that
// acknowledged CDRs are stored. Day compares the stored calls of a
// simulated day with the simulation. Soak measures resource usage under load. The
// trials use HTTP and, for faults, Linux.
//
// crash.go, faults.go, ledger.go and postgres.go implement Crash; day.go,
// daytruth.go and balancer.go implement Day; soak.go implements Soak. program.go
// starts the server for all of them.
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

// Program describes how to start calltracker.
type Program struct {
	Command     []string // program and arguments before the flags of serve
	Environment []string // in addition to the environment of this process
}

// The secrets of the server and its configuration document.
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

// Timeouts, generous because the machine may be busy.
const (
	startTimeout   = time.Minute
	stopTimeout    = 30 * time.Second
	requestTimeout = 15 * time.Second
)

// process is a running server.
type process struct {
	command *exec.Cmd
	baseURL string
	log     *os.File
	ended   chan struct{} // closed when the process has exited
}

// launch starts the program and waits until it listens. It appends the log to a file
// in dir. It applies the document unless the data directory already has one.
func (p Program) launch(dir, data, document string, environment ...string) (*process, error) {
	arguments := append(p.Command[1:len(p.Command):len(p.Command)], "--listen", "127.0.0.1:0", "--data-dir", data, "--log-format", "json")
	if _, err := os.Stat(filepath.Join(data, "last-good.json")); err != nil && document != "" {
		file := filepath.Join(dir, "config.yaml")
		if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
			return nil, err
		}
		arguments = append(arguments, "--apply", file)
	}
	// The process must outlive the context of the caller, who stops it explicitly.
	command := exec.CommandContext(context.Background(), p.Command[0], arguments...)
	command.Env = append(append(os.Environ(), p.Environment...),
		"CALLTRACKER_ADMIN_TOKEN="+adminToken, "CALLTRACKER_SECRET_KEY="+secretKey)
	command.Env = append(command.Env, environment...)
	stderr, err := command.StderrPipe()
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
	limit := time.AfterFunc(startTimeout, func() { _ = command.Process.Kill() })
	lines := bufio.NewReader(io.TeeReader(stderr, log))
	for s.baseURL == "" {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			limit.Stop()
			_ = command.Wait()
			return nil, errors.Join(fmt.Errorf("server exited before it listened; see %s", log.Name()), log.Close())
		}
		var entry struct{ Msg, Address string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "listening" {
			s.baseURL = "http://" + entry.Address
		}
	}
	limit.Stop()
	go func() {
		defer close(s.ended)
		_, _ = io.Copy(io.Discard, lines) // returns when the process exits
		_ = command.Wait()
	}()
	return s, nil
}

// kill kills the process with SIGKILL.
func (s *process) kill() error {
	err := s.command.Process.Kill()
	<-s.ended
	return errors.Join(err, s.log.Close())
}

// terminate stops the process with SIGTERM. It returns an error if the process does
// not exit with status 0 in time.
func (s *process) terminate() error {
	if err := s.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.ended:
	case <-time.After(stopTimeout):
		return errors.Join(fmt.Errorf("server did not stop within %s", stopTimeout), s.kill())
	}
	if code := s.command.ProcessState.ExitCode(); code != 0 {
		return errors.Join(fmt.Errorf("server stopped with %s", s.command.ProcessState), s.log.Close())
	}
	return s.log.Close()
}

// get reads JSON from the admin API.
func (s *process) get(ctx context.Context, path string, into any) error {
	return s.request(ctx, requestTimeout, http.MethodGet, path, "", into)
}

// request sends a request to the admin API and decodes the answer.
func (s *process) request(ctx context.Context, timeout time.Duration, method, path, body string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.baseURL+path, strings.NewReader(body))
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

// metrics returns the values of /metrics by name and labels.
func (s *process) metrics(ctx context.Context) (map[string]float64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.baseURL+"/metrics", nil)
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

// waitDrained waits until the database is available and the spool is empty.
func (s *process) waitDrained(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	var state struct {
		Status   string
		Database struct{ State string }
		Spool    struct{ Records int }
	}
	for {
		err := s.get(ctx, "/readyz", &state)
		if err == nil && state.Status == "ready" && state.Database.State == "ok" && state.Spool.Records == 0 {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("spool not empty within %s: %+v, %w", limit, state, err)
		}
	}
}
