package cli

import (
	"encoding/json"
	"fmt"
	"time"

	"calltracker/config"
	"calltracker/crm/builtin"
	"calltracker/handlers/connections"
	"calltracker/handlers/simulate"
	"calltracker/phone"
)

// SimulateCommand shows how a configuration routes a call.
type SimulateCommand struct {
	File    string            `arg:"" help:"Configuration file; - reads standard input."`
	Tracker string            `required:"" help:"Name of the tracker."`
	DID     string            `name:"did" required:"" help:"Number that the caller dialed."`
	Caller  string            `help:"Number of the caller."`
	CallID  string            `name:"call-id" help:"Ziwo's ID of the call; it determines the share of a split."`
	Field   map[string]string `help:"Other field of the request, for conditions on request.<name>." placeholder:"NAME=VALUE"`
	At      string            `help:"Time of the call (RFC 3339); now by default."`
	JSON    bool              `name:"json" help:"Print JSON."`

	VoicemailField string `name:"voicemail-field" env:"CALLTRACKER_VOICEMAIL_FIELD" default:"voicemail" help:"Name of the voicemail flag in the answer."`
}

// Run prints the decision, its trace, and the answer that Ziwo would receive.
func (cmd *SimulateCommand) Run(t *Terminal) error {
	at := time.Now()
	if cmd.At != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, cmd.At); err != nil {
			return fmt.Errorf("invalid --at %q: use RFC 3339, such as 2026-11-22T20:00:00+04:00", cmd.At)
		}
	}
	text, err := t.readDocument(cmd.File)
	if err != nil {
		return err
	}
	_, set, problems := config.Load(text, formatOf(cmd.File), resolveLocally, connections.ConfigDrivers(builtin.Drivers())...)
	if set == nil {
		printProblems(t.Err, styleFor(t.Err), cmd.File, problems.Errors())
		return ErrReported
	}
	call := map[string]any{"didCalled": cmd.DID, "callerIDNumber": cmd.Caller, "callID": cmd.CallID}
	for name, value := range cmd.Field {
		call[name] = value
	}
	in := simulate.Input{Tracker: cmd.Tracker, At: &at, Call: call}
	simulation, err := simulate.Decide(set, in, phone.NewCache(), cmd.VoicemailField)
	if err != nil {
		return err
	}
	if cmd.JSON {
		encoder := json.NewEncoder(t.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(simulation)
	}
	printSimulation(t.Out, styleFor(t.Out), set, cmd.Tracker, at, simulation)
	return nil
}
