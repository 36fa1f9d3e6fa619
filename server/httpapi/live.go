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

	"calltracker/handlers/clicktocall"
	"calltracker/handlers/live"
)

// clickToCall goes on when the client hangs up: the phone rings by then.
//
//	@Summary		Start a call from an agent to a customer
//	@Description	Rings the agent first and calls the customer when the agent answers. Status 202 means that Ziwo rings the agent. 409 means that Ziwo refused, for example because the agent is logged out or in a call. 504 means that the outcome is unknown.
//	@ID			clickToCall
//	@Tags			live
//	@Accept			json
//	@Produce		json
//	@Param			body	body		clicktocall.Input	true	"Agent and number"
//	@Success		202		{object}	clicktocall.View
//	@Failure		400		{object}	Problem
//	@Failure		401		{object}	Problem
//	@Failure		404		{object}	Problem
//	@Failure		409		{object}	Problem
//	@Failure		413		{object}	Problem
//	@Failure		415		{object}	Problem
//	@Failure		422		{object}	Problem
//	@Failure		502		{object}	Problem
//	@Failure		503		{object}	Problem
//	@Failure		504		{object}	Problem
//	@Header			503		{integer}	Retry-After	"Seconds to wait before retrying"
//	@Security	Bearer
//	@Router			/api/v1/calls [post]
func (s *API) clickToCall(c echo.Context) error {
	var in clicktocall.Input
	if err := readJSON(c, &in); err != nil {
		return err
	}
	view, err := s.ClickToCall.Call(uncanceled(c), in)
	if err != nil {
		return err
	}
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return c.JSON(http.StatusAccepted, view)
}

const (
	typeEventStream = "text/event-stream"

	eventWriteTimeout = 10 * time.Second // for each write to a stream
	heartbeat         = 15 * time.Second // shorter than the idle timeouts of proxies
	snapshotTimeout   = time.Second      // how long the first snapshot waits for contact centers that do not answer
	reconnectDelay    = 3 * time.Second  // before a browser reconnects
)

// live answers once, or goes on with what changes.
//
//	@Summary		Get the live view of agents and calls
//	@Description	Returns one JSON document, or with `Accept: text/event-stream` a stream of server-sent events. A stream starts with a `snapshot` event and continues with `call`, `call-ended`, `agent`, `agent-gone`, `contact-center`, and `decisions` events; after many changes at once it sends another `snapshot`. Comments keep the connection open. Reconnect when a stream ends; the new stream starts with a snapshot regardless of Last-Event-ID.
//	@ID			live
//	@Tags			live
//	@Produce		json,text/event-stream
//	@Param			Last-Event-ID	header		string	false	"Sent by browsers when they reconnect; ignored"
//	@Success		200				{object}	live.View
//	@Failure		401				{object}	Problem
//	@Failure		422				{object}	Problem
//	@Failure		503				{object}	Problem
//	@Header			503				{integer}	Retry-After	"Seconds to wait before retrying"
//	@Security	Bearer
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
