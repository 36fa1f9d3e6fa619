package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"calltracker/config"
	"calltracker/server/httpapi"
)

// tokenVariable holds the admin token for commands that talk to a server.
const TokenVariable = "CALLTRACKER_ADMIN_TOKEN"

// applyTimeout bounds how long a server may take to apply a document.
const applyTimeout = 60 * time.Second

type ApplyCommand struct {
	File    string `arg:"" help:"Configuration; - is standard input."`
	Server  string `env:"CALLTRACKER_PUBLIC_URL" default:"http://localhost:8080" help:"Address of the running server."`
	Token   string `env:"CALLTRACKER_ADMIN_TOKEN" help:"Admin token; read from the data directory when empty."`
	DataDir string `name:"data-dir" env:"CALLTRACKER_DATA_DIR" default:"data" help:"Where the generated admin token is."`
	Comment string `help:"Why, for the history."`
	Author  string `env:"USER" help:"Who, for the history."`
	IfMatch string `name:"if-match" default:"*" help:"Version that must be in force now; * for any."`
	DryRun  bool   `name:"dry-run" help:"Only check it against the server."`
}

// Run sends the document and prints what the server says of it.
func (cmd *ApplyCommand) Run(ctx context.Context, c *Terminal) error {
	text, err := c.readDocument(cmd.File)
	if err != nil {
		return err
	}
	token, err := adminToken(cmd.Token, cmd.DataDir)
	if err != nil {
		return err
	}
	target, err := url.Parse(strings.TrimSuffix(cmd.Server, "/") + "/api/v1/config")
	if err != nil {
		return fmt.Errorf("--server: %w", err)
	}
	parameters := url.Values{"comment": {cmd.Comment}, "author": {cmd.Author}}
	if cmd.DryRun {
		parameters.Set("dry_run", "true")
	}
	target.RawQuery = parameters.Encode()
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, target.String(), bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/"+string(FormatOf(cmd.File)))
	req.Header.Set("If-Match", cmd.IfMatch)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, httpapi.MaxAdminBody))
	if err != nil {
		return err
	}
	return cmd.report(c, res, body)
}

func (cmd *ApplyCommand) report(c *Terminal, res *http.Response, body []byte) error {
	if res.StatusCode != http.StatusOK {
		var problem httpapi.Problem
		if err := json.Unmarshal(body, &problem); err != nil {
			return fmt.Errorf("the server answered %s", res.Status)
		}
		PrintFieldErrors(c.Err, cmd.File, problem.Errors)
		return fmt.Errorf("not applied: %s (%d %s)", problem.Detail, problem.Status, problem.Title)
	}
	var applied config.ApplyResult
	if err := json.Unmarshal(body, &applied); err != nil {
		return fmt.Errorf("the server answered something that is not understood: %w", err)
	}
	for _, w := range applied.Warnings {
		fmt.Fprintf(c.Out, "%s:%d:%d: warning: %s: %s\n", cmd.File, w.Line, w.Column, w.Path, w.Message)
	}
	if applied.DryRun {
		fmt.Fprintf(c.Out, "%s can be applied; version %d is still in force\n", cmd.File, applied.Version)
		return nil
	}
	fmt.Fprintf(c.Out, "%s is in force as version %d\n", cmd.File, applied.Version)
	return nil
}
