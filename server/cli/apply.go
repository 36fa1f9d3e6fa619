package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"calltracker/config"
)

// applyTimeout is how long a server may take to apply a document.
const applyTimeout = 60 * time.Second

// ApplyCommand applies a configuration to a running server.
type ApplyCommand struct {
	File        string `arg:"" help:"Configuration file; - reads standard input."`
	serverFlags `embed:""`
	Comment     string `help:"Comment, for the history."`
	Author      string `env:"USER" help:"Author, for the history."`
	IfMatch     string `name:"if-match" default:"*" help:"Version that must be active now; * matches any."`
	DryRun      bool   `name:"dry-run" help:"Check the configuration on the server without applying it."`
}

// Run sends the document and prints the result.
func (cmd *ApplyCommand) Run(ctx context.Context, t *Terminal) error {
	text, err := t.readDocument(cmd.File)
	if err != nil {
		return err
	}
	query := url.Values{"comment": {cmd.Comment}, "author": {cmd.Author}}
	if cmd.DryRun {
		query.Set("dry_run", "true")
	}
	header := http.Header{}
	header.Set("Content-Type", "application/"+string(formatOf(cmd.File)))
	header.Set("If-Match", cmd.IfMatch)
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	var applied config.ApplyResult
	err = cmd.send(ctx, http.MethodPut, "/api/v1/config?"+query.Encode(), header, text, &applied)
	var rejected *problemError
	if errors.As(err, &rejected) {
		PrintFieldErrors(t.Err, cmd.File, rejected.Errors)
		return fmt.Errorf("not applied: %w", err)
	}
	if err != nil {
		return err
	}
	for _, w := range applied.Warnings {
		fmt.Fprintf(t.Out, "%s:%d:%d: warning: %s: %s\n", cmd.File, w.Line, w.Column, w.Path, w.Message)
	}
	if applied.DryRun {
		fmt.Fprintf(t.Out, "%s is valid; version %d is still active\n", cmd.File, applied.Version)
		return nil
	}
	fmt.Fprintf(t.Out, "%s is now active as version %d\n", cmd.File, applied.Version)
	return nil
}
