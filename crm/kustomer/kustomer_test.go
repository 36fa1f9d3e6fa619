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

const key = "ey.JhbGci.key-of-the-tests"

func settings(base string) integration.Settings {
	return integration.Settings{"base_url": base, "org": "acme", "api_key": key}
}

func TestBehaviour(t *testing.T) {
	for _, asList := range []bool{false, true} {
		fake := &crmtest.Kustomer{Key: key, AsList: asList}
		suite.Run(t, suite.Subject{
			Driver: kustomer.Driver(), Upstream: &fake.Upstream, Handler: fake, Settings: settings, Secret: "api_key",
			Pages: "https://acme.kustomerapp.com/app",
		})
	}
}

func TestSearchesOnlyForNumbersWithoutAnOwner(t *testing.T) {
	fake := &crmtest.Kustomer{Key: key}
	fake.Put(suite.People()...)
	server := httptest.NewServer(fake)
	defer server.Close()
	connection, err := crm.Open("k", "", "", kustomer.Driver(), settings(server.URL), http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	for _, raw := range []string{"+971501110001", "+971501110004"} {
		found, err := connection.Client.FindCustomers(t.Context(), phone.Parse(raw, "AE"))
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", raw, found, err)
		}
		if shared := found[0].MatchedBy == "shared_phone"; shared != (raw == "+971501110004") {
			t.Errorf("%s: matched by %s", raw, found[0].MatchedBy)
		}
	}
	want := []string{
		"GET /v1/customers/phone=%2B971501110001", "GET /v1/customers/phone=%2B971501110004", "POST /v1/customers/search?page=1&pageSize=20",
	}
	if got := fake.Requests(); !slices.Equal(got, want) {
		t.Errorf("requests %q", got)
	}
	for path, counts := range map[string]bool{"/v1/customers/phone=%2B971501110001": false, "/v1/customers/search?page=1": true} {
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
		if got := kustomer.Driver().Budgets[1].Counts(req); got != counts {
			t.Errorf("%s counts as a search: %t", path, got)
		}
	}
}

func TestAnotherRegionHasItsOwnPages(t *testing.T) {
	s := settings("https://api.prod2.kustomerapp.com")
	s["ui_url"] = "https://acme.prod2.kustomerapp.com"
	connection, err := crm.Open("k", "", "", kustomer.Driver(), s, http.DefaultTransport)
	if err != nil {
		t.Fatal(err)
	}
	if url := connection.Client.SearchURL(phone.Number{}); url != "https://acme.prod2.kustomerapp.com/app" {
		t.Errorf("pages at %s", url)
	}
}
