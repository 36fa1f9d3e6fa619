// Command run puts calltracker through the trials of package endurance: `make
// crash-test`, `make e2e` and `make soak` run it, from the root of the source
// tree.
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

// errFailed is said when a trial went as it should and showed that calltracker
// did not.
var errFailed = errors.New("calltracker did not keep its promises")

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
		return errors.New("say crash, day or soak, with -h for their flags")
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
		err = fmt.Errorf("%q is none of crash, day and soak", arguments[0])
	}
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		return fmt.Errorf("%w; what the server said is in %s", err, dir)
	}
	return os.RemoveAll(dir)
}

// program is the one that was given, or the one of this source tree, built.
func program(ctx context.Context, given, dir string) (endurance.Program, error) {
	if given != "" {
		return endurance.Program{Command: []string{given}}, nil
	}
	binary := filepath.Join(dir, "calltracker")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "./server")
	if said, err := build.CombinedOutput(); err != nil {
		return endurance.Program{}, fmt.Errorf("build calltracker, from the root of its source: %w\n%s", err, said)
	}
	return endurance.Program{Command: []string{binary}}, nil
}

func crash(ctx context.Context, dir string, arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	duration := flags.Duration("duration", 90*time.Second, "how long things go wrong, for each database")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "which faults follow each other")
	database := flags.String("database", "all", fmt.Sprintf("one of %v; all is each of them", endurance.Databases()))
	writers := flags.Int("writers", 6, "clients that post at the same time")
	given := flags.String("program", "", "the calltracker to try; empty builds the one of this source tree")
	verbose := flags.Bool("v", false, "tell of each cycle")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 || *duration <= 0 || *writers < 1 {
		flags.Usage()
		return errors.New("bad flags")
	}
	p, err := program(ctx, *given, dir)
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
	fmt.Fprintln(out, "ok: everything that was acknowledged is there, once and whole")
	return nil
}

func day(ctx context.Context, dir string, arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("day", flag.ContinueOnError)
	calls := flags.Int("calls", 10_000, "calls of the day")
	share := flags.Float64("share", 0.06, "of the calls that each fault happens to")
	seed := flags.Uint64("seed", uint64(time.Now().UnixNano()), "another seed is another day")
	given := flags.String("program", "", "the calltracker to try; empty builds the one of this source tree")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	const fewest = 50 // for a kill, a start and something between
	if flags.NArg() > 0 || *calls < fewest || *share <= 0 || *share > 0.5 {
		flags.Usage()
		return errors.New("bad flags")
	}
	p, err := program(ctx, *given, dir)
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
	fmt.Fprintln(out, "ok: what is stored is what happened")
	return nil
}

func soak(ctx context.Context, dir string, arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("soak", flag.ContinueOnError)
	minutes := flags.Float64("minutes", 10, "how long")
	rate := flags.Float64("rate", 100, "calls a second, each a start call and an end call")
	given := flags.String("program", "", "the calltracker to try; empty builds the one of this source tree")
	database := flags.String("database-url", "", "as of the server; empty is SQLite")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 || *minutes <= 0 || *rate <= 0 {
		flags.Usage()
		return errors.New("bad flags")
	}
	p, err := program(ctx, *given, dir)
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
