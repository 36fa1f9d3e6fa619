package config

import "errors"

// Errors of a Controller.
var (
	ErrNoConfig = errors.New("no configuration has been applied yet; PUT one to /api/v1/config")
	ErrStale    = errors.New("the configuration has changed since that version; read it again")
)
