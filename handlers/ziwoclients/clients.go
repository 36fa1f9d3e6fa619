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

// ZiwoClients provides API clients for the contact centers of the active
// configuration. A client is reused until its settings change, so that all callers
// share its token, rate limit, and connections. It is safe for concurrent use.
type Clients struct {
	config *config.Controller

	mu      sync.Mutex
	clients map[string]ziwoClient
}

// NewZiwoClients returns the clients of the contact centers in the active
// configuration.
func New(config *config.Controller) *Clients { return &Clients{config: config} }

type ziwoClient struct {
	options ziwo.ClientOptions
	client  *ziwo.Client
}

// ZiwoClientOptions returns the client options for a configured contact center.
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
	known := snapshot.Document.ContactCenters
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if hasLogin(known[name]) {
			names = append(names, name)
		}
	}
	return names
}

// Client returns the client of a contact center. Errors: ErrNoConfig,
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
	known, ok := c.clients[name]
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
	if c.clients == nil {
		c.clients = map[string]ziwoClient{}
	}
	c.clients[name] = ziwoClient{options, client}
	return client, nil
}

// Close closes the idle connections of all clients.
func (c *Clients) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, known := range c.clients {
		known.client.Close()
	}
}

// maxReason is the length of the longest reason, in bytes.
const maxReason = 300

// DelayReason returns the reason, for people, why work with a contact center has to
// wait.
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
