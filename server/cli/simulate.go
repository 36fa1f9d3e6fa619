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

type SimulateCommand struct {
	File    string            `arg:"" help:"Configuration; - is standard input."`
	Tracker string            `required:"" help:"Tracker that is called."`
	DID     string            `name:"did" required:"" help:"Number that was dialled."`
	Caller  string            `help:"Number of the caller."`
	CallID  string            `name:"call-id" help:"Ziwo's id of the call; splits depend on it."`
	Field   map[string]string `help:"Another field that Ziwo sends, for request.<name>." placeholder:"NAME=VALUE"`
	At      string            `help:"Instant of the call (RFC 3339); now when absent."`
	JSON    bool              `name:"json" help:"Print JSON."`

	VoicemailField string `name:"voicemail-field" env:"CALLTRACKER_VOICEMAIL_FIELD" default:"voicemail" help:"Name of the voicemail flag in the answer."`
}

// Run prints the decision, its trace and the answer.
func (cmd *SimulateCommand) Run(c *Terminal) error {
	at := time.Now()
	if cmd.At != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, cmd.At); err != nil {
			return fmt.Errorf("--at %q is no instant; write it like 2026-11-22T20:00:00+04:00", cmd.At)
		}
	}
	text, err := c.readDocument(cmd.File)
	if err != nil {
		return err
	}
	_, set, problems := config.Load(text, FormatOf(cmd.File), LocalResolver, connections.ConfigDrivers(builtin.Drivers())...)
	if set == nil {
		printProblems(c.Err, styleFor(c.Err), cmd.File, problems.Errors())
		return ErrReported
	}
	call := map[string]any{"didCalled": cmd.DID, "callerIDNumber": cmd.Caller, "callID": cmd.CallID}
	for name, value := range cmd.Field {
		call[name] = value
	}
	simulator := simulate.New(simulate.Options{Numbers: phone.NewCache(), VoicemailField: cmd.VoicemailField, Now: time.Now})
	simulation, err := simulator.SimulateIn(set, simulate.Input{Tracker: cmd.Tracker, At: &at, Call: call})
	if err != nil {
		return err
	}
	if cmd.JSON {
		encoder := json.NewEncoder(c.Out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(simulation)
	}
	printSimulation(c.Out, styleFor(c.Out), set, cmd.Tracker, at, simulation)
	return nil
}
