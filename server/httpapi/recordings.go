package httpapi

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"calltracker/handlers/recordings"
)

// Limits on sending a recording to a client.
const (
	recordingWriteTimeout = 20 * time.Second // for each chunk
	recordingTimeout      = 2 * time.Hour    // for the whole recording
	recordingChunk        = 32 << 10
)

// getRecording streams the recording or voicemail of a call. Of the headers of its
// source, it passes on only those named here. Administrators may call it.
//
//	@Summary		Get the recording or voicemail of a call
//	@Description	Returns the stored copy of the recording or voicemail, or streams it from Ziwo, with support for range requests. A 404 has the code `recording_not_yet` and a `Retry-After` header if the recording may still arrive, or `no_recording` if it will not.
//	@ID				getRecording
//	@Tags			calls
//	@Produce		audio/mpeg,audio/*
//	@Param			id			path		string	true	"ID of the call"
//	@Param			Range		header		string	false	"One byte range, such as bytes=0-1023"
//	@Param			If-Range	header		string	false	"ETag or date; if it does not match, the whole recording is sent"
//	@Success		200			{file}		binary
//	@Success		206			{file}		binary
//	@Header			200,206		{string}	Accept-Ranges	"bytes"
//	@Header			206			{string}	Content-Range	"Returned range"
//	@Failure		401			{object}	Problem
//	@Failure		404			{object}	Problem
//	@Header			404			{integer}	Retry-After	"Seconds to wait before retrying, with recording_not_yet"
//	@Failure		409			{object}	Problem
//	@Failure		416			{object}	Problem
//	@Failure		502			{object}	Problem
//	@Failure		503			{object}	Problem
//	@Header			503			{integer}	Retry-After	"Seconds to wait before retrying"
//	@Security		Bearer
//	@Router			/api/v1/calls/{id}/recording [get]
func (s *API) getRecording(c echo.Context) error {
	control := http.NewResponseController(c.Response())
	// Ziwo may take longer to find the recording than other requests may last.
	if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Now().Add(writeTimeout+recordingWriteTimeout))); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request().Context(), recordingTimeout)
	defer cancel()
	go func() {
		select {
		case <-s.cutStreams:
			cancel()
		case <-ctx.Done():
		}
	}()
	var requested recordings.Part
	if c.Request().Method == http.MethodGet { // RFC 9110 defines ranges only for GET
		requested.Range, requested.IfRange = c.Request().Header.Get("Range"), c.Request().Header.Get("If-Range")
	}
	recording, err := s.Recordings.Open(ctx, c.Param("id"), requested)
	if err != nil {
		return err
	}
	defer func() { _ = recording.Body.Close() }()
	header := c.Response().Header()
	for name, value := range map[string]string{
		echo.HeaderContentType: recording.ContentType, "Content-Range": recording.ContentRange, "ETag": recording.ETag,
		echo.HeaderLastModified: recording.LastModified, "Accept-Ranges": "bytes", echo.HeaderCacheControl: "private, no-store",
		echo.HeaderXContentTypeOptions: "nosniff", echo.HeaderContentDisposition: `inline; filename="` + recording.FileName + `"`,
	} {
		if value != "" {
			header.Set(name, value)
		}
	}
	if recording.Size >= 0 {
		header.Set(echo.HeaderContentLength, strconv.FormatInt(recording.Size, 10))
	}
	code := http.StatusOK
	if recording.Partial {
		code = http.StatusPartialContent
	}
	c.Response().WriteHeader(code)
	if c.Request().Method == http.MethodHead {
		return nil
	}
	if err := copyChunks(c.Response(), control, recording.Body); err != nil {
		s.Logger.LogAttrs(ctx, slog.LevelInfo, "recording interrupted", slog.String("route", c.Path()), slog.Any("error", err))
		panic(http.ErrAbortHandler) // closes the connection, so that the client notices
	}
	return nil
}

// copyChunks copies src to dst. The client may be slow, but must accept each chunk
// within recordingWriteTimeout.
func copyChunks(dst io.Writer, control *http.ResponseController, src io.Reader) error {
	chunk := make([]byte, recordingChunk)
	for {
		n, err := src.Read(chunk)
		if n > 0 {
			if err := control.SetWriteDeadline(time.Now().Add(recordingWriteTimeout)); err != nil {
				return err
			}
			if _, err := dst.Write(chunk[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// headRecording returns the headers of a recording. Administrators may call it.
//
//	@Summary		Get the headers of a recording
//	@Description	Returns the headers of the recording or voicemail without its content, to check whether there is one and how large it is.
//	@ID				headRecording
//	@Tags			calls
//	@Produce		json
//	@Param			id	path	string	true	"ID of the call"
//	@Success		200
//	@Failure		401	{object}	Problem
//	@Failure		404	{object}	Problem
//	@Failure		409	{object}	Problem
//	@Failure		502	{object}	Problem
//	@Failure		503	{object}	Problem
//	@Security		Bearer
//	@Router			/api/v1/calls/{id}/recording [head]
func (s *API) headRecording(c echo.Context) error { return s.getRecording(c) }
