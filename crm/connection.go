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

// requestTimeout bounds one request to a CRM, including reading its response.
const requestTimeout = 1500 * time.Millisecond

// maxResponse is the maximum size of a response body.
const maxResponse = 8 << 20

// Connection is an open CRM account. Its fields must not be changed.
type Connection struct {
	Name        string
	Label       string
	Driver      Driver
	Client      Client
	Fingerprint string // changes with the settings, so that answers of another account are not reused

	host string // host of the pages for agents; "" if there are none
}

// Open opens an account. base carries its requests; nil means
// http.DefaultTransport. Requests of a Directory count against the budgets of the
// driver. Open itself sends no request.
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
		// Following a redirect would send the credentials to another host.
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

// ownURL returns address if it is an HTTPS page on the host at which agents open
// the account, otherwise "". Responses and cached answers can contain any address.
func (c *Connection) ownURL(address string) string {
	if host := pageHost(address); host == "" || !strings.EqualFold(host, c.host) {
		return ""
	}
	return address
}

// filterURLs clears the URLs of customers that ownURL does not accept. It modifies
// the slice.
func (c *Connection) filterURLs(customers []Customer) []Customer {
	for i := range customers {
		customers[i].URL = c.ownURL(customers[i].URL)
	}
	return customers
}

// pageHost returns the host, with its port if there is one, of an HTTPS address,
// or "" for any other address.
func pageHost(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Opaque != "" {
		return ""
	}
	return u.Host
}

// transport sends the requests of an account. It first waits for the limiter in
// the request's context, if there is one. The timeout starts after that wait.
type transport struct{ base http.RoundTripper }

// RoundTrip sends one request. The timeout covers the response until its body is
// closed.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	if l, ok := ctx.Value(limiterKey{}).(*limiter); ok {
		if err := l.wait(ctx, req); err != nil {
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
	res.Body = &responseBody{Reader: io.LimitReader(res.Body, maxResponse), body: res.Body, cancel: cancel}
	return res, nil
}

// responseBody releases the timeout of its request when it is closed.
type responseBody struct {
	io.Reader
	body   io.Closer
	cancel context.CancelFunc
	once   sync.Once
}

func (b *responseBody) Close() error {
	err := b.body.Close()
	b.once.Do(b.cancel)
	return err
}
