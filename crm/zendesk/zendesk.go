// Package zendesk looks up users in Zendesk Support
// (https://developer.zendesk.com/api-reference/).
package zendesk

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"calltracker/crm"
	"calltracker/integration"
	"calltracker/phone"
)

// plans maps each plan to its requests per minute
// (https://developer.zendesk.com/api-reference/introduction/rate-limits/).
var plans = map[string]int{"team": 200, "growth": 400, "professional": 400, "enterprise": 700, "enterprise_plus": 2500}

// Driver returns the driver for Zendesk.
func Driver() crm.Driver {
	return crm.Driver{
		Name: "zendesk", Label: "Zendesk",
		Fields: integration.Fields{
			{
				Name: "base_url", Label: "URL of the account", Required: true, Pattern: integration.APIURLPattern,
				Help: "https://acme.zendesk.com",
			},
			{Name: "email", Label: "email address of the user who owns the API token", Pattern: `[^\s:@]+@[^\s:@]+`, Help: "bot@example.com"},
			{Name: "api_token", Label: "API token; requires email", Secret: true, Pattern: `[!-~]+`, Help: "the token that Zendesk showed when it was created"},
			{Name: "access_token", Label: "OAuth access token, instead of email and api_token", Secret: true, Pattern: `[!-~]+`, Help: "the token of an OAuth client"},
			{
				Name: "plan", Label: "plan, which sets the request limit", Default: "team", Pattern: "team|growth|professional|enterprise|enterprise_plus",
				Help: "team, growth, professional, enterprise, or enterprise_plus",
			},
			{Name: "ui_url", Label: "URL where agents open Zendesk; defaults to base_url", Pattern: integration.PageURLPattern, Help: "https://acme.zendesk.com"},
			crm.CreateURLField(),
		},
		Validate: func(s integration.Settings) []integration.Problem {
			switch {
			case s["access_token"] == "" && (s["email"] == "" || s["api_token"] == ""):
				return []integration.Problem{{Message: "zendesk requires email and api_token, or access_token"}}
			case s["access_token"] != "" && s["api_token"] != "":
				return []integration.Problem{{Field: "access_token", Message: "zendesk accepts either access_token or api_token, not both"}}
			}
			return nil
		},
		BudgetsFor: func(s integration.Settings) []crm.Budget {
			requests, known := plans[s["plan"]]
			if !known {
				requests = plans["team"]
			}
			return []crm.Budget{{Name: "account", Requests: requests, Per: time.Minute}}
		},
		AgentURL: agentURL,
		Open:     open,
	}
}

// client implements crm.Client, crm.Checker, and crm.Creator.
type client struct {
	api       *crm.API
	agentURL  string
	createURL string // template; "" if there is no page
}

// agentURL returns the URL where agents open Zendesk.
func agentURL(settings integration.Settings) string {
	return cmp.Or(settings["ui_url"], settings["base_url"])
}

func open(settings integration.Settings, httpClient *http.Client) (crm.Client, error) {
	sign := func(req *http.Request) { req.SetBasicAuth(settings["email"]+"/token", settings["api_token"]) }
	if token := settings["access_token"]; token != "" {
		sign = func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+token) }
	}
	return &client{agentURL: agentURL(settings), createURL: settings["create_url"], api: crm.NewAPI(settings["base_url"], httpClient, sign)}, nil
}

// user has the fields of a Zendesk user that the driver needs. Any of them can be
// null.
type user struct {
	ID         int64    `json:"id"`
	ResultType string   `json:"result_type"`
	Name       string   `json:"name"`
	Phone      string   `json:"phone"`
	Role       string   `json:"role"`
	Tags       []string `json:"tags"`
	Active     *bool    `json:"active"`
}

// Limits of a lookup.
const (
	maxUsers            = 25
	maxIdentityRequests = 3 // users whose other numbers are requested
	minSearchDigits     = 6 // a shorter national number is searched with its country code
)

// FindCustomers searches as Zendesk recommends: by digits with a leading asterisk,
// which matches a number in any format
// (https://developer.zendesk.com/documentation/voice/talk-partner-edition/retrieving-the-zendesk-user-id-of-a-caller/).
// The search also matches other numbers that end in the same digits, so
// FindCustomers compares each number. If a user's phone differs, it compares the
// user's identities.
func (c *client) FindCustomers(ctx context.Context, n phone.Number) ([]crm.Customer, error) {
	var answer struct {
		Results []user `json:"results"`
	}
	query := "role:end-user phone:*" + searchDigits(n)
	if err := c.api.Get(ctx, "/api/v2/search.json?query="+escape(query)+"&per_page="+strconv.Itoa(maxUsers), &answer); err != nil {
		return nil, err
	}
	var out []crm.Customer
	seen := map[int64]bool{}
	identityRequests := 0
	for _, u := range answer.Results {
		notEndUser := u.ResultType != "" && u.ResultType != "user" || u.Role != "" && u.Role != "end-user"
		if u.ID == 0 || seen[u.ID] || notEndUser || u.Active != nil && !*u.Active {
			continue
		}
		seen[u.ID] = true
		found := crm.Customer{
			ID: strconv.FormatInt(u.ID, 10), Name: u.Name, Tags: u.Tags, MatchedBy: "phone", Phones: []string{u.Phone},
			URL: crm.PageURL(c.agentURL, "/agent/users/"+strconv.FormatInt(u.ID, 10)),
		}
		if phone.Parse(u.Phone, n.Country).E164 == n.E164 {
			out = append(out, found)
			continue
		}
		if identityRequests++; identityRequests > maxIdentityRequests {
			continue
		}
		numbers, err := c.identities(ctx, u.ID)
		if err != nil {
			return nil, err
		}
		for _, number := range numbers {
			if phone.Parse(number, n.Country).E164 == n.E164 {
				found.MatchedBy, found.Phones = "identity", []string{number}
				out = append(out, found)
				break
			}
		}
	}
	return out, nil
}

// identities returns the phone numbers among a user's identities.
func (c *client) identities(ctx context.Context, id int64) ([]string, error) {
	var answer struct {
		Identities []struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"identities"`
	}
	err := c.api.Get(ctx, "/api/v2/users/"+strconv.FormatInt(id, 10)+"/identities.json", &answer)
	if crm.NotFound(err) { // deleted since the search
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []string
	for _, identity := range answer.Identities {
		if identity.Type == "phone_number" {
			out = append(out, identity.Value)
		}
	}
	return out, nil
}

// searchDigits returns the digits of a number without its country code, so that a
// search also matches numbers in national format.
func searchDigits(n phone.Number) string {
	digits := strings.TrimPrefix(n.E164, "+")
	if national, ok := strings.CutPrefix(digits, strings.TrimPrefix(phone.CallingCode(n.Country), "+")); ok && len(national) >= minSearchDigits {
		return national
	}
	return digits
}

// escape is like url.QueryEscape but encodes a space as %20, as Zendesk does.
func escape(query string) string { return strings.ReplaceAll(url.QueryEscape(query), "+", "%20") }

// SearchURL returns the page that searches for the number.
func (c *client) SearchURL(n phone.Number) string {
	return crm.PageURL(c.agentURL, "/agent/search/1?type=user&q="+escape("phone:*"+searchDigits(n)))
}

// CreateURL returns the page from the create_url setting.
func (c *client) CreateURL(n phone.Number) string { return crm.CreateURL(c.agentURL, c.createURL, n) }

// Check requests the user of the credentials. For invalid credentials, Zendesk
// responds with an anonymous user rather than an error.
func (c *client) Check(ctx context.Context) error {
	var answer struct {
		User struct {
			ID *int64 `json:"id"`
		} `json:"user"`
	}
	if err := c.api.Get(ctx, "/api/v2/users/me.json", &answer); err != nil {
		return err
	}
	if answer.User.ID == nil {
		return &crm.Error{Kind: crm.Unauthorized, Message: "invalid credentials"}
	}
	return nil
}
