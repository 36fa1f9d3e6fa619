// Package handlers is what the server does when it is asked, by a request or by
// a job: one file for each thing asked. It speaks neither HTTP nor SQL; package
// server maps its errors to statuses, and passes in what it needs.
package handlers

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"calltracker/rules"
)

// Why a request is refused. The messages are for whoever sent it.
var (
	ErrUnauthorized = errors.New("the key is missing or wrong; send it in the X-API-Key header, or as the password of HTTP Basic")
	ErrBlocked      = errors.New("this tracker is blocked")
	ErrEmptyBody    = errors.New("the body is empty; send the call's record")
	ErrNoConfig     = errors.New("no configuration has been applied yet; PUT one to /api/v1/config")
	ErrStale        = errors.New("the configuration has changed since that version; read it again")
)

// UnknownTracker is a start or end call for a tracker that the configuration
// does not have.
type UnknownTracker struct{ ID string }

func (e *UnknownTracker) Error() string {
	return fmt.Sprintf("there is no tracker %q; look at the URL that Ziwo was given", shorten(e.ID))
}

// TooManyWrongKeys refuses an address that guesses.
type TooManyWrongKeys struct{ RetryAfter time.Duration }

func (e *TooManyWrongKeys) Error() string {
	return fmt.Sprintf("too many wrong keys from this address; try again in %d s", int(e.RetryAfter.Seconds())+1)
}

// FieldError is one thing wrong with an input, and where.
type FieldError struct {
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Path    string `json:"path"`
	Message string `json:"message"`
}

// Invalid lists everything that is wrong with an input.
type Invalid struct{ Errors []FieldError }

func (e *Invalid) Error() string {
	messages := make([]string, len(e.Errors))
	for i, f := range e.Errors {
		messages[i] = f.Path + ": " + f.Message
	}
	return strings.Join(messages, "; ")
}

// Paths are the places of the errors, without the messages, which quote what
// was sent.
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

// shorten keeps text from outside short where it is quoted back.
func shorten(s string) string {
	const maxRunes = 80
	if r := []rune(s); len(r) > maxRunes {
		return string(r[:maxRunes]) + "…"
	}
	return s
}

// WrongToken is the error for an admin token that was wrong or missing: those
// who guess are slowed down as they are at the trackers.
func RejectToken(c counter, token, address string) error {
	return rejectKey(c, token, "admin "+address)
}
