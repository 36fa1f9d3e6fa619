// Package ziwoclients provides the clients of Ziwo's API for the contact centers in the
// configuration, so that all features share the token, rate limit, and connections of a
// contact center.
package ziwoclients

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"calltracker/config"
	"calltracker/problem"
	"calltracker/storage"
	"calltracker/ziwo"
)

// ErrNoContactCenter means that the active configuration has no contact center of
// that name, or no credentials for it.
var ErrNoContactCenter = errors.New("unknown contact center, or no credentials configured for it")

// Clients holds the clients of the contact centers in the active configuration. A client
// is reused until its settings change. Clients is safe for concurrent use.
type Clients struct {
	config *config.Controller

	mu   sync.Mutex
	open map[string]openClient // by contact center
}

type openClient struct {
	options ziwo.ClientOptions
	client  *ziwo.Client
}

// New returns Clients. It opens no client yet.
func New(controller *config.Controller) *Clients {
	if controller == nil {
		panic("ziwoclients.New: controller is required")
	}
	return &Clients{config: controller, open: map[string]openClient{}}
}

// ClientOptions returns the client options for a configured contact center.
func ClientOptions(name string, c config.ContactCenter) ziwo.ClientOptions {
	o := ziwo.ClientOptions{Name: name, BaseURL: c.API, Credentials: ziwo.Credentials{
		Username: c.Username.Reveal(), Password: c.Password.Reveal(), AccessToken: c.AccessToken.Reveal(), APIKey: c.APIKey.Reveal(),
	}}
	for _, style := range c.Recordings.Styles {
		o.Recordings = append(o.Recordings, ziwo.RecordingStyle(style))
	}
	return o
}

// hasLogin reports whether the contact center has credentials to log in with.
func hasLogin(c config.ContactCenter) bool {
	return c.AccessToken.Reveal() != "" || c.Username.Reveal() != "" && c.Password.Reveal() != ""
}

// Names returns the sorted names of the contact centers that have credentials.
func (c *Clients) Names() []string {
	snapshot := c.config.Current()
	if snapshot == nil {
		return nil
	}
	var names []string
	configured := snapshot.Document.ContactCenters
	for _, name := range slices.Sorted(maps.Keys(configured)) {
		if hasLogin(configured[name]) {
			names = append(names, name)
		}
	}
	return names
}

// Client returns the client of a contact center. Errors: config.ErrNoConfig,
// ErrNoContactCenter.
func (c *Clients) Client(name string) (*ziwo.Client, error) {
	snapshot := c.config.Current()
	if snapshot == nil {
		return nil, config.ErrNoConfig
	}
	doc, ok := snapshot.Document.ContactCenters[name]
	if !ok || !hasLogin(doc) && doc.APIKey.Reveal() == "" {
		return nil, fmt.Errorf("contact center %q: %w", problem.Clip(name), ErrNoContactCenter)
	}
	options := ClientOptions(name, doc)
	c.mu.Lock()
	defer c.mu.Unlock()
	known, ok := c.open[name]
	if ok && known.options.BaseURL == options.BaseURL && known.options.Credentials == options.Credentials &&
		slices.Equal(known.options.Recordings, options.Recordings) {
		return known.client, nil
	}
	client, err := ziwo.NewClient(options)
	if err != nil {
		return nil, err
	}
	if ok {
		known.client.Close()
	}
	c.open[name] = openClient{options, client}
	return client, nil
}

// Close closes the idle connections of all clients.
func (c *Clients) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, known := range c.open {
		known.client.Close()
	}
}

// maxReason is the maximum length of a reason in bytes.
const maxReason = 300

// DelayReason describes an error of work with a contact center that will be retried.
func DelayReason(err error) string {
	if errors.Is(err, storage.ErrUnavailable) {
		return "the database is unavailable"
	}
	text := err.Error()
	if len(text) > maxReason {
		text = text[:maxReason]
	}
	return text
}
