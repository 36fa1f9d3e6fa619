package cli

import (
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"calltracker/config"
	"calltracker/handlers/simulate"
	"calltracker/problem"
	"calltracker/rules"
	"calltracker/server/datadir"
)

// style is the escape sequences of a terminal. The zero style prints plain text.
type style struct{ good, bad, warn, dim, bold, off string }

// styleFor returns the style for w. It has colors if w is a terminal and NO_COLOR is
// not set (https://no-color.org).
func styleFor(w io.Writer) style {
	if !IsTerminal(w) || os.Getenv("NO_COLOR") != "" {
		return style{}
	}
	return style{good: "\x1b[32m", bad: "\x1b[31m", warn: "\x1b[33m", dim: "\x1b[2m", bold: "\x1b[1m", off: "\x1b[0m"}
}

// printProblems prints one line per problem or warning of a document.
func printProblems(w io.Writer, s style, file string, problems problem.List) {
	for _, p := range problems {
		severity := ""
		if p.Warning {
			severity = s.warn + "warning: " + s.off
		}
		path := ""
		if p.Path != "" {
			path = p.Path + ": "
		}
		fmt.Fprintf(w, "%s:%d:%d: %s%s%s\n", file, p.Line, p.Column, severity, path, p.Message)
	}
}

// PrintFieldErrors prints one line per problem that a server found in a document.
func PrintFieldErrors(w io.Writer, file string, problems problem.List) {
	for _, e := range problems {
		path := ""
		if e.Path != "" {
			path = e.Path + ": "
		}
		at := file
		if e.Line > 0 {
			at = fmt.Sprintf("%s:%d:%d", file, e.Line, e.Column)
		}
		fmt.Fprintf(w, "%s: %s%s\n", at, path, e.Message)
	}
}

// printTests prints one line per test, and the reasons and the trace of a failed
// one. It returns the number of failed tests.
func printTests(w io.Writer, s style, file string, results []simulate.TestResult) (failed int) {
	for _, r := range results {
		if len(r.Failures) == 0 {
			fmt.Fprintf(w, "%sok%s    %s\n", s.good, s.off, r.Name)
			continue
		}
		failed++
		fmt.Fprintf(w, "%sFAIL%s  %s (%s:%d)\n", s.bad, s.off, r.Name, file, r.Line)
		for _, failure := range r.Failures {
			fmt.Fprintf(w, "      %s\n", failure)
		}
		for _, step := range r.Trace {
			fmt.Fprintf(w, "      %s%s%s\n", s.dim, stepLine(step), s.off)
		}
	}
	return failed
}

// stepLine returns a step of a trace on one line.
func stepLine(step rules.Step) string {
	if step.Reason == "" {
		return fmt.Sprintf("%s: %s", step.Route, step.Verdict)
	}
	return fmt.Sprintf("%s: %s, %s", step.Route, step.Verdict, step.Reason)
}

// printSummary prints the last line of check. A nil set means that the document has
// errors.
func printSummary(w io.Writer, s style, file string, set *rules.Set, problems problem.List, tests, failed int) {
	warnings := count(len(problems.Warnings()), "warning")
	switch {
	case set == nil:
		fmt.Fprintf(w, "%s%s: %s, %s; no tests were run%s\n", s.bad, file, count(len(problems.Errors()), "error"), warnings, s.off)
	case failed > 0:
		fmt.Fprintf(w, "%s%s: %d of %s failed, %s%s\n", s.bad, file, failed, count(tests, "test"), warnings, s.off)
	default:
		fmt.Fprintf(w, "%s%s: valid, %s, %s passed, %s%s\n", s.good, file,
			count(len(set.Trackers()), "tracker"), count(tests, "test"), warnings, s.off)
	}
}

// count returns a number with its noun, such as "1 tracker" or "2 trackers".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// printSimulation prints a decision: the routes that were tried, the numbers that
// ring, and the JSON that Ziwo would receive.
func printSimulation(w io.Writer, s style, set *rules.Set, tracker string, at time.Time, sim simulate.Simulation) {
	fmt.Fprintf(w, "%s%s%s at %s\n\n", s.bold, tracker, s.off, at.Format("Mon 2006-01-02 15:04:05 -07:00"))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  route\tverdict\treason")
	for _, step := range sim.Trace {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", step.Route, step.Verdict, step.Reason)
	}
	if router, ok := set.Router(tracker); ok {
		for _, id := range router.RouteIDs()[len(sim.Trace):] {
			fmt.Fprintf(table, "  %s\tnot tried\t\n", id)
		}
	}
	_ = table.Flush() // like the errors of Fprintf, those of the terminal are ignored
	fmt.Fprintf(w, "\n%sroute %s%s%s\n", s.good, s.bold, sim.Route, s.off)
	for i, r := range sim.Rules {
		fmt.Fprintf(w, "  %d. ring %s for %d s", i+1, r.Number, r.Timeout)
		if r.CallerID != "" {
			fmt.Fprintf(w, ", showing %s", r.CallerID)
		}
		fmt.Fprintln(w)
	}
	switch {
	case sim.Voicemail && len(sim.Rules) > 0:
		fmt.Fprintln(w, "  then voicemail")
	case sim.Voicemail:
		fmt.Fprintln(w, "  directly to voicemail")
	case len(sim.Rules) == 0:
		fmt.Fprintln(w, "  no number rings, and there is no voicemail")
	}
	if len(sim.Flags) > 0 {
		fmt.Fprintf(w, "  %sflags: %s%s\n", s.warn, strings.Join(sim.Flags, ", "), s.off)
	}
	fmt.Fprintf(w, "\nanswer to Ziwo\n  %s\n", sim.Answer)
}

// NextSteps describes a server that has just started with a document.
type NextSteps struct {
	Document       config.Input
	Address        net.Addr // that the server listens on
	DataDir        string
	GeneratedToken bool // whether the admin token is in the data directory
}

// Print prints commands that a new user can try: the requests of Ziwo's developer
// page with the keys of the document, and how to see their results.
func (n NextSteps) Print(w io.Writer) {
	parsed, _ := config.Parse([]byte(n.Document.Document), n.Document.Format, resolveLocally)
	if parsed == nil || len(parsed.Trackers) == 0 {
		return
	}
	id := slices.Min(slices.Collect(maps.Keys(parsed.Trackers)))
	doc := parsed.Trackers[id]
	base := "http://localhost:8080"
	if tcp, ok := n.Address.(*net.TCPAddr); ok {
		base = fmt.Sprintf("http://localhost:%d", tcp.Port)
	}
	did := "061234567"
	if len(doc.Numbers) > 0 {
		did = doc.Numbers[0].DID
	}
	token := "$CALLTRACKER_ADMIN_TOKEN"
	if n.GeneratedToken {
		token = fmt.Sprintf("$(cat %s)", filepath.Join(n.DataDir, datadir.AdminTokenFile))
	}
	fmt.Fprintf(w, `
calltracker is ready. In another terminal, act as Ziwo:

  a call comes in: ask where it goes
    curl -X POST %[1]s/callTrackers/%[2]s/startCall%[3]s --form 'didCalled=%[4]s' --form 'callerIDNumber=+971501234567'

  the call ends: send its record
    curl -X POST %[1]s/callTrackers/%[2]s/endCall%[5]s -H 'Content-Type: application/json' \
      -d '{"callID":"c0ffee00-0000-4000-8000-000000000001","didCalled":"%[4]s","callerIDNumber":"+971501234567","direction":"inbound","startedAt":"2026-11-22T09:00:00Z","answeredAt":"2026-11-22T09:00:12Z","endedAt":"2026-11-22T09:01:00Z","result":"answered"}'

  see the stored call, and why it was routed there
    curl -H "Authorization: Bearer %[6]s" %[1]s/api/v1/calls
    curl -H "Authorization: Bearer %[6]s" %[1]s/api/v1/decisions

  the API in a browser: %[1]s/docs/

`, base, id, keyHeader(doc.Keys.Start), did, keyHeader(doc.Keys.End), token)
}

// keyHeader returns the curl option with a key. The key is shown only if the document
// has it as plain text.
func keyHeader(keys config.KeyList) string {
	switch {
	case keys.Open || len(keys.Keys) == 0:
		return ""
	case keys.Keys[0].Literal():
		return fmt.Sprintf(" -H 'X-API-Key: %s'", keys.Keys[0].Reveal())
	default:
		return " -H 'X-API-Key: …'"
	}
}
