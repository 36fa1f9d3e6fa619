package storage

import "time"

// Recording is a copy of the recording of a call, kept beyond Ziwo.
type Recording struct {
	Call          string // its id
	ContactCenter string
	At            time.Time // of the call
	Place         string    // that keeps it
	Name          string    // there
	SHA256        string    // of its content, in hexadecimal
	Bytes         int64
	ContentType   string
	KeptAt        time.Time
}

// OldRecordings asks for the copies of calls before an instant, oldest first.
type OldRecordings struct {
	ContactCenter string // empty: of any
	Before        time.Time
	After         Recording // where to go on: the last one of the step before; zero to begin
	Limit         int
}
