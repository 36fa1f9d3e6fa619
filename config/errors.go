// Package handlers is what the server does when it is asked, by a request or by
// a job: one file for each thing asked. It speaks neither HTTP nor SQL; package
// server maps its errors to statuses, and passes in what it needs.
package config

import "errors"

// Errors of the configuration.
var (
	ErrNoConfig = errors.New("no configuration has been applied yet; PUT one to /api/v1/config")
	ErrStale    = errors.New("the configuration has changed since that version; read it again")
)
