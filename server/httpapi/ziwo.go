package httpapi

import (
	"errors"
	"log/slog"
	"net/http"
	"sync"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/access"
	"calltracker/handlers/endcall"
	"calltracker/handlers/startcall"
	"calltracker/rules"
	"calltracker/ziwo"
)

// buffers are reused for the bodies and answers of start calls, and for answers to
// browsers.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxPooledBuffer is the largest buffer that is reused, so that one large request does
// not keep its memory.
const maxPooledBuffer = 64 << 10

// startCall answers Ziwo while the caller waits. It does no I/O besides reading the
// request. Ziwo calls it with the start key of the tracker.
//
//	@Summary		Answer where a call goes
//	@Description	Ziwo asks for the rules of an incoming call and waits for the answer. Fields may be sent as a form, as JSON, or as query parameters; the key is sent in `X-API-Key` or as the password of HTTP Basic.
//	@ID				startCall
//	@Tags			Ziwo
//	@Accept			mpfd,json,x-www-form-urlencoded
//	@Produce		json
//	@Param			tracker			path		string	true	"Name of the tracker"
//	@Param			didCalled		formData	string	true	"Number that the caller dialed (DID), in any format"
//	@Param			callerIDNumber	formData	string	false	"Number of the caller, in any format"
//	@Param			callID			formData	string	false	"ID of the call in Ziwo"
//	@Success		200				{object}	StartEnvelope
//	@Failure		400				{object}	ErrorEnvelope
//	@Failure		401				{object}	ErrorEnvelope
//	@Failure		403				{object}	ErrorEnvelope
//	@Failure		404				{object}	ErrorEnvelope
//	@Failure		408				{object}	ErrorEnvelope
//	@Failure		413				{object}	ErrorEnvelope
//	@Failure		429				{object}	ErrorEnvelope
//	@Failure		500				{object}	ErrorEnvelope
//	@Header			429				{integer}	Retry-After	"Seconds to wait before retrying"
//	@Security		TrackerKey
//	@Security		TrackerBasic
//	@x-any-body		true
//	@Router			/callTrackers/{tracker}/startCall [post]
func (s *API) startCall(c echo.Context) error {
	req := c.Request()
	tracker, err := s.Keys.Tracker(c.Param("tracker"), access.StartSide, trackerKey(req), clientAddress(c))
	if err == nil && tracker.Blocked {
		err = access.ErrBlocked
	}
	if err != nil {
		s.writeEnvelopeError(c, err, 0)
		return nil
	}
	pooled := buffers.Get().(*[]byte)
	defer func() {
		if cap(*pooled) <= maxPooledBuffer {
			buffers.Put(pooled)
		}
	}()
	body, err := readBody((*pooled)[:0], req, maxZiwoBody)
	if err != nil {
		s.writeEnvelopeError(c, err, int64(len(body)))
		return nil
	}
	start, err := ziwo.ParseStartRequest(req.Header.Get(echo.HeaderContentType), req.URL.RawQuery, body)
	if err != nil {
		s.writeEnvelopeError(c, err, int64(len(body)))
		return nil
	}
	answer := s.Answerer.Answer(req.Context(), tracker, start)
	text := startcall.AppendAnswer(body[:0], answer.DIDCalled, answer.Decision, s.VoicemailField)
	*pooled = text[:0]
	header := c.Response().Header()
	header["X-Decision-Id"] = []string{answer.ID}
	return c.Blob(http.StatusOK, typeJSON, text)
}

// endCall stores the CDR of a call, and answers when it is on disk. Ziwo calls it
// with the end key of the tracker.
//
//	@Summary		Receive the CDR of a finished call
//	@Description	Ziwo sends the CDR of a finished call. Status 200 means that the record is safe on disk; a body that is not a CDR is stored too, with a warning in `info`.
//	@ID				endCall
//	@Tags			Ziwo
//	@Accept			json,mpfd,x-www-form-urlencoded
//	@Produce		json
//	@Param			tracker	path		string	true	"Name of the tracker"
//	@Param			body	body		object	true	"CDR, either bare or in `content`"
//	@Success		200		{object}	Envelope
//	@Failure		400		{object}	ErrorEnvelope
//	@Failure		401		{object}	ErrorEnvelope
//	@Failure		403		{object}	ErrorEnvelope
//	@Failure		404		{object}	ErrorEnvelope
//	@Failure		408		{object}	ErrorEnvelope
//	@Failure		413		{object}	ErrorEnvelope
//	@Failure		429		{object}	ErrorEnvelope
//	@Failure		500		{object}	ErrorEnvelope
//	@Failure		503		{object}	ErrorEnvelope
//	@Header			429		{integer}	Retry-After	"Seconds to wait before retrying"
//	@Header			503		{integer}	Retry-After	"Seconds to wait before retrying"
//	@Security		TrackerKey
//	@Security		TrackerBasic
//	@x-any-body		true
//	@Router			/callTrackers/{tracker}/endCall [post]
func (s *API) endCall(c echo.Context) error {
	tracker, err := s.Keys.Tracker(c.Param("tracker"), access.EndSide, trackerKey(c.Request()), clientAddress(c))
	if err != nil {
		s.writeEnvelopeError(c, err, 0)
		return nil
	}
	return s.receiveCDR(c, tracker.Blocked, func(r endcall.Request) (endcall.Receipt, error) {
		return s.Recorder.End(uncanceled(c), tracker, r)
	})
}

// callHistory stores CDRs of calls that no tracker handled. Ziwo's webhook calls it
// with a webhook key of the contact center.
//
//	@Summary		Receive Ziwo's call-history webhook
//	@Description	Receives Ziwo's call-history webhook for calls that no tracker handled, and stores them like those of endCall. The key in `X-API-Key` identifies the contact center.
//	@ID				callHistory
//	@Tags			Ziwo
//	@Accept			json
//	@Produce		json
//	@Param			body	body		object	true	"Action and CDR"
//	@Success		200		{object}	Envelope
//	@Failure		400		{object}	ErrorEnvelope
//	@Failure		401		{object}	ErrorEnvelope
//	@Failure		408		{object}	ErrorEnvelope
//	@Failure		413		{object}	ErrorEnvelope
//	@Failure		429		{object}	ErrorEnvelope
//	@Failure		500		{object}	ErrorEnvelope
//	@Failure		503		{object}	ErrorEnvelope
//	@Header			429		{integer}	Retry-After	"Seconds to wait before retrying"
//	@Header			503		{integer}	Retry-After	"Seconds to wait before retrying"
//	@Security		TrackerKey
//	@Security		TrackerBasic
//	@x-any-body		true
//	@Router			/webhooks/ziwo/callHistory [post]
func (s *API) callHistory(c echo.Context) error {
	origin, err := s.Keys.Webhook(trackerKey(c.Request()), clientAddress(c))
	if err != nil {
		s.writeEnvelopeError(c, err, 0)
		return nil
	}
	return s.receiveCDR(c, false, func(r endcall.Request) (endcall.Receipt, error) {
		return s.Recorder.History(uncanceled(c), origin, r)
	})
}

// receiveCDR reads a CDR, stores it and answers. If the body ends early, the part
// that arrived is stored, because Ziwo may not send it again. The CDR of a tracker
// that was blocked during the call is stored too. Both are answered with an error.
func (s *API) receiveCDR(c echo.Context, blocked bool, store func(endcall.Request) (endcall.Receipt, error)) error {
	req := c.Request()
	body, readErr := readBody(nil, req, maxZiwoBody)
	if errors.Is(readErr, errTooLarge) || readErr != nil && len(body) == 0 {
		s.writeEnvelopeError(c, readErr, int64(len(body)))
		return nil
	}
	receipt, err := store(endcall.Request{ContentType: req.Header.Get(echo.HeaderContentType), Query: req.URL.RawQuery, Body: body})
	switch {
	case err != nil:
	case readErr != nil:
		err = readErr
	case blocked:
		err = access.ErrBlocked
	}
	if err != nil {
		s.writeEnvelopeError(c, err, int64(len(body)))
		return nil
	}
	for _, warning := range receipt.Warnings {
		s.Logger.LogAttrs(req.Context(), slog.LevelWarn, "unreadable record stored",
			slog.String("path", clip(req.URL.Path)), slog.String("id", receipt.Saved.ID), slog.String("warning", warning))
		s.recordRejection(c, http.StatusOK, "unreadable", warning, int64(len(body)))
	}
	return c.Blob(http.StatusOK, typeJSON, ziwo.AppendOK(nil, receipt.Warnings...))
}

// exampleStart answers like the example on Ziwo's developer page
// (https://www.ziwo.io/api-integration-developers/), with dummy rules. Any client
// may call it.
//
//	@Summary		Try startCall with dummy values
//	@Description	Answers with dummy values like the example on Ziwo's developer page. Nothing is stored.
//	@ID				exampleStartCall
//	@Tags			Ziwo
//	@Accept			mpfd,json,x-www-form-urlencoded
//	@Produce		json
//	@Param			didCalled	formData	string	true	"Number that the caller dialed (DID), in any format"
//	@Success		200			{object}	StartEnvelope
//	@Failure		400			{object}	ErrorEnvelope
//	@Failure		413			{object}	ErrorEnvelope
//	@x-any-body		true
//	@Router			/callTrackers/example/startCall [post]
func (s *API) exampleStart(c echo.Context) error {
	body, err := readBody(nil, c.Request(), maxZiwoBody)
	if err != nil {
		return err
	}
	start, err := ziwo.ParseStartRequest(c.Request().Header.Get(echo.HeaderContentType), c.Request().URL.RawQuery, body)
	if err != nil {
		return err
	}
	example := rules.Decision{Voicemail: true, Rules: []rules.Rule{
		{Action: rules.ActionCall, Number: "0501112233", CallerID: "043334455", Timeout: 10},
	}}
	return c.Blob(http.StatusOK, typeJSON,
		startcall.AppendAnswer(nil, start.DIDCalled, example, s.VoicemailField))
}

// exampleEnd accepts any record and does not store it. Any client may call it.
//
//	@Summary		Try endCall with dummy values
//	@Description	Answers like the example on Ziwo's developer page. Nothing is stored.
//	@ID				exampleEndCall
//	@Tags			Ziwo
//	@Accept			json,mpfd,x-www-form-urlencoded
//	@Produce		json
//	@Param			body	body		object	true	"CDR"
//	@Success		200		{object}	Envelope
//	@Failure		400		{object}	ErrorEnvelope
//	@Failure		413		{object}	ErrorEnvelope
//	@x-any-body		true
//	@Router			/callTrackers/example/endCall [post]
func (s *API) exampleEnd(c echo.Context) error {
	body, err := readBody(nil, c.Request(), maxZiwoBody)
	if err != nil {
		return err
	}
	if len(body) == 0 && c.Request().URL.RawQuery == "" {
		return endcall.ErrEmptyBody
	}
	return c.Blob(http.StatusOK, typeJSON, ziwo.AppendOK(nil))
}
