package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/mattn/go-isatty"

	"calltracker/config"
	"calltracker/crm/builtin"
	"calltracker/handlers"
	"calltracker/problem"
	"calltracker/server/demo"
	"calltracker/storage/sqlstore"
)

// Set when a release is built.
var (
	version = "dev"
	commit  = ""
)

// build says what runs.
type build struct{ Version, Commit, Go string }

func currentBuild() build {
	b := build{Version: version, Commit: commit, Go: runtime.Version()}
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
	Serve       serveCommand    `cmd:"" default:"withargs" help:"Start the server (the default)."`
	Check       checkCommand    `cmd:"" help:"Validate a configuration and run its tests."`
	Simulate    simulateCommand `cmd:"" help:"Show where a call would go, and why."`
	Apply       applyCommand    `cmd:"" help:"Put a configuration into a running server."`
	Ziwo        ziwoCommands    `cmd:"" help:"Set Ziwo up, look what is wrong, fetch what was missed."`
	Migrate     migrateCommand  `cmd:"" help:"Bring the database schema up to date and exit."`
	Demo        demoCommand     `cmd:"" help:"Everything on this machine: the server, a simulated Ziwo, made-up CRMs, live calls."`
	Version     versionCommand  `cmd:"" help:"Print version, commit and Go version."`
	Healthcheck healthCommand   `cmd:"" hidden:"" help:"Ask a running server whether it is alive."`
}

// console is where a command reads and writes.
type console struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// errSaid ends a command whose output has said already what is wrong.
var errSaid = errors.New("said")

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
	switch err := command.Run(&console{in: in, out: out, err: errOut}); {
	case errors.Is(err, errSaid):
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
func (cmd *serveCommand) Run(ctx context.Context, c *console) error {
	set, err := cmd.check(isTerminal(c.err))
	if err != nil {
		return err
	}
	logger := set.logger(c.err)
	for _, name := range unknownVariables(os.Environ(), cmd.variables()) {
		logger.Warn("this environment variable is no setting of calltracker", slog.String("name", name))
	}
	var apply *handlers.ConfigInput
	if cmd.Apply != "" {
		text, err := os.ReadFile(cmd.Apply)
		if err != nil {
			return err
		}
		apply = &handlers.ConfigInput{
			Document: string(text), Format: formatOf(cmd.Apply), Author: "serve --apply", Comment: filepath.Base(cmd.Apply), IfMatch: "*",
		}
	}
	err = runServer(ctx, set, logger, startOptions{apply: apply, ready: func(p parts) {
		if apply != nil && p.config.Current() != nil {
			doc, _ := config.Parse([]byte(apply.Document), apply.Format, localResolver)
			printNextSteps(c.out, p.settings.dataDir, p.address, doc.Trackers, cmd.AdminToken == "")
		}
	}})
	var invalid *problem.Invalid
	if errors.As(err, &invalid) && cmd.Apply != "" {
		printFieldErrors(c.err, cmd.Apply, invalid.Problems)
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
	return append(names, tokenVariable)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// formatOf tells the notation from a file's name.
func formatOf(name string) config.Format {
	if strings.EqualFold(filepath.Ext(name), ".json") {
		return config.JSON
	}
	return config.YAML
}

// readDocument reads a file, or standard input when it is called "-".
func (c *console) readDocument(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(c.in, config.MaxDocumentBytes+1))
	}
	return os.ReadFile(name)
}

// localResolver resolves references as far as this machine can: secrets are in
// the database of the server that will use the document.
func localResolver(kind, name string) (string, error) {
	if kind == "secret" {
		return "", nil
	}
	if value, ok := os.LookupEnv(name); ok {
		return value, nil
	}
	return "", fmt.Errorf("%w; the server that uses this needs the variable", config.ErrUnresolvedHere)
}

type checkCommand struct {
	File   string `arg:"" optional:"" help:"Configuration; - is standard input."`
	Schema bool   `help:"Print the JSON Schema of the configuration instead."`
}

// Run prints every problem, runs the tests and sums up.
func (cmd *checkCommand) Run(c *console) error {
	if cmd.Schema {
		schema, err := config.Schema()
		if err != nil {
			return err
		}
		_, err = c.out.Write(schema)
		return err
	}
	if cmd.File == "" {
		return errors.New("name the file to check: calltracker check FILE")
	}
	text, err := c.readDocument(cmd.File)
	if err != nil {
		return err
	}
	doc, set, problems := config.Load(text, formatOf(cmd.File), localResolver, handlers.ConfigDrivers(builtin.Drivers())...)
	style := styleFor(c.out)
	printProblems(c.out, style, cmd.File, problems)
	var results []handlers.TestResult
	if set != nil {
		results = handlers.RunTests(doc, set)
	}
	if failed := printTests(c.out, style, cmd.File, results); failed > 0 || set == nil {
		printVerdict(c.out, style, cmd.File, set, problems, results)
		return errSaid
	}
	printVerdict(c.out, style, cmd.File, set, problems, results)
	return nil
}

type simulateCommand struct {
	File    string            `arg:"" help:"Configuration; - is standard input."`
	Tracker string            `required:"" help:"Tracker that is called."`
	DID     string            `name:"did" required:"" help:"Number that was dialled."`
	Caller  string            `help:"Number of the caller."`
	CallID  string            `name:"call-id" help:"Ziwo's id of the call; splits depend on it."`
	Field   map[string]string `help:"Another field that Ziwo sends, for request.<name>." placeholder:"NAME=VALUE"`
	At      string            `help:"Instant of the call (RFC 3339); now when absent."`
	JSON    bool              `name:"json" help:"Print JSON."`

	VoicemailField string `name:"voicemail-field" env:"CALLTRACKER_VOICEMAIL_FIELD" default:"voicemail" help:"Name of the voicemail flag in the answer."`
}

// Run prints the decision, its trace and the answer.
func (cmd *simulateCommand) Run(c *console) error {
	at := time.Now()
	if cmd.At != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, cmd.At); err != nil {
			return fmt.Errorf("--at %q is no instant; write it like 2026-11-22T20:00:00+04:00", cmd.At)
		}
	}
	text, err := c.readDocument(cmd.File)
	if err != nil {
		return err
	}
	_, set, problems := config.Load(text, formatOf(cmd.File), localResolver, handlers.ConfigDrivers(builtin.Drivers())...)
	if set == nil {
		printProblems(c.err, styleFor(c.err), cmd.File, problems.Errors())
		return errSaid
	}
	call := map[string]any{"didCalled": cmd.DID, "callerIDNumber": cmd.Caller, "callID": cmd.CallID}
	for name, value := range cmd.Field {
		call[name] = value
	}
	simulator := handlers.NewSimulator(handlers.SimulatorOptions{Numbers: handlers.NewNumbers(), VoicemailField: cmd.VoicemailField, Now: time.Now})
	simulation, err := simulator.SimulateIn(set, handlers.SimulateInput{Tracker: cmd.Tracker, At: &at, Call: call})
	if err != nil {
		return err
	}
	if cmd.JSON {
		encoder := json.NewEncoder(c.out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(simulation)
	}
	printSimulation(c.out, styleFor(c.out), set, cmd.Tracker, at, simulation)
	return nil
}

// tokenVariable holds the admin token for commands that talk to a server.
const tokenVariable = "CALLTRACKER_ADMIN_TOKEN"

// applyTimeout bounds how long a server may take to apply a document.
const applyTimeout = 60 * time.Second

type applyCommand struct {
	File    string `arg:"" help:"Configuration; - is standard input."`
	Server  string `env:"CALLTRACKER_PUBLIC_URL" default:"http://localhost:8080" help:"Address of the running server."`
	Token   string `env:"CALLTRACKER_ADMIN_TOKEN" help:"Admin token; read from the data directory when empty."`
	DataDir string `name:"data-dir" env:"CALLTRACKER_DATA_DIR" default:"data" help:"Where the generated admin token is."`
	Comment string `help:"Why, for the history."`
	Author  string `env:"USER" help:"Who, for the history."`
	IfMatch string `name:"if-match" default:"*" help:"Version that must be in force now; * for any."`
	DryRun  bool   `name:"dry-run" help:"Only check it against the server."`
}

// Run sends the document and prints what the server says of it.
func (cmd *applyCommand) Run(ctx context.Context, c *console) error {
	text, err := c.readDocument(cmd.File)
	if err != nil {
		return err
	}
	token, err := adminToken(cmd.Token, cmd.DataDir)
	if err != nil {
		return err
	}
	target, err := url.Parse(strings.TrimSuffix(cmd.Server, "/") + "/api/v1/config")
	if err != nil {
		return fmt.Errorf("--server: %w", err)
	}
	parameters := url.Values{"comment": {cmd.Comment}, "author": {cmd.Author}}
	if cmd.DryRun {
		parameters.Set("dry_run", "true")
	}
	target.RawQuery = parameters.Encode()
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target.String(), bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/"+string(formatOf(cmd.File)))
	req.Header.Set("If-Match", cmd.IfMatch)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAdminBody))
	if err != nil {
		return err
	}
	return cmd.report(c, res, body)
}

func (cmd *applyCommand) report(c *console, res *http.Response, body []byte) error {
	if res.StatusCode != http.StatusOK {
		var problem handlers.Problem
		if err := json.Unmarshal(body, &problem); err != nil {
			return fmt.Errorf("the server answered %s", res.Status)
		}
		printFieldErrors(c.err, cmd.File, problem.Errors)
		return fmt.Errorf("not applied: %s (%d %s)", problem.Detail, problem.Status, problem.Title)
	}
	var applied handlers.ApplyResult
	if err := json.Unmarshal(body, &applied); err != nil {
		return fmt.Errorf("the server answered something that is not understood: %w", err)
	}
	for _, w := range applied.Warnings {
		fmt.Fprintf(c.out, "%s:%d:%d: warning: %s: %s\n", cmd.File, w.Line, w.Column, w.Path, w.Message)
	}
	if applied.DryRun {
		fmt.Fprintf(c.out, "%s can be applied; version %d is still in force\n", cmd.File, applied.Version)
		return nil
	}
	fmt.Fprintf(c.out, "%s is in force as version %d\n", cmd.File, applied.Version)
	return nil
}

type migrateCommand struct {
	options `embed:""`
}

// Run migrates the database and prints the version of its schema.
func (cmd *migrateCommand) Run(ctx context.Context, c *console) (err error) {
	set, err := cmd.check(isTerminal(c.err))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(set.dataDir, 0o700); err != nil {
		return err
	}
	store, err := sqlstore.New(sqlstore.Options{URL: set.databaseURL, DataDir: set.dataDir, Logger: set.logger(c.err)})
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
	fmt.Fprintf(c.out, "the database schema is at version %d\n", schema)
	return nil
}

type versionCommand struct{}

// Run prints what this is.
func (versionCommand) Run(c *console) error {
	b := currentBuild()
	_, err := fmt.Fprintf(c.out, "calltracker %s (commit %s, %s)\n", b.Version, b.Commit, b.Go)
	return err
}

// healthTimeout is less than a container engine waits for a health check.
const healthTimeout = 3 * time.Second

type healthCommand struct {
	Listen string `env:"CALLTRACKER_LISTEN" default:":8080"`
}

// Run asks the server on this machine, for images without curl.
func (cmd *healthCommand) Run(ctx context.Context) error {
	_, port, err := net.SplitHostPort(cmd.Listen)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort("127.0.0.1", port)+"/healthz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("not healthy: %s", res.Status)
	}
	return nil
}

// demoCommand runs the whole product in one process.
type demoCommand struct {
	Listen string  `default:"127.0.0.1:8080" help:"Address of the HTTP server."`
	Rate   float64 `default:"6" help:"Calls per minute."`
	Seed   uint64  `default:"7" help:"Seed of the simulation; a different seed gives a different day."`
}

// Run runs the demo until ctx ends.
func (cmd *demoCommand) Run(ctx context.Context, c *console) error {
	logger := slog.New(slog.NewTextHandler(c.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return demo.Run(ctx, demo.Options{
		Listen: cmd.Listen, Rate: cmd.Rate, Seed: cmd.Seed, Out: c.out, Logger: logger,
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
		apply: &handlers.ConfigInput{Document: s.Document, Format: config.YAML, Author: "demo", Comment: "the demo", IfMatch: "*"},
		ready: func(p parts) {
			s.Ready(demo.Running{
				Port: p.address.(*net.TCPAddr).Port, AdminToken: p.settings.adminToken,
				Reconcile: func(ctx context.Context, from, to time.Time) (backfilled int, err error) {
					list, err := p.reconciler.Reconcile(ctx, handlers.ReconciliationInput{From: from, To: to})
					for _, run := range list.Runs {
						backfilled += run.Backfilled
					}
					return backfilled, err
				},
			})
		},
	})
}
