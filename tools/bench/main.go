// Command bench compares calltracker with baselines that it runs on the same
// machine at the same time. A throughput alone depends on the machine; a ratio
// shows the cost of calltracker over a minimal handler. `make bench` runs it from
// the root of the source tree.
//
// main.go has the list of measurements and the rounds, load.go the clients,
// process.go the servers and document.go the generated configuration. Every other
// file has one measurement or its baselines.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// baselineCommand is the argument that makes this program run as a baseline.
const baselineCommand = "baseline"

// Sizes of the measurements.
const (
	connections      = 32
	callerPool       = 50_000
	routesPerTracker = 20
	fewTrackers      = 10
	manyTrackers     = 10_000
	routesForGrowth  = 5 // per tracker; more take long to compile and do not change the ratio
	mostTrackers     = 5_000
	starts           = 7
)

// longestRun is the timeout of the whole run, without the turns of openLoop.
const longestRun = 30 * time.Minute

// bench is one run.
type bench struct {
	rounds   int
	turn     time.Duration // of one contender
	trackers int
	openRate int            // calls per second of openLoop
	openTurn time.Duration  // of one contender in openLoop
	calls    int            // in the database whose lists are measured
	only     *regexp.Regexp // names of the measurements to run
	dir      string         // temporary files of the run
	binary   string         // path of calltracker
	out      io.Writer
	table    []row
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == baselineCommand {
		fmt.Fprintln(os.Stderr, serveBaseline(os.Args[2]))
		os.Exit(1)
	}
	b := &bench{out: os.Stdout}
	flag.IntVar(&b.rounds, "rounds", 11, "number of rounds; each contender has one turn per round")
	seconds := flag.Float64("seconds", 2, "length of a turn")
	flag.IntVar(&b.trackers, "trackers", 1000, fmt.Sprintf("number of trackers with %d routes each, at most %d", routesPerTracker, mostTrackers))
	flag.IntVar(&b.calls, "calls", 5_000_000, "number of calls in the database for the lists measurement")
	flag.IntVar(&b.openRate, "rate", 300, "calls per second of the openLoop measurement")
	flag.DurationVar(&b.openTurn, "duration", 20*time.Second, fmt.Sprintf("length of a turn of the openLoop measurement, which has at most %d rounds", openRounds))
	only := flag.String("only", "", "run only the measurements whose names match this regular expression: "+b.names())
	flag.Parse()
	var err error
	if b.only, err = regexp.Compile(*only); err != nil {
		fmt.Fprintln(os.Stderr, "bench: -only:", err)
		os.Exit(2)
	}
	b.turn = time.Duration(*seconds * float64(time.Second))
	if flag.NArg() > 0 || b.rounds < 1 || b.turn <= 0 || b.trackers < 1 || b.trackers > mostTrackers || b.calls < 1000 || b.openRate < 1 || b.openTurn < time.Second {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, longestRun+b.openLoopTime())
	err = b.run(ctx)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context) (err error) {
	// Servers use the first core; the load uses the others.
	runtime.GOMAXPROCS(max(1, runtime.NumCPU()-1))
	if b.dir, err = os.MkdirTemp("", "calltracker-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	b.binary = filepath.Join(b.dir, "calltracker")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "./server")
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build calltracker (run this from the root of the source tree): %w\n%s", err, output)
	}
	if err := leaveFirstCore(ctx); err != nil {
		return err
	}
	fmt.Fprintf(b.out, `%s %s/%s, %d cores. Each server is a separate process with GOMAXPROCS=1 on the first core. This process generates the load
with GOMAXPROCS=%d on the other cores, over %d keep-alive loopback connections (end calls: %d). Each connection sends its next request as soon
as the previous one is answered. PostgreSQL uses all cores. After a warm-up with every request, each contender has a turn of %v in each of %d rounds;
the others are paused. Results are medians over the rounds; ratios are medians of the ratios within a round.

`, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.GOMAXPROCS(0), connections, endConnections, b.turn, b.rounds)
	for _, m := range b.measurements() {
		if !b.only.MatchString(m.name) {
			continue
		}
		if err := m.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return b.print()
}

// measurement is one part of a run. It adds one or more rows to the table.
type measurement struct {
	name string
	run  func(context.Context) error
}

// names returns the names of the measurements for the help text.
func (b *bench) names() string {
	var names []string
	for _, m := range b.measurements() {
		names = append(names, m.name)
	}
	return strings.Join(names, ", ")
}

func (b *bench) measurements() []measurement {
	return []measurement{
		{"startCall", b.startCall},
		{"embeds", b.embeds},
		{"shared", b.shared},
		{"popup", b.popup},
		{"popupHanging", b.popupHanging},
		{"popupFlood", b.popupFlood},
		{"growth", b.growth},
		{"decide", b.decide},
		{"start", b.start},
		{"endCallPostgreSQL", b.endCallPostgres},
		{"endCallSQLite", b.endCallSQLite},
		{"openLoop", b.openLoop},
		{"lists", b.lists},
		{"simulate", b.simulate},
		{"reconcilePostgreSQL", b.reconcilePostgres},
		{"reconcileSQLite", b.reconcileSQLite},
	}
}

// row is one line of the result table.
type row struct {
	metric, measured, goal string
	ok                     bool
}

func (b *bench) add(metric, measured, goal string, ok bool) {
	b.table = append(b.table, row{metric, measured, goal, ok})
}

func (b *bench) print() error {
	t := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "metric\tmeasured\tgoal\t")
	for _, r := range b.table {
		verdict := "ok"
		if !r.ok {
			verdict = "MISSED"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.metric, r.measured, r.goal, verdict)
	}
	return t.Flush()
}

// contender is a server that is measured in rounds.
type contender struct {
	name       string
	process    *process
	clients    []*client
	check      func(request, []byte) error
	records    bool                      // whether it records decisions, as only calltracker does
	background func(ctx context.Context) // runs during each turn until ctx is done; may be nil
}

// turn measures one contender for a duration. If the duration is 0, it is a warm-up
// that sends every request once.
func (c contender) turn(ctx context.Context, duration time.Duration) (r result, err error) {
	if err := c.process.resume(ctx); err != nil {
		return r, err
	}
	if c.background != nil {
		background, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); c.background(background) }()
		defer func() { cancel(); <-done }()
	}
	before, _ := c.process.cpuTime()
	if r, err = load(ctx, c.process.address, c.clients, duration, c.check); err != nil {
		return r, err
	}
	if after, err := c.process.cpuTime(); err == nil {
		r.cpuTime = after - before
	}
	return r, c.process.pause(ctx)
}

// runRounds warms up all contenders, runs the rounds, and prints a table. It returns
// results[round][contender].
func (b *bench) runRounds(ctx context.Context, contenders []contender) ([][]result, error) {
	for _, c := range contenders {
		if _, err := c.turn(ctx, 0); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	before, err := decisionCounts(ctx, contenders)
	if err != nil {
		return nil, err
	}
	results := make([][]result, b.rounds)
	for i := range results {
		for _, c := range contenders {
			r, err := c.turn(ctx, b.turn)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	after, err := decisionCounts(ctx, contenders)
	if err != nil {
		return nil, err
	}
	for i := range after {
		after[i] = decisionCount{after[i].written - before[i].written, after[i].dropped - before[i].dropped}
	}
	return results, b.printContenders(contenders, results, after)
}

// decisionCounts returns how many decisions each contender has recorded. It must not
// run between turns: the metrics of ten thousand trackers cause garbage collection
// that would be measured in the next turn.
func decisionCounts(ctx context.Context, contenders []contender) ([]decisionCount, error) {
	out := make([]decisionCount, len(contenders))
	for i, c := range contenders {
		if !c.records {
			continue
		}
		if err := c.process.resume(ctx); err != nil {
			return nil, err
		}
		var err error
		if out[i], err = c.process.decisions(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		if err := c.process.pause(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (b *bench) printContenders(contenders []contender, results [][]result, recorded []decisionCount) error {
	t := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\trequests/s\tCPU/request\tp50\tp99\tp99.9\tmax\tdecisions recorded/s\tdropped/s\t")
	for i, c := range contenders {
		medianOf := func(figure func(result) float64) float64 {
			return medianOfRounds(results, func(round []result) float64 { return figure(round[i]) })
		}
		duration := func(figure func(result) float64) time.Duration {
			return time.Duration(medianOf(figure)).Round(100 * time.Nanosecond)
		}
		percentile := func(p float64) time.Duration {
			return duration(func(r result) float64 { return float64(r.latency(p)) })
		}
		fmt.Fprintf(t, "%s\t%.0f\t%v\t%v\t%v\t%v\t%v\t", c.name, medianOf(result.rate),
			duration(func(r result) float64 { return float64(r.cpuTime) / float64(r.requests) }),
			percentile(50), percentile(99), percentile(99.9), percentile(100))
		if c.records {
			var running time.Duration
			for _, round := range results {
				running += round[i].elapsed
			}
			fmt.Fprintf(t, "%.0f\t%.0f\t", float64(recorded[i].written)/running.Seconds(), float64(recorded[i].dropped)/running.Seconds())
		} else {
			fmt.Fprint(t, "-\t-\t")
		}
		fmt.Fprintln(t)
	}
	fmt.Fprintln(t)
	return t.Flush()
}

// medianOfRounds returns the median of a figure of each round.
func medianOfRounds[R any](rounds [][]R, figure func(round []R) float64) float64 {
	figures := make([]float64, len(rounds))
	for i, r := range rounds {
		figures[i] = figure(r)
	}
	return median(figures)
}

// median sorts the values and returns their median.
func median(values []float64) float64 {
	slices.Sort(values)
	n := len(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}
