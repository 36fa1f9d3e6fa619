package cli

import (
	"errors"

	"calltracker/config"
	"calltracker/crm/builtin"
	"calltracker/handlers/connections"
	"calltracker/handlers/simulate"
)

type CheckCommand struct {
	File   string `arg:"" optional:"" help:"Configuration; - is standard input."`
	Schema bool   `help:"Print the JSON Schema of the configuration instead."`
}

// Run prints every problem, runs the tests and sums up.
func (cmd *CheckCommand) Run(c *Terminal) error {
	if cmd.Schema {
		schema, err := config.Schema()
		if err != nil {
			return err
		}
		_, err = c.Out.Write(schema)
		return err
	}
	if cmd.File == "" {
		return errors.New("name the file to check: calltracker check FILE")
	}
	text, err := c.readDocument(cmd.File)
	if err != nil {
		return err
	}
	doc, set, problems := config.Load(text, FormatOf(cmd.File), LocalResolver, connections.ConfigDrivers(builtin.Drivers())...)
	style := styleFor(c.Out)
	printProblems(c.Out, style, cmd.File, problems)
	var results []simulate.TestResult
	if set != nil {
		results = simulate.RunTests(doc, set)
	}
	if failed := printTests(c.Out, style, cmd.File, results); failed > 0 || set == nil {
		printVerdict(c.Out, style, cmd.File, set, problems, results)
		return ErrReported
	}
	printVerdict(c.Out, style, cmd.File, set, problems, results)
	return nil
}
