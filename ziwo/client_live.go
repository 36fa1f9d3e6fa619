package ziwo

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ClickToCall rings an agent and, once that phone is taken, calls number, which
// Ziwo wants with its country code behind "00". It returns Ziwo's id of the call,
// empty when Ziwo gives none. It is sent once: a second one would ring twice.
func (c *Client) ClickToCall(ctx context.Context, agent, number string) (callID string, err error) {
	a, err := c.do(ctx, request{
		op: "click to call", method: http.MethodPost, path: "/integrations/cti/agents/" + url.PathEscape(agent) + "/call",
		form: url.Values{"number": {number}}, auth: byAPIKey,
	})
	if err != nil {
		return "", err
	}
	return a.content.field("callID", "callId", "call_id", "uuid"), nil
}

// LiveCall is a call that is under way, as one agent's phone sees it. Its
// direction is that of the phone's leg: an outbound call may show as inbound.
type LiveCall struct {
	CallID       string
	Direction    string // of the call, as far as Ziwo tells
	Number       string // the other side
	DIDCalled    string
	State        string
	CreatedAt    time.Time
	AnsweredAt   time.Time // zero while it rings
	CallerName   string
	CallerNumber string
}

// AgentCall is the call of an agent (a ccLogin) by CTI; false when there is none.
func (c *Client) AgentCall(ctx context.Context, agent string) (LiveCall, bool, error) {
	a, err := c.do(ctx, request{
		op: "load call of agent", method: http.MethodGet, path: "/integrations/cti/agents/" + url.PathEscape(agent) + "/call", auth: byAPIKey,
	})
	if err != nil {
		return LiveCall{}, false, err
	}
	for _, name := range []string{"queueInfo", "callInfo"} {
		if call, ok := liveCallOf(a.content.at(name)); ok {
			return call, true, nil
		}
	}
	call, ok := liveCallOf(a.content)
	return call, ok, nil
}

func liveCallOf(v value) (LiveCall, bool) {
	if v.kind != object {
		return LiveCall{}, false
	}
	call := LiveCall{
		CallID: v.field("callID", "callId", "call_id"), DIDCalled: v.field("didCalled"),
		Direction: strings.ToLower(v.field("calleeDirection", "direction")), State: v.field("callState", "state", "calleeCallState"),
		CallerName: v.field("callerName", "callerIDName"), CallerNumber: v.field("originalCallerIdNumber", "callerIDNumber", "callerID"),
	}
	call.CreatedAt, _, _ = instant([]byte(v.field("createdEPOCH", "startedAt", "createdAt")))
	call.AnsweredAt, _, _ = instant([]byte(v.field("channelBridgeEPOCH", "answeredAt")))
	call.Number = call.CallerNumber
	if call.Direction == "outbound" {
		call.Number = v.field("calleeID", "didCalled", "originalCallerIdNumber")
	}
	return call, call.CallID != ""
}

// AgentState is what one agent does now.
type AgentState struct {
	ID       string
	CCLogin  string
	Name     string
	Username string
	Status   AgentStatus
	Position string
	Since    time.Time // of the status; zero when Ziwo does not say
	Call     *LiveCall // nil when there is none
}

// AgentStatus is Ziwo's number of a status; an instance may have more than
// those that are named here.
type AgentStatus int

// The statuses that every instance has.
const (
	LoggedOut AgentStatus = 0
	Available AgentStatus = 1
	OnBreak   AgentStatus = 2
	Meeting   AgentStatus = 3
	Outgoing  AgentStatus = 4
)

// String is its English name.
func (s AgentStatus) String() string {
	switch s {
	case LoggedOut:
		return "logged out"
	case Available:
		return "available"
	case OnBreak:
		return "on break"
	case Meeting:
		return "meeting"
	case Outgoing:
		return "outgoing"
	default:
		return "status " + strconv.Itoa(int(s))
	}
}

// LiveAgents is what all agents do now.
func (c *Client) LiveAgents(ctx context.Context) ([]AgentState, error) {
	a, err := c.do(ctx, request{op: "load live agents", method: http.MethodGet, path: "/live/agents"})
	if err != nil {
		return nil, err
	}
	items := a.items("id", "ccLogin")
	agents := make([]AgentState, 0, len(items))
	for _, v := range items {
		agent := AgentState{
			ID: v.field("id", "agentId"), CCLogin: v.field("ccLogin", "agentCCLogin", "liveInfo.ccLogin"), Username: v.field("username", "email"),
			Name:     strings.TrimSpace(v.field("firstName") + " " + v.field("lastName")),
			Position: v.field("position", "contact", "liveInfo.position"),
		}
		if n, ok := numeral([]byte(v.field("status.number", "liveInfo.status", "statusNumber", "status"))); ok && n >= 0 && n < 1e6 {
			agent.Status = AgentStatus(n)
		}
		agent.Since, _, _ = instant([]byte(v.field("statusSince", "liveInfo.lastStatusChangeEPOCH", "lastStatusChange")))
		for _, name := range []string{"call", "liveInfo.call", "queueInfo"} {
			if call, ok := liveCallOf(v.at(strings.Split(name, ".")...)); ok {
				agent.Call = &call
				break
			}
		}
		agents = append(agents, agent)
	}
	return agents, nil
}

// Whispering says who hears the one who listens in.
type Whispering string

// Who may be spoken to.
const (
	WhisperNobody Whispering = "none"
	WhisperAgent  Whispering = "agent"
	WhisperBoth   Whispering = "both"
)

// Eavesdrop listens in on the call of an agent, on the phone at a position;
// empty: the caller's own. It returns the id of the listening call.
func (c *Client) Eavesdrop(ctx context.Context, agent, position string) (callID string, err error) {
	form := url.Values{}
	if position != "" {
		form.Set("positionName", position)
	}
	a, err := c.do(ctx, request{op: "eavesdrop", method: http.MethodPost, path: "/live/calls/eavesdrop/" + url.PathEscape(agent), form: form})
	if err != nil {
		return "", err
	}
	return a.content.field("callID", "callId", "call_id"), nil
}

// Whisper changes who hears the one who listens in by callID.
func (c *Client) Whisper(ctx context.Context, callID string, to Whispering) error {
	switch to {
	case WhisperNobody, WhisperAgent, WhisperBoth:
	default:
		return fmt.Errorf("whisper: %q is none of none, agent, both", clip(string(to)))
	}
	_, err := c.do(ctx, request{
		op: "whisper", method: http.MethodPut, path: "/live/calls/eavesdrop/" + url.PathEscape(callID), form: url.Values{"whisper": {string(to)}},
	})
	return err
}
