package live

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"calltracker/phone"
	"calltracker/ziwo"
)

var (
	noon   = time.Date(2026, time.April, 14, 12, 0, 0, 0, time.UTC)
	region = "AE"
)

// startedCall returns a call that a tracker started the given number of seconds after noon.
func startedCall(decision, callID, caller string, seconds int) Call {
	return Call{
		CallID: callID, ContactCenter: "a", Tracker: "sales", Direction: "inbound", DID: "+97142345678", Caller: caller, State: CallStarted,
		StartedAt: noon.Add(time.Duration(seconds) * time.Second), Route: "all", Decision: decision,
	}
}

// callOnPhone returns a call on the phone of the agent with the given index.
func callOnPhone(agent int, callID, direction, caller string, seconds int) agentCall {
	at := noon.Add(time.Duration(seconds) * time.Second)
	return agentCall{agent, Call{
		CallID: callID, ContactCenter: "a", Direction: direction, DID: "+97142345678", Caller: caller, State: CallRinging, StartedAt: at,
		Agent: fmt.Sprint("000", agent),
	}}
}

func TestMergeCalls(t *testing.T) {
	const one, two = "+971501234567", "+971507654321"
	for _, c := range []struct {
		name    string
		started []Call
		phones  []agentCall
		ids     map[string]string
		want    []string // ID, callID, decision, agent; newest first
		agents  []string // IDs of the calls of agents 0 and 1
	}{
		{name: "nothing", agents: []string{"", ""}},
		{
			name: "by callID", started: []Call{startedCall("d1", "c1", one, 0), startedCall("d2", "c2", two, 1)}, phones: []agentCall{callOnPhone(1, "c1", "inbound", "", 3)},
			want: []string{"c2 c2 d2 ", "c1 c1 d1 0001"}, agents: []string{"", "c1"},
		},
		{
			name: "by caller and time", started: []Call{startedCall("d1", "", one, 0), startedCall("d2", "", two, 1), startedCall("d3", "", one, 100)},
			phones: []agentCall{callOnPhone(0, "c1", "inbound", one, 90)},
			want:   []string{"c1 c1 d3 0000", "d2  d2 ", "d1  d1 "}, agents: []string{"c1", ""},
		},
		{
			name: "by time alone without a caller", started: []Call{startedCall("d1", "", "", 0)},
			phones: []agentCall{callOnPhone(0, "c1", "inbound", one, 50), callOnPhone(1, "c2", "inbound", two, 55)},
			want:   []string{"c2 c2  0001", "c1 c1 d1 0000"}, agents: []string{"c1", "c2"},
		},
		{
			name:    "not for another caller, too late, or outbound",
			started: []Call{startedCall("d1", "", one, 0), startedCall("d2", "", "", 1)},
			phones:  []agentCall{callOnPhone(0, "c1", "inbound", two, 70), callOnPhone(1, "c2", "outbound", one, 2)},
			want:    []string{"c1 c1  0000", "c2 c2  0001", "d2  d2 ", "d1  d1 "}, agents: []string{"c1", "c2"},
		},
		{
			name: "two phones with the same call", phones: []agentCall{callOnPhone(0, "c1", "inbound", one, 0), callOnPhone(1, "c1", "inbound", one, 0)},
			want: []string{"c1 c1  0000"}, agents: []string{"c1", "c1"},
		},
		{
			name: "the ID is constant", started: []Call{startedCall("d1", "", one, 0)}, phones: []agentCall{callOnPhone(0, "c1", "inbound", one, 1)}, ids: map[string]string{"d1": "d1"},
			want: []string{"d1 c1 d1 0000"}, agents: []string{"d1", ""},
		},
		{
			name: "two start requests for a call", started: []Call{startedCall("d1", "c1", one, 0), startedCall("d2", "c1", one, 1)}, phones: []agentCall{callOnPhone(0, "c1", "inbound", one, 1)},
			want: []string{"c1 c1 d2 0000"}, agents: []string{"c1", ""},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.started)
			agents := make([]Agent, 2)
			var got []string
			for _, call := range mergeCalls(c.started, c.phones, agents, c.ids) {
				got = append(got, fmt.Sprint(call.ID, " ", call.CallID, " ", call.Decision, " ", call.Agent))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("calls (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.agents, []string{agents[0].Call, agents[1].Call}); diff != "" {
				t.Errorf("calls of agents (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, c.started); diff != "" {
				t.Errorf("input modified (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMergeCallsPrefersAnsweredPhone(t *testing.T) {
	ringing, active := callOnPhone(0, "c1", "inbound", "", 0), callOnPhone(1, "c1", "inbound", "", 0)
	active.State, active.AnsweredAt = CallActive, noon.Add(9*time.Second)
	for _, phones := range [][]agentCall{{ringing, active}, {active, ringing}} {
		calls := mergeCalls([]Call{startedCall("d1", "c1", "", 0)}, phones, make([]Agent, 2), nil)
		if len(calls) != 1 || calls[0].State != CallActive || calls[0].Agent != "0001" || !calls[0].AnsweredAt.Equal(active.AnsweredAt) {
			t.Errorf("calls are %+v", calls)
		}
	}
}

func TestDiff(t *testing.T) {
	ok := Source{State: SourceOK, Since: noon}
	view := func(edit func(*View)) View {
		v := View{
			Decisions: ok, ContactCenters: []ContactCenter{{"a", ok}, {"b", ok}},
			Agents: []Agent{{ContactCenter: "a", Agent: "0001"}, {ContactCenter: "b", Agent: "0001"}},
			Calls:  []Call{{ID: "c2"}, {ID: "c1", Decision: "d1"}},
		}
		edit(&v)
		return v
	}
	for _, c := range []struct {
		name  string
		edit  func(*View)
		want  []string
		whole bool
	}{
		{"nothing", func(v *View) { v.At = noon }, nil, false},
		{"call starts", func(v *View) { v.Calls = slices.Insert(v.Calls, 0, Call{ID: "c3"}) }, []string{"call c3"}, false},
		{"call ends", func(v *View) { v.Calls = v.Calls[:1] }, []string{"call-ended c1"}, false},
		{"two calls change, oldest first", func(v *View) { v.Calls[0].State, v.Calls[1].State = CallActive, CallHeld }, []string{"call c1", "call c2"}, false},
		{"agent with a duplicate login", func(v *View) { v.Agents[1].Status = "meeting" }, []string{"agent b"}, false},
		{"agent leaves", func(v *View) { v.Agents = v.Agents[:1] }, []string{"agent-gone b"}, false},
		{"contact center changes", func(v *View) { v.ContactCenters[1].State = SourceUnavailable }, []string{"contact-center b"}, false},
		{"database changes", func(v *View) { v.Decisions.State = SourceUnavailable }, []string{"decisions away"}, false},
		{"contact center replaced", func(v *View) { v.ContactCenters[1].Name = "c" }, nil, true},
		{"contact center removed", func(v *View) { v.ContactCenters = v.ContactCenters[:1] }, nil, true},
		{"view truncated", func(v *View) { v.Truncated = true }, nil, true},
		{"too many changes", func(v *View) {
			for i := range maxChanges + 1 {
				v.Calls = append(v.Calls, Call{ID: fmt.Sprint("n", i)})
			}
		}, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			found, whole := diff(view(func(*View) {}), view(c.edit), map[string]string{"d1": "stored"})
			if whole != c.whole {
				t.Fatalf("full is %v", whole)
			}
			if whole {
				return
			}
			var got []string
			for _, change := range found {
				text, err := json.Marshal(change.data)
				if err != nil {
					t.Fatal(err)
				}
				var data struct{ ID, Name, ContactCenter, State, Call string }
				if err := json.Unmarshal(text, &data); err != nil {
					t.Fatal(err)
				}
				id := data.ID
				for _, other := range []string{data.Name, data.ContactCenter, data.State} {
					if id == "" {
						id = other
					}
				}
				got = append(got, change.name+" "+id)
				if change.name == "call-ended" && data.Call != "stored" {
					t.Errorf("stored call %q, want \"stored\"", data.Call)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestLiveAgents(t *testing.T) {
	call := func(direction, did, caller, number, state string) *ziwo.LiveCall {
		return &ziwo.LiveCall{CallID: "c1", Direction: direction, DIDCalled: did, CallerNumber: caller, Number: number, State: state, CallerName: caller, CreatedAt: noon}
	}
	agents, calls := liveAgents("a", []ziwo.AgentState{
		{CCLogin: "0029", Status: ziwo.OnBreak, Call: call("outbound", "00971501234567", "00971501234567", "00971501234567", "active")},
		{CCLogin: "0011", Status: 7, Call: call("inbound", "042345678", "0501234567", "0501234567", "early")},
		{CCLogin: "0029", Status: ziwo.Available}, // duplicate
		{ID: "5", Name: "No Login"},
		{Name: "nobody"},
	}, phone.NewCache(), region)
	var got []string
	for _, a := range agents {
		got = append(got, a.Agent+" "+a.Status)
	}
	if diff := cmp.Diff([]string{"0011 status_7", "0029 on_break", "5 logged_out"}, got); diff != "" {
		t.Errorf("agents (-want +got):\n%s", diff)
	}
	got = nil
	for _, c := range calls {
		got = append(got, fmt.Sprint(c.agent, " ", c.Direction, " ", c.DID, " ", c.Caller, " ", c.CallerName, " ", c.State))
	}
	want := []string{"0 inbound +97142345678 +971501234567  ringing", "1 outbound +971501234567   active"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

func TestStartedCallsAreLimited(t *testing.T) {
	s := startedCalls{}
	var found []Call
	for i := range maxStartedCalls + 10 {
		found = append(found, startedCall(fmt.Sprint("d", i), "", "", i))
	}
	now := noon.Add(time.Hour / 2)
	s.merge(found, nil, nil, now)
	if _, oldest := s.open["d9"]; len(s.open) != maxStartedCalls || oldest || !s.truncated {
		t.Errorf("%d calls, truncated %v", len(s.open), s.truncated)
	}
	s.merge(nil, []string{"d10", "d11", "d12"}, map[string]string{"d10": "stored", "d12": ""}, now) // d11 is no longer stored
	if _, open := s.open["d12"]; len(s.open) != maxStartedCalls-2 || !open {
		t.Errorf("%d calls", len(s.open))
	}
	if s.merge(nil, nil, nil, noon.Add(liveWindow+500*time.Second)); len(s.open) != maxStartedCalls+10-500 {
		t.Errorf("%d calls", len(s.open))
	}
}
