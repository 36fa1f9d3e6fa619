package crm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"calltracker/integration"
)

// requestTimeout bounds one request to a CRM, its answer included.
const requestTimeout = 1500 * time.Millisecond

// maxAnswer bounds what a CRM may answer.
const maxAnswer = 8 << 20

// Connection is one CRM account that is open. Its fields must not be changed.
type Connection struct {
	Name        string
	Label       string
	Driver      Driver
	Client      Client
	Fingerprint string // changes with the settings: what an account said is not kept for another

	host string // of its pages for people; "" when it has none
}

// Open opens an account. base carries its requests, http.DefaultTransport when
// nil; each of them is counted against the driver's budgets when a Directory
// makes it. Nothing is sent yet.
func Open(name, label, fingerprint string, driver Driver, settings integration.Settings, base http.RoundTripper) (*Connection, error) {
	if base == nil {
		base = http.DefaultTransport
	}
	if driver.BudgetsFor != nil {
		driver.Budgets = driver.BudgetsFor(settings)
	}
	if driver.Budgets == nil {
		driver.Budgets = []Budget{{Name: "requests", Requests: 300, Per: time.Minute}}
	}
	client, err := driver.Open(settings, &http.Client{
		Transport: &transport{base: base},
		// An account that sends us elsewhere would get our credentials sent there.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	c := &Connection{Name: name, Label: label, Driver: driver, Client: client, Fingerprint: fingerprint}
	if driver.AgentURL != nil {
		c.host = pageHost(driver.AgentURL(settings))
	}
	return c, nil
}

// page is an address when a browser may be sent there, else "": by https, and to
// the host on which people open the account, whatever a CRM or a cache says.
func (c *Connection) page(address string) string {
	if host := pageHost(address); host == "" || !strings.EqualFold(host, c.host) {
		return ""
	}
	return address
}

// withPages takes the addresses away to which no browser may be sent. It changes
// the customers.
func (c *Connection) withPages(customers []Customer) []Customer {
	for i := range customers {
		customers[i].URL = c.page(customers[i].URL)
	}
	return customers
}

// pageHost is the host, and the port if any, of an https address for people; ""
// for any other.
func pageHost(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Opaque != "" {
		return ""
	}
	return u.Host
}

// spenderKey is where a request finds who pays for it.
type spenderKey struct{}

// spender asks the budgets for leave to send a request.
type spender interface {
	spend(ctx context.Context, req *http.Request) error
}

// transport waits for the budgets, then gives the request its time: waiting for
// leave must not eat it up.
type transport struct{ base http.RoundTripper }

// RoundTrip sends one request. It is over when its body is closed.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if s, ok := ctx.Value(spenderKey{}).(spender); ok {
		if err := s.spend(ctx, req); err != nil {
			if req.Body != nil {
				err = errors.Join(err, req.Body.Close())
			}
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	res, err := t.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	res.Body = &answer{Reader: io.LimitReader(res.Body, maxAnswer), body: res.Body, done: cancel}
	return res, nil
}

// answer ends the time of its request when it is closed.
type answer struct {
	io.Reader
	body io.Closer
	done context.CancelFunc
	once sync.Once
}

func (a *answer) Close() error {
	err := a.body.Close()
	a.once.Do(a.done)
	return err
}
