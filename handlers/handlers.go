// Package handlers implements the use cases of the server, one file per use
// case. A use case is started by a request or by a job. The package contains no
// HTTP and no SQL: package server maps its errors to HTTP statuses and passes in
// the dependencies.
package handlers

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"calltracker/rules"
)

// Errors that reject a request. Their messages are written for the sender.
var (
	ErrUnauthorized = errors.New("the key is missing or wrong; send it in the X-API-Key header or as the HTTP Basic password")
	ErrBlocked      = errors.New("this tracker is blocked")
	ErrEmptyBody    = errors.New("the body is empty; send the call detail record")
	ErrNoConfig     = errors.New("no configuration is active; apply one with PUT /api/v1/config")
	ErrStale        = errors.New("the configuration has changed since that version; fetch it again")
)

// UnknownTracker reports a start or end call for a tracker that is not in the
// active configuration.
type UnknownTracker struct{ ID string }

func (e *UnknownTracker) Error() string {
	return fmt.Sprintf("unknown tracker %q; check the URL configured in Ziwo", shorten(e.ID))
}

// TooManyWrongKeys reports that an address has sent too many wrong keys.
type TooManyWrongKeys struct{ RetryAfter time.Duration }

func (e *TooManyWrongKeys) Error() string {
	return fmt.Sprintf("too many wrong keys from this address; try again in %d s", int(e.RetryAfter.Seconds())+1)
}

// FieldError describes one problem in an input and its position.
type FieldError struct {
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path"`
	Message string `json:"message"`
}

// Invalid lists every problem in an input.
type Invalid struct{ Errors []FieldError }

func (e *Invalid) Error() string {
	messages := make([]string, len(e.Errors))
	for i, f := range e.Errors {
		messages[i] = f.Path + ": " + f.Message
	}
	return strings.Join(messages, "; ")
}

// Paths returns the paths of the errors without their messages. The messages may
// quote the input.
func (e *Invalid) Paths() []string {
	paths := make([]string, len(e.Errors))
	for i, f := range e.Errors {
		paths[i] = f.Path
	}
	return paths
}

func invalid(path, format string, args ...any) error {
	return &Invalid{Errors: []FieldError{{Path: path, Message: fmt.Sprintf(format, args...)}}}
}

func fieldErrors(problems rules.Problems) []FieldError {
	out := make([]FieldError, len(problems))
	for i, p := range problems {
		out[i] = FieldError{Line: p.Line, Column: p.Column, Path: p.Path, Message: p.Message}
	}
	return out
}

// shorten truncates external text before it is quoted in a message.
func shorten(s string) string {
	const maxRunes = 80
	if r := []rune(s); len(r) > maxRunes {
		return string(r[:maxRunes]) + "…"
	}
	return s
}

// RejectToken returns the error for a wrong or missing admin token. It applies
// the same limit on wrong tokens as trackers apply to wrong keys.
func RejectToken(c counter, token, address string) error {
	return rejectKey(c, token, "admin "+address)
}
