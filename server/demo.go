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
	"strconv"
	"strings"
	"sync"
	"time"

	"calltracker/crm/builtin"
	"calltracker/crm/crmtest"
	"calltracker/handlers"
	"calltracker/rules"
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
}

// newDemo starts everything but the calls.
func newDemo(ctx context.Context, cmd demoCommand, dir string, log io.Writer) (_ *demo, err error) {
	d := &demo{demoCommand: cmd, ziwo: ziwotest.New(ziwotest.Options{Seed: cmd.Seed})}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	kustomer, zendesk := &crmtest.Kustomer{Key: demoKustomerKey}, &crmtest.Zendesk{Email: demoZendeskUser, Token: demoZendeskKey}
	kustomer.Put(demoPeople(d.ziwo, 0, 1)...)
	zendesk.Put(demoPeople(d.ziwo, 1, 1)...)
	username, password, key := d.ziwo.Credentials()
	values := map[string]string{"{ziwo_user}": username, "{ziwo_password}": password, "{ziwo_key}": key}
	for name, handler := range map[string]http.Handler{"{ziwo}": d.ziwo, "{kustomer}": kustomer, "{zendesk}": zendesk} {
		if values[name], err = d.upstream(ctx, handler); err != nil {
			return nil, err
		}
	}
	document := demoDocument
	for name, value := range values {
		document = strings.ReplaceAll(document, name, strconv.Quote(value))
	}
	o := options{Listen: cmd.Listen, DataDir: dir, PublicURL: cmp.Or(cmd.publicURL, "http://localhost:8080"), VoicemailField: "voicemail", LogFormat: "text", LogLevel: "warn", ReconcileEvery: "1m"}
	set, err := o.check(false)
	if err != nil {
		return nil, err
	}
	set.drivers = builtin.Drivers()
	d.server, err = start(ctx, set, set.logger(log), &handlers.ConfigInput{
		Document: document, Format: rules.YAML, Author: "demo", Comment: "the demonstration", IfMatch: "*",
	})
	if err != nil {
		return nil, err
	}
	d.base = "http://localhost:" + strconv.Itoa(d.server.listener.Addr().(*net.TCPAddr).Port)
	for tracker, numbers := range map[string][]ziwotest.Number{
		"sales":   {{E164: "+97143000100", Called: "043000100"}, {E164: "+97143000101", Called: "043000101"}},
		"support": {{E164: "+97143000200", Called: "043000200"}},
	} {
		address := d.base + "/callTrackers/" + tracker
		d.ziwo.AddTracker(ziwotest.Tracker{
			Name: tracker, StartRequestURL: address + "/startCall", StartRequestKey: demoStartKey, EndRequestURL: address + "/endCall", EndRequestKey: demoEndKey,
		})
		for _, n := range numbers {
			n.Tracker = tracker
			d.ziwo.AddNumber(n)
		}
	}
	return d, nil
}

// demoPeople are every third of those who call, from first on: one CRM knows a
// third of them, the other another, and the rest are strangers. Each fifth is
// important.
func demoPeople(z *ziwotest.Ziwo, first, share int) []crmtest.Person {
	var out []crmtest.Person
	for i, c := range z.Customers() {
		if i%3 < first || i%3 >= first+share {
			continue
		}
		p := crmtest.Person{ID: strconv.Itoa(100_000 + i), Name: c.Name, Phones: []string{c.E164}}
		if i%5 == 0 {
			p.Tags = []string{"vip"}
		}
		out = append(out, p)
	}
	return out
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

// demoCalls are those of the day that lies behind the demonstration: as many as
// the budgets of the CRMs take at once.
const demoCalls = 120

// run serves, lives through the day before, tells where to look, and goes on with
// calls until ctx ends.
func (d *demo) run(ctx context.Context, out io.Writer) error {
	defer func() { _ = d.close() }()
	serving, stop := context.WithCancel(ctx)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- d.server.run(serving) }()
	fmt.Fprintln(out, "A day of calls is being lived through …")
	var calls sync.WaitGroup
	calls.Go(func() {
		_, err := d.ziwo.Simulate(serving, ziwotest.Simulation{
			From: time.Now().UTC().Add(-24 * time.Hour).Truncate(time.Second), Length: 24 * time.Hour, Calls: demoCalls, Profile: ziwotest.BusinessDay(),
		})
		if err != nil {
			return // it was stopped
		}
		d.tell(out)
		_, err = d.ziwo.Simulate(serving, ziwotest.Simulation{Rate: d.Rate * 60, Speed: 1})
		if err != nil && serving.Err() == nil {
			d.server.logger.Error("no more calls", slog.Any("error", err))
		}
	})
	err := <-served
	stop()
	calls.Wait()
	return err
}

// tell says what there is to look at.
func (d *demo) tell(out io.Writer) {
	people := d.ziwo.Customers()
	known, stranger := people[0], people[2]
	open := func(number string) string {
		return d.base + "/crm/open?site=agents&key=" + demoEmbedKey + "&number=" + url.QueryEscape(number)
	}
	fmt.Fprintf(out, `
%d calls are stored, and %g a minute go on. Everything runs on this machine, and goes when you press Ctrl-C.

  %s   the API, to try
  %s   what a web site pastes
  %s   what an agent's page pastes

The page that opens when %s calls, and when a stranger does (the CRMs are made up, so their own pages lead nowhere):

  %s
  %s

What happened, and why:

  export TOKEN=%s
  curl -H "Authorization: Bearer $TOKEN" '%s/api/v1/calls?limit=3'
  curl -H "Authorization: Bearer $TOKEN" '%s/api/v1/decisions?limit=1'
  curl -H "Authorization: Bearer $TOKEN" '%s/api/v1/connections'

Be Ziwo:

  curl --form didCalled=043000100 --form callerIDNumber=%s -H 'X-API-Key: %s' %s/callTrackers/sales/startCall
`, demoCalls, d.Rate, d.base+"/docs/", d.base+"/sites/shop", d.base+"/sites/agents", known.Name, open(known.E164), open(stranger.E164),
		d.token(), d.base, d.base, d.base, known.E164, demoStartKey, d.base)
}

// token is that of the admin API, which was made in the folder of this run.
func (d *demo) token() string {
	text, err := os.ReadFile(filepath.Join(d.server.settings.dataDir, adminTokenFile))
	if err != nil {
		return d.server.settings.adminToken
	}
	return strings.TrimSpace(string(text))
}
