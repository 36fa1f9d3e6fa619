package ziwotest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// routes is the API on one page.
func (z *Ziwo) routes() *http.ServeMux {
	mux := http.NewServeMux()
	route := func(pattern string, admitted func(*http.Request) bool, handler http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			z.mu.Lock()
			z.requests[pattern]++
			fault := z.fault(r)
			z.mu.Unlock()
			if fault != nil && !fault.Kind.bends() {
				fail(w, r, *fault)
				return
			}
			if fault != nil {
				w = &bent{ResponseWriter: w, request: r, kind: fault.Kind}
			}
			if !admitted(r) {
				refuse(w, http.StatusUnauthorized, "Unauthorized")
				return
			}
			handler(w, r)
		})
	}
	anyone := func(*http.Request) bool { return true }
	route("POST /auth/login", anyone, z.login)
	route("GET /profile", z.byToken, z.profile)

	route("GET /admin/callTrackers/{$}", z.byToken, z.listTrackers)
	route("GET /admin/callTrackers", z.byToken, z.listTrackers)
	route("POST /admin/callTrackers", z.byToken, z.createTracker)
	route("GET /admin/callTrackers/logs", z.byToken, z.trackerLogs)
	route("GET /admin/callTrackers/{id}", z.byToken, z.getTracker)
	route("PUT /admin/callTrackers/{id}", z.byToken, z.updateTracker)
	route("DELETE /admin/callTrackers/{id}", z.byToken, z.deleteTracker)
	route("PUT /admin/callTrackers/{id}/block", z.byToken, z.block(true))
	route("PUT /admin/callTrackers/{id}/unblock", z.byToken, z.block(false))
	route("PUT /admin/callTrackers/{id}/test", z.byToken, z.testTracker)
	route("GET /admin/numbers/{$}", z.byToken, z.listNumbers)

	route("GET /callHistory/{$}", z.byToken, z.callHistory)
	route("GET /callHistory", z.byToken, z.callHistory)
	route("GET /callHistory/{id}", z.byToken, z.historyCall)

	z.recordingRoutes(route)

	route("POST /integrations/cti/agents/{agent}/call", z.byAPIKey, z.clickToCall)
	route("POST /integrations/cti/agents/{agent}/call/{number}", z.byAPIKey, z.clickToCall)
	route("GET /integrations/cti/agents/{agent}/call", z.byAPIKey, z.agentCall)
	route("GET /live/agents", z.byToken, z.liveAgents)
	route("POST /live/calls/eavesdrop/{agent}", z.byToken, z.eavesdrop)
	route("PUT /live/calls/eavesdrop/{callID}", z.byToken, z.whisper)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "Not Found") })
	return mux
}

// ServeHTTP is the API.
func (z *Ziwo) ServeHTTP(w http.ResponseWriter, r *http.Request) { z.mux.ServeHTTP(w, r) }

// fault is the first that applies. The caller holds the lock.
func (z *Ziwo) fault(r *http.Request) *Fault {
	for _, f := range z.faults {
		if f.Times != 0 && strings.HasPrefix(r.URL.Path, f.Path) {
			if f.Times > 0 {
				f.Times--
			}
			return f
		}
	}
	return nil
}

func fail(w http.ResponseWriter, r *http.Request, f Fault) {
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	write := func(contentType, body string) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte(body)) // a client that went away is its own affair
	}
	switch f.Kind {
	case FaultHTML:
		write("text/html", "<!doctype html><title>One moment</title><p>We are moving.")
	case FaultEmpty:
		w.WriteHeader(http.StatusOK)
	case FaultWrongJSON:
		write("application/json", `{"result":true,"content":[{"callID":"`)
	case FaultOtherJSON:
		write("application/json", `"maintenance"`)
	case FaultRefused:
		refuse(w, http.StatusOK, "This cannot be done now")
	case Fault429:
		refuse(w, http.StatusTooManyRequests, "Too many requests")
	case Fault500:
		refuse(w, http.StatusInternalServerError, "Internal error")
	case FaultCut:
		w.Header().Set("Content-Length", "1000")
		write("application/json", `{"result":true,`)
		panic(http.ErrAbortHandler)
	case FaultHang:
		<-r.Context().Done()
	}
}

func succeed(w http.ResponseWriter, content, info any) {
	if content == nil {
		content = map[string]any{}
	}
	if info == nil {
		info = map[string]any{}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(encode(map[string]any{"result": true, "content": content, "info": info}))
}

func refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(encode(map[string]any{"result": false, "error": map[string]any{"message": message}}))
}

func (z *Ziwo) byToken(r *http.Request) bool {
	token := r.Header.Get("access_token")
	if token == "" {
		token = r.URL.Query().Get("access_token")
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.tokens[token]
}

func (z *Ziwo) byAPIKey(r *http.Request) bool {
	key := r.Header.Get("api_key")
	if key == "" {
		key = r.FormValue("api_key")
	}
	return key == z.options.APIKey
}

func (z *Ziwo) login(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("username") != z.options.Username || r.FormValue("password") != z.options.Password {
		refuse(w, http.StatusUnauthorized, "Wrong username or password")
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.logins++
	token := fmt.Sprintf("70000000-0000-4000-8000-%012d", z.logins)
	z.tokens[token] = true
	succeed(w, map[string]any{"access_token": token, "username": z.options.Username}, nil)
}

func (z *Ziwo) profile(w http.ResponseWriter, _ *http.Request) {
	succeed(w, map[string]any{"username": z.options.Username, "type": "admin"}, nil)
}

// window cuts the page that a request asks for out of a list of n.
func window(r *http.Request, n, most int) (from, to int) {
	limit, skip := number(r, "limit", most), number(r, "skip", 0)
	if r.URL.Query().Has("fetchStop") { // the older paging, whose stop is a size
		limit, skip = number(r, "fetchStop", most), number(r, "fetchStart", 0)
	}
	if limit <= 0 || limit > most {
		limit = most
	}
	from = min(max(skip, 0), n)
	return from, min(from+limit, n)
}

func number(r *http.Request, name string, otherwise int) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil {
		return otherwise
	}
	return n
}

const adminPage = 50

func (z *Ziwo) listTrackers(w http.ResponseWriter, r *http.Request) {
	var out []any
	search := strings.ToLower(r.URL.Query().Get("search"))
	for _, t := range z.Trackers() {
		if strings.Contains(strings.ToLower(t.Name), search) {
			out = append(out, t.view())
		}
	}
	from, to := window(r, len(out), adminPage)
	page := out[from:to]
	if len(page) == 1 { // as on Ziwo's page: a list of one shows as an object
		succeed(w, page[0], map[string]any{"total": len(out)})
		return
	}
	if page == nil {
		page = []any{}
	}
	succeed(w, page, map[string]any{"total": len(out)})
}

func (t Tracker) view() map[string]any {
	optional := func(text string) any {
		if text == "" {
			return nil
		}
		return text
	}
	timeout := func(n int) any {
		if n == 0 {
			return nil
		}
		return n
	}
	status := "active"
	if t.Blocked {
		status = "blocked"
	}
	return map[string]any{
		"id": t.ID, "name": t.Name, "startRequestURL": t.StartRequestURL, "endRequestURL": t.EndRequestURL,
		"startRequestAPIKey": optional(t.StartRequestKey), "endRequestAPIKey": optional(t.EndRequestKey),
		"startRequestTimeout": timeout(t.StartTimeout), "endRequestTimeout": timeout(t.EndTimeout),
		"welcomePlayback": optional(t.WelcomePlayback), "errorPlayback": optional(t.ErrorPlayback), "status": status,
	}
}

func (z *Ziwo) createTracker(w http.ResponseWriter, r *http.Request) {
	t := Tracker{Name: strings.TrimSpace(r.PostFormValue("name"))}
	if t.Name == "" {
		refuse(w, http.StatusBadRequest, "name is required")
		return
	}
	if message := t.take(r); message != "" {
		refuse(w, http.StatusBadRequest, message)
		return
	}
	z.mu.Lock()
	taken := z.trackerNamed(t.Name) != nil
	z.mu.Unlock()
	if taken {
		refuse(w, http.StatusConflict, "name is taken")
		return
	}
	z.AddTracker(t)
	succeed(w, nil, nil)
}

// take reads the fields of a tracker; it says what is wrong with them.
func (t *Tracker) take(r *http.Request) string {
	if err := r.ParseForm(); err != nil {
		return "the body is no form"
	}
	for _, f := range []struct {
		name string
		to   *string
	}{
		{"startRequestURL", &t.StartRequestURL}, {"endRequestURL", &t.EndRequestURL},
		{"startRequestAPIKey", &t.StartRequestKey}, {"endRequestAPIKey", &t.EndRequestKey},
		{"welcomePlayback", &t.WelcomePlayback}, {"errorPlayback", &t.ErrorPlayback},
	} {
		if r.PostForm.Has(f.name) {
			*f.to = r.PostForm.Get(f.name)
		}
	}
	for name, text := range map[string]string{"startRequestURL": t.StartRequestURL, "endRequestURL": t.EndRequestURL} {
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return name + " must be an address"
		}
	}
	for name, to := range map[string]*int{"startRequestTimeout": &t.StartTimeout, "endRequestTimeout": &t.EndTimeout} {
		if text := r.PostForm.Get(name); text != "" {
			ms, err := strconv.Atoi(text)
			if err != nil || ms < 1 {
				return name + " must be a number of milliseconds"
			}
			*to = ms
		}
	}
	return ""
}

// withTracker finds the tracker of a request and gives a copy to use.
func (z *Ziwo) withTracker(w http.ResponseWriter, r *http.Request, use func(Tracker)) {
	z.mu.Lock()
	t := z.find(r.PathValue("id"))
	var found Tracker
	if t != nil {
		found = *t
	}
	z.mu.Unlock()
	if t == nil {
		refuse(w, http.StatusNotFound, "Call tracker not found")
		return
	}
	use(found)
}

func (z *Ziwo) put(t Tracker) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.trackers[t.ID] = &t
}

func (z *Ziwo) getTracker(w http.ResponseWriter, r *http.Request) {
	z.withTracker(w, r, func(t Tracker) { succeed(w, t.view(), nil) })
}

func (z *Ziwo) updateTracker(w http.ResponseWriter, r *http.Request) {
	z.withTracker(w, r, func(t Tracker) {
		if message := t.take(r); message != "" {
			refuse(w, http.StatusBadRequest, message)
			return
		}
		z.put(t)
		succeed(w, nil, nil)
	})
}

func (z *Ziwo) deleteTracker(w http.ResponseWriter, r *http.Request) {
	z.withTracker(w, r, func(t Tracker) {
		z.mu.Lock()
		delete(z.trackers, t.ID)
		z.mu.Unlock()
		succeed(w, nil, nil)
	})
}

func (z *Ziwo) block(blocked bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		z.withTracker(w, r, func(t Tracker) {
			t.Blocked = blocked
			z.put(t)
			succeed(w, nil, nil)
		})
	}
}

// testTracker calls both addresses with made-up values. The form of the answer
// is not published.
func (z *Ziwo) testTracker(w http.ResponseWriter, r *http.Request) {
	z.withTracker(w, r, func(t Tracker) {
		start, end := z.TestCall(r.Context(), t.Name)
		side := func(status int) map[string]any {
			return map[string]any{"status": status, "success": status == http.StatusOK}
		}
		succeed(w, map[string]any{"start": side(start), "end": side(end)}, nil)
	})
}

// TestCall sends a start and an end call with made-up values to a tracker, as
// Ziwo's own test does, and returns the statuses; 0 is no answer.
func (z *Ziwo) TestCall(ctx context.Context, tracker string) (start, end int) {
	z.mu.Lock()
	t := z.trackerNamed(tracker)
	z.mu.Unlock()
	if t == nil {
		return 0, 0
	}
	c := &Call{
		ContactCenter: z.options.ContactCenter, CallID: "dummy-call-id", Direction: "inbound", RawDID: "000000000", RawCaller: "000000001",
		StartedAt: z.Now().Truncate(time.Second), EndedAt: z.Now().Truncate(time.Second), HangupCause: "NORMAL_CLEARING", Result: "missed",
	}
	out := z.askStart(ctx, *t, c, faults{})
	d := z.postEnd(ctx, *t, encode(map[string]any{"callID": c.CallID, "didCalled": c.RawDID, "test": true}), faults{})
	return out.status, d.Status
}

func (z *Ziwo) listNumbers(w http.ResponseWriter, r *http.Request) {
	z.mu.Lock()
	numbers := slices.Clone(z.numbers)
	z.mu.Unlock()
	from, to := window(r, len(numbers), adminPage)
	page := []any{}
	for i, n := range numbers[from:to] {
		kind, data := "callTracker", n.Tracker
		if n.Tracker == "" {
			kind, data = "queue", "front desk"
		}
		page = append(page, map[string]any{"id": from + i + 1, "did": n.Called, "didCalled": n.Called, "didDisplay": n.Called, "linkType": kind, "linkData": data, "status": "active"})
	}
	succeed(w, page, map[string]any{"totalRecords": len(numbers)})
}

// between reads fromDate and toDate, whole days in UTC.
func between(r *http.Request) (from, to time.Time, ok bool) {
	from, to = time.Time{}, time.Unix(1<<40, 0)
	for name, at := range map[string]*time.Time{"fromDate": &from, "toDate": &to} {
		if text := r.URL.Query().Get(name); text != "" {
			day, err := time.Parse(time.DateOnly, text)
			if err != nil {
				return from, to, false
			}
			if name == "toDate" {
				day = day.AddDate(0, 0, 1)
			}
			*at = day
		}
	}
	return from, to, true
}

func (z *Ziwo) callHistory(w http.ResponseWriter, r *http.Request) {
	from, to, ok := between(r)
	if !ok {
		refuse(w, http.StatusBadRequest, "fromDate and toDate must be dates")
		return
	}
	q := r.URL.Query()
	contact, callID := q.Get("contactNumber"), q.Get("callID")
	now := z.Now()
	z.mu.Lock()
	defer z.mu.Unlock()
	var found []*Call
	for _, c := range z.newestFirst() {
		switch {
		case c.StartedAt.Before(from) || !c.StartedAt.Before(to) || c.EndedAt.After(now):
		case callID != "" && callID != c.CallID:
		case contact != "" && contact != c.RawCaller && contact != c.Caller:
		default:
			found = append(found, c)
		}
	}
	if !strings.HasPrefix(q.Get("order"), "~") {
		slices.Reverse(found)
	}
	first, last := window(r, len(found), z.options.HistoryPage)
	var body bytes.Buffer
	body.WriteString(`{"result":true,"content":[`)
	for i, c := range found[first:last] {
		if i > 0 {
			body.WriteByte(',')
		}
		body.Write(c.today(!c.RecordedAt.After(now)))
	}
	fmt.Fprintf(&body, `],"info":{"total":%d}}`, len(found))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(body.Bytes())
}

// byRecord finds a call by Ziwo's number or by callID.
func (z *Ziwo) byRecord(id string) (Call, bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if c := z.byCallID[id]; c != nil {
		return *c, true
	}
	n, err := strconv.Atoi(id)
	if err != nil {
		return Call{}, false
	}
	for _, c := range z.calls {
		if c.record == n {
			return *c, true
		}
	}
	return Call{}, false
}

func (z *Ziwo) historyCall(w http.ResponseWriter, r *http.Request) {
	c, ok := z.byRecord(r.PathValue("id"))
	if !ok {
		refuse(w, http.StatusNotFound, "Call not found")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = fmt.Fprintf(w, `{"result":true,"content":%s,"info":{}}`, c.today(!c.RecordedAt.After(z.Now())))
}

// trackerLogs has a form of our own: Ziwo does not publish its.
func (z *Ziwo) trackerLogs(w http.ResponseWriter, r *http.Request) {
	from, to, ok := between(r)
	if !ok {
		refuse(w, http.StatusBadRequest, "fromDate and toDate must be dates")
		return
	}
	wanted := r.URL.Query()["callTrackers[]"]
	now := z.Now()
	z.mu.Lock()
	defer z.mu.Unlock()
	var found []logEntry
	for _, e := range slices.Backward(z.logs) { // newest first
		if !e.at.Before(from) && e.at.Before(to) && (len(wanted) == 0 || slices.Contains(wanted, strconv.Itoa(e.tracker.ID))) {
			found = append(found, e)
		}
	}
	first, last := window(r, len(found), z.options.HistoryPage)
	page := []any{}
	for i, e := range found[first:last] {
		view := map[string]any{
			"id": len(found) - first - i, "callTracker": map[string]any{"id": e.tracker.ID, "name": e.tracker.Name}, "callID": e.call.CallID,
			"createdAt": iso(e.at), "type": "endCall", "response": map[string]any{"statusCode": e.status},
		}
		if e.start {
			view["type"], view["request"] = "startCall", map[string]any{"didCalled": e.call.RawDID, "callerIDNumber": e.call.RawCaller, "callID": e.call.CallID}
		} else {
			view["request"] = string(e.call.page2016(!e.call.RecordedAt.After(now)))
		}
		page = append(page, view)
	}
	succeed(w, page, map[string]any{"total": len(found)})
}

func (z *Ziwo) agent(ccLogin string) *Agent {
	for i := range z.agents {
		if z.agents[i].CCLogin == ccLogin {
			return &z.agents[i]
		}
	}
	return nil
}

// clickToCall rings the agent, who takes it at once, and then the customer.
func (z *Ziwo) clickToCall(w http.ResponseWriter, r *http.Request) {
	agent := z.agent(r.PathValue("agent"))
	to := r.PathValue("number")
	if to == "" {
		to = r.PostFormValue("number")
	}
	digits, international := strings.CutPrefix(to, "00")
	switch {
	case agent == nil:
		refuse(w, http.StatusNotFound, "Agent not found")
		return
	case !international || len(digits) < 7 || strings.Trim(digits, "0123456789") != "":
		refuse(w, http.StatusBadRequest, "number must start with 00 and the country code")
		return
	}
	now := z.Now().Truncate(time.Second)
	z.mu.Lock()
	defer z.mu.Unlock()
	if status, set := z.statuses[agent.CCLogin]; set && status == 0 {
		refuse(w, http.StatusBadRequest, "Agent is not logged in")
		return
	}
	if z.callOf(agent.CCLogin, now) != nil {
		refuse(w, http.StatusConflict, "Agent is in a call, not called: "+to)
		return
	}
	const ring, talk = 6, 40
	rng := rand.New(rand.NewPCG(z.options.Seed, uint64(1<<40+len(z.calls)+len(z.live))))
	id := newCallID(rng)
	c := &Call{
		ContactCenter: z.options.ContactCenter, CallID: id, Direction: "outbound", DID: "+" + digits, RawDID: to,
		Caller: "agent-" + agent.CCLogin, RawCaller: "agent-" + agent.CCLogin, CallerName: "Outbound Call", StartedAt: now, AnsweredAt: now.Add(ring * time.Second),
		EndedAt: now.Add((ring + talk) * time.Second), Duration: ring + talk, RingTime: ring, TalkTime: talk, Result: "answered",
		HangupCause: "NORMAL_CLEARING", HangupBy: "originatee", Agent: agent.CCLogin, Position: "agent-" + agent.CCLogin,
		RecordingFile: id + ".mp3", talk: agent,
	}
	z.keep(c)
	succeed(w, map[string]any{"callID": c.CallID}, nil)
}

// callOf is the call that an agent is in now. The caller holds the lock.
func (z *Ziwo) callOf(ccLogin string, now time.Time) *Call {
	for _, c := range z.live {
		if c.Agent == ccLogin && !now.Before(c.StartedAt) {
			return c
		}
	}
	const recent = 50 // a call by CTI is kept at once and ends later
	for i := len(z.calls) - 1; i >= max(0, len(z.calls)-recent); i-- {
		if c := z.calls[i]; c.Agent == ccLogin && !now.Before(c.StartedAt) && now.Before(c.EndedAt) {
			return c
		}
	}
	for _, c := range z.calls[:min(len(z.calls), recent)] { // when they are newest first
		if c.Agent == ccLogin && !now.Before(c.StartedAt) && now.Before(c.EndedAt) {
			return c
		}
	}
	return nil
}

// queueInfo is a call as CTI shows it: epochs as texts, and the direction of the
// phone's leg beside that of the call.
func (c Call) queueInfo(now time.Time) map[string]any {
	state, bridged := "early", ""
	if !c.AnsweredAt.IsZero() && !now.Before(c.AnsweredAt) {
		state, bridged = "active", strconv.FormatInt(c.AnsweredAt.Unix(), 10)
	}
	return map[string]any{
		"callID": c.CallID, "didCalled": c.RawDID, "callerPosition": c.Position, "callerID": c.RawCaller, "callerName": c.CallerName,
		"calleeID": c.RawDID, "calleeName": c.RawDID, "calleePosition": "", "createdEPOCH": strconv.FormatInt(c.StartedAt.Unix(), 10),
		"calleeDirection": c.Direction, "callState": state, "calleeCallState": state, "direction": "inbound", "channelBridgeEPOCH": bridged,
		"originalCallerIdName": c.CallerName, "originalCallerIdNumber": c.RawCaller,
	}
}

func (z *Ziwo) agentCall(w http.ResponseWriter, r *http.Request) {
	now := z.Now()
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.agent(r.PathValue("agent")) == nil {
		refuse(w, http.StatusNotFound, "Agent not found")
		return
	}
	content := map[string]any{"callInfo": map[string]any{}, "queueInfo": map[string]any{}}
	if c := z.callOf(r.PathValue("agent"), now); c != nil {
		content["queueInfo"] = c.queueInfo(now)
	}
	succeed(w, content, nil)
}

func (z *Ziwo) liveAgents(w http.ResponseWriter, _ *http.Request) {
	now := z.Now()
	z.mu.Lock()
	defer z.mu.Unlock()
	out := []any{}
	for _, a := range z.agents {
		status, set := z.statuses[a.CCLogin]
		if !set {
			status = 1
		}
		view := map[string]any{
			"id": a.ID, "firstName": a.FirstName, "lastName": a.LastName, "username": a.Username, "ccLogin": a.CCLogin,
			"position": "agent-" + a.CCLogin, "liveInfo": map[string]any{"status": strconv.Itoa(status), "callsAnswered": "0"},
		}
		if c := z.callOf(a.CCLogin, now); c != nil {
			view["queueInfo"] = c.queueInfo(now)
		}
		out = append(out, view)
	}
	succeed(w, out, nil)
}

// SetStatus changes the status of an agent.
func (z *Ziwo) SetStatus(ccLogin string, status int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.statuses[ccLogin] = status
}

func (z *Ziwo) eavesdrop(w http.ResponseWriter, r *http.Request) {
	now := z.Now()
	z.mu.Lock()
	defer z.mu.Unlock()
	c := z.callOf(r.PathValue("agent"), now)
	if c == nil {
		refuse(w, http.StatusNotFound, "The agent is in no call")
		return
	}
	id := "eavesdrop-" + c.CallID
	z.whispers[id] = "none"
	succeed(w, map[string]any{"callID": id}, nil)
}

func (z *Ziwo) whisper(w http.ResponseWriter, r *http.Request) {
	z.mu.Lock()
	defer z.mu.Unlock()
	id, to := r.PathValue("callID"), r.PostFormValue("whisper")
	if _, ok := z.whispers[id]; !ok {
		refuse(w, http.StatusNotFound, "Call not found")
		return
	}
	if to != "none" && to != "agent" && to != "both" {
		refuse(w, http.StatusBadRequest, "whisper must be agent, both or none")
		return
	}
	z.whispers[id] = to
	succeed(w, nil, nil)
}

// Whispering is who hears the listening call with an id.
func (z *Ziwo) Whispering(callID string) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.whispers[callID]
}
