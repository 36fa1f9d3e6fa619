package kustomer_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"calltracker/crm"
	"calltracker/crm/crmtest"
	"calltracker/crm/crmtest/suite"
	"calltracker/crm/kustomer"
	"calltracker/integration"
	"calltracker/phone"
)

const key = "ey.JhbGci.test-key"

func settings(base string) integration.Settings {
	return integration.Settings{"base_url": base, "org": "acme", "api_key": key}
}

func TestDriver(t *testing.T) {
	for _, asList := range []bool{false, true} {
		fake := &crmtest.Kustomer{Key: key, AsList: asList}
		suite.Run(t, suite.Subject{
			Driver: kustomer.Driver(), Upstream: &fake.Upstream, Handler: fake, Settings: settings, Secret: "api_key",
			Pages: "https://acme.kustomerapp.com/app",
		})
	}
}

func TestSearchOnlyWithoutOwner(t *testing.T) {
	fake := &crmtest.Kustomer{Key: key}
	fake.Add(suite.People()...)
	server := httptest.NewServer(fake)
	defer server.Close()
	connection, err := crm.Open("k", "", "", kustomer.Driver(), settings(server.URL), http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{"+971501110001", "+971501110004"} {
		found, err := connection.Client.FindCustomers(t.Context(), phone.Parse(raw, "AE"))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: FindCustomers() = %v, %v, want a customer", raw, found, err)
		}
		if shared := found[0].MatchedBy == "shared_phone"; shared != (raw == "+971501110004") {
			t.Errorf("%s: MatchedBy = %q", raw, found[0].MatchedBy)
		}
	}
	want := []string{
		"GET /v1/customers/phone=%2B971501110001", "GET /v1/customers/phone=%2B971501110004", "POST /v1/customers/search?page=1&pageSize=20",
	}
	if got := fake.Requests(); !slices.Equal(got, want) {
		t.Errorf("requests = %q, want %q", got, want)
	}
	for path, counts := range map[string]bool{"/v1/customers/phone=%2B971501110001": false, "/v1/customers/search?page=1": true} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if got := kustomer.Driver().Budgets[1].Counts(req); got != counts {
			t.Errorf("%s counts against the search budget: %t, want %t", path, got, counts)
		}
	}
}

func TestAgentURLInOtherRegion(t *testing.T) {
	s := settings("https://api.prod2.kustomerapp.com")
	s["ui_url"] = "https://acme.prod2.kustomerapp.com"
	connection, err := crm.Open("k", "", "", kustomer.Driver(), s, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	if got := connection.Client.SearchURL(phone.Number{}); got != "https://acme.prod2.kustomerapp.com/app" {
		t.Errorf("SearchURL() = %s", got)
	}
}
