package handlers

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"calltracker/jobs"
	"calltracker/problem"
	"calltracker/storage"
	"calltracker/ziwo"
)

// startReader is what Wallboard needs of a store.
type startReader interface {
	Decisions(ctx context.Context, f storage.DecisionFilter, p storage.Page) ([]storage.Decision, string, error)
	CallsOfDecisions(ctx context.Context, ids []string) (map[string]string, error)
}

// source is how something that is asked again and again answers.
type source struct {
	LiveSource
	at       time.Time // of the last answer or failure
	good     time.Time // of the last answer
	failures int       // in a row
}

// fresh tells whether what it said is so young that it need not be asked again
// for a new listener.
func (s *source) fresh(now time.Time, every time.Duration) bool {
	return !s.at.IsZero() && now.Sub(s.at) < every
}

// asked tells whether it has answered, or failed to, since it is being asked.
func (s *source) asked(now time.Time, every time.Duration, watching bool) bool {
	return watching && !s.at.IsZero() || s.fresh(now, every)
}

// stale tells whether what it said is too old to show.
func (s *source) stale(now time.Time) bool {
	return s.State != LiveOK && now.Sub(s.good) > staleAfter
}

func (s *source) shown() LiveSource {
	if s.State == "" {
		return LiveSource{State: LiveWaiting}
	}
	return s.LiveSource
}

// answered notes an answer, or a failure.
func (s *source) answered(now time.Time, err error) {
	now = now.UTC().Truncate(time.Millisecond)
	state, message := LiveOK, ""
	if err != nil {
		state, message = LiveAway, delay(err)
		s.failures++
	} else {
		s.good, s.failures = now, 0
	}
	if s.State != state {
		s.State, s.Since = state, now
	}
	s.Error, s.at = message, now
}

// pause is how long not to ask after the last answer: longer with each failure
// in a row.
func (s *source) pause(every, longest time.Duration) time.Duration {
	if s.failures == 0 {
		return every
	}
	return jobs.Backoff{First: 2 * every, Longest: max(longest, every)}.Pause(s.failures)
}

// starts are the calls that were started here and have not ended.
type starts struct {
	source
	open      map[string]LiveCall // by decision
	looked    time.Time           // when all of the window was read
	truncated bool
}

const (
	startsOverlap = 15 * time.Second // decisions are recorded in the background
	startsWhole   = time.Minute      // between two looks at the whole window
)

func (w *Wallboard) startsDue() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return max(0, w.starts.at.Add(startsEvery).Sub(w.Now()))
}

// askStarts reads which calls started and which ended. Calls that are known are
// asked for by id, so that the cost does not grow with the calls of the window.
func (w *Wallboard) askStarts(ctx context.Context) time.Duration {
	attempt, cancel := context.WithTimeout(ctx, startsWait)
	defer cancel()
	w.mu.Lock()
	known, looked := slices.Sorted(maps.Keys(w.starts.open)), w.starts.looked
	w.mu.Unlock()
	now := w.Now()
	whole := now.Sub(looked) >= startsWhole
	from := now.Add(-startsOverlap)
	if whole {
		from = now.Add(-liveWindow)
	}
	stored, err := w.Store.CallsOfDecisions(attempt, known)
	var found []storage.Decision
	next := ""
	if err == nil {
		found, next, err = w.Store.Decisions(attempt, storage.DecisionFilter{From: from, Open: true}, storage.Page{Limit: mostLive})
	}
	if ctx.Err() != nil {
		return startsEvery
	}
	calls := make([]LiveCall, len(found))
	for i, d := range found {
		calls[i] = w.started(d)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.starts.answered(now, err)
	if err != nil {
		w.update(nil)
		return w.starts.pause(startsEvery, longestStarts)
	}
	if whole {
		w.starts.looked, w.starts.truncated = now, next != ""
	}
	w.starts.keep(calls, known, stored, now)
	w.update(stored)
	return startsEvery
}

// keep adds calls that started, and takes away those that ended, are forgotten,
// are older than the window, or are one too many.
func (s *starts) keep(found []LiveCall, known []string, stored map[string]string, now time.Time) {
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
	if len(s.open) > mostLive {
		s.truncated = true
		for _, c := range slices.SortedFunc(maps.Values(s.open), newestCallFirst)[mostLive:] {
			delete(s.open, c.Decision)
		}
	}
}

// started is a decision as a call under way.
func (w *Wallboard) started(d storage.Decision) LiveCall {
	c := LiveCall{
		CallID: d.CallID, Tracker: d.Tracker, Direction: "inbound", DID: d.DID, Caller: d.Caller, State: CallStarted,
		StartedAt: d.At, Route: d.Route, Decision: d.ID,
	}
	if live := w.Config.Live(); live != nil {
		if router, ok := live.Set.Router(d.Tracker); ok {
			c.ContactCenter = router.ContactCenter()
		}
	}
	return c
}

// liveCenter is what a contact center says of its agents.
type liveCenter struct {
	source
	agents []LiveAgent // without the ids of their calls
	calls  []agentCall
}

func (w *Wallboard) centerDue(name string) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	center := w.centers[name]
	if center == nil || center.at.IsZero() {
		return 0
	}
	return max(0, center.at.Add(w.Every).Sub(w.Now()))
}

// askCenter asks a contact center for its agents.
func (w *Wallboard) askCenter(ctx context.Context, name string) time.Duration {
	attempt, cancel := context.WithTimeout(ctx, centerWait)
	defer cancel()
	client, err := w.Centers.Client(name)
	var states []ziwo.AgentState
	if err == nil {
		states, err = client.LiveAgents(attempt)
	}
	if ctx.Err() != nil {
		return w.Every
	}
	region := ""
	if live := w.Config.Live(); live != nil {
		region = live.Set.Region(name)
	}
	agents, calls := agentsOf(name, states, w.Numbers, region)
	w.mu.Lock()
	defer w.mu.Unlock()
	center := w.centers[name]
	if center == nil { // it is no longer in the configuration
		return w.Every
	}
	center.answered(w.Now(), err)
	if err == nil {
		center.agents, center.calls = agents, calls
	}
	w.update(nil)
	var failure *ziwo.APIError
	if errors.As(err, &failure) {
		return max(center.pause(w.Every, longestCenter), min(failure.RetryAfter, mostPause))
	}
	return center.pause(w.Every, longestCenter)
}

// agentsOf are the agents of a contact center and the calls of their phones, in
// the order of their logins.
func agentsOf(center string, states []ziwo.AgentState, numbers *Numbers, region string) (agents []LiveAgent, calls []agentCall) {
	login := func(s ziwo.AgentState) string {
		if s.CCLogin != "" {
			return s.CCLogin
		}
		return s.ID
	}
	states = slices.DeleteFunc(slices.Clone(states), func(s ziwo.AgentState) bool { return login(s) == "" })
	slices.SortStableFunc(states, func(a, b ziwo.AgentState) int { return strings.Compare(login(a), login(b)) })
	states = slices.CompactFunc(states, func(a, b ziwo.AgentState) bool { return login(a) == login(b) })
	for _, s := range states[:min(len(states), mostAgents)] {
		agent := LiveAgent{
			ContactCenter: center, Agent: problem.Clip(login(s)), Name: problem.Clip(s.Name), Status: strings.ReplaceAll(s.Status.String(), " ", "_"),
			Since: s.Since.UTC(), Position: problem.Clip(s.Position),
		}
		if s.Call != nil {
			calls = append(calls, agentCall{agent: len(agents), LiveCall: phoneCall(center, agent.Agent, *s.Call, numbers, region)})
		}
		agents = append(agents, agent)
	}
	return agents, calls
}

// phoneCall is a call as an agent's phone shows it. Of an outbound one, the DID
// is the number that was called, as in stored calls.
func phoneCall(center, agent string, c ziwo.LiveCall, numbers *Numbers, region string) LiveCall {
	key := func(text string) string { return problem.Clip(numbers.Parse(text, region).Key()) }
	out := LiveCall{
		CallID: problem.Clip(c.CallID), ContactCenter: center, Direction: problem.Clip(c.Direction), DID: key(c.DIDCalled), Caller: key(c.CallerNumber),
		State: callState(c), StartedAt: c.CreatedAt.UTC(), AnsweredAt: c.AnsweredAt.UTC(), Agent: agent,
	}
	if c.Direction == "outbound" {
		out.DID = key(c.Number)
		if out.Caller == out.DID { // the phone shows the other side in both places
			out.Caller = ""
		}
	}
	if numbers.Parse(c.CallerName, region).E164 == "" { // a number is no name
		out.CallerName = problem.Clip(c.CallerName)
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
