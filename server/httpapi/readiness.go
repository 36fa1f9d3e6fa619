package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"calltracker/storage/spool"
)

// part is the state of a part of the server.
type part struct {
	State   string `json:"state" enums:"ok,empty,behind,failing"`
	Version int64  `json:"version,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Readiness is the state of the server, part by part.
type Readiness struct {
	Status        string    `json:"status" enums:"ready,failing"`
	StartCalls    bool      `json:"startCalls"` // whether they can be answered
	EndCalls      bool      `json:"endCalls"`   // whether they can be stored, in the database or in the spool
	Configuration part      `json:"configuration"`
	Database      part      `json:"database"`
	Spool         spoolPart `json:"spool"`
	Redis         *part     `json:"redis,omitempty"` // only with CALLTRACKER_REDIS_URL
}

// spoolPart is the state of the spool and of the records in it.
type spoolPart struct {
	part
	Records int        `json:"records"`
	Bytes   int64      `json:"bytes"`
	Oldest  *time.Time `json:"oldest,omitempty" format:"date-time"` // when the oldest record was spooled
}

// healthz reports that the process is running. Any client may call it.
//
//	@Summary		Check that the server is alive
//	@Description	Answers 200 while the process is running. It checks nothing else.
//	@ID				healthz
//	@Tags			operation
//	@Produce		json
//	@Success		200	{object}	aliveness
//	@Router			/healthz [get]
func (s *API) healthz(c echo.Context) error {
	return c.JSON(http.StatusOK, aliveness{Status: "ok"})
}

// aliveness is the answer of healthz.
type aliveness struct {
	Status string `json:"status" example:"ok"`
}

// pingTimeout bounds how long a readiness probe waits for the database.
const pingTimeout = 2 * time.Second

// readyz reports whether start calls can be answered and end calls stored. Any
// client may call it.
//
//	@Summary		Check that the server is ready
//	@Description	Returns the state of each component of the server. The status is 200 while start calls can be answered and end calls can be stored, otherwise 503.
//	@ID				readyz
//	@Tags			operation
//	@Produce		json
//	@Success		200	{object}	Readiness
//	@Failure		503	{object}	Readiness
//	@Router			/readyz [get]
func (s *API) readyz(c echo.Context) error {
	state := s.readiness(c)
	code := http.StatusOK
	if state.Status != "ready" {
		code = http.StatusServiceUnavailable
	}
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return c.JSON(code, state)
}

// metrics serves the metrics to Prometheus. Any client may call it.
//
//	@Summary		Get Prometheus metrics
//	@Description	Returns metrics in the Prometheus text format.
//	@ID				metrics
//	@Tags			operation
//	@Produce		plain
//	@Success		200	{string}	string
//	@Router			/metrics [get]
func (s *API) metrics(c echo.Context) error {
	promhttp.HandlerFor(s.Registry, promhttp.HandlerOpts{}).ServeHTTP(c.Response(), c.Request())
	return nil
}

// States and errors of components. Any client may read them, so causes are only logged.
const (
	stateOK      = "ok"
	stateEmpty   = "empty"  // no configuration has been applied
	stateBehind  = "behind" // an older configuration is active than the newest one
	stateFailing = "failing"

	detailDiskFull = "the disk is full"
)

var errRejectsWrites = errors.New("the database answers, but rejects writes")

// databaseDetail returns the text about a database that is not ready.
func databaseDetail(err error) string {
	switch {
	case errors.Is(err, errRejectsWrites):
		return errRejectsWrites.Error() + "; the log has the cause"
	case errors.Is(err, spool.ErrFull):
		return detailDiskFull
	default:
		return "the database is unavailable; the log has the cause"
	}
}

// readiness checks every component of the server.
func (s *API) readiness(c echo.Context) Readiness {
	ctx, cancel := context.WithTimeout(c.Request().Context(), pingTimeout)
	defer cancel()
	r := Readiness{Status: "ready", Database: part{State: stateOK}, Configuration: part{State: stateEmpty}, StartCalls: true, EndCalls: true}
	if current := s.Config.Current(); current != nil {
		r.Configuration = part{State: stateOK, Version: current.Version.Version}
		if pending := s.Config.Pending(); pending != nil {
			r.Configuration.State = stateBehind
			r.Configuration.Error = fmt.Sprintf("version %d could not be activated on this replica; the log has the cause", pending.Version)
		}
	}
	if s.Redis != nil {
		r.Redis = &part{State: stateOK}
		if !s.Redis.Up() { // calls are served without it
			r.Redis = &part{State: stateFailing, Error: "Redis is unavailable; this process uses its own counters and cache"}
		}
	}
	stats := s.Spool.Stats()
	r.Spool = spoolPart{part: part{State: stateOK}, Records: stats.Records, Bytes: stats.Bytes}
	if stats.Records > 0 {
		r.Spool.Oldest = &stats.Oldest
	}
	spoolErr := s.Spool.Check()
	if spoolErr != nil {
		s.Logger.Error("spool not ready", slog.Any("error", spoolErr))
		r.Spool.part = part{State: stateFailing, Error: "the spool cannot be written; the log has the cause"}
		if errors.Is(spoolErr, spool.ErrFull) {
			r.Spool.Error = detailDiskFull
		}
	}
	err := s.Database.Ping(ctx)
	switch {
	case err != nil:
	case s.Intake.Spooling():
		err = errRejectsWrites
	case s.SQLite && errors.Is(spoolErr, spool.ErrFull):
		err = spoolErr // SQLite answers, but its file is on the same disk
	}
	if err != nil {
		s.Logger.Error("database not ready", slog.Any("error", err))
		r.Database = part{State: stateFailing, Error: databaseDetail(err)}
		// Without a configuration, start calls cannot be answered: there may be one that could not be read.
		r.StartCalls = r.Configuration.State != stateEmpty
	}
	r.EndCalls = (err == nil || spoolErr == nil) && !s.Intake.Failing()
	if !r.StartCalls || !r.EndCalls {
		r.Status = "failing"
	}
	return r
}
