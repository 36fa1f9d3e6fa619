package httpapi

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"

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

// apiOptions are what an api is made from. All fields are required unless their
// comment says otherwise.
type Options struct {
	AdminToken     string
	VoicemailField string         // name of the voicemail flag in answers to Ziwo; empty leaves it out
	TrustedProxies []netip.Prefix // whose X-Forwarded-For is believed; may be empty
	SQLite         bool           // the database is a file beside the spool
	Logger         *slog.Logger
	Registry       *prometheus.Registry // what /metrics serves; request metrics are added to it
	Schema         []byte               // JSON Schema of the configuration

	Config      *config.Controller
	Secrets     *secrets.Secrets
	Keys        *access.Checker
	Answerer    *startcall.Answerer
	Recorder    *endcall.Recorder
	Intake      *endcall.Intake
	Calls       *calls.Calls
	Decisions   *decisions.Decisions
	Rejections  *rejections.Rejections
	Simulator   *simulate.Simulator
	Reconciler  *reconcile.Reconciler
	Wallboard   *live.Wallboard
	ClickToCall *clicktocall.Caller
	Recordings  *recordings.Recordings
	Embeds      *embeds.Embeds
	Popup       *popup.Popup
	Connections *connections.Connections
	Lookups     *lookup.Lookups
	Jobs        *jobs.List

	Database pinger
	Spool    spoolState
	Redis    RedisState // nil without Redis
}

type pinger interface {
	Ping(ctx context.Context) error
}

// spoolState reports how the spool is.
type spoolState interface {
	Stats() spool.Stats
	Check() error
}

type RedisState interface{ Up() bool }

// api is the HTTP side of the server. It is safe for concurrent use.
type API struct {
	Options
	requests   *requestMetrics
	cutStreams chan struct{} // closed when streams must end
}

// newAPI returns the API.
func New(o Options) *API {
	return &API{Options: o, requests: newRequestMetrics(o.Registry), cutStreams: make(chan struct{})}
}

// CutStreams ends the recordings that are being streamed. It may be called once.
func (s *API) CutStreams() { close(s.cutStreams) }

// Handler serves every route of the API.
func (s *API) Handler() http.Handler {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.answerError
	e.IPExtractor = ipExtractor(s.TrustedProxies)
	s.routes(e)
	return e
}

// NewServer returns an HTTP server with the limits of this API: how long a
// request and its answer may take, and how large its header may be.
func (s *API) NewServer() *http.Server {
	return &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.Logger.Handler(), slog.LevelInfo),
	}
}

// ipExtractor returns how the address of a client is found. Without trusted
// proxies X-Forwarded-For is ignored, because any client can send it.
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
