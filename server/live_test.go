package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"calltracker/handlers/clicktocall"
	"calltracker/handlers/live"
	"calltracker/ziwo/ziwotest"
)

// liveInterval makes the tests quick; nothing in them depends on it.
const liveInterval = 20 * time.Millisecond

// watched is a server and a Ziwo that it looks at often.
func watched(t *testing.T) *ziwoHarness {
	t.Helper()
	z := ziwotest.New(ziwotest.Options{})
	t.Cleanup(z.Close)
	api := httptest.NewServer(z)
	t.Cleanup(api.Close)
	r := &ziwoHarness{harness: serveWith(t, t.TempDir(), documentFor(z, api.URL), func(s *settings) { s.liveInterval = liveInterval }), ziwo: z}
	return r
}

// stream reads server-sent events.
type stream struct {
	t      *testing.T
	events chan streamEvent // closed at the end of the stream
	leave  context.CancelFunc
}

type streamEvent struct{ id, name, data string }

// watch opens a stream and reads its first event, which is the snapshot.
func (h *harness) watch(header ...string) (*stream, live.View) {
	h.t.Helper()
	ctx, leave := context.WithCancel(h.t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+"/api/v1/live", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.token)
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" {
		h.t.Fatalf("%s %v", res.Status, res.Header)
	}
	s := &stream{t: h.t, events: make(chan streamEvent, 10_000), leave: leave}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(s.events)
		defer res.Body.Close()
		s.read(bufio.NewScanner(res.Body))
	})
	h.t.Cleanup(func() {
		leave()
		reading.Wait()
	})
	first := s.next("snapshot")
	return s, fromData[live.View](h.t, first.data)
}

func (s *stream) read(lines *bufio.Scanner) {
	lines.Buffer(nil, 1<<20)
	var e streamEvent
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			e.id = value
		case "event":
			e.name = value
		case "data":
			e.data = value
		case "":
			if e.name != "" {
				s.events <- e
			}
			e = streamEvent{}
		}
	}
}

// next waits for the next event of a name; others are passed over.
func (s *stream) next(name string) streamEvent {
	s.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				s.t.Fatalf("the stream ended before %s came", name)
			}
			if e.name == name {
				return e
			}
		case <-deadline:
			s.t.Fatalf("%s did not come", name)
		}
	}
}

// ends waits for the end of the stream.
func (s *stream) ends() {
	s.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case _, ok := <-s.events:
			if !ok {
				return
			}
		case <-deadline:
			s.t.Fatal("the stream did not end")
		}
	}
}

func fromData[T any](t *testing.T, data string) T {
	t.Helper()
	var v T
	decoder := json.NewDecoder(strings.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}

// untilNext waits for an event of a name that fits.
func untilNext[T any](s *stream, name string, fits func(T) bool) T {
	s.t.Helper()
	for {
		if v := fromData[T](s.t, s.next(name).data); fits(v) {
			return v
		}
	}
}

func anyCall(live.Call) bool { return true }

func (h *harness) liveNow() live.View {
	h.t.Helper()
	return into[live.View](h.t, h.get("/api/v1/live").want(h.t, 200))
}

const record1 = `{"callID":"live-1","direction":"inbound","didCalled":"042345678","callerIDNumber":"0501234567","result":"answered","startedAt":%q,"duration":4}`

func TestLiveTellsWhenCallsBeginAndEnd(t *testing.T) {
	r := watched(t)
	s, view := r.watch()
	if len(view.Calls) != 0 || view.Decisions.State != live.LiveOK || len(view.ContactCenters) != 1 || view.ContactCenters[0].State != live.LiveOK {
		t.Fatalf("it began with %+v", view)
	}
	decision := r.startCall("sales", "start-key-1", "didCalled", "042345678", "callerIDNumber", "0501234567", "callID", "live-1").
		want(t, 200).header.Get("X-Decision-Id")
	call := untilNext(s, "call", anyCall)
	want := live.Call{
		ID: "live-1", CallID: "live-1", ContactCenter: "aldebaran", Tracker: "sales", Direction: "inbound", DID: "+97142345678", Caller: "+971501234567",
		State: live.CallStarted, StartedAt: call.StartedAt, Route: "all", Decision: decision,
	}
	if call != want || time.Since(call.StartedAt).Abs() > time.Minute {
		t.Errorf("got  %+v\nwant %+v", call, want)
	}
	if now := r.liveNow(); len(now.Calls) != 1 || now.Calls[0] != want {
		t.Errorf("as JSON: %+v", now.Calls)
	}
	// A second listener begins with it.
	if _, second := r.watch("Last-Event-ID", "17"); len(second.Calls) != 1 || second.Calls[0] != want {
		t.Errorf("a second listener began with %+v", second.Calls)
	}
	r.endCall("sales", "end-key-1", fmt.Sprintf(record1, time.Now().Format(time.RFC3339))).want(t, 200)
	ended := fromData[live.LiveCallEnded](t, s.next("call-ended").data)
	if stored := r.calls(""); len(stored) != 1 || ended != (live.LiveCallEnded{ID: "live-1", CallID: "live-1", Decision: decision, Call: stored[0].ID}) {
		t.Errorf("ended %+v, stored %+v", ended, stored)
	}
	if now := r.liveNow(); len(now.Calls) != 0 {
		t.Errorf("as JSON: %+v", now.Calls)
	}
}

func TestLiveTellsOfAgentsAndTheirCalls(t *testing.T) {
	r := watched(t)
	agents := r.ziwo.Agents()
	s, view := r.watch()
	if len(view.Agents) != len(agents) {
		t.Fatalf("%d agents, want %d", len(view.Agents), len(agents))
	}
	who := agents[3].CCLogin
	want := live.Agent{
		ContactCenter: "aldebaran", Agent: who, Name: agents[3].FirstName + " " + agents[3].LastName, Status: "available", Position: "agent-" + who,
	}
	if view.Agents[3] != want {
		t.Errorf("got  %+v\nwant %+v", view.Agents[3], want)
	}
	r.ziwo.SetStatus(who, 2)
	want.Status = "on_break"
	if got := fromData[live.Agent](t, s.next("agent").data); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	made := into[clicktocall.View](t, r.clickToCall(`{"agent":"`+who+`","number":"0507654321"}`).want(t, 202))
	call := untilNext(s, "call", anyCall)
	if call.ID != made.CallID || call.Direction != "outbound" || call.DID != "+971507654321" || call.Agent != who || call.Tracker != "" || call.StartedAt.IsZero() {
		t.Errorf("the call is %+v", call)
	}
	if got := untilNext(s, "agent", func(a live.Agent) bool { return a.Agent == who }); got.Call != call.ID {
		t.Errorf("the agent is in call %q", got.Call)
	}
	r.ziwo.SetNow(time.Now().Add(time.Minute)) // it has ended
	if ended := fromData[live.LiveCallEnded](t, s.next("call-ended").data); ended.ID != call.ID {
		t.Errorf("%+v ended", ended)
	}
}

func TestACallThatStartedHereIsTheOneOnTheAgentsPhone(t *testing.T) {
	for name, callID := range map[string]string{"with the callID at the start": "live-1", "without it": ""} {
		t.Run(name, func(t *testing.T) {
			r := watched(t)
			s, _ := r.watch()
			fields := []string{"didCalled", "042345678", "callerIDNumber", "0501234567"}
			if callID != "" {
				fields = append(fields, "callID", callID)
			}
			r.startCall("sales", "start-key-1", fields...).want(t, 200)
			started := untilNext(s, "call", anyCall)
			now := time.Now().UTC().Truncate(time.Second)
			agent := r.ziwo.Agents()[5].CCLogin
			r.ziwo.AddCalls(ziwotest.Call{
				CallID: "live-1", Direction: "inbound", RawDID: "042345678", RawCaller: "+971501234567", CallerName: "Layla", Agent: agent,
				StartedAt: now, AnsweredAt: now, EndedAt: now.Add(time.Hour),
			})
			want := started
			want.CallID, want.State, want.Agent, want.AnsweredAt, want.CallerName = "live-1", live.CallActive, agent, now, "Layla"
			if got := untilNext(s, "call", anyCall); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			// Its record came, so it is over, although the phone still shows it.
			r.endCall("sales", "end-key-1", fmt.Sprintf(record1, now.Format(time.RFC3339))).want(t, 200)
			if ended := fromData[live.LiveCallEnded](t, s.next("call-ended").data); ended.ID != started.ID || ended.Call == "" {
				t.Errorf("%+v ended", ended)
			}
			if now := r.liveNow(); len(now.Calls) != 0 {
				t.Errorf("calls are %+v", now.Calls)
			}
		})
	}
}

func TestLiveGoesOnWithoutZiwo(t *testing.T) {
	r := watched(t)
	s, view := r.watch()
	good := view.ContactCenters[0].Since
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.Fault500, Path: "/live"})
	center := fromData[live.ContactCenter](t, s.next("contact-center").data)
	if center.Name != "aldebaran" || center.State != live.LiveUnavailable || center.Since.Before(good) || !strings.Contains(center.Error, "500") {
		t.Errorf("the contact center is %+v", center)
	}
	r.startCall("sales", "start-key-1", "didCalled", "042345678", "callID", "live-2").want(t, 200)
	if call := untilNext(s, "call", anyCall); call.CallID != "live-2" {
		t.Errorf("the call is %+v", call)
	}
	now := r.liveNow()
	if len(now.Agents) != len(r.ziwo.Agents()) || now.ContactCenters[0] != center {
		t.Errorf("as JSON: %+v, %d agents", now.ContactCenters, len(now.Agents))
	}
	r.ziwo.ClearFaults()
	if center = fromData[live.ContactCenter](t, s.next("contact-center").data); center.State != live.LiveOK || center.Error != "" {
		t.Errorf("the contact center is %+v", center)
	}
	if strings.Contains(r.log.String(), "correct horse") {
		t.Error("the log shows the password")
	}
}

func TestLiveGoesOnWithoutTheDatabase(t *testing.T) {
	r := watched(t)
	s, _ := r.watch()
	if err := r.s.store.Close(); err != nil {
		t.Fatal(err)
	}
	source := fromData[live.LiveSource](t, s.next("decisions").data)
	if source.State != live.LiveUnavailable || source.Error != "the database is unavailable" || source.Since.IsZero() {
		t.Errorf("decisions are %+v", source)
	}
	r.ziwo.SetStatus(r.ziwo.Agents()[0].CCLogin, 3)
	if got := fromData[live.Agent](t, s.next("agent").data); got.Status != "meeting" {
		t.Errorf("the agent is %+v", got)
	}
}

func TestLiveFollowsTheConfiguration(t *testing.T) {
	r := watched(t)
	s, _ := r.watch()
	document := r.s.config.Current().Version.Document
	api := r.s.config.Current().Document.ContactCenters["aldebaran"].API
	put := func(document string) {
		t.Helper()
		r.putConfig("", "*", "application/yaml", document).want(t, 200)
	}
	put(strings.Replace(document, "trackers:", "  rigel: {api: \""+api+"\", username: admin@example.com, password: wrong}\ntrackers:", 1))
	names := func(v live.View) (names []string) {
		for _, c := range v.ContactCenters {
			names = append(names, c.Name+" "+string(c.State))
		}
		return names
	}
	untilNext(s, "snapshot", func(v live.View) bool {
		return slices.Equal(names(v), []string{"aldebaran ok", "rigel waiting"})
	})
	untilNext(s, "contact-center", func(c live.ContactCenter) bool {
		return c.Name == "rigel" && c.State == live.LiveUnavailable
	})
	put(document)
	untilNext(s, "snapshot", func(v live.View) bool { return slices.Equal(names(v), []string{"aldebaran ok"}) })
}

func TestLiveWithoutAnythingToLookAt(t *testing.T) {
	h := serve(t, "")
	if now := h.liveNow(); now.Decisions.State != live.LiveOK || now.Calls == nil || now.Agents == nil || now.ContactCenters == nil {
		t.Errorf("%+v", now)
	}
	h.do(request{method: "GET", path: "/api/v1/live"}).want(t, 401)
	h.do(request{method: "GET", path: "/api/v1/live", header: map[string]string{"Accept": "text/event-stream"}}).want(t, 401)
	h.get("/api/v1/live?since=1").want(t, 422)
}

// counting is a Ziwo that knows how many requests for its agents are under way.
type counting struct {
	*ziwotest.Ziwo
	mu        sync.Mutex
	now, most int
}

func (c *counting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/live/agents" {
		c.add(1)
		defer c.add(-1)
	}
	c.Ziwo.ServeHTTP(w, r)
}

func (c *counting) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += n
	c.most = max(c.most, c.now)
}

func (c *counting) counts() (now, most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now, c.most
}

func TestListenersShareOneLookAtZiwo(t *testing.T) {
	z := &counting{Ziwo: ziwotest.New(ziwotest.Options{})}
	t.Cleanup(z.Close)
	api := httptest.NewServer(z)
	t.Cleanup(api.Close)
	z.AddFault(ziwotest.Fault{Kind: ziwotest.FaultHang, Path: "/live"})
	h := serveWith(t, t.TempDir(), documentFor(z.Ziwo, api.URL), func(s *settings) { s.liveInterval = liveInterval })
	var streams []*stream
	for range 5 {
		s, view := h.watch()
		if view.ContactCenters[0].State == live.LiveOK || view.Decisions.State != live.LiveOK {
			t.Errorf("it began with %+v", view)
		}
		streams = append(streams, s)
	}
	// Every one of them sees that a call begins, whatever Ziwo does.
	h.startCall("sales", "start-key-1", "didCalled", "042345678", "callID", "live-1").want(t, 200)
	for _, s := range streams {
		untilNext(s, "call", anyCall)
	}
	if n, watching := h.s.wallboard.Listeners(); n != len(streams) || !watching {
		t.Errorf("%d listen, watching is %v", n, watching)
	}
	if !strings.Contains(h.do(request{method: "GET", path: "/metrics"}).body, "calltracker_live_listeners 5\n") {
		t.Error("the metrics do not tell")
	}
	for _, s := range streams {
		s.leave()
	}
	eventually(t, "the end of looking", func() bool {
		_, watching := h.s.wallboard.Listeners()
		now, _ := z.counts()
		return !watching && now == 0
	})
	if _, most := z.counts(); most != 1 {
		t.Errorf("Ziwo was asked by %d at the same time", most)
	}
}

func TestASlowListenerIsLetGoAndHoldsNobodyUp(t *testing.T) {
	r := watched(t)
	slow, err := r.s.wallboard.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s, _ := r.watch()
	who := r.ziwo.Agents()[0].CCLogin
	for i := range 40 { // more than may wait
		r.ziwo.SetStatus(who, 2+i%2)
		untilNext(s, "agent", func(a live.Agent) bool { return a.Agent == who })
	}
	got := 0
	for range slow.Events() { // which ends, since they are closed
		got++
	}
	if got == 0 || got >= 40 {
		t.Errorf("it got %d updates", got)
	}
	slow.Close() // a second time
	if n, _ := r.s.wallboard.Listeners(); n != 1 {
		t.Errorf("%d listen", n)
	}
}

func TestListenersAreBounded(t *testing.T) {
	r := watched(t)
	var all []*live.Listener
	defer func() {
		for _, n := range all {
			n.Close()
		}
	}()
	for {
		n, err := r.s.wallboard.Listen()
		if err != nil {
			break
		}
		if all = append(all, n); len(all) > 1000 {
			t.Fatal("there is no bound")
		}
	}
	for _, accept := range []string{"application/json", "text/event-stream"} {
		got := r.do(request{method: "GET", path: "/api/v1/live", admin: true, header: map[string]string{"Accept": accept}}).want(t, 503)
		if got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "too many listeners") {
			t.Errorf("%s: %v %s", accept, got.header, got.body)
		}
	}
	all[0].Close()
	all = all[1:]
	r.watch()
}

func TestAStopEndsStreams(t *testing.T) {
	r := watched(t)
	s, _ := r.watch()
	r.stop() // which fails the test after 10 s
	s.ends()
	if strings.Contains(r.log.String(), "requests were cut off") || strings.Contains(r.log.String(), `"level":"ERROR"`) {
		t.Errorf("the stop was not graceful: %s", r.log)
	}
}
