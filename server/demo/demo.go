// Package demo runs a calltracker server with everything around it in one
// process: a simulated Ziwo, two simulated CRMs, invented customers, and live
// calls. Nothing leaves the machine.
package demo

import (
	"context"
	_ "embed" // for demo.yaml
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"calltracker/crm"
	"calltracker/crm/builtin"
	"calltracker/crm/crmtest"
	"calltracker/ziwo/ziwotest"
)

// document is the configuration of the demo, with addresses in braces.
//
//go:embed demo.yaml
var document string

// Keys of the demo. They open nothing else.
const (
	startKey    = "demo-start-key"
	endKey      = "demo-end-key"
	embedKey    = "demo-embed-key"
	kustomerKey = "demo-kustomer-key"
	zendeskUser = "bot@example.com"
	zendeskKey  = "demo-zendesk-token"
)

const readHeaderTimeout = 5 * time.Second // of the simulated systems

// Options are the options of Run.
type Options struct {
	Listen string    // loopback address of the server
	Rate   float64   // calls per minute
	Seed   uint64    // a different seed gives a different day
	Out    io.Writer // instructions for the user
	Logger *slog.Logger

	// Serve runs a server until ctx ends.
	Serve func(ctx context.Context, s Server) error
}

// Server describes the server that Options.Serve runs.
type Server struct {
	Listen, DataDir, PublicURL string
	Document                   string // configuration in YAML
	Drivers                    []crm.Driver
	Now                        func() time.Time // clock by which calls are routed and stored

	// Ready is called once the server listens.
	Ready func(Running)
}

// Running is a server that listens.
type Running struct {
	Port       int
	AdminToken string

	// Reconcile fetches the CDRs that are missing in a span from Ziwo's call history,
	// and returns how many there were.
	Reconcile func(ctx context.Context, from, to time.Time) (backfilled int, err error)
}

// Run runs the demo until ctx ends, and then removes everything that it stored.
func Run(ctx context.Context, o Options) (err error) {
	if !(o.Rate > 0 && o.Rate <= 6000) {
		return fmt.Errorf("invalid --rate %g: use more than 0 and at most 6000 calls per minute", o.Rate)
	}
	host, port, err := net.SplitHostPort(o.Listen)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("invalid --listen %q: the keys of the demo are public, so use an address of this machine such as 127.0.0.1:8080", o.Listen)
	}
	dir, err := os.MkdirTemp("", "calltracker-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	d := &demo{Options: o, ziwo: ziwotest.New(ziwotest.Options{Seed: o.Seed, Customers: callers})}
	defer func() { err = errors.Join(err, d.close()) }()
	configuration, err := d.startUpstreams(ctx)
	if err != nil {
		return err
	}
	from := time.Now().UTC().Add(-24 * time.Hour).Truncate(time.Second)
	d.ziwo.SetNow(from)
	d.past.Store(true)

	ctx, stop := context.WithCancel(ctx)
	var calls sync.WaitGroup
	defer calls.Wait()
	defer stop()
	err = o.Serve(ctx, Server{
		Listen: o.Listen, DataDir: dir, PublicURL: "http://localhost:" + port,
		Document: configuration, Drivers: drivers(), Now: d.now,
		Ready: func(running Running) {
			d.register("http://localhost:" + strconv.Itoa(running.Port))
			calls.Go(func() { d.simulate(ctx, running, from) })
		},
	})
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w; choose another address with --listen, such as 127.0.0.1:8090", err)
	}
	return err
}

// demo is a running demo.
type demo struct {
	Options
	ziwo      *ziwotest.Ziwo
	upstreams []*http.Server
	base      string      // URL of the server
	past      atomic.Bool // whether the past day is being simulated
}

// register registers the server with the simulated Ziwo.
func (d *demo) register(base string) {
	d.base = base
	for tracker, numbers := range map[string][]ziwotest.Number{
		"sales":   {{E164: "+97143000100", DIDCalled: "043000100"}, {E164: "+97143000101", DIDCalled: "043000101"}},
		"support": {{E164: "+97143000200", DIDCalled: "043000200"}},
	} {
		address := base + "/callTrackers/" + tracker
		d.ziwo.AddTracker(ziwotest.Tracker{
			Name: tracker, StartRequestURL: address + "/startCall", StartRequestKey: startKey, StartTimeout: 5_000,
			EndRequestURL: address + "/endCall", EndRequestKey: endKey, EndTimeout: 10_000, // the same as "calltracker ziwo register" sets
		})
		for _, n := range numbers {
			n.Tracker = tracker
			d.ziwo.AddNumber(n)
		}
	}
}

// simulate simulates the past day, prints instructions, and then simulates live calls
// until ctx ends.
func (d *demo) simulate(ctx context.Context, running Running, from time.Time) {
	fmt.Fprintln(d.Out, "Simulating a day of calls …")
	backfilled, err := d.simulateYesterday(ctx, running, from)
	if err == nil {
		d.printInstructions(running.AdminToken, backfilled)
		_, err = d.ziwo.Simulate(ctx, ziwotest.Simulation{Rate: d.Rate * 60, Speed: 1})
	}
	if err != nil && ctx.Err() == nil {
		d.Logger.Error("call simulation stopped", slog.Any("error", err))
	}
}

// now returns the time by which calls are routed and stored: the simulated time
// while the past day is being simulated.
func (d *demo) now() time.Time {
	if d.past.Load() {
		return d.ziwo.Now()
	}
	return time.Now()
}

// startUpstreams starts the simulated Ziwo and CRMs, and returns the configuration
// with their addresses.
func (d *demo) startUpstreams(ctx context.Context) (configuration string, err error) {
	kustomer, zendesk := &crmtest.Kustomer{Key: kustomerKey}, &crmtest.Zendesk{Email: zendeskUser, Token: zendeskKey}
	for i, c := range d.ziwo.Customers() {
		p := crmtest.Person{ID: strconv.Itoa(100_000 + i), Name: c.Name, Phones: []string{c.E164}}
		if i%5 == 0 {
			p.Tags = []string{"vip"}
		}
		home := crmOf(i)
		if home == atKustomer || home == atBoth {
			kustomer.Add(p)
		}
		if home == atZendesk || home == atBoth {
			zendesk.Add(p)
		}
	}
	username, password, key := d.ziwo.Credentials()
	configuration = document
	for name, value := range map[string]string{"{ziwo_user}": username, "{ziwo_password}": password, "{ziwo_key}": key} {
		configuration = strings.ReplaceAll(configuration, name, strconv.Quote(value))
	}
	for name, handler := range map[string]http.Handler{"{ziwo}": d.ziwo, "{kustomer}": kustomer, "{zendesk}": zendesk} {
		address, err := d.upstream(ctx, handler)
		if err != nil {
			return "", err
		}
		configuration = strings.ReplaceAll(configuration, name, strconv.Quote(address))
	}
	return configuration, nil
}

// Each CRM knows about a third of the callers. A few are in both, and the rest are
// in neither.
const (
	atKustomer = iota
	atZendesk
	atBoth
	nowhere

	callers = 750
)

func crmOf(customer int) int {
	return []int{atKustomer, atZendesk, nowhere, atKustomer, atZendesk, nowhere, atBoth}[customer%7]
}

// drivers returns the built-in drivers with larger request budgets, so that the
// callers of a day are looked up in seconds.
func drivers() []crm.Driver {
	all := builtin.Drivers()
	for i := range all {
		all[i].BudgetsFor = nil
		all[i].Budgets = []crm.Budget{{Name: "requests", Requests: 60_000, Per: time.Minute}}
	}
	return all
}

// upstream serves a simulated system on a loopback address and returns its URL.
func (d *demo) upstream(ctx context.Context, handler http.Handler) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	web := &http.Server{Handler: handler, ReadHeaderTimeout: readHeaderTimeout}
	d.upstreams = append(d.upstreams, web)
	go func() { _ = web.Serve(listener) }() // until close
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

// PastCalls is the number of calls of the past day.
const PastCalls = 400

// simulateYesterday simulates the past day, in which Ziwo loses some CDRs, and
// then fetches them. It returns how many were fetched.
func (d *demo) simulateYesterday(ctx context.Context, running Running, from time.Time) (backfilled int, err error) {
	_, err = d.ziwo.Simulate(ctx, ziwotest.Simulation{
		From: from, Length: 24 * time.Hour, Calls: PastCalls, Profile: dayProfile(from),
		Faults:      ziwotest.Faults{Duplicate: 0.05, Reorder: 0.05, Drop: 0.02, LateRecording: 0.1, CurlyQuotes: 0.05},
		Concurrency: 1, // so that each call has its own time of day
	})
	if err != nil {
		return 0, err
	}
	d.past.Store(false)
	d.ziwo.SetNow(time.Time{})
	return running.Reconcile(ctx, from.Add(-time.Minute), time.Now())
}

// dayProfile returns the call volume of a business day in Dubai, starting at from.
func dayProfile(from time.Time) []float64 {
	hours := ziwotest.BusinessDay()
	const offset = 4 // hours ahead of UTC, all year
	first := (from.Hour() + offset) % len(hours)
	return slices.Concat(hours[first:], hours[:first])
}

// printInstructions prints what the user can see and try.
func (d *demo) printInstructions(token string, backfilled int) {
	people := d.ziwo.Customers()
	first := func(home int) ziwotest.Customer {
		for i, c := range people {
			if crmOf(i) == home {
				return c
			}
		}
		return ziwotest.Customer{}
	}
	popup := func(c ziwotest.Customer) string {
		return d.base + "/crm/open?site=agents&key=" + embedKey + "&number=" + url.QueryEscape(c.E164)
	}
	known, twice, stranger := first(atKustomer), first(atBoth), first(nowhere)
	fmt.Fprintf(d.Out, `
calltracker is running with a simulated Ziwo, a simulated Kustomer and Zendesk, and %d invented customers. It has routed a day of
%d calls, and backfilled %d CDRs that Ziwo did not send. It continues with %g calls per minute.
Nothing leaves this machine. Press Ctrl-C to stop and delete all data.

Open in a browser

  %-36[5]s the API browser
  %-36[6]s the callback button of a website
  %-36[7]s the web phone and the pop-up on an agent's page

When an agent's phone rings, the browser opens the customer's CRM page (which does not exist here). If several customers
match, the agent chooses one. If none matches, the page offers a search.

  %[8]s, a customer in Kustomer
    %[9]s
  %[10]s, a customer in both CRMs
    %[11]s
  an unknown caller
    %[12]s

Paste into another terminal

  export TOKEN=%[13]s

  # the last calls: where they went, how they ended, and who called
  curl -s -H "Authorization: Bearer $TOKEN" '%[14]s/api/v1/calls?limit=3'
  # why a call went where it went, condition by condition
  curl -s -H "Authorization: Bearer $TOKEN" '%[14]s/api/v1/decisions?limit=1'
  # which CDRs were missing compared with Ziwo's call history
  curl -s -H "Authorization: Bearer $TOKEN" '%[14]s/api/v1/reconciliation?limit=3'
  # the state of the CRM connections
  curl -s -H "Authorization: Bearer $TOKEN" '%[14]s/api/v1/connections'
  # live events: calls and agent states
  curl -s -N -H "Authorization: Bearer $TOKEN" -H 'Accept: text/event-stream' '%[14]s/api/v1/live'

  # what calltracker would change in Ziwo's settings (nothing), and whether they work
  curl -s -H "Authorization: Bearer $TOKEN" '%[14]s/api/v1/config' > demo.yaml
  export CALLTRACKER_PUBLIC_URL=%[14]s
  go run ./server ziwo register demo.yaml --dry-run
  go run ./server ziwo doctor demo.yaml

  # act as Ziwo: ask where a call goes
  curl -s -H 'X-API-Key: %[15]s' --form didCalled=043000100 --form callerIDNumber=%[16]s '%[14]s/callTrackers/sales/startCall'
`, len(people), PastCalls, backfilled, d.Rate, d.base+"/docs/", d.base+"/sites/shop", d.base+"/sites/agents",
		known.Name, popup(known), twice.Name, popup(twice), popup(stranger), token, d.base, startKey, known.E164)
}
