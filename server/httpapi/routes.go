package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"calltracker/openapi"
)

// routes is every HTTP route of the server on one page.
func (s *API) routes(e *echo.Echo) {
	open := func(method, path string, handler echo.HandlerFunc) {
		e.Add(method, path, s.requests.observe(method, path, s.recovered(handler)))
	}
	admin := func(method, path string, handler echo.HandlerFunc) { open(method, path, s.authorized(handler)) }

	// What Ziwo calls.
	open(http.MethodPost, "/callTrackers/:tracker/startCall", s.startCall)
	open(http.MethodPost, "/callTrackers/:tracker/endCall", s.endCall)
	open(http.MethodPost, "/callTrackers/example/startCall", s.exampleStart)
	open(http.MethodPost, "/callTrackers/example/endCall", s.exampleEnd)
	open(http.MethodPost, "/webhooks/ziwo/callHistory", s.callHistory)

	// What browsers call.
	open(http.MethodGet, "/webcallback/:file", s.webCallback)
	open(http.MethodGet, "/webcallback/:site/:file", s.webCallbackRelease)
	open(http.MethodGet, "/jorel/:file", s.jorel)
	open(http.MethodGet, "/jorel/:site/:file", s.jorelRelease)
	open(http.MethodGet, "/popup/:file", s.popup)
	open(http.MethodGet, "/popup/:site/:file", s.popupRelease)
	open(http.MethodGet, "/crm/url", s.crmURL)
	open(http.MethodOptions, "/crm/url", s.crmPreflight)
	open(http.MethodGet, "/crm/open", s.crmOpen)
	open(http.MethodGet, "/sites/:site", s.sitePage)
	open(http.MethodGet, "/assets/:file", pageAsset)

	// The admin API.
	admin(http.MethodGet, "/api/v1/config", s.getConfig)
	admin(http.MethodPut, "/api/v1/config", s.putConfig)
	admin(http.MethodGet, "/api/v1/config/versions", s.listVersions)
	admin(http.MethodGet, "/api/v1/config/versions/:n", s.getVersion)
	admin(http.MethodPost, "/api/v1/config/versions/:n/restore", s.restoreVersion)
	admin(http.MethodPost, "/api/v1/simulate", s.simulate)
	admin(http.MethodGet, "/api/v1/calls", s.listCalls)
	admin(http.MethodPost, "/api/v1/calls", s.clickToCall)
	admin(http.MethodGet, "/api/v1/calls.csv", s.exportCalls)
	admin(http.MethodGet, "/api/v1/calls/:id", s.getCall)
	admin(http.MethodGet, "/api/v1/calls/:id/recording", s.getRecording)
	admin(http.MethodHead, "/api/v1/calls/:id/recording", s.headRecording)
	admin(http.MethodPost, "/api/v1/calls/:id/enrich", s.enrichCall)
	admin(http.MethodGet, "/api/v1/live", s.live)
	admin(http.MethodGet, "/api/v1/decisions", s.listDecisions)
	admin(http.MethodGet, "/api/v1/decisions/:id", s.getDecision)
	admin(http.MethodGet, "/api/v1/rejections", s.listRejections)
	admin(http.MethodPost, "/api/v1/sites/:site/token", s.siteToken)
	admin(http.MethodGet, "/api/v1/connections", s.listConnections)
	admin(http.MethodPost, "/api/v1/connections/:name/test", s.testConnection)
	admin(http.MethodGet, "/api/v1/reconciliation", s.listReconciliations)
	admin(http.MethodPost, "/api/v1/reconciliation", s.reconcile)
	admin(http.MethodGet, "/api/v1/jobs", s.listJobs)
	admin(http.MethodPost, "/api/v1/jobs/:id/retry", s.retryJob)
	admin(http.MethodGet, "/api/v1/secrets", s.listSecrets)
	admin(http.MethodGet, "/api/v1/secrets/:name", s.getSecret)
	admin(http.MethodPut, "/api/v1/secrets/:name", s.putSecret)
	admin(http.MethodDelete, "/api/v1/secrets/:name", s.deleteSecret)

	// Operation and documentation.
	open(http.MethodGet, "/healthz", s.healthz)
	open(http.MethodGet, "/readyz", s.readyz)
	open(http.MethodGet, "/metrics", s.metrics)
	open(http.MethodGet, "/schema/config.json", s.schema)
	open(http.MethodGet, "/openapi.json", s.specification)
	open(http.MethodGet, "/", toDocs)
	open(http.MethodGet, "/docs", toDocs)
	open(http.MethodGet, "/docs/*", docs())
}

// metrics serves the counters.
//
//	@Summary	Metrics for Prometheus
//	@ID		metrics
//	@Tags		operation
//	@Produce	plain
//	@Success	200	{string}	string
//	@Router		/metrics [get]
func (s *API) metrics(c echo.Context) error {
	promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{}).ServeHTTP(c.Response(), c.Request())
	return nil
}

func toDocs(c echo.Context) error { return c.Redirect(http.StatusFound, "/docs/") }

// docs serves the API browser. Its policy lets it load nothing from elsewhere.
func docs() echo.HandlerFunc {
	files := http.StripPrefix("/docs/", http.FileServerFS(openapi.Browser()))
	return func(c echo.Context) error {
		header := c.Response().Header()
		header.Set(echo.HeaderContentSecurityPolicy, "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'")
		header.Set(echo.HeaderXContentTypeOptions, "nosniff")
		files.ServeHTTP(c.Response(), c.Request())
		return nil
	}
}
