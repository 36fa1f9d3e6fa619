package handlers

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"calltracker/rules"
	"calltracker/ziwo"
)

// ErrNoCenter says that the configuration has no such contact center, or no
// credentials for it.
var ErrNoContactCenter = errors.New("the configuration has no contact center of that name with credentials")

// Centers gives clients of the contact centers in the configuration in force. A
// client lives as long as its settings, so that its token, its rate and its
// connections are shared by everything that asks Ziwo. It is safe for concurrent
// use.
type ZiwoClients struct {
	Config *ConfigController

	mu      sync.Mutex
	clients map[string]ziwoClient
}

type ziwoClient struct {
	options ziwo.ClientOptions
	client  *ziwo.Client
}

// CenterOptions are the options of a client of a contact center of a document.
func ZiwoClientOptions(name string, c rules.ContactCenter) ziwo.ClientOptions {
	o := ziwo.ClientOptions{Name: name, BaseURL: c.API, Credentials: ziwo.Credentials{
		Username: c.Username.Reveal(), Password: c.Password.Reveal(), AccessToken: c.AccessToken.Reveal(), APIKey: c.APIKey.Reveal(),
	}}
	for _, style := range c.Recordings.Styles {
		o.Recordings = append(o.Recordings, ziwo.RecordingStyle(style))
	}
	return o
}

// canLogIn tells whether there is anything to log in with.
func hasLogin(c rules.ContactCenter) bool {
	return c.AccessToken.Reveal() != "" || c.Username.Reveal() != "" && c.Password.Reveal() != ""
}

// Names lists the contact centers that can be asked, sorted.
func (c *ZiwoClients) Names() []string {
	snapshot := c.Config.Current()
	if snapshot == nil {
		return nil
	}
	var names []string
	known := snapshot.Set.Document().ContactCenters
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if hasLogin(known[name]) {
			names = append(names, name)
		}
	}
	return names
}

// Client is the client of a contact center; ErrNoCenter when it cannot be asked.
func (c *ZiwoClients) Client(name string) (*ziwo.Client, error) {
	snapshot := c.Config.Current()
	if snapshot == nil {
		return nil, ErrNoConfig
	}
	doc, ok := snapshot.Set.Document().ContactCenters[name]
	if !ok || !hasLogin(doc) && doc.APIKey.Reveal() == "" {
		return nil, fmt.Errorf("contact center %q: %w", shorten(name), ErrNoContactCenter)
	}
	options := ZiwoClientOptions(name, doc)
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

// Close lets go of the connections.
func (c *ZiwoClients) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, known := range c.clients {
		known.client.Close()
	}
}
