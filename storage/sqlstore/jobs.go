package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"

	"calltracker/storage"
)

const jobColumns = `id, kind, job_key, payload, state, priority, attempts, run_us, lease_us, claim, error, skip_cache, at_us, changed_us`

const insertIntoJobs = `INSERT INTO jobs
	(id, kind, job_key, payload, state, again, skip_cache, priority, attempts, run_us, lease_us, claim, error, at_us, changed_us) `

const jobValues = `VALUES (?, ?, ?, ?, 'waiting', false, false, ?, 0, ?, 0, '', '', ?, ?)`

// unlessJobExists ignores a job that already exists.
const unlessJobExists = ` ON CONFLICT (job_key, kind) DO NOTHING`

// orRestartJob restarts a job that already exists, without resetting its attempts. If
// the job is running, it runs again after it finishes, because the current attempt may
// have read outdated data.
const orRestartJob = ` ON CONFLICT (job_key, kind) DO UPDATE SET
	again = (jobs.state = 'running'),
	skip_cache = (jobs.skip_cache OR excluded.skip_cache),
	state = CASE WHEN jobs.state = 'running' THEN jobs.state ELSE 'waiting' END,
	run_us = CASE WHEN jobs.state = 'running' THEN jobs.run_us ELSE excluded.run_us END,
	error = CASE WHEN jobs.state = 'running' THEN jobs.error ELSE '' END,
	payload = excluded.payload,
	changed_us = excluded.changed_us`

const (
	insertJobSQL      = insertIntoJobs + jobValues + unlessJobExists
	insertJobAgainSQL = insertIntoJobs + jobValues + orRestartJob + `,
	attempts = CASE WHEN jobs.state = 'running' THEN jobs.attempts ELSE 0 END`
)

// claimJobsSQL claims jobs that are due. SQLite has one writer at a time; PostgreSQL
// skips jobs that another worker is claiming. The subquery is materialized so that it
// runs once: within an UPDATE, PostgreSQL may run it again for every row and claim
// more jobs than requested.
func claimJobsSQL(kinds int, skipLocked bool) string {
	skip := ""
	if skipLocked {
		skip = ` FOR UPDATE SKIP LOCKED`
	}
	return `WITH due AS MATERIALIZED (SELECT id FROM jobs WHERE state = 'waiting' AND run_us <= ? AND kind IN (` + placeholders(kinds) + `)
			ORDER BY priority DESC, run_us, id LIMIT ?` + skip + `)
		UPDATE jobs SET state = 'running', attempts = attempts + 1, lease_us = ?, claim = ?, changed_us = ?
		WHERE state = 'waiting' AND id IN (SELECT id FROM due) RETURNING ` + jobColumns
}

// AddJobs adds jobs, all or none. Jobs of a call are added by SaveCall instead.
func (s *Store) AddJobs(ctx context.Context, now time.Time, jobs []storage.NewJob) error {
	return s.do("add jobs", func(db *database) error {
		inserts, err := jobInserts("", now, jobs)
		if err != nil {
			return err
		}
		return db.transaction(ctx, func(tx *sql.Tx) error { return db.insertJobs(ctx, tx, inserts) })
	})
}

// cdrJobs returns the jobs to insert in the transaction that saves a CDR. An exact
// repeat adds none.
func cdrJobs(saved storage.SaveResult, cdr storage.ReceivedCDR) ([]jobInsert, error) {
	if len(cdr.Jobs) == 0 || !saved.Created && !saved.Revised {
		return nil, nil
	}
	now := cdr.Call.ReceivedAt
	if now.IsZero() {
		now = time.Now()
	}
	return jobInserts(saved.ID, now, cdr.Jobs)
}

func (db *database) insertJobs(ctx context.Context, tx runner, jobs []jobInsert) error {
	for _, j := range jobs {
		if _, err := tx.ExecContext(ctx, db.dialect.sql(j.statement), j.values...); err != nil {
			return fmt.Errorf("insert job: %w", err)
		}
	}
	return nil
}

// jobInsert is a statement that inserts a job, with its values.
type jobInsert struct {
	statement string
	values    []any
}

// jobInserts returns the statements that insert jobs. call is the ID of the call to
// which they belong, or empty.
func jobInserts(call string, now time.Time, jobs []storage.NewJob) ([]jobInsert, error) {
	inserts := make([]jobInsert, 0, len(jobs))
	for _, j := range jobs {
		key := indexText(j.Key)
		if key == "" {
			key = call
		}
		if j.Kind == "" || key == "" {
			return nil, errors.New("job without a kind or a key")
		}
		due := j.RunAt
		if due.IsZero() {
			due = now
		}
		statement := insertJobSQL
		if j.Again {
			statement = insertJobAgainSQL
		}
		inserts = append(inserts, jobInsert{statement, []any{
			storage.NewID(), indexText(j.Kind), key, notNil(j.Payload), j.Priority, micros(due), micros(now), micros(now),
		}})
	}
	return inserts, nil
}

// notNil returns a value for a column that must not be NULL.
func notNil(value []byte) []byte {
	if value == nil {
		return []byte{}
	}
	return value
}

// ClaimJobs claims jobs that are due: those of the highest priority first, then those
// that have been due the longest. No other worker can claim them until the lease ends.
func (s *Store) ClaimJobs(ctx context.Context, c storage.JobClaim) (jobs []storage.Job, err error) {
	if len(c.Kinds) == 0 || c.Limit <= 0 {
		return nil, nil
	}
	values := []any{micros(c.Now)}
	for _, kind := range c.Kinds {
		values = append(values, indexText(kind))
	}
	values = append(values, c.Limit, micros(c.Until), storage.NewID(), micros(c.Now))
	err = s.do("claim jobs", func(db *database) error {
		if due, err := db.anyDue(ctx, values[:1+len(c.Kinds)]); err != nil || !due {
			return err
		}
		return db.transaction(ctx, func(tx *sql.Tx) error {
			rows, err := tx.QueryContext(ctx, db.dialect.sql(claimJobsSQL(len(c.Kinds), db.dialect.shared)), values...)
			if err != nil {
				return err
			}
			jobs, err = scanJobs(rows)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(jobs, func(a, b storage.Job) int { // databases return them in any order
		return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.RunAt.Compare(b.RunAt), cmp.Compare(a.ID, b.ID))
	})
	return jobs, nil
}

// anyDue reports whether any job is due. values are a time and the kinds. Usually none is,
// so ClaimJobs does not have to wait for the write lock.
func (db *database) anyDue(ctx context.Context, values []any) (bool, error) {
	var one int
	err := db.read.QueryRowContext(ctx, db.dialect.sql(`SELECT 1 FROM jobs WHERE state = 'waiting' AND run_us <= ?
		AND kind IN (`+placeholders(len(values)-1)+`) LIMIT 1`), values...).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, err
}

func scanJobs(rows *sql.Rows) (jobs []storage.Job, err error) {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var (
			j                               storage.Job
			runAt, leaseEnds, at, changedAt int64
		)
		if err := rows.Scan(&j.ID, &j.Kind, &j.Key, &j.Payload, &j.State, &j.Priority, &j.Attempts,
			&runAt, &leaseEnds, &j.Claim, &j.Error, &j.SkipCache, &at, &changedAt); err != nil {
			return nil, err
		}
		j.RunAt, j.LeaseEnds, j.At, j.ChangedAt = instant(runAt), instant(leaseEnds), instant(at), instant(changedAt)
		jobs = append(jobs, j)
	}
	return jobs, rows.Err()
}

// SettleJobs stores the outcomes of claimed jobs, with the results of lookups, in one
// transaction. It ignores jobs whose claim is no longer valid because the lease has
// ended, and returns their IDs; another worker has them or will get them. If a job was
// requested again while it was running, it waits for another run regardless of the
// outcome, and its result is ignored.
func (s *Store) SettleJobs(ctx context.Context, settlements []storage.JobSettlement) (lost []string, err error) {
	err = s.do("settle jobs", func(db *database) error {
		return db.transaction(ctx, func(tx *sql.Tx) error {
			lost = nil
			var lookups []storage.JobSettlement
			for _, settled := range settlements {
				state, err := db.settleJob(ctx, tx, settled)
				switch {
				case errors.Is(err, sql.ErrNoRows):
					lost = append(lost, settled.Job.ID)
				case err != nil:
					return fmt.Errorf("job %s: %w", settled.Job.ID, err)
				case settled.Outcome.Lookup != nil && state == settled.Outcome.State:
					lookups = append(lookups, settled)
				}
			}
			return db.saveLookups(ctx, tx, lookups)
		})
	})
	return lost, err
}

const settleJobSQL = `UPDATE jobs SET
	state = CASE WHEN again THEN 'waiting' ELSE ? END,
	attempts = CASE WHEN again THEN 0 ELSE attempts - ? END,
	payload = CASE WHEN again THEN payload ELSE ? END,
	skip_cache = (skip_cache AND (again OR ?)),
	again = false, run_us = ?, error = ?, changed_us = ?, lease_us = 0, claim = ''
	WHERE id = ? AND state = 'running' AND claim = ? RETURNING state`

// settleJob stores the outcome of one job and returns its state. It returns
// sql.ErrNoRows if the claim is no longer valid.
func (db *database) settleJob(ctx context.Context, tx *sql.Tx, settled storage.JobSettlement) (state storage.JobState, err error) {
	j, with := settled.Job, settled.Outcome
	uncounted := 0
	if with.Uncounted {
		uncounted = 1
	}
	next := j.Payload
	if with.Payload != nil {
		next = with.Payload
	}
	due := with.RunAt
	if due.IsZero() {
		due = with.Now
	}
	err = tx.QueryRowContext(ctx, db.dialect.sql(settleJobSQL), string(with.State), uncounted, notNil(next), with.State == storage.JobWaiting,
		micros(due), cleanText(with.Error), micros(with.Now), cleanText(j.ID), cleanText(j.Claim)).Scan(&state)
	return state, err
}

// ReapJobs returns jobs whose lease has ended, because their worker is lost, to the
// waiting state. The interrupted attempt counts. ReapJobs returns the number of jobs.
func (s *Store) ReapJobs(ctx context.Context, now time.Time) (n int, err error) {
	err = s.do("reap jobs", func(db *database) error {
		var one int
		err := db.read.QueryRowContext(ctx, db.dialect.sql(`SELECT 1 FROM jobs WHERE state = 'running' AND lease_us <= ? LIMIT 1`), micros(now)).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return db.transaction(ctx, func(tx *sql.Tx) (err error) {
			n, err = rowCount(tx.ExecContext(ctx, db.dialect.sql(`UPDATE jobs SET state = 'waiting', again = false, lease_us = 0, claim = '',
				run_us = ?, error = 'lease ended before the job finished', changed_us = ? WHERE state = 'running' AND lease_us <= ?`), micros(now), micros(now), micros(now)))
			return err
		})
	})
	return n, err
}

// PruneJobs deletes jobs that were done before a given time, at most limit. It returns
// how many it deleted.
func (s *Store) PruneJobs(ctx context.Context, before time.Time, limit int) (n int, err error) {
	err = s.do("prune jobs", func(db *database) error {
		return db.transaction(ctx, func(tx *sql.Tx) (err error) {
			n, err = rowCount(tx.ExecContext(ctx, db.dialect.sql(`DELETE FROM jobs WHERE state = 'done' AND id IN
				(SELECT id FROM jobs WHERE state = 'done' AND changed_us < ? ORDER BY changed_us LIMIT ?)`), micros(before), limit))
			return err
		})
	})
	return n, err
}

// Jobs returns a page of jobs, newest first, and the cursor of the next page, which is
// empty on the last page. It returns storage.ErrBadCursor for an invalid cursor.
func (s *Store) Jobs(ctx context.Context, f storage.JobFilter, p storage.Page) (jobs []storage.Job, next string, err error) {
	err = s.do("list jobs", func(db *database) error {
		after, err := decodeCursor(jobList, p.Cursor)
		if err != nil {
			return err
		}
		size := pageSize(p.Limit)
		rows, err := newestFirst(narrowJobs(db.readGorm.WithContext(ctx), f), after, size+1).Rows()
		if err != nil {
			return err
		}
		if jobs, err = scanJobs(rows); err != nil {
			return err
		}
		jobs, next = trimPage(jobList, jobs, size, func(j storage.Job) cursor { return cursor{at: micros(j.At), id: j.ID} })
		return nil
	})
	return jobs, next, err
}

// narrowJobs selects the jobs that a filter matches.
func narrowJobs(q *gorm.DB, f storage.JobFilter) *gorm.DB {
	q = q.Table("jobs").Select(jobColumns)
	if f.State != "" {
		q = q.Where("state = ?", cleanText(string(f.State)))
	}
	if f.Kind != "" {
		q = q.Where("kind = ?", indexText(f.Kind))
	}
	return q
}

// RetryJob makes a job due now, resets its attempts, and keeps it from using cached
// results. It returns storage.ErrNotFound for an unknown job, and storage.ErrConflict if
// the job is running.
func (s *Store) RetryJob(ctx context.Context, id string, now time.Time) (job storage.Job, err error) {
	err = s.do("retry job "+id, func(db *database) error {
		return db.transaction(ctx, func(tx *sql.Tx) error {
			retried, err := rowsChanged(tx.ExecContext(ctx, db.dialect.sql(`UPDATE jobs SET state = 'waiting', attempts = 0, skip_cache = true, run_us = ?, changed_us = ?
				WHERE id = ? AND state <> 'running'`), micros(now), micros(now), cleanText(id)))
			if err != nil {
				return err
			}
			rows, err := tx.QueryContext(ctx, db.dialect.sql(`SELECT `+jobColumns+` FROM jobs WHERE id = ?`), cleanText(id))
			if err != nil {
				return err
			}
			jobs, err := scanJobs(rows)
			switch {
			case err != nil:
				return err
			case len(jobs) == 0:
				return storage.ErrNotFound
			case !retried:
				return fmt.Errorf("%w: the job is running", storage.ErrConflict)
			}
			job = jobs[0]
			return nil
		})
	})
	return job, err
}

// CountJobs counts jobs by kind and state, except those that are done.
func (s *Store) CountJobs(ctx context.Context) (counts []storage.JobCount, err error) {
	err = s.do("count jobs", func(db *database) error {
		for _, state := range []storage.JobState{storage.JobWaiting, storage.JobRunning, storage.JobDead} {
			rows, err := db.read.QueryContext(ctx, db.dialect.sql(`SELECT kind, state, COUNT(*), MIN(run_us) FROM jobs WHERE state = ?
				GROUP BY kind, state ORDER BY kind`), string(state))
			if err != nil {
				return err
			}
			if counts, err = appendCounts(counts, rows); err != nil {
				return err
			}
		}
		return nil
	})
	return counts, err
}

func appendCounts(counts []storage.JobCount, rows *sql.Rows) ([]storage.JobCount, error) {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var (
			c      storage.JobCount
			oldest int64
		)
		if err := rows.Scan(&c.Kind, &c.State, &c.Count, &oldest); err != nil {
			return nil, err
		}
		c.Oldest = instant(oldest)
		counts = append(counts, c)
	}
	return counts, rows.Err()
}
