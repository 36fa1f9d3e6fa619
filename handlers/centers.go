package handlers

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"calltracker/config"
	"calltracker/problem"
	"calltracker/ziwo"
)

// ErrNoCenter says that the configuration has no such contact center, or no
// credentials for it.
var ErrNoCenter = errors.New("the configuration has no contact center of that name with credentials")

// Centers gives clients of the contact centers in the configuration in force. A
// client lives as long as its settings, so that its token, its rate and its
// connections are shared by everything that asks Ziwo. It is safe for concurrent
// use.
type Centers struct {
	Config *Config

	mu      sync.Mutex
	clients map[string]center
}

type center struct {
	options ziwo.ClientOptions
	client  *ziwo.Client
}

// CenterOptions are the options of a client of a contact center of a document.
func CenterOptions(name string, c config.ContactCenter) ziwo.ClientOptions {
	o := ziwo.ClientOptions{Name: name, BaseURL: c.API, Credentials: ziwo.Credentials{
		Username: c.Username.Reveal(), Password: c.Password.Reveal(), AccessToken: c.AccessToken.Reveal(), APIKey: c.APIKey.Reveal(),
	}}
	for _, style := range c.Recordings.Styles {
		o.Recordings = append(o.Recordings, ziwo.RecordingStyle(style))
	}
	return o
}

// canLogIn tells whether there is anything to log in with.
func canLogIn(c config.ContactCenter) bool {
	return c.AccessToken.Reveal() != "" || c.Username.Reveal() != "" && c.Password.Reveal() != ""
}

// Names lists the contact centers that can be asked, sorted.
func (c *Centers) Names() []string {
	live := c.Config.Live()
	if live == nil {
		return nil
	}
	var names []string
	known := live.Document.ContactCenters
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if canLogIn(known[name]) {
			names = append(names, name)
		}
	}
	return names
}

// Client is the client of a contact center; ErrNoCenter when it cannot be asked.
func (c *Centers) Client(name string) (*ziwo.Client, error) {
	live := c.Config.Live()
	if live == nil {
		return nil, ErrNoConfig
	}
	doc, ok := live.Document.ContactCenters[name]
	if !ok || !canLogIn(doc) && doc.APIKey.Reveal() == "" {
		return nil, fmt.Errorf("contact center %q: %w", problem.Clip(name), ErrNoCenter)
	}
	options := CenterOptions(name, doc)
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
		c.clients = map[string]center{}
	}
	c.clients[name] = center{options, client}
	return client, nil
}

// Close lets go of the connections.
func (c *Centers) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, known := range c.clients {
		known.client.Close()
	}
}
