package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"gorm.io/gorm"

	"calltracker/rules"
	"calltracker/storage"
)

// decisionChunk is the number of decisions in one INSERT. It is small because
// recording is background work: requests get the processor between statements.
const decisionChunk = 2

// decisionRow is a row of decisions.
type decisionRow struct {
	ID            string `gorm:"column:id;primaryKey"`
	Tracker       string `gorm:"column:tracker"`
	AtUS          int64  `gorm:"column:at_us"`
	DID           string `gorm:"column:did"`
	RawDID        string `gorm:"column:raw_did"`
	Caller        string `gorm:"column:caller"`
	RawCaller     string `gorm:"column:raw_caller"`
	CallID        string `gorm:"column:call_id"`
	Route         string `gorm:"column:route"`
	Voicemail     bool   `gorm:"column:voicemail"`
	Rules         string `gorm:"column:rules"`
	Flags         string `gorm:"column:flags"`
	Trace         string `gorm:"column:trace"`
	ConfigVersion int64  `gorm:"column:config_version"`
	LinkedCall    string `gorm:"column:linked_call"`
}

func (decisionRow) TableName() string { return "decisions" }

const decisionColumns = `id, tracker, at_us, did, raw_did, caller, raw_caller, call_id, route, voicemail, rules, flags,
	trace, config_version, linked_call`

// insertDecisionsSQL inserts n decisions. It ignores stored ones, so a batch can be
// recorded again if it is unknown whether it was committed.
func insertDecisionsSQL(n int) string {
	row := `(` + placeholders(strings.Count(decisionColumns, ",")+1) + `)`
	return `INSERT INTO decisions (` + decisionColumns + `) VALUES ` +
		strings.TrimSuffix(strings.Repeat(row+`, `, n), `, `) + ` ON CONFLICT (id) DO NOTHING`
}

// RecordDecisions stores decisions in one transaction, all or none, and links them to
// calls that were saved before them. It ignores decisions that are already stored. A
// power failure may lose the latest decisions unless a call was saved after them:
// decisions only explain calls, so nothing waits until they are on disk.
func (s *Store) RecordDecisions(ctx context.Context, decisions []storage.Decision) error {
	if len(decisions) == 0 {
		return nil
	}
	decisions = slices.Clone(decisions)
	for i := range decisions {
		decisions[i] = normalizeDecision(decisions[i])
	}
	return s.do("record decisions", func(db *database) (err error) {
		for range recordAttempts {
			err = db.transactionOn(ctx, db.relaxed, func(tx *sql.Tx) error { return db.recordAll(ctx, tx, decisions) })
			if !isRetryable(err) {
				return err
			}
		}
		return err
	})
}

// recordAttempts is how often RecordDecisions tries if it conflicts with other
// transactions.
const recordAttempts = 3

// recordAll records and links decisions within a transaction.
func (db *database) recordAll(ctx context.Context, tx *sql.Tx, decisions []storage.Decision) error {
	if db.dialect.shared { // in SQLite the relaxed pool has that effect
		if _, err := tx.ExecContext(ctx, `SET LOCAL synchronous_commit = off`); err != nil {
			return err
		}
	}
	for chunk := range slices.Chunk(decisions, decisionChunk) {
		if err := db.insertDecisions(ctx, tx, chunk); err != nil {
			return err
		}
		runtime.Gosched() // let requests run
	}
	for chunk := range slices.Chunk(decisions, maxLateLinks) {
		if err := db.linkLate(ctx, tx, chunk); err != nil {
			return err
		}
	}
	return nil
}

func (db *database) insertDecisions(ctx context.Context, tx *sql.Tx, decisions []storage.Decision) error {
	values := make([]any, 0, len(decisions)*(strings.Count(decisionColumns, ",")+1))
	for _, d := range decisions {
		ruleList, err := encodeList(d.Rules)
		if err != nil {
			return err
		}
		flags, err := encodeList(d.Flags)
		if err != nil {
			return err
		}
		trace, err := encodeList(d.Trace)
		if err != nil {
			return err
		}
		values = append(values, d.ID, d.Tracker, micros(d.At), d.DID, d.RawDID, d.Caller, d.RawCaller, d.CallID,
			d.Route, d.Voicemail, ruleList, flags, trace, d.ConfigVersion, d.Call)
	}
	var err error
	if len(decisions) == decisionChunk {
		_, err = db.statements.insertDecisions.exec(ctx, tx, values...)
	} else {
		_, err = tx.ExecContext(ctx, db.dialect.sql(insertDecisionsSQL(len(decisions))), values...)
	}
	if err != nil {
		return fmt.Errorf("insert decisions: %w", err)
	}
	return nil
}

func normalizeDecision(d storage.Decision) storage.Decision {
	for _, field := range []*string{&d.ID, &d.DID, &d.Caller, &d.CallID} {
		*field = indexText(*field)
	}
	for _, field := range []*string{&d.Tracker, &d.RawDID, &d.RawCaller, &d.Route, &d.Call} {
		*field = cleanText(*field)
	}
	d.At = instant(micros(d.At))
	return d
}

// Decisions returns a page of decisions, newest first, and the cursor of the next
// page, which is empty on the last page. It returns storage.ErrBadCursor for an
// invalid cursor.
func (s *Store) Decisions(ctx context.Context, f storage.DecisionFilter, p storage.Page) (decisions []storage.Decision, next string, err error) {
	err = s.do("list decisions", func(db *database) error {
		after, err := decodeCursor(decisionList, p.Cursor)
		if err != nil {
			return err
		}
		size := pageSize(p.Limit)
		var rows []decisionRow
		q := narrowDecisions(db.readGorm.WithContext(ctx), f)
		if err := newestFirst(q, after, size+1).Find(&rows).Error; err != nil {
			return err
		}
		rows, next = trimPage(decisionList, rows, size, func(r decisionRow) cursor { return cursor{at: r.AtUS, id: r.ID} })
		for _, row := range rows {
			d, err := row.decision()
			if err != nil {
				return err
			}
			decisions = append(decisions, d)
		}
		return nil
	})
	return decisions, next, err
}

// Decision returns one decision. It returns storage.ErrNotFound if the decision
// does not exist.
func (s *Store) Decision(ctx context.Context, id string) (d storage.Decision, err error) {
	err = s.do("load decision "+id, func(db *database) error {
		var row decisionRow
		if err := db.readGorm.WithContext(ctx).Where("id = ?", cleanText(id)).Take(&row).Error; err != nil {
			return err
		}
		d, err = row.decision()
		return err
	})
	return d, err
}

func narrowDecisions(q *gorm.DB, f storage.DecisionFilter) *gorm.DB {
	if !f.From.IsZero() {
		q = q.Where("at_us >= ?", micros(f.From))
	}
	if !f.To.IsZero() {
		q = q.Where("at_us < ?", micros(f.To))
	}
	if f.Tracker != "" {
		q = q.Where("tracker = ?", cleanText(f.Tracker))
	}
	if len(f.DIDs) > 0 {
		q = q.Where("did IN ?", distinct(f.DIDs))
	}
	if len(f.Callers) > 0 {
		q = q.Where("caller IN ?", distinct(f.Callers))
	}
	if f.Route != "" {
		q = q.Where("route = ?", cleanText(f.Route))
	}
	if f.Open {
		q = q.Where("linked_call = ''")
	}
	return q
}

// CallsOfDecisions maps decision IDs to the IDs of their calls. The call ID is empty
// if no call is known. Unknown decisions are not in the map.
func (s *Store) CallsOfDecisions(ctx context.Context, ids []string) (map[string]string, error) {
	calls := make(map[string]string, len(ids))
	err := s.do("load calls of decisions", func(db *database) error {
		for chunk := range slices.Chunk(distinct(ids), maxKeys) {
			var rows []decisionRow
			if err := db.readGorm.WithContext(ctx).Select("id", "linked_call").Where("id IN ?", chunk).Find(&rows).Error; err != nil {
				return err
			}
			for _, row := range rows {
				calls[row.ID] = row.LinkedCall
			}
		}
		return nil
	})
	return calls, err
}

func (r decisionRow) decision() (storage.Decision, error) {
	ruleList, err := decodeList[rules.Rule](r.Rules)
	if err != nil {
		return storage.Decision{}, err
	}
	flags, err := decodeList[string](r.Flags)
	if err != nil {
		return storage.Decision{}, err
	}
	trace, err := decodeList[rules.Step](r.Trace)
	if err != nil {
		return storage.Decision{}, err
	}
	return storage.Decision{
		ID: r.ID, Tracker: r.Tracker, At: instant(r.AtUS), DID: r.DID, RawDID: r.RawDID, Caller: r.Caller,
		RawCaller: r.RawCaller, CallID: r.CallID, Route: r.Route, Voicemail: r.Voicemail, Rules: ruleList, Flags: flags,
		Trace: trace, ConfigVersion: r.ConfigVersion, Call: r.LinkedCall,
	}, nil
}
