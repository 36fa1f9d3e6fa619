package main

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestDemonstration(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	d, err := newDemo(ctx, demoCommand{Listen: "127.0.0.1:0", Rate: 600, Seed: 7}, t.TempDir(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	told := &telling{ready: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx, told) }()
	select {
	case <-told.ready:
	case err := <-ended:
		t.Fatalf("it ended: %v", err)
	case <-time.After(2 * time.Minute):
		t.Fatal("it has not told anything")
	}
	get := func(path string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+d.token())
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %v %s", path, res.StatusCode, err, body)
		}
		return string(body)
	}
	if calls := strings.Count(get("/api/v1/calls?limit=1000"), `"callID":"`); calls < demoCalls {
		t.Errorf("%d calls are stored, want %d at least", calls, demoCalls)
	}
	if got := get("/crm/url?site=agents&key=" + demoEmbedKey + "&number=%2B" + d.ziwo.Customers()[0].E164[1:]); !strings.Contains(got, d.ziwo.Customers()[0].Name) {
		t.Errorf("the first customer is not known: %s", got)
	}
	for _, path := range []string{"/sites/shop", "/sites/agents", "/docs/", "/api/v1/connections"} {
		get(path)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// telling is an output that knows when everything was told.
type telling struct {
	text  strings.Builder
	ready chan struct{}
}

func (w *telling) Write(p []byte) (int, error) {
	w.text.Write(p)
	if strings.Contains(string(p), "Be Ziwo:") {
		close(w.ready)
	}
	return len(p), nil
}
