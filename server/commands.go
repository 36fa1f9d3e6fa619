package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"calltracker/config"
	"calltracker/handlers/reconcile"
	"calltracker/problem"
	"calltracker/server/cli"
	"calltracker/server/demo"
	"calltracker/storage/sqlstore"
)

// Set by the linker when a release is built.
var (
	version = "dev"
	commit  = ""
)

// buildInfo identifies the program.
type buildInfo struct{ Version, Commit, Go string }

// currentBuild returns the version of the program. Without the linker flags of a
// release, the commit is that of the checkout.
func currentBuild() buildInfo {
	b := buildInfo{Version: version, Commit: commit, Go: runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok && b.Commit == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Commit = s.Value
			}
		}
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return b
}

// commands is the command line.
type commands struct {
	Serve       serveCommand        `cmd:"" default:"withargs" help:"Start the server (the default)."`
	Check       cli.CheckCommand    `cmd:"" help:"Validate a configuration and run its tests."`
	Simulate    cli.SimulateCommand `cmd:"" help:"Show where a call would go, and why."`
	Apply       cli.ApplyCommand    `cmd:"" help:"Apply a configuration to a running server."`
	Ziwo        cli.ZiwoCommands    `cmd:"" help:"Set up Ziwo's call trackers, diagnose problems, and backfill missing calls."`
	Migrate     migrateCommand      `cmd:"" help:"Bring the database schema up to date and exit."`
	Demo        demoCommand         `cmd:"" help:"Run everything on this machine: the server, a simulated Ziwo, simulated CRMs, and live calls."`
	Version     versionCommand      `cmd:"" help:"Print the version, the commit, and the Go version."`
	Healthcheck cli.HealthCommand   `cmd:"" hidden:"" help:"Check that the server on this machine is running."`
}

// run runs the program and returns its exit code: 1 if the command fails, 2 if the
// command line is invalid.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	var c commands
	exitCode := -1 // set by --help
	parser, err := kong.New(&c, kong.Name("calltracker"), kong.Writers(out, errOut),
		kong.Description("The server for Ziwo call trackers: it decides where calls go and stores their records."),
		kong.Exit(func(code int) { exitCode = code }), kong.ShortUsageOnError())
	if err != nil {
		fmt.Fprintln(errOut, "calltracker:", err)
		return 2
	}
	command, err := parser.Parse(args)
	if exitCode >= 0 {
		return exitCode
	}
	if err != nil {
		if name, unknown := strings.CutPrefix(err.Error(), "unexpected argument "); unknown && strings.HasPrefix(name, args[0]) {
			err = fmt.Errorf("unknown command %s", name)
		}
		fmt.Fprintf(errOut, "calltracker: %v\nTry: calltracker --help\n", err)
		return 2
	}
	command.BindTo(ctx, (*context.Context)(nil))
	switch err := command.Run(&cli.Terminal{In: in, Out: out, Err: errOut}); {
	case errors.Is(err, cli.ErrReported):
		return 1
	case err != nil:
		fmt.Fprintln(errOut, "calltracker:", err)
		return 1
	}
	return 0
}

// serveCommand runs the server.
type serveCommand struct {
	options `embed:""`
	Apply   string `name:"apply" type:"path" placeholder:"FILE" help:"Apply this configuration before serving."`
}

// Run serves until ctx ends.
func (cmd *serveCommand) Run(ctx context.Context, t *cli.Terminal) error {
	set, err := cmd.check(cli.IsTerminal(t.Err))
	if err != nil {
		return err
	}
	logger := set.logger(t.Err)
	for _, name := range unknownVariables(os.Environ(), cmd.variables()) {
		logger.Warn("unknown environment variable", slog.String("name", name))
	}
	var apply *config.Input
	if cmd.Apply != "" {
		if apply, err = cli.ReadInput(cmd.Apply); err != nil {
			return err
		}
	}
	err = runServer(ctx, set, logger, startOptions{apply: apply, ready: func(p parts) {
		if apply != nil && p.config.Current() != nil {
			steps := cli.NextSteps{Document: *apply, Address: p.address, DataDir: p.settings.dataDir, GeneratedToken: cmd.AdminToken == ""}
			steps.Print(t.Out)
		}
	}})
	var invalid *problem.Invalid
	if errors.As(err, &invalid) && cmd.Apply != "" {
		cli.PrintFieldErrors(t.Err, cmd.Apply, invalid.Problems)
		return fmt.Errorf("%s was not applied", cmd.Apply)
	}
	return err
}

// variables returns the environment variables that the program reads.
func (o options) variables() []string {
	var names []string
	for field := range reflect.TypeFor[options]().Fields() {
		names = append(names, field.Tag.Get("env"))
	}
	return append(names, cli.TokenVariable)
}

// migrateCommand migrates the database.
type migrateCommand struct {
	options `embed:""`
}

// Run migrates the database and prints its schema version.
func (cmd *migrateCommand) Run(ctx context.Context, t *cli.Terminal) (err error) {
	set, err := cmd.check(cli.IsTerminal(t.Err))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(set.dataDir, 0o700); err != nil {
		return fmt.Errorf("create data directory (CALLTRACKER_DATA_DIR): %w", err)
	}
	store, err := sqlstore.New(sqlstore.Options{URL: set.databaseURL, DataDir: set.dataDir, Logger: set.logger(t.Err)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	if err := store.Prepare(ctx); err != nil {
		return err
	}
	schema, err := store.SchemaVersion(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintf(t.Out, "database schema version %d\n", schema)
	return nil
}

// versionCommand prints the version of the program.
type versionCommand struct{}

// Run prints the version, the commit, and the Go version.
func (versionCommand) Run(t *cli.Terminal) error {
	b := currentBuild()
	_, err := fmt.Fprintf(t.Out, "calltracker %s (commit %s, %s)\n", b.Version, b.Commit, b.Go)
	return err
}

// demoCommand runs the demo.
type demoCommand struct {
	Listen string  `default:"127.0.0.1:8080" help:"Loopback address of the server."`
	Rate   float64 `default:"6" help:"Calls per minute."`
	Seed   uint64  `default:"7" help:"Seed of the simulation; a different seed gives a different day."`
}

// Run runs the demo until ctx ends.
func (cmd *demoCommand) Run(ctx context.Context, t *cli.Terminal) error {
	logger := slog.New(slog.NewTextHandler(t.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return demo.Run(ctx, demo.Options{
		Listen: cmd.Listen, Rate: cmd.Rate, Seed: cmd.Seed, Out: t.Out, Logger: logger,
		Serve: func(ctx context.Context, s demo.Server) error { return serveDemo(ctx, s, logger) },
	})
}

// serveDemo runs the server of the demo until ctx ends.
func serveDemo(ctx context.Context, s demo.Server, logger *slog.Logger) error {
	o := options{
		Listen: s.Listen, DataDir: s.DataDir, PublicURL: s.PublicURL, VoicemailField: "voicemail",
		LogFormat: "text", LogLevel: "warn", ReconcileEvery: "1m",
	}
	set, err := o.check(false)
	if err != nil {
		return err
	}
	set.drivers, set.now = s.Drivers, s.Now
	return runServer(ctx, set, logger, startOptions{
		apply: &config.Input{Document: s.Document, Format: config.YAML, Author: "demo", Comment: "the demo", IfMatch: "*"},
		ready: func(p parts) {
			s.Ready(demo.Running{
				Port: p.address.(*net.TCPAddr).Port, AdminToken: p.settings.adminToken,
				Reconcile: func(ctx context.Context, from, to time.Time) (backfilled int, err error) {
					list, err := p.reconciler.Reconcile(ctx, reconcile.Input{From: from, To: to})
					for _, run := range list.Runs {
						backfilled += run.Backfilled
					}
					return backfilled, err
				},
			})
		},
	})
}
