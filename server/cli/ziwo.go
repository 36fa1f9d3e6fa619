package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"calltracker/config"
	"calltracker/handlers/reconcile"
	"calltracker/handlers/register"
	"calltracker/handlers/ziwoclients"
	"calltracker/phone"
	"calltracker/rules"
	"calltracker/server/datadir"
	"calltracker/server/httpapi"
	"calltracker/ziwo"
)

// ziwoCommands are those that talk to Ziwo, or about it.
type ZiwoCommands struct {
	Register  registerCommand  `cmd:"" help:"Make Ziwo's call trackers equal to those of a configuration; shows what would change first."`
	Doctor    doctorCommand    `cmd:"" help:"Check credentials, clocks, reachability, keys and numbers."`
	Reconcile reconcileCommand `cmd:"" help:"Have a running server fetch the calls that it missed."`
}

// ziwoTimeout bounds everything that register and doctor do.
const ziwoTimeout = 5 * time.Minute

// ziwoFile is a configuration with what it takes to use its contact centers.
type ziwoFile struct {
	File      string `arg:"" help:"Configuration; - is standard input."`
	PublicURL string `name:"public-url" env:"CALLTRACKER_PUBLIC_URL" default:"http://localhost:8080" help:"How Ziwo reaches the server."`
	DataDir   string `name:"data-dir" env:"CALLTRACKER_DATA_DIR" default:"data" help:"Where a server on this machine keeps its secrets."`
	SecretKey string `name:"secret-key" env:"CALLTRACKER_SECRET_KEY" help:"Base64 of the 32 bytes that encrypt them; read from the data directory when empty."`

	StartTimeout time.Duration `name:"start-timeout" default:"5s" help:"How long Ziwo waits for where a call goes."`
	EndTimeout   time.Duration `name:"end-timeout" default:"10s" help:"How long Ziwo waits for a record to be safe."`

	doc        *config.Document  // what load has read
	unresolved map[string]string // references and why they have no value here
}

// load reads the configuration. References without a value here are no error as
// long as nothing needs them.
func (f *ziwoFile) load(c *Terminal) (*rules.Set, error) {
	public, err := url.Parse(f.PublicURL)
	if err != nil || public.Host == "" || public.Scheme != "http" && public.Scheme != "https" {
		return nil, fmt.Errorf("CALLTRACKER_PUBLIC_URL: %q is no address; write https://calls.example.com", f.PublicURL)
	}
	f.PublicURL = strings.TrimRight(f.PublicURL, "/")
	text, err := c.readDocument(f.File)
	if err != nil {
		return nil, err
	}
	f.unresolved = map[string]string{}
	doc, set, problems := config.Load(text, FormatOf(f.File), f.resolve)
	if set == nil {
		printProblems(c.Err, styleFor(c.Err), f.File, problems.Errors())
		return nil, ErrReported
	}
	if len(doc.ContactCenters) == 0 {
		return nil, fmt.Errorf("%s has no contact_centers: name yours, with its credentials", f.File)
	}
	f.doc = doc
	return set, nil
}

func (f *ziwoFile) resolve(kind, name string) (string, error) {
	value, err := f.lookUp(kind, name)
	if err == nil {
		return value, nil
	}
	f.unresolved["${"+kind+":"+name+"}"] = err.Error()
	return "", fmt.Errorf("%w (%w)", config.ErrUnresolvedHere, err)
}

func (f *ziwoFile) lookUp(kind, name string) (string, error) {
	if kind == "env" {
		if value, ok := os.LookupEnv(name); ok {
			return value, nil
		}
		return "", errors.New("the environment variable is not set")
	}
	kept, err := datadir.LastGood{Path: filepath.Join(f.DataDir, datadir.LastGoodFile)}.Load()
	if err != nil {
		return "", fmt.Errorf("secrets are in the server's database; run this where its data directory is, or name that with --data-dir, after the configuration was applied (%s has none)", f.DataDir)
	}
	text := f.SecretKey
	if text == "" {
		content, err := os.ReadFile(filepath.Join(f.DataDir, datadir.SecretKeyFile))
		if err != nil {
			return "", fmt.Errorf("the key that opens secrets is neither in CALLTRACKER_SECRET_KEY nor in %s", f.DataDir)
		}
		text = string(content)
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return "", errors.New("the key that opens secrets is not base64")
	}
	vault, err := config.NewVault(key)
	if err != nil {
		return "", err
	}
	value, err := kept.Secret(vault, name)
	if err != nil {
		return "", fmt.Errorf("the configuration that the server in %s last used does not have it: store it with PUT /api/v1/secrets/%s and apply the configuration first (%w)", f.DataDir, name, err)
	}
	return value, nil
}

// explain adds to an error which references had no value.
func (f *ziwoFile) explain(c *Terminal) {
	for _, reference := range slices.Sorted(maps.Keys(f.unresolved)) {
		fmt.Fprintf(c.Err, "  %s: %s\n", reference, f.unresolved[reference])
	}
}

func (f *ziwoFile) registration() register.Registration {
	return register.Registration{PublicURL: f.PublicURL, StartTimeout: f.StartTimeout, EndTimeout: f.EndTimeout}
}

// center is a contact center and what is planned for it.
type plannedCenter struct {
	name   string
	client *ziwo.Client
	plan   []register.PlannedTracker
}

type registerCommand struct {
	ziwoFile `embed:""`
	DryRun   bool `name:"dry-run" help:"Show what would change, change nothing."`
	Yes      bool `help:"Do not ask."`
	Test     bool `default:"true" negatable:"" help:"Have Ziwo test every tracker afterwards."`
}

// Run plans, asks, applies and has everything tested.
func (cmd *registerCommand) Run(ctx context.Context, c *Terminal) error {
	ctx, cancel := context.WithTimeout(ctx, ziwoTimeout)
	defer cancel()
	set, err := cmd.load(c)
	if err != nil {
		return err
	}
	style := styleFor(c.Out)
	for _, id := range set.Trackers() {
		if router, _ := set.Router(id); router.ContactCenter() == "" {
			return fmt.Errorf("trackers.%s names no contact_center, and there are several", id)
		}
	}
	centers, err := cmd.plans(ctx, c, set)
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
		pending += printPlan(c.Out, style, center)
	}
	switch {
	case cmd.DryRun:
		return nil
	case pending == 0:
	case !cmd.Yes && !confirmed(c, pending):
		fmt.Fprintln(c.Out, "Nothing was changed.")
		return ErrReported
	}
	failed := false
	for _, center := range centers {
		if err := cmd.apply(ctx, c, style, set, center); err != nil {
			fmt.Fprintf(c.Err, "calltracker: %s: %v\n", center.name, err)
			failed = true
		}
	}
	if failed {
		return ErrReported
	}
	return nil
}

// plans asks every contact center for its trackers.
func (cmd *registerCommand) plans(ctx context.Context, c *Terminal, set *rules.Set) ([]plannedCenter, error) {
	var centers []plannedCenter
	known := cmd.doc.ContactCenters
	for _, name := range slices.Sorted(maps.Keys(known)) {
		client, err := ziwo.NewClient(ziwoclients.ClientOptions(name, known[name]))
		if err != nil {
			return centers, fmt.Errorf("contact_centers.%s: %w", name, err)
		}
		centers = append(centers, plannedCenter{name: name, client: client})
		if err := reachable(cmd.PublicURL, client.Host()); err != nil {
			return centers, err
		}
		have, err := client.Trackers(ctx)
		if err != nil {
			if ziwo.KindOf(err) == ziwo.Unauthorized {
				cmd.explain(c)
			}
			return centers, fmt.Errorf("contact_centers.%s: %w", name, err)
		}
		plan, err := cmd.registration().Plan(cmd.doc, set, name, have)
		if err != nil {
			cmd.explain(c)
			return centers, err
		}
		centers[len(centers)-1].plan = plan
	}
	return centers, nil
}

// reachable refuses an address that Ziwo cannot know.
func reachable(public, api string) error {
	u, err := url.Parse(public)
	if err != nil {
		return err
	}
	if local(u.Hostname()) && !local(hostname(api)) {
		return fmt.Errorf("ziwo cannot reach %s: set CALLTRACKER_PUBLIC_URL to the server's address on the internet", public)
	}
	return nil
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

func local(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && (ip.IsLoopback() || ip.IsUnspecified())
}

// printPlan prints one line a tracker and returns how many are to change.
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
				note = " (it asks this server, which the document has no such tracker for)"
			}
			fmt.Fprintf(w, "  %s? unmanaged  %s%s%s\n", s.dim, printable(p.Have.Name), note, s.off)
		}
	}
	fmt.Fprintf(w, "\n%d to create, %d to update, %d unchanged, %d unmanaged\n",
		counts[register.PlanCreate], counts[register.PlanUpdate], counts[register.PlanUnchanged], counts[register.PlanUnmanaged])
	return counts[register.PlanCreate] + counts[register.PlanUpdate]
}

// printable keeps what Ziwo says from steering the terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, httpapi.Clipped(text))
}

func confirmed(c *Terminal, pending int) bool {
	fmt.Fprintf(c.Out, "\nMake %s? Only \"yes\" does it: ", count(pending, "change"))
	line, err := bufio.NewReader(io.LimitReader(c.In, 100)).ReadString('\n')
	if err != nil && line == "" {
		fmt.Fprintln(c.Out)
	}
	return strings.TrimSpace(line) == "yes"
}

// apply changes one contact center, looks whether it is now as it should be, and
// has every tracker tested.
func (cmd *registerCommand) apply(ctx context.Context, c *Terminal, s style, set *rules.Set, center plannedCenter) error {
	done := 0
	for _, p := range center.plan {
		if p.Action != register.PlanCreate && p.Action != register.PlanUpdate {
			continue
		}
		if err := p.Apply(ctx, center.client); err != nil {
			return fmt.Errorf("%s %s: %w", p.Action, p.Tracker, err)
		}
		done++
		fmt.Fprintf(c.Out, "%s%sd%s %s\n", s.good, p.Action, s.off, p.Tracker)
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
			fmt.Fprintf(c.Out, "%sdiffers%s %s: Ziwo did not keep what it was sent\n", s.bad, s.off, p.Tracker)
			continue
		}
		if !cmd.Test || *p.Want.Blocked {
			continue
		}
		test, err := center.client.TestTracker(ctx, p.Have.ID)
		switch {
		case err != nil:
			wrong++
			fmt.Fprintf(c.Out, "%stest failed%s %s: %v\n", s.bad, s.off, p.Tracker, err)
		case !test.OK:
			wrong++
			fmt.Fprintf(c.Out, "%stest failed%s %s: %s\n", s.bad, s.off, p.Tracker, test.Message)
		default:
			fmt.Fprintf(c.Out, "%stest passed%s %s\n", s.good, s.off, p.Tracker)
		}
	}
	if wrong > 0 {
		return fmt.Errorf("%s not as it should be; calltracker ziwo doctor may tell why", count(wrong, "tracker"))
	}
	if done == 0 {
		fmt.Fprintf(c.Out, "Ziwo is as %s says; nothing was changed.\n", cmd.File)
	}
	return nil
}

type doctorCommand struct {
	ziwoFile `embed:""`
}

// findings prints one line a check and counts the bad ones.
type findings struct {
	out io.Writer
	style
	failed, warned int
}

func (f *findings) line(colour, word, format string, args ...any) {
	fmt.Fprintf(f.out, "%s%-5s%s %s\n", colour, word, f.off, fmt.Sprintf(format, args...))
}

func (f *findings) ok(format string, args ...any) { f.line(f.good, "ok", format, args...) }

func (f *findings) warning(format string, args ...any) {
	f.warned++
	f.line(f.warn, "warn", format, args...)
}

func (f *findings) fail(format string, args ...any) {
	f.failed++
	f.line(f.bad, "FAIL", format, args...)
}

// Run checks everything, whatever fails, and exits with 1 if anything did.
func (cmd *doctorCommand) Run(ctx context.Context, c *Terminal) error {
	ctx, cancel := context.WithTimeout(ctx, ziwoTimeout)
	defer cancel()
	set, err := cmd.load(c)
	if err != nil {
		return err
	}
	f := &findings{out: c.Out, style: styleFor(c.Out)}
	for _, reference := range slices.Sorted(maps.Keys(cmd.unresolved)) {
		f.warning("%s has no value here: %s", reference, cmd.unresolved[reference])
	}
	cmd.publicURL(ctx, f)
	cmd.keys(ctx, f, set)
	known := cmd.doc.ContactCenters
	for _, name := range slices.Sorted(maps.Keys(known)) {
		cmd.center(ctx, f, set, name, known[name])
	}
	fmt.Fprintf(c.Out, "%s, %s\n", count(f.failed, "failure"), count(f.warned, "warning"))
	if f.failed > 0 {
		return ErrReported
	}
	return nil
}

// Limits of the doctor's patience.
const (
	doctorTimeout = 10 * time.Second
	clockWarning  = 5 * time.Second
	clockFailure  = time.Minute
	certificate   = 14 * 24 * time.Hour // that a certificate should last, still
)

// looked is the head of an answer that the doctor got.
type looked struct {
	status      int
	certificate *x509.Certificate // nil without TLS
}

// look sends one request without a body.
func look(ctx context.Context, method, target, key string) (looked, error) {
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, http.NoBody)
	if err != nil {
		return looked{}, err
	}
	if key != "" {
		req.Header.Set("X-Api-Key", key)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		var at *url.Error
		if errors.As(err, &at) {
			err = at.Err
		}
		return looked{}, err
	}
	defer res.Body.Close()
	out := looked{status: res.StatusCode}
	if res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
		out.certificate = res.TLS.PeerCertificates[0]
	}
	return out, nil
}

// publicURL looks at the server from here. That Ziwo sees the same, only Ziwo's
// own test can tell.
func (cmd *doctorCommand) publicURL(ctx context.Context, f *findings) {
	got, err := look(ctx, http.MethodGet, cmd.PublicURL+"/healthz", "")
	var wrong *tls.CertificateVerificationError
	switch {
	case errors.As(err, &wrong):
		f.fail("%s: its certificate is not valid: %v", cmd.PublicURL, wrong.Err)
		return
	case err != nil:
		f.fail("%s cannot be reached from here: %v", cmd.PublicURL, err)
		return
	case got.status != http.StatusOK:
		f.fail("%s/healthz answers %d: is this calltracker?", cmd.PublicURL, got.status)
		return
	}
	f.ok("%s can be reached from here", cmd.PublicURL)
	if got.certificate == nil {
		f.warning("%s is not https: keys and callers' numbers travel in the clear", cmd.PublicURL)
	} else if left := time.Until(got.certificate.NotAfter); left < certificate {
		f.warning("its certificate ends in %d days", int(left.Hours()/24))
	} else {
		f.ok("TLS: its certificate is good for %d days", int(left.Hours()/24))
	}
	if u, err := url.Parse(cmd.PublicURL); err == nil && local(u.Hostname()) {
		f.warning("%s is this machine: Ziwo cannot reach it", cmd.PublicURL)
	}
}

// keys tries the keys on the running server, with requests that it refuses for
// another reason once the key is right.
func (cmd *doctorCommand) keys(ctx context.Context, f *findings, set *rules.Set) {
	for _, id := range set.Trackers() {
		doc := cmd.doc.Trackers[id]
		for _, side := range []struct {
			name, path string
			list       config.KeyList
		}{{"start", "/startCall", doc.Keys.Start}, {"end", "/endCall", doc.Keys.End}} {
			at := "trackers." + id + ".keys." + side.name
			key := ""
			switch {
			case side.list.Open:
				f.warning("%s: open, anyone may send %s calls", at, side.name)
			case len(side.list.Keys) == 0:
				f.fail("%s: there is none, every %s call is refused", at, side.name)
				continue
			default:
				if key = side.list.Keys[0].Reveal(); key == "" {
					f.warning("%s: not checked, its value is not known here", at)
					continue
				}
			}
			got, err := look(ctx, http.MethodPost, cmd.PublicURL+"/callTrackers/"+url.PathEscape(id)+side.path, key)
			switch {
			case err != nil:
				f.fail("%s: %v", at, err)
			case got.status == http.StatusBadRequest, got.status == http.StatusForbidden && doc.Blocked:
				f.ok("%s: the server takes it", at)
			case got.status == http.StatusUnauthorized:
				f.fail("%s: the server refuses it; is this file in force there? (calltracker apply)", at)
			case got.status == http.StatusNotFound:
				f.fail("trackers.%s: the server does not have it; is this file in force there? (calltracker apply)", id)
			default:
				f.fail("%s: the server answers %d", at, got.status)
			}
		}
	}
}

func (cmd *doctorCommand) center(ctx context.Context, f *findings, set *rules.Set, name string, doc config.ContactCenter) {
	at := "contact_centers." + name
	client, err := ziwo.NewClient(ziwoclients.ClientOptions(name, doc))
	if err != nil {
		f.fail("%s: %v", at, err)
		return
	}
	defer client.Close()
	asked := time.Now()
	profile, err := client.Profile(ctx)
	if err != nil {
		f.fail("%s: %v", at, err)
		return
	}
	f.ok("%s: %s lets us in as %s", at, client.Host(), printable(profile.Username))
	if !profile.At.IsZero() {
		// Ziwo's clock shows whole seconds, and the answer took a while.
		switch apart := profile.At.Sub(asked).Abs(); {
		case apart > clockFailure:
			f.fail("%s: our clock and Ziwo's are %s apart", at, apart.Round(time.Second))
		case apart > clockWarning:
			f.warning("%s: our clock and Ziwo's are %s apart", at, apart.Round(time.Second))
		default:
			f.ok("%s: our clock agrees with Ziwo's", at)
		}
	}
	if doc.APIKey.Reveal() == "" {
		f.warning("%s: without an api_key there is no click to call", at)
	} else if _, _, err := client.AgentCall(ctx, "0000"); err != nil && ziwo.KindOf(err) != ziwo.NotFound && ziwo.KindOf(err) != ziwo.Rejected {
		f.fail("%s: CTI: %v", at, err)
	} else {
		f.ok("%s: CTI takes the api_key", at)
	}
	cmd.trackers(ctx, f, set, name, client)
	cmd.numbers(ctx, f, set, name, client)
}

// trackers tells how Ziwo's trackers differ from the document's.
func (cmd *doctorCommand) trackers(ctx context.Context, f *findings, set *rules.Set, name string, client *ziwo.Client) {
	have, err := client.Trackers(ctx)
	if err != nil {
		f.fail("contact_centers.%s: %v", name, err)
		return
	}
	plan, err := cmd.registration().Plan(cmd.doc, set, name, have)
	if err != nil {
		f.warning("contact_centers.%s: %s", name, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	for _, p := range plan {
		switch {
		case p.Action == register.PlanCreate:
			f.fail("trackers.%s: Ziwo does not have it (calltracker ziwo register)", p.Tracker)
		case p.Action == register.PlanUpdate:
			var fields []string
			for _, change := range p.Changes {
				fields = append(fields, change.Field)
			}
			f.fail("trackers.%s: differs in Ziwo: %s (calltracker ziwo register)", p.Tracker, strings.Join(fields, ", "))
		case p.Action == register.PlanUnchanged:
			f.ok("trackers.%s: Ziwo has it as it should be", p.Tracker)
		case p.Stale:
			f.warning("Ziwo's tracker %s asks this server, but the document has no such tracker", printable(p.Have.Name))
		}
	}
}

// numbers compares where the numbers of Ziwo lead with what the trackers list.
func (cmd *doctorCommand) numbers(ctx context.Context, f *findings, set *rules.Set, name string, client *ziwo.Client) {
	numbers, err := client.Numbers(ctx)
	if err != nil {
		f.warning("contact_centers.%s: numbers were not checked: %v", name, err)
		return
	}
	leads := map[string]string{} // numbers, in E.164, to trackers
	region := set.Region(name)
	for _, n := range numbers {
		if !n.RoutesToTracker() {
			continue
		}
		router, ok := set.Router(n.LinkData)
		if !ok {
			f.warning("number %s leads to Ziwo's tracker %s, which the document does not have", printable(n.DIDCalled), printable(n.LinkData))
			continue
		}
		if router.Region() != "" {
			region = router.Region()
		}
		leads[phone.Parse(n.DIDCalled, region).Key()] = n.LinkData
		if _, listed := router.FindDID(n.DIDCalled); !listed {
			f.warning("number %s leads to trackers.%s, which does not list it", printable(n.DIDCalled), printable(n.LinkData))
		}
	}
	for _, id := range set.Trackers() {
		router, _ := set.Router(id)
		if router.ContactCenter() != name {
			continue
		}
		missing := 0
		for _, did := range cmd.doc.Trackers[id].Numbers {
			if leads[phone.Parse(did.DID, router.Region()).Key()] != id {
				missing++
				f.warning("trackers.%s lists %s, which does not lead there in Ziwo", id, printable(did.DID))
			}
		}
		if missing == 0 {
			f.ok("trackers.%s: its numbers lead there", id)
		}
	}
}

// reconcileTimeout is more than a server takes over a run.
const reconcileTimeout = 30 * time.Minute

type reconcileCommand struct {
	From    string `required:"" help:"First instant (RFC 3339)." placeholder:"T"`
	To      string `required:"" help:"Instant after the last (RFC 3339)." placeholder:"T"`
	Server  string `env:"CALLTRACKER_PUBLIC_URL" default:"http://localhost:8080" help:"Address of the running server."`
	Token   string `env:"CALLTRACKER_ADMIN_TOKEN" help:"Admin token; read from the data directory when empty."`
	DataDir string `name:"data-dir" env:"CALLTRACKER_DATA_DIR" default:"data" help:"Where the generated admin token is."`
}

// Run asks the server and prints the figures of each contact center.
func (cmd *reconcileCommand) Run(ctx context.Context, c *Terminal) error {
	for name, text := range map[string]string{"--from": cmd.From, "--to": cmd.To} {
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			return fmt.Errorf("%s %q is no instant; write it like 2026-11-22T20:00:00Z", name, text)
		}
	}
	token, err := adminToken(cmd.Token, cmd.DataDir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	body, err := json.Marshal(map[string]string{"from": cmd.From, "to": cmd.To})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(cmd.Server, "/")+"/api/v1/reconciliation", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, httpapi.MaxAdminBody))
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		var problem httpapi.Problem
		if err := json.Unmarshal(text, &problem); err != nil {
			return fmt.Errorf("the server answered %s", res.Status)
		}
		PrintFieldErrors(c.Err, "reconcile", problem.Errors)
		return fmt.Errorf("not reconciled: %s (%d %s)", problem.Detail, problem.Status, problem.Title)
	}
	var runs reconcile.ReconciliationList
	if err := json.Unmarshal(text, &runs); err != nil {
		return fmt.Errorf("the server answered something that is not understood: %w", err)
	}
	return printRuns(c.Out, styleFor(c.Out), runs.Runs)
}

func printRuns(w io.Writer, s style, runs []reconcile.ReconciliationView) error {
	delayed := false
	for _, r := range runs {
		colour := s.good
		if r.State != "done" {
			colour, delayed = s.bad, true
		}
		fmt.Fprintf(w, "%s: %s%s%s, %d calls at Ziwo, %d were here, %d stored, %d completed, %d differ, %d started and never ended (%d requests)\n",
			r.ContactCenter, colour, r.State, s.off, r.Found, r.Present, r.Backfilled, r.Enriched, r.Differing, r.Unended, r.Requests)
		if r.Error != "" {
			fmt.Fprintf(w, "  %s\n", printable(r.Error))
		}
	}
	if delayed {
		return ErrReported
	}
	return nil
}

// adminToken is the token that was given, or the one that a server on this
// machine generated.
func adminToken(given, dataDir string) (string, error) {
	if given != "" {
		return given, nil
	}
	content, err := os.ReadFile(filepath.Join(dataDir, datadir.AdminTokenFile))
	if err != nil {
		return "", fmt.Errorf("no admin token: give --token or set %s (%w)", TokenVariable, err)
	}
	return strings.TrimSpace(string(content)), nil
}
