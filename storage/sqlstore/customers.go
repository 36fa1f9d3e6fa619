package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"calltracker/storage"
)

// lookupRow is a row of call_lookups.
type lookupRow struct {
	OfCall   string `gorm:"column:of_call;primaryKey"`
	State    string `gorm:"column:state"`
	Attempts int    `gorm:"column:attempts"`
	Error    string `gorm:"column:error"`
}

func (lookupRow) TableName() string { return "call_lookups" }

// customerRow is a row of call_customers.
type customerRow struct {
	OfCall     string `gorm:"column:of_call;primaryKey"`
	Number     int    `gorm:"column:number;primaryKey"`
	Connection string `gorm:"column:connection"`
	CustomerID string `gorm:"column:customer_id"`
	Name       string `gorm:"column:name"`
	URL        string `gorm:"column:url"`
	MatchedBy  string `gorm:"column:matched_by"`
}

func (customerRow) TableName() string { return "call_customers" }

// customerNumber is the phone number of the customer in a call.
const customerNumber = `CASE WHEN c.direction = 'outbound' THEN c.did ELSE c.caller END`

// unqueued selects the calls from an ID on that have a customer's public number and
// no lookup yet. IDs start with the time of saving, so calls that arrived late are
// included.
const unqueued = ` FROM calls c WHERE c.id >= ? AND ` + customerNumber + ` LIKE '+%'
	AND NOT EXISTS (SELECT 1 FROM call_lookups l WHERE l.of_call = c.id)
	AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.job_key = c.id AND j.kind = '` + storage.EnrichmentJob + `')`

// lookupJob is the lookup of a call as a new row of jobs. The call has the alias c.
const lookupJob = `SELECT c.id, '` + storage.EnrichmentJob + `', c.id, '', 'waiting', false, CAST(? AS BOOLEAN), 0, 0, CAST(? AS BIGINT), 0, '', '',
	CAST(? AS BIGINT), CAST(? AS BIGINT)`

// maxQueued limits the lookups that one call of QueueLookups adds.
const maxQueued = 1000

// QueueLookups adds a lookup, due now, for each call that was saved after since, has
// a customer's public number, and has no lookup. It adds at most 1,000 and returns how
// many it added.
func (s *Store) QueueLookups(ctx context.Context, since, now time.Time) (queued int, err error) {
	first := firstID(since)
	err = s.do("queue lookups", func(db *database) error {
		var one int
		err := db.read.QueryRowContext(ctx, db.dialect.sql(`SELECT 1`+unqueued+` LIMIT 1`), first).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return db.transaction(ctx, func(tx *sql.Tx) (err error) {
			queued, err = rowCount(tx.ExecContext(ctx, db.dialect.sql(insertIntoJobs+lookupJob+unqueued+` ORDER BY c.id LIMIT ?`+unlessJobExists),
				false, micros(now), micros(now), micros(now), first, maxQueued))
			return err
		})
	})
	return queued, err
}

// firstID returns a lower bound for all IDs made at a given time or later.
func firstID(at time.Time) string {
	ms := at.UnixMilli()
	return fmt.Sprintf("%08x-%04x-0000-0000-000000000000", ms>>16, ms&0xffff)
}

// LookupNumber returns the customer's number in a call, in E.164. It is empty if the
// call has no public number. LookupNumber returns storage.ErrNotFound for an unknown
// call.
func (s *Store) LookupNumber(ctx context.Context, call string) (number string, err error) {
	err = s.do("load number of call "+call, func(db *database) error {
		err := db.read.QueryRowContext(ctx, db.dialect.sql(`SELECT `+customerNumber+` FROM calls c WHERE c.id = ?`), cleanText(call)).Scan(&number)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return storage.ErrNotFound
		case err == nil && !strings.HasPrefix(number, "+"):
			number = ""
		}
		return err
	})
	return number, err
}

// RequestLookup makes the lookup of a call due now, even if the call was looked up
// before, and returns its state. The lookup does not use cached results. The state is
// zero if the call has no customer's public number. RequestLookup returns
// storage.ErrNotFound for an unknown call.
func (s *Store) RequestLookup(ctx context.Context, id string, now time.Time) (e storage.Enrichment, err error) {
	number, err := s.LookupNumber(ctx, id)
	if err != nil || number == "" {
		return e, err
	}
	err = s.do("request lookup of call "+id, func(db *database) error {
		return db.transaction(ctx, func(tx *sql.Tx) error {
			var j storage.Job
			err := tx.QueryRowContext(ctx, db.dialect.sql(insertIntoJobs+lookupJob+` FROM calls c WHERE c.id = ?`+orRestartJob+` RETURNING state, attempts, error`),
				true, micros(now), micros(now), micros(now), cleanText(id)).Scan(&j.State, &j.Attempts, &j.Error)
			e = enrichmentOf(j)
			return err
		})
	})
	return e, err
}

// enrichmentOf returns the state of a lookup that is not done.
func enrichmentOf(j storage.Job) storage.Enrichment {
	e := storage.Enrichment{State: storage.EnrichmentPending, Attempts: j.Attempts, Error: j.Error}
	switch j.State {
	case storage.JobRunning:
		e.Attempts--
	case storage.JobDead:
		e.State = storage.EnrichmentFailed
	}
	return e
}

// saveLookups stores the results of settled lookups: the customers, and the state of
// lookups that are done. The state of the others follows from their jobs.
func (db *database) saveLookups(ctx context.Context, tx *sql.Tx, settled []storage.JobSettlement) error {
	if len(settled) == 0 {
		return nil
	}
	var (
		calls, states, customers []any
	)
	for _, l := range settled {
		call, result := cleanText(l.Job.Key), l.Outcome.Lookup
		calls = append(calls, call)
		if l.Outcome.State == storage.JobDone {
			state := storage.EnrichmentNone
			if len(result.Customers) > 0 {
				state = storage.EnrichmentFound
			}
			states = append(states, call, string(state), l.Job.Attempts, cleanText(result.Error))
		}
		for n, c := range result.Customers {
			customers = append(customers, call, n+1, cleanText(c.Connection), indexText(c.ID), cleanText(c.Name), cleanText(c.URL), cleanText(c.MatchedBy))
		}
	}
	exec := func(before string, columns int, after string, values []any) error {
		if len(values) == 0 {
			return nil
		}
		row := `(` + placeholders(columns) + `)`
		_, err := tx.ExecContext(ctx, db.dialect.sql(before+row+strings.Repeat(`, `+row, len(values)/columns-1)+after), values...)
		return err
	}
	if err := exec(`DELETE FROM call_customers WHERE of_call IN `, len(calls), ``, calls); err != nil {
		return err
	}
	if err := exec(`INSERT INTO call_lookups (of_call, state, attempts, error) VALUES `, 4,
		` ON CONFLICT (of_call) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, error = excluded.error`, states); err != nil {
		return err
	}
	return exec(`INSERT INTO call_customers (of_call, number, connection, customer_id, name, url, matched_by) VALUES `, 7, ``, customers)
}

// addCustomers sets the customers and the lookup state of calls. The state of a lookup
// that is not done follows from its job.
func (db *database) addCustomers(ctx context.Context, calls []storage.Call) error {
	if len(calls) == 0 {
		return nil
	}
	ids, byID := make([]string, len(calls)), make(map[string]*storage.Call, len(calls))
	for i := range calls {
		ids[i] = calls[i].ID
		byID[calls[i].ID] = &calls[i]
	}
	var lookups []lookupRow
	if err := db.readGorm.WithContext(ctx).Where("of_call IN ?", ids).Find(&lookups).Error; err != nil {
		return err
	}
	for _, r := range lookups {
		byID[r.OfCall].Enrichment = storage.Enrichment{State: storage.EnrichmentState(r.State), Attempts: r.Attempts, Error: r.Error}
	}
	rows, err := db.readGorm.WithContext(ctx).Table("jobs").Select(jobColumns).
		Where("job_key IN ? AND kind = ? AND state <> ?", ids, storage.EnrichmentJob, string(storage.JobDone)).Rows()
	if err != nil {
		return err
	}
	jobs, err := scanJobs(rows)
	if err != nil || len(lookups)+len(jobs) == 0 {
		return err
	}
	for _, j := range jobs {
		byID[j.Key].Enrichment = enrichmentOf(j)
	}
	var customers []customerRow
	if err := db.readGorm.WithContext(ctx).Where("of_call IN ?", ids).Order("of_call, number").Find(&customers).Error; err != nil {
		return err
	}
	for _, r := range customers {
		byID[r.OfCall].Customers = append(byID[r.OfCall].Customers, storage.Customer{
			Connection: r.Connection, ID: r.CustomerID, Name: r.Name, URL: r.URL, MatchedBy: r.MatchedBy,
		})
	}
	return nil
}
