package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// site of the generated document that embeds the button.
const benchSite = "shop"

// embeds compares the scripts that browsers get with start calls: a page that
// many people open must not cost more than a call. Each has a server of its own,
// so that scripts do not pay for decisions that calls have left to be written.
func (b *bench) embeds(ctx context.Context) error {
	calls, err := startRequests(b.trackers, callerPool)
	if err != nil {
		return err
	}
	ours, err := b.loaded(ctx, b.trackers, routesPerTracker)
	if err != nil {
		return err
	}
	defer ours.stop()
	scripts, err := b.loaded(ctx, b.trackers, routesPerTracker)
	if err != nil {
		return err
	}
	defer scripts.stop()
	tag, err := scriptTag(ctx, scripts.address)
	if err != nil {
		return err
	}
	fresh := embedRequest("")
	cached := embedRequest("If-None-Match: " + tag + "\r\n")
	check := func(_ request, body []byte) error {
		if len(body) == 0 {
			return errors.New("no script")
		}
		return nil
	}
	results, err := b.compete(ctx, []contender{
		{name: "calltracker, startCall", process: ours, clients: share(calls, connections), check: checkAnswer, records: true},
		{name: "calltracker, a site's script", process: scripts, clients: share(repeated(fresh), connections), check: check},
		{name: "calltracker, the same with 304", process: scripts, clients: share(repeated(cached), connections), check: func(_ request, body []byte) error {
			if len(body) > 0 {
				return errors.New("a 304 with a body")
			}
			return nil
		}},
	})
	if err != nil {
		return err
	}
	script := median(results, func(r []result) float64 { return r[1].rate() / r[0].rate() })
	unchanged := median(results, func(r []result) float64 { return r[2].rate() / r[1].rate() })
	b.add("a site's script, requests/s against startCall", fmt.Sprintf("%.2f", script), ">= 0.80", script >= 0.8)
	b.add("a site's script, 304 against 200", fmt.Sprintf("%.2f", unchanged), "> 1.00", unchanged > 1)
	return nil
}

// embedRequest asks for the site's script as a browser does.
func embedRequest(header string) request {
	var wire bytes.Buffer
	fmt.Fprintf(&wire, "GET /webcallback/%s.js HTTP/1.1\r\nHost: calls.example.com\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nReferer: https://shop.example.com/\r\n%s\r\n", benchSite, header)
	return request{wire: wire.Bytes()}
}

// repeated is enough of one request for every connection.
func repeated(r request) []request {
	out := make([]request, connections)
	for i := range out {
		out[i] = request{wire: bytes.Clone(r.wire)}
	}
	return out
}

// scriptTag is the ETag of the site's script.
func scriptTag(ctx context.Context, address string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/webcallback/"+benchSite+".js", http.NoBody)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept-Encoding", "br")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	_ = res.Body.Close()
	tag := res.Header.Get("ETag")
	if res.StatusCode != http.StatusOK || tag == "" {
		return "", fmt.Errorf("the site's script: %s, ETag %q", res.Status, tag)
	}
	return tag, nil
}
