package storage

import "time"

// JobState is where a job is in its life. The zero value is invalid.
type JobState string

// The states of a job.
const (
	JobWaiting JobState = "waiting" // to be run, now or later
	JobRunning JobState = "running" // a worker has it
	JobDone    JobState = "done"
	JobDead    JobState = "dead" // it failed for good, until somebody retries it
)

// JobStates lists every JobState.
func JobStates() []JobState { return []JobState{JobWaiting, JobRunning, JobDone, JobDead} }

// NewJob asks for work that outlives the request. A job is unique by its kind
// and key: asking again for one that is there changes nothing, unless Again.
type NewJob struct {
	Kind     string
	Key      string    // in a Report: empty for the id of the call
	Payload  []byte    // for the kind; may be empty
	RunAt    time.Time // zero: at once
	Priority int       // higher first
	Again    bool      // a job that is done or dead starts afresh, one that runs does so when it is done
}

// Job is work that is done at least once, whatever stops meanwhile.
type Job struct {
	ID        string // UUIDv7
	Kind      string
	Key       string
	Payload   []byte
	State     JobState
	Priority  int
	Attempts  int       // tries begun, this one included
	RunAt     time.Time // not before
	LeaseEnds time.Time // while it runs: when its worker is taken to be gone
	Claim     string    // of the worker that runs it
	Error     string    // why the last try failed
	At        time.Time // when it was made
	ChangedAt time.Time
}

// JobClaim asks for jobs to run.
type JobClaim struct {
	Kinds []string  // of any of these
	Now   time.Time // due by then
	Until time.Time // the lease: the worker must be done by then
	Limit int
}

// Settlement is what became of a job that ran.
type Settlement struct {
	State     JobState  // done, dead, or waiting for another try
	RunAt     time.Time // of the next try
	Payload   []byte    // for the next try; nil keeps the one that is there
	Uncounted bool      // the try does not count
	Error     string
	Now       time.Time
}

// JobFilter narrows a list of jobs. Zero fields do not narrow.
type JobFilter struct {
	State JobState
	Kind  string
}

// JobCount is how many jobs of a kind are in a state.
type JobCount struct {
	Kind   string
	State  JobState
	Count  int
	Oldest time.Time // the earliest time at which one of them was due
}

// Flags of calls that retention has taken something from.
const (
	BodiesRemoved   = "bodies_removed"
	PersonalRemoved = "personal_removed"
)

// Forget says what retention takes away, from calls and decisions before an
// instant; a zero instant takes nothing.
type Forget struct {
	Raw      time.Time // bodies of calls
	Personal time.Time // who called, as well as the bodies
	After    string    // where to go on: Next of the step before; empty to begin
	Limit    int       // how many calls or decisions to look at
}

// Forgotten is what a step of retention did.
type Forgotten struct {
	Calls     int
	Decisions int
	Next      string // empty when everything was looked at
}
