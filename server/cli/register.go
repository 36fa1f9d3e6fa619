package cli

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"

	"calltracker/handlers/register"
	"calltracker/handlers/ziwoclients"
	"calltracker/rules"
	"calltracker/ziwo"
)

// plannedCenter is a contact center and the plan for its call trackers.
type plannedCenter struct {
	name   string
	client *ziwo.Client
	plan   []register.PlannedTracker
}

type registerCommand struct {
	ziwoFlags `embed:""`
	DryRun    bool `name:"dry-run" help:"Show the changes without making them."`
	Yes       bool `help:"Make the changes without asking."`
	Test      bool `default:"true" negatable:"" help:"Have Ziwo test each call tracker after the changes."`
}

// Run prints the plan, asks for confirmation, makes the changes, and tests the result.
func (cmd *registerCommand) Run(ctx context.Context, t *Terminal) error {
	ctx, cancel := context.WithTimeout(ctx, ziwoTimeout)
	defer cancel()
	set, err := cmd.load(t)
	if err != nil {
		return err
	}
	style := styleFor(t.Out)
	for _, id := range set.Trackers() {
		if router, _ := set.Router(id); router.ContactCenter() == "" {
			return fmt.Errorf("trackers.%s needs a contact_center, because there are several", id)
		}
	}
	centers, err := cmd.plans(ctx, t, set)
	defer func() {
		for _, center := range centers {
			center.client.Close()
		}
	}()
	if err != nil {
		return err
	}
	pending := 0
	for _, center := range centers {
		pending += printPlan(t.Out, style, center)
	}
	switch {
	case cmd.DryRun:
		return nil
	case pending == 0:
	case !cmd.Yes && !confirm(t, pending):
		fmt.Fprintln(t.Out, "Nothing was changed.")
		return ErrReported
	}
	failed := false
	for _, center := range centers {
		if err := cmd.apply(ctx, t, style, set, center); err != nil {
			fmt.Fprintf(t.Err, "calltracker: %s: %v\n", center.name, err)
			failed = true
		}
	}
	if failed {
		return ErrReported
	}
	return nil
}

// plans compares the trackers of each contact center with the configuration.
func (cmd *registerCommand) plans(ctx context.Context, t *Terminal, set *rules.Set) ([]plannedCenter, error) {
	var centers []plannedCenter
	known := cmd.doc.ContactCenters
	for _, name := range slices.Sorted(maps.Keys(known)) {
		client, err := ziwo.NewClient(ziwoclients.ClientOptions(name, known[name]))
		if err != nil {
			return centers, fmt.Errorf("contact_centers.%s: %w", name, err)
		}
		centers = append(centers, plannedCenter{name: name, client: client})
		if err := checkReachable(cmd.PublicURL, client.Host()); err != nil {
			return centers, err
		}
		have, err := client.Trackers(ctx)
		if err != nil {
			if ziwo.KindOf(err) == ziwo.Unauthorized {
				cmd.printUnresolved(t)
			}
			return centers, fmt.Errorf("contact_centers.%s: %w", name, err)
		}
		plan, err := cmd.registration().Plan(cmd.doc, set, name, have)
		if err != nil {
			cmd.printUnresolved(t)
			return centers, err
		}
		centers[len(centers)-1].plan = plan
	}
	return centers, nil
}

// checkReachable returns an error for a public URL that only this machine can reach,
// unless Ziwo is simulated on this machine.
func checkReachable(public, api string) error {
	u, err := url.Parse(public)
	if err != nil {
		return err
	}
	if isLoopback(u.Hostname()) && !isLoopback(hostname(api)) {
		return fmt.Errorf("ziwo cannot reach %s: set CALLTRACKER_PUBLIC_URL to the public URL of the server", public)
	}
	return nil
}

// hostname returns a host without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// isLoopback reports whether a host is this machine.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// printPlan prints one line per tracker, and returns the number of changes.
func printPlan(w io.Writer, s style, center plannedCenter) (pending int) {
	fmt.Fprintf(w, "%scontact center %s%s (%s)\n\n", s.bold, center.name, s.off, center.client.Host())
	counts := map[register.PlanAction]int{}
	for _, p := range center.plan {
		counts[p.Action]++
		switch p.Action {
		case register.PlanCreate:
			fmt.Fprintf(w, "  %s+ create     %s%s\n", s.good, p.Tracker, s.off)
			fmt.Fprintf(w, "                 startRequestURL: %s\n                 endRequestURL:   %s\n", p.Want.StartRequestURL, p.Want.EndRequestURL)
		case register.PlanUpdate:
			fmt.Fprintf(w, "  %s~ update     %s%s\n", s.warn, p.Tracker, s.off)
			for _, change := range p.Changes {
				fmt.Fprintf(w, "                 %s: %s -> %s\n", change.Field, printable(change.From), printable(change.To))
			}
		case register.PlanUnchanged:
			fmt.Fprintf(w, "  %s= unchanged  %s%s\n", s.dim, p.Tracker, s.off)
		case register.PlanUnmanaged:
			note := ""
			if p.Stale {
				note = " (it calls this server, but the configuration does not have the tracker)"
			}
			fmt.Fprintf(w, "  %s? unmanaged  %s%s%s\n", s.dim, printable(p.Have.Name), note, s.off)
		}
	}
	fmt.Fprintf(w, "\n%d to create, %d to update, %d unchanged, %d unmanaged\n",
		counts[register.PlanCreate], counts[register.PlanUpdate], counts[register.PlanUnchanged], counts[register.PlanUnmanaged])
	return counts[register.PlanCreate] + counts[register.PlanUpdate]
}

// maxPrintable is the number of bytes of a text from Ziwo that are printed.
const maxPrintable = 200

// printable shortens a text from Ziwo, and removes control characters, which could
// change the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text[:min(len(text), maxPrintable)], "\uFFFD"))
}

// confirm asks the user whether to make the changes.
func confirm(t *Terminal, pending int) bool {
	fmt.Fprintf(t.Out, "\nMake %s? Type \"yes\" to continue: ", count(pending, "change"))
	line, err := bufio.NewReader(io.LimitReader(t.In, 100)).ReadString('\n')
	if err != nil && line == "" {
		fmt.Fprintln(t.Out)
	}
	return strings.TrimSpace(line) == "yes"
}

// apply changes the trackers of one contact center, reads them back, and has Ziwo
// test each of them.
func (cmd *registerCommand) apply(ctx context.Context, t *Terminal, s style, set *rules.Set, center plannedCenter) error {
	done := 0
	for _, p := range center.plan {
		if p.Action != register.PlanCreate && p.Action != register.PlanUpdate {
			continue
		}
		if err := p.Apply(ctx, center.client); err != nil {
			return fmt.Errorf("%s %s: %w", p.Action, p.Tracker, err)
		}
		done++
		fmt.Fprintf(t.Out, "%s%sd%s %s\n", s.good, p.Action, s.off, p.Tracker)
	}
	have, err := center.client.Trackers(ctx)
	if err != nil {
		return err
	}
	plan, err := cmd.registration().Plan(cmd.doc, set, center.name, have)
	if err != nil {
		return err
	}
	wrong := 0
	for _, p := range plan {
		switch p.Action {
		case register.PlanUnmanaged:
			continue
		case register.PlanUnchanged:
		default:
			wrong++
			fmt.Fprintf(t.Out, "%sdiffers%s %s: Ziwo did not store all settings\n", s.bad, s.off, p.Tracker)
			continue
		}
		if !cmd.Test || *p.Want.Blocked {
			continue
		}
		test, err := center.client.TestTracker(ctx, p.Have.ID)
		switch {
		case err != nil:
			wrong++
			fmt.Fprintf(t.Out, "%stest failed%s %s: %v\n", s.bad, s.off, p.Tracker, err)
		case !test.OK:
			wrong++
			fmt.Fprintf(t.Out, "%stest failed%s %s: %s\n", s.bad, s.off, p.Tracker, test.Message)
		default:
			fmt.Fprintf(t.Out, "%stest passed%s %s\n", s.good, s.off, p.Tracker)
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%s not set up correctly: run \"calltracker ziwo doctor\" for details", count(wrong, "tracker"))
	}
	if done == 0 {
		fmt.Fprintf(t.Out, "Ziwo already matches %s; nothing was changed.\n", cmd.File)
	}
	return nil
}
