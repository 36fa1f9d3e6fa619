package handlers

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"calltracker/storage"
	"calltracker/ziwo"
)

// startReader is what Wallboard needs of a store.
type openCallReader interface {
	Decisions(ctx context.Context, f storage.DecisionFilter, p storage.Page) ([]storage.Decision, string, error)
	CallsOfDecisions(ctx context.Context, ids []string) (map[string]string, error)
}

// source is how something that is asked again and again answers.
type sourceState struct {
	LiveSource
	lastPoll time.Time // of the last answer or failure
	lastOK   time.Time // of the last answer
	failures int       // in a row
}

// fresh tells whether what it said is so young that it need not be asked again
// for a new listener.
func (s *sourceState) fresh(now time.Time, every time.Duration) bool {
	return !s.lastPoll.IsZero() && now.Sub(s.lastPoll) < every
}

// asked tells whether it has answered, or failed to, since it is being asked.
func (s *sourceState) polled(now time.Time, every time.Duration, watching bool) bool {
	return watching && !s.lastPoll.IsZero() || s.fresh(now, every)
}

// stale tells whether what it said is too old to show.
func (s *sourceState) stale(now time.Time) bool {
	return s.State != LiveOK && now.Sub(s.lastOK) > staleAfter
}

func (s *sourceState) view() LiveSource {
	if s.State == "" {
		return LiveSource{State: LiveWaiting}
	}
	return s.LiveSource
}

// answered notes an answer, or a failure.
func (s *sourceState) record(now time.Time, err error) {
	now = now.UTC().Truncate(time.Millisecond)
	state, message := LiveOK, ""
	if err != nil {
		state, message = LiveUnavailable, delayReason(err)
		s.failures++
	} else {
		s.lastOK, s.failures = now, 0
	}
	if s.State != state {
		s.State, s.Since = state, now
	}
	s.Error, s.lastPoll = message, now
}

// pause is how long not to ask after the last answer: longer with each failure
// in a row.
func (s *sourceState) nextPoll(every, longest time.Duration) time.Duration {
	const doublings = 10
	return min(every<<min(s.failures, doublings), max(longest, every))
}

// starts are the calls that were started here and have not ended.
type startedCalls struct {
	sourceState
	open         map[string]LiveCall // by decision
	lastFullScan time.Time           // when all of the window was read
	truncated    bool
}

const (
	startedOverlap   = 15 * time.Second // decisions are recorded in the background
	fullScanInterval = time.Minute      // between two looks at the whole window
)

func (w *Wallboard) startedDue() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(0, w.started.lastPoll.Add(startedInterval).Sub(w.Now()))
}

// askStarts reads which calls started and which ended. Calls that are known are
// asked for by id, so that the cost does not grow with the calls of the window.
func (w *Wallboard) pollStarted(ctx context.Context) time.Duration {
	queryCtx, cancel := context.WithTimeout(ctx, startedTimeout)
	defer cancel()
	w.mu.Lock()
	known, lastFullScan := slices.Sorted(maps.Keys(w.started.open)), w.started.lastFullScan
	w.mu.Unlock()
	now := w.Now()
	fullScan := now.Sub(lastFullScan) >= fullScanInterval
	from := now.Add(-startedOverlap)
	if fullScan {
		from = now.Add(-liveWindow)
	}
	stored, err := w.Store.CallsOfDecisions(queryCtx, known)
	var found []storage.Decision
	next := ""
	if err == nil {
		found, next, err = w.Store.Decisions(queryCtx, storage.DecisionFilter{From: from, Open: true}, storage.Page{Limit: maxStartedCalls})
	}
	if ctx.Err() != nil {
		return startedInterval
	}
	calls := make([]LiveCall, len(found))
	for i, d := range found {
		calls[i] = w.liveCallOf(d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.started.record(now, err)
	if err != nil {
		w.update(nil)
		return w.started.nextPoll(startedInterval, maxStartedInterval)
	}
	if fullScan {
		w.started.lastFullScan, w.started.truncated = now, next != ""
	}
	w.started.merge(calls, known, stored, now)
	w.update(stored)
	return startedInterval
}

// keep adds calls that started, and takes away those that ended, are forgotten,
// are older than the window, or are one too many.
func (s *startedCalls) merge(found []LiveCall, known []string, stored map[string]string, now time.Time) {
	if s.open == nil {
		s.open = map[string]LiveCall{}
	}
	for _, id := range known {
		if call, there := stored[id]; !there || call != "" {
			delete(s.open, id)
		}
	}
	for _, c := range found {
		s.open[c.Decision] = c
	}
	maps.DeleteFunc(s.open, func(_ string, c LiveCall) bool { return now.Sub(c.StartedAt) > liveWindow })
	if len(s.open) > maxStartedCalls {
		s.truncated = true
		for _, c := range slices.SortedFunc(maps.Values(s.open), newestCallFirst)[maxStartedCalls:] {
			delete(s.open, c.Decision)
		}
	}
}

// started is a decision as a call under way.
func (w *Wallboard) liveCallOf(d storage.Decision) LiveCall {
	c := LiveCall{
		CallID: d.CallID, Tracker: d.Tracker, Direction: "inbound", DID: d.DID, Caller: d.Caller, State: CallStarted,
		StartedAt: d.At, Route: d.Route, Decision: d.ID,
	}
	if snapshot := w.Config.Current(); snapshot != nil {
		if router, ok := snapshot.Set.Router(d.Tracker); ok {
			c.ContactCenter = router.ContactCenter()
		}
	}
	return c
}

// liveCenter is what a contact center says of its agents.
type contactCenterState struct {
	sourceState
	agents []LiveAgent // without the ids of their calls
	calls  []agentCall
}

func (w *Wallboard) contactCenterDue(name string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	state := w.contactCenters[name]
	if state == nil || state.lastPoll.IsZero() {
		return 0
	}
	return max(0, state.lastPoll.Add(w.PollInterval).Sub(w.Now()))
}

// askCenter asks a contact center for its agents.
func (w *Wallboard) pollContactCenter(ctx context.Context, name string) time.Duration {
	requestCtx, cancel := context.WithTimeout(ctx, contactCenterTimeout)
	defer cancel()
	client, err := w.Clients.Client(name)
	var states []ziwo.AgentState
	if err == nil {
		states, err = client.LiveAgents(requestCtx)
	}
	if ctx.Err() != nil {
		return w.PollInterval
	}
	region := ""
	if snapshot := w.Config.Current(); snapshot != nil {
		region = snapshot.Set.Region(name)
	}
	agents, calls := liveAgents(name, states, w.Numbers, region)
	w.mu.Lock()
	defer w.mu.Unlock()
	state := w.contactCenters[name]
	if state == nil { // it is no longer in the configuration
		return w.PollInterval
	}
	state.record(w.Now(), err)
	if err == nil {
		state.agents, state.calls = agents, calls
	}
	w.update(nil)
	var failure *ziwo.APIError
	if errors.As(err, &failure) {
		return max(state.nextPoll(w.PollInterval, maxContactCenterInterval), min(failure.RetryAfter, maxZiwoRetryAfter))
	}
	return state.nextPoll(w.PollInterval, maxContactCenterInterval)
}

// agentsOf are the agents of a contact center and the calls of their phones, in
// the order of their logins.
func liveAgents(contactCenter string, states []ziwo.AgentState, numbers *Numbers, region string) (agents []LiveAgent, calls []agentCall) {
	login := func(s ziwo.AgentState) string {
		if s.CCLogin != "" {
			return s.CCLogin
		}
		return s.ID
	}
	states = slices.DeleteFunc(slices.Clone(states), func(s ziwo.AgentState) bool { return login(s) == "" })
	slices.SortStableFunc(states, func(a, b ziwo.AgentState) int { return strings.Compare(login(a), login(b)) })
	states = slices.CompactFunc(states, func(a, b ziwo.AgentState) bool { return login(a) == login(b) })
	for _, s := range states[:min(len(states), maxAgents)] {
		agent := LiveAgent{
			ContactCenter: contactCenter, Agent: shorten(login(s)), Name: shorten(s.Name), Status: strings.ReplaceAll(s.Status.String(), " ", "_"),
			Since: s.Since.UTC(), Position: shorten(s.Position),
		}
		if s.Call != nil {
			calls = append(calls, agentCall{agent: len(agents), LiveCall: phoneCall(contactCenter, agent.Agent, *s.Call, numbers, region)})
		}
		agents = append(agents, agent)
	}
	return agents, calls
}

// phoneCall is a call as an agent's phone shows it. Of an outbound one, the DID
// is the number that was called, as in stored calls.
func phoneCall(contactCenter, agent string, c ziwo.LiveCall, numbers *Numbers, region string) LiveCall {
	key := func(text string) string { return shorten(numbers.Parse(text, region).Key()) }
	out := LiveCall{
		CallID: shorten(c.CallID), ContactCenter: contactCenter, Direction: shorten(c.Direction), DID: key(c.DIDCalled), Caller: key(c.CallerNumber),
		State: callState(c), StartedAt: c.CreatedAt.UTC(), AnsweredAt: c.AnsweredAt.UTC(), Agent: agent,
	}
	if c.Direction == "outbound" {
		out.DID = key(c.Number)
		if out.Caller == out.DID { // the phone shows the other side in both places
			out.Caller = ""
		}
	}
	if numbers.Parse(c.CallerName, region).E164 == "" { // a number is no name
		out.CallerName = shorten(c.CallerName)
	}
	return out
}

// callState reads Ziwo's words, those of
// https://www.ziwo.io/api-integration-developers/ for the events of a call.
func callState(c ziwo.LiveCall) LiveCallState {
	switch strings.ToLower(c.State) {
	case "active", "answered", "bridged":
		return CallActive
	case "hold", "held":
		return CallHeld
	case "requesting", "trying", "early", "ringing", "answering":
		return CallRinging
	case "":
		if c.AnsweredAt.IsZero() {
			return CallRinging
		}
		return CallActive
	default:
		return CallUnknown
	}
}
