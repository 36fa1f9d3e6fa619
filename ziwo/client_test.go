package ziwo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"calltracker/ziwo"
	"calltracker/ziwo/ziwotest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, time.March, 3, 12, 0, 0, 0, time.UTC)

// newZiwo starts a Ziwo and returns it with a client.
func newZiwo(t testing.TB, edit ...func(*ziwo.ClientOptions)) (*ziwotest.Ziwo, *ziwo.Client) {
	t.Helper()
	z := ziwotest.New(ziwotest.Options{})
	server := httptest.NewServer(z)
	t.Cleanup(server.Close)
	return z, newClient(t, server.URL, z, edit...)
}

// newClient returns a client for baseURL with the credentials of z, if any.
func newClient(t testing.TB, baseURL string, z *ziwotest.Ziwo, edit ...func(*ziwo.ClientOptions)) *ziwo.Client {
	t.Helper()
	o := ziwo.ClientOptions{BaseURL: baseURL, Rate: 10_000, Backoff: time.Millisecond}
	if z != nil {
		username, password, key := z.Credentials()
		o.Credentials = ziwo.Credentials{Username: username, Password: password, APIKey: key}
	}
	for _, e := range edit {
		e(&o)
	}
	c, err := ziwo.NewClient(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestTokenIsReusedUntilRejected(t *testing.T) {
	z, c := newZiwo(t)
	for range 5 {
		if _, err := c.Profile(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if z.Logins() != 1 {
		t.Errorf("%d logins for five requests, want 1", z.Logins())
	}
	z.ExpireTokens()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := c.Profile(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if z.Logins() != 2 {
		t.Errorf("%d logins after the token expired during eight concurrent requests, want 2", z.Logins())
	}
}

func TestWritesAreOnlyRepeatedAfterALogin(t *testing.T) {
	z, c := newZiwo(t)
	if _, err := c.Profile(t.Context()); err != nil {
		t.Fatal(err)
	}
	z.ExpireTokens()
	if err := c.CreateTracker(t.Context(), ziwo.Tracker{Name: "a", StartRequestURL: "https://x.example/s", EndRequestURL: "https://x.example/e"}); err != nil {
		t.Fatal(err)
	}
	z.AddFault(ziwotest.Fault{Kind: ziwotest.Fault500, Path: "/admin", Times: 1})
	if err := c.DeleteTracker(t.Context(), "a"); ziwo.KindOf(err) != ziwo.Unavailable {
		t.Errorf("DeleteTracker: got %v, want kind %s", err, ziwo.Unavailable)
	}
	if len(z.Trackers()) != 1 {
		t.Errorf("%d trackers, want 1", len(z.Trackers()))
	}
}

func TestRejectedLoginIsNotRepeatedAtOnce(t *testing.T) {
	now := noon
	z, c := newZiwo(t, func(o *ziwo.ClientOptions) {
		o.Credentials.Password = "wrong-password-1"
		o.Now = func() time.Time { return now }
	})
	for range 3 {
		if _, err := c.Trackers(t.Context()); ziwo.KindOf(err) != ziwo.Unauthorized {
			t.Fatalf("got %v, want kind %s", err, ziwo.Unauthorized)
		}
	}
	if n := z.Requests("POST /auth/login"); n != 1 {
		t.Errorf("%d logins with a wrong password, want 1", n)
	}
	now = now.Add(2 * time.Minute)
	if _, err := c.Trackers(t.Context()); ziwo.KindOf(err) != ziwo.Unauthorized {
		t.Fatal(err)
	}
	if n := z.Requests("POST /auth/login"); n != 2 {
		t.Errorf("%d logins after the pause, want 2", n)
	}
}

func TestAccessTokenNeedsNoLogin(t *testing.T) {
	z, c := newZiwo(t, func(o *ziwo.ClientOptions) { o.Credentials = ziwo.Credentials{AccessToken: "expired-token"} })
	if _, err := c.Profile(t.Context()); ziwo.KindOf(err) != ziwo.Unauthorized || !strings.Contains(err.Error(), "access_token") {
		t.Errorf("got %v, want kind %s and a message about access_token", err, ziwo.Unauthorized)
	}
	if z.Requests("POST /auth/login") != 0 {
		t.Error("the client sent a login without a password")
	}
}

func TestErrorKinds(t *testing.T) {
	for _, c := range []struct {
		fault    ziwotest.FaultKind
		kind     ziwo.ErrorKind
		attempts int
	}{
		{ziwotest.FaultHTML, ziwo.Unreadable, 3},
		{ziwotest.FaultEmpty, ziwo.Unreadable, 3},
		{ziwotest.FaultTruncatedJSON, ziwo.Unreadable, 3},
		{ziwotest.FaultUnexpectedJSON, ziwo.Unreadable, 3},
		{ziwotest.FaultRejected, ziwo.Rejected, 1},
		{ziwotest.Fault429, ziwo.RateLimited, 3},
		{ziwotest.Fault500, ziwo.Unavailable, 3},
		{ziwotest.FaultAbort, ziwo.Unavailable, 0}, // net/http itself may retry
		{ziwotest.FaultHang, ziwo.Unavailable, 3},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			z, client := newZiwo(t, func(o *ziwo.ClientOptions) { o.Timeout = 100 * time.Millisecond })
			if c.fault != ziwotest.FaultHang {
				client = newClient(t, "http://"+client.Host(), z)
			}
			if _, err := client.Profile(t.Context()); err != nil {
				t.Fatal(err)
			}
			z.AddFault(ziwotest.Fault{Kind: c.fault, Path: "/callHistory"})
			_, err := client.CallHistory(t.Context(), ziwo.HistoryQuery{Limit: 10})
			if ziwo.KindOf(err) != c.kind {
				t.Errorf("got %v, want kind %s", err, c.kind)
			}
			if n := z.Requests("GET /callHistory/{$}"); c.attempts > 0 && n != c.attempts {
				t.Errorf("%d requests, want %d", n, c.attempts)
			}
			z.ClearFaults()
			if _, err := client.CallHistory(t.Context(), ziwo.HistoryQuery{Limit: 10}); err != nil {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
}

func TestRetryAfterIsBounded(t *testing.T) {
	z, c := newZiwo(t)
	z.AddFault(ziwotest.Fault{Kind: ziwotest.Fault429, Path: "/profile", RetryAfter: "3600"})
	_, err := c.Profile(t.Context())
	var failure *ziwo.APIError
	if !errors.As(err, &failure) || failure.RetryAfter != time.Hour || z.Requests("GET /profile") != 1 {
		t.Errorf("got %v after %d requests, want a Retry-After of one hour after one request", err, z.Requests("GET /profile"))
	}
	z.ClearFaults()
	z.AddFault(ziwotest.Fault{Kind: ziwotest.Fault429, Path: "/profile", RetryAfter: "0", Times: 1})
	if _, err := c.Profile(t.Context()); err != nil {
		t.Error(err)
	}
	z.AddFault(ziwotest.Fault{Kind: ziwotest.Fault429, Path: "/profile", RetryAfter: "10", Times: 1})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := c.Profile(ctx); ziwo.KindOf(err) != ziwo.RateLimited {
		t.Errorf("Retry-After beyond the deadline: got %v, want kind %s", err, ziwo.RateLimited)
	}
}

func TestErrorsContainNoSecrets(t *testing.T) {
	secrets := []string{"user-secret", "password-secret", "api-key-secret", "token-secret-123"}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/auth/login" {
			_, _ = io.WriteString(w, `{"result":true,"content":{"access_token":"token-secret-123"},"info":{}}`)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"result":false,"error":{"message":"no: %s %s password-secret\n%s"}}`, r.Header.Get("access_token"), r.Header.Get("api_key"), strings.Repeat("x", 1000))
	}))
	t.Cleanup(server.Close)
	credentials := ziwo.Credentials{Username: secrets[0], Password: secrets[1], APIKey: secrets[2]}
	c := newClient(t, server.URL, nil, func(o *ziwo.ClientOptions) { o.Credentials = credentials })
	_, err := c.Trackers(t.Context())
	_, err2 := c.ClickToCall(t.Context(), "0011", "0033612345678")
	server.Close()
	_, err3 := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: "a"})
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Error("failed", slog.Any("error", err), slog.Any("credentials", credentials))
	for _, text := range []string{err.Error(), err2.Error(), err3.Error(), log.String(), fmt.Sprintf("%v %+v %#v", credentials, credentials, credentials)} {
		for _, secret := range secrets[1:] {
			if strings.Contains(text, secret) {
				t.Errorf("%q contains a secret", text)
			}
		}
		if len(text) > 2000 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is too long or has several lines", text)
		}
	}
}

func TestRedirectDoesNotLeakToken(t *testing.T) {
	var leaked atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("access_token") != "" {
			leaked.Store(true)
		}
		w.Header().Set("Content-Type", "audio/mpeg")
		_, _ = io.WriteString(w, "sound")
	}))
	t.Cleanup(elsewhere.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }))
	t.Cleanup(server.Close)
	c := newClient(t, server.URL, nil, func(o *ziwo.ClientOptions) { o.Credentials = ziwo.Credentials{AccessToken: "the-token"} })
	if _, err := c.Profile(t.Context()); ziwo.KindOf(err) != ziwo.Rejected {
		t.Errorf("redirect of the API: got %v, want kind %s", err, ziwo.Rejected)
	}
	recording, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(recording.Body)
	if err != nil || string(body) != "sound" || recording.Body.Close() != nil {
		t.Errorf("got recording %q and error %v", body, err)
	}
	if leaked.Load() {
		t.Error("the client sent the token to another host")
	}
}

func TestTrackers(t *testing.T) {
	z, c := newZiwo(t)
	want := ziwo.Tracker{
		Name: "sales", StartRequestURL: "https://calls.example.com/callTrackers/sales/startCall", StartRequestKey: "start", StartTimeout: 4 * time.Second,
		EndRequestURL: "https://calls.example.com/callTrackers/sales/endCall", EndRequestKey: "end", EndTimeout: 9 * time.Second, ErrorPlayback: "hash-1",
	}
	if list, err := c.Trackers(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("Trackers of a new contact center: got %v, %v", list, err)
	}
	if err := c.CreateTracker(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTracker(t.Context(), want); ziwo.KindOf(err) != ziwo.Rejected || !strings.Contains(err.Error(), "taken") {
		t.Errorf("duplicate name: got %v, want kind %s", err, ziwo.Rejected)
	}
	list, err := c.Trackers(t.Context()) // Ziwo sends a single tracker as an object
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	want.ID, want.Blocked = list[0].ID, new(bool)
	if diff := cmp.Diff(want, list[0]); diff != "" {
		t.Errorf("created tracker (-want +got):\n%s", diff)
	}
	want.StartRequestKey, want.EndTimeout = "", 8*time.Second
	if err := c.UpdateTracker(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := c.BlockTracker(t.Context(), "sales"); err != nil {
		t.Fatal(err)
	}
	*want.Blocked = true
	got, err := c.Tracker(t.Context(), want.ID)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("updated tracker: %v (-want +got)\n%s", err, diff)
	}
	if err := c.UnblockTracker(t.Context(), want.ID); err != nil || z.Trackers()[0].Blocked {
		t.Errorf("unblock: %v", err)
	}
	for i := range 120 { // more than a page
		z.AddTracker(ziwotest.Tracker{Name: "t" + strconv.Itoa(i), StartRequestURL: "https://x.example", EndRequestURL: "https://x.example"})
	}
	if list, err = c.Trackers(t.Context()); err != nil || len(list) != 121 {
		t.Errorf("got %d trackers and error %v, want 121", len(list), err)
	}
	if err := c.DeleteTracker(t.Context(), "t3"); err != nil || len(z.Trackers()) != 120 {
		t.Errorf("delete: %v", err)
	}
	if _, err := c.Tracker(t.Context(), "9999"); ziwo.KindOf(err) != ziwo.NotFound {
		t.Errorf("unknown tracker: got %v, want kind %s", err, ziwo.NotFound)
	}
}

func TestTestTracker(t *testing.T) {
	var status atomic.Int32
	status.Store(200)
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(int(status.Load()))
		_, _ = fmt.Fprintf(w, `{"result":true,"content":{"didCalled":%q,"rules":[]},"info":{}}`, r.FormValue("didCalled"))
	}))
	t.Cleanup(ours.Close)
	z, c := newZiwo(t)
	id := strconv.Itoa(z.AddTracker(ziwotest.Tracker{Name: "a", StartRequestURL: ours.URL, EndRequestURL: ours.URL}))
	if test, err := c.TestTracker(t.Context(), id); err != nil || !test.OK {
		t.Errorf("%+v, %v", test, err)
	}
	status.Store(401)
	if test, err := c.TestTracker(t.Context(), id); err != nil || test.OK || test.Message == "" {
		t.Errorf("failed test: %+v, %v", test, err)
	}
}

func TestListShapes(t *testing.T) {
	const one, two = `{"id":1,"name":"a"}`, `{"id":"46:2","name":"b","startRequestTimeout":"2500","status":"blocked"}`
	for name, body := range map[string]string{
		"array":           `{"result":true,"content":[` + one + `,` + two + `],"info":{"total":2}}`,
		"totalRecords":    `{"result":true,"content":[` + one + `,` + two + `],"info":{"totalRecords":"2"}}`,
		"array in object": `{"result":true,"content":{"callTrackers":[` + one + `,` + two + `],"total":2},"info":{}}`,
		"object by id":    `{"result":true,"content":{"1":` + one + `,"46:2":` + two + `},"info":{"total":2}}`,
		"bare array":      `[` + one + `,` + two + `]`,
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
			defer server.Close()
			c := newClient(t, server.URL, nil, func(o *ziwo.ClientOptions) { o.Credentials = ziwo.Credentials{AccessToken: "t"} })
			list, err := c.Trackers(t.Context())
			if err != nil || len(list) != 2 || list[0].ID != "1" || list[0].Blocked != nil || list[1].ID != "46:2" ||
				list[1].StartTimeout != 2500*time.Millisecond || !*list[1].Blocked {
				t.Errorf("%v, %v", list, err)
			}
		})
	}
}

// makeCalls returns n calls that start step apart, the first at noon.
func makeCalls(n int, step time.Duration) []ziwotest.Call {
	calls := make([]ziwotest.Call, n)
	for i := range calls {
		at := noon.Add(time.Duration(i) * step)
		id := fmt.Sprintf("call-%06d", i)
		calls[i] = ziwotest.Call{
			CallID: id, Direction: "inbound", RawDID: "042345678", RawCaller: "0501234567", StartedAt: at, AnsweredAt: at.Add(5 * time.Second),
			EndedAt: at.Add(25 * time.Second), Duration: 25, RingTime: 5, TalkTime: 20, Result: "answered", HangupCause: "NORMAL_CLEARING", RecordingFile: id + ".mp3",
		}
	}
	return calls
}

func TestWalkHistory(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to time.Duration // relative to noon
		page     int           // largest page of the server
		requests int           // maximum number of requests
	}{
		{"newest hour of three days", 71 * time.Hour, 72 * time.Hour, 1000, 1},
		{"everything", -time.Hour, 100 * time.Hour, 1000, 9},
		{"day in the middle", 24 * time.Hour, 48 * time.Hour, 1000, 10},
		{"oldest hour", 0, time.Hour, 1000, 9},
		{"small pages", 60 * time.Hour, 72 * time.Hour, 300, 5},
		{"no calls", 200 * time.Hour, 201 * time.Hour, 1000, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			z := ziwotest.New(ziwotest.Options{HistoryPage: c.page})
			server := httptest.NewServer(z)
			defer server.Close()
			z.SetNow(noon.Add(1000 * time.Hour))
			const n, step = 8640, 30 * time.Second // three days
			z.AddCalls(makeCalls(n, step)...)
			client := newClient(t, server.URL, z)
			from, to := noon.Add(c.from), noon.Add(c.to)
			seen := map[string]bool{}
			last := time.Time{}
			stats, err := client.WalkHistory(t.Context(), from, to, func(page []ziwo.HistoryRecord) error {
				for _, r := range page {
					if seen[r.CDR.CallID] {
						t.Fatalf("call %s was passed twice", r.CDR.CallID)
					}
					seen[r.CDR.CallID] = true
					if !last.IsZero() && r.CDR.StartedAt.After(last) {
						t.Fatal("the calls are not newest first")
					}
					last = r.CDR.StartedAt
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			for i := range n {
				if at := noon.Add(time.Duration(i) * step); !at.Before(from) && at.Before(to) {
					want++
				}
			}
			if len(seen) != want {
				t.Errorf("%d calls, want %d", len(seen), want)
			}
			if stats.Requests > c.requests {
				t.Errorf("%d requests, want at most %d", stats.Requests, c.requests)
			}
		})
	}
}

// serveHistory returns a client of a call history with the records of serve.
func serveHistory(t *testing.T, serve func(skip, limit int) (records []ziwotest.Call, info string)) *ziwo.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		skip, _ := strconv.Atoi(r.FormValue("skip"))
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		calls, info := serve(skip, limit)
		var items []string
		for _, c := range calls {
			items = append(items, fmt.Sprintf(`{"callID":%q,"startedAt":%q,"endedAt":%q}`, c.CallID, c.StartedAt.Format(time.RFC3339), c.EndedAt.Format(time.RFC3339)))
		}
		_, _ = fmt.Fprintf(w, `{"result":true,"content":[%s],"info":%s}`, strings.Join(items, ","), info)
	}))
	t.Cleanup(server.Close)
	return newClient(t, server.URL, nil, func(o *ziwo.ClientOptions) { o.Credentials = ziwo.Credentials{AccessToken: "t"} })
}

func TestWalkHistoryOldestFirst(t *testing.T) {
	calls := makeCalls(3000, time.Minute) // oldest first
	for name, info := range map[string]string{"with total": `{"total":3000}`, "without total": `{}`} {
		t.Run(name, func(t *testing.T) {
			c := serveHistory(t, func(skip, limit int) ([]ziwotest.Call, string) {
				skip = min(skip, len(calls))
				return calls[skip:min(skip+limit, len(calls))], info
			})
			seen := map[string]bool{}
			_, err := c.WalkHistory(t.Context(), noon.Add(10*time.Hour), noon.Add(20*time.Hour), func(page []ziwo.HistoryRecord) error {
				for _, r := range page {
					seen[r.CDR.CallID] = true
				}
				return nil
			})
			if err != nil || len(seen) != 600 {
				t.Errorf("got %d calls and error %v, want 600", len(seen), err)
			}
		})
	}
}

func TestWalkHistoryWithoutOffsets(t *testing.T) {
	calls := makeCalls(100, -time.Minute)
	c := serveHistory(t, func(int, int) ([]ziwotest.Call, string) { return calls, `{}` })
	seen := 0
	stats, err := c.WalkHistory(t.Context(), noon.Add(-24*time.Hour), noon.Add(time.Hour), func(page []ziwo.HistoryRecord) error {
		seen += len(page)
		return nil
	})
	if err != nil || seen != 100 || stats.Requests > 3 {
		t.Errorf("got %d calls in %d requests and error %v, want 100 calls in at most 3", seen, stats.Requests, err)
	}
}

func TestWalkHistoryUnreadable(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		_, _ = io.WriteString(w, `{"result":true,"content":[{"weather":"fine"}],"info":{}}`)
	}))
	t.Cleanup(server.Close)
	c := newClient(t, server.URL, nil, func(o *ziwo.ClientOptions) { o.Credentials = ziwo.Credentials{AccessToken: "t"} })
	stats, err := c.WalkHistory(t.Context(), noon, noon.Add(time.Hour), func([]ziwo.HistoryRecord) error { return nil })
	if err != nil || requests > 3 || stats.Unreadable == 0 {
		t.Errorf("got %d requests, %+v and error %v, want at most 3 requests and unreadable items", requests, stats, err)
	}
}

func TestWalkHistoryDuringArrivals(t *testing.T) {
	calls := makeCalls(5000, -time.Minute) // newest first
	arrived := 0
	c := serveHistory(t, func(skip, limit int) ([]ziwotest.Call, string) {
		arrived += 7 // new calls before each page
		all := append(make([]ziwotest.Call, 0, len(calls)+arrived), calls...)
		for i := range arrived {
			all = append([]ziwotest.Call{{CallID: "new-" + strconv.Itoa(i), StartedAt: noon.Add(time.Duration(i) * time.Second), EndedAt: noon.Add(time.Hour)}}, all...)
		}
		skip = min(skip, len(all))
		return all[skip:min(skip+limit, len(all))], fmt.Sprintf(`{"total":%d}`, len(all))
	})
	seen := map[string]bool{}
	from, to := noon.Add(-4000*time.Minute), noon.Add(-2000*time.Minute)
	_, err := c.WalkHistory(t.Context(), from, to, func(page []ziwo.HistoryRecord) error {
		for _, r := range page {
			seen[r.CDR.CallID] = true
		}
		return nil
	})
	if err != nil || len(seen) != 2000 {
		t.Errorf("got %d calls and error %v, want 2000", len(seen), err)
	}
}

func TestRecordingStyles(t *testing.T) {
	for _, style := range ziwo.RecordingStyles() {
		t.Run(string(style), func(t *testing.T) {
			z, c := newZiwo(t, func(o *ziwo.ClientOptions) { o.Recordings = []ziwo.RecordingStyle{style} })
			call := makeCalls(1, 0)[0]
			z.AddCalls(call)
			z.SetNow(noon.Add(time.Hour))
			get := func(q ziwo.RecordingQuery) (*ziwo.Recording, string) {
				t.Helper()
				recording, err := c.Recording(t.Context(), q)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(recording.Body)
				if err != nil || recording.Body.Close() != nil {
					t.Fatal(err)
				}
				return recording, string(body)
			}
			sound := string(ziwotest.Audio(call))
			recording, body := get(ziwo.RecordingQuery{CallID: call.CallID})
			if body != sound || recording.Partial || recording.ContentType != "audio/mpeg" || recording.ContentLength != int64(len(sound)) || recording.Style != style {
				t.Errorf("got %d bytes, want %d: %+v", len(body), len(sound), recording)
			}
			part, body := get(ziwo.RecordingQuery{CallID: call.CallID, Range: "bytes=3-9"})
			if body != sound[3:10] || !part.Partial || part.ContentRange != fmt.Sprintf("bytes 3-9/%d", len(sound)) {
				t.Errorf("range: got %d bytes: %+v", len(body), part)
			}
			z.ExpireTokens()
			if _, body = get(ziwo.RecordingQuery{CallID: call.CallID}); body != sound {
				t.Error("the recording differs after the token expired")
			}
			_, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: call.CallID, Range: "bytes=99999999-"})
			var failure *ziwo.APIError
			if !errors.As(err, &failure) || failure.Status != http.StatusRequestedRangeNotSatisfiable {
				t.Errorf("unsatisfiable range: got %v, want status 416", err)
			}
			if _, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: "none"}); ziwo.KindOf(err) != ziwo.NotFound {
				t.Errorf("unknown recording: got %v, want kind %s", err, ziwo.NotFound)
			}
		})
	}
}

func TestCTIAndLive(t *testing.T) {
	z, c := newZiwo(t)
	z.SetNow(noon)
	agent := z.Agents()[0]
	if _, ok, err := c.AgentCall(t.Context(), agent.CCLogin); ok || err != nil {
		t.Errorf("AgentCall before the call: got %v, %v", ok, err)
	}
	id, err := c.ClickToCall(t.Context(), agent.CCLogin, "00971501234567")
	if err != nil || id == "" {
		t.Fatal(id, err)
	}
	z.SetNow(noon.Add(20 * time.Second))
	call, ok, err := c.AgentCall(t.Context(), agent.CCLogin)
	if err != nil || !ok || call.CallID != id || call.Direction != "outbound" || call.Number != "00971501234567" || !call.CreatedAt.Equal(noon) || call.State != "active" {
		t.Errorf("AgentCall: got %+v, %v, %v", call, ok, err)
	}
	agents, err := c.LiveAgents(t.Context())
	if err != nil || len(agents) != len(z.Agents()) || agents[0].CCLogin != agent.CCLogin || agents[0].Call == nil || agents[0].Call.CallID != id || agents[1].Call != nil {
		t.Errorf("LiveAgents: got %+v, %v", agents, err)
	}
	monitoringID, err := c.Eavesdrop(t.Context(), agent.CCLogin, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Whisper(t.Context(), monitoringID, ziwo.WhisperAgent); err != nil || z.WhisperTarget(monitoringID) != "agent" {
		t.Errorf("whisper: got target %q and error %v, want agent", z.WhisperTarget(monitoringID), err)
	}
	if err := c.Whisper(t.Context(), monitoringID, "everybody"); err == nil {
		t.Error("Whisper accepted an invalid target")
	}
	if _, err := c.ClickToCall(t.Context(), agent.CCLogin, "0501234567"); ziwo.KindOf(err) != ziwo.Rejected {
		t.Errorf("national number: got %v, want kind %s", err, ziwo.Rejected)
	}
	if _, err := c.ClickToCall(t.Context(), "9999", "00971501234567"); ziwo.KindOf(err) != ziwo.NotFound {
		t.Errorf("unknown agent: got %v, want kind %s", err, ziwo.NotFound)
	}
	without := newClient(t, "http://"+c.Host(), nil)
	if _, err := without.ClickToCall(t.Context(), agent.CCLogin, "00971501234567"); ziwo.KindOf(err) != ziwo.Unauthorized {
		t.Errorf("no API key: got %v, want kind %s", err, ziwo.Unauthorized)
	}
}

func TestTrackerLogs(t *testing.T) {
	z, c := newZiwo(t)
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"result":true,"content":{"didCalled":%q,"rules":[]},"info":{}}`, r.FormValue("didCalled"))
	}))
	t.Cleanup(ours.Close)
	z.AddTracker(ziwotest.Tracker{Name: "sales", StartRequestURL: ours.URL, EndRequestURL: ours.URL})
	z.AddNumber(ziwotest.Number{E164: "+97142345678", DIDCalled: "042345678", Tracker: "sales"})
	if _, err := z.Simulate(t.Context(), ziwotest.Simulation{From: noon, Length: time.Hour, Calls: 30}); err != nil {
		t.Fatal(err)
	}
	ended := map[string]ziwotest.Call{}
	for _, call := range z.EndedCalls() {
		ended[call.CallID] = call
	}
	starts, ends := 0, 0
	for from := 0; ; from += 25 {
		entries, total, err := c.TrackerLogs(t.Context(), ziwo.LogQuery{From: noon, To: noon.AddDate(0, 0, 1), Start: from, Size: 25})
		if err != nil || total != 60 {
			t.Fatal(total, err)
		}
		if len(entries) == 0 {
			break
		}
		for _, e := range entries {
			call, known := ended[e.CallID]
			switch {
			case !known:
				t.Errorf("entry of the unknown call %q", e.CallID)
			case e.Kind == ziwo.LogStart && e.CDR == nil:
				starts++
			case e.Kind == ziwo.LogEnd && e.CDR != nil && e.CDR.EndedAt.Equal(call.EndedAt):
				ends++
			}
		}
	}
	if starts != 30 || ends != 30 {
		t.Errorf("%d start calls and %d end calls, want 30 and 30", starts, ends)
	}
}

func TestFindCall(t *testing.T) {
	z, c := newZiwo(t)
	z.SetNow(noon.Add(time.Hour))
	z.AddCalls(makeCalls(3, time.Minute)...)
	found, err := c.FindCall(t.Context(), "call-000001")
	if err != nil || found.CDR.CallID != "call-000001" || found.CDR.TalkTime != 20 {
		t.Fatalf("%+v, %v", found, err)
	}
	again, err := c.HistoryCall(t.Context(), found.ID)
	if err != nil || again.CDR.CallID != found.CDR.CallID {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := c.FindCall(t.Context(), "none"); ziwo.KindOf(err) != ziwo.NotFound {
		t.Errorf("unknown callID: got %v, want kind %s", err, ziwo.NotFound)
	}
	if _, err := c.HistoryCall(t.Context(), "77"); ziwo.KindOf(err) != ziwo.NotFound {
		t.Errorf("unknown record: got %v, want kind %s", err, ziwo.NotFound)
	}
}

func TestConcurrencyLimit(t *testing.T) {
	var now, most atomic.Int32
	gate := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == 2 {
			close(gate) // both slots are in use
		}
		<-gate
		_, _ = io.WriteString(w, `{"result":true,"content":{"username":"a"},"info":{}}`)
		now.Add(-1)
	}))
	t.Cleanup(server.Close)
	c := newClient(t, server.URL, nil, func(o *ziwo.ClientOptions) {
		o.Credentials, o.Concurrency = ziwo.Credentials{AccessToken: "t"}, 2
	})
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if _, err := c.Profile(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	gate = make(chan struct{})
	close(gate)
	for range 10 {
		all.Go(func() { _, _ = c.Profile(t.Context()) })
	}
	all.Wait()
	if most.Load() != 2 {
		t.Errorf("%d concurrent requests, want 2", most.Load())
	}
}

func TestNewClientOptions(t *testing.T) {
	for name, o := range map[string]ziwo.ClientOptions{
		"no address":     {},
		"no scheme":      {BaseURL: "calls.example.com"},
		"user in it":     {BaseURL: "https://a:b@calls.example.com"},
		"another scheme": {BaseURL: "ftp://calls.example.com"},
		"unknown style":  {Name: "a", Recordings: []ziwo.RecordingStyle{"tape"}},
	} {
		if _, err := ziwo.NewClient(o); err == nil {
			t.Errorf("%s: NewClient returned no error", name)
		}
	}
	c, err := ziwo.NewClient(ziwo.ClientOptions{Name: "aldebaran"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Host() != "aldebaran-api.aswat.co" {
		t.Errorf("host %q, want aldebaran-api.aswat.co", c.Host())
	}
}

func FuzzResponses(f *testing.F) {
	for _, seed := range []string{
		`{"result":true,"content":[{"callID":"a","id":1,"startedAt":"2026-03-03T12:00:00Z"}],"info":{"total":1}}`,
		`{"result":false,"error":{"message":"no"}}`, `{"content":{"a":{"b":[{}]}}}`, `[]`, `[[[{}]]]`, `""`, ``, `<html>`, `{"content":"{\"id\":1}"}`,
		`{"result":true,"content":{"request":"{\"callID\":\"x\",\"endedAt\":1700000000}","type":"endCall"}}`,
	} {
		f.Add([]byte(seed))
	}
	var served atomic.Pointer[[]byte]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*served.Load()) }))
	f.Cleanup(server.Close)
	f.Fuzz(func(t *testing.T, body []byte) {
		served.Store(&body)
		c := newClient(t, server.URL, nil, func(o *ziwo.ClientOptions) {
			o.Credentials, o.Attempts = ziwo.Credentials{AccessToken: "t", APIKey: "k"}, 1
		})
		_, _ = c.Trackers(t.Context())
		_, _, _ = c.TrackerLogs(t.Context(), ziwo.LogQuery{Size: 10})
		_, _ = c.TestTracker(t.Context(), "1")
		_, _ = c.LiveAgents(t.Context())
		_, _, _ = c.AgentCall(t.Context(), "0011")
		if stats, err := c.WalkHistory(t.Context(), noon, noon.Add(time.Hour), func([]ziwo.HistoryRecord) error { return nil }); err == nil && stats.Requests > 40 {
			t.Errorf("%d requests for %q, want at most 40", stats.Requests, body)
		}
	})
}
