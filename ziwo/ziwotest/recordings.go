package ziwotest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// recordingRoutes adds the endpoints for recordings that integrators use.
func (z *Ziwo) recordingRoutes(route func(pattern string, authorized func(*http.Request) bool, handler http.HandlerFunc)) {
	byID := func(id func(*http.Request) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { z.recording(w, r, id(r)) }
	}
	route("GET /surveillance/recordings/{file}", z.hasToken, byID(func(r *http.Request) string { return strings.TrimSuffix(r.PathValue("file"), ".mp3") }))
	route("GET /callHistory/{id}/recording", z.hasToken, byID(func(r *http.Request) string { return r.PathValue("id") }))
	route("GET /callHistory/{id}/recording/signed-url", z.hasToken, z.signedURL)
	route("GET /static/callRecordingsEndpoint", z.hasToken, byID(func(r *http.Request) string { return r.FormValue("callId") }))
	route("GET /signed/{id}", func(*http.Request) bool { return true }, z.signedRecording)
}

// Faults of responses that begin normally.
const (
	FaultHalfBody    FaultKind = "half_body"    // the connection breaks in the middle of the body
	FaultStalledBody FaultKind = "stalled_body" // the body stalls after its first half
	FaultIgnoreRange FaultKind = "ignore_range" // the response to a range request has the whole body
	FaultOctetStream FaultKind = "octet_stream" // the Content-Type is application/octet-stream
	FaultRedirect    FaultKind = "redirect"     // a redirect to a signed URL with the token in it
	FaultLeakToken   FaultKind = "leak_token"   // headers of the response contain the token
)

// altersResponse reports whether k is one of the faults above.
func (k FaultKind) altersResponse() bool {
	switch k {
	case FaultHalfBody, FaultStalledBody, FaultIgnoreRange, FaultOctetStream, FaultRedirect, FaultLeakToken:
		return true
	default:
		return false
	}
}

// faultyWriter writes a response with one of these faults.
type faultyWriter struct {
	http.ResponseWriter
	request     *http.Request
	kind        FaultKind
	wroteHeader bool
	remaining   int64 // bytes of the body until the fault
}

func (b *faultyWriter) WriteHeader(status int) {
	b.wroteHeader = true
	b.remaining, _ = strconv.ParseInt(b.Header().Get("Content-Length"), 10, 64)
	b.remaining /= 2
	switch b.kind {
	case FaultOctetStream:
		b.Header().Set("Content-Type", "application/octet-stream")
	case FaultLeakToken:
		token := b.request.Header.Get("access_token")
		b.Header().Set("ETag", strconv.Quote(token))
		b.Header().Set("Set-Cookie", "access_token="+token)
		b.Header().Set("X-Access-Token", token)
		b.Header().Set("Content-Disposition", "attachment; filename="+token)
	}
	b.ResponseWriter.WriteHeader(status)
}

func (b *faultyWriter) Write(p []byte) (int, error) {
	if !b.wroteHeader {
		b.WriteHeader(http.StatusOK)
	}
	if b.kind != FaultHalfBody && b.kind != FaultStalledBody {
		return b.ResponseWriter.Write(p)
	}
	if int64(len(p)) < b.remaining {
		b.remaining -= int64(len(p))
		return b.ResponseWriter.Write(p)
	}
	_, _ = b.ResponseWriter.Write(p[:b.remaining]) // the handler aborts in any case
	_ = http.NewResponseController(b.ResponseWriter).Flush()
	if b.kind == FaultStalledBody {
		<-b.request.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

func (z *Ziwo) signedURL(w http.ResponseWriter, r *http.Request) {
	c, ok := z.findCall(r.PathValue("id"))
	if !ok || !z.hasRecording(c) {
		respondError(w, http.StatusNotFound, "Recording not found")
		return
	}
	respond(w, map[string]any{"url": z.newSignedURL(r, c)}, nil)
}

// newSignedURL returns a URL of a recording that needs no token.
func (z *Ziwo) newSignedURL(r *http.Request, c Call) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host + "/signed/" + url.PathEscape(c.CallID) + "?signature=" + signature(c.CallID)
}

// signature returns the signature of a call. It is not secret; it only has to be
// hard to send by mistake.
func signature(callID string) string { return fmt.Sprintf("%x", "signed "+callID) }

func (z *Ziwo) signedRecording(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("signature") != signature(r.PathValue("id")) {
		respondError(w, http.StatusForbidden, "Wrong signature")
		return
	}
	z.recording(w, r, r.PathValue("id"))
}

// hasRecording reports whether the recording of c exists.
func (z *Ziwo) hasRecording(c Call) bool {
	return c.RecordingFile != "" && !c.RecordedAt.After(z.Now())
}

func (z *Ziwo) recording(w http.ResponseWriter, r *http.Request, id string) {
	c, ok := z.findCall(id)
	if !ok || !z.hasRecording(c) {
		respondError(w, http.StatusNotFound, "Recording not found")
		return
	}
	if b, ok := w.(*faultyWriter); ok {
		switch b.kind {
		case FaultRedirect:
			http.Redirect(b.ResponseWriter, r, z.newSignedURL(r, c)+"&access_token="+url.QueryEscape(r.Header.Get("access_token")), http.StatusFound)
			return
		case FaultIgnoreRange:
			r.Header.Del("Range")
		}
	}
	w.Header().Set("Content-Type", "audio/mpeg")
	w.Header().Set("ETag", strconv.Quote(c.CallID))
	http.ServeContent(w, r, c.RecordingFile, c.EndedAt, bytes.NewReader(Audio(c)))
}

// Audio returns the recording of a call: an MP3 of silence with the callID in its
// tag, as long as the talk time but at most a minute.
func Audio(c Call) []byte {
	const framesPerSecond, maxSeconds = 38, 60
	title := append([]byte{0}, c.CallID...)
	tag := append([]byte("ID3\x03\x00\x00"), 0, 0, 0, byte(10+len(title)))
	tag = append(tag, "TIT2"...)
	tag = binary.BigEndian.AppendUint32(tag, uint32(len(title)))
	tag = append(append(tag, 0, 0), title...)
	frame := make([]byte, 104) // MPEG 1 layer III, 32 kbit/s, 44.1 kHz, mono
	copy(frame, []byte{0xff, 0xfb, 0x10, 0xc4})
	return append(tag, bytes.Repeat(frame, framesPerSecond*min(max(c.TalkTime, 1), maxSeconds))...)
}
