package handlers

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// LiveView is what happens now: what Ziwo says of agents and their calls, and
// the calls that were started here and have not ended.
type LiveView struct {
	At             time.Time           `json:"at" format:"date-time"`
	Decisions      LiveSource          `json:"decisions"` // whether the calls that were started here are known
	ContactCenters []LiveContactCenter `json:"contactCenters"`
	Agents         []LiveAgent         `json:"agents"`
	Calls          []LiveCall          `json:"calls"`     // newest first
	Truncated      bool                `json:"truncated"` // there are more calls than are shown
}

// LiveSource tells whether something that is looked at answers.
type LiveSource struct {
	State LiveState `json:"state" enums:"waiting,ok,away"`
	Since time.Time `json:"since,omitzero" binding:"optional" format:"date-time"` // when it began to be so
	Error string    `json:"error,omitempty"`
}

// LiveState is the state of a source. The zero value is invalid.
type LiveState string

// The states. Of a source that is away, what it said last is shown for a minute.
const (
	LiveWaiting     LiveState = "waiting" // it was asked and has not answered yet
	LiveOK          LiveState = "ok"
	LiveUnavailable LiveState = "away"
)

// LiveCenter is a contact center that is looked at.
type LiveContactCenter struct {
	Name string `json:"name" example:"aldebaran"`
	LiveSource
}

// LiveAgent is what an agent does.
type LiveAgent struct {
	ContactCenter string    `json:"contactCenter" example:"aldebaran"`
	Agent         string    `json:"agent" example:"0026"` // the ccLogin
	Name          string    `json:"name"`
	Status        string    `json:"status" example:"available"` // logged_out, available, on_break, meeting, outgoing, or status_N
	Since         time.Time `json:"since,omitzero" binding:"optional" format:"date-time"`
	Position      string    `json:"position" example:"agent-0026"`
	Call          string    `json:"call"` // id of the call; empty when there is none
}

// LiveCall is a call under way.
type LiveCall struct {
	ID            string        `json:"id"` // stays the same while the call lasts
	CallID        string        `json:"callID"`
	ContactCenter string        `json:"contactCenter"`
	Tracker       string        `json:"tracker"` // empty when no tracker was asked
	Direction     string        `json:"direction" example:"inbound"`
	DID           string        `json:"did" example:"+97161234567"`
	Caller        string        `json:"caller" example:"+971501234567"`
	CallerName    string        `json:"callerName"`
	State         LiveCallState `json:"state" enums:"started,ringing,active,held,unknown"`
	StartedAt     time.Time     `json:"startedAt,omitzero" binding:"optional" format:"date-time"`
	AnsweredAt    time.Time     `json:"answeredAt,omitzero" binding:"optional" format:"date-time"`
	Agent         string        `json:"agent"` // the ccLogin of the first of them
	Route         string        `json:"route"`
	Decision      string        `json:"decision"` // id
}

// LiveCallState is how far a call is. The zero value is invalid.
type LiveCallState string

// The states of a call. Ziwo tells of those that have an agent; of the others it
// is only known that they were started.
const (
	CallStarted LiveCallState = "started"
	CallRinging LiveCallState = "ringing"
	CallActive  LiveCallState = "active"
	CallHeld    LiveCallState = "held"
	CallUnknown LiveCallState = "unknown" // in a word that we do not know
)

// LiveCallEnded tells that a call is no longer under way.
type LiveCallEnded struct {
	ID       string `json:"id"`
	CallID   string `json:"callID"`
	Decision string `json:"decision"`
	Call     string `json:"call"` // id of the stored call; empty when none is known
}

// LiveAgentGone tells that Ziwo no longer names an agent.
type LiveAgentGone struct {
	ContactCenter string `json:"contactCenter"`
	Agent         string `json:"agent"`
}

// LiveEvent is a change of a LiveView, or the whole of it.
type LiveEvent struct {
	ID   uint64
	Name string // snapshot, call, call-ended, agent, agent-gone, contact-center, decisions
	Data json.RawMessage
}

// change is an event that has no number yet.
type liveChange struct {
	name string
	data any
}

// changes are what leads from one view to the next. They are nil, and whole is
// true, when the other view is better told as a whole.
func diff(before, after LiveView, stored map[string]string) (out []liveChange, full bool) {
	if !slices.EqualFunc(before.ContactCenters, after.ContactCenters, func(a, b LiveContactCenter) bool { return a.Name == b.Name }) ||
		before.Truncated != after.Truncated {
		return nil, true
	}
	if before.Decisions != after.Decisions {
		out = append(out, liveChange{"decisions", after.Decisions})
	}
	for i, center := range after.ContactCenters {
		if before.ContactCenters[i] != center {
			out = append(out, liveChange{"contact-center", center})
		}
	}
	callsBefore := make(map[string]LiveCall, len(before.Calls))
	for _, c := range before.Calls {
		callsBefore[c.ID] = c
	}
	for _, c := range slices.Backward(after.Calls) { // the oldest first, as they happened
		if callsBefore[c.ID] != c {
			out = append(out, liveChange{"call", c})
		}
		delete(callsBefore, c.ID)
	}
	for _, c := range slices.Backward(before.Calls) {
		if _, ended := callsBefore[c.ID]; ended {
			out = append(out, liveChange{"call-ended", LiveCallEnded{ID: c.ID, CallID: c.CallID, Decision: c.Decision, Call: stored[c.Decision]}})
		}
	}
	type agentKey struct{ center, agent string }
	agentsBefore := make(map[agentKey]LiveAgent, len(before.Agents))
	for _, a := range before.Agents {
		agentsBefore[agentKey{a.ContactCenter, a.Agent}] = a
	}
	for _, a := range after.Agents {
		if agentsBefore[agentKey{a.ContactCenter, a.Agent}] != a {
			out = append(out, liveChange{"agent", a})
		}
		delete(agentsBefore, agentKey{a.ContactCenter, a.Agent})
	}
	for _, a := range before.Agents {
		if _, gone := agentsBefore[agentKey{a.ContactCenter, a.Agent}]; gone {
			out = append(out, liveChange{"agent-gone", LiveAgentGone{ContactCenter: a.ContactCenter, Agent: a.Agent}})
		}
	}
	return out, len(out) > maxChanges
}

// agentCall is a call as the phone of an agent sees it.
type agentCall struct {
	agent int // index
	LiveCall
}

// mergeCalls puts together what was started here and what agents' phones show.
// The two meet by callID, else by DID, caller and time, as a stored call meets
// its decision. A call keeps the id that ids has for its decision. The id of
// each agent's call goes into agents.
func mergeCalls(started []LiveCall, phones []agentCall, agents []LiveAgent, ids map[string]string) []LiveCall {
	type key struct{ center, callID string }
	byCallID := make(map[key]int, len(started))
	calls := make([]LiveCall, 0, len(started)+len(phones))
	var withoutCallID []int // calls of which Ziwo sent no callID when they started
	for _, c := range slices.SortedFunc(slices.Values(started), newestCallFirst) {
		k := key{c.ContactCenter, c.CallID}
		if _, again := byCallID[k]; again { // Ziwo asked twice about one call: the newest counts
			continue
		}
		if c.CallID == "" {
			withoutCallID = append(withoutCallID, len(calls))
		} else {
			byCallID[k] = len(calls)
		}
		calls = append(calls, c)
	}
	at := make([]int, len(phones))
	for n, p := range phones {
		k := key{p.ContactCenter, p.CallID}
		i, known := byCallID[k]
		if !known {
			if i, known = closestStart(calls, withoutCallID, p.LiveCall); !known {
				i = len(calls)
				calls = append(calls, LiveCall{})
			}
			byCallID[k] = i
		}
		at[n] = i
		calls[i] = addPhone(calls[i], p.LiveCall)
	}
	for i := range calls {
		c := &calls[i]
		c.ID = cmp.Or(ids[c.Decision], c.CallID, c.Decision)
	}
	for n, p := range phones {
		agents[p.agent].Call = calls[at[n]].ID
	}
	slices.SortFunc(calls, newestCallFirst)
	return calls
}

func newestCallFirst(a, b LiveCall) int {
	return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(b.ID, a.ID), cmp.Compare(b.Decision, a.Decision))
}

// How far the instants of a start call and of Ziwo's record of the call may be
// apart: those by which stored calls are linked.
const (
	maxMatchGap              = 5 * time.Minute
	maxMatchGapWithoutCaller = time.Minute
)

// nearest is the started call without a callID that a phone shows most likely.
func closestStart(calls []LiveCall, withoutCallID []int, phone LiveCall) (int, bool) {
	best, found, bestApart := 0, false, time.Duration(0)
	if phone.Direction == "outbound" {
		return 0, false
	}
	for _, i := range withoutCallID {
		c := calls[i]
		if c.CallID != "" || c.ContactCenter != phone.ContactCenter || c.DID == "" || c.DID != phone.DID { // one that was met has a callID by now
			continue
		}
		apart := c.StartedAt.Sub(phone.StartedAt).Abs()
		fits := c.Caller == phone.Caller && apart <= maxMatchGap || c.Caller == "" && apart <= maxMatchGapWithoutCaller
		if fits && (!found || apart < bestApart) {
			best, found, bestApart = i, true, apart
		}
	}
	return best, found
}

// seenBy completes a call by what a phone shows of it. The first phone names
// the agent, and one that is answered tells more than one that rings.
func addPhone(c, phone LiveCall) LiveCall {
	c.ContactCenter, c.CallID = phone.ContactCenter, cmp.Or(c.CallID, phone.CallID)
	c.Direction = cmp.Or(c.Direction, phone.Direction)
	c.DID, c.Caller, c.CallerName = cmp.Or(c.DID, phone.DID), cmp.Or(c.Caller, phone.Caller), cmp.Or(c.CallerName, phone.CallerName)
	if c.StartedAt.IsZero() {
		c.StartedAt = phone.StartedAt
	}
	if c.Agent == "" || c.AnsweredAt.IsZero() && !phone.AnsweredAt.IsZero() {
		c.Agent, c.State, c.AnsweredAt = phone.Agent, phone.State, phone.AnsweredAt
	}
	return c
}
