// Package zendesk looks users up in Zendesk Support
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
	"calltracker/phone"
)

// requests a minute by plan
// (https://developer.zendesk.com/api-reference/introduction/rate-limits/).
var plans = map[string]int{"team": 200, "growth": 400, "professional": 400, "enterprise": 700, "enterprise_plus": 2500}

// Driver is Zendesk's entry in the catalogue.
func Driver() crm.Driver {
	return crm.Driver{
		Name: "zendesk", Label: "Zendesk",
		Fields: []crm.Field{
			{
				Name: "base_url", Label: "address of the account", Required: true, Pattern: crm.AddressPattern,
				Help: "https://acme.zendesk.com",
			},
			{Name: "email", Label: "e-mail of the user whose API token it is", Pattern: `[^\s:@]+@[^\s:@]+`, Help: "bot@example.com"},
			{Name: "api_token", Label: "API token, with email", Secret: true, Pattern: `[!-~]+`, Help: "the token as Zendesk showed it once"},
			{Name: "access_token", Label: "OAuth access token, instead of email and api_token", Secret: true, Pattern: `[!-~]+`, Help: "the token of an OAuth client"},
			{
				Name: "plan", Label: "plan, which decides how much may be asked", Default: "team", Pattern: "team|growth|professional|enterprise|enterprise_plus",
				Help: "team, growth, professional, enterprise or enterprise_plus",
			},
			{Name: "ui_url", Label: "where agents open Zendesk; base_url when absent", Pattern: crm.PagePattern, Help: "https://acme.zendesk.com"},
			crm.CreateField(),
		},
		Validate: func(s crm.Settings) []crm.Problem {
			switch {
			case s["access_token"] == "" && (s["email"] == "" || s["api_token"] == ""):
				return []crm.Problem{{Message: "zendesk needs email and api_token, or access_token"}}
			case s["access_token"] != "" && s["api_token"] != "":
				return []crm.Problem{{Field: "access_token", Message: "zendesk takes access_token or api_token, not both"}}
			}
			return nil
		},
		BudgetsFor: func(s crm.Settings) []crm.Budget {
			requests, known := plans[s["plan"]]
			if !known {
				requests = plans["team"]
			}
			return []crm.Budget{{Name: "account", Requests: requests, Per: time.Minute}}
		},
		Pages: pages,
		Open:  open,
	}
}

// client is a crm.Client, crm.Checker and crm.Creator.
type client struct {
	api    *crm.API
	ui     string
	create string
}

// pages is where agents open Zendesk.
func pages(settings crm.Settings) string { return cmp.Or(settings["ui_url"], settings["base_url"]) }

func open(settings crm.Settings, web *http.Client) (crm.Client, error) {
	sign := func(req *http.Request) { req.SetBasicAuth(settings["email"]+"/token", settings["api_token"]) }
	if token := settings["access_token"]; token != "" {
		sign = func(req *http.Request) { req.Header.Set("Authorization", "Bearer "+token) }
	}
	return &client{ui: pages(settings), create: settings["create_url"], api: crm.NewAPI(settings["base_url"], web, sign)}, nil
}

// user is what counts of Zendesk's object. Any of it may be null.
type user struct {
	ID         int64    `json:"id"`
	ResultType string   `json:"result_type"`
	Name       string   `json:"name"`
	Phone      string   `json:"phone"`
	Role       string   `json:"role"`
	Tags       []string `json:"tags"`
	Active     *bool    `json:"active"`
}

// Bounds of a look-up.
const (
	mostUsers      = 25
	mostIdentities = 3 // users who are asked for their other numbers
)

// FindCustomers searches as Zendesk advises: digits only, with a star in front,
// so that numbers that are stored in another form match
// (https://developer.zendesk.com/documentation/voice/talk-partner-edition/retrieving-the-zendesk-user-id-of-a-caller/).
// That also finds who only has the same last digits, so each number is compared;
// of a user whose phone is another the identities are.
func (c *client) FindCustomers(ctx context.Context, n phone.Number) ([]crm.Customer, error) {
	var answer struct {
		Results []user `json:"results"`
	}
	query := "role:end-user phone:*" + significant(n)
	if err := c.api.Get(ctx, "/api/v2/search.json?query="+escape(query)+"&per_page="+strconv.Itoa(mostUsers), &answer); err != nil {
		return nil, err
	}
	var out []crm.Customer
	seen := map[int64]bool{}
	asked := 0
	for _, u := range answer.Results {
		foreign := u.ResultType != "" && u.ResultType != "user" || u.Role != "" && u.Role != "end-user"
		if u.ID == 0 || seen[u.ID] || foreign || u.Active != nil && !*u.Active {
			continue
		}
		seen[u.ID] = true
		found := crm.Customer{
			ID: strconv.FormatInt(u.ID, 10), Name: u.Name, Tags: u.Tags, MatchedBy: "phone", Phones: []string{u.Phone},
			URL: crm.Page(c.ui, "/agent/users/"+strconv.FormatInt(u.ID, 10)),
		}
		if phone.Parse(u.Phone, n.Country).E164 == n.E164 {
			out = append(out, found)
			continue
		}
		if asked++; asked > mostIdentities {
			continue
		}
		others, err := c.identities(ctx, u.ID)
		if err != nil {
			return nil, err
		}
		for _, other := range others {
			if phone.Parse(other, n.Country).E164 == n.E164 {
				found.MatchedBy, found.Phones = "identity", []string{other}
				out = append(out, found)
				break
			}
		}
	}
	return out, nil
}

// identities are the phone numbers of a user beside the first.
func (c *client) identities(ctx context.Context, id int64) ([]string, error) {
	var answer struct {
		Identities []struct {
			Type  string `json:"type"`
			Value string `json:"value"`
		} `json:"identities"`
	}
	err := c.api.Get(ctx, "/api/v2/users/"+strconv.FormatInt(id, 10)+"/identities.json", &answer)
	if crm.NotFound(err) { // deleted meanwhile
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

// significant is a number without its country's code: how it is stored in a
// national form, too.
func significant(n phone.Number) string {
	digits := strings.TrimPrefix(n.E164, "+")
	if national, ok := strings.CutPrefix(digits, strings.TrimPrefix(phone.CallingCode(n.Country), "+")); ok && len(national) >= shortest {
		return national
	}
	return digits
}

// shortest is the least number of digits to search by: fewer find half of all.
const shortest = 6

// escape is url.QueryEscape with %20 for spaces, as Zendesk writes them.
func escape(query string) string { return strings.ReplaceAll(url.QueryEscape(query), "+", "%20") }

// SearchURL is the page that searches for the number.
func (c *client) SearchURL(n phone.Number) string {
	return crm.Page(c.ui, "/agent/search/1?type=user&q="+escape("phone:*"+significant(n)))
}

// CreateURL is the page of create_url.
func (c *client) CreateURL(n phone.Number) string { return crm.CreatePage(c.ui, c.create, n) }

// Check asks who we are. Zendesk answers strangers as well: with nobody.
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
		return &crm.Error{Kind: crm.Unauthorized, Message: "Zendesk does not know these credentials"}
	}
	return nil
}
