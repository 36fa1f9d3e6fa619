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

// liveInterval is the interval at which the server polls Ziwo. It is short to keep
// the tests fast; they do not depend on its value.
const liveInterval = 20 * time.Millisecond

// serveLive starts a server that polls a simulated Ziwo every liveInterval.
func serveLive(t *testing.T) *ziwoHarness {
	t.Helper()
	z := ziwotest.New(ziwotest.Options{})
	t.Cleanup(z.Close)
	api := httptest.NewServer(z)
	t.Cleanup(api.Close)
	h := serveWith(t, t.TempDir(), documentFor(z, api.URL), func(s *settings) { s.liveInterval = liveInterval })
	return &ziwoHarness{harness: h, ziwo: z}
}

// stream is an open connection that receives server-sent events.
type stream struct {
	t      *testing.T
	events chan streamEvent   // closed at the end of the stream
	close  context.CancelFunc // disconnects
}

// streamEvent is one server-sent event.
type streamEvent struct{ id, name, data string }

// watch opens a stream with additional headers, given as names and values. It
// returns the stream and its first event, which is the snapshot.
func (h *harness) watch(header ...string) (*stream, live.View) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(h.t.Context())
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
		h.t.Fatalf("status %s with header %v, want an event stream that is not cached", res.Status, res.Header)
	}
	s := &stream{t: h.t, events: make(chan streamEvent, 10_000), close: cancel}
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(s.events)
		defer res.Body.Close()
		s.read(bufio.NewScanner(res.Body))
	})
	h.t.Cleanup(func() {
		cancel()
		reading.Wait()
	})
	first := s.next("snapshot")
	return s, decodeStrict[live.View](h.t, first.data)
}

// read parses events and sends them to s.events.
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

// next waits for the next event with the name and skips other events.
func (s *stream) next(name string) streamEvent {
	s.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case e, ok := <-s.events:
			if !ok {
				s.t.Fatalf("stream ended before event %s", name)
			}
			if e.name == name {
				return e
			}
		case <-deadline:
			s.t.Fatalf("timed out after 20 s waiting for event %s", name)
		}
	}
}

// waitForEnd waits until the server ends the stream.
func (s *stream) waitForEnd() {
	s.t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case _, ok := <-s.events:
			if !ok {
				return
			}
		case <-deadline:
			s.t.Fatal("timed out after 20 s waiting for the end of the stream")
		}
	}
}

// decodeStrict decodes JSON and rejects unknown fields.
func decodeStrict[T any](t *testing.T, data string) T {
	t.Helper()
	var v T
	decoder := json.NewDecoder(strings.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("decode %s: %v", data, err)
	}
	return v
}

// nextMatching waits for an event with the name whose data satisfies match.
func nextMatching[T any](s *stream, name string, match func(T) bool) T {
	s.t.Helper()
	for {
		if v := decodeStrict[T](s.t, s.next(name).data); match(v) {
			return v
		}
	}
}

// anyCall matches every call.
func anyCall(live.Call) bool { return true }

// liveView gets the current state as JSON.
func (h *harness) liveView() live.View {
	h.t.Helper()
	return into[live.View](h.t, h.get("/api/v1/live").want(h.t, 200))
}

// liveRecord is the call record of live-1. Its verb is the start time.
const liveRecord = `{"callID":"live-1","direction":"inbound","didCalled":"042345678","callerIDNumber":"0501234567","result":"answered","startedAt":%q,"duration":4}`

func TestLiveReportsStartAndEndOfCalls(t *testing.T) {
	r := serveLive(t)
	s, view := r.watch()
	if len(view.Calls) != 0 || view.Decisions.State != live.SourceOK || len(view.ContactCenters) != 1 || view.ContactCenters[0].State != live.SourceOK {
		t.Fatalf("snapshot %+v, want no calls and all sources ok", view)
	}
	decision := r.startCall("sales", "start-key-1", "didCalled", "042345678", "callerIDNumber", "0501234567", "callID", "live-1").
		want(t, 200).header.Get("X-Decision-Id")
	call := nextMatching(s, "call", anyCall)
	want := live.Call{
		ID: "live-1", CallID: "live-1", ContactCenter: "aldebaran", Tracker: "sales", Direction: "inbound", DID: "+97142345678", Caller: "+971501234567",
		State: live.CallStarted, StartedAt: call.StartedAt, Route: "all", Decision: decision,
	}
	if call != want || time.Since(call.StartedAt).Abs() > time.Minute {
		t.Errorf("got  %+v\nwant %+v", call, want)
	}
	if now := r.liveView(); len(now.Calls) != 1 || now.Calls[0] != want {
		t.Errorf("JSON view has calls %+v, want %+v", now.Calls, want)
	}
	// The snapshot of a second listener includes the call.
	if _, second := r.watch("Last-Event-ID", "17"); len(second.Calls) != 1 || second.Calls[0] != want {
		t.Errorf("snapshot of a second listener has calls %+v, want %+v", second.Calls, want)
	}
	r.endCall("sales", "end-key-1", fmt.Sprintf(liveRecord, time.Now().Format(time.RFC3339))).want(t, 200)
	ended := decodeStrict[live.CallEnded](t, s.next("call-ended").data)
	if stored := r.calls(""); len(stored) != 1 || ended != (live.CallEnded{ID: "live-1", CallID: "live-1", Decision: decision, Call: stored[0].ID}) {
		t.Errorf("ended call %+v does not refer to stored call %+v", ended, stored)
	}
	if now := r.liveView(); len(now.Calls) != 0 {
		t.Errorf("JSON view has calls %+v, want none", now.Calls)
	}
}

func TestLiveReportsAgentsAndTheirCalls(t *testing.T) {
	r := serveLive(t)
	agents := r.ziwo.Agents()
	s, view := r.watch()
	if len(view.Agents) != len(agents) {
		t.Fatalf("got %d agents, want %d", len(view.Agents), len(agents))
	}
	login := agents[3].CCLogin
	want := live.Agent{
		ContactCenter: "aldebaran", Agent: login, Name: agents[3].FirstName + " " + agents[3].LastName, Status: "available", Position: "agent-" + login,
	}
	if view.Agents[3] != want {
		t.Errorf("got  %+v\nwant %+v", view.Agents[3], want)
	}
	r.ziwo.SetStatus(login, 2)
	want.Status = "on_break"
	if got := decodeStrict[live.Agent](t, s.next("agent").data); got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}

	made := into[clicktocall.View](t, r.clickToCall(`{"agent":"`+login+`","number":"0507654321"}`).want(t, 202))
	call := nextMatching(s, "call", anyCall)
	if call.ID != made.CallID || call.Direction != "outbound" || call.DID != "+971507654321" || call.Agent != login || call.Tracker != "" || call.StartedAt.IsZero() {
		t.Errorf("call %+v, want the outbound call %s of agent %s", call, made.CallID, login)
	}
	if got := nextMatching(s, "agent", func(a live.Agent) bool { return a.Agent == login }); got.Call != call.ID {
		t.Errorf("agent is in call %q, want %q", got.Call, call.ID)
	}
	r.ziwo.SetNow(time.Now().Add(time.Minute)) // ends the call
	if ended := decodeStrict[live.CallEnded](t, s.next("call-ended").data); ended.ID != call.ID {
		t.Errorf("ended call %+v, want %s", ended, call.ID)
	}
}

func TestStartedCallIsMatchedWithAgentCall(t *testing.T) {
	for name, callID := range map[string]string{"start call has callID": "live-1", "start call has no callID": ""} {
		t.Run(name, func(t *testing.T) {
			r := serveLive(t)
			s, _ := r.watch()
			fields := []string{"didCalled", "042345678", "callerIDNumber", "0501234567"}
			if callID != "" {
				fields = append(fields, "callID", callID)
			}
			r.startCall("sales", "start-key-1", fields...).want(t, 200)
			started := nextMatching(s, "call", anyCall)
			now := time.Now().UTC().Truncate(time.Second)
			agent := r.ziwo.Agents()[5].CCLogin
			r.ziwo.AddCalls(ziwotest.Call{
				CallID: "live-1", Direction: "inbound", RawDID: "042345678", RawCaller: "+971501234567", CallerName: "Layla", Agent: agent,
				StartedAt: now, AnsweredAt: now, EndedAt: now.Add(time.Hour),
			})
			want := started
			want.CallID, want.State, want.Agent, want.AnsweredAt, want.CallerName = "live-1", live.CallActive, agent, now, "Layla"
			if got := nextMatching(s, "call", anyCall); got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			// The record ends the call, although Ziwo still lists it.
			r.endCall("sales", "end-key-1", fmt.Sprintf(liveRecord, now.Format(time.RFC3339))).want(t, 200)
			if ended := decodeStrict[live.CallEnded](t, s.next("call-ended").data); ended.ID != started.ID || ended.Call == "" {
				t.Errorf("ended call %+v, want %s with its stored call", ended, started.ID)
			}
			if now := r.liveView(); len(now.Calls) != 0 {
				t.Errorf("JSON view has calls %+v, want none", now.Calls)
			}
		})
	}
}

func TestLiveContinuesWithoutZiwo(t *testing.T) {
	r := serveLive(t)
	s, view := r.watch()
	good := view.ContactCenters[0].Since
	r.ziwo.AddFault(ziwotest.Fault{Kind: ziwotest.Fault500, Path: "/live"})
	center := decodeStrict[live.ContactCenter](t, s.next("contact-center").data)
	if center.Name != "aldebaran" || center.State != live.SourceUnavailable || center.Since.Before(good) || !strings.Contains(center.Error, "500") {
		t.Errorf("contact center %+v, want it unavailable with error 500", center)
	}
	r.startCall("sales", "start-key-1", "didCalled", "042345678", "callID", "live-2").want(t, 200)
	if call := nextMatching(s, "call", anyCall); call.CallID != "live-2" {
		t.Errorf("call %+v, want live-2", call)
	}
	now := r.liveView()
	if len(now.Agents) != len(r.ziwo.Agents()) || now.ContactCenters[0] != center {
		t.Errorf("JSON view has contact centers %+v and %d agents, want %+v and %d agents", now.ContactCenters, len(now.Agents), center, len(r.ziwo.Agents()))
	}
	r.ziwo.ClearFaults()
	if center = decodeStrict[live.ContactCenter](t, s.next("contact-center").data); center.State != live.SourceOK || center.Error != "" {
		t.Errorf("contact center %+v, want it ok", center)
	}
	if strings.Contains(r.log.String(), "correct horse") {
		t.Error("log contains the password")
	}
}

func TestLiveContinuesWithoutDatabase(t *testing.T) {
	r := serveLive(t)
	s, _ := r.watch()
	if err := r.parts.store.Close(); err != nil {
		t.Fatal(err)
	}
	source := decodeStrict[live.Source](t, s.next("decisions").data)
	if source.State != live.SourceUnavailable || source.Error != "the database is unavailable" || source.Since.IsZero() {
		t.Errorf("decision source %+v, want it unavailable", source)
	}
	r.ziwo.SetStatus(r.ziwo.Agents()[0].CCLogin, 3)
	if got := decodeStrict[live.Agent](t, s.next("agent").data); got.Status != "meeting" {
		t.Errorf("agent %+v, want status meeting", got)
	}
}

func TestLiveFollowsConfigurationChanges(t *testing.T) {
	r := serveLive(t)
	s, _ := r.watch()
	document := r.parts.config.Current().Version.Document
	api := r.parts.config.Current().Document.ContactCenters["aldebaran"].API
	put := func(document string) {
		t.Helper()
		r.putConfig("", "*", "application/yaml", document).want(t, 200)
	}
	put(strings.Replace(document, "trackers:", "  rigel: {api: \""+api+"\", username: admin@example.com, password: wrong}\ntrackers:", 1))
	states := func(v live.View) (states []string) {
		for _, c := range v.ContactCenters {
			states = append(states, c.Name+" "+string(c.State))
		}
		return states
	}
	nextMatching(s, "snapshot", func(v live.View) bool {
		return slices.Equal(states(v), []string{"aldebaran ok", "rigel waiting"})
	})
	nextMatching(s, "contact-center", func(c live.ContactCenter) bool {
		return c.Name == "rigel" && c.State == live.SourceUnavailable
	})
	put(document)
	nextMatching(s, "snapshot", func(v live.View) bool { return slices.Equal(states(v), []string{"aldebaran ok"}) })
}

func TestLiveWithoutConfigurationIsEmpty(t *testing.T) {
	h := serve(t, "")
	if now := h.liveView(); now.Decisions.State != live.SourceOK || now.Calls == nil || now.Agents == nil || now.ContactCenters == nil {
		t.Errorf("view %+v, want empty lists and decisions ok", now)
	}
	h.do(request{method: "GET", path: "/api/v1/live"}).want(t, 401)
	h.do(request{method: "GET", path: "/api/v1/live", header: map[string]string{"Accept": "text/event-stream"}}).want(t, 401)
	h.get("/api/v1/live?since=1").want(t, 422)
}

// countingZiwo is a Ziwo that counts concurrent requests for its agents.
type countingZiwo struct {
	*ziwotest.Ziwo
	mu                    sync.Mutex
	inFlight, maxInFlight int
}

func (c *countingZiwo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/live/agents" {
		c.add(1)
		defer c.add(-1)
	}
	c.Ziwo.ServeHTTP(w, r)
}

func (c *countingZiwo) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inFlight += n
	c.maxInFlight = max(c.maxInFlight, c.inFlight)
}

func (c *countingZiwo) counts() (inFlight, maxInFlight int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inFlight, c.maxInFlight
}

func TestListenersShareOnePollOfZiwo(t *testing.T) {
	z := &countingZiwo{Ziwo: ziwotest.New(ziwotest.Options{})}
	t.Cleanup(z.Close)
	api := httptest.NewServer(z)
	t.Cleanup(api.Close)
	z.AddFault(ziwotest.Fault{Kind: ziwotest.FaultHang, Path: "/live"})
	h := serveWith(t, t.TempDir(), documentFor(z.Ziwo, api.URL), func(s *settings) { s.liveInterval = liveInterval })
	var streams []*stream
	for range 5 {
		s, view := h.watch()
		if view.ContactCenters[0].State == live.SourceOK || view.Decisions.State != live.SourceOK {
			t.Errorf("snapshot %+v, want Ziwo not ok and decisions ok", view)
		}
		streams = append(streams, s)
	}
	// Every stream reports a new call although Ziwo does not respond.
	h.startCall("sales", "start-key-1", "didCalled", "042345678", "callID", "live-1").want(t, 200)
	for _, s := range streams {
		nextMatching(s, "call", anyCall)
	}
	if n, watching := h.parts.wallboard.Listeners(); n != len(streams) || !watching {
		t.Errorf("%d listeners (watching %v), want %d", n, watching, len(streams))
	}
	if !strings.Contains(h.do(request{method: "GET", path: "/metrics"}).body, "calltracker_live_listeners 5\n") {
		t.Error("metrics do not contain calltracker_live_listeners 5")
	}
	for _, s := range streams {
		s.close()
	}
	eventually(t, "the end of polling", func() bool {
		_, watching := h.parts.wallboard.Listeners()
		inFlight, _ := z.counts()
		return !watching && inFlight == 0
	})
	if _, maxInFlight := z.counts(); maxInFlight != 1 {
		t.Errorf("Ziwo received %d concurrent requests, want 1", maxInFlight)
	}
}

func TestSlowListenerIsDroppedWithoutDelayingOthers(t *testing.T) {
	r := serveLive(t)
	slow, err := r.parts.wallboard.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s, _ := r.watch()
	login := r.ziwo.Agents()[0].CCLogin
	for i := range 40 { // more than the buffer of a listener holds
		r.ziwo.SetStatus(login, 2+i%2)
		nextMatching(s, "agent", func(a live.Agent) bool { return a.Agent == login })
	}
	received := 0
	for range slow.Events() { // ends, because the server closes the channel of a slow listener
		received++
	}
	if received == 0 || received >= 40 {
		t.Errorf("slow listener received %d updates, want at least 1 and fewer than 40", received)
	}
	slow.Close() // closing a dropped listener does nothing
	if n, _ := r.parts.wallboard.Listeners(); n != 1 {
		t.Errorf("%d listeners, want 1", n)
	}
}

func TestListenersAreLimited(t *testing.T) {
	r := serveLive(t)
	var listeners []*live.Listener
	defer func() {
		for _, l := range listeners {
			l.Close()
		}
	}()
	for {
		l, err := r.parts.wallboard.Listen()
		if err != nil {
			break
		}
		if listeners = append(listeners, l); len(listeners) > 1000 {
			t.Fatal("server accepted more than 1000 listeners")
		}
	}
	for _, accept := range []string{"application/json", "text/event-stream"} {
		got := r.do(request{method: "GET", path: "/api/v1/live", admin: true, header: map[string]string{"Accept": accept}}).want(t, 503)
		if got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "too many listeners") {
			t.Errorf("%s: header %v and body %s, want Retry-After and too many listeners", accept, got.header, got.body)
		}
	}
	listeners[0].Close()
	listeners = listeners[1:]
	r.watch()
}

func TestShutdownEndsStreams(t *testing.T) {
	r := serveLive(t)
	s, _ := r.watch()
	r.stop() // fails the test after 10 s
	s.waitForEnd()
	if strings.Contains(r.log.String(), "requests interrupted") || strings.Contains(r.log.String(), `"level":"ERROR"`) {
		t.Errorf("shutdown was not graceful: %s", r.log)
	}
}
