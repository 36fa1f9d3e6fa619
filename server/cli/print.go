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

// style colours output on a terminal; elsewhere it changes nothing.
type style struct{ good, bad, warn, dim, bold, off string }

// styleFor has colours for a terminal whose user has not asked for none
// (https://no-color.org).
func styleFor(w io.Writer) style {
	if !IsTerminal(w) || os.Getenv("NO_COLOR") != "" {
		return style{}
	}
	return style{good: "\x1b[32m", bad: "\x1b[31m", warn: "\x1b[33m", dim: "\x1b[2m", bold: "\x1b[1m", off: "\x1b[0m"}
}

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

func PrintFieldErrors(w io.Writer, file string, errors problem.List) {
	for _, e := range errors {
		path := ""
		if e.Path != "" {
			path = e.Path + ": "
		}
		fmt.Fprintf(w, "%s:%d:%d: %s%s\n", file, e.Line, e.Column, path, e.Message)
	}
}

// printTests prints one line a test, and of a failed one why; it returns how
// many failed.
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

func stepLine(step rules.Step) string {
	if step.Reason == "" {
		return fmt.Sprintf("%s: %s", step.Route, step.Verdict)
	}
	return fmt.Sprintf("%s: %s, %s", step.Route, step.Verdict, step.Reason)
}

// printVerdict is the closing line of check.
func printVerdict(w io.Writer, s style, file string, set *rules.Set, problems problem.List, results []simulate.TestResult) {
	failed := 0
	for _, r := range results {
		if len(r.Failures) > 0 {
			failed++
		}
	}
	warnings := count(len(problems.Warnings()), "warning")
	switch errors := len(problems.Errors()); {
	case set == nil:
		fmt.Fprintf(w, "%s%s: %s, %s; nothing was tested%s\n", s.bad, file, count(errors, "error"), warnings, s.off)
	case failed > 0:
		fmt.Fprintf(w, "%s%s: %d of %s failed, %s%s\n", s.bad, file, failed, count(len(results), "test"), warnings, s.off)
	default:
		fmt.Fprintf(w, "%s%s: fine, %s, %s passed, %s%s\n", s.good, file,
			count(len(set.Trackers()), "tracker"), count(len(results), "test"), warnings, s.off)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// printSimulation shows a decision to a person: the routes that were tried, the
// numbers that ring, and the JSON that Ziwo gets.
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
	_ = table.Flush() // as little to be done about it as for Fprintf
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
		fmt.Fprintln(w, "  straight to voicemail")
	case len(sim.Rules) == 0:
		fmt.Fprintln(w, "  nobody is rung, and there is no voicemail")
	}
	if len(sim.Flags) > 0 {
		fmt.Fprintf(w, "  %sflags: %s%s\n", s.warn, strings.Join(sim.Flags, ", "), s.off)
	}
	fmt.Fprintf(w, "\nanswer to Ziwo\n  %s\n", sim.Answer)
}

// printNextSteps is what a person who has just started the server tries next:
// the lines of Ziwo's page, with the keys of the document that was applied.
func PrintNextSteps(w io.Writer, dataDir string, address net.Addr, trackers map[string]config.Tracker, generatedToken bool) {
	if len(trackers) == 0 {
		return
	}
	id := slices.Min(slices.Collect(maps.Keys(trackers)))
	doc := trackers[id]
	base := "http://localhost:8080"
	if tcp, ok := address.(*net.TCPAddr); ok {
		base = fmt.Sprintf("http://localhost:%d", tcp.Port)
	}
	did := "061234567"
	if len(doc.Numbers) > 0 {
		did = doc.Numbers[0].DID
	}
	token := "$CALLTRACKER_ADMIN_TOKEN"
	if generatedToken {
		token = fmt.Sprintf("$(cat %s)", filepath.Join(dataDir, datadir.AdminTokenFile))
	}
	fmt.Fprintf(w, `
calltracker is ready. In another terminal, be Ziwo:

  a call comes in: where does it go?
    curl -X POST %[1]s/callTrackers/%[2]s/startCall%[3]s --form 'didCalled=%[4]s' --form 'callerIDNumber=+971501234567'

  the call has ended: keep its record
    curl -X POST %[1]s/callTrackers/%[2]s/endCall%[5]s -H 'Content-Type: application/json' \
      -d '{"callID":"c0ffee00-0000-4000-8000-000000000001","didCalled":"%[4]s","callerIDNumber":"+971501234567","direction":"inbound","startedAt":"2026-11-22T09:00:00Z","answeredAt":"2026-11-22T09:00:12Z","endedAt":"2026-11-22T09:01:00Z","result":"answered"}'

  what was stored, and why the call went there
    curl -H "Authorization: Bearer %[6]s" %[1]s/api/v1/calls
    curl -H "Authorization: Bearer %[6]s" %[1]s/api/v1/decisions

  the API in a browser: %[1]s/docs/

`, base, id, keyHeader(doc.Keys.Start), did, keyHeader(doc.Keys.End), token)
}

// keyHeader shows a key only when it stands in the document for all to read.
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
