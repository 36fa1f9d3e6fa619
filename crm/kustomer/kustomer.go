// Package kustomer looks customers up in Kustomer
// (https://developer.kustomer.com/kustomer-api-docs).
package kustomer

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"time"

	"calltracker/crm"
	"calltracker/integration"
	"calltracker/phone"
)

// Driver is Kustomer's entry in the catalogue.
func Driver() crm.Driver {
	return crm.Driver{
		Name: "kustomer", Label: "Kustomer",
		Fields: integration.Fields{
			{
				Name: "base_url", Label: "address of the API", Required: true, Pattern: integration.APIURLPattern,
				Help: "https://acme.api.kustomerapp.com, or the address of your region",
			},
			{
				Name: "org", Label: "organisation, the first part of the address at which agents sign in", Required: true,
				Pattern: `[A-Za-z0-9][A-Za-z0-9-]*`, Help: "acme, of acme.kustomerapp.com",
			},
			{
				Name: "api_key", Label: "API key with the roles org.permission.customer.read and org.permission.search.create", Required: true, Secret: true,
				Pattern: `[!-~]+`, Help: "the key as Kustomer showed it once",
			},
			{Name: "ui_url", Label: "where agents open Kustomer", Pattern: integration.PageURLPattern, Help: "https://acme.kustomerapp.com; needed outside of the United States"},
			crm.CreateURLField(),
		},
		// For the whole organisation, and of that for searches by API keys
		// (https://developer.kustomer.com/docs/concepts/rate-limits).
		Budgets: []crm.Budget{
			{Name: "organisation", Requests: 1000, Per: time.Minute},
			{Name: "search", Requests: 100, Per: time.Minute, Counts: func(req *http.Request) bool {
				return strings.HasSuffix(req.URL.Path, searchPath)
			}},
		},
		AgentURL: pages,
		Open:     open,
	}
}

const searchPath = "/v1/customers/search"

// client is a crm.Client, crm.Checker and crm.Creator.
type client struct {
	api    *crm.API
	ui     string
	create string
}

// pages is where agents open Kustomer.
func pages(settings integration.Settings) string {
	if ui := settings["ui_url"]; ui != "" {
		return ui
	}
	return "https://" + settings["org"] + ".kustomerapp.com"
}

func open(settings integration.Settings, web *http.Client) (crm.Client, error) {
	key := settings["api_key"]
	return &client{ui: pages(settings), create: settings["create_url"], api: crm.NewAPI(settings["base_url"], web, func(req *http.Request) {
		req.Header.Set("Authorization", "Bearer "+key)
	})}, nil
}

// customer is what counts of Kustomer's object. Any of it may be null.
type customer struct {
	ID         string `json:"id"`
	Attributes struct {
		Name         string   `json:"name"`
		DisplayName  string   `json:"displayName"`
		Phones       []number `json:"phones"`
		SharedPhones []number `json:"sharedPhones"`
		Tags         []string `json:"tags"`
		Deleted      bool     `json:"deleted"`
	} `json:"attributes"`
}

type number struct {
	Phone string `json:"phone"`
}

// customers reads one object or a list of them.
type customers []customer

// UnmarshalJSON takes what public clients have seen: an object, a list or null.
func (c *customers) UnmarshalJSON(text []byte) error {
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '{' {
		var one customer
		if err := json.Unmarshal(text, &one); err != nil {
			return err
		}
		*c = customers{one}
		return nil
	}
	return json.Unmarshal(text, (*[]customer)(c))
}

// FindCustomers asks for the owner of the number, which is cheap and exact. Only
// when there is none it searches for those who share it: searches are few.
func (c *client) FindCustomers(ctx context.Context, n phone.Number) ([]crm.Customer, error) {
	var answer struct {
		Data customers `json:"data"`
	}
	// The plus has to be encoded, which url.PathEscape leaves as it is.
	err := c.api.Get(ctx, "/v1/customers/phone="+url.QueryEscape(n.E164), &answer)
	if err != nil && !crm.NotFound(err) {
		return nil, err
	}
	if err == nil {
		if found := c.read(answer.Data, n); len(found) > 0 {
			return found, nil
		}
	}
	query := map[string]any{
		"queryContext": "customer",
		"and":          []any{},
		"or": []any{
			map[string]any{"customer_phone": map[string]string{"equals": n.E164}},
			map[string]any{"customer_shared_phone": map[string]string{"equals": n.E164}},
		},
		"sort": []any{map[string]string{"customer_last_message_at": "desc"}},
	}
	answer.Data = nil
	if err := c.api.Post(ctx, searchPath+"?page=1&pageSize=20", query, &answer); err != nil {
		return nil, err
	}
	return c.read(answer.Data, n), nil
}

// read makes of Kustomer's customers ours, each once.
func (c *client) read(list customers, n phone.Number) []crm.Customer {
	var out []crm.Customer
	seen := map[string]bool{}
	for _, k := range list {
		if k.ID == "" || seen[k.ID] || k.Attributes.Deleted {
			continue
		}
		seen[k.ID] = true
		found := crm.Customer{
			ID: k.ID, Name: k.Attributes.DisplayName, Tags: k.Attributes.Tags, MatchedBy: "phone",
			URL: crm.PageURL(c.ui, "/app/customers/"+url.PathEscape(k.ID)),
		}
		if found.Name == "" {
			found.Name = k.Attributes.Name
		}
		own := false
		for _, p := range k.Attributes.Phones {
			found.Phones = append(found.Phones, p.Phone)
			own = own || phone.Parse(p.Phone, n.Country).E164 == n.E164
		}
		for _, p := range k.Attributes.SharedPhones {
			found.Phones = append(found.Phones, p.Phone)
			if !own && phone.Parse(p.Phone, n.Country).E164 == n.E164 {
				found.MatchedBy = "shared_phone"
			}
		}
		out = append(out, found)
	}
	return out
}

// SearchURL is the start page: Kustomer documents none that searches.
func (c *client) SearchURL(phone.Number) string { return crm.PageURL(c.ui, "/app") }

// CreateURL is the page of create_url.
func (c *client) CreateURL(n phone.Number) string { return crm.CreateURL(c.ui, c.create, n) }

// Check asks Kustomer about the key, which any good key may.
func (c *client) Check(ctx context.Context) error {
	var token struct{}
	return c.api.Get(ctx, "/v1/auth/tokens/current", &token)
}
