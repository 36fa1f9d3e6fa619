package zendesk_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"calltracker/crm"
	"calltracker/crm/crmtest"
	"calltracker/crm/crmtest/suite"
	"calltracker/crm/zendesk"
	"calltracker/integration"
	"calltracker/phone"
)

const token = "test-token"

func withToken(base string) integration.Settings {
	return integration.Settings{"base_url": base, "email": "bot@example.com", "api_token": token, "ui_url": "https://acme.zendesk.com"}
}

func TestDriverWithAPIToken(t *testing.T) {
	fake := &crmtest.Zendesk{Email: "bot@example.com", Token: token}
	suite.Run(t, suite.Subject{
		Driver: zendesk.Driver(), Upstream: &fake.Upstream, Handler: fake, Settings: withToken, Secret: "api_token", Pages: "https://acme.zendesk.com/agent/",
	})
}

func TestDriverWithOAuth(t *testing.T) {
	fake := &crmtest.Zendesk{AccessToken: token}
	suite.Run(t, suite.Subject{
		Driver: zendesk.Driver(), Upstream: &fake.Upstream, Handler: fake, Secret: "access_token", Pages: "https://acme.zendesk.com/agent/",
		Settings: func(base string) integration.Settings {
			return integration.Settings{"base_url": base, "access_token": token, "ui_url": "https://acme.zendesk.com"}
		},
	})
}

func TestEveryResultIsCompared(t *testing.T) {
	fake := &crmtest.Zendesk{Email: "bot@example.com", Token: token}
	fake.Add(
		crmtest.Person{ID: "1", Name: "Formatted", Phones: []string{"(050) 222-3344"}},
		crmtest.Person{ID: "2", Name: "Same last digits", Phones: []string{"+44 20 7050 2223344"}},
		crmtest.Person{ID: "3", Name: "By identity", Phones: []string{"+97143330000", "+971 50 222 3344"}},
	)
	server := httptest.NewServer(fake)
	defer server.Close()
	connection, err := crm.Open("z", "", "", zendesk.Driver(), withToken(server.URL), http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	found, err := connection.Client.FindCustomers(t.Context(), phone.Parse("0502223344", "AE"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range found {
		got = append(got, c.ID+" "+c.MatchedBy)
	}
	if strings.Join(got, ", ") != "1 phone, 3 identity" {
		t.Errorf("found %v, want 1 by phone and 3 by identity", got)
	}
	if first := fake.Requests()[0]; first != "GET /api/v2/search.json?query=role%3Aend-user%20phone%3A%2A502223344&per_page=25" {
		t.Errorf("first request = %s", first)
	}
}

func TestSettings(t *testing.T) {
	for name, s := range map[string]integration.Settings{
		"no credentials":            {"base_url": "https://acme.zendesk.com"},
		"incomplete credentials":    {"base_url": "https://acme.zendesk.com", "email": "a@example.com"},
		"two kinds of credentials":  {"base_url": "https://acme.zendesk.com", "email": "a@example.com", "api_token": "x", "access_token": "y"},
		"plain HTTP":                {"base_url": "http://acme.zendesk.com", "access_token": "y"},
		"agent URL with plain HTTP": {"base_url": "https://acme.zendesk.com", "access_token": "y", "ui_url": "http://acme.zendesk.com"},
		"unknown plan":              {"base_url": "https://acme.zendesk.com", "access_token": "y", "plan": "gold"},
	} {
		if _, problems := zendesk.Driver().CheckSettings(s); len(problems) == 0 {
			t.Errorf("%s: CheckSettings() found no problem", name)
		}
	}
	complete, problems := zendesk.Driver().CheckSettings(integration.Settings{"base_url": "https://acme.zendesk.com", "access_token": "y", "plan": "enterprise"})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	connection, err := crm.Open("z", "", "", zendesk.Driver(), complete, http.DefaultTransport)
	if err != nil || connection.Driver.Budgets[0].Requests != 700 {
		t.Errorf("budgets = %+v, %v, want 700 requests", connection.Driver.Budgets, err)
	}
	if got := connection.Client.SearchURL(phone.Parse("0502223344", "AE")); got != "https://acme.zendesk.com/agent/search/1?type=user&q=phone%3A%2A502223344" {
		t.Errorf("SearchURL() = %s", got)
	}
}
