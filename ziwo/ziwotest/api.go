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

// routes returns the routes of the API.
func (z *Ziwo) routes() *http.ServeMux {
	mux := http.NewServeMux()
	route := func(pattern string, authorized func(*http.Request) bool, handler http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			z.mu.Lock()
			z.requests[pattern]++
			fault := z.fault(r)
			z.mu.Unlock()
			if fault != nil && !fault.Kind.altersResponse() {
				writeFault(w, r, *fault)
				return
			}
			if fault != nil {
				w = &faultyWriter{ResponseWriter: w, request: r, kind: fault.Kind}
			}
			if !authorized(r) {
				respondError(w, http.StatusUnauthorized, "Unauthorized")
				return
			}
			handler(w, r)
		})
	}
	public := func(*http.Request) bool { return true }
	route("POST /auth/login", public, z.login)
	route("GET /profile", z.hasToken, z.profile)

	route("GET /admin/callTrackers/{$}", z.hasToken, z.listTrackers)
	route("GET /admin/callTrackers", z.hasToken, z.listTrackers)
	route("POST /admin/callTrackers", z.hasToken, z.createTracker)
	route("GET /admin/callTrackers/logs", z.hasToken, z.trackerLogs)
	route("GET /admin/callTrackers/{id}", z.hasToken, z.getTracker)
	route("PUT /admin/callTrackers/{id}", z.hasToken, z.updateTracker)
	route("DELETE /admin/callTrackers/{id}", z.hasToken, z.deleteTracker)
	route("PUT /admin/callTrackers/{id}/block", z.hasToken, z.block(true))
	route("PUT /admin/callTrackers/{id}/unblock", z.hasToken, z.block(false))
	route("PUT /admin/callTrackers/{id}/test", z.hasToken, z.testTracker)
	route("GET /admin/numbers/{$}", z.hasToken, z.listNumbers)

	route("GET /callHistory/{$}", z.hasToken, z.callHistory)
	route("GET /callHistory", z.hasToken, z.callHistory)
	route("GET /callHistory/{id}", z.hasToken, z.historyCall)

	z.recordingRoutes(route)

	route("POST /integrations/cti/agents/{agent}/call", z.hasAPIKey, z.clickToCall)
	route("POST /integrations/cti/agents/{agent}/call/{number}", z.hasAPIKey, z.clickToCall)
	route("GET /integrations/cti/agents/{agent}/call", z.hasAPIKey, z.agentCall)
	route("GET /live/agents", z.hasToken, z.liveAgents)
	route("POST /live/calls/eavesdrop/{agent}", z.hasToken, z.eavesdrop)
	route("PUT /live/calls/eavesdrop/{callID}", z.hasToken, z.whisper)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { respondError(w, http.StatusNotFound, "Not Found") })
	return mux
}

// ServeHTTP serves the API.
func (z *Ziwo) ServeHTTP(w http.ResponseWriter, r *http.Request) { z.mux.ServeHTTP(w, r) }

// fault returns the first fault that applies to r, or nil. It requires z.mu.
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

// writeFault responds with a fault.
func writeFault(w http.ResponseWriter, r *http.Request, f Fault) {
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	write := func(contentType, body string) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write([]byte(body)) // the client may have disconnected
	}
	switch f.Kind {
	case FaultHTML:
		write("text/html", "<!doctype html><title>One moment</title><p>We are moving.")
	case FaultEmpty:
		w.WriteHeader(http.StatusOK)
	case FaultTruncatedJSON:
		write("application/json", `{"result":true,"content":[{"callID":"`)
	case FaultUnexpectedJSON:
		write("application/json", `"maintenance"`)
	case FaultRejected:
		respondError(w, http.StatusOK, "This cannot be done now")
	case Fault429:
		respondError(w, http.StatusTooManyRequests, "Too many requests")
	case Fault500:
		respondError(w, http.StatusInternalServerError, "Internal error")
	case FaultAbort:
		w.Header().Set("Content-Length", "1000")
		write("application/json", `{"result":true,`)
		panic(http.ErrAbortHandler)
	case FaultHang:
		<-r.Context().Done()
	}
}

// respond writes a successful response.
func respond(w http.ResponseWriter, content, info any) {
	if content == nil {
		content = map[string]any{}
	}
	if info == nil {
		info = map[string]any{}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(encode(map[string]any{"result": true, "content": content, "info": info}))
}

// respondError writes an error response.
func respondError(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(encode(map[string]any{"result": false, "error": map[string]any{"message": message}}))
}

// hasToken reports whether r has a valid access token.
func (z *Ziwo) hasToken(r *http.Request) bool {
	token := r.Header.Get("access_token")
	if token == "" {
		token = r.URL.Query().Get("access_token")
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.tokens[token]
}

// hasAPIKey reports whether r has the API key.
func (z *Ziwo) hasAPIKey(r *http.Request) bool {
	key := r.Header.Get("api_key")
	if key == "" {
		key = r.FormValue("api_key")
	}
	return key == z.options.APIKey
}

func (z *Ziwo) login(w http.ResponseWriter, r *http.Request) {
	if r.FormValue("username") != z.options.Username || r.FormValue("password") != z.options.Password {
		respondError(w, http.StatusUnauthorized, "Wrong username or password")
		return
	}
	z.mu.Lock()
	defer z.mu.Unlock()
	z.logins++
	token := fmt.Sprintf("70000000-0000-4000-8000-%012d", z.logins)
	z.tokens[token] = true
	respond(w, map[string]any{"access_token": token, "username": z.options.Username}, nil)
}

func (z *Ziwo) profile(w http.ResponseWriter, _ *http.Request) {
	respond(w, map[string]any{"username": z.options.Username, "type": "admin"}, nil)
}

// pageBounds returns the bounds of the page that r requests from a list of n items.
func pageBounds(r *http.Request, n, maxLimit int) (from, to int) {
	limit, skip := intParam(r, "limit", maxLimit), intParam(r, "skip", 0)
	if r.URL.Query().Has("fetchStop") { // the older pagination, in which fetchStop is the page size
		limit, skip = intParam(r, "fetchStop", maxLimit), intParam(r, "fetchStart", 0)
	}
	if limit <= 0 || limit > maxLimit {
		limit = maxLimit
	}
	from = min(max(skip, 0), n)
	return from, min(from+limit, n)
}

// intParam returns a query parameter, or fallback if it is not a number.
func intParam(r *http.Request, name string, fallback int) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil {
		return fallback
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
	from, to := pageBounds(r, len(out), adminPage)
	page := out[from:to]
	if len(page) == 1 { // Ziwo's documentation shows a list of one as an object
		respond(w, page[0], map[string]any{"total": len(out)})
		return
	}
	if page == nil {
		page = []any{}
	}
	respond(w, page, map[string]any{"total": len(out)})
}

// view returns t as the API shows it.
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
		respondError(w, http.StatusBadRequest, "name is required")
		return
	}
	if message := t.setFields(r); message != "" {
		respondError(w, http.StatusBadRequest, message)
		return
	}
	z.mu.Lock()
	exists := z.trackerByName(t.Name) != nil
	z.mu.Unlock()
	if exists {
		respondError(w, http.StatusConflict, "name is taken")
		return
	}
	z.AddTracker(t)
	respond(w, nil, nil)
}

// setFields sets the fields of t from a form. It returns a message if the form is
// invalid.
func (t *Tracker) setFields(r *http.Request) string {
	if err := r.ParseForm(); err != nil {
		return "the body is not a form"
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
			return name + " must be a URL"
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

// withTracker passes a copy of the requested tracker to use, or responds that there
// is none.
func (z *Ziwo) withTracker(w http.ResponseWriter, r *http.Request, use func(Tracker)) {
	z.mu.Lock()
	t := z.trackerByIDOrName(r.PathValue("id"))
	var found Tracker
	if t != nil {
		found = *t
	}
	z.mu.Unlock()
	if t == nil {
		respondError(w, http.StatusNotFound, "Call tracker not found")
		return
	}
	use(found)
}

// saveTracker replaces the tracker with the ID of t.
func (z *Ziwo) saveTracker(t Tracker) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.trackers[t.ID] = &t
}

func (z *Ziwo) getTracker(w http.ResponseWriter, r *http.Request) {
	z.withTracker(w, r, func(t Tracker) { respond(w, t.view(), nil) })
}

func (z *Ziwo) updateTracker(w http.ResponseWriter, r *http.Request) {
	z.withTracker(w, r, func(t Tracker) {
		if message := t.setFields(r); message != "" {
			respondError(w, http.StatusBadRequest, message)
			return
		}
		z.saveTracker(t)
		respond(w, nil, nil)
	})
}

func (z *Ziwo) deleteTracker(w http.ResponseWriter, r *http.Request) {
	z.withTracker(w, r, func(t Tracker) {
		z.mu.Lock()
		delete(z.trackers, t.ID)
		z.mu.Unlock()
		respond(w, nil, nil)
	})
}

func (z *Ziwo) block(blocked bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		z.withTracker(w, r, func(t Tracker) {
			t.Blocked = blocked
			z.saveTracker(t)
			respond(w, nil, nil)
		})
	}
}

// testTracker sends test requests to both URLs of a tracker. Ziwo does not publish
// the format of its response.
func (z *Ziwo) testTracker(w http.ResponseWriter, r *http.Request) {
	z.withTracker(w, r, func(t Tracker) {
		start, end := z.TestCall(r.Context(), t.Name)
		side := func(status int) map[string]any {
			return map[string]any{"status": status, "success": status == http.StatusOK}
		}
		respond(w, map[string]any{"start": side(start), "end": side(end)}, nil)
	})
}

// TestCall sends a start and an end call with dummy values to a tracker, as Ziwo's
// own test does. It returns their HTTP statuses, or 0 for no response.
func (z *Ziwo) TestCall(ctx context.Context, tracker string) (start, end int) {
	z.mu.Lock()
	t := z.trackerByName(tracker)
	z.mu.Unlock()
	if t == nil {
		return 0, 0
	}
	c := &Call{
		ContactCenter: z.options.ContactCenter, CallID: "dummy-call-id", Direction: "inbound", RawDID: "000000000", RawCaller: "000000001",
		StartedAt: z.Now().Truncate(time.Second), EndedAt: z.Now().Truncate(time.Second), HangupCause: "NORMAL_CLEARING", Result: "missed",
	}
	out := z.sendStart(ctx, *t, c, callFaults{})
	d := z.sendEnd(ctx, *t, encode(map[string]any{"callID": c.CallID, "didCalled": c.RawDID, "test": true}), callFaults{})
	return out.status, d.Status
}

func (z *Ziwo) listNumbers(w http.ResponseWriter, r *http.Request) {
	z.mu.Lock()
	numbers := slices.Clone(z.numbers)
	z.mu.Unlock()
	from, to := pageBounds(r, len(numbers), adminPage)
	page := []any{}
	for i, n := range numbers[from:to] {
		kind, data := "callTracker", n.Tracker
		if n.Tracker == "" {
			kind, data = "queue", "front desk"
		}
		page = append(page, map[string]any{"id": from + i + 1, "did": n.DIDCalled, "didCalled": n.DIDCalled, "didDisplay": n.DIDCalled, "linkType": kind, "linkData": data, "status": "active"})
	}
	respond(w, page, map[string]any{"totalRecords": len(numbers)})
}

// dateRange parses fromDate and toDate, which are days in UTC.
func dateRange(r *http.Request) (from, to time.Time, ok bool) {
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
	from, to, ok := dateRange(r)
	if !ok {
		respondError(w, http.StatusBadRequest, "fromDate and toDate must be dates")
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
	first, last := pageBounds(r, len(found), z.options.HistoryPage)
	var body bytes.Buffer
	body.WriteString(`{"result":true,"content":[`)
	for i, c := range found[first:last] {
		if i > 0 {
			body.WriteByte(',')
		}
		body.Write(c.cdr2026(!c.RecordedAt.After(now)))
	}
	fmt.Fprintf(&body, `],"info":{"total":%d}}`, len(found))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = w.Write(body.Bytes())
}

// findCall returns a call by callID or by Ziwo's number of the record.
func (z *Ziwo) findCall(id string) (Call, bool) {
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
	c, ok := z.findCall(r.PathValue("id"))
	if !ok {
		respondError(w, http.StatusNotFound, "Call not found")
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = fmt.Fprintf(w, `{"result":true,"content":%s,"info":{}}`, c.cdr2026(!c.RecordedAt.After(z.Now())))
}

// trackerLogs invents a format, because Ziwo does not publish its own.
func (z *Ziwo) trackerLogs(w http.ResponseWriter, r *http.Request) {
	from, to, ok := dateRange(r)
	if !ok {
		respondError(w, http.StatusBadRequest, "fromDate and toDate must be dates")
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
	first, last := pageBounds(r, len(found), z.options.HistoryPage)
	page := []any{}
	for i, e := range found[first:last] {
		view := map[string]any{
			"id": len(found) - first - i, "callTracker": map[string]any{"id": e.tracker.ID, "name": e.tracker.Name}, "callID": e.call.CallID,
			"createdAt": iso(e.at), "type": "endCall", "response": map[string]any{"statusCode": e.status},
		}
		if e.start {
			view["type"], view["request"] = "startCall", map[string]any{"didCalled": e.call.RawDID, "callerIDNumber": e.call.RawCaller, "callID": e.call.CallID}
		} else {
			view["request"] = string(e.call.cdr2016(!e.call.RecordedAt.After(now)))
		}
		page = append(page, view)
	}
	respond(w, page, map[string]any{"total": len(found)})
}

// agent returns the agent with a ccLogin, or nil.
func (z *Ziwo) agent(ccLogin string) *Agent {
	for i := range z.agents {
		if z.agents[i].CCLogin == ccLogin {
			return &z.agents[i]
		}
	}
	return nil
}

// clickToCall rings the agent, who answers immediately, and then the customer.
func (z *Ziwo) clickToCall(w http.ResponseWriter, r *http.Request) {
	agent := z.agent(r.PathValue("agent"))
	to := r.PathValue("number")
	if to == "" {
		to = r.PostFormValue("number")
	}
	digits, international := strings.CutPrefix(to, "00")
	switch {
	case agent == nil:
		respondError(w, http.StatusNotFound, "Agent not found")
		return
	case !international || len(digits) < 7 || strings.Trim(digits, "0123456789") != "":
		respondError(w, http.StatusBadRequest, "number must start with 00 and the country code")
		return
	}
	now := z.Now().Truncate(time.Second)
	z.mu.Lock()
	defer z.mu.Unlock()
	if status, set := z.statuses[agent.CCLogin]; set && status == 0 {
		respondError(w, http.StatusBadRequest, "Agent is not logged in")
		return
	}
	if z.currentCall(agent.CCLogin, now) != nil {
		respondError(w, http.StatusConflict, "Agent is in a call, not called: "+to)
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
		RecordingFile: id + ".mp3", answeredBy: agent,
	}
	z.addToHistory(c)
	respond(w, map[string]any{"callID": c.CallID}, nil)
}

// currentCall returns the call that an agent is in, or nil. It requires z.mu.
func (z *Ziwo) currentCall(ccLogin string, now time.Time) *Call {
	for _, c := range z.live {
		if c.Agent == ccLogin && !now.Before(c.StartedAt) {
			return c
		}
	}
	const recent = 50 // a click-to-call is in the history before it ends
	for i := len(z.calls) - 1; i >= max(0, len(z.calls)-recent); i-- {
		if c := z.calls[i]; c.Agent == ccLogin && !now.Before(c.StartedAt) && now.Before(c.EndedAt) {
			return c
		}
	}
	for _, c := range z.calls[:min(len(z.calls), recent)] { // if newest first
		if c.Agent == ccLogin && !now.Before(c.StartedAt) && now.Before(c.EndedAt) {
			return c
		}
	}
	return nil
}

// queueInfo returns c as the CTI endpoints show it: with epochs as strings, and the
// direction of the agent's leg next to that of the call.
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
		respondError(w, http.StatusNotFound, "Agent not found")
		return
	}
	content := map[string]any{"callInfo": map[string]any{}, "queueInfo": map[string]any{}}
	if c := z.currentCall(r.PathValue("agent"), now); c != nil {
		content["queueInfo"] = c.queueInfo(now)
	}
	respond(w, content, nil)
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
		if c := z.currentCall(a.CCLogin, now); c != nil {
			view["queueInfo"] = c.queueInfo(now)
		}
		out = append(out, view)
	}
	respond(w, out, nil)
}

// SetStatus sets the status of an agent.
func (z *Ziwo) SetStatus(ccLogin string, status int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.statuses[ccLogin] = status
}

func (z *Ziwo) eavesdrop(w http.ResponseWriter, r *http.Request) {
	now := z.Now()
	z.mu.Lock()
	defer z.mu.Unlock()
	c := z.currentCall(r.PathValue("agent"), now)
	if c == nil {
		respondError(w, http.StatusNotFound, "Agent is not in a call")
		return
	}
	id := "eavesdrop-" + c.CallID
	z.whispers[id] = "none"
	respond(w, map[string]any{"callID": id}, nil)
}

func (z *Ziwo) whisper(w http.ResponseWriter, r *http.Request) {
	z.mu.Lock()
	defer z.mu.Unlock()
	id, to := r.PathValue("callID"), r.PostFormValue("whisper")
	if _, ok := z.whispers[id]; !ok {
		respondError(w, http.StatusNotFound, "Call not found")
		return
	}
	if to != "none" && to != "agent" && to != "both" {
		respondError(w, http.StatusBadRequest, "whisper must be agent, both, or none")
		return
	}
	z.whispers[id] = to
	respond(w, nil, nil)
}

// WhisperTarget returns the party who hears the supervisor in a monitoring call.
func (z *Ziwo) WhisperTarget(callID string) string {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.whispers[callID]
}
