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

// Faults are shares of the calls, from 0 to 1, that something goes wrong with.
type Faults struct {
	Duplicate     float64 // the record is posted twice
	Reorder       float64 // it is overtaken by those of the next minutes
	Delay         float64 // it comes half an hour late or more
	Drop          float64 // it never comes
	Truncate      float64 // it comes cut off
	CutEnd        float64 // the connection breaks while it is sent
	ChangeTypes   float64 // numbers come as text, and so on
	CurlyQuotes   float64 // the JSON has typographic quotes
	NoKey         float64 // it comes without its key
	LateRecording float64 // the recording exists some minutes after the call
	SlowStart     float64 // the start call trickles in
	CutStart      float64 // the connection breaks while it is sent
	StartNoKey    float64 // the start call comes without its key
	Test          float64 // Ziwo's own test is run before the call
}

// EveryFault makes each fault happen to a share of the calls.
func EveryFault(share float64) Faults {
	return Faults{
		Duplicate: share, Reorder: share, Delay: share, Drop: share, Truncate: share, CutEnd: share, ChangeTypes: share,
		CurlyQuotes: share, NoKey: share, LateRecording: share, SlowStart: share, CutStart: share, StartNoKey: share, Test: share,
	}
}

// faults are those of one call.
type faults struct {
	duplicate, drop, lateRecording, changeTypes, curly, test bool

	delay time.Duration // of virtual time
	end   string        // "truncated", "cut" or "no key"
	start string        // "slow start", "cut start" or "start without key"
}

// draw decides the faults of a call. It always takes as many random numbers, so
// that one kind of fault does not change the others.
func (f Faults) draw(rng *rand.Rand) faults {
	hit := func(share float64) bool { return rng.Float64() < share }
	out := faults{
		duplicate: hit(f.Duplicate), drop: hit(f.Drop), lateRecording: hit(f.LateRecording), changeTypes: hit(f.ChangeTypes),
		curly: hit(f.CurlyQuotes), test: hit(f.Test),
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

// names are the faults of the end call.
func (f faults) names() []string {
	var out []string
	for name, is := range map[string]bool{
		"duplicate": f.duplicate && !f.drop, "dropped": f.drop, "late recording": f.lateRecording, "changed types": f.changeTypes && !f.drop,
		"curly quotes": f.curly && !f.drop, "delayed": f.delay >= 30*time.Minute && !f.drop, "reordered": f.delay > 0 && f.delay < 30*time.Minute && !f.drop,
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

func (f faults) with(end string) faults {
	f.end = end
	return f
}

// write is the record as it is posted.
func (f faults) write(body []byte, rng *rand.Rand) []byte {
	if f.changeTypes {
		body = changeTypes(body)
	}
	if f.curly {
		body = curly(body)
	}
	if f.end == "truncated" {
		body = body[:len(body)*(30+rng.IntN(60))/100]
	}
	return body
}

// changeTypes turns numbers and booleans at the top of a record into text, as
// one of Ziwo's versions does with one and one with another.
func changeTypes(body []byte) []byte {
	var record map[string]any
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	if err := decoder.Decode(&record); err != nil { // it is ours
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

// curly replaces the quotes by the opening and closing ones of a word processor.
// No text of ours has a quote in it.
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

// Timeouts of Ziwo's requests when the tracker has none.
const defaultTimeout = 10 * time.Second

func timeout(milliseconds int) time.Duration {
	if milliseconds <= 0 {
		return defaultTimeout
	}
	return time.Duration(milliseconds) * time.Millisecond
}

// askStart sends a start call, as a multipart form. Only didCalled is documented
// of it; the caller and the id of the call are what a routing server needs, and
// are likely to be there.
func (z *Ziwo) askStart(ctx context.Context, t Tracker, c *Call, f faults) startAnswer {
	ctx, cancel := context.WithTimeout(ctx, timeout(t.StartTimeout))
	defer cancel()
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	for _, field := range [][2]string{{"didCalled", c.RawDID}, {"callerIDNumber", c.RawCaller}, {"callerIDName", c.CallerName}, {"callID", c.CallID}} {
		_ = w.WriteField(field[0], field[1]) // into memory
	}
	_ = w.Close()
	body := form.Bytes()
	var sent io.Reader = bytes.NewReader(body)
	switch f.start {
	case "slow start":
		sent = io.MultiReader(bytes.NewReader(body[:len(body)/2]), pause{ctx}, bytes.NewReader(body[len(body)/2:]))
	case "cut start":
		sent = io.MultiReader(bytes.NewReader(body[:len(body)/3]), broken{})
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
	status, answer := z.exchange(req)
	return z.readStart(c.RawDID, status, answer)
}

// postEnd sends a record.
func (z *Ziwo) postEnd(ctx context.Context, t Tracker, body []byte, f faults) Delivery {
	ctx, cancel := context.WithTimeout(ctx, timeout(t.EndTimeout))
	defer cancel()
	var sent io.Reader = bytes.NewReader(body)
	if f.end == "cut" {
		sent = io.MultiReader(bytes.NewReader(body[:len(body)/2]), broken{})
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
	status, _ := z.exchange(req)
	return Delivery{Fault: f.end, Status: status}
}

// exchange sends a request; status 0 is no answer.
func (z *Ziwo) exchange(req *http.Request) (status int, body []byte) {
	res, err := z.client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	const most = 1 << 20
	if body, err = io.ReadAll(io.LimitReader(res.Body, most)); err != nil {
		return 0, nil
	}
	return res.StatusCode, body
}

// broken is a body that ends before its time.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the line broke") }

// pause lets a moment pass in the middle of a body.
type pause struct{ ctx context.Context } //nolint:containedctx // a reader is given none

func (p pause) Read([]byte) (int, error) {
	const moment = 30 * time.Millisecond
	timer := time.NewTimer(moment)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.ctx.Done():
	}
	return 0, io.EOF
}
