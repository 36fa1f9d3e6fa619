package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/live"
)

const (
	typeEventStream = "text/event-stream"

	eventWriteTimeout = 10 * time.Second // for each write to a stream
	heartbeat         = 15 * time.Second // shorter than the idle timeouts of proxies
	snapshotTimeout   = time.Second      // how long the first snapshot waits for contact centers that do not answer
	reconnectDelay    = 3 * time.Second  // before a browser reconnects
)

// live returns the state of agents and calls, once or as a stream of events.
// Administrators may call it.
//
//	@Summary		Get or stream live calls and agents
//	@Description	Returns the state of agents and calls as JSON or, with `Accept: text/event-stream`, as server-sent events: first a `snapshot`, then `call`, `call-ended`, `agent`, `agent-gone`, `contact-center`, and `decisions` for each change, and another `snapshot` after a burst of changes. Comments keep the connection open; every new stream starts with a snapshot, regardless of `Last-Event-ID`.
//	@ID				live
//	@Tags			live
//	@Produce		json,text/event-stream
//	@Param			Last-Event-ID	header		string	false	"Sent by browsers when they reconnect; ignored"
//	@Success		200				{object}	live.View
//	@Failure		401				{object}	Problem
//	@Failure		422				{object}	Problem
//	@Failure		503				{object}	Problem
//	@Header			503				{integer}	Retry-After	"Seconds to wait before retrying"
//	@Security		Bearer
//	@Router			/api/v1/live [get]
func (s *API) live(c echo.Context) error {
	if err := readQuery(c).err(); err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderVary, echo.HeaderAccept)
	if strings.Contains(c.Request().Header.Get(echo.HeaderAccept), typeEventStream) {
		return s.streamLive(c)
	}
	return respond(c)(s.Wallboard.Snapshot(c.Request().Context()))
}

// streamLive sends server-sent events
// (https://html.spec.whatwg.org/multipage/server-sent-events.html) until the
// client leaves, falls too far behind, or the server stops.
func (s *API) streamLive(c echo.Context) error {
	listener, err := s.Wallboard.Listen()
	if err != nil {
		return err
	}
	defer listener.Close()
	control := http.NewResponseController(c.Response())
	// The deadline for reading the request would interrupt the stream.
	if err := control.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	header := c.Response().Header()
	header.Set(echo.HeaderContentType, typeEventStream)
	header.Set(echo.HeaderCacheControl, "no-store")
	header.Set("X-Accel-Buffering", "no") // otherwise nginx buffers events
	c.Response().WriteHeader(http.StatusOK)
	send := func(text []byte) error {
		if err := control.SetWriteDeadline(time.Now().Add(eventWriteTimeout)); err != nil {
			return err
		}
		if _, err := c.Response().Write(text); err != nil {
			return err
		}
		return control.Flush()
	}
	if err = send(fmt.Appendf(nil, "retry: %d\n\n", reconnectDelay.Milliseconds())); err == nil {
		err = sendEvents(c, listener, send)
	}
	if err != nil {
		s.Logger.LogAttrs(c.Request().Context(), slog.LevelDebug, "live stream ended", slog.Any("error", err))
	}
	return nil
}

var errListenerClosed = errors.New("the client was too slow, or the server is shutting down")

// sendEvents sends events until the client disconnects or the listener is closed.
func sendEvents(c echo.Context, listener *live.Listener, send func([]byte) error) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	snapshot := time.NewTimer(snapshotTimeout)
	defer snapshot.Stop()
	var text bytes.Buffer
	for {
		text.Reset()
		select {
		case <-c.Request().Context().Done():
			return c.Request().Context().Err()
		case <-snapshot.C:
			listener.SendSnapshot()
			continue
		case <-beat.C:
			text.WriteString(": alive\n\n")
		case events, ok := <-listener.Events():
			if !ok {
				return errListenerClosed
			}
			for _, e := range events {
				fmt.Fprintf(&text, "id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Name, e.Data)
			}
		}
		if err := send(text.Bytes()); err != nil {
			return err
		}
	}
}
