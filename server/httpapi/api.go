// Package httpapi is the HTTP API of the server: what Ziwo, browsers, and
// administrators call. It decodes requests, calls the use cases in package
// handlers, and encodes their results. It decides nothing else.
//
// routes.go lists every route. errors.go maps every error to an answer. Each other
// file has the handlers of one resource, with the annotations from which the
// OpenAPI description is generated.
package httpapi

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"

	"calltracker/config"
	"calltracker/handlers/access"
	"calltracker/handlers/calls"
	"calltracker/handlers/clicktocall"
	"calltracker/handlers/connections"
	"calltracker/handlers/decisions"
	"calltracker/handlers/embeds"
	"calltracker/handlers/endcall"
	"calltracker/handlers/live"
	"calltracker/handlers/lookup"
	"calltracker/handlers/popup"
	"calltracker/handlers/reconcile"
	"calltracker/handlers/recordings"
	"calltracker/handlers/rejections"
	"calltracker/handlers/secrets"
	"calltracker/handlers/simulate"
	"calltracker/handlers/startcall"
	"calltracker/jobs"
	"calltracker/storage/spool"
)

// Limits of the HTTP server. Handlers that stream set their own deadlines.
const (
	headerTimeout  = 5 * time.Second
	readTimeout    = 15 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = 120 * time.Second
	maxHeaderBytes = 64 << 10
)

// Options are the settings and dependencies of an API. All fields are required unless
// their comment says otherwise.
type Options struct {
	AdminToken     string
	VoicemailField string         // name of the voicemail flag in answers to Ziwo; empty leaves it out
	TrustedProxies []netip.Prefix // load balancers whose X-Forwarded-For header is trusted; may be empty
	SQLite         bool           // whether the database is a file on the same disk as the spool
	Logger         *slog.Logger
	Registry       *prometheus.Registry // metrics that /metrics serves; New adds those of requests
	Schema         []byte               // JSON Schema of the configuration

	Config      *config.Controller
	Secrets     *secrets.Store
	Keys        *access.Checker
	Answerer    *startcall.Answerer
	Recorder    *endcall.Recorder
	Intake      *endcall.Intake
	Calls       *calls.Reader
	Decisions   *decisions.Reader
	Rejections  *rejections.Log
	Simulator   *simulate.Simulator
	Reconciler  *reconcile.Reconciler
	Wallboard   *live.Wallboard
	ClickToCall *clicktocall.Dialer
	Recordings  *recordings.Library
	Embeds      *embeds.Scripts
	Popup       *popup.Finder
	Connections *connections.Accounts
	Lookups     *lookup.Lookups
	Jobs        *jobs.Admin

	Database Database
	Spool    Spool
	Redis    Redis // nil without Redis
}

// Database reports whether the database is available.
type Database interface {
	Ping(ctx context.Context) error
}

// Spool reports the state of the spool.
type Spool interface {
	Stats() spool.Stats
	Check() error // why records cannot be spooled, or nil
}

// Redis reports whether Redis is available.
type Redis interface{ Up() bool }

// API is the HTTP API. It is safe for concurrent use.
type API struct {
	Options
	requests   *requestMetrics
	cutStreams chan struct{} // closed when streams must end
}

// New returns an API with the given options.
func New(o Options) *API {
	return &API{Options: o, requests: newRequestMetrics(o.Registry), cutStreams: make(chan struct{})}
}

// CutStreams ends the recordings that are being streamed. It must be called at most
// once.
func (s *API) CutStreams() { close(s.cutStreams) }

// Handler returns the handler of all routes.
func (s *API) Handler() http.Handler {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.handleError
	e.IPExtractor = ipExtractor(s.TrustedProxies)
	s.routes(e)
	return e
}

// NewServer returns an HTTP server that serves the API and limits the size and
// duration of requests.
func (s *API) NewServer() *http.Server {
	return &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(s.Logger.Handler(), slog.LevelInfo),
	}
}

// ipExtractor returns the function that finds the address of a client. Without
// trusted proxies it ignores X-Forwarded-For, which any client can send.
func ipExtractor(trusted []netip.Prefix) echo.IPExtractor {
	if len(trusted) == 0 {
		return echo.ExtractIPDirect()
	}
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, prefix := range trusted {
		network := &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
		options = append(options, echo.TrustIPRange(network))
	}
	return echo.ExtractIPFromXFFHeader(options...)
}
