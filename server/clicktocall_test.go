package main

import (
	"net"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"calltracker/handlers/clicktocall"
	"calltracker/ziwo/ziwotest"
)

func (h *harness) clickToCall(body string) response {
	h.t.Helper()
	return h.do(request{method: "POST", path: "/api/v1/calls", body: body, admin: true, header: map[string]string{"Content-Type": "application/json"}})
}

const ctiCall = "POST /integrations/cti/agents/{agent}/call"

func TestClickToCallRingsTheAgentOnce(t *testing.T) {
	for format, number := range map[string]string{"national": "0501234567", "with spaces": "+971 50 123 4567", "international": "00971501234567"} {
		t.Run(format, func(t *testing.T) {
			r := serveWithZiwo(t, ziwotest.Options{})
			agent := r.ziwo.Agents()[2].CCLogin
			got := into[clicktocall.View](t, r.clickToCall(`{"agent":"`+agent+`","number":"`+number+`"}`).want(t, 202))
			if got.ContactCenter != "aldebaran" || got.Agent != agent || got.Number != "+971501234567" || got.CallID == "" {
				t.Errorf("answer %+v, want agent %s and +971501234567 in aldebaran", got, agent)
			}
			if n := r.ziwo.Requests(ctiCall); n != 1 {
				t.Errorf("Ziwo received %d requests, want 1", n)
			}
			r.ziwo.SetNow(time.Now().Add(time.Hour)) // ends the call
			ended := r.ziwo.EndedCalls()
			if len(ended) != 1 || ended[0].CallID != got.CallID || ended[0].RawDID != "00971501234567" || ended[0].Agent != agent {
				t.Errorf("Ziwo made calls %+v, want %s to 00971501234567", ended, got.CallID)
			}
			if strings.Contains(r.log.String(), "1234567") || !strings.Contains(r.log.String(), "…4567") {
				t.Errorf("log does not contain exactly the last four digits of the number: %s", r.log)
			}
		})
	}
}

func TestClickToCallReportsInvalidRequests(t *testing.T) {
	r := serveWithZiwo(t, ziwotest.Options{})
	agents := r.ziwo.Agents()
	r.ziwo.SetStatus(agents[1].CCLogin, 0)
	body := func(agent, number string) string { return `{"agent":"` + agent + `","number":"` + number + `"}` }
	r.clickToCall(body(agents[0].CCLogin, "0501234567")).want(t, 202)
	for _, c := range []struct {
		name, body string
		status     int
		want       []string
	}{
		{"empty request", `{}`, 422, []string{`"path":"agent"`, `"path":"number"`, "is missing"}},
		{"invalid login", body("../../admin", "0501234567"), 422, []string{`"path":"agent"`, "ccLogin"}},
		{"numeric agent", `{"agent":26,"number":"0501234567"}`, 422, []string{`"path":"agent"`}},
		{"invalid number", body(agents[2].CCLogin, "call me"), 422, []string{`"path":"number"`, "+971501234567"}},
		{"extension as number", body(agents[2].CCLogin, "0026"), 422, []string{`"path":"number"`}},
		{"unknown contact center", `{"agent":"0011","number":"0501234567","contactCenter":"rigel"}`, 422, []string{`"path":"contactCenter"`, "rigel"}},
		{"unknown field", `{"agent":"0011","number":"0501234567","from":"1"}`, 422, []string{`"path":"from"`}},
		{"not JSON", `agent=0011`, 400, nil},
		{"unknown agent", body("9999", "0501234567"), 422, []string{`"path":"agent"`, "is unknown to Ziwo"}},
		{"agent not logged in", body(agents[1].CCLogin, "0501234567"), 409, []string{"not logged in"}},
		{"agent in a call", body(agents[0].CCLogin, "0501234568"), 409, []string{"in a call", "…4568"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := *r.harness
			h.t = t
			got := h.clickToCall(c.body).want(t, c.status)
			for _, want := range c.want {
				if !strings.Contains(got.body, want) {
					t.Errorf("body does not contain %q: %s", want, got.body)
				}
			}
		})
	}
	r.do(request{method: "POST", path: "/api/v1/calls", body: body("0011", "0501234567"), header: map[string]string{"Content-Type": "application/json"}}).want(t, 401)
	if strings.Contains(r.log.String(), "1234567") || strings.Contains(r.log.String(), "1234568") {
		t.Error("log contains a full number")
	}
}

func TestClickToCallReportsZiwoErrors(t *testing.T) {
	for _, c := range []struct {
		fault      ziwotest.Fault
		status     int
		retryAfter string
		want       string
	}{
		{ziwotest.Fault{Kind: ziwotest.Fault500}, 503, "5", "server error"},
		{ziwotest.Fault{Kind: ziwotest.Fault429, RetryAfter: "17"}, 503, "17", "rate limit"},
		{ziwotest.Fault{Kind: ziwotest.FaultHTML}, 504, "", "may still ring"},
		{ziwotest.Fault{Kind: ziwotest.FaultAbort}, 504, "", "may still ring"},
		{ziwotest.Fault{Kind: ziwotest.FaultRejected}, 409, "", "cannot be done now"},
	} {
		t.Run(string(c.fault.Kind), func(t *testing.T) {
			r := serveWithZiwo(t, ziwotest.Options{})
			c.fault.Path = "/integrations/"
			r.ziwo.AddFault(c.fault)
			got := r.clickToCall(`{"agent":"0011","number":"0501234567"}`).want(t, c.status)
			if !strings.Contains(got.body, c.want) || got.header.Get("Retry-After") != c.retryAfter {
				t.Errorf("Retry-After %q, want %q; body, want %q: %s", got.header.Get("Retry-After"), c.retryAfter, c.want, got.body)
			}
			if n := r.ziwo.Requests(ctiCall); n != 1 {
				t.Errorf("Ziwo received %d requests, want 1", n)
			}
		})
	}
	t.Run("no connection", func(t *testing.T) {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := "http://" + listener.Addr().String()
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		h := serve(t, documentFor(ziwotest.New(ziwotest.Options{}), address))
		got := h.clickToCall(`{"agent":"0011","number":"0501234567"}`).want(t, 503)
		if seconds, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || seconds < 1 || !strings.Contains(got.body, "is unreachable") {
			t.Errorf("Retry-After %q, want at least 1; body: %s", got.header.Get("Retry-After"), got.body)
		}
	})
	t.Run("wrong key", func(t *testing.T) {
		z := ziwotest.New(ziwotest.Options{})
		api := httptest.NewServer(z)
		t.Cleanup(api.Close)
		h := serve(t, strings.Replace(documentFor(z, api.URL), "cti-key-of-aldebaran", "another-cti-key", 1))
		got := h.clickToCall(`{"agent":"0011","number":"0501234567"}`).want(t, 502)
		if !strings.Contains(got.body, "api_key") || strings.Contains(got.body+h.log.String(), "another-cti-key") {
			t.Errorf("body must name api_key, and neither body nor log may contain its value: %s", got.body)
		}
	})
}

func TestClickToCallRequiresContactCenterIfSeveralHaveKeys(t *testing.T) {
	r := serveWithZiwo(t, ziwotest.Options{})
	api := r.parts.config.Current().Document.ContactCenters["aldebaran"].API
	_, _, key := r.ziwo.Credentials()
	h := serve(t, `
contact_centers:
  aldebaran: {api: "`+api+`", api_key: "`+key+`"}
  rigel: {api: "`+api+`", api_key: "`+key+`"}
  vega: {api: "`+api+`", webhook_keys: [hook-key-1]}
trackers:
  sales: {region: AE, contact_center: rigel, routes: [{id: all, voicemail: true}]}
`)
	if got := h.clickToCall(`{"agent":"0011","number":"0501234567"}`).want(t, 422); !strings.Contains(got.body, "several are configured: aldebaran, rigel") {
		t.Errorf("body does not contain 'several are configured: aldebaran, rigel': %s", got.body)
	}
	if got := h.clickToCall(`{"agent":"0011","number":"0501234567","contactCenter":"vega"}`).want(t, 422); !strings.Contains(got.body, "has no api_key") {
		t.Errorf("body does not contain 'has no api_key': %s", got.body)
	}
	// No tracker of aldebaran sets a region, so national numbers are ambiguous.
	if got := h.clickToCall(`{"agent":"0011","number":"0501234567","contactCenter":"aldebaran"}`).want(t, 422); !strings.Contains(got.body, "country code") {
		t.Errorf("body does not contain 'country code': %s", got.body)
	}
	h.clickToCall(`{"agent":"0011","number":"0501234567","contactCenter":"rigel"}`).want(t, 202)
	h.clickToCall(`{"agent":"0012","number":"+971501234567","contactCenter":"aldebaran"}`).want(t, 202)
	serve(t, "").clickToCall(`{"agent":"0011","number":"0501234567"}`).want(t, 404)
}
