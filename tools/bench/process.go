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

// listening is the message with which a server logs its address.
const listening = "listening"

// startLimit is how long a process may take until it listens.
const startLimit = time.Minute

// adminToken is that of the servers started here.
const adminToken = "b41c88f2d09e4f3a"

// process is a server that this program started. It stands still between its
// turns (pause, resume), so that what one does in the background takes nothing
// from another that is being measured.
type process struct {
	command *exec.Cmd
	address string
}

// launch starts a program on one core and waits until it listens. The program
// ends with ctx, or by stop; nothing of our own environment reaches it.
func launch(ctx context.Context, environment []string, program string, args ...string) (*process, error) {
	p := &process{command: pinned(ctx, program, args)}
	p.command.Env = append([]string{"GOMAXPROCS=1"}, environment...)
	log, err := p.command.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.command.Start(); err != nil {
		return nil, err
	}
	limit := time.AfterFunc(startLimit, func() { _ = p.command.Process.Kill() })
	defer limit.Stop()
	lines := bufio.NewReader(log)
	var said strings.Builder
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			p.stop()
			return nil, fmt.Errorf("%s ended before it listened: %s", program, said.String())
		}
		said.Write(line)
		var entry struct{ Msg, Address string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg == listening {
			p.address = entry.Address
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, lines) }() // ends with the process
	return p, nil
}

// pinned is a command that runs on the first processor, where the system can say
// so: the load has the others, and neither moves about.
func pinned(ctx context.Context, program string, args []string) *exec.Cmd {
	taskset, err := exec.LookPath("taskset")
	if err != nil || runtime.NumCPU() == 1 {
		return exec.CommandContext(ctx, program, args...)
	}
	return exec.CommandContext(ctx, taskset, slices.Concat([]string{"--cpu-list", "0", program}, args)...)
}

// leaveFirstProcessor moves this program away from where the servers run.
func leaveFirstProcessor(ctx context.Context) error {
	n := runtime.NumCPU()
	taskset, err := exec.LookPath("taskset")
	if err != nil || n == 1 {
		return nil //nolint:nilerr // without taskset they share
	}
	said, err := exec.CommandContext(ctx, taskset, "--all-tasks", "--cpu-list", "--pid", fmt.Sprintf("1-%d", n-1), strconv.Itoa(os.Getpid())).CombinedOutput()
	if err != nil {
		return fmt.Errorf("taskset: %w: %s", err, said)
	}
	return nil
}

// stop ends the process at once: what it keeps is in a folder that goes as well.
func (p *process) stop() {
	_ = p.command.Process.Kill()
	_ = p.command.Wait()
}

// pause has the system stop the process until resume.
func (p *process) pause(ctx context.Context) error { return p.signal(ctx, "-STOP") }

func (p *process) resume(ctx context.Context) error { return p.signal(ctx, "-CONT") }

// signal uses the kill command, since package syscall has these signals on some
// systems only.
func (p *process) signal(ctx context.Context, signal string) error {
	said, err := exec.CommandContext(ctx, "kill", signal, strconv.Itoa(p.command.Process.Pid)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("kill %s: %w: %s", signal, err, said)
	}
	return nil
}

// server starts calltracker in a data directory of its own.
func (b *bench) server(ctx context.Context, arguments ...string) (*process, error) {
	return b.serverOn(ctx, "", arguments...)
}

// serverOn is server on a PostgreSQL database; SQLite for none.
func (b *bench) serverOn(ctx context.Context, database string, arguments ...string) (*process, error) {
	return b.serverWith(ctx, []string{"CALLTRACKER_DATABASE_URL=" + database}, arguments...)
}

// serverWith is server with more of an environment.
func (b *bench) serverWith(ctx context.Context, environment []string, arguments ...string) (*process, error) {
	data, err := os.MkdirTemp(b.dir, "data-")
	if err != nil {
		return nil, err
	}
	return launch(ctx, append([]string{
		"CALLTRACKER_LISTEN=127.0.0.1:0", "CALLTRACKER_DATA_DIR=" + data, "CALLTRACKER_LOG_FORMAT=json", "CALLTRACKER_ADMIN_TOKEN=" + adminToken,
		keyVariable + "=" + startKey, oldKeyVariable + "=" + oldStartKey,
	}, environment...), b.binary, append([]string{"serve"}, arguments...)...)
}

// loaded starts calltracker with a generated document in force.
func (b *bench) loaded(ctx context.Context, trackers, routes int, extensions ...extension) (*process, error) {
	return b.loadedOn(ctx, "", trackers, routes, extensions...)
}

// loadedOn is loaded on a PostgreSQL database; SQLite for none.
func (b *bench) loadedOn(ctx context.Context, database string, trackers, routes int, extensions ...extension) (*process, error) {
	return b.loadedWith(ctx, []string{"CALLTRACKER_DATABASE_URL=" + database}, trackers, routes, extensions...)
}

// loadedWith is loaded with more of an environment.
func (b *bench) loadedWith(ctx context.Context, environment []string, trackers, routes int, extensions ...extension) (*process, error) {
	text, err := document(trackers, routes, extensions...)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(b.dir, fmt.Sprintf("%d-trackers.json", trackers))
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	p, err := b.serverWith(ctx, environment)
	if err != nil {
		return nil, err
	}
	apply := exec.CommandContext(ctx, b.binary, "apply", file, "--server", "http://"+p.address, "--token", adminToken)
	if said, err := apply.CombinedOutput(); err != nil {
		p.stop()
		return nil, fmt.Errorf("apply %s: %w: %.1000s", file, err, said)
	}
	return p, nil
}

// baseline starts this program again, as one of the baselines.
func (b *bench) baseline(ctx context.Context, name string, environment ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return launch(ctx, environment, self, baselineCommand, name)
}

// recorder is what /metrics tells of the queue that records decisions.
type recorder struct{ written, dropped int64 }

func (p *process) recorder(ctx context.Context) (recorder, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/metrics", nil)
	if err != nil {
		return recorder{}, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return recorder{}, err
	}
	defer func() { _ = res.Body.Close() }()
	var r recorder
	wanted := map[string]*int64{
		`calltracker_queue_written_total{queue="decisions"}`: &r.written,
		`calltracker_queue_dropped_total{queue="decisions"}`: &r.dropped,
	}
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		name, figure, _ := strings.Cut(lines.Text(), " ")
		if into, ok := wanted[name]; ok {
			value, err := strconv.ParseFloat(figure, 64)
			if err != nil {
				return recorder{}, err
			}
			*into = int64(value)
			delete(wanted, name)
		}
	}
	if len(wanted) > 0 {
		return recorder{}, errors.New("/metrics does not tell of the decision queue")
	}
	return r, nil
}

// residentMemory is that of a process in bytes, where the system tells it as
// Linux does (proc_pid_status(5)).
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
	return 0, errors.New("no VmRSS")
}

// processorTime is what a process has used so far of all processors, where the
// system tells it as Linux does (proc_pid_stat(5)).
func (p *process) processorTime() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in brackets, which may hold spaces; utime and
	// stime are the 14th and the 15th, in hundredths of a second.
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("no times in stat")
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
