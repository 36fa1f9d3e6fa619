package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"calltracker/storage"
)

// lookupColumns are the columns that make a lookup a job. The ID of the job is the ID
// of the call, which also has the time of creation.
const lookupColumns = `of_call, state, attempts, due_us, error, changed_us`

// undone is the condition of the partial index of the lookups that are not done.
// SQLite uses that index only if the query contains the same condition literally.
const undone = `state IN ('pending', 'failed')`

// lookupsThatAre returns the condition for the lookups in a job state, or "" if no
// lookup can be in that state. A running lookup cannot be distinguished from a waiting
// one and counts as waiting.
func lookupsThatAre(s storage.JobState) string {
	switch s {
	case "":
		return "true"
	case storage.JobWaiting:
		return undone + " AND state = 'pending'"
	case storage.JobDone:
		return "state IN ('found', 'none')"
	case storage.JobDead:
		return undone + " AND state = 'failed'"
	default:
		return ""
	}
}

// lookupJobs returns lookups as jobs, newest first, after a cursor.
func (db *database) lookupJobs(ctx context.Context, f storage.JobFilter, after *cursor, limit int) ([]storage.Job, error) {
	if lookupsThatAre(f.State) == "" || f.Kind != "" && f.Kind != storage.EnrichmentJob {
		return nil, nil
	}
	var values []any
	if after != nil {
		values = append(values, after.firstCall())
	}
	rows, err := db.read.QueryContext(ctx, db.dialect.sql(lookupJobsSQL(f.State, after != nil)), append(values, limit)...)
	if err != nil {
		return nil, err
	}
	return scanLookupJobs(rows)
}

func lookupJobsSQL(state storage.JobState, after bool) string {
	place := ""
	if after {
		place = ` AND of_call < ?`
	}
	return `SELECT ` + lookupColumns + ` FROM call_lookups WHERE ` + lookupsThatAre(state) + place + ` ORDER BY of_call DESC LIMIT ?`
}

// firstCall converts a cursor of the job list to a call ID. Lookups with a lower ID
// come after the cursor.
func (c cursor) firstCall() string {
	at := instant(c.at)
	if c.at%1000 != 0 {
		return firstID(at.Add(time.Millisecond))
	}
	return min(max(c.id, firstID(at)), firstID(at.Add(time.Millisecond)))
}

func scanLookupJobs(rows *sql.Rows) (jobs []storage.Job, err error) {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var (
			j              = storage.Job{Kind: storage.EnrichmentJob}
			state          storage.EnrichmentState
			due, changedUs int64
		)
		if err := rows.Scan(&j.ID, &state, &j.Attempts, &due, &j.Error, &changedUs); err != nil {
			return nil, err
		}
		j.Key, j.At = j.ID, madeAt(j.ID)
		j.ChangedAt, j.RunAt = j.At, j.At
		if changedUs != 0 {
			j.ChangedAt = instant(changedUs)
		}
		if due != 0 {
			j.RunAt = instant(due)
		}
		switch state {
		case storage.EnrichmentPending:
			j.State = storage.JobWaiting
		case storage.EnrichmentFailed:
			j.State = storage.JobDead
		default:
			j.State = storage.JobDone
		}
		jobs = append(jobs, j)
	}
	return jobs, rows.Err()
}

// madeAt returns the time in an ID, in milliseconds.
func madeAt(id string) time.Time {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return time.Time{}.UTC()
	}
	seconds, nanoseconds := parsed.Time().UnixTime()
	return time.Unix(seconds, nanoseconds).UTC().Truncate(time.Millisecond)
}

// inOrderOfJobs merges two lists of jobs, newest first.
func inOrderOfJobs(a, b []storage.Job) []storage.Job {
	all := slices.Concat(a, b)
	slices.SortFunc(all, func(a, b storage.Job) int {
		return cmp.Or(b.At.Compare(a.At), strings.Compare(b.ID, a.ID))
	})
	return all
}

// retryLookup makes a lookup due now, as if it were new. It returns no job if there is
// no such lookup.
func (db *database) retryLookup(ctx context.Context, tx *sql.Tx, id string, now time.Time) ([]storage.Job, error) {
	rows, err := tx.QueryContext(ctx, db.dialect.sql(`UPDATE call_lookups SET state = 'pending', attempts = 0, error = '', anew = 1, due_us = ?, changed_us = ?
		WHERE of_call = ? RETURNING `+lookupColumns), micros(now), micros(now), cleanText(id))
	if err != nil {
		return nil, err
	}
	return scanLookupJobs(rows)
}

// countLookups counts the lookups that are not done.
func (db *database) countLookups(ctx context.Context) (counts []storage.JobCount, err error) {
	for _, state := range []storage.JobState{storage.JobWaiting, storage.JobDead} {
		c := storage.JobCount{Kind: storage.EnrichmentJob, State: state}
		var oldest int64
		if err := db.read.QueryRowContext(ctx, `SELECT COUNT(*), COALESCE(MIN(due_us), 0) FROM call_lookups WHERE `+lookupsThatAre(state)).
			Scan(&c.Count, &oldest); err != nil {
			return nil, err
		}
		if c.Oldest = instant(oldest); c.Count > 0 {
			counts = append(counts, c)
		}
	}
	return counts, nil
}
