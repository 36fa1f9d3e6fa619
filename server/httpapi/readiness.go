package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/storage/spool"
)

// part is the state of one part of the server.
type part struct {
	State   string `json:"state" enums:"ok,empty,behind,failing"`
	Version int64  `json:"version,omitempty"`
	Error   string `json:"error,omitempty"`
}

// readiness tells whether calls are served.
type Readiness struct {
	Status        string    `json:"status" enums:"ready,failing"`
	StartCalls    bool      `json:"startCalls"` // they can be answered
	EndCalls      bool      `json:"endCalls"`   // they can be kept, in the database or in the spool
	Configuration part      `json:"configuration"`
	Database      part      `json:"database"`
	Spool         spoolPart `json:"spool"`
	Redis         *part     `json:"redis,omitempty"` // only with CALLTRACKER_REDIS_URL
}

// spoolPart is the state of the spool, and what waits in it for the database.
type spoolPart struct {
	part
	Records int        `json:"records"`
	Bytes   int64      `json:"bytes"`
	Oldest  *time.Time `json:"oldest,omitempty" format:"date-time"` // since when the oldest of them waits
}

// healthz tells that the process is alive.
//
//	@Summary	Alive
//	@ID		healthz
//	@Tags		operation
//	@Produce	json
//	@Success	200	{object}	aliveness
//	@Router		/healthz [get]
func (s *API) healthz(c echo.Context) error {
	return c.JSON(http.StatusOK, aliveness{Status: "ok"})
}

type aliveness struct {
	Status string `json:"status" example:"ok"`
}

// pingTimeout bounds how long a readiness probe waits for the database.
const pingTimeout = 2 * time.Second

// readyz tells whether start calls can be answered and end calls kept.
//
//	@Summary	Ready to answer start calls and to keep end calls, part by part
//	@ID		readyz
//	@Tags		operation
//	@Produce	json
//	@Success	200	{object}	Readiness
//	@Failure	503	{object}	Readiness
//	@Router		/readyz [get]
func (s *API) readyz(c echo.Context) error {
	state := s.readiness(c)
	code := http.StatusOK
	if state.Status != "ready" {
		code = http.StatusServiceUnavailable
	}
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return c.JSON(code, state)
}

// notReady is what anybody may read of why the database is not ready; the log
// has the rest.
func notReady(err error) string {
	switch {
	case errors.Is(err, errTakesNothing):
		return errTakesNothing.Error()
	case errors.Is(err, spool.ErrFull):
		return "the disk is full"
	default:
		return told(err, http.StatusServiceUnavailable)
	}
}

var errTakesNothing = errors.New("the database answers, but takes no records")

func (s *API) readiness(c echo.Context) Readiness {
	ctx, cancel := context.WithTimeout(c.Request().Context(), pingTimeout)
	defer cancel()
	r := Readiness{Status: "ready", Database: part{State: "ok"}, Configuration: part{State: "empty"}, StartCalls: true, EndCalls: true}
	if live := s.Config.Current(); live != nil {
		r.Configuration = part{State: "ok", Version: live.Version.Version}
	}
	if behind := s.Config.Pending(); behind != nil && s.Config.Current() != nil {
		r.Configuration.State = "behind"
		r.Configuration.Error = fmt.Sprintf("version %d cannot be used here, the log says why; the one before serves", behind.Version)
	}
	if s.Redis != nil {
		r.Redis = &part{State: "ok"}
		if !s.Redis.Up() { // calls are served all the same
			r.Redis = &part{State: "failing", Error: "it does not answer; this process counts on its own"}
		}
	}
	spooled := s.Spool.Stats()
	r.Spool = spoolPart{part: part{State: "ok"}, Records: spooled.Records, Bytes: spooled.Bytes}
	if spooled.Records > 0 {
		r.Spool.Oldest = &spooled.Oldest
	}
	unspooled := s.Spool.Check()
	if unspooled != nil {
		s.Logger.Error("the spool is not ready", slog.Any("error", unspooled))
		r.Spool.part = part{State: "failing", Error: "the data directory cannot be written to"}
		if errors.Is(unspooled, spool.ErrFull) {
			r.Spool.Error = "the disk is full"
		}
	}
	err := s.Database.Ping(ctx)
	switch {
	case err != nil:
	case s.Intake.Spooling():
		err = errTakesNothing
	case s.SQLite && errors.Is(unspooled, spool.ErrFull):
		err = unspooled // SQLite answers, but its file is on the same disk
	}
	if err != nil {
		s.Logger.Error("the database is not ready", slog.Any("error", err))
		r.Database = part{State: "failing", Error: notReady(err)}
		// Without the database an empty configuration may be one that could not be read.
		r.StartCalls = r.Configuration.State != "empty"
	}
	r.EndCalls = (err == nil || unspooled == nil) && !s.Intake.Failing()
	if !r.StartCalls || !r.EndCalls {
		r.Status = "failing"
	}
	return r
}
