package live

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// View shows the current state: Ziwo's agents and their calls, and the calls
// that trackers have started and that have not ended.
type View struct {
	At             time.Time       `json:"at" format:"date-time"`
	Decisions      Source          `json:"decisions"` // state of reading started calls from the database
	ContactCenters []ContactCenter `json:"contactCenters"`
	Agents         []Agent         `json:"agents"`
	Calls          []Call          `json:"calls"`     // newest first
	Truncated      bool            `json:"truncated"` // whether calls were omitted
} // @name LiveView

// Source is the state of a data source.
type Source struct {
	State SourceState `json:"state" enums:"waiting,ok,away"`
	Since time.Time   `json:"since,omitzero" binding:"optional" format:"date-time"` // start of the current state
	Error string      `json:"error,omitempty"`
} // @name LiveSource

// SourceState is the state of a source. The zero value is invalid.
type SourceState string // @name LiveState

// States of a source. The last data of an unavailable source is shown for a minute.
const (
	SourceWaiting     SourceState = "waiting" // no answer yet
	SourceOK          SourceState = "ok"
	SourceUnavailable SourceState = "away"
)

// ContactCenter is a contact center and its state.
type ContactCenter struct {
	Name string `json:"name" example:"aldebaran"`
	Source
} // @name LiveContactCenter

// Agent is the state of an agent.
type Agent struct {
	ContactCenter string    `json:"contactCenter" example:"aldebaran"`
	Agent         string    `json:"agent" example:"0026"` // ccLogin
	Name          string    `json:"name"`
	Status        string    `json:"status" example:"available"` // logged_out, available, on_break, meeting, outgoing, or status_N
	Since         time.Time `json:"since,omitzero" binding:"optional" format:"date-time"`
	Position      string    `json:"position" example:"agent-0026"`
	Call          string    `json:"call"` // ID of the agent's call; empty if there is none
} // @name LiveAgent

// Call is a call in progress.
type Call struct {
	ID            string    `json:"id"` // constant for the duration of the call
	CallID        string    `json:"callID"`
	ContactCenter string    `json:"contactCenter"`
	Tracker       string    `json:"tracker"` // empty if no tracker handled the call
	Direction     string    `json:"direction" example:"inbound"`
	DID           string    `json:"did" example:"+97161234567"`
	Caller        string    `json:"caller" example:"+971501234567"`
	CallerName    string    `json:"callerName"`
	State         CallState `json:"state" enums:"started,ringing,active,held,unknown"`
	StartedAt     time.Time `json:"startedAt,omitzero" binding:"optional" format:"date-time"`
	AnsweredAt    time.Time `json:"answeredAt,omitzero" binding:"optional" format:"date-time"`
	Agent         string    `json:"agent"` // ccLogin of the first agent
	Route         string    `json:"route"`
	Decision      string    `json:"decision"` // decision ID
} // @name LiveCall

// CallState is the progress of a call. The zero value is invalid.
type CallState string // @name LiveCallState

// States of a call. Ziwo reports only calls that have reached an agent. Other calls
// are known only to have started.
const (
	CallStarted CallState = "started"
	CallRinging CallState = "ringing"
	CallActive  CallState = "active"
	CallHeld    CallState = "held"
	CallUnknown CallState = "unknown" // Ziwo reported an unknown state
)

// CallEnded reports that a call has ended.
type CallEnded struct {
	ID       string `json:"id"`
	CallID   string `json:"callID"`
	Decision string `json:"decision"`
	Call     string `json:"call"` // ID of the stored call; empty if unknown
}

// AgentGone reports that Ziwo no longer lists an agent.
type AgentGone struct {
	ContactCenter string `json:"contactCenter"`
	Agent         string `json:"agent"`
}

// Event is a change of a View, or a complete View.
type Event struct {
	ID   uint64
	Name string // snapshot, call, call-ended, agent, agent-gone, contact-center, decisions
	Data json.RawMessage
}

// change is an event without an ID.
type change struct {
	name string
	data any
}

// diff returns the changes from one view to the next. If a complete view is better,
// it returns no changes, and full is true.
func diff(before, after View, stored map[string]string) (changes []change, full bool) {
	if !slices.EqualFunc(before.ContactCenters, after.ContactCenters, func(a, b ContactCenter) bool { return a.Name == b.Name }) ||
		before.Truncated != after.Truncated {
		return nil, true
	}
	if before.Decisions != after.Decisions {
		changes = append(changes, change{"decisions", after.Decisions})
	}
	for i, center := range after.ContactCenters {
		if before.ContactCenters[i] != center {
			changes = append(changes, change{"contact-center", center})
		}
	}
	callsBefore := make(map[string]Call, len(before.Calls))
	for _, c := range before.Calls {
		callsBefore[c.ID] = c
	}
	for _, c := range slices.Backward(after.Calls) { // oldest first
		if callsBefore[c.ID] != c {
			changes = append(changes, change{"call", c})
		}
		delete(callsBefore, c.ID)
	}
	for _, c := range slices.Backward(before.Calls) {
		if _, ended := callsBefore[c.ID]; ended {
			changes = append(changes, change{"call-ended", CallEnded{ID: c.ID, CallID: c.CallID, Decision: c.Decision, Call: stored[c.Decision]}})
		}
	}
	type agentKey struct{ center, agent string }
	agentsBefore := make(map[agentKey]Agent, len(before.Agents))
	for _, a := range before.Agents {
		agentsBefore[agentKey{a.ContactCenter, a.Agent}] = a
	}
	for _, a := range after.Agents {
		if agentsBefore[agentKey{a.ContactCenter, a.Agent}] != a {
			changes = append(changes, change{"agent", a})
		}
		delete(agentsBefore, agentKey{a.ContactCenter, a.Agent})
	}
	for _, a := range before.Agents {
		if _, gone := agentsBefore[agentKey{a.ContactCenter, a.Agent}]; gone {
			changes = append(changes, change{"agent-gone", AgentGone{ContactCenter: a.ContactCenter, Agent: a.Agent}})
		}
	}
	return changes, len(changes) > maxChanges
}

// agentCall is a call as the phone of an agent shows it.
type agentCall struct {
	agent int // index in the list of agents
	Call
}

// mergeCalls merges the started calls with the calls on agents' phones. They are
// matched by callID, or else by DID, caller, and time, like stored calls and
// decisions. A call keeps the ID that ids has for its decision. mergeCalls sets the
// call ID of each agent in agents.
func mergeCalls(started []Call, phones []agentCall, agents []Agent, ids map[string]string) []Call {
	type key struct{ center, callID string }
	byCallID := make(map[key]int, len(started))
	calls := make([]Call, 0, len(started)+len(phones))
	var withoutCallID []int // calls that started without a callID from Ziwo
	for _, c := range slices.SortedFunc(slices.Values(started), newestCallFirst) {
		k := key{c.ContactCenter, c.CallID}
		if _, again := byCallID[k]; again { // Ziwo sent two start requests for a call; use the newer one
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
			if i, known = closestStart(calls, withoutCallID, p.Call); !known {
				i = len(calls)
				calls = append(calls, Call{})
			}
			byCallID[k] = i
		}
		at[n] = i
		calls[i] = mergePhone(calls[i], p.Call)
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

func newestCallFirst(a, b Call) int {
	return cmp.Or(b.StartedAt.Compare(a.StartedAt), cmp.Compare(b.ID, a.ID), cmp.Compare(b.Decision, a.Decision))
}

// Maximum time between a start call and Ziwo's record of the call. Stored calls are
// linked by the same limits.
const (
	maxMatchGap              = 5 * time.Minute
	maxMatchGapWithoutCaller = time.Minute
)

// closestStart returns the index of the started call without a callID that best
// matches a call on a phone.
func closestStart(calls []Call, withoutCallID []int, onPhone Call) (int, bool) {
	best, found, bestApart := 0, false, time.Duration(0)
	if onPhone.Direction == "outbound" {
		return 0, false
	}
	for _, i := range withoutCallID {
		c := calls[i]
		if c.CallID != "" || c.ContactCenter != onPhone.ContactCenter || c.DID == "" || c.DID != onPhone.DID { // a matched call has a callID by now
			continue
		}
		apart := c.StartedAt.Sub(onPhone.StartedAt).Abs()
		fits := c.Caller == onPhone.Caller && apart <= maxMatchGap || c.Caller == "" && apart <= maxMatchGapWithoutCaller
		if fits && (!found || apart < bestApart) {
			best, found, bestApart = i, true, apart
		}
	}
	return best, found
}

// mergePhone completes a call with the data of an agent's phone. The first phone sets
// the agent, but an answered phone has priority over a ringing one.
func mergePhone(c, onPhone Call) Call {
	c.ContactCenter, c.CallID = onPhone.ContactCenter, cmp.Or(c.CallID, onPhone.CallID)
	c.Direction = cmp.Or(c.Direction, onPhone.Direction)
	c.DID, c.Caller, c.CallerName = cmp.Or(c.DID, onPhone.DID), cmp.Or(c.Caller, onPhone.Caller), cmp.Or(c.CallerName, onPhone.CallerName)
	if c.StartedAt.IsZero() {
		c.StartedAt = onPhone.StartedAt
	}
	if c.Agent == "" || c.AnsweredAt.IsZero() && !onPhone.AnsweredAt.IsZero() {
		c.Agent, c.State, c.AnsweredAt = onPhone.Agent, onPhone.State, onPhone.AnsweredAt
	}
	return c
}
