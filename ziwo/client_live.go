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

// ClickToCall rings an agent and, once the agent answers, calls number. Ziwo
// requires number to start with "00" and the country code. ClickToCall returns
// Ziwo's ID of the call, or "" if Ziwo sends none. It is never retried, because a
// second request would ring the agent again.
func (c *Client) ClickToCall(ctx context.Context, agent, number string) (callID string, err error) {
	res, err := c.do(ctx, request{
		op: "click to call", method: http.MethodPost, path: "/integrations/cti/agents/" + url.PathEscape(agent) + "/call",
		form: url.Values{"number": {number}}, auth: withAPIKey,
	})
	if err != nil {
		return "", err
	}
	return res.content.lookup("callID", "callId", "call_id", "uuid"), nil
}

// LiveCall is a call in progress, as the leg of one agent. Ziwo may report the
// direction of the leg instead of the call: an outbound call may show as inbound.
type LiveCall struct {
	CallID       string
	Direction    string // direction of the call, as far as Ziwo reports it
	Number       string // number of the other party
	DIDCalled    string
	State        string
	CreatedAt    time.Time
	AnsweredAt   time.Time // zero while the call rings
	CallerName   string
	CallerNumber string
}

// AgentCall returns the current call of the agent with the ccLogin agent. It
// returns false if the agent has none.
func (c *Client) AgentCall(ctx context.Context, agent string) (LiveCall, bool, error) {
	res, err := c.do(ctx, request{
		op: "load call of agent", method: http.MethodGet, path: "/integrations/cti/agents/" + url.PathEscape(agent) + "/call", auth: withAPIKey,
	})
	if err != nil {
		return LiveCall{}, false, err
	}
	for _, name := range []string{"queueInfo", "callInfo"} {
		if call, ok := liveCallOf(res.content.get(name)); ok {
			return call, true, nil
		}
	}
	call, ok := liveCallOf(res.content)
	return call, ok, nil
}

func liveCallOf(v value) (LiveCall, bool) {
	if v.kind != kindObject {
		return LiveCall{}, false
	}
	call := LiveCall{
		CallID: v.lookup("callID", "callId", "call_id"), DIDCalled: v.lookup("didCalled"),
		Direction: strings.ToLower(v.lookup("calleeDirection", "direction")), State: v.lookup("callState", "state", "calleeCallState"),
		CallerName: v.lookup("callerName", "callerIDName"), CallerNumber: v.lookup("originalCallerIdNumber", "callerIDNumber", "callerID"),
	}
	call.CreatedAt, _, _ = instant([]byte(v.lookup("createdEPOCH", "startedAt", "createdAt")))
	call.AnsweredAt, _, _ = instant([]byte(v.lookup("channelBridgeEPOCH", "answeredAt")))
	call.Number = call.CallerNumber
	if call.Direction == "outbound" {
		call.Number = v.lookup("calleeID", "didCalled", "originalCallerIdNumber")
	}
	return call, call.CallID != ""
}

// AgentState is the current state of an agent.
type AgentState struct {
	ID       string
	CCLogin  string
	Name     string
	Username string
	Status   AgentStatus
	Position string
	Since    time.Time // time of the last status change; zero if Ziwo does not send it
	Call     *LiveCall // current call; nil if there is none
}

// AgentStatus is Ziwo's number for the status of an agent. An instance may define
// more than the ones named here.
type AgentStatus int

// The statuses that every instance defines.
const (
	LoggedOut AgentStatus = 0
	Available AgentStatus = 1
	OnBreak   AgentStatus = 2
	Meeting   AgentStatus = 3
	Outgoing  AgentStatus = 4
)

// String returns the English name of s.
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

// LiveAgents returns the current state of every agent.
func (c *Client) LiveAgents(ctx context.Context) ([]AgentState, error) {
	res, err := c.do(ctx, request{op: "load live agents", method: http.MethodGet, path: "/live/agents"})
	if err != nil {
		return nil, err
	}
	items := res.items("id", "ccLogin")
	agents := make([]AgentState, 0, len(items))
	for _, v := range items {
		agent := AgentState{
			ID: v.lookup("id", "agentId"), CCLogin: v.lookup("ccLogin", "agentCCLogin", "liveInfo.ccLogin"), Username: v.lookup("username", "email"),
			Name:     strings.TrimSpace(v.lookup("firstName") + " " + v.lookup("lastName")),
			Position: v.lookup("position", "contact", "liveInfo.position"),
		}
		if n, ok := numeral([]byte(v.lookup("status.number", "liveInfo.status", "statusNumber", "status"))); ok && n >= 0 && n < 1e6 {
			agent.Status = AgentStatus(n)
		}
		agent.Since, _, _ = instant([]byte(v.lookup("statusSince", "liveInfo.lastStatusChangeEPOCH", "lastStatusChange")))
		for _, name := range []string{"call", "liveInfo.call", "queueInfo"} {
			if call, ok := liveCallOf(v.get(strings.Split(name, ".")...)); ok {
				agent.Call = &call
				break
			}
		}
		agents = append(agents, agent)
	}
	return agents, nil
}

// WhisperTarget is the party who hears the supervisor in a monitored call.
type WhisperTarget string

// The whisper targets.
const (
	WhisperNone  WhisperTarget = "none"
	WhisperAgent WhisperTarget = "agent"
	WhisperBoth  WhisperTarget = "both"
)

// Eavesdrop starts monitoring the call of an agent and rings the phone at
// position. An empty position is that of the authenticated user. Eavesdrop returns
// the ID of the monitoring call.
func (c *Client) Eavesdrop(ctx context.Context, agent, position string) (callID string, err error) {
	form := url.Values{}
	if position != "" {
		form.Set("positionName", position)
	}
	res, err := c.do(ctx, request{op: "eavesdrop", method: http.MethodPost, path: "/live/calls/eavesdrop/" + url.PathEscape(agent), form: form})
	if err != nil {
		return "", err
	}
	return res.content.lookup("callID", "callId", "call_id"), nil
}

// Whisper sets the party who hears the supervisor in the monitoring call callID.
func (c *Client) Whisper(ctx context.Context, callID string, to WhisperTarget) error {
	switch to {
	case WhisperNone, WhisperAgent, WhisperBoth:
	default:
		return fmt.Errorf("whisper: invalid target %q: use none, agent, or both", clip(string(to)))
	}
	_, err := c.do(ctx, request{
		op: "whisper", method: http.MethodPut, path: "/live/calls/eavesdrop/" + url.PathEscape(callID), form: url.Values{"whisper": {string(to)}},
	})
	return err
}
