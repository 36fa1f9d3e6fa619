package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"calltracker/handlers/reconcile"
)

// reconcileTimeout is longer than a server may take.
const reconcileTimeout = 30 * time.Minute

type reconcileCommand struct {
	From        string `required:"" help:"Start of the period, inclusive (RFC 3339)." placeholder:"TIME"`
	To          string `required:"" help:"End of the period, exclusive (RFC 3339)." placeholder:"TIME"`
	serverFlags `embed:""`
}

// Run reconciles a period and prints the result of each contact center.
func (cmd *reconcileCommand) Run(ctx context.Context, t *Terminal) error {
	for _, flag := range []struct{ name, value string }{{"--from", cmd.From}, {"--to", cmd.To}} {
		if _, err := time.Parse(time.RFC3339, flag.value); err != nil {
			return fmt.Errorf("invalid %s %q: use RFC 3339, such as 2026-11-22T20:00:00Z", flag.name, flag.value)
		}
	}
	body, err := json.Marshal(map[string]string{"from": cmd.From, "to": cmd.To})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reconcileTimeout)
	defer cancel()
	var list reconcile.List
	err = cmd.send(ctx, http.MethodPost, "/api/v1/reconciliation", http.Header{"Content-Type": {"application/json"}}, body, &list)
	var rejected *problemError
	if errors.As(err, &rejected) {
		PrintFieldErrors(t.Err, "request", rejected.Errors)
		return fmt.Errorf("not reconciled: %w", err)
	}
	if err != nil {
		return err
	}
	return printRuns(t.Out, styleFor(t.Out), list.Runs)
}

// printRuns prints one line per contact center. It returns ErrReported if a run was
// delayed.
func printRuns(w io.Writer, s style, runs []reconcile.View) error {
	delayed := false
	for _, r := range runs {
		color := s.good
		if r.State != "done" {
			color, delayed = s.bad, true
		}
		fmt.Fprintf(w, "%s: %s%s%s, %d calls in Ziwo, %d already stored, %d backfilled, %d completed, %d different, %d started but never ended (%d requests)\n",
			r.ContactCenter, color, r.State, s.off, r.Found, r.Present, r.Backfilled, r.Enriched, r.Differing, r.Unended, r.Requests)
		if r.Error != "" {
			fmt.Fprintf(w, "  %s\n", printable(r.Error))
		}
	}
	if delayed {
		return ErrReported
	}
	return nil
}
