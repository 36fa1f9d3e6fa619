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

// visitor is somebody who has started the demonstration and reads what it says.
type visitor struct {
	t     *testing.T
	told  string
	base  string
	token string
}

// telling is an output that knows when everything was told.
type telling struct {
	syncBuffer
	ready chan struct{}
}

func (w *telling) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("act as Ziwo")) {
		defer close(w.ready)
	}
	return w.syncBuffer.Write(p)
}

// visit starts the demonstration and waits until it tells where to look. stop
// presses Ctrl-C and returns how it ended.
func visit(t *testing.T, cmd demoCommand) (v visitor, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := &telling{ready: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Run(ctx, &cli.Terminal{In: strings.NewReader(""), Out: out, Err: io.Discard}) }()
	select {
	case <-out.ready:
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatalf("it has only said: %s", out.String())
	}
	v = visitor{t: t, told: out.String()}
	v.base = strings.TrimSuffix(v.find(`(http://localhost:\d+)/docs/`), "/docs/")
	v.token = v.find(`TOKEN=(\S+)`)
	return v, func() error {
		cancel()
		return <-ended
	}
}

func (v visitor) find(pattern string) string {
	v.t.Helper()
	found := regexp.MustCompile(pattern).FindStringSubmatch(v.told)
	if found == nil {
		v.t.Fatalf("nothing like %s in: %s", pattern, v.told)
	}
	return found[1]
}

// get opens a page, without following where it leads.
func (v visitor) get(address string) response {
	v.t.Helper()
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodGet, address, nil)
	if err != nil {
		v.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+v.token)
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	return response{status: res.StatusCode, header: res.Header, body: string(body)}
}

func (v visitor) calls() []calls.CallView {
	v.t.Helper()
	return into[calls.CallList](v.t, v.get(v.base+"/api/v1/calls?limit=1000").want(v.t, 200)).Calls
}

func TestDemonstration(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	began := time.Now()
	v, stop := visit(t, demoCommand{Listen: "127.0.0.1:0", Rate: 1200, Seed: 7})

	t.Run("a day lies behind it", func(t *testing.T) {
		var calls []calls.CallView
		eventually(t, "looking everybody up", func() bool {
			pending := 0
			calls = nil
			for _, c := range v.calls() {
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
			t.Errorf("%d calls are stored, want %d", len(calls), demo.PastCalls)
		}
		found, hours := 0, map[int]bool{}
		for _, c := range calls {
			hours[c.StartedAt.Hour()] = true
			if len(c.Customers) > 0 {
				found++
			}
		}
		if found < demo.PastCalls/3 || found > demo.PastCalls*9/10 || len(hours) < 15 {
			t.Errorf("%d calls have a customer, and there were some in %d hours", found, len(hours))
		}
		oldest := calls[len(calls)-1]
		if oldest.Decision == "" || oldest.StartedAt.After(began.Add(-12*time.Hour)) {
			t.Fatalf("the oldest call is %+v", oldest)
		}
		d := into[struct{ At time.Time }](t, v.get(v.base+"/api/v1/decisions/"+oldest.Decision).want(t, 200))
		if off := d.At.Sub(*oldest.StartedAt).Abs(); off > time.Minute {
			t.Errorf("it was decided %s away from its start", off)
		}
	})
	t.Run("what never came was fetched", func(t *testing.T) {
		runs := into[reconcile.ReconciliationList](t, v.get(v.base+"/api/v1/reconciliation").want(t, 200)).Runs
		fetched := 0
		for _, r := range runs {
			fetched += r.Backfilled
		}
		if fetched == 0 || v.find(`backfilled (\d+) CDRs`) == "0" {
			t.Errorf("nothing was fetched: %+v", runs)
		}
	})
	t.Run("what it says can be opened", func(t *testing.T) {
		addresses := regexp.MustCompile(`http://localhost:\d+[^\s']*`).FindAllString(v.told, -1)
		if len(addresses) < 10 {
			t.Fatalf("only %v", addresses)
		}
		for _, address := range addresses {
			if address == v.base || strings.HasSuffix(address, "/startCall") { // a setting, and what is posted to
				continue
			}
			res := v.get(address)
			to, err := url.Parse(res.header.Get("Location"))
			away := res.status == http.StatusFound && err == nil && strings.HasSuffix(to.Host, ".example") // made up, and nowhere
			if res.status != http.StatusOK && !away {
				t.Errorf("%s: %d %s %s", address, res.status, res.header.Get("Location"), res.body)
			}
		}
	})
	t.Run("calls go on", func(t *testing.T) {
		deadline := time.After(time.Minute) // calls take their time here
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		live := func(c calls.CallView) bool { return c.StartedAt.After(began) && len(c.Customers) > 0 }
		for n := 0; n == 0; {
			select {
			case <-deadline:
				t.Fatal("no live call has shown up with its customer")
			case <-tick.C:
			}
			for _, c := range v.calls() {
				if live(c) {
					n++
				}
			}
		}
	})

	if err := stop(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	address, _ := url.Parse(v.base)
	if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", address.Host); err == nil {
		_ = c.Close()
		t.Error("it still listens")
	}
}

func TestTheDemonstrationSaysWhatIsWrong(t *testing.T) {
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, test := range map[string]struct {
		cmd  demoCommand
		want string
	}{
		"an address that is taken": {demoCommand{Listen: taken.Addr().String(), Rate: 6}, "choose another address with --listen"},
		"an address of all":        {demoCommand{Listen: ":0", Rate: 6}, "such as 127.0.0.1:8080"},
		"no calls":                 {demoCommand{Listen: "127.0.0.1:0"}, "invalid --rate"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TMPDIR", dir)
			err := test.cmd.Run(t.Context(), &cli.Terminal{Out: io.Discard, Err: io.Discard})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("it ended with %v, want %q", err, test.want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("it left %v, %v", left, err)
			}
		})
	}
}
