package sqlstore

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"calltracker/storage"
)

// lookupRow is a row of call_lookups.
type lookupRow struct {
	OfCall    string `gorm:"column:of_call;primaryKey"`
	Number    string `gorm:"column:number"`
	State     string `gorm:"column:state"`
	Attempts  int    `gorm:"column:attempts"`
	Error     string `gorm:"column:error"`
	SkipCache int64  `gorm:"column:anew"`
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
	AND NOT EXISTS (SELECT 1 FROM call_lookups l WHERE l.of_call = c.id)`

// maxQueued limits the lookups that one call of QueueLookups adds.
const maxQueued = 1000

// QueueLookups adds a lookup, due now, for each call that was saved after since, has
// a customer's public number, and has no lookup. It adds at most 1,000 and returns how
// many it added.
func (s *Store) QueueLookups(ctx context.Context, since, now time.Time) (queued int, err error) {
	first := firstID(since)
	err = s.do("queue lookups", func(db *database) error {
		var some []int
		if err := db.readGorm.WithContext(ctx).Raw(`SELECT 1`+unqueued+` LIMIT 1`, first).Scan(&some).Error; err != nil || len(some) == 0 {
			return err
		}
		done := db.writeGorm.WithContext(ctx).Exec(`INSERT INTO call_lookups (of_call, number, at_us, state, attempts, error, anew, due_us, changed_us)
			SELECT c.id, `+customerNumber+`, c.at_us, 'pending', 0, '', 0, CAST(? AS BIGINT), CAST(? AS BIGINT)`+unqueued+`
			ORDER BY c.id LIMIT ? ON CONFLICT (of_call) DO NOTHING`, micros(now), micros(now), first, maxQueued)
		queued = int(done.RowsAffected)
		return done.Error
	})
	return queued, err
}

// firstID returns a lower bound for all IDs made at a given time or later.
func firstID(at time.Time) string {
	ms := at.UnixMilli()
	return fmt.Sprintf("%08x-%04x-0000-0000-000000000000", ms>>16, ms&0xffff)
}

// claimLookupsSQL claims lookups in the same way as claimJobsSQL claims jobs.
func claimLookupsSQL(skipLocked bool) string {
	skip := ""
	if skipLocked {
		skip = ` FOR UPDATE SKIP LOCKED`
	}
	return `WITH due AS MATERIALIZED (SELECT of_call FROM call_lookups WHERE due_us <> 0 AND due_us <= ?
			ORDER BY due_us, of_call LIMIT ?` + skip + `)
		UPDATE call_lookups SET due_us = CAST(? AS BIGINT) WHERE of_call IN (SELECT of_call FROM due)
		RETURNING of_call, number, state, attempts, error, anew`
}

// ClaimLookups claims lookups that are due, at most limit. A claim ends when its
// lookup is settled, or at until, when another worker may claim the lookup.
func (s *Store) ClaimLookups(ctx context.Context, now, until time.Time, limit int) (claimed []storage.Lookup, err error) {
	err = s.do("claim lookups", func(db *database) error {
		var some []int
		if err := db.readGorm.WithContext(ctx).Raw(`SELECT 1 FROM call_lookups WHERE due_us <> 0 AND due_us <= ? LIMIT 1`, micros(now)).
			Scan(&some).Error; err != nil || len(some) == 0 {
			return err
		}
		var rows []lookupRow
		if err := db.writeGorm.WithContext(ctx).Raw(claimLookupsSQL(db.dialect.shared), micros(now), limit, micros(until)).Scan(&rows).Error; err != nil {
			return err
		}
		for _, r := range rows {
			claimed = append(claimed, storage.Lookup{Call: r.OfCall, Number: r.Number, Enrichment: enrichmentOf(r), SkipCache: r.SkipCache != 0, Until: instant(micros(until))})
		}
		return nil
	})
	return claimed, err
}

// SettleLookups stores the results of claimed lookups in one transaction. It ignores
// results whose claim has ended or whose lookup was requested again in the meantime,
// and returns how many it ignored.
func (s *Store) SettleLookups(ctx context.Context, results []storage.LookupResult) (lost int, err error) {
	err = s.do("settle lookups", func(db *database) error {
		return db.writeGorm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			lost = 0
			for _, l := range results {
				claimed, err := settleLookup(tx, l)
				if err != nil {
					return err
				}
				if !claimed {
					lost++
				}
			}
			return nil
		})
	})
	return lost, err
}

// settleLookup stores one result. It reports whether the claim was still valid.
func settleLookup(tx *gorm.DB, l storage.LookupResult) (claimed bool, err error) {
	skipCache := 0
	if l.SkipCache && !l.RetryAt.IsZero() {
		skipCache = 1
	}
	done := tx.Exec(`UPDATE call_lookups SET state = ?, attempts = ?, error = ?, anew = ?, due_us = ?, changed_us = ? WHERE of_call = ? AND due_us = ?`,
		string(l.Enrichment.State), l.Enrichment.Attempts, cleanText(l.Enrichment.Error), skipCache, micros(l.RetryAt), micros(l.Now), l.Call, micros(l.Until))
	if done.Error != nil || done.RowsAffected == 0 {
		return false, done.Error
	}
	if err := tx.Exec(`DELETE FROM call_customers WHERE of_call = ?`, l.Call).Error; err != nil || len(l.Customers) == 0 {
		return true, err
	}
	rows := make([]customerRow, len(l.Customers))
	for i, c := range l.Customers {
		rows[i] = customerRow{
			OfCall: l.Call, Number: i + 1, Connection: cleanText(c.Connection), CustomerID: indexText(c.ID),
			Name: cleanText(c.Name), URL: cleanText(c.URL), MatchedBy: cleanText(c.MatchedBy),
		}
	}
	return true, tx.Create(&rows).Error
}

// RequestLookup makes the lookup of a call due now, even if the call was looked up
// before, and returns its state. The state is zero if the call has no customer's
// public number. RequestLookup returns storage.ErrNotFound if there is no such call.
func (s *Store) RequestLookup(ctx context.Context, id string, now time.Time) (e storage.Enrichment, err error) {
	err = s.do("request lookup of call "+id, func(db *database) error {
		var numbers []string
		if err := db.readGorm.WithContext(ctx).Raw(`SELECT `+customerNumber+` FROM calls c WHERE c.id = ?`, cleanText(id)).Scan(&numbers).Error; err != nil {
			return err
		}
		switch {
		case len(numbers) == 0:
			return storage.ErrNotFound
		case len(numbers[0]) == 0 || numbers[0][0] != '+':
			return nil
		}
		var rows []lookupRow
		if err := db.writeGorm.WithContext(ctx).Raw(`INSERT INTO call_lookups (of_call, number, at_us, state, attempts, error, anew, due_us, changed_us)
			SELECT c.id, `+customerNumber+`, c.at_us, 'pending', 0, '', 1, CAST(? AS BIGINT), CAST(? AS BIGINT) FROM calls c WHERE c.id = ?
			ON CONFLICT (of_call) DO UPDATE SET number = excluded.number, state = 'pending', error = '', anew = 1, due_us = excluded.due_us, changed_us = excluded.changed_us
			RETURNING of_call, number, state, attempts, error, anew`, micros(now), micros(now), cleanText(id)).Scan(&rows).Error; err != nil || len(rows) == 0 {
			return err
		}
		e = enrichmentOf(rows[0])
		return nil
	})
	return e, err
}

func enrichmentOf(r lookupRow) storage.Enrichment {
	return storage.Enrichment{State: storage.EnrichmentState(r.State), Attempts: r.Attempts, Error: r.Error}
}

// addCustomers sets the customers and the lookup state of calls.
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
	if err := db.readGorm.WithContext(ctx).Where("of_call IN ?", ids).Find(&lookups).Error; err != nil || len(lookups) == 0 {
		return err
	}
	for _, r := range lookups {
		byID[r.OfCall].Enrichment = enrichmentOf(r)
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
