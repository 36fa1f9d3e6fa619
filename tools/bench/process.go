package main

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
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// listening is the log message that has the address of a server.
const listening = "listening"

// startLimit is the time that a process may take until it listens.
const startLimit = time.Minute

// adminToken is the admin token of the servers.
const adminToken = "b41c88f2d09e4f3a"

// process is a server that this program started. It is paused between its turns, so
// that its background work does not slow down the server that is being measured.
type process struct {
	command *exec.Cmd
	address string
}

// launch starts a program on one core and waits until it listens. The program runs
// until ctx is done or stop is called. It does not inherit the environment.
func launch(ctx context.Context, environment []string, program string, args ...string) (*process, error) {
	p := &process{command: pinnedCommand(ctx, program, args)}
	p.command.Env = append([]string{"GOMAXPROCS=1"}, environment...)
	stderr, err := p.command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	limit := time.AfterFunc(startLimit, func() { _ = p.command.Process.Kill() })
	defer limit.Stop()
	lines := bufio.NewReader(stderr)
	var logged strings.Builder
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			p.stop()
			return nil, fmt.Errorf("%s exited before it listened: %s", program, logged.String())
		}
		logged.Write(line)
		var entry struct{ Msg, Address string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg == listening {
			p.address = entry.Address
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }() // returns when the process exits
	return p, nil
}

// pinnedCommand returns a command that runs on the first core, if taskset is
// available. The load runs on the other cores.
func pinnedCommand(ctx context.Context, program string, args []string) *exec.Cmd {
	taskset, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() == 1 {
		return exec.CommandContext(ctx, program, args...)
	}
	return exec.CommandContext(ctx, taskset, slices.Concat([]string{"--cpu-list", "0", program}, args)...)
}

// leaveFirstCore moves this program to the cores on which no server runs.
func leaveFirstCore(ctx context.Context) error {
	n := runtime.NumCPU()
	taskset, err := exec.LookPath("taskset")
	if err != nil || n == 1 {
		return nil //nolint:nilerr // without taskset, the load and the servers share the cores
	}
	output, err := exec.CommandContext(ctx, taskset, "--all-tasks", "--cpu-list", "--pid", fmt.Sprintf("1-%d", n-1), strconv.Itoa(os.Getpid())).CombinedOutput()
	if err != nil {
		return fmt.Errorf("taskset: %w: %s", err, output)
	}
	return nil
}

// stop kills the process. Its files are temporary.
func (p *process) stop() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// pause suspends the process until resume is called.
func (p *process) pause(ctx context.Context) error { return p.signal(ctx, "-STOP") }

// resume continues a paused process.
func (p *process) resume(ctx context.Context) error { return p.signal(ctx, "-CONT") }

// signal uses the kill command, because package syscall lacks these signals on some
// systems.
func (p *process) signal(ctx context.Context, signal string) error {
	output, err := exec.CommandContext(ctx, "kill", signal, strconv.Itoa(p.command.Process.Pid)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("kill %s: %w: %s", signal, err, output)
	}
	return nil
}

// startServer starts calltracker with a new data directory and environment variables
// beyond the usual ones.
func (b *bench) startServer(ctx context.Context, environment []string, arguments ...string) (*process, error) {
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return nil, err
	}
	return launch(ctx, append([]string{
		"CALLTRACKER_LISTEN=127.0.0.1:0", "CALLTRACKER_DATA_DIR=" + data, "CALLTRACKER_LOG_FORMAT=json", "CALLTRACKER_ADMIN_TOKEN=" + adminToken,
		keyVariable + "=" + startKey, oldKeyVariable + "=" + oldStartKey,
	}, environment...), b.binary, append([]string{"serve"}, arguments...)...)
}

// startConfigured starts calltracker and applies a generated document.
func (b *bench) startConfigured(ctx context.Context, trackers, routes int, extensions ...extension) (*process, error) {
	return b.startConfiguredOn(ctx, "", trackers, routes, extensions...)
}

// startConfiguredOn is like startConfigured with the address of a PostgreSQL
// database. An empty address means SQLite.
func (b *bench) startConfiguredOn(ctx context.Context, database string, trackers, routes int, extensions ...extension) (*process, error) {
	return b.startConfiguredWith(ctx, []string{"CALLTRACKER_DATABASE_URL=" + database}, trackers, routes, extensions...)
}

// startConfiguredWith is like startConfigured with additional environment variables.
func (b *bench) startConfiguredWith(ctx context.Context, environment []string, trackers, routes int, extensions ...extension) (*process, error) {
	text, err := document(trackers, routes, extensions...)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, fmt.Sprintf("%d-trackers.json", trackers))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	p, err := b.startServer(ctx, environment)
	if err != nil {
		return nil, err
	}
	apply := exec.CommandContext(ctx, b.binary, "apply", file, "--server", "http://"+p.address, "--token", adminToken)
	if output, err := apply.CombinedOutput(); err != nil {
		p.stop()
		return nil, fmt.Errorf("apply %s: %w: %.1000s", file, err, output)
	}
	return p, nil
}

// baseline starts another process of this program as a baseline.
func (b *bench) baseline(ctx context.Context, name string, environment ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return launch(ctx, environment, self, baselineCommand, name)
}

// Counters of calltracker.
const (
	decisionsWritten = `calltracker_queue_written_total{queue="decisions"}`
	decisionsDropped = `calltracker_queue_dropped_total{queue="decisions"}`
	recordsSpooled   = "calltracker_spool_spooled_total"
)

// decisionCount has the numbers of decisions that a server recorded and dropped.
type decisionCount struct{ written, dropped int64 }

// decisions reads the counters of the decision queue from /metrics.
func (p *process) decisions(ctx context.Context) (decisionCount, error) {
	counts, err := p.counters(ctx, decisionsWritten, decisionsDropped)
	if err != nil {
		return decisionCount{}, err
	}
	return decisionCount{written: counts[0], dropped: counts[1]}, nil
}

// counters reads the named counters from /metrics and returns them in the same order.
func (p *process) counters(ctx context.Context, names ...string) ([]int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }()
	counts, found := make([]int64, len(names)), 0
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		name, figure, _ := strings.Cut(lines.Text(), " ")
		if i := slices.Index(names, name); i >= 0 {
			value, err := strconv.ParseFloat(figure, 64)
			if err != nil {
				return nil, err
			}
			counts[i] = int64(value)
			found++
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if found < len(names) {
		return nil, fmt.Errorf("/metrics has %d of the counters %s", found, strings.Join(names, ", "))
	}
	return counts, nil
}

// residentMemory returns the resident memory of a process in bytes, on Linux
// (proc_pid_status(5)).
func (p *process) residentMemory() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kilobytes, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kilobytes << 10, err
		}
	}
	return 0, errors.New("no VmRSS in /proc/PID/status")
}

// cpuTime returns the CPU time that a process has used, on Linux (proc_pid_stat(5)).
func (p *process) cpuTime() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses, which may contain spaces. utime and
	// stime are the 14th and 15th fields, in hundredths of a second.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("no CPU times in /proc/PID/stat")
	}
	var sum time.Duration
	for _, field := range fields[11:13] {
		hundredths, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(hundredths) * 10 * time.Millisecond
	}
	return sum, nil
}
