package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"calltracker/handlers/calls"
	"calltracker/handlers/reconcile"
	"calltracker/server/cli"
	"calltracker/server/demo"
)

// demoRun is a running demo.
type demoRun struct {
	t      *testing.T
	output string
	base   string
	token  string
}

// outputWatcher collects the output of the demo and closes ready after the last line
// of its introduction.
type outputWatcher struct {
	syncBuffer
	ready chan struct{}
}

func (w *outputWatcher) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("act as Ziwo")) {
		defer close(w.ready)
	}
	return w.syncBuffer.Write(p)
}

// startDemo starts the demo and waits until it has printed its introduction. stop
// cancels the demo and returns its error.
func startDemo(t *testing.T, cmd demoCommand) (d demoRun, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := &outputWatcher{ready: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Run(ctx, &cli.Terminal{In: strings.NewReader(""), Out: out, Err: io.Discard}) }()
	select {
	case <-out.ready:
	case err := <-ended:
		t.Fatalf("demo ended early: %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatalf("demo did not start within 2 min; output: %s", out.String())
	}
	d = demoRun{t: t, output: out.String()}
	d.base = strings.TrimSuffix(d.find(`(http://localhost:\d+)/docs/`), "/docs/")
	d.token = d.find(`TOKEN=(\S+)`)
	return d, func() error {
		cancel()
		return <-ended
	}
}

// find returns the first group of pattern in the output.
func (d demoRun) find(pattern string) string {
	d.t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(d.output)
	if found == nil {
		d.t.Fatalf("output does not match %s: %s", pattern, d.output)
	}
	return found[1]
}

// get requests an address with the admin token. It does not follow redirects.
func (d demoRun) get(address string) response {
	d.t.Helper()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+d.token)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return response{status: res.StatusCode, header: res.Header, body: string(body)}
}

// calls lists the stored calls.
func (d demoRun) calls() []calls.View {
	d.t.Helper()
	return into[calls.List](d.t, d.get(d.base+"/api/v1/calls?limit=1000").want(d.t, 200)).Calls
}

func TestDemo(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	began := time.Now()
	d, stop := startDemo(t, demoCommand{Listen: "127.0.0.1:0", Rate: 1200, Seed: 7})

	t.Run("stores a day of past calls", func(t *testing.T) {
		var calls []calls.View
		eventually(t, "the lookups of all past calls", func() bool {
			pending := 0
			calls = nil
			for _, c := range d.calls() {
				if c.StartedAt.Before(began) {
					calls = append(calls, c)
					if c.Enrichment.State == "pending" {
						pending++
					}
				}
			}
			return pending == 0
		})
		if len(calls) != demo.PastCalls {
			t.Errorf("got %d past calls, want %d", len(calls), demo.PastCalls)
		}
		found, hours := 0, map[int]bool{}
		for _, c := range calls {
			hours[c.StartedAt.Hour()] = true
			if len(c.Customers) > 0 {
				found++
			}
		}
		if found < demo.PastCalls/3 || found > demo.PastCalls*9/10 || len(hours) < 15 {
			t.Errorf("%d calls have a customer, want a third to nine tenths; calls cover %d hours, want at least 15", found, len(hours))
		}
		oldest := calls[len(calls)-1]
		if oldest.Decision == "" || oldest.StartedAt.After(began.Add(-12*time.Hour)) {
			t.Fatalf("oldest call %+v, want a decision and a start at least 12 h ago", oldest)
		}
		decision := into[struct{ At time.Time }](t, d.get(d.base+"/api/v1/decisions/"+oldest.Decision).want(t, 200))
		if off := decision.At.Sub(*oldest.StartedAt).Abs(); off > time.Minute {
			t.Errorf("decision is %s away from the start of its call, want at most 1 min", off)
		}
	})
	t.Run("backfills missing CDRs", func(t *testing.T) {
		runs := into[reconcile.List](t, d.get(d.base+"/api/v1/reconciliation").want(t, 200)).Runs
		backfilled := 0
		for _, r := range runs {
			backfilled += r.Backfilled
		}
		if backfilled == 0 || d.find(`backfilled (\d+) CDRs`) == "0" {
			t.Errorf("no CDR was backfilled: %+v", runs)
		}
	})
	t.Run("prints addresses that work", func(t *testing.T) {
		addresses := regexp.MustCompile(`http://localhost:\d+[^\s']*`).FindAllString(d.output, -1)
		if len(addresses) < 10 {
			t.Fatalf("got addresses %v, want at least 10", addresses)
		}
		for _, address := range addresses {
			if address == d.base || strings.HasSuffix(address, "/startCall") { // the value of a setting, and an endpoint for POST
				continue
			}
			res := d.get(address)
			to, err := url.Parse(res.header.Get("Location"))
			external := res.status == http.StatusFound && err == nil && strings.HasSuffix(to.Host, ".example") // a simulated CRM without pages
			if res.status != http.StatusOK && !external {
				t.Errorf("%s: status %d, Location %q, body %s", address, res.status, res.header.Get("Location"), res.body)
			}
		}
	})
	t.Run("keeps receiving calls", func(t *testing.T) {
		deadline := time.After(time.Minute) // a call is stored after it has ended
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		live := func(c calls.View) bool { return c.StartedAt.After(began) && len(c.Customers) > 0 }
		for n := 0; n == 0; {
			select {
			case <-deadline:
				t.Fatal("no new call with a customer was stored within 1 min")
			case <-tick.C:
			}
			for _, c := range d.calls() {
				if live(c) {
					n++
				}
			}
		}
	})

	if err := stop(); err != nil {
		t.Errorf("demo ended with error %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("demo left files %v (error %v)", left, err)
	}
	address, _ := url.Parse(d.base)
	if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address.Host); err == nil {
		_ = c.Close()
		t.Error("demo still listens after it ended")
	}
}

func TestDemoReportsInvalidOptions(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, test := range map[string]struct {
		cmd  demoCommand
		want string
	}{
		"address in use": {demoCommand{Listen: taken.Addr().String(), Rate: 6}, "choose another address with --listen"},
		"all addresses":  {demoCommand{Listen: ":0", Rate: 6}, "such as 127.0.0.1:8080"},
		"zero rate":      {demoCommand{Listen: "127.0.0.1:0"}, "invalid --rate"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TMPDIR", dir)
			err := test.cmd.Run(t.Context(), &cli.Terminal{Out: io.Discard, Err: io.Discard})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("demo left files %v (error %v)", left, err)
			}
		})
	}
}
