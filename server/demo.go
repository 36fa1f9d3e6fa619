package main

import (
	"cmp"
	"context"
	_ "embed" // of the document
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"calltracker/config"
	"calltracker/crm"
	"calltracker/crm/builtin"
	"calltracker/crm/crmtest"
	"calltracker/handlers"
	"calltracker/ziwo/ziwotest"
)

// demoDocument is the configuration of the demonstration. Addresses in braces are
// filled in.
//
//go:embed demo.yaml
var demoDocument string

// What the demonstration opens with. These keys open nothing else.
const (
	demoStartKey    = "demo-start-key"
	demoEndKey      = "demo-end-key"
	demoEmbedKey    = "demo-embed-key"
	demoKustomerKey = "demo-kustomer-key"
	demoZendeskUser = "bot@example.com"
	demoZendeskKey  = "demo-zendesk-token"
)

// demoCommand is the whole product in one process, with nobody outside.
type demoCommand struct {
	Listen string  `default:"127.0.0.1:8080" help:"Address of the HTTP server."`
	Rate   float64 `default:"6" help:"Calls a minute."`
	Seed   uint64  `default:"7" help:"Another seed is another day."`

	publicURL string
}

// Run serves until ctx ends. What it keeps goes with it.
func (cmd *demoCommand) Run(ctx context.Context, c *console) (err error) {
	if !(cmd.Rate > 0 && cmd.Rate <= 6000) {
		return errors.New("--rate must be more than 0 and at most 6000 calls a minute")
	}
	host, port, err := net.SplitHostPort(cmd.Listen)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--listen %q: the keys of the demonstration are known to all, so it serves this machine only; write 127.0.0.1:8080", cmd.Listen)
	}
	cmd.publicURL = "http://localhost:" + port
	dir, err := os.MkdirTemp("", "calltracker-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d, err := newDemo(ctx, *cmd, dir, c.err)
	if err != nil {
		return err
	}
	return d.run(ctx, c.out)
}

// demo is the demonstration: a server, a Ziwo and two CRMs.
type demo struct {
	demoCommand
	server    *server
	ziwo      *ziwotest.Ziwo
	upstreams []*http.Server
	base      string
	past      atomic.Bool // the day before is being lived through
}

// newDemo starts everything but the calls.
func newDemo(ctx context.Context, cmd demoCommand, dir string, log io.Writer) (_ *demo, err error) {
	d := &demo{demoCommand: cmd, ziwo: ziwotest.New(ziwotest.Options{Seed: cmd.Seed, Customers: demoCallers})}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	document, err := d.outside(ctx)
	if err != nil {
		return nil, err
	}
	o := options{Listen: cmd.Listen, DataDir: dir, PublicURL: cmp.Or(cmd.publicURL, "http://localhost:8080"), VoicemailField: "voicemail", LogFormat: "text", LogLevel: "warn", ReconcileEvery: "1m"}
	set, err := o.check(false)
	if err != nil {
		return nil, err
	}
	set.drivers = demoDrivers()
	set.now = d.now
	d.server, err = start(ctx, set, set.logger(log), &handlers.ConfigInput{
		Document: document, Format: config.YAML, Author: "demo", Comment: "the demonstration", IfMatch: "*",
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w; choose another with --listen, such as 127.0.0.1:8090", err)
	}
	if err != nil {
		return nil, err
	}
	d.base = "http://localhost:" + strconv.Itoa(d.server.listener.Addr().(*net.TCPAddr).Port)
	for tracker, numbers := range map[string][]ziwotest.Number{
		"sales":   {{E164: "+97143000100", DIDCalled: "043000100"}, {E164: "+97143000101", DIDCalled: "043000101"}},
		"support": {{E164: "+97143000200", DIDCalled: "043000200"}},
	} {
		address := d.base + "/callTrackers/" + tracker
		d.ziwo.AddTracker(ziwotest.Tracker{
			Name: tracker, StartRequestURL: address + "/startCall", StartRequestKey: demoStartKey, StartTimeout: 5_000,
			EndRequestURL: address + "/endCall", EndRequestKey: demoEndKey, EndTimeout: 10_000, // as calltracker ziwo register has it
		})
		for _, n := range numbers {
			n.Tracker = tracker
			d.ziwo.AddNumber(n)
		}
	}
	return d, nil
}

// now is the time by which calls are routed and kept: that of Ziwo while the day
// before is lived through, so that it was day and night then.
func (d *demo) now() time.Time {
	if d.past.Load() {
		return d.ziwo.Now()
	}
	return time.Now()
}

// outside starts a Ziwo and two CRMs, and returns the document that knows where
// they are.
func (d *demo) outside(ctx context.Context) (document string, err error) {
	kustomer, zendesk := &crmtest.Kustomer{Key: demoKustomerKey}, &crmtest.Zendesk{Email: demoZendeskUser, Token: demoZendeskKey}
	for i, c := range d.ziwo.Customers() {
		p := crmtest.Person{ID: strconv.Itoa(100_000 + i), Name: c.Name, Phones: []string{c.E164}}
		if i%5 == 0 {
			p.Tags = []string{"vip"}
		}
		home := demoHome(i)
		if home == atKustomer || home == atBoth {
			kustomer.Add(p)
		}
		if home == atZendesk || home == atBoth {
			zendesk.Add(p)
		}
	}
	username, password, key := d.ziwo.Credentials()
	document = demoDocument
	for name, value := range map[string]string{"{ziwo_user}": username, "{ziwo_password}": password, "{ziwo_key}": key} {
		document = strings.ReplaceAll(document, name, strconv.Quote(value))
	}
	for name, handler := range map[string]http.Handler{"{ziwo}": d.ziwo, "{kustomer}": kustomer, "{zendesk}": zendesk} {
		address, err := d.upstream(ctx, handler)
		if err != nil {
			return "", err
		}
		document = strings.ReplaceAll(document, name, strconv.Quote(address))
	}
	return document, nil
}

// Of those who call, each CRM knows about a third, a few are in both, and the
// rest are strangers.
const (
	atKustomer = iota
	atZendesk
	atBoth
	nowhere

	demoCallers = 750
)

func demoHome(customer int) int {
	return []int{atKustomer, atZendesk, nowhere, atKustomer, atZendesk, nowhere, atBoth}[customer%7]
}

// demoDrivers are the usual ones. Made-up CRMs can be asked more often than the
// real ones, so that a day's callers are looked up in seconds.
func demoDrivers() []crm.Driver {
	drivers := builtin.Drivers()
	for i := range drivers {
		drivers[i].BudgetsFor = nil
		drivers[i].Budgets = []crm.Budget{{Name: "requests", Requests: 60_000, Per: time.Minute}}
	}
	return drivers
}

// upstream serves one of the others, on this machine only.
func (d *demo) upstream(ctx context.Context, handler http.Handler) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	web := &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout}
	d.upstreams = append(d.upstreams, web)
	go func() { _ = web.Serve(listener) }() // ends with close
	return "http://" + listener.Addr().String(), nil
}

func (d *demo) close() error {
	var errs []error
	for _, web := range d.upstreams {
		errs = append(errs, web.Close())
	}
	d.ziwo.Close()
	return errors.Join(errs...)
}

// demoCalls are those of the day that lies behind the demonstration.
const demoCalls = 400

// run serves, lives through the day before, tells where to look, and goes on with
// calls until ctx ends.
func (d *demo) run(ctx context.Context, out io.Writer) error {
	defer func() { _ = d.close() }()
	from := time.Now().UTC().Add(-24 * time.Hour).Truncate(time.Second)
	d.ziwo.SetNow(from)
	d.past.Store(true)
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- d.server.run(serving) }()
	fmt.Fprintln(out, "A day of calls is being lived through …")
	var calls sync.WaitGroup
	calls.Go(func() {
		fetched, err := d.yesterday(serving, from)
		if err == nil {
			d.tell(out, fetched)
			_, err = d.ziwo.Simulate(serving, ziwotest.Simulation{Rate: d.Rate * 60, Speed: 1})
		}
		if err != nil && serving.Err() == nil {
			d.server.logger.Error("no more calls", slog.Any("error", err))
		}
	})
	err := <-served
	stop()
	calls.Wait()
	return err
}

// yesterday lives through the day before, in which Ziwo did not do everything
// right, and has what is missing fetched; it returns how many records that was.
func (d *demo) yesterday(ctx context.Context, from time.Time) (fetched int, err error) {
	_, err = d.ziwo.Simulate(ctx, ziwotest.Simulation{
		From: from, Length: 24 * time.Hour, Calls: demoCalls, Profile: demoProfile(from),
		Faults:      ziwotest.Faults{Duplicate: 0.05, Reorder: 0.05, Drop: 0.02, LateRecording: 0.1, CurlyQuotes: 0.05},
		Concurrency: 1, // each at its own time of day
	})
	if err != nil {
		return 0, err
	}
	d.past.Store(false)
	d.ziwo.SetNow(time.Time{})
	list, err := d.server.reconciler.Reconcile(ctx, handlers.ReconciliationInput{From: from.Add(-time.Minute), To: time.Now()})
	if err != nil {
		return 0, err
	}
	for _, run := range list.Runs {
		fetched += run.Backfilled
	}
	return fetched, nil
}

// demoProfile is a business day in Dubai, as it looks from an instant on.
func demoProfile(from time.Time) []float64 {
	hours := ziwotest.BusinessDay()
	const east = 4 // of UTC, all year
	first := (from.Hour() + east) % len(hours)
	return slices.Concat(hours[first:], hours[:first])
}

// tell says what there is to look at.
func (d *demo) tell(out io.Writer, fetched int) {
	people := d.ziwo.Customers()
	one := func(home int) ziwotest.Customer {
		for i, c := range people {
			if demoHome(i) == home {
				return c
			}
		}
		return ziwotest.Customer{}
	}
	open := func(c ziwotest.Customer) string {
		return d.base + "/crm/open?site=agents&key=" + demoEmbedKey + "&number=" + url.QueryEscape(c.E164)
	}
	known, twice, stranger := one(atKustomer), one(atBoth), one(nowhere)
	fmt.Fprintf(out, `
calltracker runs here with a simulated Ziwo, a Kustomer and a Zendesk that are made up, and %d people who call. It has lived through a
day of %d calls; the records of %d never came and were fetched from Ziwo's call history. %g calls a minute go on.
Nothing leaves this machine, and everything goes when you press Ctrl-C.

Open in a browser

  %-36[5]s the API, to try
  %-36[6]s what a web site pastes to be called back from
  %-36[7]s what the page of an agent pastes

and what the browser of an agent does when the phone rings. It goes to a page of the CRM, which does not exist here, lets the
agent choose when there are several, and offers to search when there is none:

  %[8]s, whom Kustomer knows
    %[9]s
  %[10]s, who is in both CRMs
    %[11]s
  a stranger
    %[12]s

Paste into another terminal

  export TOKEN=%[13]s

  # the last calls: where they went, how they ended, whose they were
  curl -s -H "Authorization: Bearer $TOKEN" '%[14]s/api/v1/calls?limit=3'
  # why a call went where it went, condition by condition
  curl -s -H "Authorization: Bearer $TOKEN" '%[14]s/api/v1/decisions?limit=1'
  # what was compared with Ziwo's history, and what was missing
  curl -s -H "Authorization: Bearer $TOKEN" '%[14]s/api/v1/reconciliation?limit=3'
  # how the CRMs do
  curl -s -H "Authorization: Bearer $TOKEN" '%[14]s/api/v1/connections'
  # what happens now: calls that begin and end, and what agents do
  curl -s -N -H "Authorization: Bearer $TOKEN" -H 'Accept: text/event-stream' '%[14]s/api/v1/live'

  # what calltracker would change in Ziwo's settings (nothing), and whether all is well with them
  curl -s -H "Authorization: Bearer $TOKEN" '%[14]s/api/v1/config' > demo.yaml
  export CALLTRACKER_PUBLIC_URL=%[14]s
  go run ./server ziwo register demo.yaml --dry-run
  go run ./server ziwo doctor demo.yaml

  # be Ziwo: ask where a call goes
  curl -s -H 'X-API-Key: %[15]s' --form didCalled=043000100 --form callerIDNumber=%[16]s '%[14]s/callTrackers/sales/startCall'
`, len(people), demoCalls, fetched, d.Rate, d.base+"/docs/", d.base+"/sites/shop", d.base+"/sites/agents",
		known.Name, open(known), twice.Name, open(twice), open(stranger), d.token(), d.base, demoStartKey, known.E164)
}

// token is that of the admin API, which was made in the folder of this run.
func (d *demo) token() string {
	text, err := os.ReadFile(filepath.Join(d.server.settings.dataDir, adminTokenFile))
	if err != nil {
		return d.server.settings.adminToken
	}
	return strings.TrimSpace(string(text))
}
