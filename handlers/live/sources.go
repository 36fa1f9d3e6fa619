package live

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"calltracker/handlers/ziwoclients"
	"calltracker/jobs"
	"calltracker/phone"
	"calltracker/problem"
	"calltracker/storage"
	"calltracker/ziwo"
)

// openCallStore is the part of a store that Wallboard uses.
type openCallStore interface {
	Decisions(ctx context.Context, f storage.DecisionFilter, p storage.Page) ([]storage.Decision, string, error)
	CallsOfDecisions(ctx context.Context, ids []string) (map[string]string, error)
}

// polledSource is a source and the state of polling it.
type polledSource struct {
	Source
	lastPoll time.Time // time of the last answer or failure
	lastOK   time.Time // time of the last answer
	failures int       // consecutive failures
}

// fresh reports whether the last answer is recent enough for a new listener.
func (s *polledSource) fresh(now time.Time, interval time.Duration) bool {
	return !s.lastPoll.IsZero() && now.Sub(s.lastPoll) < interval
}

// polled reports whether the source has answered or failed since polling started.
func (s *polledSource) polled(now time.Time, interval time.Duration, watching bool) bool {
	return watching && !s.lastPoll.IsZero() || s.fresh(now, interval)
}

// untilPoll returns the time until the first poll for new listeners.
func (s *polledSource) untilPoll(now time.Time, interval time.Duration) time.Duration {
	return max(0, s.lastPoll.Add(interval).Sub(now))
}

// stale reports whether the last answer is too old to show.
func (s *polledSource) stale(now time.Time) bool {
	return s.State != SourceOK && now.Sub(s.lastOK) > staleAfter
}

func (s *polledSource) view() Source {
	if s.State == "" {
		return Source{State: SourceWaiting}
	}
	return s.Source
}

// record records an answer or a failure.
func (s *polledSource) record(now time.Time, err error) {
	now = now.UTC().Truncate(time.Millisecond)
	state, message := SourceOK, ""
	if err != nil {
		state, message = SourceUnavailable, ziwoclients.DelayReason(err)
		s.failures++
	} else {
		s.lastOK, s.failures = now, 0
	}
	if s.State != state {
		s.State, s.Since = state, now
	}
	s.Error, s.lastPoll = message, now
}

// pause returns the time between this poll and the next, which grows with each consecutive
// failure.
func (s *polledSource) pause(interval, maxInterval time.Duration) time.Duration {
	if s.failures == 0 {
		return interval
	}
	return jobs.Backoff{First: 2 * interval, Longest: max(maxInterval, interval)}.Pause(s.failures)
}

// startedCalls holds the calls that trackers have started and that have not ended.
type startedCalls struct {
	polledSource
	open         map[string]Call // by decision ID
	lastFullScan time.Time       // time of the last read of the whole window
	truncated    bool
}

const (
	startedOverlap   = 15 * time.Second // decisions are recorded in the background
	fullScanInterval = time.Minute      // interval of reading the whole window
)

func (w *Wallboard) untilStartedPoll() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.started.untilPoll(w.now(), startedInterval)
}

// pollStarted reads the calls that have started or ended. It reads known calls by ID,
// so the cost does not grow with the number of calls in the window.
func (w *Wallboard) pollStarted(ctx context.Context) time.Duration {
	queryCtx, cancel := context.WithTimeout(ctx, startedTimeout)
	defer cancel()
	w.mu.Lock()
	known, lastFullScan := slices.Sorted(maps.Keys(w.started.open)), w.started.lastFullScan
	w.mu.Unlock()
	now := w.now()
	fullScan := now.Sub(lastFullScan) >= fullScanInterval
	from := now.Add(-startedOverlap)
	if fullScan {
		from = now.Add(-liveWindow)
	}
	stored, err := w.store.CallsOfDecisions(queryCtx, known)
	var found []storage.Decision
	next := ""
	if err == nil {
		found, next, err = w.store.Decisions(queryCtx, storage.DecisionFilter{From: from, Open: true}, storage.Page{Limit: maxStartedCalls})
	}
	if ctx.Err() != nil {
		return startedInterval
	}
	calls := make([]Call, len(found))
	for i, d := range found {
		calls[i] = w.startedCall(d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.started.record(now, err)
	if err != nil {
		w.update(nil)
		return w.started.pause(startedInterval, maxStartedInterval)
	}
	if fullScan {
		w.started.lastFullScan, w.started.truncated = now, next != ""
	}
	w.started.merge(calls, known, stored, now)
	w.update(stored)
	return startedInterval
}

// merge adds started calls. It removes calls that have ended, are no longer stored,
// are older than the window, or exceed the limit.
func (s *startedCalls) merge(found []Call, known []string, stored map[string]string, now time.Time) {
	if s.open == nil {
		s.open = map[string]Call{}
	}
	for _, id := range known {
		if call, there := stored[id]; !there || call != "" {
			delete(s.open, id)
		}
	}
	for _, c := range found {
		s.open[c.Decision] = c
	}
	maps.DeleteFunc(s.open, func(_ string, c Call) bool { return now.Sub(c.StartedAt) > liveWindow })
	if len(s.open) > maxStartedCalls {
		s.truncated = true
		for _, c := range slices.SortedFunc(maps.Values(s.open), newestCallFirst)[maxStartedCalls:] {
			delete(s.open, c.Decision)
		}
	}
}

// startedCall converts a decision to a call in progress.
func (w *Wallboard) startedCall(d storage.Decision) Call {
	c := Call{
		CallID: d.CallID, Tracker: d.Tracker, Direction: "inbound", DID: d.DID, Caller: d.Caller, State: CallStarted,
		StartedAt: d.At, Route: d.Route, Decision: d.ID,
	}
	if snapshot := w.config.Current(); snapshot != nil {
		if router, ok := snapshot.Set.Router(d.Tracker); ok {
			c.ContactCenter = router.ContactCenter()
		}
	}
	return c
}

// contactCenterState holds the last answer of a contact center.
type contactCenterState struct {
	polledSource
	agents []Agent // without call IDs
	calls  []agentCall
}

func (w *Wallboard) untilContactCenterPoll(name string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if state := w.contactCenters[name]; state != nil {
		return state.untilPoll(w.now(), w.pollInterval)
	}
	return 0
}

// pollContactCenter requests the agents of a contact center.
func (w *Wallboard) pollContactCenter(ctx context.Context, name string) time.Duration {
	requestCtx, cancel := context.WithTimeout(ctx, contactCenterTimeout)
	defer cancel()
	client, err := w.clients.Client(name)
	var states []ziwo.AgentState
	if err == nil {
		states, err = client.LiveAgents(requestCtx)
	}
	if ctx.Err() != nil {
		return w.pollInterval
	}
	region := ""
	if snapshot := w.config.Current(); snapshot != nil {
		region = snapshot.Set.Region(name)
	}
	agents, calls := liveAgents(name, states, w.numbers, region)
	w.mu.Lock()
	defer w.mu.Unlock()
	state := w.contactCenters[name]
	if state == nil { // removed from the configuration
		return w.pollInterval
	}
	state.record(w.now(), err)
	if err == nil {
		state.agents, state.calls = agents, calls
	}
	w.update(nil)
	var failure *ziwo.APIError
	if errors.As(err, &failure) {
		return max(state.pause(w.pollInterval, maxContactCenterInterval), min(failure.RetryAfter, maxZiwoRetryAfter))
	}
	return state.pause(w.pollInterval, maxContactCenterInterval)
}

// liveAgents returns the agents of a contact center, sorted by login, and the calls on
// their phones.
func liveAgents(contactCenter string, states []ziwo.AgentState, numbers *phone.Cache, region string) (agents []Agent, calls []agentCall) {
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
		agent := Agent{
			ContactCenter: contactCenter, Agent: problem.Clip(login(s)), Name: problem.Clip(s.Name), Status: strings.ReplaceAll(s.Status.String(), " ", "_"),
			Since: s.Since.UTC(), Position: problem.Clip(s.Position),
		}
		if s.Call != nil {
			calls = append(calls, agentCall{agent: len(agents), Call: phoneCall(contactCenter, agent.Agent, *s.Call, numbers, region)})
		}
		agents = append(agents, agent)
	}
	return agents, calls
}

// phoneCall converts a call on an agent's phone. The DID of an outbound call is the
// dialed number, as in stored calls.
func phoneCall(contactCenter, agent string, c ziwo.LiveCall, numbers *phone.Cache, region string) Call {
	key := func(text string) string { return problem.Clip(numbers.Parse(text, region).Key()) }
	out := Call{
		CallID: problem.Clip(c.CallID), ContactCenter: contactCenter, Direction: problem.Clip(c.Direction), DID: key(c.DIDCalled), Caller: key(c.CallerNumber),
		State: callState(c), StartedAt: c.CreatedAt.UTC(), AnsweredAt: c.AnsweredAt.UTC(), Agent: agent,
	}
	if c.Direction == "outbound" {
		out.DID = key(c.Number)
		if out.Caller == out.DID { // the phone reports the remote number in both fields
			out.Caller = ""
		}
	}
	if numbers.Parse(c.CallerName, region).E164 == "" { // ignore a number in place of a name
		out.CallerName = problem.Clip(c.CallerName)
	}
	return out
}

// callState converts Ziwo's state of a call, as documented for call events at
// https://www.ziwo.io/api-integration-developers/.
func callState(c ziwo.LiveCall) CallState {
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
