package cli

import (
	"errors"

	"calltracker/config"
	"calltracker/crm/builtin"
	"calltracker/handlers/connections"
	"calltracker/handlers/simulate"
)

// CheckCommand validates a configuration and runs its tests.
type CheckCommand struct {
	File   string `arg:"" optional:"" help:"Configuration file; - reads standard input."`
	Schema bool   `help:"Print the JSON Schema of configurations instead."`
}

// Run prints every problem, the test results, and a summary.
func (cmd *CheckCommand) Run(t *Terminal) error {
	if cmd.Schema {
		schema, err := config.Schema()
		if err != nil {
			return err
		}
		_, err = t.Out.Write(schema)
		return err
	}
	if cmd.File == "" {
		return errors.New("no file: use calltracker check FILE")
	}
	text, err := t.readDocument(cmd.File)
	if err != nil {
		return err
	}
	doc, set, problems := config.Load(text, formatOf(cmd.File), resolveLocally, connections.ConfigDrivers(builtin.Drivers())...)
	style := styleFor(t.Out)
	printProblems(t.Out, style, cmd.File, problems)
	var results []simulate.TestResult
	if set != nil {
		results = simulate.RunTests(doc, set)
	}
	failed := printTests(t.Out, style, cmd.File, results)
	printSummary(t.Out, style, cmd.File, set, problems, len(results), failed)
	if failed > 0 || set == nil {
		return ErrReported
	}
	return nil
}
