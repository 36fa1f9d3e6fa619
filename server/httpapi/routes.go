package httpapi

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// routes registers every HTTP route of the server.
func (s *API) routes(e *echo.Echo) {
	route := func(method, path string, handler echo.HandlerFunc) {
		e.Add(method, path, s.requests.observe(method, path, s.recoverPanics(handler)))
	}
	admin := func(method, path string, handler echo.HandlerFunc) { route(method, path, s.requireAdmin(handler)) }

	// Ziwo sends these with the key of a tracker or webhook; their errors have Ziwo's
	// envelope. The example routes need no key.
	route(http.MethodPost, "/callTrackers/:tracker/startCall", s.startCall)
	route(http.MethodPost, "/callTrackers/:tracker/endCall", s.endCall)
	route(http.MethodPost, "/callTrackers/example/startCall", s.exampleStart)
	route(http.MethodPost, "/callTrackers/example/endCall", s.exampleEnd)
	route(http.MethodPost, "/webhooks/ziwo/callHistory", s.callHistory)

	// Browsers load these from web pages and the CRM. /crm/… needs a key or token of the
	// site; the others need nothing.
	route(http.MethodGet, "/webcallback/:file", s.webCallback)
	route(http.MethodGet, "/webcallback/:site/:file", s.webCallbackRelease)
	route(http.MethodGet, "/jorel/:file", s.jorel)
	route(http.MethodGet, "/jorel/:site/:file", s.jorelRelease)
	route(http.MethodGet, "/popup/:file", s.popup)
	route(http.MethodGet, "/popup/:site/:file", s.popupRelease)
	route(http.MethodGet, "/crm/url", s.crmURL)
	route(http.MethodOptions, "/crm/url", s.crmPreflight)
	route(http.MethodGet, "/crm/open", s.crmOpen)
	route(http.MethodGet, "/sites/:site", s.sitePage)
	route(http.MethodGet, "/assets/:file", pageAsset)

	// Administrators and their programs call these with the admin token.
	//
	// Configuration, and what it would do with a call.
	admin(http.MethodGet, "/api/v1/config", s.getConfig)
	admin(http.MethodPut, "/api/v1/config", s.putConfig)
	admin(http.MethodGet, "/api/v1/config/versions", s.listVersions)
	admin(http.MethodGet, "/api/v1/config/versions/:n", s.getVersion)
	admin(http.MethodPost, "/api/v1/config/versions/:n/restore", s.restoreVersion)
	admin(http.MethodPost, "/api/v1/simulate", s.simulate)

	// Calls, and why each was routed where it went.
	admin(http.MethodGet, "/api/v1/calls", s.listCalls)
	admin(http.MethodGet, "/api/v1/calls.csv", s.exportCalls)
	admin(http.MethodGet, "/api/v1/calls/:id", s.getCall)
	admin(http.MethodGet, "/api/v1/calls/:id/recording", s.getRecording)
	admin(http.MethodHead, "/api/v1/calls/:id/recording", s.headRecording)
	admin(http.MethodPost, "/api/v1/calls/:id/enrich", s.enrichCall)
	admin(http.MethodGet, "/api/v1/decisions", s.listDecisions)
	admin(http.MethodGet, "/api/v1/decisions/:id", s.getDecision)

	// Calls that are in progress or about to start.
	admin(http.MethodGet, "/api/v1/live", s.live)
	admin(http.MethodPost, "/api/v1/calls", s.clickToCall)

	// Differences between Ziwo and this server.
	admin(http.MethodGet, "/api/v1/rejections", s.listRejections)
	admin(http.MethodGet, "/api/v1/reconciliation", s.listReconciliations)
	admin(http.MethodPost, "/api/v1/reconciliation", s.reconcile)

	// Access to other systems: tokens for sites, CRM accounts, and secrets for the configuration.
	admin(http.MethodPost, "/api/v1/sites/:site/token", s.siteToken)
	admin(http.MethodGet, "/api/v1/connections", s.listConnections)
	admin(http.MethodPost, "/api/v1/connections/:name/test", s.testConnection)
	admin(http.MethodGet, "/api/v1/secrets", s.listSecrets)
	admin(http.MethodGet, "/api/v1/secrets/:name", s.getSecret)
	admin(http.MethodPut, "/api/v1/secrets/:name", s.putSecret)
	admin(http.MethodDelete, "/api/v1/secrets/:name", s.deleteSecret)

	// Work in the background.
	admin(http.MethodGet, "/api/v1/jobs", s.listJobs)
	admin(http.MethodPost, "/api/v1/jobs/:id/retry", s.retryJob)

	// Load balancers, monitoring systems, and people read these without a key; none of them shows
	// stored data.
	route(http.MethodGet, "/healthz", s.healthz)
	route(http.MethodGet, "/readyz", s.readyz)
	route(http.MethodGet, "/metrics", s.metrics)
	route(http.MethodGet, "/schema/config.json", s.schema)
	route(http.MethodGet, "/openapi.json", s.specification)
	route(http.MethodGet, "/", toDocs)
	route(http.MethodGet, "/docs", toDocs)
	route(http.MethodGet, "/docs/*", docs())
}
