// Command run runs the trials of package endurance. `make crash-test`, `make e2e` and
// `make soak` run it from the root of the source tree.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"calltracker/tools/endurance"
)

// errFailed is the error of a trial that ran and found a defect of calltracker.
var errFailed = errors.New("trial failed: calltracker violated its guarantees")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "endurance:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, arguments []string, out io.Writer) error {
	if len(arguments) == 0 {
		return errors.New("missing trial: use crash, day, or soak; add -h for its flags")
	}
	dir, err := os.MkdirTemp("", "calltracker-endurance-")
	if err != nil {
		return err
	}
	switch arguments[0] {
	case "crash":
		err = crash(ctx, dir, arguments[1:], out)
	case "day":
		err = day(ctx, dir, arguments[1:], out)
	case "soak":
		err = soak(ctx, dir, arguments[1:], out)
	default:
		err = fmt.Errorf("unknown trial %q: use crash, day, or soak", arguments[0])
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return fmt.Errorf("%w; the server logs are in %s", err, dir)
	}
	return os.RemoveAll(dir)
}

// program returns the program at a path. If the path is empty, it builds the one of
// this source tree.
func program(ctx context.Context, path, dir string) (endurance.Program, error) {
	if path != "" {
		return endurance.Program{Command: []string{path}}, nil
	}
	binary := filepath.Join(dir, "calltracker")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./server")
	if output, err := build.CombinedOutput(); err != nil {
		return endurance.Program{}, fmt.Errorf("build calltracker (run this from the root of the source tree): %w\n%s", err, output)
	}
	return endurance.Program{Command: []string{binary}}, nil
}

func crash(ctx context.Context, dir string, arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	duration := flags.Duration("duration", 90*time.Second, "duration of the fault injection for each database")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "random seed that selects the faults")
	database := flags.String("database", "all", fmt.Sprintf("one of %v, or all", endurance.Databases()))
	writers := flags.Int("writers", 6, "number of concurrent clients")
	path := flags.String("program", "", "path of the calltracker binary; empty builds this source tree")
	verbose := flags.Bool("v", false, "print every cycle")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 || *duration <= 0 || *writers < 1 {
		flags.Usage()
		return errors.New("invalid flags")
	}
	p, err := program(ctx, *path, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "seed %d\n", *seed)
	good := true
	databases := []string{*database}
	if *database == "all" {
		databases = endurance.Databases()
	}
	for _, name := range databases {
		o := endurance.CrashOptions{
			Program: p, Duration: *duration, Seed: *seed, Database: name, Dir: filepath.Join(dir, name), Writers: *writers,
		}
		if *verbose {
			o.Log = out
		}
		verdict, err := endurance.Crash(ctx, o)
		fmt.Fprint(out, verdict)
		if err != nil {
			return err
		}
		good = good && verdict.OK()
	}
	if !good {
		return errFailed
	}
	fmt.Fprintln(out, "ok: every acknowledged CDR is stored once and complete")
	return nil
}

func day(ctx context.Context, dir string, arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("day", flag.ContinueOnError)
	calls := flags.Int("calls", 10_000, "number of calls")
	share := flags.Float64("share", 0.06, "share of the calls that each fault affects")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "random seed of the simulation")
	path := flags.String("program", "", "path of the calltracker binary; empty builds this source tree")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	const fewest = 50 // enough for a kill, a restart, and calls in between
	if flags.NArg() > 0 || *calls < fewest || *share <= 0 || *share > 0.5 {
		flags.Usage()
		return errors.New("invalid flags")
	}
	p, err := program(ctx, *path, dir)
	if err != nil {
		return err
	}
	verdict, err := endurance.Day(ctx, endurance.DayOptions{Program: p, Calls: *calls, Share: *share, Seed: *seed, Dir: dir, Log: out})
	fmt.Fprint(out, verdict)
	if err != nil {
		return err
	}
	if !verdict.OK() {
		return errFailed
	}
	fmt.Fprintln(out, "ok: the stored calls equal the simulated ones")
	return nil
}

func soak(ctx context.Context, dir string, arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	minutes := flags.Float64("minutes", 10, "duration in minutes")
	rate := flags.Float64("rate", 100, "calls per second, each with a start call and an end call")
	path := flags.String("program", "", "path of the calltracker binary; empty builds this source tree")
	database := flags.String("database-url", "", "PostgreSQL database URL of the server; empty means SQLite")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 || *minutes <= 0 || *rate <= 0 {
		flags.Usage()
		return errors.New("invalid flags")
	}
	p, err := program(ctx, *path, dir)
	if err != nil {
		return err
	}
	report, err := endurance.Soak(ctx, endurance.SoakOptions{
		Program: p, Duration: time.Duration(*minutes * float64(time.Minute)), Rate: *rate, DatabaseURL: *database, Dir: dir, Log: out,
	})
	fmt.Fprint(out, report)
	if err != nil {
		return err
	}
	if !report.OK() {
		return errFailed
	}
	return nil
}
