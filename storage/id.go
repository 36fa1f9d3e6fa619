package storage

import "github.com/google/uuid"

// NewID returns a UUIDv7, which sorts by the time when it was made.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }
