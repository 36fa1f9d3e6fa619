package ziwotest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Faults are the shares of calls, from 0 to 1, that have each fault.
type Faults struct {
	Duplicate     float64 // the CDR is posted twice
	Reorder       float64 // the CDR is posted after those of the next minutes
	Delay         float64 // the CDR is posted at least half an hour late
	Drop          float64 // the CDR is never posted
	Truncate      float64 // the CDR is truncated
	CutEnd        float64 // the connection breaks during the end call
	ChangeTypes   float64 // values have other JSON types, such as numbers as strings
	CurlyQuotes   float64 // the JSON has typographic quotes
	NoKey         float64 // the end call has no API key
	LateRecording float64 // the recording appears minutes after the call
	SlowStart     float64 // the start call arrives slowly
	CutStart      float64 // the connection breaks during the start call
	StartNoKey    float64 // the start call has no API key
	Test          float64 // Ziwo's own test runs before the call
}

// EveryFault returns Faults with the same share of each fault.
func EveryFault(share float64) Faults {
	return Faults{
		Duplicate: share, Reorder: share, Delay: share, Drop: share, Truncate: share, CutEnd: share, ChangeTypes: share,
		CurlyQuotes: share, NoKey: share, LateRecording: share, SlowStart: share, CutStart: share, StartNoKey: share, Test: share,
	}
}

// callFaults are the faults of one call.
type callFaults struct {
	duplicate, drop, lateRecording, changeTypes, curlyQuotes, test bool

	delay time.Duration // delay of the CDR in virtual time
	end   string        // "truncated", "cut", or "no key"
	start string        // "slow start", "cut start", or "start without key"
}

// draw draws the faults of a call. It always consumes the same number of random
// numbers, so that the share of one fault does not change the others.
func (f Faults) draw(rng *rand.Rand) callFaults {
	hit := func(share float64) bool { return rng.Float64() < share }
	out := callFaults{
		duplicate: hit(f.Duplicate), drop: hit(f.Drop), lateRecording: hit(f.LateRecording), changeTypes: hit(f.ChangeTypes),
		curlyQuotes: hit(f.CurlyQuotes), test: hit(f.Test),
	}
	reorder, delay := hit(f.Reorder), hit(f.Delay)
	minutes := time.Duration(rng.IntN(9*60)) * time.Second
	switch {
	case delay:
		out.delay = 30*time.Minute + 4*minutes
	case reorder:
		out.delay = time.Second + minutes
	}
	for _, e := range []struct {
		share float64
		name  string
		to    *string
	}{
		{f.Truncate, "truncated", &out.end}, {f.CutEnd, "cut", &out.end}, {f.NoKey, "no key", &out.end},
		{f.SlowStart, "slow start", &out.start}, {f.CutStart, "cut start", &out.start}, {f.StartNoKey, "start without key", &out.start},
	} {
		if hit(e.share) {
			*e.to = e.name
		}
	}
	return out
}

// names returns the names of the faults of the end call.
func (f callFaults) names() []string {
	var out []string
	for name, is := range map[string]bool{
		"duplicate": f.duplicate && !f.drop, "dropped": f.drop, "late recording": f.lateRecording, "changed types": f.changeTypes && !f.drop,
		"curly quotes": f.curlyQuotes && !f.drop, "delayed": f.delay >= 30*time.Minute && !f.drop, "reordered": f.delay > 0 && f.delay < 30*time.Minute && !f.drop,
	} {
		if is {
			out = append(out, name)
		}
	}
	if f.end != "" && !f.drop {
		out = append(out, f.end)
	}
	return out
}

// with returns f with another fault of the end call.
func (f callFaults) with(end string) callFaults {
	f.end = end
	return f
}

// apply returns the body of a CDR with its faults.
func (f callFaults) apply(body []byte, rng *rand.Rand) []byte {
	if f.changeTypes {
		body = changeTypes(body)
	}
	if f.curlyQuotes {
		body = curly(body)
	}
	if f.end == "truncated" {
		body = body[:len(body)*(30+rng.IntN(60))/100]
	}
	return body
}

// changeTypes converts the numbers and booleans at the top of a CDR to strings, as
// different versions of Ziwo do.
func changeTypes(body []byte) []byte {
	var record map[string]any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&record); err != nil { // impossible: body is from encode
		panic(err)
	}
	for name, v := range record {
		switch v := v.(type) {
		case json.Number:
			record[name] = v.String()
		case bool:
			record[name] = strconv.FormatBool(v)
		case nil:
			record[name] = "unknown"
		}
	}
	return encode(record)
}

// curly replaces straight quotes with typographic ones. The simulated values
// contain no quotes.
func curly(body []byte) []byte {
	parts := strings.Split(string(body), `"`)
	var out strings.Builder
	for i, part := range parts {
		if i > 0 {
			if i%2 == 1 {
				out.WriteString("“")
			} else {
				out.WriteString("”")
			}
		}
		out.WriteString(part)
	}
	return []byte(out.String())
}

// defaultTimeout is the timeout of Ziwo's requests if the tracker has none.
const defaultTimeout = 10 * time.Second

// timeout returns the timeout of a tracker.
func timeout(milliseconds int) time.Duration {
	if milliseconds <= 0 {
		return defaultTimeout
	}
	return time.Duration(milliseconds) * time.Millisecond
}

// sendStart sends a start call as a multipart form. Ziwo documents only didCalled. A
// routing server also needs the caller and the call ID, which Ziwo probably sends.
func (z *Ziwo) sendStart(ctx context.Context, t Tracker, c *Call, f callFaults) startAnswer {
	ctx, cancel := context.WithTimeout(ctx, timeout(t.StartTimeout))
	defer cancel()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for _, field := range [][2]string{{"didCalled", c.RawDID}, {"callerIDNumber", c.RawCaller}, {"callerIDName", c.CallerName}, {"callID", c.CallID}} {
		_ = w.WriteField(field[0], field[1]) // writing to memory does not fail
	}
	_ = w.Close()
	body := form.Bytes()
	var sent io.Reader = bytes.NewReader(body)
	switch f.start {
	case "slow start":
		sent = io.MultiReader(bytes.NewReader(body[:len(body)/2]), pauseReader{ctx}, bytes.NewReader(body[len(body)/2:]))
	case "cut start":
		sent = io.MultiReader(bytes.NewReader(body[:len(body)/3]), brokenReader{})
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.StartRequestURL, sent)
	if err != nil {
		return startAnswer{violation: err.Error()}
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("Content-Type", w.FormDataContentType())
	if t.StartRequestKey != "" && f.start != "start without key" {
		req.Header.Set("X-API-Key", t.StartRequestKey)
	}
	status, answer := z.roundTrip(req)
	return z.parseStartAnswer(c.RawDID, status, answer)
}

// sendEnd posts a CDR.
func (z *Ziwo) sendEnd(ctx context.Context, t Tracker, body []byte, f callFaults) Delivery {
	ctx, cancel := context.WithTimeout(ctx, timeout(t.EndTimeout))
	defer cancel()
	var sent io.Reader = bytes.NewReader(body)
	if f.end == "cut" {
		sent = io.MultiReader(bytes.NewReader(body[:len(body)/2]), brokenReader{})
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.EndRequestURL, sent)
	if err != nil {
		return Delivery{Fault: f.end}
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("Content-Type", "application/json")
	if t.EndRequestKey != "" && f.end != "no key" {
		req.Header.Set("X-API-Key", t.EndRequestKey)
	}
	status, _ := z.roundTrip(req)
	return Delivery{Fault: f.end, Status: status}
}

// roundTrip sends a request. The status is 0 if there is no response.
func (z *Ziwo) roundTrip(req *http.Request) (status int, body []byte) {
	res, err := z.client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	const maxBody = 1 << 20
	if body, err = io.ReadAll(io.LimitReader(res.Body, maxBody)); err != nil {
		return 0, nil
	}
	return res.StatusCode, body
}

// brokenReader is a body that fails.
type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, errors.New("connection broken") }

// pauseReader is an empty body that ends after a short pause.
type pauseReader struct{ ctx context.Context } //nolint:containedctx // Read has no context

func (p pauseReader) Read([]byte) (int, error) {
	const pause = 30 * time.Millisecond
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.ctx.Done():
	}
	return 0, io.EOF
}
