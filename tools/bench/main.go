// Command bench measures the call path against two baselines that it starts
// itself, on this machine and in one run: a speed alone says little, a ratio
// says what calltracker costs over the least that could answer. `make bench`
// runs it, from the root of the source tree.
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

// baselineCommand makes this program one of the baselines.
const baselineCommand = "baseline"

// Sizes of what is measured.
const (
	connections      = 32
	callerPool       = 50_000
	routesPerTracker = 20
	fewTrackers      = 10
	manyTrackers     = 10_000
	routesForGrowth  = 5 // of each of them: more would not change the ratio, only take long to compile
	mostTrackers     = 5_000
	starts           = 7
)

// longestRun bounds everything, whatever happens.
const longestRun = 30 * time.Minute

// bench is one run.
type bench struct {
	rounds   int
	during   time.Duration // a turn of one contender
	trackers int
	calls    int            // in the lists
	only     *regexp.Regexp // names of the measurements to make
	dir      string         // for everything that the run writes; goes with it
	binary   string         // calltracker
	out      io.Writer
	table    []row
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == baselineCommand {
		fmt.Fprintln(os.Stderr, serveBaseline(os.Args[2]))
		os.Exit(1)
	}
	b := &bench{out: os.Stdout}
	flag.IntVar(&b.rounds, "rounds", 11, "rounds, in each of which every contender has its turn")
	seconds := flag.Float64("seconds", 2, "how long a turn takes")
	flag.IntVar(&b.trackers, "trackers", 1000, fmt.Sprintf("trackers of %d routes each, at most %d", routesPerTracker, mostTrackers))
	flag.IntVar(&b.calls, "calls", 5_000_000, "calls in the database whose lists are measured")
	only := flag.String("only", "", "make only the measurements whose name this regular expression matches: "+b.names())
	flag.Parse()
	var err error
	if b.only, err = regexp.Compile(*only); err != nil {
		fmt.Fprintln(os.Stderr, "bench: -only:", err)
		os.Exit(2)
	}
	b.during = time.Duration(*seconds * float64(time.Second))
	if flag.NArg() > 0 || b.rounds < 1 || b.during <= 0 || b.trackers < 1 || b.trackers > mostTrackers || b.calls < 1000 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, longestRun)
	err = b.run(ctx)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func (b *bench) run(ctx context.Context) (err error) {
	// The servers have one core each; the load gets what they leave.
	runtime.GOMAXPROCS(max(1, runtime.NumCPU()-1))
	if b.dir, err = os.MkdirTemp("", "calltracker-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }()
	b.binary = filepath.Join(b.dir, "calltracker")
	build := exec.CommandContext(ctx, "go", "build", "-o", b.binary, "./server")
	if said, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build calltracker, from the root of its source: %w\n%s", err, said)
	}
	if err := leaveFirstProcessor(ctx); err != nil {
		return err
	}
	fmt.Fprintf(b.out, `%s %s/%s, %d cores. Each server is a process of its own with GOMAXPROCS=1, on the first core; the load comes
from this process with GOMAXPROCS=%d on the others, over %d keep-alive connections on loopback (end calls: %d), each of which sends as soon as it is answered.
PostgreSQL has all cores. After a warm-up of every request, the contenders take turns of %v in %d rounds; those that wait stand still.
Figures are medians of the rounds, ratios are medians of the ratios within a round.

`, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.GOMAXPROCS(0), connections, endConnections, b.during, b.rounds)
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

// measurement is one part of a run, which gives one row of the table or several.
type measurement struct {
	name string
	run  func(context.Context) error
}

// names lists them for the help.
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
		{"lists", b.lists},
		{"simulate", b.simulate},
		{"reconcilePostgreSQL", b.reconcilePostgres},
		{"reconcileSQLite", b.reconcileSQLite},
	}
}

// row is one line of the table of goals.
type row struct {
	what, measured, goal string
	ok                   bool
}

func (b *bench) add(what, measured, goal string, ok bool) {
	b.table = append(b.table, row{what, measured, goal, ok})
}

func (b *bench) print() error {
	t := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tmeasured\tgoal\t")
	for _, r := range b.table {
		verdict := "ok"
		if !r.ok {
			verdict = "MISSED"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", r.what, r.measured, r.goal, verdict)
	}
	return t.Flush()
}

// contender is a server that takes part in the rounds.
type contender struct {
	name    string
	process *process
	clients []*client
	check   func(request, []byte) error
	records bool                      // decisions: only calltracker does
	beside  func(ctx context.Context) // goes on during a turn, until ctx ends; nil for nothing
}

// turn is the time of one contender, measured; when during is 0, it is a warm-up
// in which every request is sent once.
func (c contender) turn(ctx context.Context, during time.Duration) (r result, err error) {
	if err := c.process.resume(ctx); err != nil {
		return r, err
	}
	if c.beside != nil {
		beside, end := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() { defer close(ended); c.beside(beside) }()
		defer func() { end(); <-ended }()
	}
	used, _ := c.process.processorTime()
	if r, err = load(ctx, c.process.address, c.clients, during, c.check); err != nil {
		return r, err
	}
	if now, unknown := c.process.processorTime(); unknown == nil {
		r.processor = now - used
	}
	return r, c.process.pause(ctx)
}

// compete warms everyone up and returns what each did in each round:
// results[round][contender].
func (b *bench) compete(ctx context.Context, contenders []contender) ([][]result, error) {
	for _, c := range contenders {
		if _, err := c.turn(ctx, 0); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	before, err := recorders(ctx, contenders)
	if err != nil {
		return nil, err
	}
	results := make([][]result, b.rounds)
	for i := range results {
		for _, c := range contenders {
			r, err := c.turn(ctx, b.during)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	after, err := recorders(ctx, contenders)
	if err != nil {
		return nil, err
	}
	for i := range after {
		after[i] = recorder{after[i].written - before[i].written, after[i].dropped - before[i].dropped}
	}
	return results, b.printContenders(contenders, results, after)
}

// recorders asks all contenders what they have recorded. That is for before and
// after the rounds: an answer about ten thousand trackers leaves so much behind
// that collecting it would count in the turn that follows.
func recorders(ctx context.Context, contenders []contender) ([]recorder, error) {
	out := make([]recorder, len(contenders))
	for i, c := range contenders {
		if !c.records {
			continue
		}
		if err := c.process.resume(ctx); err != nil {
			return nil, err
		}
		var err error
		if out[i], err = c.process.recorder(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		if err := c.process.pause(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (b *bench) printContenders(contenders []contender, results [][]result, recorded []recorder) error {
	t := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\trequests/s\tprocessor/request\tp50\tp99\tp99.9\tmax\tdecisions recorded/s\tdropped/s\t")
	for i, c := range contenders {
		of := func(figure func(result) float64) float64 {
			return median(results, func(round []result) float64 { return figure(round[i]) })
		}
		duration := func(figure func(result) float64) time.Duration {
			return time.Duration(of(figure)).Round(100 * time.Nanosecond)
		}
		percentile := func(p float64) time.Duration {
			return duration(func(r result) float64 { return float64(r.latency(p)) })
		}
		fmt.Fprintf(t, "%s\t%.0f\t%v\t%v\t%v\t%v\t%v\t", c.name, of(result.rate),
			duration(func(r result) float64 { return float64(r.processor) / float64(r.requests) }),
			percentile(50), percentile(99), percentile(99.9), percentile(100))
		if c.records {
			var running time.Duration
			for _, round := range results {
				running += round[i].took
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

// median is that of a figure of each round.
func median(rounds [][]result, figure func(round []result) float64) float64 {
	figures := make([]float64, len(rounds))
	for i, r := range rounds {
		figures[i] = figure(r)
	}
	return middle(figures)
}

func middle(figures []float64) float64 {
	slices.Sort(figures)
	n := len(figures)
	return (figures[(n-1)/2] + figures[n/2]) / 2
}
