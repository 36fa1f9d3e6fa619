package storage

import "time"

// JobState is the state of a job. The zero value is invalid.
type JobState string

// The states of a job.
const (
	JobWaiting JobState = "waiting" // runs once RunAt has passed
	JobRunning JobState = "running" // claimed by a worker
	JobDone    JobState = "done"
	JobDead    JobState = "dead" // failed permanently; runs again only after a manual retry
)

// JobStates lists every JobState.
func JobStates() []JobState { return []JobState{JobWaiting, JobRunning, JobDone, JobDead} }

// NewJob requests work that outlives the request. A job is unique by kind and
// key. Adding a job that already exists changes nothing, unless Again is set.
type NewJob struct {
	Kind     string
	Key      string    // in a ReceivedCDR: empty for the ID of the call
	Payload  []byte    // input of the job; may be empty
	RunAt    time.Time // zero: immediately
	Priority int       // higher runs first
	Again    bool      // restart a job that is done or dead; run a running job again after it finishes
}

// Job is a unit of work that runs at least once, even if a process stops in the
// middle.
type Job struct {
	ID        string // UUIDv7
	Kind      string
	Key       string
	Payload   []byte
	State     JobState
	Priority  int
	Attempts  int       // attempts started, including the current one
	RunAt     time.Time // earliest start
	LeaseEnds time.Time // while running: when the worker is presumed dead
	Claim     string    // token of the worker that runs the job
	Error     string    // error of the last attempt
	SkipCache bool      // the job must not use cached results, because it was requested again
	At        time.Time // creation time
	ChangedAt time.Time
}

// JobClaim selects jobs to claim.
type JobClaim struct {
	Kinds []string  // any of these kinds
	Now   time.Time // claim jobs that are due by this time
	Until time.Time // end of the lease; the worker must finish before it
	Limit int
}

// JobOutcome is the outcome of a claimed job.
type JobOutcome struct {
	State     JobState  // done, dead, or waiting for another attempt
	RunAt     time.Time // start of the next attempt
	Payload   []byte    // payload of the next attempt; nil leaves it unchanged
	Uncounted bool      // do not count this attempt
	Error     string
	Lookup    *LookupResult // stored together with the outcome; nil: nothing
	Now       time.Time
}

// JobSettlement is a claimed job with its outcome.
type JobSettlement struct {
	Job     Job
	Outcome JobOutcome
}

// JobFilter narrows a list of jobs. Zero fields match everything.
type JobFilter struct {
	State JobState
	Kind  string
}

// JobCount is the number of jobs of one kind in one state.
type JobCount struct {
	Kind   string
	State  JobState
	Count  int
	Oldest time.Time // earliest RunAt among them
}

// Flags that retention sets on calls.
const (
	BodiesRemoved   = "bodies_removed"
	PersonalRemoved = "personal_removed"
)

// RetentionStep is one step of retention. It removes data from calls and
// decisions that are older than a given time. A zero time removes nothing.
type RetentionStep struct {
	BodiesBefore   time.Time // remove the CDR bodies of older calls
	PersonalBefore time.Time // remove caller details and CDR bodies of older calls
	Cursor         string    // NextCursor of the previous step; empty to start
	Limit          int       // maximum number of calls or decisions to examine
}

// RetentionResult is the result of a RetentionStep.
type RetentionResult struct {
	Calls      int    // calls changed
	Decisions  int    // decisions changed
	NextCursor string // empty after the last step
}
