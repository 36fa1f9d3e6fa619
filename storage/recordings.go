package storage

import "time"

// Recording is a copy of a call's recording, stored outside Ziwo.
type Recording struct {
	Call          string // call ID
	ContactCenter string
	At            time.Time // time of the call (Call.At)
	Place         string    // folder or bucket that holds the copy
	Name          string    // name of the copy within Place
	SHA256        string    // hexadecimal digest of the content
	Bytes         int64
	ContentType   string
	CopiedAt      time.Time
}

// RecordingFilter selects the recording copies of calls older than Before, oldest
// first.
type RecordingFilter struct {
	ContactCenter string // empty: every contact center
	Before        time.Time
	After         Recording // last recording of the previous step; zero to start
	Limit         int
}
