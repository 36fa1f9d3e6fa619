package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// benchSite is the site in the generated document that embeds the button.
const benchSite = "shop"

// embeds compares requests for embedded scripts with start calls: a page view must
// not cost more than a call. Each has its own server, so that writing decisions in
// the background does not slow down script requests.
func (b *bench) embeds(ctx context.Context) error {
	calls, err := startRequests(b.trackers, callerPool)
	if err != nil {
		return err
	}
	callServer, err := b.startConfigured(ctx, b.trackers, routesPerTracker)
	if err != nil {
		return err
	}
	defer callServer.stop()
	scriptServer, err := b.startConfigured(ctx, b.trackers, routesPerTracker)
	if err != nil {
		return err
	}
	defer scriptServer.stop()
	tag, err := scriptTag(ctx, scriptServer.address)
	if err != nil {
		return err
	}
	fresh := embedRequest("")
	cached := embedRequest("If-None-Match: " + tag + "\r\n")
	check := func(_ request, body []byte) error {
		if len(body) == 0 {
			return errors.New("empty script")
		}
		return nil
	}
	results, err := b.runRounds(ctx, []contender{
		{name: "calltracker, startCall", process: callServer, clients: distribute(calls, connections), check: checkAnswer, records: true},
		{name: "calltracker, a site's script", process: scriptServer, clients: distribute(repeated(fresh), connections), check: check},
		{name: "calltracker, a site's script, not modified", process: scriptServer, clients: distribute(repeated(cached), connections), check: func(_ request, body []byte) error {
			if len(body) > 0 {
				return errors.New("304 with a body")
			}
			return nil
		}},
	})
	if err != nil {
		return err
	}
	script := medianOfRounds(results, func(r []result) float64 { return r[1].rate() / r[0].rate() })
	unchanged := medianOfRounds(results, func(r []result) float64 { return r[2].rate() / r[1].rate() })
	b.add("a site's script, requests/s against startCall", fmt.Sprintf("%.2f", script), ">= 0.80", script >= 0.8)
	b.add("a site's script, 304 against 200", fmt.Sprintf("%.2f", unchanged), "> 1.00", unchanged > 1)
	return nil
}

// embedRequest returns the request of a browser for the site's script.
func embedRequest(header string) request {
	var wire bytes.Buffer
	fmt.Fprintf(&wire, "GET /webcallback/%s.js HTTP/1.1\r\nHost: calls.example.com\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\nReferer: https://shop.example.com/\r\n%s\r\n", benchSite, header)
	return request{wire: wire.Bytes()}
}

// repeated returns a copy of a request for every connection.
func repeated(r request) []request {
	out := make([]request, connections)
	for i := range out {
		out[i] = request{wire: bytes.Clone(r.wire)}
	}
	return out
}

// scriptTag returns the ETag of the site's script.
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
		return "", fmt.Errorf("get script of site: %s, ETag %q", res.Status, tag)
	}
	return tag, nil
}
