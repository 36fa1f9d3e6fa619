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

// recordingRoutes are the four ways to a recording that integrators use.
func (z *Ziwo) recordingRoutes(route func(pattern string, admitted func(*http.Request) bool, handler http.HandlerFunc)) {
	byID := func(id func(*http.Request) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { z.recording(w, r, id(r)) }
	}
	route("GET /surveillance/recordings/{file}", z.byToken, byID(func(r *http.Request) string { return strings.TrimSuffix(r.PathValue("file"), ".mp3") }))
	route("GET /callHistory/{id}/recording", z.byToken, byID(func(r *http.Request) string { return r.PathValue("id") }))
	route("GET /callHistory/{id}/recording/signed-url", z.byToken, z.signedURL)
	route("GET /static/callRecordingsEndpoint", z.byToken, byID(func(r *http.Request) string { return r.FormValue("callId") }))
	route("GET /signed/{id}", func(*http.Request) bool { return true }, z.signedRecording)
}

// Faults of answers that begin well.
const (
	FaultHalf     FaultKind = "half"     // the connection breaks in the middle of the body
	FaultStall    FaultKind = "stall"    // half of the body comes, and then nothing more
	FaultWhole    FaultKind = "whole"    // a part was asked for, all of it comes
	FaultOctets   FaultKind = "octets"   // audio comes as application/octet-stream
	FaultRedirect FaultKind = "redirect" // to a signed address, with the token in it
	FaultTell     FaultKind = "tell"     // fields of the answer repeat the token
)

func (k FaultKind) bends() bool {
	switch k {
	case FaultHalf, FaultStall, FaultWhole, FaultOctets, FaultRedirect, FaultTell:
		return true
	default:
		return false
	}
}

// bent is an answer with one of these faults.
type bent struct {
	http.ResponseWriter
	request *http.Request
	kind    FaultKind
	began   bool
	left    int64 // of the body, until the fault
}

func (b *bent) WriteHeader(status int) {
	b.began = true
	b.left, _ = strconv.ParseInt(b.Header().Get("Content-Length"), 10, 64)
	b.left /= 2
	switch b.kind {
	case FaultOctets:
		b.Header().Set("Content-Type", "application/octet-stream")
	case FaultTell:
		token := b.request.Header.Get("access_token")
		b.Header().Set("ETag", strconv.Quote(token))
		b.Header().Set("Set-Cookie", "access_token="+token)
		b.Header().Set("X-Access-Token", token)
		b.Header().Set("Content-Disposition", "attachment; filename="+token)
	}
	b.ResponseWriter.WriteHeader(status)
}

func (b *bent) Write(p []byte) (int, error) {
	if !b.began {
		b.WriteHeader(http.StatusOK)
	}
	if b.kind != FaultHalf && b.kind != FaultStall {
		return b.ResponseWriter.Write(p)
	}
	if int64(len(p)) < b.left {
		b.left -= int64(len(p))
		return b.ResponseWriter.Write(p)
	}
	_, _ = b.ResponseWriter.Write(p[:b.left]) // the fault comes either way
	_ = http.NewResponseController(b.ResponseWriter).Flush()
	if b.kind == FaultStall {
		<-b.request.Context().Done()
	}
	panic(http.ErrAbortHandler)
}

func (z *Ziwo) signedURL(w http.ResponseWriter, r *http.Request) {
	c, ok := z.byRecord(r.PathValue("id"))
	if !ok || !z.recorded(c) {
		refuse(w, http.StatusNotFound, "Recording not found")
		return
	}
	succeed(w, map[string]any{"url": z.signed(r, c)}, nil)
}

// signed is an address that needs no token.
func (z *Ziwo) signed(r *http.Request, c Call) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host + "/signed/" + url.PathEscape(c.CallID) + "?signature=" + signature(c.CallID)
}

// signature needs to be no secret, only hard to send by mistake.
func signature(callID string) string { return fmt.Sprintf("%x", "signed "+callID) }

func (z *Ziwo) signedRecording(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("signature") != signature(r.PathValue("id")) {
		refuse(w, http.StatusForbidden, "Wrong signature")
		return
	}
	z.recording(w, r, r.PathValue("id"))
}

func (z *Ziwo) recorded(c Call) bool {
	return c.RecordingFile != "" && !c.RecordedAt.After(z.Now())
}

func (z *Ziwo) recording(w http.ResponseWriter, r *http.Request, id string) {
	c, ok := z.byRecord(id)
	if !ok || !z.recorded(c) {
		refuse(w, http.StatusNotFound, "Recording not found")
		return
	}
	if b, ok := w.(*bent); ok {
		switch b.kind {
		case FaultRedirect:
			http.Redirect(b.ResponseWriter, r, z.signed(r, c)+"&access_token="+url.QueryEscape(r.Header.Get("access_token")), http.StatusFound)
			return
		case FaultWhole:
			r.Header.Del("Range")
		}
	}
	w.Header().Set("Content-Type", "audio/mpeg")
	w.Header().Set("ETag", strconv.Quote(c.CallID))
	http.ServeContent(w, r, c.RecordingFile, c.EndedAt, bytes.NewReader(Audio(c)))
}

// Audio is the recording of a call: an MP3 of silence, as long as the call up to
// a minute, with the callID in its tag.
func Audio(c Call) []byte {
	const frames, longest = 38, 60 // a second; seconds
	title := append([]byte{0}, c.CallID...)
	tag := append([]byte("ID3\x03\x00\x00"), 0, 0, 0, byte(10+len(title)))
	tag = append(tag, "TIT2"...)
	tag = binary.BigEndian.AppendUint32(tag, uint32(len(title)))
	tag = append(append(tag, 0, 0), title...)
	frame := make([]byte, 104) // MPEG 1 layer III, 32 kbit/s, 44.1 kHz, mono
	copy(frame, []byte{0xff, 0xfb, 0x10, 0xc4})
	return append(tag, bytes.Repeat(frame, frames*min(max(c.TalkTime, 1), longest))...)
}
