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

// talk is a Ziwo and a client of it.
func talk(t testing.TB, edit ...func(*ziwo.ClientOptions)) (*ziwotest.Ziwo, *ziwo.Client) {
	t.Helper()
	z := ziwotest.New(ziwotest.Options{})
	server := httptest.NewServer(z)
	t.Cleanup(server.Close)
	return z, clientOf(t, server.URL, z, edit...)
}

func clientOf(t testing.TB, url string, z *ziwotest.Ziwo, edit ...func(*ziwo.ClientOptions)) *ziwo.Client {
	t.Helper()
	o := ziwo.ClientOptions{BaseURL: url, Rate: 10_000, Backoff: time.Millisecond}
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

func TestATokenIsUsedUntilItIsRefused(t *testing.T) {
	z, c := talk(t)
	for range 5 {
		if _, err := c.Profile(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if z.Logins() != 1 {
		t.Errorf("%d logins for five requests", z.Logins())
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
		t.Errorf("%d logins after the token expired for eight at once", z.Logins())
	}
}

func TestWhatChangesSomethingIsSentAgainAfterALoginOnly(t *testing.T) {
	z, c := talk(t)
	if _, err := c.Profile(t.Context()); err != nil {
		t.Fatal(err)
	}
	z.ExpireTokens()
	if err := c.CreateTracker(t.Context(), ziwo.Tracker{Name: "a", StartRequestURL: "https://x.example/s", EndRequestURL: "https://x.example/e"}); err != nil {
		t.Fatal(err)
	}
	z.AddFault(ziwotest.Fault{Kind: ziwotest.Fault500, Path: "/admin", Times: 1})
	if err := c.DeleteTracker(t.Context(), "a"); ziwo.KindOf(err) != ziwo.Unavailable {
		t.Errorf("it went on after an error: %v", err)
	}
	if len(z.Trackers()) != 1 {
		t.Errorf("there are %d trackers", len(z.Trackers()))
	}
}

func TestWrongCredentialsAreNotTriedAgainAtOnce(t *testing.T) {
	now := noon
	z, c := talk(t, func(o *ziwo.ClientOptions) {
		o.Credentials.Password = "wrong-password-1"
		o.Now = func() time.Time { return now }
	})
	for range 3 {
		if _, err := c.Trackers(t.Context()); ziwo.KindOf(err) != ziwo.Unauthorized {
			t.Fatalf("it was let in: %v", err)
		}
	}
	if n := z.Requests("POST /auth/login"); n != 1 {
		t.Errorf("%d logins with a wrong password", n)
	}
	now = now.Add(2 * time.Minute)
	if _, err := c.Trackers(t.Context()); ziwo.KindOf(err) != ziwo.Unauthorized {
		t.Fatal(err)
	}
	if n := z.Requests("POST /auth/login"); n != 2 {
		t.Errorf("%d logins after a pause", n)
	}
}

func TestAnAccessTokenServesWithoutALogin(t *testing.T) {
	z, c := talk(t, func(o *ziwo.ClientOptions) { o.Credentials = ziwo.Credentials{AccessToken: "token-of-old"} })
	if _, err := c.Profile(t.Context()); ziwo.KindOf(err) != ziwo.Unauthorized || !strings.Contains(err.Error(), "access_token") {
		t.Errorf("a wrong token gave %v", err)
	}
	if z.Requests("POST /auth/login") != 0 {
		t.Error("it logged in without a password")
	}
}

func TestFailuresHaveAKind(t *testing.T) {
	for _, c := range []struct {
		fault ziwotest.FaultKind
		kind  ziwo.ErrorKind
		tries int
	}{
		{ziwotest.FaultHTML, ziwo.Unreadable, 3},
		{ziwotest.FaultEmpty, ziwo.Unreadable, 3},
		{ziwotest.FaultTruncatedJSON, ziwo.Unreadable, 3},
		{ziwotest.FaultUnexpectedJSON, ziwo.Unreadable, 3},
		{ziwotest.FaultRejected, ziwo.Rejected, 1},
		{ziwotest.Fault429, ziwo.RateLimited, 3},
		{ziwotest.Fault500, ziwo.Unavailable, 3},
		{ziwotest.FaultAbort, ziwo.Unavailable, 0}, // net/http itself may try a broken connection again
		{ziwotest.FaultHang, ziwo.Unavailable, 3},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			z, client := talk(t, func(o *ziwo.ClientOptions) { o.Timeout = 100 * time.Millisecond })
			if c.fault != ziwotest.FaultHang {
				client = clientOf(t, "http://"+client.Host(), z)
			}
			if _, err := client.Profile(t.Context()); err != nil {
				t.Fatal(err)
			}
			z.AddFault(ziwotest.Fault{Kind: c.fault, Path: "/callHistory"})
			_, err := client.CallHistory(t.Context(), ziwo.HistoryQuery{Limit: 10})
			if ziwo.KindOf(err) != c.kind {
				t.Errorf("it is %q: %v", ziwo.KindOf(err), err)
			}
			if n := z.Requests("GET /callHistory/{$}"); c.tries > 0 && n != c.tries {
				t.Errorf("it was asked %d times, want %d", n, c.tries)
			}
			z.ClearFaults()
			if _, err := client.CallHistory(t.Context(), ziwo.HistoryQuery{Limit: 10}); err != nil {
				t.Errorf("and when it was well again: %v", err)
			}
		})
	}
}

func TestRetryAfterIsHonouredWithinBounds(t *testing.T) {
	z, c := talk(t)
	z.AddFault(ziwotest.Fault{Kind: ziwotest.Fault429, Path: "/profile", RetryAfter: "3600"})
	_, err := c.Profile(t.Context())
	var failure *ziwo.APIError
	if !errors.As(err, &failure) || failure.RetryAfter != time.Hour || z.Requests("GET /profile") != 1 {
		t.Errorf("%v after %d requests", err, z.Requests("GET /profile"))
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
		t.Errorf("a wait that is longer than the caller's: %v", err)
	}
}

func TestSecretsStayInside(t *testing.T) {
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
	c := clientOf(t, server.URL, nil, func(o *ziwo.ClientOptions) { o.Credentials = credentials })
	_, err := c.Trackers(t.Context())
	_, err2 := c.ClickToCall(t.Context(), "0011", "0033612345678")
	server.Close()
	_, err3 := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: "a"})
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Error("failed", slog.Any("error", err), slog.Any("credentials", credentials))
	for _, text := range []string{err.Error(), err2.Error(), err3.Error(), log.String(), fmt.Sprintf("%v %+v %#v", credentials, credentials, credentials)} {
		for _, secret := range secrets[1:] {
			if strings.Contains(text, secret) {
				t.Errorf("%q holds a secret", text)
			}
		}
		if len(text) > 2000 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q is long or has lines", text)
		}
	}
}

func TestARedirectDoesNotTakeTheTokenAlong(t *testing.T) {
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
	c := clientOf(t, server.URL, nil, func(o *ziwo.ClientOptions) { o.Credentials = ziwo.Credentials{AccessToken: "the-token"} })
	if _, err := c.Profile(t.Context()); ziwo.KindOf(err) != ziwo.Rejected {
		t.Errorf("the API followed: %v", err)
	}
	recording, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: "a"})
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(recording.Body)
	if err != nil || string(body) != "sound" || recording.Body.Close() != nil {
		t.Errorf("the recording is %q, %v", body, err)
	}
	if leaked.Load() {
		t.Error("the token went elsewhere")
	}
}

func TestTrackersAreKept(t *testing.T) {
	z, c := talk(t)
	want := ziwo.Tracker{
		Name: "sales", StartRequestURL: "https://calls.example.com/callTrackers/sales/startCall", StartRequestKey: "start", StartTimeout: 4 * time.Second,
		EndRequestURL: "https://calls.example.com/callTrackers/sales/endCall", EndRequestKey: "end", EndTimeout: 9 * time.Second, ErrorPlayback: "hash-1",
	}
	if list, err := c.Trackers(t.Context()); err != nil || len(list) != 0 {
		t.Fatalf("at first: %v, %v", list, err)
	}
	if err := c.CreateTracker(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateTracker(t.Context(), want); ziwo.KindOf(err) != ziwo.Rejected || !strings.Contains(err.Error(), "taken") {
		t.Errorf("the same name again: %v", err)
	}
	list, err := c.Trackers(t.Context()) // of one: an object
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	want.ID, want.Blocked = list[0].ID, new(bool)
	if diff := cmp.Diff(want, list[0]); diff != "" {
		t.Errorf("what was made is not what was sent:\n%s", diff)
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
		t.Errorf("after the change: %v\n%s", err, diff)
	}
	if err := c.UnblockTracker(t.Context(), want.ID); err != nil || z.Trackers()[0].Blocked {
		t.Errorf("unblock: %v", err)
	}
	for i := range 120 { // more than a page
		z.AddTracker(ziwotest.Tracker{Name: "t" + strconv.Itoa(i), StartRequestURL: "https://x.example", EndRequestURL: "https://x.example"})
	}
	if list, err = c.Trackers(t.Context()); err != nil || len(list) != 121 {
		t.Errorf("%d trackers, %v", len(list), err)
	}
	if err := c.DeleteTracker(t.Context(), "t3"); err != nil || len(z.Trackers()) != 120 {
		t.Errorf("delete: %v", err)
	}
	if _, err := c.Tracker(t.Context(), "9999"); ziwo.KindOf(err) != ziwo.NotFound {
		t.Errorf("one that is not there: %v", err)
	}
}

func TestZiwosOwnTestIsRead(t *testing.T) {
	var status atomic.Int32
	status.Store(200)
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(int(status.Load()))
		_, _ = fmt.Fprintf(w, `{"result":true,"content":{"didCalled":%q,"rules":[]},"info":{}}`, r.FormValue("didCalled"))
	}))
	t.Cleanup(ours.Close)
	z, c := talk(t)
	id := strconv.Itoa(z.AddTracker(ziwotest.Tracker{Name: "a", StartRequestURL: ours.URL, EndRequestURL: ours.URL}))
	if test, err := c.TestTracker(t.Context(), id); err != nil || !test.OK {
		t.Errorf("%+v, %v", test, err)
	}
	status.Store(401)
	if test, err := c.TestTracker(t.Context(), id); err != nil || test.OK || test.Message == "" {
		t.Errorf("refused: %+v, %v", test, err)
	}
}

func TestListsComeInEveryShape(t *testing.T) {
	const one, two = `{"id":1,"name":"a"}`, `{"id":"46:2","name":"b","startRequestTimeout":"2500","status":"blocked"}`
	for name, body := range map[string]string{
		"array":             `{"result":true,"content":[` + one + `,` + two + `],"info":{"total":2}}`,
		"array, other name": `{"result":true,"content":[` + one + `,` + two + `],"info":{"totalRecords":"2"}}`,
		"array in object":   `{"result":true,"content":{"callTrackers":[` + one + `,` + two + `],"total":2},"info":{}}`,
		"object by id":      `{"result":true,"content":{"1":` + one + `,"46:2":` + two + `},"info":{"total":2}}`,
		"bare array":        `[` + one + `,` + two + `]`,
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
			defer server.Close()
			c := clientOf(t, server.URL, nil, func(o *ziwo.ClientOptions) { o.Credentials = ziwo.Credentials{AccessToken: "t"} })
			list, err := c.Trackers(t.Context())
			if err != nil || len(list) != 2 || list[0].ID != "1" || list[0].Blocked != nil || list[1].ID != "46:2" ||
				list[1].StartTimeout != 2500*time.Millisecond || !*list[1].Blocked {
				t.Errorf("%v, %v", list, err)
			}
		})
	}
}

// invent makes calls that start every step, the first at noon.
func invent(n int, step time.Duration) []ziwotest.Call {
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

func TestTheHistoryIsWalkedWithFewRequests(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to time.Duration // from noon
		page     int           // that Ziwo gives at most
		requests int
	}{
		{"the newest hour of three days", 71 * time.Hour, 72 * time.Hour, 1000, 1},
		{"all of it", -time.Hour, 100 * time.Hour, 1000, 9},
		{"a day in the middle", 24 * time.Hour, 48 * time.Hour, 1000, 10},
		{"the oldest hour", 0, time.Hour, 1000, 9},
		{"small pages", 60 * time.Hour, 72 * time.Hour, 300, 5},
		{"nothing", 200 * time.Hour, 201 * time.Hour, 1000, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			z := ziwotest.New(ziwotest.Options{HistoryPage: c.page})
			server := httptest.NewServer(z)
			defer server.Close()
			z.SetNow(noon.Add(1000 * time.Hour))
			const n, step = 8640, 30 * time.Second // three days
			z.AddCalls(invent(n, step)...)
			client := clientOf(t, server.URL, z)
			from, to := noon.Add(c.from), noon.Add(c.to)
			seen := map[string]bool{}
			last := time.Time{}
			walk, err := client.WalkHistory(t.Context(), from, to, func(page []ziwo.HistoryRecord) error {
				for _, r := range page {
					if seen[r.CDR.CallID] {
						t.Fatalf("%s came twice", r.CDR.CallID)
					}
					seen[r.CDR.CallID] = true
					if !last.IsZero() && r.CDR.StartedAt.After(last) {
						t.Fatal("the order is not kept")
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
				t.Errorf("%d calls came, want %d", len(seen), want)
			}
			if walk.Requests > c.requests {
				t.Errorf("it took %d requests, want at most %d", walk.Requests, c.requests)
			}
		})
	}
}

// oddHistory serves records in ways that a well-behaved history does not.
func oddHistory(t *testing.T, serve func(skip, limit int) (records []ziwotest.Call, info string)) *ziwo.Client {
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
	return clientOf(t, server.URL, nil, func(o *ziwo.ClientOptions) { o.Credentials = ziwo.Credentials{AccessToken: "t"} })
}

func TestAHistoryThatKeepsNoOrderIsReadToItsEnd(t *testing.T) {
	calls := invent(3000, time.Minute) // oldest first, whatever is asked
	for name, info := range map[string]string{"with a total": `{"total":3000}`, "without": `{}`} {
		t.Run(name, func(t *testing.T) {
			c := oddHistory(t, func(skip, limit int) ([]ziwotest.Call, string) {
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
				t.Errorf("%d calls, %v", len(seen), err)
			}
		})
	}
}

func TestAHistoryThatKnowsNoOffsetsEnds(t *testing.T) {
	calls := invent(100, -time.Minute)
	c := oddHistory(t, func(int, int) ([]ziwotest.Call, string) { return calls, `{}` })
	seen := 0
	walk, err := c.WalkHistory(t.Context(), noon.Add(-24*time.Hour), noon.Add(time.Hour), func(page []ziwo.HistoryRecord) error {
		seen += len(page)
		return nil
	})
	if err != nil || seen != 100 || walk.Requests > 3 {
		t.Errorf("%d calls in %d requests, %v", seen, walk.Requests, err)
	}
}

func TestAHistoryOfOtherThingsEnds(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests++
		_, _ = io.WriteString(w, `{"result":true,"content":[{"weather":"fine"}],"info":{}}`)
	}))
	t.Cleanup(server.Close)
	c := clientOf(t, server.URL, nil, func(o *ziwo.ClientOptions) { o.Credentials = ziwo.Credentials{AccessToken: "t"} })
	walk, err := c.WalkHistory(t.Context(), noon, noon.Add(time.Hour), func([]ziwo.HistoryRecord) error { return nil })
	if err != nil || requests > 3 || walk.Unreadable == 0 {
		t.Errorf("%d requests, %+v, %v", requests, walk, err)
	}
}

func TestCallsThatArriveMeanwhileHideNone(t *testing.T) {
	calls := invent(5000, -time.Minute) // newest first
	arrived := 0
	c := oddHistory(t, func(skip, limit int) ([]ziwotest.Call, string) {
		arrived += 7 // in front, before each page
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
		t.Errorf("%d of 2000 calls, %v", len(seen), err)
	}
}

func TestRecordingsComeByEveryStyle(t *testing.T) {
	for _, style := range ziwo.RecordingStyles() {
		t.Run(string(style), func(t *testing.T) {
			z, c := talk(t, func(o *ziwo.ClientOptions) { o.Recordings = []ziwo.RecordingStyle{style} })
			call := invent(1, 0)[0]
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
				t.Errorf("%d bytes, %+v", len(body), recording)
			}
			part, body := get(ziwo.RecordingQuery{CallID: call.CallID, Range: "bytes=3-9"})
			if body != sound[3:10] || !part.Partial || part.ContentRange != fmt.Sprintf("bytes 3-9/%d", len(sound)) {
				t.Errorf("a part: %d bytes, %+v", len(body), part)
			}
			z.ExpireTokens()
			if _, body = get(ziwo.RecordingQuery{CallID: call.CallID}); body != sound {
				t.Error("after the token expired it is another")
			}
			_, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: call.CallID, Range: "bytes=99999999-"})
			var failure *ziwo.APIError
			if !errors.As(err, &failure) || failure.Status != http.StatusRequestedRangeNotSatisfiable {
				t.Errorf("a part that is not there: %v", err)
			}
			if _, err := c.Recording(t.Context(), ziwo.RecordingQuery{CallID: "none"}); ziwo.KindOf(err) != ziwo.NotFound {
				t.Errorf("one that is not there: %v", err)
			}
		})
	}
}

func TestCTIAndLive(t *testing.T) {
	z, c := talk(t)
	z.SetNow(noon)
	agent := z.Agents()[0]
	if _, ok, err := c.AgentCall(t.Context(), agent.CCLogin); ok || err != nil {
		t.Errorf("a call before there was one: %v, %v", ok, err)
	}
	id, err := c.ClickToCall(t.Context(), agent.CCLogin, "00971501234567")
	if err != nil || id == "" {
		t.Fatal(id, err)
	}
	z.SetNow(noon.Add(20 * time.Second))
	call, ok, err := c.AgentCall(t.Context(), agent.CCLogin)
	if err != nil || !ok || call.CallID != id || call.Direction != "outbound" || call.Number != "00971501234567" || !call.CreatedAt.Equal(noon) || call.State != "active" {
		t.Errorf("%+v, %v, %v", call, ok, err)
	}
	agents, err := c.LiveAgents(t.Context())
	if err != nil || len(agents) != len(z.Agents()) || agents[0].CCLogin != agent.CCLogin || agents[0].Call == nil || agents[0].Call.CallID != id || agents[1].Call != nil {
		t.Errorf("%+v, %v", agents, err)
	}
	listening, err := c.Eavesdrop(t.Context(), agent.CCLogin, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Whisper(t.Context(), listening, ziwo.WhisperAgent); err != nil || z.WhisperTarget(listening) != "agent" {
		t.Errorf("whisper: %v", err)
	}
	if err := c.Whisper(t.Context(), listening, "everybody"); err == nil {
		t.Error("it whispers to everybody")
	}
	if _, err := c.ClickToCall(t.Context(), agent.CCLogin, "0501234567"); ziwo.KindOf(err) != ziwo.Rejected {
		t.Errorf("a national number: %v", err)
	}
	if _, err := c.ClickToCall(t.Context(), "9999", "00971501234567"); ziwo.KindOf(err) != ziwo.NotFound {
		t.Errorf("an agent that is not there: %v", err)
	}
	without := clientOf(t, "http://"+c.Host(), nil)
	if _, err := without.ClickToCall(t.Context(), agent.CCLogin, "00971501234567"); ziwo.KindOf(err) != ziwo.Unauthorized {
		t.Errorf("without a key: %v", err)
	}
}

func TestLogsAreRead(t *testing.T) {
	z, c := talk(t)
	ours := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"result":true,"content":{"didCalled":%q,"rules":[]},"info":{}}`, r.FormValue("didCalled"))
	}))
	t.Cleanup(ours.Close)
	z.AddTracker(ziwotest.Tracker{Name: "sales", StartRequestURL: ours.URL, EndRequestURL: ours.URL})
	z.AddNumber(ziwotest.Number{E164: "+97142345678", DIDCalled: "042345678", Tracker: "sales"})
	if _, err := z.Simulate(t.Context(), ziwotest.Simulation{From: noon, Length: time.Hour, Calls: 30}); err != nil {
		t.Fatal(err)
	}
	truth := map[string]ziwotest.Call{}
	for _, call := range z.EndedCalls() {
		truth[call.CallID] = call
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
			call, known := truth[e.CallID]
			switch {
			case !known:
				t.Errorf("an entry of %q", e.CallID)
			case e.Kind == ziwo.LogStart && e.CDR == nil:
				starts++
			case e.Kind == ziwo.LogEnd && e.CDR != nil && e.CDR.EndedAt.Equal(call.EndedAt):
				ends++
			}
		}
	}
	if starts != 30 || ends != 30 {
		t.Errorf("%d starts and %d ends", starts, ends)
	}
}

func TestOneCallOfTheHistory(t *testing.T) {
	z, c := talk(t)
	z.SetNow(noon.Add(time.Hour))
	z.AddCalls(invent(3, time.Minute)...)
	found, err := c.FindCall(t.Context(), "call-000001")
	if err != nil || found.CDR.CallID != "call-000001" || found.CDR.TalkTime != 20 {
		t.Fatalf("%+v, %v", found, err)
	}
	again, err := c.HistoryCall(t.Context(), found.ID)
	if err != nil || again.CDR.CallID != found.CDR.CallID {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := c.FindCall(t.Context(), "none"); ziwo.KindOf(err) != ziwo.NotFound {
		t.Error(err)
	}
	if _, err := c.HistoryCall(t.Context(), "77"); ziwo.KindOf(err) != ziwo.NotFound {
		t.Error(err)
	}
}

func TestNoMoreRequestsAtATimeThanAllowed(t *testing.T) {
	var now, most atomic.Int32
	gate := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == 2 {
			close(gate) // both places are taken: go on
		}
		<-gate
		_, _ = io.WriteString(w, `{"result":true,"content":{"username":"a"},"info":{}}`)
		now.Add(-1)
	}))
	t.Cleanup(server.Close)
	c := clientOf(t, server.URL, nil, func(o *ziwo.ClientOptions) {
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
		t.Errorf("%d requests at a time", most.Load())
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]ziwo.ClientOptions{
		"nothing":        {},
		"no address":     {BaseURL: "calls.example.com"},
		"user in it":     {BaseURL: "https://a:b@calls.example.com"},
		"another scheme": {BaseURL: "ftp://calls.example.com"},
		"unknown style":  {Name: "a", Recordings: []ziwo.RecordingStyle{"tape"}},
	} {
		if _, err := ziwo.NewClient(o); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
	c, err := ziwo.NewClient(ziwo.ClientOptions{Name: "aldebaran"})
	if err != nil || c.Host() != "aldebaran-api.aswat.co" {
		t.Errorf("%v, %v", c, err)
	}
}

func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"result":true,"content":[{"callID":"a","id":1,"startedAt":"2026-03-03T12:00:00Z"}],"info":{"total":1}}`,
		`{"result":false,"error":{"message":"no"}}`, `{"content":{"a":{"b":[{}]}}}`, `[]`, `[[[{}]]]`, `""`, ``, `<html>`, `{"content":"{\"id\":1}"}`,
		`{"result":true,"content":{"request":"{\"callID\":\"x\",\"endedAt\":1700000000}","type":"endCall"}}`,
	} {
		f.Add([]byte(seed))
	}
	var body atomic.Pointer[[]byte]
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(*body.Load()) }))
	f.Cleanup(server.Close)
	f.Fuzz(func(t *testing.T, response []byte) {
		body.Store(&response)
		c := clientOf(t, server.URL, nil, func(o *ziwo.ClientOptions) {
			o.Credentials, o.Attempts = ziwo.Credentials{AccessToken: "t", APIKey: "k"}, 1
		})
		_, _ = c.Trackers(t.Context())
		_, _, _ = c.TrackerLogs(t.Context(), ziwo.LogQuery{Size: 10})
		_, _ = c.TestTracker(t.Context(), "1")
		_, _ = c.LiveAgents(t.Context())
		_, _, _ = c.AgentCall(t.Context(), "0011")
		if walk, err := c.WalkHistory(t.Context(), noon, noon.Add(time.Hour), func([]ziwo.HistoryRecord) error { return nil }); err == nil && walk.Requests > 40 {
			t.Errorf("%d requests for %q", walk.Requests, response)
		}
	})
}
