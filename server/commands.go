package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/alecthomas/kong"

	"calltracker/config"
	"calltracker/handlers/reconcile"
	"calltracker/problem"
	"calltracker/server/cli"
	"calltracker/server/demo"
	"calltracker/storage/sqlstore"
)

// Set when a release is built.
var (
	version = "dev"
	commit  = ""
)

// build says what runs.
type Build struct{ Version, Commit, Go string }

func currentBuild() Build {
	b := Build{Version: version, Commit: commit, Go: runtime.Version()}
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

// commands are the whole command line.
type commands struct {
	Serve       serveCommand        `cmd:"" default:"withargs" help:"Start the server (the default)."`
	Check       cli.CheckCommand    `cmd:"" help:"Validate a configuration and run its tests."`
	Simulate    cli.SimulateCommand `cmd:"" help:"Show where a call would go, and why."`
	Apply       cli.ApplyCommand    `cmd:"" help:"Put a configuration into a running server."`
	Ziwo        cli.ZiwoCommands    `cmd:"" help:"Set Ziwo up, look what is wrong, fetch what was missed."`
	Migrate     migrateCommand      `cmd:"" help:"Bring the database schema up to date and exit."`
	Demo        demoCommand         `cmd:"" help:"Everything on this machine: the server, a simulated Ziwo, made-up CRMs, live calls."`
	Version     versionCommand      `cmd:"" help:"Print version, commit and Go version."`
	Healthcheck cli.HealthCommand   `cmd:"" hidden:"" help:"Ask a running server whether it is alive."`
}

// run is the program: it returns the exit code. 1 is "it is not so", 2 is "I
// was not understood".
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	var c commands
	exited := -1
	parser, err := kong.New(&c, kong.Name("calltracker"), kong.Writers(out, errOut),
		kong.Description("The server that Ziwo's call trackers ask: where does this call go?"),
		kong.Exit(func(code int) { exited = code }), kong.ShortUsageOnError())
	if err != nil {
		fmt.Fprintln(errOut, "calltracker:", err)
		return 2
	}
	command, err := parser.Parse(args)
	if exited >= 0 { // --help
		return exited
	}
	if err != nil {
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

type serveCommand struct {
	options `embed:""`
	Apply   string `name:"apply" type:"path" placeholder:"FILE" help:"Put this configuration in force first."`
}

// Run serves until the process is told to stop.
func (cmd *serveCommand) Run(ctx context.Context, c *cli.Terminal) error {
	set, err := cmd.check(cli.IsTerminal(c.Err))
	if err != nil {
		return err
	}
	logger := set.logger(c.Err)
	for _, name := range unknownVariables(os.Environ(), cmd.variables()) {
		logger.Warn("this environment variable is no setting of calltracker", slog.String("name", name))
	}
	var apply *config.Input
	if cmd.Apply != "" {
		text, err := os.ReadFile(cmd.Apply)
		if err != nil {
			return err
		}
		apply = &config.Input{
			Document: string(text), Format: cli.FormatOf(cmd.Apply), Author: "serve --apply", Comment: filepath.Base(cmd.Apply), IfMatch: "*",
		}
	}
	err = runServer(ctx, set, logger, startOptions{apply: apply, ready: func(p parts) {
		if apply != nil && p.config.Current() != nil {
			doc, _ := config.Parse([]byte(apply.Document), apply.Format, cli.LocalResolver)
			cli.PrintNextSteps(c.Out, p.settings.dataDir, p.address, doc.Trackers, cmd.AdminToken == "")
		}
	}})
	var invalid *problem.Invalid
	if errors.As(err, &invalid) && cmd.Apply != "" {
		cli.PrintFieldErrors(c.Err, cmd.Apply, invalid.Problems)
		return fmt.Errorf("%s was not applied", cmd.Apply)
	}
	return err
}

// variables are the environment variables that are settings.
func (o options) variables() []string {
	var names []string
	for field := range reflect.TypeFor[options]().Fields() {
		names = append(names, field.Tag.Get("env"))
	}
	return append(names, cli.TokenVariable)
}

type migrateCommand struct {
	options `embed:""`
}

// Run migrates the database and prints the version of its schema.
func (cmd *migrateCommand) Run(ctx context.Context, c *cli.Terminal) (err error) {
	set, err := cmd.check(cli.IsTerminal(c.Err))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(set.dataDir, 0o700); err != nil {
		return err
	}
	store, err := sqlstore.New(sqlstore.Options{URL: set.databaseURL, DataDir: set.dataDir, Logger: set.logger(c.Err)})
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
	fmt.Fprintf(c.Out, "the database schema is at version %d\n", schema)
	return nil
}

type versionCommand struct{}

// Run prints what this is.
func (versionCommand) Run(c *cli.Terminal) error {
	b := currentBuild()
	_, err := fmt.Fprintf(c.Out, "calltracker %s (commit %s, %s)\n", b.Version, b.Commit, b.Go)
	return err
}

// demoCommand runs the whole product in one process.
type demoCommand struct {
	Listen string  `default:"127.0.0.1:8080" help:"Address of the HTTP server."`
	Rate   float64 `default:"6" help:"Calls per minute."`
	Seed   uint64  `default:"7" help:"Seed of the simulation; a different seed gives a different day."`
}

// Run runs the demo until ctx ends.
func (cmd *demoCommand) Run(ctx context.Context, c *cli.Terminal) error {
	logger := slog.New(slog.NewTextHandler(c.Err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return demo.Run(ctx, demo.Options{
		Listen: cmd.Listen, Rate: cmd.Rate, Seed: cmd.Seed, Out: c.Out, Logger: logger,
		Serve: func(ctx context.Context, s demo.Server) error { return serveDemo(ctx, s, logger) },
	})
}

// serveDemo runs the server of the demo.
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
					list, err := p.reconciler.Reconcile(ctx, reconcile.ReconciliationInput{From: from, To: to})
					for _, run := range list.Runs {
						backfilled += run.Backfilled
					}
					return backfilled, err
				},
			})
		},
	})
}
