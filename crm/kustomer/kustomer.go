// Package kustomer looks up customers in Kustomer
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

// Driver returns the driver for Kustomer.
func Driver() crm.Driver {
	return crm.Driver{
		Name: "kustomer", Label: "Kustomer",
		Fields: integration.Fields{
			{
				Name: "base_url", Label: "URL of the API", Required: true, Pattern: integration.APIURLPattern,
				Help: "https://acme.api.kustomerapp.com, or the URL for your region",
			},
			{
				Name: "org", Label: "organization: the first part of the host name at which agents sign in", Required: true,
				Pattern: `[A-Za-z0-9][A-Za-z0-9-]*`, Help: "acme for acme.kustomerapp.com",
			},
			{
				Name: "api_key", Label: "API key with the roles org.permission.customer.read and org.permission.search.create", Required: true, Secret: true,
				Pattern: `[!-~]+`, Help: "the key that Kustomer showed when it was created",
			},
			{Name: "ui_url", Label: "URL where agents open Kustomer", Pattern: integration.PageURLPattern, Help: "https://acme.kustomerapp.com; required outside the United States"},
			crm.CreateURLField(),
		},
		// Kustomer limits all requests of an organization, and limits searches further
		// (https://developer.kustomer.com/docs/concepts/rate-limits).
		Budgets: []crm.Budget{
			{Name: "organization", Requests: 1000, Per: time.Minute},
			{Name: "search", Requests: 100, Per: time.Minute, Counts: func(req *http.Request) bool {
				return strings.HasSuffix(req.URL.Path, searchPath)
			}},
		},
		AgentURL: agentURL,
		Open:     open,
	}
}

const searchPath = "/v1/customers/search"

// client implements crm.Client, crm.Checker, and crm.Creator.
type client struct {
	api       *crm.API
	agentURL  string
	createURL string // template; "" if there is no page
}

// agentURL returns the URL where agents open Kustomer.
func agentURL(settings integration.Settings) string {
	if ui := settings["ui_url"]; ui != "" {
		return ui
	}
	return "https://" + settings["org"] + ".kustomerapp.com"
}

func open(settings integration.Settings, httpClient *http.Client) (crm.Client, error) {
	key := settings["api_key"]
	return &client{agentURL: agentURL(settings), createURL: settings["create_url"], api: crm.NewAPI(settings["base_url"], httpClient, func(req *http.Request) {
		req.Header.Set("Authorization", "Bearer "+key)
	})}, nil
}

// customer has the fields of a Kustomer customer that the driver needs. Any of them
// can be null.
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

// customers decodes a single customer or a list of them.
type customers []customer

// UnmarshalJSON accepts an object, a list, or null. Public clients of the API have
// seen all three.
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

// FindCustomers requests the customer who owns the number. This request is exact
// and counts only against the larger budget. If there is no owner, FindCustomers
// searches for the customers who share the number.
func (c *client) FindCustomers(ctx context.Context, n phone.Number) ([]crm.Customer, error) {
	var answer struct {
		Data customers `json:"data"`
	}
	// The plus sign must be encoded. url.PathEscape does not encode it.
	err := c.api.Get(ctx, "/v1/customers/phone="+url.QueryEscape(n.E164), &answer)
	if err != nil && !crm.NotFound(err) {
		return nil, err
	}
	if err == nil {
		if found := c.convert(answer.Data, n); len(found) > 0 {
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
	return c.convert(answer.Data, n), nil
}

// convert returns the customers without duplicates.
func (c *client) convert(list customers, n phone.Number) []crm.Customer {
	var out []crm.Customer
	seen := map[string]bool{}
	for _, k := range list {
		if k.ID == "" || seen[k.ID] || k.Attributes.Deleted {
			continue
		}
		seen[k.ID] = true
		found := crm.Customer{
			ID: k.ID, Name: k.Attributes.DisplayName, Tags: k.Attributes.Tags, MatchedBy: "phone",
			URL: crm.PageURL(c.agentURL, "/app/customers/"+url.PathEscape(k.ID)),
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

// SearchURL returns the start page, because Kustomer documents no URL for a search.
func (c *client) SearchURL(phone.Number) string { return crm.PageURL(c.agentURL, "/app") }

// CreateURL returns the page from the create_url setting.
func (c *client) CreateURL(n phone.Number) string { return crm.CreateURL(c.agentURL, c.createURL, n) }

// Check requests the description of the API key, which any valid key can read.
func (c *client) Check(ctx context.Context) error {
	var token struct{}
	return c.api.Get(ctx, "/v1/auth/tokens/current", &token)
}
