// Package cli has the commands of calltracker that are not the server: check,
// simulate, apply, ziwo, and healthcheck. They print text, or JSON for scripts.
package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/mattn/go-isatty"

	"calltracker/config"
)

// Terminal is the standard input and output of a command.
type Terminal struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// ErrReported is returned by a command that failed and has printed why.
var ErrReported = errors.New("already reported")

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// formatOf returns the format of a document with this file name.
func formatOf(name string) config.Format {
	if strings.EqualFold(filepath.Ext(name), ".json") {
		return config.JSON
	}
	return config.YAML
}

// readDocument reads a file, or standard input if its name is "-".
func (t *Terminal) readDocument(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(t.In, config.MaxDocumentBytes+1))
	}
	return os.ReadFile(name)
}

// resolveLocally resolves references to environment variables. Secrets are stored by
// the server, so each of them is empty here.
func resolveLocally(kind, name string) (string, error) {
	if kind == "secret" {
		return "", nil
	}
	if value, ok := os.LookupEnv(name); ok {
		return value, nil
	}
	return "", fmt.Errorf("%w; set the variable on the server", config.ErrUnresolvedHere)
}

// ReadInput reads a configuration file for a server to apply when it starts.
func ReadInput(file string) (*config.Input, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return &config.Input{
		Document: string(text), Format: formatOf(file), Author: "serve --apply", Comment: filepath.Base(file), IfMatch: "*",
	}, nil
}
